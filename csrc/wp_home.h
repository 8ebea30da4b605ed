// wp_home.h — a home's side of its tasks: submit, wait, harvest.
//
// Layer 5. Source: this project. All functions are called by the home alone; in a
// process with threads the caller serialises them (the GIL does).
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_HOME_H
#define WP_HOME_H

#include "wp_parcel.h"
#include "wp_wake.h"

// Collect the free slots, and free those whose outcome nobody waits for any more.
//
// Caller:   a process that has just sat down. Tasks of a former incarnation that
//           still run elsewhere stay, and are freed when they complete. Nobody sat in the
//           parent's seat before: its slots are free, and their pages not touched before use.
static inline void wp_home_begin(struct wp_view *view) {
    struct wp_place *self = wp_view_self(view);
    bool fresh = view->self == WP_PARENT_SEAT;
    view->free_head = view->free_tail = 0;
    for (uint32_t i = 0; i < self->slots; i++) {
        if (fresh) {
            view->free_ring[view->free_tail++] = self->first_slot + i;
            continue;
        }
        struct wp_slot *slot = &view->slots[self->first_slot + i];
        // sync slot.done (observe): the blocks freed here are those of the finished use.
        uint64_t state = wp_load_acquire(&slot->state);
        if (wp_state_phase(state) == WP_PHASE_FREE)
            view->free_ring[view->free_tail++ % self->slots] = self->first_slot + i;
        else if (wp_state_phase(state) == WP_PHASE_DONE)
            wp_taskset_add(&self->completions, i);
    }
    // relaxed: nothing runs here; a look for others.
    wp_store_relaxed(&self->seat->current, WP_NO_HANDLE);
}

static inline uint32_t wp_home_free_slots(const struct wp_view *view) {
    return (uint32_t)(view->free_tail - view->free_head);
}

// Take a free slot and fill its record with what a plain task has.
//
// Returns: its handle, or WP_NO_HANDLE when every slot is in use.
static inline wp_handle wp_home_reserve(struct wp_view *view) {
    struct wp_place *self = wp_view_self(view);
    if (view->free_head == view->free_tail) return WP_NO_HANDLE;
    uint32_t index = view->free_ring[view->free_head++ % self->slots];
    struct wp_slot *slot = &view->slots[index];
    wp_handle handle = wp_slot_reserve(slot, index);
    // relaxed: published by READY, all five.
    wp_store_relaxed(&slot->target, wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, 0));
    wp_store_relaxed(&slot->cancel, wp_cancel_word(handle));
    wp_store_relaxed(&slot->parent, WP_NO_HANDLE);
    wp_store_relaxed(&slot->function, 0);
    wp_store_relaxed(&slot->deadline_ns, 0); // relaxed: as above
    slot->start_ns = slot->end_ns = 0;
    wp_payload_set(&slot->argument, 0, 0);
    wp_payload_set(&slot->result, 0, 0);
    wp_store_relaxed(&slot->cost_us, 0); // relaxed: as above
    slot->pre_us = 0;
    slot->home = (uint16_t)view->self;
    slot->call = 0;
    slot->attempt_limit = 1;
    slot->group = 0;
    return handle;
}

// Say which task submits this one.
static inline void wp_home_set_parent(struct wp_view *view, wp_handle handle, wp_handle parent) {
    wp_store_relaxed(&view->slots[wp_handle_index(handle)].parent, parent); // relaxed: published by READY
}

// Give a slot back: unused (RESERVED) or harvested (DONE), and end its blocks.
//
// The parent, which no recovery ever touches, ends the blocks first: while the slot
// names them, the recovery of a dead worker keeps them.
//
// Crash:    a worker's home may die at any step. Its own blocks are then garbage that
//           no slot names. A result block is another seat's memory: an owning lease
//           keeps it from reuse until its life is ended, so it is ended once. With its
//           table of leases full, a death here leaks the block until its own seat dies.
static inline void wp_home_release(struct wp_view *view, wp_handle handle) {
    struct wp_place *self = wp_view_self(view);
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    uint64_t argument = wp_payload_block(&slot->argument), result = wp_payload_block(&slot->result);
    uint32_t lease = WP_NO_LEASE;
    if (view->self == WP_PARENT_SEAT) {
        if (argument != 0) wp_arena_free(&view->arena, argument);
        if (result != 0) wp_arena_free(&view->arena, result);
        argument = result = 0;
    } else if (result != 0) {
        lease = wp_arena_lease(&view->arena, result, WP_LEASE_OWN);
    }
    // sync slot.names (publish): a recoverer that misses a name here sees the lease above.
    wp_store_release(&slot->argument.block, 0);
    wp_store_release(&slot->result.block, 0);
    wp_slot_free(slot);
    if (argument != 0) wp_arena_free(&view->arena, argument);
    if (lease != WP_NO_LEASE)
        wp_arena_free_leased(&view->arena, lease);
    else if (result != 0)
        wp_arena_free(&view->arena, result);
    view->free_ring[view->free_tail++ % self->slots] = wp_handle_index(handle);
    wp_stats_add(&self->seat->stats, WP_STAT_RELEASED, 1);
}

