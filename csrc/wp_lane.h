// wp_lane.h — single-producer single-consumer ring of byte records: messages.
//
// Layer 2. Source: Lamport, "Specifying Concurrent Program Modules", TOPLAS 1983; the
// producer's remembered head after Torquati, "Single-Producer/Single-Consumer Queues
// on Shared Cache Multi-Core Systems", 2010; records as in Aeron's ring buffers.
//
//            head                          tail
//             | oldest ............... newest |
//   peek, pop +-------------------------------+ begin, commit
//   (consumer process only)         (producer process only)
//
//   record  | kind: 32 | bytes: 32 | bytes … | up to 7 of padding |
//
// A record never wraps: what is left at the end of the ring becomes a record that is
// passed over, published by the same store of tail. So a consumer reads in place, and
// a producer that dies before that store leaves nothing.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_LANE_H
#define WP_LANE_H

#include <stdbool.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"

// In the segment. Positions count bytes and wrap at 2**64, a multiple of the capacity.
//
//   head   written by the consumer alone (and by recovery when one end is dead)
//   tail   written by the producer alone (and by recovery, as above)
//   bytes  written by the producer between tail and head + capacity, read by the
//          consumer between head and tail
struct wp_lane_ends {
    wp_atomic64 head;
    uint8_t pad0[WP_CACHE_LINE - sizeof(wp_atomic64)];
    wp_atomic64 tail;
    uint8_t pad1[WP_CACHE_LINE - sizeof(wp_atomic64)];
};

