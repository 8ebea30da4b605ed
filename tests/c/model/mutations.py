#!/usr/bin/env python3
"""Would the proofs notice? Break csrc in one place at a time and see what catches it.

Each mutant drops or weakens one order, fence, re-check, wake-up, CAS or recovery step in a
temporary copy of the headers. It is *killed* when an explorer program, or a C test with
threads, fails with it. The run fails when a mutant survives that is not named equivalent,
when one that is named equivalent is killed, or when the text it replaces is not there any more.

    tests/c/model/mutations.py                 all that must be killed
    tests/c/model/mutations.py --all           those named equivalent too: they take longest
    tests/c/model/mutations.py deque fence     those whose names contain one of the words

SPDX-License-Identifier: BSD-3-Clause
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from run import CSRC, HERE, build_engine, build_program, compiler

# What looks at a header, most likely killer first.
MEANS = {
    "wp_deque.h": ["model_deque", "model_recover", "model_wake"],
    "wp_slot.h": ["model_slot", "model_taskset", "model_completion", "model_recover"],
    "wp_taskset.h": ["model_taskset", "model_completion", "model_wake", "model_recover"],
    "wp_idle.h": ["model_wake", "model_recover"],
    "wp_wake.h": ["model_wake", "model_completion", "model_recover"],
    "wp_search.h": ["model_completion", "model_taskset", "model_wake", "model_recover"],
    "wp_home.h": ["model_completion", "model_wake", "model_recover"],
    "wp_pool.h": ["model_wake"],
    "wp_lane.h": ["model_lane"],
    "wp_lease.h": ["model_arena"],
    "wp_span.h": ["model_arena", "model_borrow"],
    "wp_borrow.h": ["model_borrow"],
    "wp_arena.h": ["model_arena"],
    "wp_reclaim.h": ["model_arena"],
    "wp_recover.h": ["model_recover", "model_slot", "model_taskset", "model_wake", "model_completion"],
}


@dataclasses.dataclass(frozen=True)
class Mutant:
    name: str
    header: str
    old: str
    new: str
    equivalent: str = ""  # why no test can kill it
    tests: tuple[str, ...] = ()  # C tests of tests/c that are run too, after the explorer
    means: tuple[str, ...] = ()  # programs, if others than those of MEANS


def relaxed(name: str, header: str, text: str, equivalent: str = "") -> Mutant:
    """The one order in ``text`` becomes relaxed."""
    new = text
    for strong, weak in (
        ("wp_store_release(", "wp_store_relaxed("),
        ("wp_load_acquire(", "wp_load_relaxed("),
    ):
        new = new.replace(strong, weak)
    for width in ("seq_cst", "acq_rel"):
        new = new.replace(f"wp_cas_{width}(", "wp_cas_relaxed(")
    if new == text:
        raise ValueError(f"{name}: no order to relax")
    return Mutant(name, header, text, new, equivalent)


DEQUE = [
    relaxed(
        "deque push publishes bottom relaxed",
        "wp_deque.h",
        "wp_store_release(&d->ends->bottom, (uint64_t)bottom + 1);\n    return true;",
    ),
    relaxed(
        "deque push reads top relaxed",
        "wp_deque.h",
        "int64_t top = (int64_t)wp_load_acquire(&d->ends->top);\n    // Unsigned",
    ),
    Mutant(
        "deque push overfills by one",
        "wp_deque.h",
        "- (uint64_t)top >= (uint64_t)d->capacity)",
        "- (uint64_t)top > (uint64_t)d->capacity)",
    ),
    Mutant(
        "deque push publishes before it writes",
        "wp_deque.h",
        "    wp_store_relaxed(wp_deque_entry(d, bottom), handle);\n",
        "    wp_store_release(&d->ends->bottom, (uint64_t)(bottom + 1));\n    wp_store_relaxed(wp_deque_entry(d, bottom), handle);\n",
    ),
    relaxed(
        "deque pop lowers bottom relaxed",
        "wp_deque.h",
        "wp_store_release(&d->ends->bottom, (uint64_t)bottom);",
    ),
    Mutant(
        "deque pop has no fence",
        "wp_deque.h",
        "    wp_fence_seq_cst();\n    // relaxed: ordered by the fence; the CAS",
        "    // relaxed: ordered by the fence; the CAS",
    ),
    Mutant(
        "deque pop takes the last without a CAS",
        "wp_deque.h",
        "mine = wp_cas_seq_cst(&d->ends->top, &expected, (uint64_t)(top + 1));",
        "(void)expected, wp_store_release(&d->ends->top, (uint64_t)(top + 1)), mine = true;",
    ),
    relaxed(
        "deque pop takes the last with a relaxed CAS",
        "wp_deque.h",
        "mine = wp_cas_seq_cst(&d->ends->top",
        "the owner hands over nothing by it: entries go by bottom, and a thief's release is passed on by any RMW",
    ),
    Mutant(
        "deque pop does not raise bottom again",
        "wp_deque.h",
        "    wp_store_release(&d->ends->bottom, (uint64_t)(bottom + 1));\n    return mine;",
        "    return mine;",
    ),
    relaxed(
        "deque pop raises bottom again relaxed",
        "wp_deque.h",
        "wp_store_release(&d->ends->bottom, (uint64_t)(bottom + 1));\n    return mine;",
        "top has passed that entry before: whoever reads this bottom with an older top fails its CAS",
    ),
    Mutant(
        "deque steal has no fence",
        "wp_deque.h",
        "    wp_fence_seq_cst();\n    // sync deque.bottom (observe): the entry",
        "    // sync deque.bottom (observe): the entry",
    ),
    relaxed(
        "deque steal reads top relaxed",
        "wp_deque.h",
        "int64_t top = (int64_t)wp_load_acquire(&d->ends->top);\n    // sync deque.last",
        "the fence that follows is an acquire fence for this load",
    ),
    relaxed(
        "deque steal reads bottom relaxed",
        "wp_deque.h",
        "int64_t bottom = (int64_t)wp_load_acquire(&d->ends->bottom);",
    ),
    Mutant(
        "deque steal takes without a CAS",
        "wp_deque.h",
        "if (!wp_cas_seq_cst(&d->ends->top, &expected, (uint64_t)(top + 1))) return WP_STEAL_LOST;",
        "wp_store_release(&d->ends->top, expected + 1);",
    ),
    relaxed(
        "deque steal takes with a relaxed CAS", "wp_deque.h", "if (!wp_cas_seq_cst(&d->ends->top, &expected"
    ),
    Mutant(
        "deque steal takes with an acquire-release CAS",
        "wp_deque.h",
        "if (!wp_cas_seq_cst(&d->ends->top, &expected",
        "if (!wp_cas_acq_rel(&d->ends->top, &expected",
        "top is changed by RMWs alone, so their order is that of happens-before; fences do the rest (model.h)",
    ),
    Mutant(
        "deque discard keeps the indices",
        "wp_deque.h",
        "        next = (int64_t)((uint64_t)next + (uint64_t)d->capacity);\n",
        "",
    ),
    Mutant(
        "deque discard leaves bottom",
        "wp_deque.h",
        "    wp_store_release(&d->ends->bottom, (uint64_t)next);\n}",
        "}",
    ),
    Mutant(
        "deque discard takes top without a CAS",
        "wp_deque.h",
        "} while (!wp_cas_seq_cst(&d->ends->top, &top, (uint64_t)next));",
        "} while (wp_store_release(&d->ends->top, (uint64_t)next), false);",
    ),
    relaxed(
        "deque discard stores bottom relaxed",
        "wp_deque.h",
        "    wp_store_release(&d->ends->bottom, (uint64_t)next);\n}",
        "the next incarnation is started afterwards, and a thief finds top there already: empty",
    ),
]

SLOT = [
    relaxed(
        "slot publish relaxed",
        "wp_slot.h",
        "wp_store_release(&slot->state, wp_state(WP_PHASE_READY, WP_OUTCOME_NONE, WP_NO_SEAT, 0, wp_handle_generation(handle)));",
    ),
    relaxed(
        "slot claim looks relaxed",
        "wp_slot.h",
        "uint64_t state = wp_load_acquire(&slot->state);\n    if (wp_state_phase(state) != WP_PHASE_READY) return WP_CLAIM_STALE;",
    ),
    relaxed(
        "slot claim takes with a relaxed CAS",
        "wp_slot.h",
        "return wp_cas_acq_rel(&slot->state, &state, claimed)",
        "the load before it has acquired the very store it replaces: a state names one use and attempt",
    ),
    Mutant(
        "slot claim takes without a CAS",
        "wp_slot.h",
        "return wp_cas_acq_rel(&slot->state, &state, claimed) ? WP_CLAIM_OK : WP_CLAIM_LOST;",
        "wp_store_release(&slot->state, claimed);\n    return WP_CLAIM_OK;",
    ),
    Mutant(
        "slot claim takes any phase",
        "wp_slot.h",
        "    if (wp_state_phase(state) != WP_PHASE_READY) return WP_CLAIM_STALE;\n",
        "",
    ),
    Mutant(
        "slot claim takes any generation",
        "wp_slot.h",
        "    if (handle != WP_NO_HANDLE && wp_state_generation(state) != wp_handle_generation(handle)) return WP_CLAIM_STALE;\n",
        "",
    ),
    Mutant(
        "slot claim ignores the target",
        "wp_slot.h",
        "    if (!wp_slot_may_claim(wp_load_relaxed(&slot->target), seat)) return WP_CLAIM_REFUSED;\n",
        "",
    ),
    Mutant("slot claim counts no attempt", "wp_slot.h", "    if (attempt < WP_ATTEMPT_MAX) attempt++;\n", ""),
    Mutant(
        "slot reserve keeps the generation",
        "wp_slot.h",
        "wp_state_generation(wp_load_relaxed(&slot->state)) + 1;",
        "wp_state_generation(wp_load_relaxed(&slot->state));",
    ),
    relaxed(
        "slot finish relaxed", "wp_slot.h", "wp_store_release(&slot->state, wp_state(WP_PHASE_DONE, outcome"
    ),
    relaxed("slot is_done relaxed", "wp_slot.h", "*state = wp_load_acquire(&slot->state);"),
    relaxed(
        "slot enter relaxed",
        "wp_slot.h",
        "wp_store_release(&slot->state, (state & ~WP_STATE_PHASE_MASK) | WP_PHASE_RUNNING);",
        "only the recoverer acts on RUNNING, and the kernel's word of the death comes before",
    ),
    Mutant(
        "slot cancel without a CAS",
        "wp_slot.h",
        "return wp_cas_acq_rel(&slot->state, &ready, done);",
        "wp_store_release(&slot->state, done);\n    return true;",
    ),
]

TASKSET = [
    Mutant(
        "taskset add relaxed",
        "wp_taskset.h",
        "wp_or_acq_rel(&s->leaves[index / 64], UINT64_C(1) << index % 64);",
        "wp_or64(&s->leaves[index / 64], UINT64_C(1) << index % 64, memory_order_relaxed);",
    ),
    Mutant(
        "taskset add does not raise",
        "wp_taskset.h",
        "    wp_or_acq_rel(&s->leaves[index / 64], UINT64_C(1) << index % 64);\n    wp_taskset_raise(s, index / 64);\n",
        "    wp_or_acq_rel(&s->leaves[index / 64], UINT64_C(1) << index % 64);\n",
    ),
    Mutant(
        "taskset add raises first",
        "wp_taskset.h",
        "    wp_or_acq_rel(&s->leaves[index / 64], UINT64_C(1) << index % 64);\n    wp_taskset_raise(s, index / 64);\n",
        "    wp_taskset_raise(s, index / 64);\n    wp_or_acq_rel(&s->leaves[index / 64], UINT64_C(1) << index % 64);\n",
    ),
    Mutant(
        "taskset lower does not look again",
        "wp_taskset.h",
        "    if (wp_or_acq_rel(&s->leaves[leaf], 0) != 0) wp_taskset_raise(s, leaf);\n",
        "",
    ),
    Mutant(
        "taskset lower looks again by a load",
        "wp_taskset.h",
        "if (wp_or_acq_rel(&s->leaves[leaf], 0) != 0)",
        "if (wp_load_acquire(&s->leaves[leaf]) != 0)",
    ),
    Mutant(
        "taskset lower looks again relaxed",
        "wp_taskset.h",
        "if (wp_or_acq_rel(&s->leaves[leaf], 0) != 0)",
        "if (wp_or64(&s->leaves[leaf], 0, memory_order_relaxed) != 0)",
    ),
    Mutant(
        "taskset lower looks first",
        "wp_taskset.h",
        "static inline void wp_taskset_lower(const struct wp_taskset *s, uint32_t leaf) {\n",
        "static inline void wp_taskset_lower(const struct wp_taskset *s, uint32_t leaf) {\n"
        "    if (wp_or_acq_rel(&s->leaves[leaf], 0) == 0) wp_and_acq_rel(&s->summary[leaf / 64], ~(UINT64_C(1) << leaf % 64));\n    return;\n",
    ),
    Mutant(
        "taskset lower clears relaxed",
        "wp_taskset.h",
        "    wp_and_acq_rel(&s->summary[leaf / 64], ~(UINT64_C(1) << leaf % 64));\n    // sync taskset.leaf (observe): F2; a read",
        "    wp_and64(&s->summary[leaf / 64], ~(UINT64_C(1) << leaf % 64), memory_order_relaxed);\n    // sync taskset.leaf (observe): F2; a read",
        "F2, which follows, releases: whoever reads from F2 sees the cleared summary",
    ),
    Mutant(
        "taskset find does not lower",
        "wp_taskset.h",
        "        if (bits == 0) wp_taskset_lower(s, leaf);\n",
        "",
    ),
    Mutant(
        "taskset remove relaxed",
        "wp_taskset.h",
        "if ((wp_and_acq_rel(&s->leaves[index / 64], ~bit) & ~bit) == 0)",
        "if ((wp_and64(&s->leaves[index / 64], ~bit, memory_order_relaxed) & ~bit) == 0)",
    ),
    Mutant(
        "taskset remove does not lower",
        "wp_taskset.h",
        "    if ((wp_and_acq_rel(&s->leaves[index / 64], ~bit) & ~bit) == 0) wp_taskset_lower(s, index / 64);\n",
        "    wp_and_acq_rel(&s->leaves[index / 64], ~bit);\n",
        "the next find lowers it: a look more, nothing lost",
    ),
    Mutant(
        "taskset take empties first",
        "wp_taskset.h",
        "        wp_and_acq_rel(&s->summary[leaf / 64], ~(UINT64_C(1) << leaf % 64));\n        // sync taskset.leaf (observe): F2, and it takes everything.\n        uint64_t bits = wp_swap_acq_rel(&s->leaves[leaf], 0);\n",
        "        uint64_t bits = wp_swap_acq_rel(&s->leaves[leaf], 0);\n        wp_and_acq_rel(&s->summary[leaf / 64], ~(UINT64_C(1) << leaf % 64));\n",
    ),
    Mutant(
        "taskset take relaxed",
        "wp_taskset.h",
        "uint64_t bits = wp_swap_acq_rel(&s->leaves[leaf], 0);",
        "uint64_t bits = wp_swap64(&s->leaves[leaf], 0, memory_order_relaxed);",
    ),
    relaxed(
        "taskset next_leaf relaxed",
        "wp_taskset.h",
        "uint64_t bits = wp_load_acquire(&s->summary[w]);",
        "a leaf that is read too old is looked at again by a read-modify-write (take, lower) before anything is concluded",
    ),
]
WAKE = [
    Mutant(
        "wake_one has no fence",
        "wp_wake.h",
        "    wp_fence_seq_cst(); // sync wake.work (publish): F1\n    if (wp_idle_any(view->idle->searching)) return;",
        "    if (wp_idle_any(view->idle->searching)) return;",
    ),
    Mutant(
        "wake_one stops at the first idle seat",
        "wp_wake.h",
        "        if (wp_unpark(view, seat)) return;\n",
        "    {\n        wp_unpark(view, seat);\n        return;\n    }\n",
        "a seat with a token searches, and wakes the next when it finds something: later, but nothing is lost",
    ),
    Mutant(
        "unpark makes no system call",
        "wp_wake.h",
        "    if (old & WP_PARKER_FUTEX && !view->polls) wp_os_wake(&place->seat->parker);\n",
        "",
    ),
    Mutant(
        "unpark signals no eventfd",
        "wp_wake.h",
        "    if (old & WP_PARKER_EVENTFD) wp_os_eventfd_signal(place->eventfd);\n",
        "",
    ),
    Mutant(
        "unpark leaves no token",
        "wp_wake.h",
        "uint32_t old = wp_swap_acq_rel(&place->seat->parker, WP_PARKER_TOKEN);",
        "uint32_t old = wp_load_acquire(&place->seat->parker);",
    ),
    Mutant(
        "unpark swaps relaxed",
        "wp_wake.h",
        "uint32_t old = wp_swap_acq_rel(&place->seat->parker, WP_PARKER_TOKEN);",
        "uint32_t old = wp_swap32(&place->seat->parker, WP_PARKER_TOKEN, memory_order_relaxed);",
    ),
    Mutant(
        "notify has no fence",
        "wp_wake.h",
        "        wp_fence_seq_cst(); // sync wake.work (publish): F1\n        // Armed but",
        "        // Armed but",
    ),
    Mutant(
        "notify does not wake the target",
        "wp_wake.h",
        "        if (wp_load_acquire(&view->places[target].seat->parker) & WP_PARKER_ARMED) wp_unpark(view, target);\n",
        "",
    ),
    Mutant(
        "notify_home has no fence",
        "wp_wake.h",
        "    wp_fence_seq_cst(); // sync wake.completion (publish): F1, with SetArmed for SetIdle\n",
        "",
    ),
    relaxed(
        "notify_home reads the parker relaxed",
        "wp_wake.h",
        "uint32_t parker = wp_load_acquire(&seat->parker);",
        "the fences order it: with F2 first, parker and awaited are both seen as they were armed",
    ),
    Mutant(
        "notify_home asks for another handle",
        "wp_wake.h",
        "if (awaited != WP_NO_HANDLE && awaited != handle) return;",
        "if (awaited != WP_NO_HANDLE) return;",
    ),
    Mutant(
        "search_end wakes nobody",
        "wp_wake.h",
        "        wp_wake_one(view); // if it finds nothing, it watches\n",
        "        (void)0;\n",
    ),
    Mutant(
        "search_end has no fence",
        "wp_wake.h",
        "    wp_fence_seq_cst(); // sync wake.work (observe): F2; who relied on this searcher is seen now\n",
        "",
    ),
    Mutant(
        "a target that begins a task sees to no watcher",
        "wp_wake.h",
        "        for (uint32_t seat = 1; seat < view->seats; seat++) wp_watch_ensure(view, seat);",
        "        (void)must_watch;",
    ),
    Mutant(
        "a strong task's submitter sees to no watcher",
        "wp_wake.h",
        "        if (strength == WP_STRENGTH_STRONG) wp_watch_ensure(view, target);\n",
        "",
    ),
    Mutant(
        "the watcher sleeps without a deadline",
        "wp_wake.h",
        "    if (view->watch_ns == WP_NEVER) return timeout_ns;",
        "    return timeout_ns;",
    ),
    Mutant(
        "search_end stays in the set",
        "wp_wake.h",
        "static inline void wp_search_end(struct wp_view *view) {\n    wp_idle_clear(view->idle->searching, view->self);\n",
        "static inline void wp_search_end(struct wp_view *view) {\n",
    ),
    Mutant(
        "park_arm has no fence",
        "wp_wake.h",
        "    wp_fence_seq_cst(); // sync wake.work (observe): F2. sync wake.completion (observe)\n",
        "",
    ),
    Mutant(
        "park_arm does not look again", "wp_wake.h", "    if (!wp_seat_has_work(view)) {", "    if (true) {"
    ),
    Mutant(
        "park_arm looks before it leaves the searchers",
        "wp_wake.h",
        "    wp_idle_clear(view->idle->searching, view->self);\n    wp_fence_seq_cst(); // sync wake.work (observe): F2. sync wake.completion (observe)\n    if (!wp_seat_has_work(view)) {",
        "    wp_fence_seq_cst(); // sync wake.work (observe): F2. sync wake.completion (observe)\n    bool has_work = wp_seat_has_work(view);\n    wp_idle_clear(view->idle->searching, view->self);\n    if (!has_work) {",
    ),
    Mutant(
        "park_arm sets no idle bit",
        "wp_wake.h",
        "    wp_idle_set(view->idle->idle, view->self);\n    wp_idle_clear(view->idle->searching, view->self);\n    wp_fence",
        "    wp_idle_clear(view->idle->searching, view->self);\n    wp_fence",
    ),
    Mutant(
        "park_arm stays among the searchers",
        "wp_wake.h",
        "    wp_idle_set(view->idle->idle, view->self);\n    wp_idle_clear(view->idle->searching, view->self);\n    wp_fence",
        "    wp_idle_set(view->idle->idle, view->self);\n    wp_fence",
    ),
    Mutant(
        "park_arm arms after its look",
        "wp_wake.h",
        "    wp_or_acq_rel(&seat->parker, how);               // sync parker.armed (publish)\n    wp_idle_set(view->idle->idle, view->self);\n    wp_idle_clear(view->idle->searching, view->self);\n    wp_fence_seq_cst(); // sync wake.work (observe): F2. sync wake.completion (observe)\n    if (!wp_seat_has_work(view)) {",
        "    wp_idle_set(view->idle->idle, view->self);\n    wp_idle_clear(view->idle->searching, view->self);\n    wp_fence_seq_cst();\n    bool has_work = wp_seat_has_work(view);\n    wp_or_acq_rel(&seat->parker, how);\n    if (!has_work) {",
    ),
    Mutant(
        "has_work forgets stop",
        "wp_wake.h",
        "    if (wp_load_relaxed(&self->seat->stop) != WP_STOP_NO) return true;\n",
        "",
    ),
    Mutant(
        "has_work forgets the mailboxes",
        "wp_wake.h",
        "        if (!wp_taskset_is_empty(&self->mailbox[m])) return true;\n",
        "        (void)self;\n",
    ),
    Mutant(
        "has_work forgets completions",
        "wp_wake.h",
        "return !wp_taskset_is_empty(&self->completions) || wp_work_is_visible(view);",
        "return wp_work_is_visible(view);",
    ),
    Mutant(
        "has_work forgets the orphans",
        "wp_wake.h",
        "> 0 || !wp_taskset_is_empty(&view->orphans)) return true;",
        "> 0) return true;",
    ),
    Mutant(
        "has_work forgets the parent's deque",
        "wp_wake.h",
        "if (wp_deque_size(&view->places[WP_PARENT_SEAT].deque) > 0 || ",
        "if (",
    ),
    Mutant(
        "has_work forgets the workers' deques",
        "wp_wake.h",
        "if (wp_deque_size(&place->deque) > 0 || ",
        "if (",
    ),
    Mutant(
        "has_work forgets the light sets of others",
        "wp_wake.h",
        "if (wp_deque_size(&place->deque) > 0 || !wp_taskset_is_empty(&place->mailbox[wp_mailbox_of(WP_STRENGTH_LIGHT)]))",
        "if (wp_deque_size(&place->deque) > 0)",
    ),
    Mutant(
        "park_sleep does not look for the token",
        "wp_wake.h",
        "        if (word & WP_PARKER_TOKEN || !(word & WP_PARKER_FUTEX)) {",
        "        if (!(word & WP_PARKER_FUTEX)) {",
    ),
    Mutant(
        "going idle tells an armed parent alone",
        "wp_wake.h",
        "if (wp_load_relaxed(&view->idle->watched)) wp_unpark(view, WP_PARENT_SEAT);",
        "if (wp_load_relaxed(&view->idle->watched)) wp_notify_home(view, WP_PARENT_SEAT, WP_NO_HANDLE);",
    ),
    Mutant(
        "a ready seat tells an armed parent alone",
        "wp_pool.h",
        "    wp_unpark(view, WP_PARENT_SEAT); //",
        "    wp_notify_home(view, WP_PARENT_SEAT, WP_NO_HANDLE); //",
    ),
    Mutant(
        "stop is told without a token",
        "wp_pool.h",
        "    wp_fence_seq_cst();                                    // sync wake.work (publish): F1\n    wp_unpark(view, seat);\n",
        "    wp_fence_seq_cst();\n",
    ),
    Mutant(
        "idle bits are set relaxed",
        "wp_idle.h",
        "    wp_or_acq_rel(&bits[seat / 64], UINT64_C(1) << seat % 64); // sync idle.bits (publish)\n",
        "    wp_or64(&bits[seat / 64], UINT64_C(1) << seat % 64, memory_order_relaxed);\n",
        "what the bits order is ordered by the fences beside them; a wake-up by the parker's own RMWs",
    ),
]

HOME = [
    Mutant(
        "finish sets no completion bit",
        "wp_search.h",
        "    wp_taskset_add(&place->completions, index - place->first_slot);\n    if (home",
        "    if (home",
    ),
    Mutant(
        "finish sets the completion bit first",
        "wp_search.h",
        "    wp_slot_finish(slot, outcome);\n    wp_taskset_add(&place->completions, index - place->first_slot);\n",
        "    wp_taskset_add(&place->completions, index - place->first_slot);\n    wp_slot_finish(slot, outcome);\n",
    ),
    Mutant(
        "finish tells nobody",
        "wp_search.h",
        "    if (home != view->self) wp_notify_home(view, home, handle);\n",
        "    (void)handle, (void)home;\n",
    ),
    Mutant(
        "search_set does not look again",
        "wp_search.h",
        "            wp_taskset_add(set, i);\n",
        "            (void)0;\n",
    ),
    relaxed(
        "search_set looks again relaxed",
        "wp_search.h",
        "uint64_t state = wp_load_acquire(&slot->state);\n        // relaxed: ordered by the state; a task",
        "the removal has acquired what the adder of the bit knew; a use that is newer yet has an adder of its own",
    ),
    Mutant(
        "home_wait has no fence",
        "wp_home.h",
        "    wp_fence_seq_cst();                            // sync wake.completion (observe): F2\n    enum wp_wait end",
        "    enum wp_wait end",
    ),
    Mutant(
        "home_wait does not look again",
        "wp_home.h",
        "enum wp_wait end = wp_home_is_served_now(view, awaited) ? WP_WAIT_WOKEN : wp_park_sleep(view, timeout_ns);",
        "enum wp_wait end = wp_park_sleep(view, timeout_ns);",
    ),
    Mutant(
        "home_wait does not arm",
        "wp_home.h",
        "    wp_or_acq_rel(&seat->parker, WP_PARKER_FUTEX); // sync parker.armed (publish)\n    wp_fence_seq_cst();                            // sync wake.completion (observe): F2\n    enum wp_wait end",
        "    wp_fence_seq_cst();\n    enum wp_wait end",
    ),
    Mutant(
        "home_wait drops a token",
        "wp_home.h",
        "    wp_or_acq_rel(&seat->parker, WP_PARKER_FUTEX); // sync parker.armed (publish)\n    wp_fence_seq_cst();                            // sync wake.completion (observe): F2\n    enum wp_wait end",
        "    wp_and_acq_rel(&seat->parker, ~WP_PARKER_TOKEN);\n    wp_or_acq_rel(&seat->parker, WP_PARKER_FUTEX);\n    wp_fence_seq_cst();\n    enum wp_wait end",
    ),
    Mutant(
        "home_wait does not say for whom",
        "wp_home.h",
        "    wp_store_relaxed(&seat->awaited, awaited); // relaxed: published by the or below\n    // A token",
        "    // A token",
    ),
    Mutant(
        "home_wait sleeps on after an early sleep that was ended",
        "wp_home.h",
        "    if (end == WP_WAIT_TIMEOUT) end = wp_home_park(view, awaited, timeout_ns);",
        "    end = wp_home_park(view, awaited, timeout_ns);",
    ),
    Mutant(
        "park_sleep waits for its token alone",
        "wp_wake.h",
        "        if (word & WP_PARKER_TOKEN || !(word & WP_PARKER_FUTEX)) {",
        "        if (word & WP_PARKER_TOKEN) {",
        means=("model_completion",),
    ),
    Mutant(
        "home_arm has no fence",
        "wp_home.h",
        "    wp_fence_seq_cst(); // sync wake.completion (observe): F2\n    return !wp_home_has",
        "    return !wp_home_has",
    ),
    Mutant(
        "home_arm does not look again",
        "wp_home.h",
        "return !wp_home_has_completions(view) && !wp_seat_has_message(view);",
        "return true;",
    ),
    Mutant(
        "home_arm drops a token",
        "wp_home.h",
        "        wp_and_acq_rel(parker, ~WP_PARKER_TOKEN); // sync parker.token (observe)\n        return false;\n",
        "        wp_and_acq_rel(parker, ~WP_PARKER_TOKEN);\n",
    ),
    Mutant(
        "home waits for the finisher's bit",
        "wp_home.h",
        "enum wp_wait end = wp_home_is_served_now(view, awaited)",
        "enum wp_wait end = wp_home_is_served(view, awaited)",
    ),
    Mutant(
        "submit places the hint first",
        "wp_home.h",
        "    wp_slot_publish(slot, handle);\n    if (!wp_target_is_plain(target) || !wp_deque_push(&self->deque, handle)) wp_place_hint(view, index, target);\n",
        "    if (!wp_target_is_plain(target) || !wp_deque_push(&self->deque, handle)) wp_place_hint(view, index, target);\n    wp_slot_publish(slot, handle);\n",
    ),
    Mutant(
        "submit tells nobody",
        "wp_home.h",
        "    wp_notify(view, wp_target_seat(target), wp_target_strength(target));\n}\n\n// Say where a task",
        "}\n\n// Say where a task",
    ),
    Mutant(
        "a new incarnation does not look for what is done",
        "wp_home.h",
        "        else if (wp_state_phase(state) == WP_PHASE_DONE) wp_taskset_add(&self->completions, i);\n",
        "",
        "recovery adds the bit of every DONE slot, and every finisher its own: this is for a segment that no recovery saw",
    ),
]

RECOVER = [
    Mutant(  # a deque that takes nothing any more is slow, not wrong: the explorer need not see it
        "recover keeps the deque",
        "wp_recover.h",
        "    wp_deque_discard(&place->deque);\n",
        "",
        tests=("test_recover",),
    ),
    Mutant(
        "recover leaves the searching bit",
        "wp_recover.h",
        "    wp_idle_clear(view->idle->searching, seat);\n",
        "",
    ),
    Mutant(
        "recover leaves the idle bit",
        "wp_recover.h",
        "    wp_idle_clear(view->idle->idle, seat);\n",
        "",
        tests=("test_recover",),
    ),
    Mutant(
        "recover wakes nobody", "wp_recover.h", "    wp_wake_all(view);\n    return out;", "    return out;"
    ),
    Mutant(
        "recover leaves tokens alone",
        "wp_recover.h",
        "        if (!view->polls) wp_os_wake(&place->seat->parker);\n",
        "",
    ),
    Mutant(
        "recover wakes without tokens",
        "wp_recover.h",
        "        wp_swap_acq_rel(&place->seat->parker, WP_PARKER_TOKEN);\n",
        "",
    ),
    Mutant(
        "recover signals no eventfd",
        "wp_recover.h",
        "        if (place->eventfd >= 0) wp_os_eventfd_signal(place->eventfd);\n",
        "",
    ),
    Mutant(
        "recover gives READY slots no hint",
        "wp_recover.h",
        "        wp_place_hint(view, index, wp_load_relaxed(&slot->target)); // relaxed: ordered by the state\n",
        "        (void)0;\n",
    ),
    Mutant(
        "recover gives DONE slots no bit",
        "wp_recover.h",
        "    else if (wp_state_phase(state) == WP_PHASE_DONE)\n        wp_recover_completion(view, index);\n",
        "",
    ),
    Mutant(
        "recover leaves CLAIMED slots",
        "wp_recover.h",
        "(phase == WP_PHASE_CLAIMED || phase == WP_PHASE_RUNNING) && owned",
        "phase == WP_PHASE_RUNNING && owned",
    ),
    Mutant(
        "recover leaves RUNNING slots",
        "wp_recover.h",
        "(phase == WP_PHASE_CLAIMED || phase == WP_PHASE_RUNNING) && owned",
        "phase == WP_PHASE_CLAIMED && owned",
    ),
    Mutant(
        "recover leaves RESERVED slots",
        "wp_recover.h",
        "        wp_slot_free(slot);\n        out->freed++;\n",
        "        out->freed++;\n",
    ),
    Mutant(
        "recover takes slots of the living",
        "wp_recover.h",
        "bool owned = wp_state_owner(state) == seat;",
        "bool owned = true;",
    ),
    Mutant(
        "recover leaves the first attempt's deadline",
        "wp_recover.h",
        "    wp_slot_reset_clock(slot);\n",
        "",
        tests=("test_cancel",),
    ),
    Mutant("recover runs again what was entered", "wp_recover.h", "(entered ? limit : decoded)", "decoded"),
    Mutant(
        "recover forgets what was not entered",
        "wp_recover.h",
        "(entered ? limit : decoded)",
        "(entered ? limit : 0)",
    ),
    relaxed(
        "recover offers again relaxed",
        "wp_recover.h",
        "wp_store_release(&slot->state, wp_state(WP_PHASE_READY",
    ),
    Mutant(
        "recover settles before it writes the death",
        "wp_recover.h",
        "    memcpy(slot->bytes, death, sizeof *death);\n    wp_slot_finish(slot, outcome);\n",
        "    wp_slot_finish(slot, outcome);\n    memcpy(slot->bytes, death, sizeof *death);\n",
    ),
    Mutant(
        "recover leaves the parker armed",
        "wp_recover.h",
        "    wp_and_acq_rel(&place->seat->parker, 0);\n",
        "",
        "a token for the dead wakes nobody; wake_all overwrites the word; the next incarnation clears it before it arms",
    ),
    relaxed(
        "recover reads the slot relaxed",
        "wp_recover.h",
        "uint64_t state = wp_load_acquire(&slot->state);\n    enum wp_phase phase = wp_state_phase(state);\n    bool owned",
        "what it acts on is the dead seat's, and the death came before",
    ),
    relaxed(
        "recover reads the target of an older use",
        "wp_recover.h",
        "    state = wp_load_acquire(&slot->state);\n    if (wp_state_phase(state) == WP_PHASE_READY)\n        wp_place_hint",
        "a dead home's target came before its death; a living home places the hint of its own use itself",
    ),
]

ARENA = [
    Mutant(
        "a lease is dropped relaxed",
        "wp_lease.h",
        "    wp_store_release(&leases->lease[index], 0);\n",
        "    wp_store_relaxed(&leases->lease[index], 0);\n",
        "on every way here the fence of wp_lease_clear came after the last use",
    ),
    relaxed(
        "a leased word is read relaxed",
        "wp_lease.h",
        "uint64_t lease = wp_load_acquire(&leases->lease[*index]);",
    ),
    relaxed(
        "the word of held leases is read relaxed",
        "wp_lease.h",
        "uint64_t held = wp_load_acquire(&leases->held[*index / 64])",
    ),
    Mutant(
        "a lease is cleared without a fence",
        "wp_lease.h",
        "    wp_fence_seq_cst();\n    // relaxed: the fences order it.\n",
        "    // relaxed: the fences order it.\n",
    ),
    Mutant(
        "a recovery opens without a fence",
        "wp_lease.h",
        "    wp_fence_seq_cst();\n}\n\n// Clear all leases",
        "}\n\n// Clear all leases",
    ),
    Mutant(
        "a lease does not lapse",
        "wp_lease.h",
        "    if (wp_load_relaxed(&leases->head->recovering) & 1) {\n        uint32_t i",
        "    if (false) {\n        uint32_t i",
        tests=("test_arena",),
    ),
    Mutant(
        "a leased block is freed",
        "wp_arena.h",
        "        if (wp_lease_find(&view->leases, offset)) {\n            // sync span.doom (publish)",
        "        if (false) {\n            // sync span.doom (publish)",
    ),
    Mutant(
        "a lease is not marked in the span",
        "wp_arena.h",
        "    wp_or_acq_rel(&view->spans.word[block.span], block.leased);\n    return lease;",
        "    return lease;",
    ),
    Mutant(
        "a lease is published after its mark",
        "wp_arena.h",
        "    uint32_t lease = wp_lease_put(&view->leases, offset, kind);\n",
        "    wp_or_acq_rel(&view->spans.word[block.span], block.leased);\n"
        "    uint32_t lease = wp_lease_put(&view->leases, offset, kind);\n",
        "its seat alone could end the block's life in between; others are told after the lease",
    ),
    Mutant(
        "blocks are given back by a relaxed CAS",
        "wp_arena.h",
        "!wp_cas_acq_rel(&view->spans.word[span], &word, wp_span_without(word, used, leased, doomed))",
        "!wp_cas_relaxed(&view->spans.word[span], &word, wp_span_without(word, used, leased, doomed))",
    ),
    Mutant(
        "a span is opened by a relaxed CAS",
        "wp_arena.h",
        "if (!wp_cas_acq_rel(&spans->word[i], &word, next)) return WP_OPEN_NO_ROOM;",
        "if (!wp_cas_relaxed(&spans->word[i], &word, next)) return WP_OPEN_NO_ROOM;",
    ),
    Mutant(
        "the sweep frees what is leased",
        "wp_arena.h",
        "                if (wp_lease_find(&view->leases, offset + index * bytes)) continue;\n",
        "",
    ),
    Mutant(
        "reclaim ignores what slots name",
        "wp_reclaim.h",
        "    reclaim->kept[block.span] |= wp_reclaim_bit(&block);\n    return true;",
        "    return true;",
    ),
    Mutant(
        "reclaim ignores leases",
        "wp_reclaim.h",
        "    wp_reclaim_leased(reclaim);\n    wp_reclaim_owned",
        "    wp_reclaim_owned",
    ),
    Mutant("reclaim leaves what the dead owned", "wp_reclaim.h", "    wp_reclaim_owned(reclaim);\n", ""),
]

_BORROW = ("model_borrow",)

BORROW = [
    Mutant(
        "a borrower looks without a fence",
        "wp_borrow.h",
        "    wp_fence_seq_cst(); // sync block.identity (observe): F2\n",
        "",
    ),
    Mutant(
        "a borrower believes the reference",
        "wp_borrow.h",
        "wp_load_relaxed(wp_block_identity(spans, offset)) == id)",
        "true)",
    ),
    Mutant(
        "a borrower does not mark the block",
        "wp_borrow.h",
        "!wp_cas_acq_rel(&spans->word[block.span], &block.word, block.word | block.leased)",
        "false",
    ),
    Mutant(
        "a borrower ignores an open recovery",
        "wp_borrow.h",
        "if (wp_load_acquire(&leases->head->recovering) & 1)",
        "if (false)",
    ),
    relaxed(
        "a borrower reads the end of a recovery relaxed",
        "wp_borrow.h",
        "if (wp_load_acquire(&leases->head->recovering) & 1)",
    ),
    Mutant(
        "an identity is wiped without a fence",
        "wp_span.h",
        "    wp_fence_seq_cst();            // sync block.identity (publish): F1\n",
        "",
        means=_BORROW,
    ),
    Mutant(
        "who frees a block does not wipe it",
        "wp_arena.h",
        "    wp_block_wipe(&view->spans, &block, offset);\n",
        "",
        means=_BORROW,
    ),
    Mutant(
        "recovery does not wipe the dead seat's blocks",
        "wp_reclaim.h",
        "    wp_reclaim_wipe(reclaim, i);\n",
        "",
        means=_BORROW,
    ),
    Mutant(
        "recovery does not wipe what the dead seat had inherited",
        "wp_reclaim.h",
        "        wp_block_wipe(reclaim->spans, &block, wp_lease_offset(lease));\n",
        "",
        means=_BORROW,
    ),
    Mutant(
        "recovery lets go of what a result names",
        "wp_recover.h",
        "wp_reclaim_keep(reclaim, wp_load_acquire(&names[i]));",
        "(void)wp_load_acquire(&names[i]);",
        means=_BORROW,
    ),
    Mutant(
        "recovery reads a name relaxed",
        "wp_recover.h",
        "wp_reclaim_keep(reclaim, wp_load_acquire(&names[i]));",
        "wp_reclaim_keep(reclaim, wp_load_relaxed(&names[i]));",
        means=_BORROW,
    ),
    Mutant(
        "recovery does not look again at the parcel",
        "wp_recover.h",
        "    if (phase == WP_PHASE_DONE && parcel != 0) wp_or_acq_rel(&slot->result.block, 0); // sync slot.names (observe)\n",
        "",
        means=_BORROW,
    ),
    Mutant(
        "recovery reads a result relaxed",
        "wp_recover.h",
        "uint64_t parcel = wp_load_acquire(&slot->result.block);",
        "uint64_t parcel = wp_load_relaxed(&slot->result.block);",
        means=_BORROW,
    ),
    Mutant(
        "a home takes a name away relaxed",
        "wp_home.h",
        "if (wp_load_relaxed(&names[i]) == block) wp_store_release(&names[i], 0);",
        "if (wp_load_relaxed(&names[i]) == block) wp_store_relaxed(&names[i], 0);",
        means=_BORROW,
    ),
    Mutant(
        "a home keeps the name that it has inherited",
        "wp_home.h",
        "if (wp_load_relaxed(&names[i]) == block) wp_store_release(&names[i], 0);",
        "(void)block;",
        means=_BORROW,
    ),
    Mutant(
        "a home drops a name relaxed",
        "wp_home.h",
        "wp_store_release(&names[i], 0); // sync slot.names (publish): as in wp_home_release\n        if (lease",
        "wp_store_relaxed(&names[i], 0);\n        if (lease",
        means=_BORROW,
    ),
    Mutant(
        "a home frees a named block before it lets go of the name",
        "wp_home.h",
        "        if (view->self != WP_PARENT_SEAT) lease = wp_arena_lease(&view->arena, block, WP_LEASE_OWN);\n",
        "        wp_arena_free(&view->arena, block);\n",
        means=_BORROW,
    ),
    Mutant(
        "a home leaves what a result names",
        "wp_home.h",
        "        if (lease != WP_NO_LEASE)\n            wp_arena_free_leased(&view->arena, lease);\n        else\n            wp_arena_free(&view->arena, block);\n    }\n}",
        "    }\n}",
        means=_BORROW,
    ),
]

LANE = [
    Mutant(
        "a record is published relaxed",
        "wp_lane.h",
        "    wp_store_release(&l->ends->tail, l->tail);",
        "    wp_store_relaxed(&l->ends->tail, l->tail);",
    ),
    relaxed(
        "a record is read by a relaxed tail", "wp_lane.h", "uint64_t tail = wp_load_acquire(&l->ends->tail);"
    ),
    Mutant(
        "a record is let go relaxed",
        "wp_lane.h",
        "    wp_store_release(&l->ends->head, l->head);",
        "    wp_store_relaxed(&l->ends->head, l->head);",
    ),
    relaxed(
        "room is found by a relaxed head",
        "wp_lane.h",
        "    l->seen = wp_load_acquire(&l->ends->head);\n    return",
    ),
    Mutant(
        "a record is let go before it is read",
        "wp_lane.h",
        "            l->next = at + span;\n",
        "            l->next = at + span;\n            wp_store_release(&l->ends->head, l->next);\n",
    ),
    Mutant(
        "the end of the ring is not passed over",
        "wp_lane.h",
        "    uint64_t pad = span <= left ? 0 : left;",
        "    uint64_t pad = 0 * left;",
    ),
    Mutant(
        "room for one more than there is",
        "wp_lane.h",
        "    l->seen = wp_load_acquire(&l->ends->head);\n"
        "    return l->tail - l->seen <= l->capacity && bytes <= l->capacity - (l->tail - l->seen);",
        "    l->seen = wp_load_acquire(&l->ends->head);\n"
        "    return l->tail - l->seen <= l->capacity && bytes <= 16 + l->capacity - (l->tail - l->seen);",
    ),
    Mutant(
        "a dead end's lane is not thrown away",
        "wp_lane.h",
        "    wp_store_relaxed(&l->ends->tail, 0);\n",
        "",
    ),
]

MUTANTS = [*DEQUE, *SLOT, *TASKSET, *WAKE, *HOME, *RECOVER, *ARENA, *BORROW, *LANE]


def apply(mutant: Mutant, csrc: Path, copy: Path) -> str:
    """A copy of the headers with the mutant in it. Returns what is wrong with its text, or ''.

    The text is exact but for white space, so that clang-format may wrap a line.
    """
    shutil.copytree(csrc, copy)
    header = copy / mutant.header
    text = header.read_text()
    found = list(re.finditer(r"\s+".join(re.escape(word) for word in mutant.old.split()), text))
    if len(found) != 1:
        return f"its text is found {len(found)} times"
    header.write_text(text[: found[0].start()] + mutant.new.strip() + text[found[0].end() :])
    return ""


def kill(mutant: Mutant, csrc: Path, engine: Path, work: Path, seconds: float) -> tuple[str, str]:
    """Returns what became of it (STALE, BROKEN, KILLED, SURVIVED), and by what means."""
    work.mkdir()
    stale = apply(mutant, csrc, work / "csrc")
    if stale:
        return "STALE", stale
    shutil.copy(engine, work / "model.o")
    for name in mutant.means or MEANS[mutant.header]:
        try:
            program = build_program(name, work, engine, work / "csrc", strict=False)
        except subprocess.CalledProcessError as error:
            return "BROKEN", error.stderr.strip().splitlines()[0]
        command = ["nice", "-n", "10", str(program), "--brief", "--seconds", str(seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 1:
            line = next(line for line in done.stdout.splitlines() if "VIOLATION" in line)
            return "KILLED", line.replace(": VIOLATION: ", ": ")
        if done.returncode != 0:
            return (
                "KILLED",
                f"{name}: {done.stderr.strip().splitlines()[-1] if done.stderr else done.returncode}",
            )
    for name in mutant.tests:
        program = work / name
        command = [
            compiler(),
            "-std=c11",
            "-D_GNU_SOURCE",
            "-w",
            "-O2",
            f"-I{work / 'csrc'}",
            f"-I{HERE.parent}",
            "-pthread",
        ]
        built = subprocess.run(
            [*command, str(HERE.parent / f"{name}.c"), "-o", str(program)], check=False, capture_output=True
        )
        if (
            built.returncode == 0
            and subprocess.run([str(program)], check=False, capture_output=True).returncode != 0
        ):
            return "KILLED", name
    return "SURVIVED", ", ".join([*(mutant.means or MEANS[mutant.header]), *mutant.tests])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("word", nargs="*", help="mutants whose names contain one of these")
    parser.add_argument("--csrc", type=Path, default=CSRC, help="headers to break")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--seconds", type=float, default=120, help="CPU time of each scenario")
    parser.add_argument("--all", action="store_true", help="the equivalent ones too, which take longest")
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    chosen = [m for m in MUTANTS if not options.word or any(w in m.name for w in options.word)]
    if not (options.all or options.word or options.list):
        chosen = [m for m in chosen if not m.equivalent]
    if options.list:
        for m in chosen:
            print(f"{m.header:13} {m.name}" + (f"  (equivalent: {m.equivalent})" if m.equivalent else ""))
        return 0
    if len({m.name for m in MUTANTS}) != len(MUTANTS):
        raise SystemExit("two mutants have one name")

    begun = time.monotonic()
    wrong: list[str] = []
    counts = {"KILLED": 0, "EQUIVALENT": 0}
    with tempfile.TemporaryDirectory(prefix="wp-mutants-") as directory:
        root = Path(directory)
        engine = build_engine(root)

        def one(item: tuple[int, Mutant]) -> tuple[Mutant, str, str]:
            work = root / str(item[0])
            outcome, means = kill(item[1], options.csrc, engine, work, options.seconds)
            shutil.rmtree(work, ignore_errors=True)
            return item[1], outcome, means

        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for mutant, outcome, means in pool.map(one, enumerate(chosen)):
                right = outcome == ("SURVIVED" if mutant.equivalent else "KILLED")
                shown = "EQUIVALENT" if outcome == "SURVIVED" and mutant.equivalent else outcome
                print(
                    f"{shown:10} {mutant.header:13} {mutant.name}: {mutant.equivalent if shown == 'EQUIVALENT' else means}",
                    flush=True,
                )
                if right:
                    counts[shown] += 1
                else:
                    wrong.append(f"{mutant.name}: {outcome}, {means}")
    print(
        f"{len(chosen)} mutants: {counts['KILLED']} killed, {counts['EQUIVALENT']} equivalent, "
        f"{len(wrong)} wrong, {time.monotonic() - begun:.0f} s"
    )
    for line in wrong:
        print(f"  WRONG {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
