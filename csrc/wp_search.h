// wp_search.h — a worker's side: find a task, claim it, run it, finish it.
//
// Layer 5. Source: this project; after Blumofe and Leiserson, "Scheduling
// Multithreaded Computations by Work Stealing", JACM 1999.
//
//   own force -> high priorities -> own strong, own deque (newest first), own light
//     -> the parent's deque (oldest first, a small batch) -> orphans
//     -> victims from a random seat on: their light set, their deque
//     -> low priorities -> strong sets of seats that are stuck
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_SEARCH_H
#define WP_SEARCH_H

#include "wp_wake.h"

enum wp_find {
    WP_FIND_OK,
    WP_FIND_NOTHING,
    WP_FIND_BUSY, // somebody else was quicker: there may be more
};

// Claim what a handle names; false: the hint was void.
static inline bool wp_search_claim(struct wp_view *view, wp_handle handle, uint32_t *index) {
    uint32_t i = wp_handle_index(handle);
    if (i >= view->slot_count) return false; // a stale entry of a scribbled deque
    if (wp_slot_claim(&view->slots[i], handle, view->self) == WP_CLAIM_OK) {
        *index = i;
        return true;
    }
    wp_stats_add(&wp_view_self(view)->seat->stats, WP_STAT_HINTS_STALE, 1);
    return false;
}

// Claim a task out of a set.
//
// Crash:    claimed and the bit still set: the bit is stale. Bit cleared, slot READY
//           again through recovery: recovery adds it anew.
static inline enum wp_find wp_search_set(struct wp_view *view, const struct wp_taskset *set, uint32_t *looked,
                                         uint32_t *index) {
    // A void bit is removed, so this ends after one pass at most over what is set now.
    for (uint32_t looks = 0; looks < view->slot_count; looks++) {
        uint32_t i = wp_taskset_find(set, *looked);
        if (i == WP_NO_INDEX) return WP_FIND_NOTHING;
        *looked = i + 1;
        if (i >= view->slot_count) {
            wp_taskset_remove(set, i);
            continue;
        }
        struct wp_slot *slot = &view->slots[i];
        enum wp_claim claim = wp_slot_claim(slot, WP_NO_HANDLE, view->self);
        wp_taskset_remove(set, i);
        if (claim == WP_CLAIM_OK) {
            *index = i;
            return WP_FIND_OK;
        }
        // The bit may have been meant for a later use of the slot, which came
        // between our look and the removal: read again, and put it back.
        // sync taskset.leaf (observe): see wp_taskset_remove.
        uint64_t state = wp_load_acquire(&slot->state);
        // relaxed: ordered by the state; a task bound to others is in their mailbox.
        if (wp_state_phase(state) == WP_PHASE_READY && wp_slot_may_claim(wp_load_relaxed(&slot->target), view->self))
            wp_taskset_add(set, i);
        wp_stats_add(&wp_view_self(view)->seat->stats, WP_STAT_HINTS_STALE, 1);
    }
    return WP_FIND_BUSY;
}

// The newest of the own deque.
static inline enum wp_find wp_search_own(struct wp_view *view, uint32_t *index) {
    const struct wp_deque *deque = &wp_view_self(view)->deque;
    wp_handle handle;
    // Never more than it has room for: a scribbled end may be an age away.
    for (int64_t left = deque->capacity; wp_deque_pop(deque, &handle); left--) {
        if (wp_search_claim(view, handle, index)) return WP_FIND_OK;
        if (left == 0) return WP_FIND_BUSY;
    }
    return WP_FIND_NOTHING;
}