// A block that the slot's payload or its names hold is the caller's from here on.
//
// Caller:   the home of a DONE slot, which has an owning lease of the block.
// Crash:    of a worker's home: the lease names the block, until then the slot.
static inline void wp_home_inherit(struct wp_view *view, struct wp_slot *slot, uint64_t block) {
    wp_atomic64 *names = NULL;
    uint32_t count = wp_parcel_names(&view->arena.spans, wp_payload_block(&slot->result), &names);
    for (uint32_t i = 0; i < count; i++)
        // relaxed: the home's alone. sync slot.names (publish): as in wp_home_release.
        if (wp_load_relaxed(&names[i]) == block) wp_store_release(&names[i], 0);
    // sync slot.names (publish): as in wp_home_release, both.
    if (wp_payload_block(&slot->argument) == block) wp_store_release(&slot->argument.block, 0);
    if (wp_payload_block(&slot->result) == block) wp_store_release(&slot->result.block, 0);
}

// End the blocks that the result names and nobody inherited.
//
// Caller:   the home of a DONE slot, before it inherits the parcel itself or releases.
// Crash:    as wp_home_release of a result.
static inline void wp_home_drop_names(struct wp_view *view, struct wp_slot *slot) {
    wp_atomic64 *names = NULL;
    uint32_t count = wp_parcel_names(&view->arena.spans, wp_payload_block(&slot->result), &names);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t block = wp_load_relaxed(&names[i]); // relaxed: the home's alone
        if (block == 0) continue;
        uint32_t lease = WP_NO_LEASE;
        if (view->self != WP_PARENT_SEAT) lease = wp_arena_lease(&view->arena, block, WP_LEASE_OWN);
        wp_store_release(&names[i], 0); // sync slot.names (publish): as in wp_home_release
        if (lease != WP_NO_LEASE)
            wp_arena_free_leased(&view->arena, lease);
        else
            wp_arena_free(&view->arena, block);
    }
}

// Offer a filled slot: READY, hint, notify.
//
// Progress: wait-free; a system call only to wake somebody who sleeps.
// Crash:    RESERVED is freed, READY is made an orphan, by recovery.
static inline void wp_home_submit(struct wp_view *view, wp_handle handle) {
    struct wp_place *self = wp_view_self(view);
    uint32_t index = wp_handle_index(handle);
    struct wp_slot *slot = &view->slots[index];
    uint32_t target = wp_load_relaxed(&slot->target); // relaxed: written by this process
    wp_slot_publish(slot, handle);
    if (!wp_target_is_plain(target) || !wp_deque_push(&self->deque, handle)) wp_place_hint(view, index, target);
    wp_stats_add(&self->seat->stats, WP_STAT_SUBMITTED, 1);
    wp_notify(view, wp_target_seat(target), wp_target_strength(target));
}

// Say where a task may run, and what it is thought to cost.
//
// Caller:   its home, while RESERVED.
static inline void wp_home_bind(struct wp_view *view, wp_handle handle, uint32_t target, uint32_t cost_us) {
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    // relaxed: published by READY, both.
    wp_store_relaxed(&slot->target, target);
    wp_store_relaxed(&slot->cost_us, cost_us);
}

