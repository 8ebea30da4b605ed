// wp_look.h — a pool as somebody sees it who is no part of it.
//
// Layer 4. Source: this project. Nothing is changed: the mapping may be read-only. What is
// read may be a few microseconds apart, and wrong where somebody scribbled.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_LOOK_H
#define WP_LOOK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_segment.h"
#include "wp_slot.h"
#include "wp_stats.h"
#include "wp_view.h"

// A view for looking alone: of no seat, and without the arena's memory.
//
// Caller:   any process that maps the control segment's `bytes` bytes at `base`, read-only
//           or not; it hands the view to the functions here and to those that count
//           (wp_usage_read, wp_count_phases), then to wp_view_close.
// Returns:  as wp_view_open.
static inline enum wp_segment_check wp_look_open(struct wp_view *view, uint8_t *base, uint64_t bytes) {
    return wp_view_open(view, base, bytes, NULL, UINT64_MAX, -1, WP_PARENT_SEAT);
}

// What can be seen of a seat. Of the parent's, only what waits there.
struct wp_look {
    uint32_t pid; // 0: nobody sits there
    uint32_t stop;
    bool due;   // a process is about to be started
    bool ready; // its start hook has run
    bool runs;  // a task
    int64_t since_ns;
    uint64_t mean_ns;  // what its tasks take; 0: none was run
    uint32_t queued;   // READY tasks bound to it, and those of its own that are bound to nobody
    uint32_t unknown;  // those of them whose cost nobody estimated
    uint64_t known_us; // the estimates of the others, summed
};

// Look at every seat and every slot; `looks` has room for WP_MAX_SEATS.
static inline void wp_look_at(const struct wp_view *view, struct wp_look *looks) {
    memset(looks, 0, view->seats * sizeof *looks);
    for (uint32_t s = 0; s < view->seats; s++) {
        struct wp_seat *seat = view->places[s].seat;
        struct wp_look *look = &looks[s];
        uint64_t life = wp_load_relaxed(&seat->life); // relaxed: a snapshot, as all that follows
        look->pid = wp_life_is_taken(life) ? wp_life_pid(life) : 0;
        look->due = !wp_life_is_taken(life) && !wp_life_is_empty(life);
        look->stop = wp_load_relaxed(&seat->stop); // relaxed: a snapshot
        // relaxed: a snapshot; nothing is concluded from what the start hook wrote.
        look->ready = look->pid != 0 && wp_load_relaxed(&seat->ready) == wp_life_incarnation(life);
        look->runs = look->ready && wp_load_relaxed(&seat->current) != WP_NO_HANDLE; // relaxed: a snapshot
        look->since_ns = (int64_t)wp_load_relaxed(&seat->since_ns);                  // relaxed: a snapshot
        look->mean_ns = wp_load_relaxed(&seat->mean_ns);                             // relaxed: a snapshot
    }
    for (uint32_t i = 0; i < view->slot_count; i++) {
        struct wp_slot *slot = &view->slots[i];
        // relaxed: a snapshot.
        if (wp_state_phase(wp_load_relaxed(&slot->state)) != WP_PHASE_READY) continue;
        uint32_t target = wp_load_relaxed(&slot->target); // relaxed: a snapshot
        bool bound = wp_target_strength(target) != WP_STRENGTH_NONE && wp_target_seat(target) < view->seats;
        struct wp_look *look = &looks[bound ? wp_target_seat(target) : wp_view_home(view, i)];
        uint32_t cost_us = wp_load_relaxed(&slot->cost_us); // relaxed: a snapshot
        look->queued++;
        look->unknown += cost_us == 0;
        look->known_us += cost_us;
    }
}

#endif
