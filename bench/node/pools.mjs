// pools.mjs — the three pools behind the same two functions: run(name, value) and close().
//
// SPDX-License-Identifier: BSD-3-Clause
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const at = (file) => new URL(file, import.meta.url);

async function threads(Pool, workers) {
  const pool = new Pool({ filename: at("tasks.mjs").href, minThreads: workers, maxThreads: workers });
  return { run: (name, value) => pool.run([name, value]), close: () => pool.destroy() };
}

// Imported before the clock starts: what is measured is the pool.
export async function load(pool) {
  const module = await import(pool);
  if (pool === "piscina") return (workers) => threads(module.Piscina, workers);
  if (pool === "tinypool") return (workers) => threads(module.Tinypool ?? module.default, workers);
  return async (workers) => {
    const made = new module.FixedThreadPool(workers, fileURLToPath(at("poolifier_worker.mjs")), { enableEvents: false });
    // Now and then its destroy() never settles, with nothing left to wait for; the process ends anyway.
    const close = () => Promise.race([made.destroy(), new Promise((resolve) => setTimeout(resolve, 1000))]);
    return { run: (name, value) => made.execute([name, value]), close };
  };
}

export function version(pool) {
  return JSON.parse(readFileSync(at(`node_modules/${pool}/package.json`))).version;
}