// Give a task that still waits another priority: a second hint, the first turns void.
//
// Caller:   the parent, whose tasks alone have priorities.
// Returns:  whether it still waits.
static inline bool wp_home_promote(struct wp_view *view, wp_handle handle, int8_t priority) {
    uint32_t index = wp_handle_index(handle);
    struct wp_slot *slot = &view->slots[index];
    // relaxed: READY can only have ended since; then the hint is void.
    uint64_t state = wp_load_relaxed(&slot->state);
    if (wp_state_phase(state) != WP_PHASE_READY || wp_state_generation(state) != wp_handle_generation(handle))
        return false;
    uint32_t target = wp_load_relaxed(&slot->target); // relaxed: written by this process
    target = wp_target(wp_target_seat(target), wp_target_strength(target), priority);
    wp_store_relaxed(&slot->target, target); // relaxed: recovery, which reads it, is this process too
    wp_place_hint(view, index, target);
    return true;
}

// Are outcomes waiting to be harvested, or, in the parent, messages to be read? A look.
static inline bool wp_home_has_completions(struct wp_view *view) {
    if (!wp_taskset_is_empty(&wp_view_self(view)->completions)) return true;
    return view->self == WP_PARENT_SEAT && wp_idle_any(view->mail->posted);
}

// Take up to 64 completed slots at once.
//
// Returns:  a word of bits, *first being the slot of bit 0; 0 when there is none.
//           A bit whose slot is not DONE is stale and means nothing.
static inline uint64_t wp_home_take(struct wp_view *view, uint32_t *first) {
    struct wp_place *self = wp_view_self(view);
    uint32_t *looked = &view->looked[WP_MAILBOXES + 1], base;
    uint64_t bits;
    do {
        bits = wp_taskset_take(&self->completions, *looked, &base);
        if (bits == 0) return 0;
        *looked = base + 64;
        // A scribbled bit behind the last slot is another home's, or nobody's.
        if (self->slots - base < 64) bits &= (UINT64_C(1) << (self->slots - base)) - 1;
    } while (bits == 0);
    view->taken += (uint64_t)__builtin_popcountll(bits);
    *first = self->first_slot + base;
    return bits;
}

// Put a completion back, for a harvest that was interrupted.
static inline void wp_home_untake(struct wp_view *view, uint32_t index) {
    struct wp_place *self = wp_view_self(view);
    wp_taskset_add(&self->completions, index - self->first_slot);
}

// Is there what the home waits for: that one task settled, or any completion?
static inline bool wp_home_is_served(struct wp_view *view, wp_handle awaited) {
    if (awaited == WP_NO_HANDLE) return wp_home_has_completions(view);
    // sync slot.done (observe): the result read next is the one published.
    uint64_t state = wp_load_acquire(&view->slots[wp_handle_index(awaited)].state);
    // FREE, or another generation: another thread of this home has harvested it. DONE alone
    // is not enough: until it is announced in the task set, a harvest finds nothing.
    if (wp_state_phase(state) == WP_PHASE_DONE) return wp_home_has_completions(view);
    return wp_state_generation(state) != wp_handle_generation(awaited) || wp_state_phase(state) == WP_PHASE_FREE;
}

// The same, by who sleeps next: an outcome that is there and not announced the home announces
// to itself, for whoever finished it may be stopped in between. (Its bit, when it comes, is stale.)
static inline bool wp_home_is_served_now(struct wp_view *view, wp_handle awaited) {
    if (wp_home_is_served(view, awaited)) return true;
    if (awaited == WP_NO_HANDLE) return false;
    uint32_t index = wp_handle_index(awaited);
    // sync slot.done (observe): as in wp_home_is_served.
    if (wp_state_phase(wp_load_acquire(&view->slots[index].state)) != WP_PHASE_DONE) return false;
    wp_home_untake(view, index);
    return true;
}

// Ask for the eventfd to be signalled at the next completion.
//
// Returns:  false when there is one already, or a token was left: harvest, look at
//           whatever else was waited for, then arm again.
static inline bool wp_home_arm(struct wp_view *view) {
    wp_atomic32 *parker = &wp_view_self(view)->seat->parker;
    // sync parker.armed (publish). sync parker.token (observe)
    if (wp_or_acq_rel(parker, WP_PARKER_EVENTFD) & WP_PARKER_TOKEN) {
        wp_and_acq_rel(parker, ~WP_PARKER_TOKEN); // sync parker.token (observe)
        return false;
    }
    wp_fence_seq_cst(); // sync wake.completion (observe): F2
    return !wp_home_has_completions(view) && !wp_seat_has_message(view);
}
static inline void wp_home_disarm(struct wp_view *view) {
    wp_and_acq_rel(&wp_view_self(view)->seat->parker, ~WP_PARKER_EVENTFD); // sync parker.armed (publish)
}

