// wp_deque.h — bounded work-stealing deque of task handles.
//
// Layer 2. Source: Le, Pop, Cohen, Zappa Nardelli, "Correct and Efficient
// Work-Stealing for Weak Memory Models", PPoPP 2013, fig. 1, without growth;
// departures from it are in docs/memory-model.md.
//
//        top                              bottom
//         | oldest ................. newest |
//   steal +---------------------------------+ push, pop
//   (any process)                     (owner process only)
//
// Entries are hints: wp_slot_claim decides. So a deque may hold stale and double
// handles, and recovery may throw away all of them.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_DEQUE_H
#define WP_DEQUE_H

#include <stdbool.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"

// In the segment. Indices are signed and never wrap: at a push every nanosecond
// 2**63 is three centuries away.
//
//   top      raised by CAS: by thieves, by the owner for the last handle, by recovery
//   bottom   written by the owner alone (and by recovery when the owner is dead)
//   entries  written by the owner below bottom; a loser may read a stale word, so
//            they are atomic: a lost race costs a value, never is undefined
struct wp_deque_ends {
    wp_atomic64 top;
    uint8_t pad0[WP_CACHE_LINE - sizeof(wp_atomic64)];
    wp_atomic64 bottom;
    uint8_t pad1[WP_CACHE_LINE - sizeof(wp_atomic64)];
};

