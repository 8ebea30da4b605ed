// wp_help.h — waiting inside a task: helping instead of blocking.
//
// Layer 6. Source: this project; stealing back from the thief is Wagner and Calder,
// "Leapfrogging", PPoPP 1993.
//
//   the awaited task itself -> own mailboxes -> own deque above the mark
//     -> tasks descended from the awaited one, wherever they are -> sleep
//
// The mark is where the deque's bottom was when the waiting task began: what lies
// above was submitted by it or for it. Unrelated work is never started under a waiting
// frame: it might wait for a lock that the frame below holds, and the stack had no bound.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_HELP_H
#define WP_HELP_H

#include "wp_cancel.h"
#include "wp_home.h"
#include "wp_search.h"

// Entries of each deque that are looked through: helping is a chance, the awaited task's
// owner is the proof.
#define WP_DESCENT_ENTRIES 8

// Where the own deque ends now.
static inline int64_t wp_help_mark(struct wp_view *view) {
    // relaxed: bottom is written by this process alone.
    return (int64_t)wp_load_relaxed(&wp_view_self(view)->deque.ends->bottom);
}

// Claim a descendant of `ancestor` from near the top of any deque. Its hint stays
// where it is: stale, like any other.
static inline bool wp_help_related(struct wp_view *view, wp_handle ancestor, uint32_t *index) {
    if (ancestor == WP_NO_HANDLE) return false;
    for (uint32_t seat = 1; seat < view->seats; seat++) {
        const struct wp_deque *deque = &view->places[seat].deque;
        int64_t entries = wp_deque_size(deque);
        // relaxed: a look; the claim decides.
        int64_t top = (int64_t)wp_load_relaxed(&deque->ends->top);
        if (entries > WP_DESCENT_ENTRIES) entries = WP_DESCENT_ENTRIES;
        for (int64_t i = top; i < top + entries; i++) {
            wp_handle handle = wp_load_relaxed(wp_deque_entry(deque, i)); // relaxed: as above
            uint32_t slot = wp_handle_index(handle);
            if (slot < view->slot_count && wp_slot_descends(view, slot, ancestor) &&
                wp_search_claim(view, handle, index))
                return true;
        }
    }
    return false;
}

// Drop void hints from the bottom of the own deque, down to the mark: those of tasks
// that were claimed by name.
static inline void wp_help_trim(struct wp_view *view, int64_t mark) {
    const struct wp_deque *deque = &wp_view_self(view)->deque;
    wp_handle handle;
    int64_t looks = deque->capacity; // as in wp_help_own
    for (int64_t bottom; (bottom = wp_help_mark(view)) > mark && looks > 0; looks--) {
        handle = wp_load_relaxed(wp_deque_entry(deque, bottom - 1)); // relaxed: written by this process
        uint32_t index = wp_handle_index(handle);
        // relaxed: READY can only have ended since; then the hint goes next time.
        uint64_t state = index < view->slot_count ? wp_load_relaxed(&view->slots[index].state) : 0;
        if (wp_state_phase(state) == WP_PHASE_READY && wp_state_generation(state) == wp_handle_generation(handle))
            return;
        if (!wp_deque_pop(deque, &handle)) return;
    }
}

// The newest of the own deque above the mark.
static inline bool wp_help_own(struct wp_view *view, int64_t mark, uint32_t *index) {
    const struct wp_deque *deque = &wp_view_self(view)->deque;
    wp_handle handle;
    // At most what there is room for: the ends may be scribbled on.
    for (int64_t looks = 0; looks < deque->capacity && wp_help_mark(view) > mark; looks++) {
        if (!wp_deque_pop(deque, &handle)) return false;
        if (wp_search_claim(view, handle, index)) return true;
    }
    return false;
}

// Look once for something to run under a waiting frame.
//
// Caller:   the worker, which awaits `awaited` (WP_NO_HANDLE: any completion) in a
//           task that began at `mark`.
static inline bool wp_help_now(struct wp_view *view, wp_handle awaited, wp_handle ancestor, int64_t mark,
                               uint32_t *index) {
    if (awaited != WP_NO_HANDLE && wp_search_claim(view, awaited, index)) return true;
    for (uint32_t strength = WP_STRENGTH_FORCE; strength >= WP_STRENGTH_LIGHT; strength--)
        if (wp_search_mailbox(view, view->self, (enum wp_strength)strength, index) == WP_FIND_OK) return true;
    return wp_help_own(view, mark, index) || wp_help_related(view, ancestor, index);
}

