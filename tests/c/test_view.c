// test_view.c — every structure has its own place in the segment, the same for all
// seats, and no head leads out of it.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_view.h"

#include <sys/mman.h>

#include "wp_test_pool.h"

struct span {
    uint64_t from, bytes;
};
static int by_offset(const void *left, const void *right) {
    uint64_t a = ((const struct span *)left)->from, b = ((const struct span *)right)->from;
    return a < b ? -1 : a > b;
}

// Where everything is that a view points to.
static uint32_t spans_of(const struct test_pool *pool, const struct wp_view *view, struct span *span) {
    uint32_t n = 0;
    const uint8_t *base = pool->base;
#define SPAN(start, size) span[n++] = (struct span){(uint64_t)((const uint8_t *)(start) - base), (size)}
    SPAN(view->head, sizeof *view->head);
    SPAN(view->idle, sizeof *view->idle);
    SPAN(view->orphans.summary, wp_taskset_bytes(view->slot_count));
    for (uint32_t seat = 0; seat < view->seats; seat++) {
        const struct wp_place *place = &view->places[seat];
        SPAN(place->seat, sizeof *place->seat);
        SPAN(place->deque.ends, sizeof *place->deque.ends);
        SPAN(place->deque.entries, (uint64_t)place->deque.capacity * 8);
        for (uint32_t m = 0; m < WP_MAILBOXES; m++) SPAN(place->mailbox[m].summary, wp_taskset_bytes(view->slot_count));
        SPAN(place->completions.summary, wp_taskset_bytes(place->slots));
    }
    SPAN(view->arena_head, wp_arena_bytes(pool->shape.arena_bytes, view->seats));
    SPAN(view->slots, (uint64_t)view->slot_count * sizeof(struct wp_slot));
#undef SPAN
    return n;
}

static void smoke(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 10, 5, true);
    for (uint32_t seat = 0; seat < 3; seat++) {
        struct wp_view *view = &pool.view[seat];
        CHECK(view->self == seat && view->seats == 3 && view->slot_count == 20 && view->polls && view->cpus == 2);
        CHECK(wp_view_self(view) == &view->places[seat] && view->random != 0 && view->spin_ns == 0);
        CHECK(wp_view_self(view)->eventfd == -1);
    }
    test_pool_end(&pool);
}

static void structures_lie_apart_in_the_segment_and_alike_for_all(void) {
    static const uint32_t shapes[][3] = {{2, 1, 1}, {3, 10, 5}, {6, 64, 64}, {4, 5000, 65}, {2, 63, 4097}};
    for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct test_pool pool;
        static struct span span[256], other[256];
        test_pool_make(&pool, shapes[s][0], shapes[s][1], shapes[s][2], false);
        uint32_t n = spans_of(&pool, &pool.view[0], span);
        for (uint32_t seat = 1; seat < shapes[s][0]; seat++) {
            CHECK_EQ(spans_of(&pool, &pool.view[seat], other), n);
            CHECK(memcmp(span, other, n * sizeof *span) == 0);
        }
        // Each on a line of its own, or what one seat writes would slow another; but a
        // deque's entries follow its ends.
        qsort(span, n, sizeof *span, by_offset);
        for (uint32_t i = 0; i < n; i++) {
            CHECK_EQ(span[i].from % WP_CACHE_LINE, 0);
            CHECK(span[i].from + span[i].bytes <= (i + 1 < n ? span[i + 1].from : pool.bytes));
        }
        CHECK_EQ(pool.view[0].head->bytes, pool.bytes);
        test_pool_end(&pool);
    }
}

static void every_slot_has_one_home(void) {
    static const uint32_t shapes[][3] = {{2, 1, 1}, {3, 10, 5}, {6, 7, 3}, {4, 500, 65}};
    for (uint32_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        struct test_pool pool;
        test_pool_make(&pool, shapes[s][0], shapes[s][1], shapes[s][2], false);
        uint32_t next = 0;
        for (uint32_t seat = 0; seat < shapes[s][0]; seat++) {
            struct wp_place *place = &pool.view[0].places[seat];
            CHECK_EQ(place->first_slot, next);
            CHECK_EQ(place->slots, shapes[s][seat == 0 ? 1 : 2]);
            for (uint32_t i = 0; i < place->slots; i++) CHECK_EQ(wp_view_home(&pool.view[0], next++), seat);
            // Its own tasks never fill its deque: hints of others may.
            CHECK(place->deque.capacity >= 2 * (int64_t)place->slots && place->deque.capacity >= 64);
            CHECK_EQ(place->deque.capacity & (place->deque.capacity - 1), 0);
        }
        CHECK_EQ(next, pool.view[0].slot_count);
        test_pool_end(&pool);
    }
}

