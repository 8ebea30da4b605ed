// wp_pool.h — the door: all that Cython sees.
//
// Layer 7. It adds nothing to the layers below but their order: a parent formats a
// segment and opens seat 0, a worker opens its own; both are homes, workers search,
// the parent recovers.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_POOL_H
#define WP_POOL_H

#include "wp_borrow.h"
#include "wp_cancel.h"
#include "wp_help.h"
#include "wp_look.h"
#include "wp_message.h"
#include "wp_recover.h"
#include "wp_usage.h"

// Give the seat to a new process.
//
// Caller:   the parent; the seat is empty, and recovered if it was ever taken.
static inline void wp_seat_take(struct wp_view *view, uint32_t seat, uint32_t pid) {
    struct wp_seat *s = view->places[seat].seat;
    // relaxed: only the parent writes it.
    uint64_t life = wp_load_relaxed(&s->life);
    // relaxed: as above.
    wp_store_relaxed(&s->life, wp_life_of(pid, wp_life_incarnation(life), WP_LIFE_TAKEN));
}

// The incarnation a process about to be started for this seat will be.
static inline uint32_t wp_seat_next_incarnation(struct wp_view *view, uint32_t seat) {
    struct wp_seat *s = view->places[seat].seat;
    uint64_t life = wp_load_relaxed(&s->life); // relaxed: only the parent writes it
    uint32_t incarnation = (wp_life_incarnation(life) + 1) & 0xffffff;
    // relaxed: as above, all three; nobody sits there until wp_seat_take.
    wp_store_relaxed(&s->since_ns, (uint64_t)wp_os_now_ns());
    wp_store_relaxed(&s->life, wp_life_of(0, incarnation, WP_LIFE_DUE));
    wp_store_relaxed(&s->stop, WP_STOP_NO);
    return incarnation;
}

// A process will be started for an empty seat: its strong tasks are not everybody's.
static inline void wp_seat_due(struct wp_view *view, uint32_t seat) {
    struct wp_seat *s = view->places[seat].seat;
    uint64_t life = wp_load_relaxed(&s->life); // relaxed: only the parent writes it
    if (!wp_life_is_empty(life)) return;
    // relaxed: as above, both.
    wp_store_relaxed(&s->since_ns, (uint64_t)wp_os_now_ns());
    wp_store_relaxed(&s->life, wp_life_of(0, wp_life_incarnation(life), WP_LIFE_DUE));
}

// Is a task there that only this seat may run? A look.
static inline bool wp_seat_is_bound(struct wp_view *view, uint32_t seat) {
    return !wp_taskset_is_empty(&view->places[seat].mailbox[wp_mailbox_of(WP_STRENGTH_FORCE)]);
}

// How many workers were launched and are not known to be dead.
static inline void wp_seats_launched(struct wp_view *view, uint32_t workers) {
    wp_store_relaxed(&view->idle->launched, workers); // relaxed: a heuristic's input
}

// Have, or no longer have, workers that go idle tell the parent.
static inline void wp_idle_watch(struct wp_view *view, bool on) {
    wp_store_relaxed(&view->idle->watched, on); // relaxed: published by the fence
    wp_fence_seq_cst();                         // sync wake.completion (observe): F2
}

// Is a task unfinished, whoever submitted it? A look at every slot.
static inline bool wp_is_busy(struct wp_view *view) {
    // The parent has its own in hand, when all are free: no look at those that were never used.
    uint32_t parent_slots = view->places[WP_PARENT_SEAT].slots;
    bool rests = view->self == WP_PARENT_SEAT && wp_home_free_slots(view) == parent_slots;
    for (uint32_t i = rests ? parent_slots : 0; i < view->slot_count; i++) {
        // relaxed: a snapshot; the caller looks again when a worker went idle.
        enum wp_phase phase = wp_state_phase(wp_load_relaxed(&view->slots[i].state));
        if (phase >= WP_PHASE_RESERVED && phase <= WP_PHASE_RUNNING) return true;
    }
    return false;
}

// Ask a seat to end.
static inline void wp_seat_stop(struct wp_view *view, uint32_t seat, enum wp_stop how) {
    wp_store_relaxed(&view->places[seat].seat->stop, how); // relaxed: published by the token
    wp_fence_seq_cst();                                    // sync wake.work (publish): F1
    wp_unpark(view, seat);
}

