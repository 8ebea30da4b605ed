// test_look.c — what somebody sees who is no part of a pool, through memory that cannot be written.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_look.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "wp_test_pool.h"

// Look at a pool through a copy of its segment that is read-only: a store would be the end of the test.
static void look_at(const struct test_pool *pool, struct wp_look *looks, uint32_t phases[WP_PHASE_DONE + 1]) {
    uint8_t *copy = test_pool_map(pool->bytes);
    struct wp_view view;
    struct wp_usage usage;
    memcpy(copy, pool->base, pool->bytes);
    CHECK(mprotect(copy, pool->bytes, PROT_READ) == 0);
    CHECK_EQ(wp_look_open(&view, copy, pool->bytes), WP_SEGMENT_OK);
    CHECK_EQ(view.seats, pool->shape.seats);
    wp_look_at(&view, looks);
    wp_count_phases(&view, phases);
    wp_usage_read(&view.arena.spans, &view.arena.leases, &usage, NULL);
    CHECK(usage.budget_bytes > 0 && usage.used_bytes == 0);
    wp_view_close(&view);
    munmap(copy, pool->bytes);
}

static void waiting_tasks_are_counted_where_they_wait(void) {
    struct test_pool pool;
    struct wp_look looks[WP_MAX_SEATS];
    uint32_t phases[WP_PHASE_DONE + 1], index;
    test_pool_make(&pool, 3, 16, 4, false);
    struct wp_view *parent = &pool.view[0], *worker = &pool.view[1];
    for (uint64_t n = 0; n < 3; n++) test_pool_submit(parent, TEST_ANYONE, n);
    for (uint64_t n = 0; n < 4; n++) test_pool_submit(parent, wp_target(2, WP_STRENGTH_FORCE, 0), n);
    test_pool_submit(worker, TEST_ANYONE, 9);
    wp_handle costly = wp_home_reserve(parent);
    wp_store_relaxed(&parent->slots[wp_handle_index(costly)].target, wp_target(1, WP_STRENGTH_LIGHT, 0));
    wp_store_relaxed(&parent->slots[wp_handle_index(costly)].cost_us, 700);
    wp_home_submit(parent, costly);
    look_at(&pool, looks, phases);
    CHECK_EQ(phases[WP_PHASE_READY], 9);
    CHECK(looks[0].queued == 3 && looks[0].unknown == 3 && looks[0].pid == 0);
    CHECK(looks[1].queued == 2 && looks[1].unknown == 1 && looks[1].known_us == 700);
    CHECK(looks[2].queued == 4 && looks[2].unknown == 4 && looks[2].known_us == 0);
    for (uint32_t seat = 1; seat < 3; seat++)
        while (wp_next_now(&pool.view[seat], &index) == WP_NEXT_TASK) test_pool_run(&pool.view[seat], index);
    CHECK_EQ(test_pool_harvest(worker), 1);
    CHECK_EQ(test_pool_harvest(parent), 8);
    look_at(&pool, looks, phases);
    for (uint32_t seat = 0; seat < 3; seat++) CHECK_EQ(looks[seat].queued, 0);
    CHECK(looks[1].mean_ns > 0);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void a_seat_is_seen_from_its_launch_to_its_end(void) {
    struct test_pool pool;
    struct wp_look looks[WP_MAX_SEATS];
    uint32_t phases[WP_PHASE_DONE + 1], index;
    test_pool_make(&pool, 2, 4, 2, false);
    struct wp_view *parent = &pool.view[0], *worker = &pool.view[1];
    wp_recover(parent, 1, 1, 0); // the process that the test's pool put there
    worker = test_pool_sit(&pool, 1);
    look_at(&pool, looks, phases);
    CHECK(looks[1].pid == 0 && !looks[1].due && !looks[1].ready && !looks[1].runs);
    uint32_t incarnation = wp_seat_next_incarnation(parent, 1);
    look_at(&pool, looks, phases);
    CHECK(looks[1].pid == 0 && looks[1].due);
    wp_seat_take(parent, 1, 4242);
    look_at(&pool, looks, phases);
    CHECK(looks[1].pid == 4242 && !looks[1].due && !looks[1].ready);
    wp_seat_ready(worker, incarnation);
    test_pool_submit(parent, TEST_ANYONE, 1);
    CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_TASK);
    wp_enter(worker, index);
    look_at(&pool, looks, phases);
    CHECK(looks[1].ready && looks[1].runs && looks[1].stop == WP_STOP_NO && phases[WP_PHASE_RUNNING] == 1);
    CHECK(looks[1].since_ns > 0 && looks[1].since_ns <= wp_os_now_ns());
    wp_leave(worker, index, WP_OUTCOME_OK);
    wp_seat_stop(parent, 1, WP_STOP_NOW);
    look_at(&pool, looks, phases);
    CHECK(!looks[1].runs && looks[1].stop == WP_STOP_NOW);
    CHECK_EQ(test_pool_harvest(parent), 1);
    test_pool_end(&pool);
}

static void what_is_no_segment_of_this_release_is_refused(void) {
    struct test_pool pool;
    struct wp_view view;
    test_pool_make(&pool, 2, 4, 2, false);
    struct wp_segment *head = pool.view[0].head;
    CHECK_EQ(wp_look_open(&view, pool.base, sizeof *head - 1), WP_SEGMENT_ALIEN);
    CHECK_EQ(wp_look_open(&view, pool.base, pool.bytes - 1), WP_SEGMENT_SIZE);
    head->version++;
    CHECK_EQ(wp_look_open(&view, pool.base, pool.bytes), WP_SEGMENT_VERSION);
    head->version--;
    head->magic++;
    CHECK_EQ(wp_look_open(&view, pool.base, pool.bytes), WP_SEGMENT_ALIEN);
    head->magic--;
    test_pool_end(&pool);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(waiting_tasks_are_counted_where_they_wait),
        WP_TEST(a_seat_is_seen_from_its_launch_to_its_end),
        WP_TEST(what_is_no_segment_of_this_release_is_refused),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
