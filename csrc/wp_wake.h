// wp_wake.h — going to sleep without missing work, and waking without system calls.
//
// Layer 4. Source: this project; modelled in tests/model/park.pml, proved by cases
// in docs/memory-model.md. Every pair is a store, a fence, a load on both sides:
//
//   submitter: Publish, F1 (seq_cst), ReadSearching, ReadIdle, Token
//   worker:    SetIdle, ClearSearching, F2 (seq_cst), Recheck, Sleep
//   F1 before F2: Recheck sees Publish, the worker stays awake.
//   F2 before F1: the submitter sees the seat idle and not searching, and wakes it.
//
// A seat alone writes its idle and searching bits: who wakes it only leaves a token
// in its parker. So a waker that is stopped or killed half-way holds up nobody but
// the one it was waking, and recovery wakes every seat again. A searcher that finds
// work leaves the searching set, fences, looks once more and wakes one other.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_WAKE_H
#define WP_WAKE_H

#include <errno.h>

#include "wp_os.h"
#include "wp_view.h"

// Leave a token for `seat`, and wake it if it sleeps.
//
// Caller:   any process.
// Progress: wait-free; a system call only if it was armed.
// Crash:    after the swap the seat may sleep on with its token: recovery wakes all.
// Returns:  whether this call woke it (not: it was awake, or another woke it).
static inline bool wp_unpark(struct wp_view *view, uint32_t seat) {
    struct wp_place *place = &view->places[seat];
    // sync parker.token (publish): the woken seat sees what was published before.
    uint32_t old = wp_swap_acq_rel(&place->seat->parker, WP_PARKER_TOKEN);
    if (!(old & WP_PARKER_ARMED)) return false;
    if (old & WP_PARKER_FUTEX && !view->polls) wp_os_wake(&place->seat->parker);
    if (old & WP_PARKER_EVENTFD) wp_os_eventfd_signal(place->eventfd);
    wp_stats_add(&wp_view_self(view)->seat->stats, WP_STAT_WAKES, 1);
    view->spin_hot = false;
    return true;
}

// Wake one idle seat, unless somebody searches: then that one will wake the next.
static inline void wp_wake_one(struct wp_view *view) {
    wp_fence_seq_cst(); // sync wake.work (publish): F1
    if (wp_idle_any(view->idle->searching)) return;
    for (uint32_t seat = 1; (seat = wp_idle_next(view->idle->idle, seat, view->seats)) != WP_NO_SEAT; seat++)
        if (wp_unpark(view, seat)) return;
}

// Put the hint of a READY slot where its target, or everyone, will look.
//
// Caller:   its home, or the recoverer for it.
static inline void wp_place_hint(struct wp_view *view, uint32_t index, uint32_t target) {
    enum wp_strength strength = wp_target_strength(target);
    uint32_t seat = wp_target_seat(target);
    bool bound = strength != WP_STRENGTH_NONE && strength <= WP_STRENGTH_FORCE && seat >= 1 && seat < view->seats;
    uint32_t level = (uint32_t)(wp_target_priority(target) - WP_PRIORITY_MIN);
    if ((bound && strength > WP_STRENGTH_LIGHT) || wp_target_priority(target) == 0 || level >= WP_LEVELS) {
        wp_taskset_add(bound ? &view->places[seat].mailbox[wp_mailbox_of(strength)] : &view->orphans, index);
        return;
    }
    wp_taskset_add(&view->level[level], index);
    // sync idle.levels (publish): sticky; a searcher that parks looks again after its fence.
    wp_or_acq_rel(&view->idle->levels, UINT64_C(1) << level);
}

// ---- strong tasks behind a busy seat: docs/scheduling.md

// A seat is stuck once it has been at one task for so many times what its tasks take,
// smoothed. Fewer move what soon would have run at home, more leave it waiting.
#define WP_STUCK_MEANS 3
// Below this, waking another costs as much as the wait.
#define WP_STUCK_MIN_NS INT64_C(1000000)
// Between two tasks, where it decodes or waits for a CPU, and while nobody knows what a
// task takes there: some time slices of a busy system.
#define WP_STUCK_UNKNOWN_NS INT64_C(20000000)
// A process that starts: importing its entrypoint may take that long.
#define WP_STUCK_START_NS INT64_C(1000000000)
#define WP_NEVER INT64_MAX

