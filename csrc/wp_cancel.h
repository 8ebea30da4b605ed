// wp_cancel.h — what is asked of tasks that run, and which have overrun.
//
// Layer 5. Source: this project.
//
//   ask:     a flag in the slot's cancel word, by CAS from the exact word, so that it can
//            reach no other use of the slot; then the owner's process is signalled, which
//            looks at the flags of its own tasks. A signal is a hint, as in a queue.
//   condemn: WP_CANCEL_KILL, refused once the owner has left the task; an owner that
//            finds it as it leaves waits for its death. So a process is killed in the
//            task that it is killed for, and in no later one.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_CANCEL_H
#define WP_CANCEL_H

#include "wp_wake.h"

// Generations of tasks between one and its ancestor that are looked through.
#define WP_DESCENT_DEPTH 64

// Is the task in `index` a descendant of `ancestor`, which is unfinished?
//
// Caller:   any process. A racy look: parents of a finished task may be read, then
//           the generation differs. Being wrong costs order, not correctness.
static inline bool wp_slot_descends(struct wp_view *view, uint32_t index, wp_handle ancestor) {
    for (uint32_t depth = 0; depth < WP_DESCENT_DEPTH; depth++) {
        // relaxed: a look, see above.
        wp_handle parent = wp_load_relaxed(&view->slots[index].parent);
        if (parent == ancestor) return true;
        index = wp_handle_index(parent);
        if (parent == WP_NO_HANDLE || index >= view->slot_count) return false;
        // relaxed: as above.
        if (wp_state_generation(wp_load_relaxed(&view->slots[index].state)) != wp_handle_generation(parent))
            return false;
    }
    return false;
}

// Cancel what waits of a task's descendants, and ask the others.
//
// Caller:   any process. Descendants that are submitted meanwhile may be missed: the
//           worker that leaves a cancelled task does it again.
// Crash:    between the CAS and the completion bit: recovery gives every DONE slot one.
// Returns:  how many will never run.
static inline uint32_t wp_cancel_descendants(struct wp_view *view, wp_handle ancestor, uint32_t flags) {
    uint32_t cancelled = 0;
    for (uint32_t index = 0; index < view->slot_count; index++) {
        struct wp_slot *slot = &view->slots[index];
        // sync slot.ready (observe): the parent read below is this use's, or the CAS fails.
        uint64_t state = wp_load_acquire(&slot->state);
        enum wp_phase phase = wp_state_phase(state);
        if (phase < WP_PHASE_READY || phase > WP_PHASE_RUNNING || !wp_slot_descends(view, index, ancestor)) continue;
        wp_handle handle = wp_handle_of(index, wp_state_generation(state));
        wp_slot_ask(slot, handle, flags);
        if (phase != WP_PHASE_READY || !wp_slot_cancel(slot, handle)) continue;
        uint32_t home = wp_view_home(view, index);
        wp_taskset_add(&view->places[home].completions, index - view->places[home].first_slot);
        if (home != view->self) wp_notify_home(view, home, handle);
        cancelled++;
    }
    return cancelled;
}

// A task of which something was asked, and that somebody has in hand.
struct wp_late {
    wp_handle handle;
    uint32_t seat;
    uint32_t flags;
};

// Look, from slot *at on, for the next task of which something was asked, and tell those
// whose time is up.
//
// Caller:   the parent.
// Returns:  false: there is none up to the last slot; *due_ns is then the first time at
//           which another could be late. A task that has not begun is thought to begin now.
static inline bool wp_late_next(struct wp_view *view, uint32_t *at, int64_t now_ns, int64_t *due_ns,
                                struct wp_late *late) {
    while (*at < view->slot_count) {
        uint32_t index = (*at)++;
        struct wp_slot *slot = &view->slots[index];
        // sync slot.entered (observe): the deadline read below is this attempt's, or the ask fails.
        uint64_t state = wp_load_acquire(&slot->state);
        enum wp_phase phase = wp_state_phase(state);
        if (phase < WP_PHASE_READY || phase > WP_PHASE_RUNNING) continue;
        wp_handle handle = wp_handle_of(index, wp_state_generation(state));
        // relaxed: as above.
        int64_t deadline_ns = (int64_t)wp_load_relaxed(&slot->deadline_ns);
        if (deadline_ns != 0) {
            int64_t ends_ns = deadline_ns < 0 ? now_ns - deadline_ns : deadline_ns;
            if (phase == WP_PHASE_RUNNING && ends_ns <= now_ns)
                wp_slot_ask(slot, handle, WP_CANCEL_TIME);
            else if (ends_ns < *due_ns)
                *due_ns = ends_ns > now_ns ? ends_ns : now_ns + 10000000; // entered this instant
        }
        if (phase == WP_PHASE_READY) continue;
        uint32_t flags = wp_slot_asked(slot);
        if (flags == 0 || (flags & WP_CANCEL_ENDED)) continue;
        late->handle = handle;
        late->seat = wp_state_owner(state);
        late->flags = flags;
        return true;
    }
    return false;
}

// Is the task that `seat` runs on top of its stack another one, and none of the task's own? A look.
static inline bool wp_runs_another(struct wp_view *view, uint32_t seat, wp_handle handle) {
    // relaxed: a look, both.
    uint64_t current = wp_load_relaxed(&view->places[seat].seat->current);
    uint32_t index = wp_handle_index(current);
    if (current == WP_NO_HANDLE || index >= view->slot_count || index == wp_handle_index(handle)) return false;
    uint64_t state = wp_load_relaxed(&view->slots[index].state); // relaxed: as above
    return wp_state_phase(state) == WP_PHASE_RUNNING && wp_state_owner(state) == seat &&
           !wp_slot_descends(view, index, handle);
}

#endif