// Look for so long whether it comes, and note after how long it came.
//
// Returns:  WP_WAIT_SIGNAL: this is no time to look.
static inline enum wp_wait wp_home_look(struct wp_view *view, wp_handle awaited, int64_t look_ns, int64_t *spun_ns) {
    *spun_ns = 0;
    if (look_ns <= 0 || !wp_may_spin(view)) return WP_WAIT_SIGNAL;
    for (int64_t begun_ns = wp_os_now_ns(); *spun_ns < look_ns; *spun_ns = wp_os_now_ns() - begun_ns) {
        if (wp_home_is_served(view, awaited)) return WP_WAIT_WOKEN;
        // relaxed: a thread of this process calls; the sleep that follows takes the token.
        if (wp_load_relaxed(&wp_view_self(view)->seat->parker) & WP_PARKER_TOKEN) return WP_WAIT_SIGNAL;
        wp_spin_pause(view, *spun_ns);
    }
    return WP_WAIT_TIMEOUT;
}

// The same within the spin budget, which learns from it.
//
// Caller:   as wp_home_wait.
static inline bool wp_home_spin(struct wp_view *view, wp_handle awaited) {
    int64_t spun_ns;
    enum wp_wait end = wp_home_look(view, awaited, view->spin_ns, &spun_ns);
    if (end != WP_WAIT_SIGNAL) wp_spin_adapt(view, end == WP_WAIT_WOKEN, spun_ns);
    return end == WP_WAIT_WOKEN;
}

// Had who gathers better sleep for WP_REST_NS than be woken by the next completion?
//
// With every CPU taken by workers that have more to do, a home that is woken for each of many
// short tasks takes a CPU from them each time: 3 us and more for tasks of 20. How fast they end
// is what was harvested since the last such question. Enough must be left that the workers do
// not run out meanwhile.
//
// Caller:   who gathers, one thread of the home at a time, about to sleep.
#define WP_REST_NS INT64_C(500000)
#define WP_REST_TASKS 4 // ends of tasks in that time, at least
static inline bool wp_home_may_rest(struct wp_view *view) {
    uint64_t unfinished = wp_view_self(view)->slots - wp_home_free_slots(view);
    if (unfinished < 4 * WP_REST_TASKS) return false;
    int64_t now_ns = wp_os_now_ns(), since_ns = now_ns - view->asked_ns;
    uint64_t ended = view->taken - view->asked_taken;
    view->asked_ns = now_ns;
    view->asked_taken = view->taken;
    if (ended == 0 || since_ns <= 0 || wp_may_spin(view)) return false;
    uint64_t expected = ended * (uint64_t)WP_REST_NS / (uint64_t)since_ns;
    return expected >= WP_REST_TASKS && unfinished / 4 >= expected;
}

// Sleep for that long: no completion ends it, but a message does, or another thread.
//
// Caller:   as wp_home_wait, which follows.
static inline void wp_home_rest(struct wp_view *view) {
    struct wp_seat *seat = wp_view_self(view)->seat;
    wp_store_relaxed(&seat->awaited, WP_NO_TASK);    // relaxed: published by the or below
    wp_or_acq_rel(&seat->parker, WP_PARKER_FUTEX);   // sync parker.armed (publish)
    wp_park_sleep(view, WP_REST_NS);                 // a token stays: wp_home_wait does not sleep then
    wp_and_acq_rel(&seat->parker, ~WP_PARKER_FUTEX); // sync parker.armed (publish)
}

// ---- awake just before the answer comes
//
// Who waits for one task after another, as a loop of submit and result does, knows how soon they
// end at best. To be woken by it then takes 50 us and more, where the CPU has gone to sleep
// too: so it sleeps until shortly before that, and looks from then on, if most of them end while it looks.
#define WP_EARLY_WAKE_NS INT64_C(100000) // a timer's slack, and waking by it
#define WP_EARLY_SHARE 8                 // so much of a wait it looks, or spin_max_ns
#define WP_EARLY_SURE 256