// How long may `seat` be at one thing before others take its strong tasks?
static inline int64_t wp_strong_patience_ns(struct wp_view *view, uint32_t seat) {
    struct wp_seat *s = view->places[seat].seat;
    // relaxed: a heuristic's input, all of it.
    uint64_t life = wp_load_relaxed(&s->life), mean_ns = wp_load_relaxed(&s->mean_ns);
    // relaxed: as above.
    if (!wp_life_is_taken(life) || wp_load_relaxed(&s->ready) != wp_life_incarnation(life)) return WP_STUCK_START_NS;
    if (mean_ns == 0) mean_ns = wp_load_relaxed(&wp_view_self(view)->seat->mean_ns); // relaxed: as above
    if (mean_ns == 0) return WP_STUCK_UNKNOWN_NS;
    if (mean_ns > INT64_MAX / (2 * WP_STUCK_MEANS)) return INT64_MAX / 2; // scribbled
    int64_t patience_ns = (int64_t)mean_ns * WP_STUCK_MEANS;
    return patience_ns < WP_STUCK_MIN_NS ? WP_STUCK_MIN_NS : patience_ns;
}

// From when on may others take the strong tasks of `seat`, if nothing changes there?
//
// Caller:   any process. A racy look: the claim decides, and being wrong costs order.
// Returns:  0: now, it is dead or retires. WP_NEVER: it has none, or will look itself.
static inline int64_t wp_strong_due_ns(struct wp_view *view, uint32_t seat) {
    struct wp_place *place = &view->places[seat];
    if (wp_taskset_is_empty(&place->mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)])) return WP_NEVER;
    // relaxed: a look, all of it.
    uint32_t stop = wp_load_relaxed(&place->seat->stop);
    if (wp_life_is_empty(wp_load_relaxed(&place->seat->life)) || stop >= WP_STOP_NOW) return 0;
    if (wp_idle_has(view->idle->idle, seat) || wp_idle_has(view->idle->searching, seat)) return WP_NEVER;
    // relaxed: a look. It sleeps inside a task, and then looks at its mailboxes too.
    if (wp_load_relaxed(&place->seat->parker) & WP_PARKER_FUTEX) return WP_NEVER;
    int64_t since_ns = (int64_t)wp_load_relaxed(&place->seat->since_ns); // relaxed: as above
    int64_t patience_ns = wp_strong_patience_ns(view, seat);
    // relaxed: as above.
    if (wp_load_relaxed(&place->seat->current) == WP_NO_HANDLE && patience_ns < WP_STUCK_UNKNOWN_NS)
        patience_ns = WP_STUCK_UNKNOWN_NS;
    return since_ns < 0 || since_ns > INT64_MAX - patience_ns - 1 ? 1 : since_ns + patience_ns;
}

// When must somebody look at the strong tasks of `seat`? When they are due, or may be by
// then: a seat between two tasks is stuck sooner once it has entered one.
static inline int64_t wp_strong_look_ns(struct wp_view *view, uint32_t seat) {
    int64_t due_ns = wp_strong_due_ns(view, seat);
    // relaxed: a look.
    if (due_ns == WP_NEVER || wp_load_relaxed(&view->places[seat].seat->current) != WP_NO_HANDLE) return due_ns;
    int64_t soon_ns = wp_os_now_ns() + wp_strong_patience_ns(view, seat);
    return soon_ns < due_ns ? soon_ns : due_ns;
}

// It becomes due merely by time, so one parked seat, the watcher, must sleep with a
// deadline early enough for the strong tasks of `seat`, if another is parked at all.
//
//   who makes a seat's strong set wait: Publish, F1, ReadDue, ReadWatcher, ReadIdle, Token
//   who parks:                          SetIdle, F2, ReadDue, ReadWatcher, SetWatcher
//   who ceases to watch:                ClearWatcher, F1, ReadDue, ReadIdle, Token
//
// Caller:   who has published a strong task, or begins a task of its own, or another
//           than watching; after a fence.
static inline void wp_watch_ensure(struct wp_view *view, uint32_t seat) {
    int64_t due_ns = wp_strong_look_ns(view, seat);
    if (due_ns == WP_NEVER) return;
    uint32_t watcher = wp_idle_next(view->idle->watcher, 1, view->seats);
    if (watcher == WP_NO_SEAT) {
        wp_wake_one(view); // it finds nothing, and parks as the watcher
        return;
    }
    // relaxed: written before the bit, which is read by acquire.
    if ((int64_t)wp_load_relaxed(&view->places[watcher].seat->watch_ns) > due_ns) wp_unpark(view, watcher);
}

