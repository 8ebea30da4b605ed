// wp_test_pool.h — a whole pool in one test program: a segment, and a view for each seat.
//
// A thread that sits in a seat uses that seat's view alone, as a process would; the
// segment is mapped shared, so a forked child may sit there too.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_TEST_POOL_H
#define WP_TEST_POOL_H

#include <sys/mman.h>

#include "wp_pool.h"
#include "wp_test.h"

#define TEST_SEATS 6u

struct test_pool {
    struct wp_shape shape;
    uint8_t *base;
    uint64_t bytes;
    uint8_t *memory;
    uint64_t memory_bytes;
    struct wp_view view[TEST_SEATS];
};

static inline void *test_pool_map(uint64_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

// Open, or open again, the view of a seat, and sit down in it.
static inline struct wp_view *test_pool_sit(struct test_pool *pool, uint32_t seat) {
    struct wp_view *view = &pool->view[seat];
    if (view->places != NULL) wp_view_close(view);
    CHECK_EQ(wp_view_open(view, pool->base, pool->bytes, pool->memory, pool->memory_bytes, -1, seat), WP_SEGMENT_OK);
    wp_home_begin(view);
    return view;
}

static inline void test_pool_make(struct test_pool *pool, uint32_t seats, uint32_t parent_slots, uint32_t worker_slots,
                                  bool polls) {
    CHECK(seats <= TEST_SEATS);
    memset(pool, 0, sizeof *pool);
    pool->shape = (struct wp_shape){seats, parent_slots, worker_slots, 1 << 20};
    pool->bytes = wp_view_bytes(&pool->shape);
    pool->base = test_pool_map(pool->bytes);
    pool->memory_bytes = wp_arena_memory_bytes(pool->shape.arena_bytes);
    pool->memory = test_pool_map(pool->memory_bytes);
    wp_view_format(pool->base, &pool->shape, 2, polls);
    for (uint32_t seat = 0; seat < seats; seat++) test_pool_sit(pool, seat);
    // Indices far from their start, so that nothing depends on it.
    for (uint32_t seat = 0; seat < seats; seat++) {
        struct wp_deque_ends *ends = pool->view[0].places[seat].deque.ends;
        wp_store_relaxed(&ends->top, (UINT64_C(1) << 62) - 3);
        wp_store_relaxed(&ends->bottom, (UINT64_C(1) << 62) - 3);
    }
    for (uint32_t i = 0; i < pool->view[0].slot_count; i++)
        wp_store_relaxed(&pool->view[0].slots[i].state,
                         wp_state(WP_PHASE_FREE, WP_OUTCOME_NONE, WP_NO_SEAT, 0, UINT32_MAX - i % 5));
    // Taken and ready, as by processes: an empty seat's strong tasks are everybody's.
    for (uint32_t seat = 1; seat < seats; seat++) wp_seat_take(&pool->view[0], seat, seat);
    wp_seats_launched(&pool->view[0], seats - 1);
}

static inline void test_pool_end(struct test_pool *pool) {
    for (uint32_t seat = 0; seat < pool->shape.seats; seat++) wp_view_close(&pool->view[seat]);
    munmap(pool->base, pool->bytes);
    munmap(pool->memory, pool->memory_bytes);
}

static inline enum wp_phase test_pool_phase(struct test_pool *pool, wp_handle handle) {
    return wp_state_phase(wp_load_acquire(&pool->view[0].slots[wp_handle_index(handle)].state));
}

// The law at the end: every slot is FREE, and no block is in use.
static inline void test_pool_check_free(struct test_pool *pool) {
    uint32_t counts[WP_PHASE_DONE + 1];
    wp_count_phases(&pool->view[0], counts);
    CHECK_EQ(counts[WP_PHASE_FREE], pool->view[0].slot_count);
}

// A home's plain task with a word of argument; it is offered, bound as `target` says.
static inline wp_handle test_pool_submit(struct wp_view *view, uint32_t target, uint64_t word) {
    wp_handle handle = wp_home_reserve(view);
    CHECK(handle != WP_NO_HANDLE);
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    wp_store_relaxed(&slot->target, target);
    memcpy(slot->bytes, &word, sizeof word);
    wp_home_submit(view, handle);
    return handle;
}
#define TEST_ANYONE wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, 0)

// Run a claimed task: answers its argument plus one.
static inline void test_pool_run(struct wp_view *view, uint32_t index) {
    uint64_t word;
    struct wp_slot *slot = &view->slots[index];
    memcpy(&word, slot->bytes, sizeof word);
    wp_enter(view, index);
    word++;
    memcpy(slot->bytes, &word, sizeof word);
    wp_payload_set(&slot->result, 0, sizeof word);
    wp_leave(view, index, WP_OUTCOME_OK);
}

// Harvest all that is DONE. Returns how many there were.
static inline uint32_t test_pool_harvest(struct wp_view *view) {
    uint32_t first = 0, count = 0;
    for (uint64_t bits; (bits = wp_home_take(view, &first)) != 0;) {
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
            uint64_t state;
            if (!wp_slot_is_done(&view->slots[index], &state)) continue;
            wp_home_release(view, wp_handle_of(index, wp_state_generation(state)));
            count++;
        }
    }
    return count;
}

#endif
