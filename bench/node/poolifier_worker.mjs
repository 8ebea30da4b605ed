// poolifier_worker.mjs — the same for poolifier, whose workers are objects.
//
// SPDX-License-Identifier: BSD-3-Clause
import { ThreadWorker } from "poolifier";

import run from "./tasks.mjs";

export default new ThreadWorker(run);