// Be the watcher, if one is needed and no other is early enough; view->watch_ns is then
// the deadline, else WP_NEVER. Two may become it at once, until one wakes: no harm.
//
// Caller:   a seat that is armed to park, after its fence.
static inline void wp_watch_arm(struct wp_view *view) {
    int64_t due_ns = WP_NEVER;
    for (uint32_t seat = 1; seat < view->seats; seat++) {
        int64_t its_ns = seat == view->self ? WP_NEVER : wp_strong_look_ns(view, seat);
        if (its_ns < due_ns) due_ns = its_ns;
    }
    uint32_t other = due_ns == WP_NEVER ? WP_NO_SEAT : wp_idle_next(view->idle->watcher, 1, view->seats);
    // relaxed: written before the bit, which is read by acquire.
    if (other != WP_NO_SEAT && (int64_t)wp_load_relaxed(&view->places[other].seat->watch_ns) <= due_ns)
        due_ns = WP_NEVER;
    view->watch_ns = due_ns;
    view->watches = due_ns != WP_NEVER;
    if (!view->watches) return;
    wp_store_relaxed(&wp_view_self(view)->seat->watch_ns, (uint64_t)due_ns); // relaxed: published by the bit
    wp_idle_set(view->idle->watcher, view->self);
}

// How long may a seat sleep that has armed and was allowed `timeout_ns`?
static inline int64_t wp_watch_left_ns(const struct wp_view *view, int64_t timeout_ns) {
    if (view->watch_ns == WP_NEVER) return timeout_ns;
    int64_t left_ns = view->watch_ns - wp_os_now_ns();
    if (left_ns < 0) left_ns = 0;
    return timeout_ns < 0 || left_ns < timeout_ns ? left_ns : timeout_ns;
}

// Say that a task for `target` was put where it will look.
//
// Caller:   whoever published it, after its hint is in place.
// Crash:    the task is READY and nobody was woken: recovery makes it an orphan
//           and wakes every seat.
static inline void wp_notify(struct wp_view *view, uint32_t target, enum wp_strength strength) {
    if (strength != WP_STRENGTH_NONE && target < view->seats) { // a scribbled target is in nobody's mailbox
        wp_fence_seq_cst();                                     // sync wake.work (publish): F1
        // Armed but not idle is a seat that waits inside a task: it looks at its
        // mailboxes too, but may be far from done.
        // sync parker.armed (observe)
        if (wp_load_acquire(&view->places[target].seat->parker) & WP_PARKER_ARMED) wp_unpark(view, target);
        if (strength == WP_STRENGTH_STRONG) wp_watch_ensure(view, target);
        if (strength != WP_STRENGTH_LIGHT || wp_idle_has(view->idle->idle, target)) return;
    }
    wp_wake_one(view);
}

// Wake the home of a task that was settled, if it sleeps for any, or for this one.
//
// Caller:   who settled it, after the completion bit is set.
static inline void wp_notify_home(struct wp_view *view, uint32_t home, wp_handle handle) {
    struct wp_seat *seat = view->places[home].seat;
    wp_fence_seq_cst(); // sync wake.completion (publish): F1, with SetArmed for SetIdle
    // sync parker.armed (observe): `awaited` is read as it was when the home armed.
    uint32_t parker = wp_load_acquire(&seat->parker);
    if (!(parker & WP_PARKER_ARMED)) return;
    if (!(parker & WP_PARKER_EVENTFD)) {
        // relaxed: ordered by the fence; a home that changes it re-checks after its own.
        wp_handle awaited = wp_load_relaxed(&seat->awaited);
        if (awaited != WP_NO_HANDLE && awaited != handle) return;
    }
    wp_unpark(view, home);
}

// Is there work that any worker may take? A look, ordered by the caller's fence.
static inline bool wp_work_is_visible(struct wp_view *view) {
    if (wp_deque_size(&view->places[WP_PARENT_SEAT].deque) > 0 || !wp_taskset_is_empty(&view->orphans)) return true;
    // sync idle.levels (observe): ordered by the caller's fence; 0 in most pools.
    for (uint64_t used = wp_load_acquire(&view->idle->levels); used != 0; used &= used - 1) {
        uint32_t level = (uint32_t)__builtin_ctzll(used);
        if (level < WP_LEVELS && !wp_taskset_is_empty(&view->level[level])) return true;
    }
    for (uint32_t seat = 1; seat < view->seats; seat++) {
        struct wp_place *place = &view->places[seat];
        if (wp_deque_size(&place->deque) > 0 || !wp_taskset_is_empty(&place->mailbox[wp_mailbox_of(WP_STRENGTH_LIGHT)]))
            return true;
    }
    return false;
}

