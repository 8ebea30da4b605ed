// test_deque.c — the work-stealing deque: every handle that was pushed comes out
// exactly once, at the owner or at one thief.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_deque.h"

#include "wp_test.h"

static struct wp_deque make(uint64_t capacity, int64_t start) {
    void *memory = aligned_alloc(WP_CACHE_LINE, (wp_deque_bytes(capacity) + 63) / 64 * 64);
    CHECK(memory != NULL);
    memset(memory, 0, wp_deque_bytes(capacity));
    struct wp_deque deque = wp_deque_at(memory, capacity);
    wp_store_relaxed(&deque.ends->top, (uint64_t)start);
    wp_store_relaxed(&deque.ends->bottom, (uint64_t)start);
    return deque;
}
static void drop(struct wp_deque *deque) { free(deque->ends); }

static void smoke(void) {
    struct wp_deque deque = make(8, 0);
    uint64_t handle = 77;
    CHECK(!wp_deque_pop(&deque, &handle));
    CHECK_EQ(wp_deque_steal(&deque, &handle), WP_STEAL_EMPTY);
    CHECK_EQ(handle, 77); // an outcome without a handle leaves it alone
    for (uint64_t n = 1; n <= 4; n++) CHECK(wp_deque_push(&deque, n));
    CHECK_EQ(wp_deque_size(&deque), 4);
    CHECK(wp_deque_pop(&deque, &handle) && handle == 4);                  // newest
    CHECK(wp_deque_steal(&deque, &handle) == WP_STEAL_OK && handle == 1); // oldest
    CHECK(wp_deque_pop(&deque, &handle) && handle == 3);
    CHECK(wp_deque_pop(&deque, &handle) && handle == 2); // the last one, by CAS
    CHECK(!wp_deque_pop(&deque, &handle));
    CHECK_EQ(wp_deque_size(&deque), 0);
    CHECK_EQ(wp_deque_steal(&deque, &handle), WP_STEAL_EMPTY);
    drop(&deque);
}

static void push_to_a_full_deque_leaves_the_handle_with_the_caller(void) {
    for (uint64_t capacity = 1; capacity <= 16; capacity *= 2) {
        struct wp_deque deque = make(capacity, -5);
        uint64_t handle;
        for (uint64_t n = 0; n < capacity; n++) CHECK(wp_deque_push(&deque, n));
        CHECK(!wp_deque_push(&deque, 99));
        CHECK_EQ(wp_deque_size(&deque), (int64_t)capacity);
        CHECK(wp_deque_steal(&deque, &handle) == WP_STEAL_OK && handle == 0);
        CHECK(wp_deque_push(&deque, 99));
        CHECK(!wp_deque_push(&deque, 100));
        for (uint64_t n = 1; n < capacity; n++) CHECK(wp_deque_steal(&deque, &handle) == WP_STEAL_OK && handle == n);
        CHECK(wp_deque_steal(&deque, &handle) == WP_STEAL_OK && handle == 99);
        drop(&deque);
    }
}

static void an_owner_may_steal_from_itself(void) {
    struct wp_deque deque = make(4, 10);
    uint64_t handle;
    CHECK(wp_deque_push(&deque, 1) && wp_deque_push(&deque, 2));
    CHECK(wp_deque_steal(&deque, &handle) == WP_STEAL_OK && handle == 1);
    CHECK(wp_deque_pop(&deque, &handle) && handle == 2);
    drop(&deque);
}

static void wraparound(void) {
    // Entries wrap with every index; the indices themselves pass 2**62, 0 and the last
    // value that a century of pushes may reach.
    static const int64_t starts[] = {0, -7, (INT64_C(1) << 62) - 7, INT64_MAX - 200, INT64_MIN + 7, UINT32_MAX - 7};
    for (uint32_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        struct wp_deque deque = make(4, starts[s]);
        uint64_t handle, next_in = 1, next_out = 1;
        for (uint32_t n = 0; n < 40; n++) {
            while (wp_deque_push(&deque, next_in)) next_in++;
            CHECK_EQ(wp_deque_size(&deque), 4);
            for (uint32_t i = 0; i < 3; i++)
                CHECK(wp_deque_steal(&deque, &handle) == WP_STEAL_OK && handle == next_out++);
            CHECK(wp_deque_pop(&deque, &handle) && handle == next_in - 1);
            next_out++;
        }
        CHECK_EQ(next_in, next_out);
        CHECK_EQ(wp_deque_size(&deque), 0);
        drop(&deque);
    }
}

