// wp_view.h — where everything lies in the control segment, as one seat sees it.
//
// Layer 3. Source: this project.
//
//   | head | idle | mail | orphans, levels | seats | per seat: deque, mailboxes, completions, lanes | arena | slots |
//
// The places follow from five numbers of the head alone; a process reads them
// once, checks them, and keeps pointers and bounds in private memory, so that no
// scribbled word of the segment can lead it out of bounds later.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_VIEW_H
#define WP_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wp_arena.h"
#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_deque.h"
#include "wp_idle.h"
#include "wp_lane.h"
#include "wp_segment.h"
#include "wp_slot.h"
#include "wp_stats.h"
#include "wp_taskset.h"

enum wp_stop {
    WP_STOP_NO,
    WP_STOP_DRAINED, // end when nothing is left to be found
    WP_STOP_NOW,     // end after the task in hand
    WP_STOP_RETIRE,  // end when nothing is left that only this seat may run
};

enum wp_life {
    WP_LIFE_EMPTY, // nobody, or a proven dead process that is recovered
    WP_LIFE_TAKEN, // a process was started for it
    WP_LIFE_DUE,   // a process is about to be started for it
};

// In the segment, one for each seat.
//
//   parker    any process swaps a token in; the seat itself arms and clears it
//   awaited   the seat: the one handle it sleeps for, or WP_NO_HANDLE for any
//   life      the parent: pid << 32 | incarnation << 8 | enum wp_life
//   stop      the parent
//   ready     the seat: the incarnation whose start hook has run
//   current   the seat: the handle it runs; a look for others
//   since_ns  the seat: when it entered or left a task, or awoke, last; the parent:
//             when it began to start a process for the seat
//   mean_ns   the seat: what its tasks take, smoothed; 0: none was run
//   watch_ns  the seat: until when it sleeps at most, while it is the watcher
struct wp_seat {
    wp_atomic32 parker;
    uint32_t reserved;
    wp_atomic64 awaited;
    uint8_t pad0[WP_CACHE_LINE - 16];
    wp_atomic64 life;
    wp_atomic32 stop;
    wp_atomic32 ready;
    wp_atomic64 current;
    wp_atomic64 since_ns;
    wp_atomic64 mean_ns;
    wp_atomic64 watch_ns;
    uint8_t pad1[WP_CACHE_LINE - 48];
    struct wp_stats stats;
};