// The oldest of a victim's deque, and up to `most` - 1 more hints onto the own deque,
// so that the oldest is run first. A batch is several single steals.
//
// Crash:    hints in hand are lost: recovery finds their slots READY.
static inline enum wp_find wp_search_steal(struct wp_view *view, uint32_t victim, uint32_t most, uint32_t *index) {
    struct wp_place *self = wp_view_self(view);
    const struct wp_deque *deque = &view->places[victim].deque;
    int64_t share = wp_deque_size(deque) / (int64_t)view->seats + 1;
    wp_handle hand[WP_STEAL_BATCH];
    uint32_t held = 0, limit = share < (int64_t)most ? (uint32_t)share : most;
    enum wp_steal last = WP_STEAL_OK;
    while (held < limit && (last = wp_deque_steal(deque, &hand[held])) == WP_STEAL_OK) held++;
    if (last == WP_STEAL_LOST) wp_stats_add(&self->seat->stats, WP_STAT_STEALS_LOST, 1);
    if (held == 0) return last == WP_STEAL_LOST ? WP_FIND_BUSY : WP_FIND_NOTHING;
    bool batch = held > 1;
    while (held > 1) {
        held--;
        uint32_t slot = wp_handle_index(hand[held]);
        if (!wp_deque_push(&self->deque, hand[held]) && slot < view->slot_count) wp_taskset_add(&view->orphans, slot);
    }
    // While they were in hand nobody saw them, and whoever looked may sleep by now.
    if (batch) wp_wake_one(view);
    return wp_search_claim(view, hand[0], index) ? WP_FIND_OK : WP_FIND_BUSY;
}

static inline enum wp_find wp_search_parent(struct wp_view *view, uint32_t *index) {
    return wp_search_steal(view, WP_PARENT_SEAT, WP_STEAL_BATCH, index);
}

static inline enum wp_find wp_search_mailbox(struct wp_view *view, uint32_t seat, enum wp_strength strength,
                                             uint32_t *index) {
    uint32_t m = wp_mailbox_of(strength);
    return wp_search_set(view, &view->places[seat].mailbox[m], &view->looked[m], index);
}

// Claim out of a light set: where costs are known, the longest of the next few.
static inline enum wp_find wp_search_light(struct wp_view *view, uint32_t seat, uint32_t *index) {
    const struct wp_taskset *set = &view->places[seat].mailbox[wp_mailbox_of(WP_STRENGTH_LIGHT)];
    uint32_t *looked = &view->looked[wp_mailbox_of(WP_STRENGTH_LIGHT)];
    uint32_t first = wp_taskset_find(set, *looked), longest = first, most_us = 0;
    if (first == WP_NO_INDEX) return WP_FIND_NOTHING;
    for (uint32_t looks = 0, i = first; looks < WP_LONGEST_LOOKS && i < view->slot_count; looks++) {
        uint32_t cost_us = wp_load_relaxed(&view->slots[i].cost_us); // relaxed: a look; the claim decides
        if (cost_us > most_us) most_us = cost_us, longest = i;
        if (most_us == 0) break; // costs are not known
        uint32_t next = wp_taskset_find(set, i + 1);
        if (next == WP_NO_INDEX || next == first) break;
        i = next;
    }
    if (longest == first) return wp_search_set(view, set, looked, index);
    uint32_t from = longest; // the others keep their turn
    return wp_search_set(view, set, &from, index);
}

// Claim a task of one of the priorities in `levels`, highest first.
static inline enum wp_find wp_search_levels(struct wp_view *view, uint64_t levels, uint32_t *index) {
    // relaxed: a bit that comes later is seen by the next round, or by the re-check.
    uint64_t used = wp_load_relaxed(&view->idle->levels) & levels;
    enum wp_find outcome = WP_FIND_NOTHING;
    while (used != 0) {
        uint32_t level = 63 - (uint32_t)__builtin_clzll(used);
        used &= ~(UINT64_C(1) << level);
        enum wp_find found = wp_search_set(view, &view->level[level], &view->looked_level[level], index);
        if (found == WP_FIND_OK) return WP_FIND_OK;
        if (found == WP_FIND_BUSY) outcome = WP_FIND_BUSY;
    }
    return outcome;
}
#define WP_LEVELS_ALL ((UINT64_C(1) << WP_LEVELS) - 1)
#define WP_LEVELS_HIGH (WP_LEVELS_ALL << (1 - WP_PRIORITY_MIN) & WP_LEVELS_ALL)