static void a_discarded_deque_is_empty_and_works_on(void) {
    static const int64_t tops[] = {0, 5, (INT64_C(1) << 62) - 2, INT64_MAX - 1, INT64_MIN, -3};
    for (uint32_t t = 0; t < sizeof tops / sizeof *tops; t++)
        for (int64_t held = -1; held <= 4; held++) { // -1: died between lowering bottom and the CAS
            if (tops[t] > INT64_MAX - 4 && held > 0) continue;
            struct wp_deque deque = make(4, tops[t]);
            uint64_t handle = 0;
            wp_store_relaxed(&deque.ends->bottom, (uint64_t)tops[t] + (uint64_t)held);
            wp_deque_discard(&deque);
            CHECK_EQ(wp_deque_size(&deque), 0);
            CHECK_EQ(wp_deque_steal(&deque, &handle), WP_STEAL_EMPTY);
            CHECK(!wp_deque_pop(&deque, &handle));
            uint64_t top = wp_load_relaxed(&deque.ends->top);
            CHECK(top != (uint64_t)tops[t] && top == wp_load_relaxed(&deque.ends->bottom));
            if ((int64_t)top <= INT64_MAX - 8)
                CHECK(wp_deque_push(&deque, 9) && wp_deque_pop(&deque, &handle) && handle == 9);
            drop(&deque);
        }
}

static void scribbled_ends_overflow_nothing(void) {
    static const uint64_t words[] = {0,          1,          UINT64_MAX,       INT64_MAX,         (uint64_t)INT64_MIN,
                                     1ull << 62, 3ull << 62, INT64_MAX - 1ull, 0x5555555555555555};
    uint32_t count = sizeof words / sizeof *words;
    for (uint32_t t = 0; t < count; t++)
        for (uint32_t b = 0; b < count; b++)
            for (uint32_t op = 0; op < 5; op++) {
                struct wp_deque deque = make(4, 0);
                uint64_t handle;
                wp_store_relaxed(&deque.ends->top, words[t]);
                wp_store_relaxed(&deque.ends->bottom, words[b]);
                if (op == 0) CHECK(wp_deque_size(&deque) >= 0);
                if (op == 1) wp_deque_push(&deque, 1);
                if (op == 2) wp_deque_pop(&deque, &handle);
                if (op == 3) wp_deque_steal(&deque, &handle);
                if (op == 4) wp_deque_discard(&deque);
                drop(&deque);
            }
}

// ---- an owner and its thieves

#define THIEVES 3u
struct arena {
    struct wp_deque deque;
    wp_atomic32 over;
    uint32_t total;
    uint32_t pop_in_16; // how often the owner pops
    uint32_t burst;
    uint64_t *payload; // by handle: plain memory, published by the deque alone
};
struct actor {
    struct arena *arena;
    uint32_t seat;
    uint8_t *got; // by handle
    uint64_t taken, lost, empty, full;
};

static uint64_t payload_of(uint64_t handle) { return handle * UINT64_C(0x9e3779b97f4a7c15) + 1; }

static void take(struct actor *actor, uint64_t handle) {
    CHECK(handle < actor->arena->total);
    CHECK(actor->arena->payload[handle] == payload_of(handle));
    actor->got[handle]++;
    actor->taken++;
}

static void own(struct actor *actor) {
    struct arena *arena = actor->arena;
    uint64_t random = wp_test_stream(0), handle;
    uint32_t pushed = 0;
    while (pushed < arena->total) {
        for (uint32_t n = wp_test_below(&random, arena->burst) + 1; n > 0 && pushed < arena->total; n--) {
            arena->payload[pushed] = payload_of(pushed);
            if (!wp_deque_push(&arena->deque, pushed)) {
                actor->full++;
                sched_yield();
                break;
            }
            pushed++;
        }
        if (wp_test_below(&random, 16) < arena->pop_in_16 && wp_deque_pop(&arena->deque, &handle))
            take(actor, handle);
        else
            wp_test_jitter(&random);
    }
    while (wp_deque_pop(&arena->deque, &handle)) take(actor, handle);
    wp_store_release(&arena->over, 1);
}
static void *own_or_steal(void *argument) {
    struct actor *actor = argument;
    struct arena *arena = actor->arena;
    uint64_t random = wp_test_stream(actor->seat), handle;
    wp_test_gate();
    if (actor->seat == 0) {
        own(actor);
        return NULL;
    }
    for (;;) {
        bool over = wp_load_acquire(&arena->over) != 0;
        enum wp_steal outcome = wp_deque_steal(&arena->deque, &handle);
        if (outcome == WP_STEAL_OK)
            take(actor, handle);
        else if (outcome == WP_STEAL_LOST)
            actor->lost++;
        else if (over)
            return NULL;
        else
            actor->empty++, wp_test_jitter(&random);
    }
}