_Static_assert(sizeof(struct wp_seat) == 4 * WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

// In the segment, once: what the parent needs to know of the lanes.
//
//   posted   a bit for each seat that has posted since the parent last read its lane;
//            set by the seat, cleared by the parent
//   listens  the parent: somebody there wants messages
struct wp_mail {
    wp_atomic64 posted[WP_SEAT_WORDS];
    wp_atomic32 listens;
    uint8_t pad[WP_CACHE_LINE - 8 * WP_SEAT_WORDS - 4];
};

_Static_assert(sizeof(struct wp_mail) == WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");
_Static_assert(WP_LANE_BYTES >= WP_CACHE_LINE && (WP_LANE_BYTES & (WP_LANE_BYTES - 1)) == 0, "positions wrap");

static inline uint64_t wp_life_of(uint32_t pid, uint32_t incarnation, enum wp_life life) {
    return (uint64_t)pid << 32 | (uint64_t)(incarnation & 0xffffff) << 8 | (uint64_t)life;
}
static inline uint32_t wp_life_pid(uint64_t life) { return (uint32_t)(life >> 32); }
static inline uint32_t wp_life_incarnation(uint64_t life) { return (uint32_t)(life >> 8 & 0xffffff); }
static inline bool wp_life_is_taken(uint64_t life) { return (life & 0xff) == WP_LIFE_TAKEN; }
static inline bool wp_life_is_empty(uint64_t life) { return (life & 0xff) == WP_LIFE_EMPTY; }

// The three mailboxes of a seat, by the strength that binds a task to it.
#define WP_MAILBOXES 3u
static inline uint32_t wp_mailbox_of(enum wp_strength strength) { return (uint32_t)strength - WP_STRENGTH_LIGHT; }

// Process-private: one seat's structures.
struct wp_place {
    struct wp_seat *seat;
    struct wp_deque deque;
    struct wp_taskset mailbox[WP_MAILBOXES]; // over all slots
    struct wp_taskset completions;           // over its own slots, from first_slot on
    struct wp_lane to_seat, to_parent;       // messages; none for the parent itself
    uint32_t first_slot;
    uint32_t slots;
    int eventfd; // signalled for WP_PARKER_EVENTFD; -1: none
};

// Process-private: the pool as the process in `self` sees it.
struct wp_view {
    struct wp_segment *head;
    struct wp_idle *idle;
    struct wp_mail *mail;
    struct wp_slot *slots;
    struct wp_place *places;
    struct wp_taskset orphans;
    struct wp_taskset level[WP_LEVELS]; // by priority, lowest first
    struct wp_arena *arena_head;
    struct wp_arena_view arena;
    uint32_t self;
    uint32_t seats;
    uint32_t slot_count;
    bool polls;
    uint32_t cpus;

    // The home's free slots, a ring: slots are reused as late as possible, so the
    // order in a task set is near that of submission.
    uint32_t *free_ring;
    uint64_t free_head; // out
    uint64_t free_tail; // in

    uint32_t round;                    // searches so far
    uint32_t random;                   // state of xorshift32, for victims
    uint32_t looked[WP_MAILBOXES + 2]; // last index taken: mailboxes, orphans, completions
    uint32_t looked_level[WP_LEVELS];
    int64_t hungry_ns; // since when it finds nothing; 0: it found something
    int64_t watch_ns;  // deadline of its sleep, as the watcher; WP_NEVER: none
    bool watches;      // it was the watcher, and has not seen to another yet
    int64_t spin_ns;   // how long this seat looks before it parks, adapted
    int64_t spin_max_ns;
    int64_t wait_low_ns;  // how long the home waits for one task, at best
    int32_t wait_hits;    // how often such an end is near that, of WP_EARLY_SURE
    uint64_t taken;       // completions that the home took so far
    uint64_t asked_taken; // the same when it last asked whether it may rest
    int64_t asked_ns;
    wp_atomic32 unheard; // messages read from the lane and not handled yet
    bool heard;          // the last look answered that there is a message
    bool spin_hot;       // the last wait was short: the other side runs on another CPU
};

// What the head says before the arena's own numbers.
struct wp_shape {
    uint32_t seats;
    uint32_t parent_slots;
    uint32_t worker_slots;
    uint64_t arena_bytes; // the arena's budget
};

static inline uint32_t wp_shape_slots(const struct wp_shape *shape) {
    return shape->parent_slots + (shape->seats - 1) * shape->worker_slots;
}
static inline uint64_t wp_shape_deque(uint32_t slots) {
    uint64_t capacity = 64; // room for stale hints and stolen batches beside the seat's own
    while (capacity < 2 * (uint64_t)slots) capacity *= 2;
    return capacity;
}

// Walk the layout; with a view, note where things are. Returns the bytes it takes.
static inline uint64_t wp_view_lay(struct wp_view *view, uint8_t *base, const struct wp_shape *shape) {
    uint64_t end = 0;
    uint32_t slots = wp_shape_slots(shape);
    uint64_t head = wp_segment_carve(&end, sizeof(struct wp_segment));
    uint64_t idle = wp_segment_carve(&end, sizeof(struct wp_idle));
    uint64_t mail = wp_segment_carve(&end, sizeof(struct wp_mail));
    uint64_t orphans = wp_segment_carve(&end, wp_taskset_bytes(slots)), level[WP_LEVELS];
    for (uint32_t n = 0; n < WP_LEVELS; n++) level[n] = wp_segment_carve(&end, wp_taskset_bytes(slots));
    uint64_t seats = wp_segment_carve(&end, shape->seats * sizeof(struct wp_seat));
    for (uint32_t s = 0; s < shape->seats; s++) {
        uint32_t own = s == WP_PARENT_SEAT ? shape->parent_slots : shape->worker_slots;
        uint64_t capacity = wp_shape_deque(own);
        uint64_t deque = wp_segment_carve(&end, wp_deque_bytes(capacity));
        uint64_t mailbox[WP_MAILBOXES];
        for (uint32_t m = 0; m < WP_MAILBOXES; m++) mailbox[m] = wp_segment_carve(&end, wp_taskset_bytes(slots));
        uint64_t completions = wp_segment_carve(&end, wp_taskset_bytes(own));
        uint64_t lanes = s == WP_PARENT_SEAT ? 0 : wp_segment_carve(&end, 2 * wp_lane_bytes(WP_LANE_BYTES));
        if (view == NULL) continue;
        struct wp_place *place = &view->places[s];
        place->seat = (struct wp_seat *)(void *)(base + seats) + s;
        place->deque = wp_deque_at(base + deque, capacity);
        for (uint32_t m = 0; m < WP_MAILBOXES; m++) place->mailbox[m] = wp_taskset_at(base + mailbox[m], slots);
        place->completions = wp_taskset_at(base + completions, own);
        place->first_slot = s == WP_PARENT_SEAT ? 0 : shape->parent_slots + (s - 1) * shape->worker_slots;
        place->slots = own;
        place->eventfd = -1;
        if (s == WP_PARENT_SEAT) continue;
        place->to_seat = wp_lane_at(base + lanes, WP_LANE_BYTES);
        place->to_parent = wp_lane_at(base + lanes + wp_lane_bytes(WP_LANE_BYTES), WP_LANE_BYTES);
    }
    uint64_t arena = wp_segment_carve(&end, wp_arena_bytes(shape->arena_bytes, shape->seats));
    uint64_t first = wp_segment_carve(&end, (uint64_t)slots * sizeof(struct wp_slot));
    if (view != NULL) {
        view->head = (struct wp_segment *)(void *)(base + head);
        view->idle = (struct wp_idle *)(void *)(base + idle);
        view->mail = (struct wp_mail *)(void *)(base + mail);
        view->orphans = wp_taskset_at(base + orphans, slots);
        for (uint32_t n = 0; n < WP_LEVELS; n++) view->level[n] = wp_taskset_at(base + level[n], slots);
        view->slots = (struct wp_slot *)(void *)(base + first);
        view->seats = shape->seats;
        view->slot_count = slots;
        view->arena_head = (struct wp_arena *)(void *)(base + arena);
    }
    return end;
}

static inline uint64_t wp_view_bytes(const struct wp_shape *shape) { return wp_view_lay(NULL, NULL, shape); }

// Write the head and every word that is not zero at rest, into zeroed memory.
//
// Caller:   the parent, before anyone else maps the segment.
static inline void wp_view_format(uint8_t *base, const struct wp_shape *shape, uint32_t cpus, bool polls) {
    struct wp_segment *head = (struct wp_segment *)(void *)base;
    head->version = WP_LAYOUT_VERSION;
    head->seats = shape->seats;
    head->parent_slots = shape->parent_slots;
    head->worker_slots = shape->worker_slots;
    head->arena_bytes = shape->arena_bytes;
    head->bytes = wp_view_bytes(shape);
    head->cpus = cpus;
    head->polls = polls ? 1u : 0u;
    struct wp_view view = {0};
    struct wp_place places[WP_MAX_SEATS];
    view.places = places;
    wp_view_lay(&view, base, shape);
    wp_arena_init(view.arena_head, shape->arena_bytes, shape->seats);
    head->magic = WP_SEGMENT_MAGIC;
}

static inline void wp_view_close(struct wp_view *view) {
    free(view->places);
    free(view->free_ring);
    view->places = NULL;
    view->free_ring = NULL;
}

// Sit down in a seat: private state over a control segment of `bytes` bytes at `base`
// and the arena's memory at `memory`.
//
// Caller:   the process that will be `self`; the segment was formatted.
// Returns:  WP_SEGMENT_OK, else why not; WP_SEGMENT_MEMORY when malloc gives none.
static inline enum wp_segment_check wp_view_open(struct wp_view *view, uint8_t *base, uint64_t bytes, uint8_t *memory,
                                                 uint64_t memory_bytes, int memory_fd, uint32_t self) {
    struct wp_segment *head = (struct wp_segment *)(void *)base;
    enum wp_segment_check check = wp_segment_check(head, bytes);
    if (check != WP_SEGMENT_OK) return check;
    struct wp_shape shape = {head->seats, head->parent_slots, head->worker_slots, head->arena_bytes};
    if (self >= shape.seats || wp_view_bytes(&shape) > bytes) return WP_SEGMENT_SHAPE;

    memset(view, 0, sizeof *view);
    uint32_t own = self == WP_PARENT_SEAT ? shape.parent_slots : shape.worker_slots;
    view->places = calloc(shape.seats, sizeof *view->places);
    view->free_ring = calloc(own, sizeof *view->free_ring);
    if (view->places == NULL || view->free_ring == NULL) {
        free(view->places);
        free(view->free_ring);
        return WP_SEGMENT_MEMORY;
    }
    wp_view_lay(view, base, &shape);
    if (!wp_arena_open(&view->arena, view->arena_head, wp_arena_bytes(shape.arena_bytes, shape.seats), memory,
                       memory_bytes, memory_fd, self)) {
        wp_view_close(view);
        return WP_SEGMENT_SIZE;
    }
    for (uint32_t s = 1; s < shape.seats; s++) {
        wp_lane_sit(&view->places[s].to_seat);
        wp_lane_sit(&view->places[s].to_parent);
    }
    view->self = self;
    view->polls = head->polls != 0;
    view->cpus = head->cpus;
    view->random = 0x9e3779b9u * (self + 1);
    return WP_SEGMENT_OK;
}

static inline struct wp_place *wp_view_self(struct wp_view *view) { return &view->places[view->self]; }

// Which home has this slot? By arithmetic: the slot's own word may be scribbled.
static inline uint32_t wp_view_home(const struct wp_view *view, uint32_t index) {
    uint32_t parent_slots = view->places[WP_PARENT_SEAT].slots;
    return index < parent_slots ? WP_PARENT_SEAT : 1 + (index - parent_slots) / view->places[view->seats - 1].slots;
}

#endif
