// wp_idle.h — who sleeps, who searches, and the word each seat sleeps on.
//
// Layer 2. Source: this project; the protocol is in wp_wake.h.
//
// One bit per seat, written by that seat alone (and by recovery when it is dead),
// so no death leaves a count wrong. One waiter per parker, so a wake-up is never
// swallowed by a neighbour.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_IDLE_H
#define WP_IDLE_H

#include <stdbool.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"

//   idle       the seat is about to sleep or sleeps: work may be sent to it
//   searching  the seat looks for work: nobody else needs to be woken
//   watcher    the one seat that parks with a deadline (strong tasks)
//   watched    somebody waits for all work to end: who goes idle tells the parent;
//              the parent alone writes it
//   launched   how many workers there are; the parent alone writes it
//   levels     a bit for each priority that was ever used, set by the home; never
//              cleared, so a level costs nothing until a pool first uses it
struct wp_idle {
    wp_atomic64 idle[WP_SEAT_WORDS];
    uint8_t pad0[WP_CACHE_LINE - 8 * WP_SEAT_WORDS];
    wp_atomic64 searching[WP_SEAT_WORDS];
    uint8_t pad1[WP_CACHE_LINE - 8 * WP_SEAT_WORDS];
    wp_atomic64 watcher[WP_SEAT_WORDS];
    wp_atomic32 launched;
    wp_atomic32 watched;
    wp_atomic64 levels;
    uint8_t pad2[WP_CACHE_LINE - 8 * WP_SEAT_WORDS - 16];
};

_Static_assert(sizeof(struct wp_idle) == 3 * WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

// sync idle.bits (publish): acquire-release, so that a bit orders what its seat did
// before; the store-load part is the fences' of wp_wake.h.
static inline void wp_idle_set(wp_atomic64 *bits, uint32_t seat) {
    wp_or_acq_rel(&bits[seat / 64], UINT64_C(1) << seat % 64); // sync idle.bits (publish)
}
static inline void wp_idle_clear(wp_atomic64 *bits, uint32_t seat) {
    wp_and_acq_rel(&bits[seat / 64], ~(UINT64_C(1) << seat % 64)); // sync idle.bits (publish)
}
static inline bool wp_idle_has(wp_atomic64 *bits, uint32_t seat) {
    // sync idle.bits (observe): a hint, or ordered by the caller's fence.
    return wp_load_acquire(&bits[seat / 64]) >> seat % 64 & 1;
}
static inline bool wp_idle_any(wp_atomic64 *bits) {
    for (uint32_t w = 0; w < WP_SEAT_WORDS; w++)
        // sync idle.bits (observe): ordered by the caller's fence.
        if (wp_load_acquire(&bits[w]) != 0) return true;
    return false;
}
static inline uint32_t wp_idle_count(wp_atomic64 *bits) {
    uint32_t n = 0;
    for (uint32_t w = 0; w < WP_SEAT_WORDS; w++)
        n += (uint32_t)__builtin_popcountll(wp_load_relaxed(&bits[w])); // relaxed: a heuristic's input
    return n;
}
// The first seat at or after `from` with its bit set, below `seats`; WP_NO_SEAT if none.
static inline uint32_t wp_idle_next(wp_atomic64 *bits, uint32_t from, uint32_t seats) {
    for (uint32_t w = from / 64; w < WP_SEAT_WORDS && w * 64 < seats; w++) {
        // sync idle.bits (observe): ordered by the caller's fence.
        uint64_t word = wp_load_acquire(&bits[w]);
        if (w == from / 64) word &= UINT64_MAX << from % 64;
        if (word == 0) continue;
        uint32_t seat = w * 64 + (uint32_t)__builtin_ctzll(word);
        return seat < seats ? seat : WP_NO_SEAT;
    }
    return WP_NO_SEAT;
}

// The parker word: how the seat waits, and whether it was woken since.
#define WP_PARKER_TOKEN 1u   // woken: the next sleep returns at once
#define WP_PARKER_FUTEX 2u   // a thread sleeps on this word, or is about to
#define WP_PARKER_EVENTFD 4u // an event loop or a poller sleeps on the seat's eventfd
#define WP_PARKER_ARMED (WP_PARKER_FUTEX | WP_PARKER_EVENTFD)

#endif