// Is there a message for this worker, in its lane or read already? A look, as above.
static inline bool wp_seat_has_message(struct wp_view *view) {
    if (view->self == WP_PARENT_SEAT) return false;
    // relaxed: written by this process; a thread of it that writes it leaves a token.
    return wp_load_relaxed(&view->unheard) != 0 || !wp_lane_is_empty(&wp_view_self(view)->to_seat);
}

// Is there anything that this seat should be awake for?
static inline bool wp_seat_has_work(struct wp_view *view) {
    struct wp_place *self = wp_view_self(view);
    // relaxed: ordered by the caller's fence.
    if (wp_load_relaxed(&self->seat->stop) != WP_STOP_NO) return true;
    for (uint32_t m = 0; m < WP_MAILBOXES; m++)
        if (!wp_taskset_is_empty(&self->mailbox[m])) return true;
    if (wp_seat_has_message(view)) return true;
    return !wp_taskset_is_empty(&self->completions) || wp_work_is_visible(view);
}

// Enter and leave the set of those who look for work.
static inline void wp_search_begin(struct wp_view *view) { wp_idle_set(view->idle->searching, view->self); }
static inline void wp_search_end(struct wp_view *view) {
    wp_idle_clear(view->idle->searching, view->self);
    wp_fence_seq_cst(); // sync wake.work (observe): F2; who relied on this searcher is seen now
    const struct wp_taskset *strong = &wp_view_self(view)->mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)];
    bool must_watch = view->watches || !wp_taskset_is_empty(strong);
    view->watches = false;
    if (!wp_idle_any(view->idle->idle)) return;
    if (wp_work_is_visible(view)) {
        wp_wake_one(view); // if it finds nothing, it watches
    } else if (must_watch) {
        for (uint32_t seat = 1; seat < view->seats; seat++) wp_watch_ensure(view, seat);
    }
}

// Announce sleep and look once more.
//
// Caller:   a worker that is searching and found nothing. `how` is WP_PARKER_FUTEX
//           or WP_PARKER_EVENTFD.
// Crash:    the idle bit stays: recovery clears it; a token spent on the dead seat
//           is made good by waking all.
// Returns:  true: sleep now, then wp_park_disarm. false: there is something; the
//           seat is searching again and not armed.
static inline bool wp_park_arm(struct wp_view *view, uint32_t how) {
    struct wp_seat *seat = wp_view_self(view)->seat;
    wp_store_relaxed(&seat->awaited, WP_NO_HANDLE); // relaxed: published by the or below
    // A token from before is void: what it told of is seen by the re-check.
    wp_and_acq_rel(&seat->parker, ~WP_PARKER_TOKEN); // sync parker.token (observe)
    wp_or_acq_rel(&seat->parker, how);               // sync parker.armed (publish)
    wp_idle_set(view->idle->idle, view->self);
    wp_idle_clear(view->idle->searching, view->self);
    wp_fence_seq_cst(); // sync wake.work (observe): F2. sync wake.completion (observe)
    if (!wp_seat_has_work(view)) {
        // relaxed: ordered by the fence; who sets it looks at all slots after its own.
        // A token, armed or not: what the parent waits for then is no completion, which
        // it would see when it looks again.
        if (wp_load_relaxed(&view->idle->watched)) wp_unpark(view, WP_PARENT_SEAT);
        wp_watch_arm(view);
        return true;
    }
    wp_idle_set(view->idle->searching, view->self);
    wp_idle_clear(view->idle->idle, view->self);
    wp_and_acq_rel(&seat->parker, ~(WP_PARKER_TOKEN | how)); // sync parker.token (observe)
    return false;
}

// Awake again: the seat searches.
static inline void wp_park_disarm(struct wp_view *view) {
    wp_idle_set(view->idle->searching, view->self);
    wp_idle_clear(view->idle->idle, view->self);
    if (view->watches) wp_idle_clear(view->idle->watcher, view->self);
    // sync parker.token (observe): what the waker published is seen by the search.
    wp_and_acq_rel(&wp_view_self(view)->seat->parker, ~(WP_PARKER_TOKEN | WP_PARKER_ARMED));
}