static void a_segment_that_does_not_fit_its_head_is_refused(void) {
    struct test_pool pool;
    struct wp_view view;
    test_pool_make(&pool, 3, 10, 5, false);
    struct wp_segment good = *pool.view[0].head, *head = pool.view[0].head;
#define OPEN(bytes, memory_bytes, self) wp_view_open(&view, pool.base, bytes, pool.memory, memory_bytes, -1, self)
    CHECK_EQ(OPEN(pool.bytes - 1, pool.memory_bytes, 0), WP_SEGMENT_SIZE);
    CHECK_EQ(OPEN(pool.bytes, pool.memory_bytes, 3), WP_SEGMENT_SHAPE);
    CHECK_EQ(OPEN(pool.bytes, pool.memory_bytes - 1, 0), WP_SEGMENT_SIZE);
    head->seats = 200;
    CHECK_EQ(OPEN(pool.bytes, pool.memory_bytes, 0), WP_SEGMENT_SHAPE);
    *head = good;
    // Numbers whose product overflows.
    static const uint32_t many[] = {0x80000000u, 0xffffffffu, 0xfffffff1u, 0x7fffffffu, 100000, 0x55555556u};
    for (uint32_t i = 0; i < 6; i++)
        for (uint32_t j = 0; j < 3; j++) {
            if (j != 1) head->parent_slots = many[i];
            if (j != 0) head->worker_slots = many[i];
            CHECK_EQ(OPEN(pool.bytes, pool.memory_bytes, 1), WP_SEGMENT_SHAPE);
            *head = good;
        }
    head->arena_bytes = UINT64_MAX / 2;
    CHECK(OPEN(pool.bytes, pool.memory_bytes, 1) != WP_SEGMENT_OK);
    *head = good;
    head->magic = 0;
    CHECK_EQ(OPEN(pool.bytes, pool.memory_bytes, 1), WP_SEGMENT_ALIEN);
    *head = good;
    CHECK_EQ(OPEN(pool.bytes, pool.memory_bytes, 1), WP_SEGMENT_OK);
    wp_view_close(&view);
    CHECK(view.places == NULL && view.free_ring == NULL);
#undef OPEN
    test_pool_end(&pool);
}

static void storm(void) {
    // Random heads: refused, or every structure in bounds.
    struct test_pool pool;
    struct wp_view view;
    uint64_t random = wp_test_stream(0);
    uint32_t opened = 0;
    test_pool_make(&pool, 3, 300, 70, false);
    struct wp_segment good = *pool.view[0].head, *head = pool.view[0].head;
    uint32_t rounds = wp_test_rounds(20000);
    for (uint32_t n = 0; n < rounds; n++) {
        *head = good;
        uint32_t self = wp_test_below(&random, 8);
        bool fits = false;
        if (n % 16 != 0) { // numbers of any size, over what was made for others
            head->seats = wp_test_below(&random, 8);
            head->parent_slots = (uint32_t)(wp_test_random(&random) >> (32 + wp_test_below(&random, 31)));
            head->worker_slots = (uint32_t)(wp_test_random(&random) >> (32 + wp_test_below(&random, 31)));
            head->arena_bytes = wp_test_random(&random) >> wp_test_below(&random, 60);
            head->bytes = wp_test_random(&random) >> wp_test_below(&random, 60);
        } else { // a true segment in the same memory, if it has room there
            struct wp_shape shape = {2 + wp_test_below(&random, 2), 1 + wp_test_below(&random, 300),
                                     1 + wp_test_below(&random, 70), wp_test_below(&random, 1 << 20)};
            if (wp_view_bytes(&shape) > pool.bytes) continue;
            memset(pool.base, 0, pool.bytes);
            wp_view_format(pool.base, &shape, 2, false);
            fits = self < shape.seats;
        }
        bool opens =
            wp_view_open(&view, pool.base, pool.bytes, pool.memory, pool.memory_bytes, -1, self) == WP_SEGMENT_OK;
        CHECK(opens || !fits);
        if (!opens) continue;
        static struct span span[256];
        struct test_pool like = pool;
        like.shape.arena_bytes = head->arena_bytes;
        for (uint32_t i = spans_of(&like, &view, span); i > 0; i--)
            CHECK(span[i - 1].bytes <= pool.bytes && span[i - 1].from <= pool.bytes - span[i - 1].bytes);
        opened++;
        wp_view_close(&view);
    }
    printf("    %u of %u opened\n", opened, rounds);
    CHECK(opened > 0 && opened < rounds); // else one side was not seen
    test_pool_end(&pool);
}

static void a_life_gives_back_what_was_put_in(void) {
    uint64_t random = wp_test_stream(0);
    for (uint32_t n = 0; n < 1000; n++) {
        uint32_t pid = (uint32_t)wp_test_random(&random), incarnation = (uint32_t)wp_test_random(&random);
        uint64_t life = wp_life_of(pid, incarnation, WP_LIFE_TAKEN);
        CHECK(wp_life_pid(life) == pid && wp_life_incarnation(life) == (incarnation & 0xffffff) &&
              wp_life_is_taken(life));
        CHECK(!wp_life_is_taken(wp_life_of(pid, incarnation, WP_LIFE_EMPTY)));
    }
    CHECK(wp_mailbox_of(WP_STRENGTH_LIGHT) == 0 && wp_mailbox_of(WP_STRENGTH_FORCE) == WP_MAILBOXES - 1);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(structures_lie_apart_in_the_segment_and_alike_for_all),
        WP_TEST(every_slot_has_one_home),
        WP_TEST(a_segment_that_does_not_fit_its_head_is_refused),
        WP_TEST(a_life_gives_back_what_was_put_in),
        WP_TEST(storm),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