// Say that this worker's start hook has run.
static inline void wp_seat_ready(struct wp_view *view, uint32_t incarnation) {
    // relaxed: published by the next. What came before was no task.
    wp_store_relaxed(&wp_view_self(view)->seat->since_ns, (uint64_t)wp_os_now_ns());
    // sync seat.ready (publish): the parent's wait_ready.
    wp_store_release(&wp_view_self(view)->seat->ready, incarnation);
    wp_unpark(view, WP_PARENT_SEAT); // a token, armed or not: it is no completion
}
static inline bool wp_seat_is_ready(struct wp_view *view, uint32_t seat, uint32_t incarnation) {
    // sync seat.ready (observe): the start hook's effects came before.
    return wp_load_acquire(&view->places[seat].seat->ready) == incarnation;
}

// What a seat's process runs, for looking at: WP_NO_HANDLE when nothing.
static inline wp_handle wp_seat_current(struct wp_view *view, uint32_t seat) {
    return wp_load_relaxed(&view->places[seat].seat->current); // relaxed: a look
}

static inline uint64_t wp_seat_stat(struct wp_view *view, uint32_t seat, uint32_t which) {
    return wp_stats_get(&view->places[seat].seat->stats, (enum wp_stat)which);
}

// How many slots are in each phase, by racy reads.
static inline void wp_count_phases(struct wp_view *view, uint32_t counts[WP_PHASE_DONE + 1]) {
    memset(counts, 0, (WP_PHASE_DONE + 1) * sizeof *counts);
    for (uint32_t i = 0; i < view->slot_count; i++) {
        // relaxed: a snapshot.
        enum wp_phase phase = wp_state_phase(wp_load_relaxed(&view->slots[i].state));
        if (phase <= WP_PHASE_DONE) counts[phase]++;
    }
}

// A task that had run another in its place goes on.
static inline void wp_resume(struct wp_view *view, uint32_t index, int64_t since_ns) {
    struct wp_seat *seat = wp_view_self(view)->seat;
    // relaxed: a look for others, both.
    wp_store_relaxed(&seat->since_ns, (uint64_t)since_ns);
    wp_store_relaxed(&seat->current, wp_handle_of(index, 0));
}

// What tasks take, after one more that took so long: smoothed over some eight, and an
// outlier counts as four of the usual, so that one does not change what is usual.
static inline uint64_t wp_mean_after(uint64_t mean_ns, uint64_t took_ns) {
    if (mean_ns == 0) return took_ns + 1;
    if (took_ns / 4 > mean_ns) took_ns = 4 * mean_ns + 8;
    return mean_ns - mean_ns / 8 + took_ns / 8 + 1;
}

// User code is about to be entered with the task in `index`.
static inline void wp_enter(struct wp_view *view, uint32_t index) {
    struct wp_seat *seat = wp_view_self(view)->seat;
    struct wp_slot *slot = &view->slots[index];
    slot->start_ns = wp_os_now_ns();
    wp_slot_enter(slot);
    // relaxed: a look for others, both.
    wp_store_relaxed(&seat->since_ns, (uint64_t)slot->start_ns);
    wp_store_relaxed(&seat->current, wp_handle_of(index, 0));
}

// Whatever becomes of the task now, it is not run again: its argument may be written over.
static inline void wp_give_up(struct wp_view *view, uint32_t index) {
    struct wp_slot *slot = &view->slots[index];
    slot->attempt_limit = 1;
    wp_slot_enter(slot);
}

// User code returned, the outcome is written: nothing can be asked of the task any more. In
// a process that is to be killed for it this does not return.
static inline void wp_end(struct wp_view *view, uint32_t index) {
    if (wp_slot_end(&view->slots[index]) & WP_CANCEL_KILL)
        for (;;) wp_os_yield();
}

// Settle the task whose outcome is written.
static inline void wp_leave(struct wp_view *view, uint32_t index, enum wp_outcome outcome) {
    struct wp_seat *seat = wp_view_self(view)->seat;
    struct wp_slot *slot = &view->slots[index];
    slot->end_ns = wp_os_now_ns();
    wp_stats_add(&seat->stats, WP_STAT_RUN, 1);
    if (slot->start_ns != 0) {
        uint64_t took_ns = (uint64_t)(slot->end_ns - slot->start_ns);
        wp_stats_add(&seat->stats, WP_STAT_RUN_NS, took_ns);
        // relaxed: written by this seat alone.
        wp_store_relaxed(&seat->mean_ns, wp_mean_after(wp_load_relaxed(&seat->mean_ns), took_ns));
    }
    // relaxed: a look for others, both.
    wp_store_relaxed(&seat->since_ns, (uint64_t)slot->end_ns);
    wp_store_relaxed(&seat->current, WP_NO_HANDLE);
    wp_finish(view, index, outcome);
}

#endif