_Static_assert(sizeof(struct wp_lane_ends) == 2 * WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

#define WP_LANE_PAD 0u  // the kind of the record that fills the end of the ring
#define WP_LANE_HEAD 8u // bytes before each record's own; records begin at multiples of it

// Process-private: where a lane is, and the positions of the end that this process
// works at. The bounds come from here: whatever is scribbled over the segment, no byte
// outside the ring is read or written.
struct wp_lane {
    struct wp_lane_ends *ends;
    uint8_t *bytes;
    uint64_t capacity; // a power of two
    uint64_t head;     // of the consumer
    uint64_t tail;     // of the producer
    uint64_t seen;     // by the producer: head as it was last read
    uint64_t next;     // where head or tail goes when the record in hand is done
};

struct wp_lane_record {
    const uint8_t *bytes; // in the ring, until wp_lane_pop
    uint32_t size;
    uint32_t kind;
};

enum wp_lane_outcome {
    WP_LANE_OK,
    WP_LANE_FULL,    // no room now: once the consumer has read, trying again succeeds
    WP_LANE_EMPTY,   // nothing to read
    WP_LANE_TOO_BIG, // larger than this lane ever takes
    WP_LANE_CORRUPT, // nonsense, which is now thrown away with all that was in the lane
};

static inline uint64_t wp_lane_bytes(uint64_t capacity) { return sizeof(struct wp_lane_ends) + capacity; }

// The largest record: a quarter, so that one with the padding before it always fits
// into an empty lane, and others beside it.
static inline uint64_t wp_lane_largest(const struct wp_lane *l) { return l->capacity / 4 - WP_LANE_HEAD; }

// Nothing in the segment is read yet: wp_lane_sit does.
static inline struct wp_lane wp_lane_at(void *memory, uint64_t capacity) {
    struct wp_lane l = {.ends = memory, .bytes = (uint8_t *)memory + sizeof(struct wp_lane_ends), .capacity = capacity};
    return l;
}

static inline wp_atomic64 *wp_lane_word(const struct wp_lane *l, uint64_t at) {
    return (wp_atomic64 *)(void *)(l->bytes + (at & (l->capacity - WP_LANE_HEAD)));
}
static inline uint64_t wp_lane_span(uint64_t bytes) {
    return WP_LANE_HEAD + (bytes + WP_LANE_HEAD - 1) / WP_LANE_HEAD * WP_LANE_HEAD;
}

// Take over an end where its former process, or nobody, left it.
//
// Caller:   a process that has just sat down; or the recoverer, to read out what a
//           dead consumer did not.
static inline void wp_lane_sit(struct wp_lane *l) {
    // sync lane.head (observe): what was read is no longer read.
    l->head = l->seen = wp_load_acquire(&l->ends->head);
    // relaxed: nobody writes it between two processes of a seat.
    l->tail = wp_load_relaxed(&l->ends->tail) & ~(uint64_t)(WP_LANE_HEAD - 1);
}

// Is there nothing to read? A look, by any process.
static inline bool wp_lane_is_empty(const struct wp_lane *l) {
    // relaxed: the re-check before parking is ordered by its own fence (wp_wake.h).
    uint64_t head = wp_load_relaxed(&l->ends->head);
    // relaxed: as above.
    return wp_load_relaxed(&l->ends->tail) == head;
}

static inline bool wp_lane_has_room(struct wp_lane *l, uint64_t bytes) {
    if (l->tail - l->seen <= l->capacity && bytes <= l->capacity - (l->tail - l->seen)) return true;
    // sync lane.head (observe): the consumer is done with the bytes before it.
    l->seen = wp_load_acquire(&l->ends->head);
    return l->tail - l->seen <= l->capacity && bytes <= l->capacity - (l->tail - l->seen);
}

// Get room for a record of `size` bytes, at *bytes; a second call before the commit
// begins another in its place.
//
// Caller:   the producer.
// Progress: wait-free.
// Crash:    nothing of it was published.
// Returns:  WP_LANE_OK, WP_LANE_FULL, WP_LANE_TOO_BIG; then *bytes is untouched.
static inline enum wp_lane_outcome wp_lane_begin(struct wp_lane *l, uint64_t size, uint32_t kind, uint8_t **bytes) {
    if (size > wp_lane_largest(l)) return WP_LANE_TOO_BIG;
    uint64_t span = wp_lane_span(size), at = l->tail;
    uint64_t left = l->capacity - (at & (l->capacity - 1));
    uint64_t pad = span <= left ? 0 : left;
    if (!wp_lane_has_room(l, pad + span)) return WP_LANE_FULL;
    // relaxed: published by tail, both.
    if (pad > 0) wp_store_relaxed(wp_lane_word(l, at), (uint64_t)WP_LANE_PAD << 32 | (pad - WP_LANE_HEAD));
    wp_store_relaxed(wp_lane_word(l, at + pad), (uint64_t)kind << 32 | size);
    l->next = at + pad + span;
    *bytes = l->bytes + ((at + pad) & (l->capacity - 1)) + WP_LANE_HEAD;
    return WP_LANE_OK;
}

// Publish the record that was begun and filled.
//
// Caller:   the producer.
// Crash:    before the store of tail nothing was sent, after it everything.
static inline void wp_lane_commit(struct wp_lane *l) {
    l->tail = l->next;
    // sync lane.tail (publish): a consumer that reads this value in wp_lane_peek also
    // reads the record.
    wp_store_release(&l->ends->tail, l->tail);
}

static inline enum wp_lane_outcome wp_lane_corrupt(struct wp_lane *l, uint64_t tail) {
    l->head = tail;
    // sync lane.head (publish): as wp_lane_pop.
    wp_store_release(&l->ends->head, tail);
    return WP_LANE_CORRUPT;
}

// Look at the oldest record, in place; it stays until wp_lane_pop.
//
// Caller:   the consumer.
// Progress: wait-free: it passes over one padding at most.
// Crash:    nothing was read.
// Returns:  WP_LANE_OK, WP_LANE_EMPTY, WP_LANE_CORRUPT.
static inline enum wp_lane_outcome wp_lane_peek(struct wp_lane *l, struct wp_lane_record *record) {
    // sync lane.tail (observe): the records before it are whole.
    uint64_t tail = wp_load_acquire(&l->ends->tail);
    uint64_t at = l->head, there = tail - at;
    if (there == 0) return WP_LANE_EMPTY;
    if (there > l->capacity || at % WP_LANE_HEAD != 0) return wp_lane_corrupt(l, tail);
    for (uint32_t looked = 0; looked < 2 && there >= WP_LANE_HEAD; looked++) {
        uint64_t left = l->capacity - (at & (l->capacity - 1));
        // relaxed: ordered by tail. One load: what is checked is what is used.
        uint64_t word = wp_load_relaxed(wp_lane_word(l, at));
        uint32_t size = (uint32_t)word, kind = (uint32_t)(word >> 32);
        uint64_t span = wp_lane_span(size);
        if (span > left || span > there) break;
        if (kind != WP_LANE_PAD) {
            l->next = at + span;
            *record = (struct wp_lane_record){l->bytes + (at & (l->capacity - 1)) + WP_LANE_HEAD, size, kind};
            return WP_LANE_OK;
        }
        if (span != left) break;
        at += span;
        there -= span;
    }
    return wp_lane_corrupt(l, tail);
}

// Let go of the record that was looked at: its bytes may be written again.
//
// Caller:   the consumer, after it has copied what it keeps.
// Crash:    before the store of head the record is still there.
static inline void wp_lane_pop(struct wp_lane *l) {
    l->head = l->next;
    // sync lane.head (publish): the producer may write over what was read.
    wp_store_release(&l->ends->head, l->head);
}

// Throw away everything, and begin anew.
//
// Caller:   the recoverer, which works at the other end: the process at one end is
//           dead, and the next sits down later.
static inline void wp_lane_discard(struct wp_lane *l) {
    l->head = l->tail = l->seen = l->next = 0;
    // relaxed: whoever sits down next was told to by this process, both.
    wp_store_relaxed(&l->ends->tail, 0);
    wp_store_relaxed(&l->ends->head, 0);
}

#endif