// Claim a strong task of a seat that is dead, retires, is stuck, or has far too many.
//
// Caller:   a worker that found nothing else in this round, and in one before.
static inline enum wp_find wp_search_strong(struct wp_view *view, uint32_t *index) {
    enum wp_find outcome = WP_FIND_NOTHING;
    int64_t now_ns = 0;
    for (uint32_t seat = 1; seat < view->seats; seat++) {
        int64_t due_ns = seat == view->self ? WP_NEVER : wp_strong_due_ns(view, seat);
        if (due_ns == WP_NEVER) continue;
        if (now_ns == 0) now_ns = wp_os_now_ns();
        if (due_ns > now_ns) {
            // Not stuck, but it will be at it for long, and we have waited as long as for one that is.
            if (now_ns - view->hungry_ns < wp_strong_patience_ns(view, seat)) continue;
            const struct wp_taskset *strong = &view->places[seat].mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)];
            if (!wp_taskset_holds(strong, WP_STRONG_MANY)) continue;
        }
        enum wp_find found = wp_search_mailbox(view, seat, WP_STRENGTH_STRONG, index);
        if (found == WP_FIND_OK) wp_stats_add(&wp_view_self(view)->seat->stats, WP_STAT_STEALS, 1);
        if (found == WP_FIND_OK) return WP_FIND_OK;
        if (found == WP_FIND_BUSY) outcome = WP_FIND_BUSY;
    }
    return outcome;
}

static inline uint32_t wp_search_random(struct wp_view *view, uint32_t below) {
    uint32_t x = view->random; // xorshift32, Marsaglia 2003
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    view->random = x;
    return (uint32_t)((uint64_t)x * below >> 32);
}

static inline enum wp_find wp_search_victims(struct wp_view *view, uint32_t *index) {
    enum wp_find outcome = WP_FIND_NOTHING;
    uint32_t workers = view->seats - 1, start = wp_search_random(view, workers);
    for (uint32_t n = 0; n < workers; n++) {
        uint32_t victim = 1 + (start + n) % workers;
        if (victim == view->self) continue;
        enum wp_find found = wp_search_light(view, victim, index);
        if (found != WP_FIND_OK) found = wp_search_steal(view, victim, WP_STEAL_BATCH / 2, index);
        if (found == WP_FIND_OK) {
            wp_stats_add(&wp_view_self(view)->seat->stats, WP_STAT_STEALS, 1);
            return WP_FIND_OK;
        }
        if (found == WP_FIND_BUSY) outcome = WP_FIND_BUSY;
    }
    return outcome;
}

// One round of looking everywhere. On WP_FIND_OK the task is claimed for this seat.
//
// Caller:   the worker.
// Progress: lock-free; every look is one attempt.
static inline enum wp_find wp_search_round(struct wp_view *view, uint32_t *index) {
    enum wp_find outcome = WP_FIND_NOTHING, found;
#define WP_TRY(look)                                                                                                   \
    do {                                                                                                               \
        found = (look);                                                                                                \
        if (found == WP_FIND_OK) goto ok;                                                                              \
        if (found == WP_FIND_BUSY) outcome = WP_FIND_BUSY;                                                             \
    } while (0)
    bool fair = ++view->round % WP_FAIR_ROUND == 0;
    if (fair) WP_TRY(wp_search_parent(view, index));
    WP_TRY(wp_search_mailbox(view, view->self, WP_STRENGTH_FORCE, index));
    if (!fair) WP_TRY(wp_search_levels(view, WP_LEVELS_HIGH, index));
    WP_TRY(wp_search_mailbox(view, view->self, WP_STRENGTH_STRONG, index));
    WP_TRY(wp_search_own(view, index));
    WP_TRY(wp_search_light(view, view->self, index));
    WP_TRY(wp_search_parent(view, index));
    WP_TRY(wp_search_set(view, &view->orphans, &view->looked[WP_MAILBOXES], index));
    WP_TRY(wp_search_victims(view, index));
    WP_TRY(wp_search_levels(view, WP_LEVELS_ALL, index));
    if (view->hungry_ns == 0) {
        view->hungry_ns = wp_os_now_ns();
        return outcome;
    }
    WP_TRY(wp_search_strong(view, index));
#undef WP_TRY
    return outcome;
ok:
    view->hungry_ns = 0;
    return WP_FIND_OK;
}