_Static_assert(sizeof(struct wp_deque_ends) == 2 * WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

// Process-private: where a deque is. The capacity comes from here, never from
// shared memory, so that no scribbled word can lead out of bounds.
struct wp_deque {
    struct wp_deque_ends *ends;
    wp_atomic64 *entries;
    int64_t capacity; // a power of two
};

static inline uint64_t wp_deque_bytes(uint64_t capacity) {
    return sizeof(struct wp_deque_ends) + capacity * sizeof(wp_atomic64);
}

static inline struct wp_deque wp_deque_at(void *memory, uint64_t capacity) {
    struct wp_deque d = {.ends = memory,
                         .entries = (wp_atomic64 *)(void *)((uint8_t *)memory + sizeof(struct wp_deque_ends)),
                         .capacity = (int64_t)capacity};
    return d;
}

static inline wp_atomic64 *wp_deque_entry(const struct wp_deque *d, int64_t i) {
    return &d->entries[i & (d->capacity - 1)];
}

// How many handles there are, by racy reads: a hint for batches and for parking.
static inline int64_t wp_deque_size(const struct wp_deque *d) {
    // relaxed: the re-check before parking is ordered by its own fence (wp_wake.h).
    int64_t top = (int64_t)wp_load_relaxed(&d->ends->top);
    // relaxed: as above.
    int64_t bottom = (int64_t)wp_load_relaxed(&d->ends->bottom);
    return bottom > top ? (int64_t)((uint64_t)bottom - (uint64_t)top) & INT64_MAX : 0;
}

// Add the newest handle.
//
// Caller:   the owner.
// Progress: wait-free.
// Crash:    before the store of bottom the handle is in nobody's deque: recovery
//           finds its slot READY and makes it an orphan.
// Returns:  false when full; then the handle stays with the caller.
static inline bool wp_deque_push(const struct wp_deque *d, uint64_t handle) {
    // relaxed: bottom is written by this process alone.
    int64_t bottom = (int64_t)wp_load_relaxed(&d->ends->bottom);
    // sync deque.top (observe): a thief's claim of an entry is complete before the
    // entry is written again one lap later.
    int64_t top = (int64_t)wp_load_acquire(&d->ends->top);
    // Unsigned, here and in wp_deque_size: a scribbled index may be anything.
    if ((uint64_t)bottom - (uint64_t)top >= (uint64_t)d->capacity) return false; // top above bottom too
    // relaxed: published by bottom.
    wp_store_relaxed(wp_deque_entry(d, bottom), handle);
    // sync deque.bottom (publish): a thief that reads this value in wp_deque_steal
    // also reads the entry.
    wp_store_release(&d->ends->bottom, (uint64_t)bottom + 1);
    return true;
}

// Take the newest handle.
//
// Caller:   the owner.
// Progress: wait-free.
// Crash:    the handle is in nobody's deque, or bottom is one too low: recovery
//           throws the deque away and makes its READY slots orphans.
// Returns:  false when there was none (or a thief took the last one).
static inline bool wp_deque_pop(const struct wp_deque *d, uint64_t *handle) {
    // relaxed: bottom is written by this process alone.
    int64_t bottom = (int64_t)wp_load_relaxed(&d->ends->bottom);
    // relaxed: top only rises, so "empty" here is true; a fence would cost 20 cycles
    // of every idle look.
    int64_t above = (int64_t)wp_load_relaxed(&d->ends->top);
    if (above >= bottom || (uint64_t)bottom - (uint64_t)above > (uint64_t)d->capacity) return false; // or scribbled
    bottom--;
    // sync deque.bottom (publish): as at the end; the entries below were written long ago.
    // sync deque.last (publish): bottom is lowered before top is read; a thief reads top
    // before bottom. One of them sees the other.
    wp_store_release(&d->ends->bottom, (uint64_t)bottom);
    wp_fence_seq_cst();
    // relaxed: ordered by the fence; the CAS decides over the last handle.
    int64_t top = (int64_t)wp_load_relaxed(&d->ends->top);
    if (top < bottom) {
        // relaxed: written by this process.
        *handle = wp_load_relaxed(wp_deque_entry(d, bottom));
        return true;
    }
    bool mine = false;
    if (top == bottom) {
        // relaxed: written by this process.
        uint64_t last = wp_load_relaxed(wp_deque_entry(d, bottom));
        uint64_t expected = (uint64_t)top;
        // relaxed on failure. sync deque.top (publish): the last handle has one winner.
        mine = wp_cas_seq_cst(&d->ends->top, &expected, (uint64_t)(top + 1));
        if (mine) *handle = last;
    }
    // sync deque.bottom (publish): a thief that reads this value reads entries no
    // older than those of the push that first reached it.
    wp_store_release(&d->ends->bottom, (uint64_t)(bottom + 1));
    return mine;
}

enum wp_steal {
    WP_STEAL_OK,    // *handle is the oldest
    WP_STEAL_EMPTY, // nothing was there: look elsewhere
    WP_STEAL_LOST,  // another claimant won: trying again may succeed
};

// Take the oldest handle.
//
// Caller:   any process that maps the segment, the owner too.
// Progress: lock-free; one attempt, never loops.
// Crash:    before the CAS nothing happened; after it the hint is lost with its
//           thief, and recovery makes the READY slot an orphan.
static inline enum wp_steal wp_deque_steal(const struct wp_deque *d, uint64_t *handle) {
    // sync deque.top (observe): entries claimed before this top are no longer read.
    int64_t top = (int64_t)wp_load_acquire(&d->ends->top);
    // sync deque.last (observe): top is read before bottom, see wp_deque_pop.
    wp_fence_seq_cst();
    // sync deque.bottom (observe): the entry read next is the one published.
    int64_t bottom = (int64_t)wp_load_acquire(&d->ends->bottom);
    if (top >= bottom) return WP_STEAL_EMPTY;
    if ((uint64_t)bottom - (uint64_t)top > (uint64_t)d->capacity) {
        // Either others took since, and the push that came after saw them; or nonsense, which
        // must not be tried for ever. relaxed: this bottom is ordered after that top.
        return wp_load_relaxed(&d->ends->top) == (uint64_t)top ? WP_STEAL_EMPTY : WP_STEAL_LOST;
    }
    // relaxed: ordered by bottom; may be stale when top has moved, then the CAS fails.
    uint64_t oldest = wp_load_relaxed(wp_deque_entry(d, top));
    uint64_t expected = (uint64_t)top;
    // relaxed on failure. sync deque.top (publish): the owner may write this entry again.
    if (!wp_cas_seq_cst(&d->ends->top, &expected, (uint64_t)(top + 1))) return WP_STEAL_LOST;
    *handle = oldest;
    return WP_STEAL_OK;
}

// Throw away everything, for an owner that is dead.
//
// Both indices jump a whole capacity forward: a slow thief's CAS on the old top
// fails, and no value of bottom that the dead owner may have left is reached again.
// (bottom = max(bottom, top) loses tasks: modelled in tests/model.)
//
// Caller:   the recoverer, which then makes every READY slot an orphan.
// Progress: lock-free; thieves move top a bounded number of times.
static inline void wp_deque_discard(const struct wp_deque *d) {
    // relaxed: the owner is dead, nobody writes bottom.
    int64_t bottom = (int64_t)wp_load_relaxed(&d->ends->bottom);
    uint64_t top = wp_load_relaxed(&d->ends->top); // relaxed: the CAS decides
    int64_t next;
    do {
        // Unsigned sums: a scribbled index may overflow, and then only means "empty".
        next = (int64_t)top > bottom ? (int64_t)top : bottom;
        next = (int64_t)((uint64_t)next + (uint64_t)d->capacity);
        // relaxed on failure. sync deque.top (publish): as for a thief.
    } while (!wp_cas_seq_cst(&d->ends->top, &top, (uint64_t)next));
    // sync deque.bottom (publish): the next incarnation pushes from here.
    wp_store_release(&d->ends->bottom, (uint64_t)next);
}

#endif