static void race(uint32_t total, uint64_t capacity, uint32_t pop_in_16, uint32_t burst) {
    struct arena arena = {
        .deque = make(capacity, (INT64_C(1) << 62) - 5), .total = total, .pop_in_16 = pop_in_16, .burst = burst};
    arena.payload = calloc(total, sizeof *arena.payload);
    struct actor actor[1 + THIEVES];
    for (uint32_t i = 0; i <= THIEVES; i++) {
        actor[i] = (struct actor){.arena = &arena, .seat = i, .got = calloc(total, 1)};
        CHECK(actor[i].got != NULL && arena.payload != NULL);
    }
    wp_test_threads(1 + THIEVES, own_or_steal, actor, sizeof *actor);
    uint64_t taken = 0, lost = 0;
    for (uint32_t handle = 0; handle < total; handle++) {
        uint32_t times = 0;
        for (uint32_t i = 0; i <= THIEVES; i++) times += actor[i].got[handle];
        CHECK_EQ(times, 1);
    }
    for (uint32_t i = 0; i <= THIEVES; i++) {
        taken += actor[i].taken, lost += actor[i].lost;
        free(actor[i].got);
    }
    printf("    %u handles: owner %" PRIu64 ", thieves %" PRIu64 ", lost %" PRIu64 ", full %" PRIu64 "\n", total,
           actor[0].taken, taken - actor[0].taken, lost, actor[0].full);
    CHECK_EQ(taken, total);
    CHECK_EQ(wp_deque_size(&arena.deque), 0);
    free(arena.payload);
    drop(&arena.deque);
}
// One handle at a time: the owner and every thief want the same one.
static void stampede(void) { race(wp_test_rounds(400000), 1, 16, 1); }
static void stampede_of_thieves(void) { race(wp_test_rounds(200000), 2, 0, 2); }
static void storm(void) { race(wp_test_rounds(600000), 8, 8, 12); }
static void storm_in_a_large_deque(void) { race(wp_test_rounds(600000), 1024, 12, 40); }

// The owner dies, its deque is thrown away and a new owner pushes, while thieves go on:
// no handle comes out twice, and none of the dead owner's after it was thrown away...
// unless a thief had claimed it before.
static void *die_or_steal(void *argument) {
    struct actor *actor = argument;
    struct arena *arena = actor->arena;
    uint64_t random = wp_test_stream(actor->seat), handle;
    wp_test_gate();
    if (actor->seat != 0) {
        while (wp_load_acquire(&arena->over) == 0) {
            if (wp_deque_steal(&arena->deque, &handle) == WP_STEAL_OK)
                take(actor, handle);
            else
                wp_test_jitter(&random);
        }
        return NULL;
    }
    for (uint32_t pushed = 0; pushed < arena->total;) {
        for (uint32_t n = wp_test_below(&random, 9); n > 0 && pushed < arena->total; n--) {
            arena->payload[pushed] = payload_of(pushed);
            if (wp_deque_push(&arena->deque, pushed)) pushed++;
        }
        if (wp_test_below(&random, 2) == 0 && wp_deque_pop(&arena->deque, &handle)) take(actor, handle);
        // Dead in a pop: bottom is one too low, or not yet raised again.
        if (wp_test_below(&random, 2) == 0)
            wp_store_relaxed(&arena->deque.ends->bottom, wp_load_relaxed(&arena->deque.ends->bottom) - 1);
        wp_deque_discard(&arena->deque);
        actor->full++;
    }
    wp_store_release(&arena->over, 1);
    return NULL;
}
static void storm_of_deaths(void) {
    uint32_t total = wp_test_rounds(200000);
    struct arena arena = {.deque = make(8, (INT64_C(1) << 62) - 5), .total = total};
    arena.payload = calloc(total, sizeof *arena.payload);
    struct actor actor[1 + THIEVES];
    for (uint32_t i = 0; i <= THIEVES; i++) {
        actor[i] = (struct actor){.arena = &arena, .seat = i, .got = calloc(total, 1)};
        CHECK(actor[i].got != NULL && arena.payload != NULL);
    }
    wp_test_threads(1 + THIEVES, die_or_steal, actor, sizeof *actor);
    uint32_t lost = 0;
    for (uint32_t handle = 0; handle < total; handle++) {
        uint32_t times = 0;
        for (uint32_t i = 0; i <= THIEVES; i++) times += actor[i].got[handle];
        CHECK(times <= 1);
        lost += times == 0;
    }
    printf("    %u handles, %" PRIu64 " deaths, %u thrown away\n", total, actor[0].full, lost);
    CHECK(lost < total);
    for (uint32_t i = 0; i <= THIEVES; i++) free(actor[i].got);
    free(arena.payload);
    drop(&arena.deque);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(push_to_a_full_deque_leaves_the_handle_with_the_caller),
        WP_TEST(an_owner_may_steal_from_itself),
        WP_TEST(wraparound),
        WP_TEST(a_discarded_deque_is_empty_and_works_on),
        WP_TEST(scribbled_ends_overflow_nothing),
        WP_TEST(stampede),
        WP_TEST(stampede_of_thieves),
        WP_TEST(storm),
        WP_TEST(storm_in_a_large_deque),
        WP_TEST(storm_of_deaths),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