enum wp_wait {
    WP_WAIT_WOKEN,
    WP_WAIT_TIMEOUT,
    WP_WAIT_SIGNAL, // interrupted: the caller looks at its signals and waits again
};

// Sleep on the own parker until a token is there.
//
// Caller:   the seat, armed with WP_PARKER_FUTEX.
static inline enum wp_wait wp_park_sleep(struct wp_view *view, int64_t timeout_ns) {
    wp_atomic32 *parker = &wp_view_self(view)->seat->parker;
    int64_t begun_ns = wp_os_now_ns(), end_ns = timeout_ns < 0 ? -1 : begun_ns + timeout_ns;
    wp_stats_add(&wp_view_self(view)->seat->stats, WP_STAT_PARKS, 1);
    for (;;) {
        // relaxed: disarming observes the token.
        uint32_t word = wp_load_relaxed(parker);
        // Who wakes takes the arms; the token may be gone already, with a thread of this home that
        // found it as it armed the eventfd.
        if (word & WP_PARKER_TOKEN || !(word & WP_PARKER_FUTEX)) {
            // Looking would have found it: two sides that sleep for each other's waking stay so else.
            if (wp_os_now_ns() - begun_ns < view->spin_max_ns) view->spin_ns = view->spin_max_ns;
            return WP_WAIT_WOKEN;
        }
        int64_t left_ns = end_ns < 0 ? -1 : end_ns - wp_os_now_ns();
        if (end_ns >= 0 && left_ns <= 0) return WP_WAIT_TIMEOUT;
        int rc = view->polls ? wp_os_poll_wait(parker, word, left_ns) : wp_os_wait(parker, word, left_ns);
        if (rc == EINTR) return WP_WAIT_SIGNAL;
    }
}

// May this seat burn a CPU while it looks? Only if one is left over by those who
// have work, and, among the searchers, by those with a lower seat.
static inline bool wp_may_spin(struct wp_view *view) {
    // relaxed: all of this is a heuristic.
    uint32_t launched = wp_load_relaxed(&view->idle->launched);
    uint32_t idle = wp_idle_count(view->idle->idle);
    uint32_t awake = launched > idle ? launched - idle : 0;
    if (view->self == WP_PARENT_SEAT) return awake < view->cpus;
    uint32_t searching = wp_idle_count(view->idle->searching);
    uint32_t busy = awake > searching ? awake - searching : 0;
    // relaxed: as above.
    if (!(wp_load_relaxed(&view->places[WP_PARENT_SEAT].seat->parker) & WP_PARKER_FUTEX)) busy++;
    uint32_t before = 0; // searchers with a lower seat
    for (uint32_t w = 0; w <= view->self / 64; w++) {
        uint64_t word = wp_load_relaxed(&view->idle->searching[w]); // relaxed: as above
        if (w == view->self / 64) word &= (UINT64_C(1) << view->self % 64) - 1;
        before += (uint32_t)__builtin_popcountll(word);
    }
    return busy + before < view->cpus;
}

// Look again soon: at full speed while the answer comes as fast as from another CPU,
// else by letting others run. Who waits for a process that the kernel has put on this
// very CPU, as it does with one that was just woken, would keep it from answering; and
// with no CPU to spare, a searcher that waits its turn spares others the waking of it.
#define WP_SPIN_HOT_NS INT64_C(2500) // a round trip between two CPUs, task included
static inline void wp_spin_pause(struct wp_view *view, int64_t spun_ns) {
    if (view->spin_hot && spun_ns < WP_SPIN_HOT_NS && wp_may_spin(view))
        wp_cpu_relax();
    else
        wp_os_yield();
}

// Spinning was worth it, or it was not: never above its maximum, hardly anything
// when the gaps are long.
#define WP_SPIN_MIN_NS INT64_C(4000)
static inline void wp_spin_adapt(struct wp_view *view, bool found, int64_t spun_ns) {
    view->spin_hot = found && spun_ns < WP_SPIN_HOT_NS;
    if (view->spin_max_ns == 0) return;
    view->spin_ns = found ? view->spin_ns * 2 : view->spin_ns / 2;
    if (view->spin_ns > view->spin_max_ns) view->spin_ns = view->spin_max_ns;
    if (view->spin_ns < WP_SPIN_MIN_NS) view->spin_ns = WP_SPIN_MIN_NS;
    if (found) wp_stats_add(&wp_view_self(view)->seat->stats, WP_STAT_SPINS_USED, 1);
}

#endif
