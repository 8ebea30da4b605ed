// tasks.mjs — what the workers of piscina and tinypool run; bench/tasks.py has the same in Python.
//
// SPDX-License-Identifier: BSD-3-Clause
export const functions = {
  identity: (value) => value,
  // Plain script for a time in proportion to the steps; small integers all the way, so that what the
  // compiler learned from many steps holds for few.
  count: (steps) => {
    let total = 0;
    for (let step = 0; step < steps; step++) total = (total + step) % 1000003;
    return total;
  },
  // The whole thread sleeps: none of the pools hands it another task meanwhile.
  nap: (ms) => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms),
  seen: (array) => array.length,
  added: (array) => array.map((value) => value + 1),
};

export default ([name, value]) => functions[name](value);
