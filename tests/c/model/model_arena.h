// model_arena.h — a tiny payload arena for the explorer: one span with two blocks of 8 KiB,
// so that what is freed too early is given out again at once.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef MODEL_ARENA_H
#define MODEL_ARENA_H

#include <stdlib.h>

#include "model.h"

#define calloc model_calloc
#define free model_free
#include "wp_arena.h"
#include "wp_reclaim.h"

#define BLOCK UINT64_C(8192)
#ifndef SEATS
#define SEATS 3u
#endif

static struct notes {
    struct wp_arena *arena;
    uint8_t *memory;
    struct wp_arena_view view[SEATS];
    struct wp_arena_view heir;
    uint64_t held[3]; // blocks given out and not ended, of seat 1 and its heir
    uint32_t dead;    // seats, a bit each
    int heir_actor;
} *a;

static inline void open_view(struct wp_arena_view *view, uint32_t seat) {
    uint64_t budget = WP_SPAN_BYTES;
    MODEL_CHECK(wp_arena_open(view, a->arena, wp_arena_bytes(budget, SEATS), a->memory, wp_arena_memory_bytes(budget),
                              -1, seat));
}

static inline void make_arena(void) {
    a = model_private(sizeof *a);
    a->arena = model_shared(wp_arena_bytes(WP_SPAN_BYTES, SEATS));
    wp_arena_init(a->arena, WP_SPAN_BYTES, SEATS);
    a->memory = model_shared(wp_arena_memory_bytes(WP_SPAN_BYTES));
    model_unused(a->memory, WP_SPAN_BYTES); // span 0; of the blocks only the first bytes are used
    for (uint64_t block = WP_SPAN_BYTES; block < 2 * WP_SPAN_BYTES; block += BLOCK)
        model_unused(a->memory + block + 128, BLOCK - 128);
    for (uint32_t s = 0; s < SEATS; s++) open_view(&a->view[s], s);
    model_name(a->view[0].leases.held, wp_lease_first(SEATS) / 8, "held");
    model_name(a->view[0].leases.lease, wp_lease_first(SEATS) * 8, "lease");
    model_name(&a->view[0].leases.head->recovering, 8, "recovering");
    model_name(&a->view[0].spans.word[1], 8, "span 1");
}

static inline uint64_t *at(uint64_t block) { return (uint64_t *)(void *)(a->memory + block); }

// Get a block if there is room, and write into it.
static inline uint64_t get(struct wp_arena_view *view, uint32_t slot) {
    uint64_t block;
    if (wp_arena_alloc(view, BLOCK, &block) != WP_ALLOC_OK) return 0;
    for (uint32_t i = 0; i < 3; i++) MODEL_CHECK(a->held[i] != block);
    a->held[slot] = block;
    model_note("has block %u", (unsigned)(block / BLOCK));
    *at(block) = slot;
    return block;
}

static inline void give(struct wp_arena_view *view, uint32_t slot) {
    if (a->held[slot] == 0) return;
    uint64_t block = a->held[slot];
    a->held[slot] = 0;
    MODEL_CHECK(wp_arena_free(view, block) != WP_FREE_ALIEN);
}

// After everybody has let go, the whole span is free again.
static inline void all_free(struct wp_arena_view *view) {
    wp_arena_flush(view);
    wp_arena_sweep(view, 1, view->spans.count, true);
    MODEL_CHECK(wp_span_kind(view->spans.word[1].word) == WP_SPAN_FREE);
}

#endif
