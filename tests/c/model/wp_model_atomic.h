// wp_model_atomic.h — the words of shared memory, for the explorer.
//
// Included by csrc/wp_atomic.h when WP_MODEL is defined, in place of <stdatomic.h>:
// the same names, but every operation asks the engine (model.c) what happens next.
// A word keeps its size, so that the layout is the real one; its history is
// kept beside it, by address. The operating system's part of csrc/wp_os.h is here too.
//
// Each name is a comma expression: it first notes where in csrc it stands, so that a
// trace reads like the code.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_MODEL_ATOMIC_H
#define WP_MODEL_ATOMIC_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    uint32_t word;
} wp_atomic32;
typedef struct {
    uint64_t word;
} wp_atomic64;

_Static_assert(sizeof(wp_atomic32) == 4 && sizeof(wp_atomic64) == 8, "shared words have fixed widths");

typedef enum {
    memory_order_relaxed,
    memory_order_consume,
    memory_order_acquire,
    memory_order_release,
    memory_order_acq_rel,
    memory_order_seq_cst,
} memory_order;

// Where the operation that comes next stands.
struct model_place {
    const char *file;
    const char *function;
    int line;
};
extern struct model_place model_place;
static inline void model_at(const char *file, const char *function, int line) {
    model_place.file = file;
    model_place.function = function;
    model_place.line = line;
}
#define MODEL_AT(operation) (model_at(__FILE__, __func__, __LINE__), operation)

#define MODEL_FAMILY(bits)                                                                                             \
    uint##bits##_t model_load##bits(wp_atomic##bits *p, memory_order order);                                           \
    void model_store##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order);                              \
    bool model_cas##bits(wp_atomic##bits *p, uint##bits##_t *expected, uint##bits##_t value, memory_order order);      \
    uint##bits##_t model_swap##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order);                     \
    uint##bits##_t model_or##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order);                       \
    uint##bits##_t model_and##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order);
MODEL_FAMILY(32)
MODEL_FAMILY(64)
void model_fence_seq_cst(void);

#define wp_load32 MODEL_AT(model_load32)
#define wp_load64 MODEL_AT(model_load64)
#define wp_store32 MODEL_AT(model_store32)
#define wp_store64 MODEL_AT(model_store64)
#define wp_cas32 MODEL_AT(model_cas32)
#define wp_cas64 MODEL_AT(model_cas64)
#define wp_swap32 MODEL_AT(model_swap32)
#define wp_swap64 MODEL_AT(model_swap64)
#define wp_or32 MODEL_AT(model_or32)
#define wp_or64 MODEL_AT(model_or64)
#define wp_and32 MODEL_AT(model_and32)
#define wp_and64 MODEL_AT(model_and64)
#define wp_fence_seq_cst MODEL_AT(model_fence_seq_cst)

// The operating system. A futex sleeps until it is woken, not until its word changes:
// who forgets the system call is found out. Time passes only when everybody sleeps, up
// to the first deadline.
int64_t model_os_now_ns(void);
void model_os_sleep_ns(int64_t ns);
int model_os_wait(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns);
int model_os_poll_wait(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns);
void model_os_wake(wp_atomic32 *word);
void model_os_eventfd_signal(int fd);

#define wp_os_now_ns MODEL_AT(model_os_now_ns)
#define wp_os_sleep_ns MODEL_AT(model_os_sleep_ns)
#define wp_os_wait MODEL_AT(model_os_wait)
#define wp_os_poll_wait MODEL_AT(model_os_poll_wait)
#define wp_os_wake MODEL_AT(model_os_wake)
#define wp_os_eventfd_signal MODEL_AT(model_os_eventfd_signal)
static inline void wp_os_yield(void) {}

#endif
