// wp_atomic.h — the atomic words of shared memory, and the orders they are used with.
//
// Layer 0. The only includer of <stdatomic.h>. Source: C11, section 7.17.
//
// A word is a struct, so that no plain `=` can touch it by accident: every
// access names its order. Every operation is one atomic instruction; a process
// may die between any two of them.
//
// With WP_MODEL defined, words and operations come from the explorer of
// tests/c/model instead: each becomes a scheduling point, a load may return any
// value C11 allows, and "die here" is a move.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_ATOMIC_H
#define WP_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

#ifdef WP_MODEL
#include "wp_model_atomic.h"
#else

#include <stdatomic.h>

// A non-lock-free atomic takes a lock private to the process.
_Static_assert(ATOMIC_INT_LOCK_FREE == 2, "32-bit atomics must be lock-free");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");

typedef struct {
    _Atomic(uint32_t) word;
} wp_atomic32;
typedef struct {
    _Atomic(uint64_t) word;
} wp_atomic64;

_Static_assert(sizeof(wp_atomic32) == 4 && sizeof(wp_atomic64) == 8, "shared words have fixed widths");

// One family of operations per width. The order is always a constant at the
// call, so each compiles to the one instruction it names.
#define WP_ATOMIC_FAMILY(bits)                                                                                         \
    static inline uint##bits##_t wp_load##bits(wp_atomic##bits *p, memory_order order) {                               \
        return atomic_load_explicit(&p->word, order);                                                                  \
    }                                                                                                                  \
    static inline void wp_store##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {                  \
        atomic_store_explicit(&p->word, value, order);                                                                 \
    }                                                                                                                  \
    static inline bool wp_cas##bits(wp_atomic##bits *p, uint##bits##_t *expected, uint##bits##_t value,                \
                                    memory_order order) {                                                              \
        return atomic_compare_exchange_strong_explicit(&p->word, expected, value, order, memory_order_relaxed);        \
    }                                                                                                                  \
    static inline uint##bits##_t wp_swap##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {         \
        return atomic_exchange_explicit(&p->word, value, order);                                                       \
    }                                                                                                                  \
    static inline uint##bits##_t wp_or##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {           \
        return atomic_fetch_or_explicit(&p->word, value, order);                                                       \
    }                                                                                                                  \
    static inline uint##bits##_t wp_and##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {          \
        return atomic_fetch_and_explicit(&p->word, value, order);                                                      \
    }

WP_ATOMIC_FAMILY(32)
WP_ATOMIC_FAMILY(64)

static inline void wp_fence_seq_cst(void) { atomic_thread_fence(memory_order_seq_cst); }

#endif // WP_MODEL

#define WP_BY_WIDTH(p, op) _Generic((p), wp_atomic32 *: wp_##op##32, wp_atomic64 *: wp_##op##64)

#define wp_load_relaxed(p) WP_BY_WIDTH(p, load)(p, memory_order_relaxed)
#define wp_load_acquire(p) WP_BY_WIDTH(p, load)(p, memory_order_acquire)
#define wp_store_relaxed(p, v) WP_BY_WIDTH(p, store)(p, v, memory_order_relaxed)
#define wp_store_release(p, v) WP_BY_WIDTH(p, store)(p, v, memory_order_release)

// On success the order that is named, on failure relaxed: *expected is then a
// hint for the next try and nothing is read through it.
#define wp_cas_relaxed(p, expected, v) WP_BY_WIDTH(p, cas)(p, expected, v, memory_order_relaxed)
#define wp_cas_acq_rel(p, expected, v) WP_BY_WIDTH(p, cas)(p, expected, v, memory_order_acq_rel)
#define wp_cas_seq_cst(p, expected, v) WP_BY_WIDTH(p, cas)(p, expected, v, memory_order_seq_cst)

#define wp_swap_acq_rel(p, v) WP_BY_WIDTH(p, swap)(p, v, memory_order_acq_rel)
#define wp_or_acq_rel(p, v) WP_BY_WIDTH(p, or)(p, v, memory_order_acq_rel)
#define wp_and_acq_rel(p, v) WP_BY_WIDTH(p, and)(p, v, memory_order_acq_rel)

// Tell the core that this is a spin loop.
static inline void wp_cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}

#endif