// Would somebody take a part of what this task has left to do? A look, for ranges that
// are split only then.
//
// Caller:   the worker, in a task. While a task in its own deque waits, nobody was hungry enough.
static inline bool wp_help_is_wanted(struct wp_view *view) {
    if (wp_deque_size(&wp_view_self(view)->deque) > 0) {
        wp_help_trim(view, INT64_MIN); // void hints, of tasks that were claimed by name
        if (wp_deque_size(&wp_view_self(view)->deque) > 0) return false;
    }
    if (wp_idle_any(view->idle->idle)) return true;
    for (uint32_t seat = 1; seat < view->seats; seat++) {
        if (seat == view->self) continue;
        if (wp_idle_has(view->idle->searching, seat)) return true;
        // relaxed: a look. Armed but not idle is a seat that waits inside a task.
        if (wp_load_relaxed(&view->places[seat].seat->parker) & WP_PARKER_ARMED) return true;
    }
    return false;
}

// Wake who waits inside a task: what was just submitted may be a part of what it waits for.
static inline void wp_help_call(struct wp_view *view) {
    wp_fence_seq_cst(); // sync wake.work (publish): F1
    for (uint32_t seat = 1; seat < view->seats; seat++)
        // sync parker.armed (observe)
        if (seat != view->self && (wp_load_acquire(&view->places[seat].seat->parker) & WP_PARKER_ARMED) &&
            !wp_idle_has(view->idle->idle, seat))
            wp_unpark(view, seat);
}

// Help, spin, sleep, until the awaited task is settled.
//
// Caller:   the worker, without the GIL; it runs what is claimed and comes back.
// Returns:  WP_NEXT_TASK, WP_NEXT_HARVEST (settled), WP_NEXT_NOTHING (time is up),
//           WP_NEXT_SIGNAL.
static inline enum wp_next wp_help_wait(struct wp_view *view, wp_handle awaited, wp_handle ancestor, int64_t mark,
                                        uint32_t *index, int64_t timeout_ns) {
    struct wp_seat *seat = wp_view_self(view)->seat;
    int64_t begun_ns = wp_os_now_ns(), spun_ns = 0;
    for (;; spun_ns = wp_os_now_ns() - begun_ns) {
        if (wp_home_is_served(view, awaited)) return WP_NEXT_HARVEST;
        if (wp_help_now(view, awaited, ancestor, mark, index)) return WP_NEXT_TASK;
        if (spun_ns >= view->spin_ns) break;
        if (timeout_ns >= 0 && spun_ns >= timeout_ns) return WP_NEXT_NOTHING;
        wp_spin_pause(view, spun_ns);
    }
    // As wp_home_wait, a token from before stays; not idle, for it takes no work of others.
    // A task bound to this seat wakes it all the same, because it is armed.
    wp_store_relaxed(&seat->awaited, awaited);     // relaxed: published by the or below
    wp_or_acq_rel(&seat->parker, WP_PARKER_FUTEX); // sync parker.armed (publish)
    wp_fence_seq_cst();                            // sync wake.completion (observe): F2
    enum wp_next next = WP_NEXT_NOTHING;
    if (wp_home_is_served_now(view, awaited))
        next = WP_NEXT_HARVEST;
    else if (wp_help_now(view, awaited, ancestor, mark, index))
        next = WP_NEXT_TASK;
    else if (wp_park_sleep(view, timeout_ns) == WP_WAIT_SIGNAL)
        next = WP_NEXT_SIGNAL;
    // sync parker.token (observe): an armed eventfd stays armed.
    wp_and_acq_rel(&seat->parker, ~(WP_PARKER_TOKEN | WP_PARKER_FUTEX));
    if (next == WP_NEXT_NOTHING && wp_home_is_served(view, awaited)) next = WP_NEXT_HARVEST;
    return next;
}

#endif