enum wp_next {
    WP_NEXT_TASK,    // *index is claimed for this seat
    WP_NEXT_NOTHING, // nothing now; or the time is up
    WP_NEXT_HARVEST, // this home's own tasks have outcomes
    WP_NEXT_SIGNAL,  // interrupted
    WP_NEXT_STOP,    // the parent wants this seat to end
    WP_NEXT_MESSAGE, // messages are to be handled; the next look passes over them once
};

// A seat that retires runs what is bound to it alone, and leaves the rest to others.
static inline enum wp_next wp_next_retiring(struct wp_view *view, uint32_t *index) {
    enum wp_find found = wp_search_mailbox(view, view->self, WP_STRENGTH_FORCE, index);
    return found == WP_FIND_OK ? WP_NEXT_TASK : found == WP_FIND_BUSY ? WP_NEXT_NOTHING : WP_NEXT_STOP;
}

// Look once, without waiting.
static inline enum wp_next wp_next_now(struct wp_view *view, uint32_t *index) {
    // relaxed: a flag; a seat that parks re-checks it after its fence.
    uint32_t stop = wp_load_relaxed(&wp_view_self(view)->seat->stop);
    if (stop == WP_STOP_NOW) return WP_NEXT_STOP;
    if (!wp_taskset_is_empty(&wp_view_self(view)->completions)) return WP_NEXT_HARVEST;
    // Turn and turn about: a flood of messages does not hold up tasks, nor tasks messages.
    view->heard = !view->heard && wp_seat_has_message(view);
    if (view->heard) return WP_NEXT_MESSAGE;
    if (stop == WP_STOP_RETIRE) return wp_next_retiring(view, index);
    enum wp_find found = wp_search_round(view, index);
    if (found == WP_FIND_OK) return WP_NEXT_TASK;
    if (wp_seat_has_message(view)) return WP_NEXT_MESSAGE;
    return stop == WP_STOP_DRAINED && found == WP_FIND_NOTHING ? WP_NEXT_STOP : WP_NEXT_NOTHING;
}

// Look, spin, park, until there is something.
//
// Caller:   the worker, without the GIL.
static inline enum wp_next wp_next_wait(struct wp_view *view, uint32_t *index, int64_t timeout_ns) {
    enum wp_next next;
    wp_search_begin(view);
    for (;;) {
        int64_t begun_ns = wp_os_now_ns();
        for (int64_t spun_ns = 0;;) {
            next = wp_next_now(view, index);
            if (next != WP_NEXT_NOTHING) {
                if (spun_ns > 0) wp_spin_adapt(view, true, spun_ns);
                // relaxed: a look for others; it is not stuck in what came before its sleep.
                wp_store_relaxed(&wp_view_self(view)->seat->since_ns, (uint64_t)begun_ns);
                wp_search_end(view);
                return next;
            }
            spun_ns = wp_os_now_ns() - begun_ns;
            if (spun_ns >= view->spin_ns) break;
            wp_spin_pause(view, spun_ns);
        }
        wp_spin_adapt(view, false, 0);
        if (!wp_park_arm(view, WP_PARKER_FUTEX)) continue;
        int64_t left_ns = wp_watch_left_ns(view, timeout_ns);
        enum wp_wait slept = wp_park_sleep(view, left_ns);
        wp_park_disarm(view);
        if (slept == WP_WAIT_WOKEN || (slept == WP_WAIT_TIMEOUT && left_ns != timeout_ns)) continue;
        wp_search_end(view);
        return slept == WP_WAIT_SIGNAL ? WP_NEXT_SIGNAL : WP_NEXT_NOTHING;
    }
}

// The task's outcome is written: settle it and tell its home.
//
// Caller:   the owner.
// Crash:    see wp_slot_finish; after it, recovery repeats the bit and the wake.
static inline void wp_finish(struct wp_view *view, uint32_t index, enum wp_outcome outcome) {
    struct wp_slot *slot = &view->slots[index];
    uint32_t home = wp_view_home(view, index);
    struct wp_place *place = &view->places[home];
    // relaxed: this seat's own task until the next line.
    wp_handle handle = wp_handle_of(index, wp_state_generation(wp_load_relaxed(&slot->state)));
    wp_slot_finish(slot, outcome);
    wp_taskset_add(&place->completions, index - place->first_slot);
    if (home != view->self) wp_notify_home(view, home, handle);
}

#endif
