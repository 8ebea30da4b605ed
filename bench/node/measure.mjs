// measure.mjs — one sample of one pool: node measure.mjs POOL CASE SCALE; prints figures as JSON.
//
// Each case is that of bench/cases by the same name, whose head says what is measured.
//
// SPDX-License-Identifier: BSD-3-Clause
import { load, version } from "./pools.mjs";
import { functions } from "./tasks.mjs";

const now = () => performance.now(); // milliseconds
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function quantile(values, share) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}
const median = (values) => quantile(values, 0.5);

async function burst(pool, name, values) {
  return Promise.all(values.map((value) => pool.run(name, value)));
}

// All workers are there and have nothing to do.
async function settled(open, workers) {
  const pool = await open(workers);
  await burst(pool, "nap", Array(workers).fill(20));
  await sleep(100);
  return pool;
}

// Milliseconds of each trip: at least 5, until `count` or the time is reached.
async function trips(trip, count, ms, gap = 0) {
  const taken = [];
  for (const end = now() + ms; taken.length < count && (taken.length < 5 || now() < end); ) {
    if (gap) await sleep(gap);
    const start = now();
    await trip();
    taken.push(now() - start);
  }
  return taken;
}

async function roundTrip(open, scale) {
  const pool = await settled(open, 1);
  const trip = () => pool.run("identity", 1);
  await trips(trip, 100000, 200);
  const hot = await trips(trip, 20000, 1000 * scale);
  const gap = await trips(trip, 300 * scale + 20, 2000 * scale, 2);
  await pool.close();
  const us = (values, share) => 1000 * quantile(values, share);
  return {
    hot: us(hot, 0.5),
    "hot, p99": us(hot, 0.99),
    "after 2 ms": us(gap, 0.5),
    "after 2 ms, p99": us(gap, 0.99),
  };
}

async function bursts(open, scale) {
  const pool = await settled(open, 2);
  const values = [...Array(Math.max(1000, Math.floor(20000 * scale))).keys()];
  await burst(pool, "identity", values.slice(0, 1000));
  const taken = await trips(() => burst(pool, "identity", values), 5, 1000);
  await pool.close();
  return { tasks: (1000 * values.length) / median(taken) };
}

async function grain(open, scale) {
  const pool = await settled(open, 2);
  await burst(pool, "count", Array(1000).fill(1000));
  const figures = {};
  const timed = (steps) => {
    const start = now();
    functions.count(steps);
    return now() - start;
  };
  for (const [figure, ms, tasks] of [["20 us", 0.02, 10000], ["100 us", 0.1, 10000], ["1 ms", 1, 2000]]) {
    const best = Math.min(...Array.from({ length: 20 }, () => timed(1000000)));
    const steps = Math.max(1, Math.round((1000000 * ms) / best));
    const values = Array(Math.max(1, Math.floor(tasks * scale))).fill(steps);
    const ratios = [];
    for (const end = now() + 8000 * scale; ratios.length < 5 && (ratios.length < 1 || now() < end); ) {
      let start = now();
      for (const value of values) functions.count(value);
      const serial = now() - start;
      start = now();
      await burst(pool, "count", values);
      ratios.push(serial / (2 * (now() - start)));
    }
    figures[figure] = median(ratios);
  }
  await pool.close();
  return figures;
}

async function arrays(open, scale) {
  const pool = await settled(open, 1);
  const few = Math.max(5, Math.floor(20 * scale));
  const figures = {};
  for (const [size, items, times, count] of [
    ["8 KB", 1 << 10, 1000, 5000 * scale],
    ["1 MB", 1 << 17, 1000, 20 * few],
    ["64 MB", 1 << 23, 1, few],
  ]) {
    const array = new Float64Array(items).fill(1);
    for (const [name, figure] of [["seen", `${size} in`], ["added", `${size} in and out`]]) {
      await trips(() => pool.run(name, array), size === "8 KB" ? 200 : 1, 1000);
      figures[figure] = times * median(await trips(() => pool.run(name, array), count, 4000 * scale));
    }
  }
  await pool.close();
  return figures;
}

async function startUp(open) {
  const start = now();
  const pool = await open(1);
  await pool.run("identity", 1);
  const taken = now() - start;
  await pool.close();
  return { "first result": taken };
}

async function idleCpu(open) {
  const pool = await settled(open, 2);
  await burst(pool, "identity", [...Array(200).keys()]);
  const before = process.cpuUsage();
  await sleep(5000);
  const used = process.cpuUsage(before);
  await pool.close();
  return { "CPU in 5 s": (used.user + used.system) / 1000 };
}

// A thread has no memory of its own in the kernel's books: what the process grew by.
async function memory(open) {
  const before = process.memoryUsage().rss;
  const pool = await settled(open, 2);
  const grown = process.memoryUsage().rss - before;
  await pool.close();
  return { private: grown / 2 / 1e6 };
}

const CASES = {
  round_trip: roundTrip,
  burst: bursts,
  grain,
  arrays,
  start_up: startUp,
  idle_cpu: idleCpu,
  memory,
};

const [pool, name, scale] = process.argv.slice(2);
const answer =
  name === "version" ? `${version(pool)}, Node ${process.versions.node}` : await CASES[name](await load(pool), Number(scale));
console.log(JSON.stringify(answer));
process.exit(0);