// How long before and after the best end does it look?
static inline int64_t wp_early_before_ns(const struct wp_view *view) {
    return WP_EARLY_WAKE_NS + view->wait_low_ns / (4 * WP_EARLY_SHARE);
}
static inline int64_t wp_early_after_ns(const struct wp_view *view) {
    int64_t after_ns = view->wait_low_ns / WP_EARLY_SHARE;
    return after_ns > view->spin_max_ns ? after_ns : view->spin_max_ns;
}
// For how long shall it sleep first? 0: look at once, a sleep would not be over in time; less:
// they are not alike, be woken.
static inline int64_t wp_early_ns(const struct wp_view *view) {
    if (view->wait_hits <= WP_EARLY_SURE / 3) return -1;
    return view->wait_low_ns > 2 * WP_EARLY_WAKE_NS ? view->wait_low_ns - wp_early_before_ns(view) : 0;
}
// Waiting for a task that is done now took so long. While they are alike it is followed downwards
// faster than upwards, so most take longer; one that takes much longer says little.
static inline void wp_early_learn(struct wp_view *view, int64_t took_ns) {
    int64_t low_ns = view->wait_low_ns, late_ns = took_ns - low_ns;
    bool hit = late_ns > -wp_early_before_ns(view) && late_ns < wp_early_after_ns(view);
    view->wait_hits += ((hit ? WP_EARLY_SURE : 0) - view->wait_hits) / 4;
    int64_t most_ns = low_ns / 4 + WP_EARLY_WAKE_NS;
    if (view->wait_hits <= WP_EARLY_SURE / 4)
        low_ns = took_ns;
    else if (late_ns < 0)
        low_ns += late_ns / 2;
    else
        low_ns += (late_ns < most_ns ? late_ns : most_ns) / 16;
    view->wait_low_ns = low_ns > 0 ? low_ns : 0;
}

static inline enum wp_wait wp_home_park(struct wp_view *view, wp_handle awaited, int64_t timeout_ns) {
    struct wp_seat *seat = wp_view_self(view)->seat;
    wp_store_relaxed(&seat->awaited, awaited); // relaxed: published by the or below
    // A token from before stays: what it told of may be no completion (Seat.wake), and
    // would not be seen by the re-check.
    wp_or_acq_rel(&seat->parker, WP_PARKER_FUTEX); // sync parker.armed (publish)
    wp_fence_seq_cst();                            // sync wake.completion (observe): F2
    enum wp_wait end = wp_home_is_served_now(view, awaited) ? WP_WAIT_WOKEN : wp_park_sleep(view, timeout_ns);
    // sync parker.token (observe): an armed eventfd stays armed.
    wp_and_acq_rel(&seat->parker, ~(WP_PARKER_TOKEN | WP_PARKER_FUTEX));
    return end;
}

// Wait for one task, or with WP_NO_HANDLE for any completion.
//
// Caller:   one thread of the home at a time (the leader); it holds no lock.
static inline enum wp_wait wp_home_wait(struct wp_view *view, wp_handle awaited, int64_t timeout_ns) {
    bool learns = awaited != WP_NO_HANDLE && view->spin_max_ns > 0;
    int64_t begun_ns = learns ? wp_os_now_ns() : 0, spun_ns;
    if (wp_home_spin(view, awaited)) return WP_WAIT_WOKEN;
    int64_t early_ns = learns ? wp_early_ns(view) : -1;
    int64_t look_ns = view->wait_low_ns - early_ns + wp_early_after_ns(view);
    enum wp_wait end = WP_WAIT_TIMEOUT;
    if (early_ns >= 0 && (timeout_ns < 0 || early_ns + look_ns < timeout_ns)) {
        if (early_ns > 0) end = wp_home_park(view, awaited, early_ns);
        if (end == WP_WAIT_TIMEOUT && wp_home_look(view, awaited, look_ns, &spun_ns) == WP_WAIT_WOKEN) {
            wp_early_learn(view, wp_os_now_ns() - begun_ns);
            return WP_WAIT_WOKEN;
        }
        if (timeout_ns >= 0) timeout_ns -= early_ns;
    }
    if (end == WP_WAIT_TIMEOUT) end = wp_home_park(view, awaited, timeout_ns);
    if (learns && end == WP_WAIT_WOKEN && wp_home_is_served(view, awaited))
        wp_early_learn(view, wp_os_now_ns() - begun_ns - WP_EARLY_WAKE_NS); // it was woken
    return end;
}

#endif
