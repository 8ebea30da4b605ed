// test_strong.c — strong tasks: left to their target, until that is stuck; the watcher.
//
// Where a time must pass, the seat's clock words are set back instead; one test and the
// storm use the real clock.
//
// SPDX-License-Identifier: BSD-3-Clause
#include <sys/mman.h>

#include "wp_pool.h"
#include "wp_test_pool.h"

#define MS INT64_C(1000000)

static struct wp_seat *seat_of(struct test_pool *pool, uint32_t seat) { return pool->view[0].places[seat].seat; }
static uint32_t parker(struct test_pool *pool, uint32_t seat) { return wp_load_acquire(&seat_of(pool, seat)->parker); }
static uint32_t strong_for(uint32_t seat) { return wp_target(seat, WP_STRENGTH_STRONG, 0); }
static bool watches(struct test_pool *pool, uint32_t seat) { return wp_idle_has(pool->view[0].idle->watcher, seat); }

// The seat has been at one task for so long, and its tasks take so long.
static void busy(struct test_pool *pool, uint32_t seat, int64_t for_ns, int64_t mean_ns) {
    wp_store_relaxed(&seat_of(pool, seat)->current, 0);
    wp_store_relaxed(&seat_of(pool, seat)->since_ns, (uint64_t)(wp_os_now_ns() - for_ns));
    wp_store_relaxed(&seat_of(pool, seat)->mean_ns, (uint64_t)mean_ns);
}
static void park(struct wp_view *view) {
    wp_search_begin(view);
    CHECK(wp_park_arm(view, WP_PARKER_FUTEX));
}
static void unpark(struct wp_view *view) {
    wp_park_disarm(view);
    wp_search_end(view);
}
// Search twice: a seat that has just had work does not look at what is others'.
static bool finds(struct wp_view *view) {
    uint32_t index;
    if (wp_search_round(view, &index) != WP_FIND_OK && wp_search_round(view, &index) != WP_FIND_OK) return false;
    test_pool_run(view, index);
    return true;
}
static void end(struct test_pool *pool) {
    while (finds(&pool->view[1]) || finds(&pool->view[2])) {
    }
    test_pool_harvest(&pool->view[0]);
    test_pool_check_free(pool);
    test_pool_end(pool);
}

static void smoke(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    busy(&pool, 2, 29 * MS, 10 * MS);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    CHECK(!finds(&pool.view[1]));
    busy(&pool, 2, 31 * MS, 10 * MS);
    CHECK(finds(&pool.view[1]));
    CHECK_EQ(wp_seat_stat(&pool.view[1], 1, WP_STAT_STEALS), 1);
    end(&pool);
}

static void a_task_of_a_dead_or_retiring_seat_is_anyone_s(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    busy(&pool, 2, 0, 1000 * MS);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    CHECK(!finds(&pool.view[1]));
    wp_store_relaxed(&seat_of(&pool, 2)->stop, WP_STOP_RETIRE);
    CHECK(finds(&pool.view[1]));
    wp_store_relaxed(&seat_of(&pool, 2)->stop, WP_STOP_NO);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    CHECK(!finds(&pool.view[1]));
    wp_recover(&pool.view[0], 2, 2, -9);
    CHECK(finds(&pool.view[1]));
    end(&pool);
}

static void a_process_that_starts_is_given_time(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    wp_recover(&pool.view[0], 2, 2, -9);
    wp_seat_due(&pool.view[0], 2);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    CHECK(!finds(&pool.view[1]));
    uint32_t incarnation = wp_seat_next_incarnation(&pool.view[0], 2);
    wp_seat_take(&pool.view[0], 2, 7);
    busy(&pool, 2, 100 * MS, 1 * MS);
    CHECK(!finds(&pool.view[1]));
    wp_store_release(&seat_of(&pool, 2)->ready, incarnation);
    CHECK(finds(&pool.view[1])); // ready, and 100 ms at it
    end(&pool);
}

static void a_target_that_is_idle_or_searches_keeps_its_tasks(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    busy(&pool, 2, 1000 * MS, 1 * MS);
    park(&pool.view[2]);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    CHECK_EQ(parker(&pool, 2), WP_PARKER_TOKEN);
    CHECK(!finds(&pool.view[1]));
    wp_park_disarm(&pool.view[2]);
    CHECK(!finds(&pool.view[1]));
    wp_search_end(&pool.view[2]);
    CHECK(finds(&pool.view[1]));
    end(&pool);
}

static void between_two_tasks_a_seat_is_given_more_time(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    busy(&pool, 2, 10 * MS, 1 * MS);
    wp_store_relaxed(&seat_of(&pool, 2)->current, WP_NO_HANDLE);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    CHECK(!finds(&pool.view[1]));
    // But it may have entered one when the watcher looks, which is soon.
    park(&pool.view[1]);
    CHECK(wp_watch_left_ns(&pool.view[1], -1) <= 3 * MS);
    unpark(&pool.view[1]);
    busy(&pool, 2, 10 * MS, 1 * MS);
    CHECK(finds(&pool.view[1]));
    busy(&pool, 2, 30 * MS, 1 * MS);
    wp_store_relaxed(&seat_of(&pool, 2)->current, WP_NO_HANDLE);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    CHECK(finds(&pool.view[1]));
    end(&pool);
}

static void a_long_queue_is_shared_though_its_seat_goes_on(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 64, 2, false);
    for (uint32_t n = 0; n < WP_STRONG_MANY; n++) test_pool_submit(&pool.view[0], strong_for(2), n);
    busy(&pool, 2, 1 * MS, 10 * MS);
    CHECK(!finds(&pool.view[1])); // it is not hungry for long
    pool.view[1].hungry_ns = wp_os_now_ns() - 31 * MS;
    CHECK(finds(&pool.view[1]));
    pool.view[1].hungry_ns = wp_os_now_ns() - 31 * MS;
    CHECK(!finds(&pool.view[1])); // one fewer is no long queue
    wp_recover(&pool.view[0], 2, 2, -9);
    end(&pool);
}

static void without_strong_tasks_behind_a_busy_seat_nobody_watches(void) {
    struct test_pool pool;
    test_pool_make(&pool, 4, 8, 2, false);
    busy(&pool, 3, 1000 * MS, 1 * MS);
    park(&pool.view[1]);
    CHECK(pool.view[1].watch_ns == WP_NEVER && wp_watch_left_ns(&pool.view[1], -1) == -1);
    park(&pool.view[3]); // the strong task's own target sleeps beside it for an instant
    wp_taskset_add(&pool.view[0].places[3].mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)], 1);
    park(&pool.view[2]);
    CHECK(pool.view[2].watch_ns == WP_NEVER && !wp_idle_any(pool.view[0].idle->watcher));
    test_pool_end(&pool);
}

static void one_parked_seat_watches_with_the_earliest_deadline(void) {
    struct test_pool pool;
    test_pool_make(&pool, 5, 8, 2, false);
    busy(&pool, 3, 0, 100 * MS), busy(&pool, 4, 0, 10 * MS);
    test_pool_submit(&pool.view[0], strong_for(3), 0);
    test_pool_submit(&pool.view[0], strong_for(4), 0);
    park(&pool.view[1]);
    park(&pool.view[2]);
    CHECK(watches(&pool, 1) && !watches(&pool, 2));
    CHECK_EQ(pool.view[1].watch_ns, (int64_t)wp_load_relaxed(&seat_of(&pool, 4)->since_ns) + 30 * MS);
    int64_t left = wp_watch_left_ns(&pool.view[1], -1);
    CHECK(left > 0 && left <= 30 * MS && wp_watch_left_ns(&pool.view[1], 5) == 5);
    CHECK_EQ(wp_watch_left_ns(&pool.view[2], -1), -1);
    // It gets work: the other, which sleeps, is told to watch.
    wp_park_disarm(&pool.view[1]);
    CHECK(!watches(&pool, 1) && parker(&pool, 2) == WP_PARKER_FUTEX);
    wp_search_end(&pool.view[1]);
    CHECK_EQ(parker(&pool, 2), WP_PARKER_TOKEN);
    unpark(&pool.view[2]);
    park(&pool.view[2]);
    CHECK(watches(&pool, 2));
    // It dies: its bit goes, and everybody looks again.
    wp_recover(&pool.view[0], 2, 2, -9);
    CHECK(!wp_idle_any(pool.view[0].idle->watcher));
    busy(&pool, 3, 1000 * MS, 1 * MS), busy(&pool, 4, 1000 * MS, 1 * MS);
    end(&pool);
}

static void one_who_watches_early_enough_is_enough(void) {
    struct test_pool pool;
    test_pool_make(&pool, 4, 8, 2, false);
    busy(&pool, 3, 0, 100 * MS);
    test_pool_submit(&pool.view[0], strong_for(3), 0);
    int64_t due_ns = wp_strong_due_ns(&pool.view[1], 3);
    wp_store_relaxed(&seat_of(&pool, 2)->watch_ns, (uint64_t)due_ns);
    wp_idle_set(pool.view[0].idle->watcher, 2);
    park(&pool.view[1]);
    CHECK(!watches(&pool, 1));
    unpark(&pool.view[1]);
    wp_store_relaxed(&seat_of(&pool, 2)->watch_ns, (uint64_t)due_ns + 1); // too late
    park(&pool.view[1]);
    CHECK(watches(&pool, 1));
    busy(&pool, 3, 1000 * MS, 1 * MS);
    end(&pool);
}

static void a_strong_task_that_comes_while_all_are_parked_makes_one_watch(void) {
    struct test_pool pool;
    test_pool_make(&pool, 4, 8, 2, false);
    busy(&pool, 3, 0, 10 * MS);
    park(&pool.view[1]);
    park(&pool.view[2]);
    test_pool_submit(&pool.view[0], strong_for(3), 0);
    CHECK(parker(&pool, 1) == WP_PARKER_TOKEN && parker(&pool, 2) == WP_PARKER_FUTEX);
    unpark(&pool.view[1]);
    park(&pool.view[1]);
    CHECK(watches(&pool, 1));
    // A second changes nothing; an earlier deadline does.
    test_pool_submit(&pool.view[0], strong_for(3), 0);
    CHECK(parker(&pool, 1) == WP_PARKER_FUTEX && parker(&pool, 2) == WP_PARKER_FUTEX);
    busy(&pool, 3, 20 * MS, 10 * MS);
    test_pool_submit(&pool.view[0], strong_for(3), 0);
    CHECK(parker(&pool, 1) == WP_PARKER_TOKEN && parker(&pool, 2) == WP_PARKER_FUTEX);
    // The target itself begins something long with strong tasks left: it sees to a watcher.
    unpark(&pool.view[1]);
    CHECK_EQ(parker(&pool, 2), WP_PARKER_TOKEN);
    busy(&pool, 3, 1000 * MS, 1 * MS);
    end(&pool);
}

static void a_target_that_begins_a_task_leaves_no_other_unwatched(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    park(&pool.view[1]);
    park(&pool.view[2]);
    test_pool_submit(&pool.view[0], strong_for(2), 0);
    test_pool_submit(&pool.view[0], strong_for(2), 0); // it is idle still: nobody else is told
    CHECK_EQ(parker(&pool, 1), WP_PARKER_FUTEX);
    uint32_t index;
    wp_park_disarm(&pool.view[2]);
    CHECK_EQ(wp_next_wait(&pool.view[2], &index, -1), WP_NEXT_TASK);
    CHECK_EQ(parker(&pool, 1), WP_PARKER_TOKEN);
    test_pool_run(&pool.view[2], index);
    end(&pool);
}

static void a_watcher_takes_the_task_when_it_is_due(void) {
    for (uint32_t polls = 0; polls < 2; polls++) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 8, 2, polls);
        busy(&pool, 2, 0, 10 * MS);
        test_pool_submit(&pool.view[0], strong_for(2), 0);
        uint32_t index;
        enum wp_next next; // who polls looks for signals now and then
        while ((next = wp_next_wait(&pool.view[1], &index, -1)) == WP_NEXT_SIGNAL) {
        }
        CHECK_EQ(next, WP_NEXT_TASK);
        int64_t late_ns = wp_os_now_ns() - (int64_t)wp_load_relaxed(&seat_of(&pool, 2)->since_ns) - 30 * MS;
        printf("    %s: %.3f ms after it was due\n", polls ? "polling" : "futex", (double)late_ns / 1e6);
        CHECK(late_ns >= 0);
        test_pool_run(&pool.view[1], index);
        if (WP_OS_LINUX && !polls) CHECK(wp_seat_stat(&pool.view[1], 1, WP_STAT_PARKS) <= 3);
        end(&pool);
    }
}

static void an_outlier_hardly_changes_what_is_usual(void) {
    uint64_t mean = 0;
    for (uint32_t n = 0; n < 100; n++) mean = wp_mean_after(mean, 1000000);
    CHECK(mean > 990000 && mean < 1010000);
    CHECK(wp_mean_after(mean, 2000000000) < 1500000);
    for (uint32_t n = 0; n < 100; n++) mean = wp_mean_after(mean, 50);
    CHECK(mean < 200);
    CHECK(wp_mean_after(0, 0) != 0 && wp_mean_after(1, UINT64_MAX) < 100);
}

// Two workers, each at times at something long; strong tasks for both. Law: each runs
// once, and none waits while a seat sleeps, which the frame's alarm would end.
struct storm {
    struct test_pool *pool;
    uint32_t seat;
    uint32_t tasks;
    uint32_t ran, strange;
};
static void *storm_actor(void *argument) {
    struct storm *storm = argument;
    struct wp_view *view = &storm->pool->view[storm->seat];
    uint64_t random = wp_test_stream(storm->seat);
    wp_test_gate();
    if (storm->seat == 0) {
        for (uint32_t done = 0, sent = 0; done < storm->tasks;) {
            if (sent < storm->tasks && wp_home_free_slots(view) > 0) {
                test_pool_submit(view, strong_for(1 + wp_test_below(&random, 3)), sent++);
                if (wp_test_below(&random, 4) == 0) wp_os_sleep_ns(wp_test_below(&random, 200) * 1000);
            } else {
                wp_home_wait(view, WP_NO_HANDLE, MS);
            }
            done += test_pool_harvest(view);
        }
        for (uint32_t seat = 1; seat <= 3; seat++) wp_seat_stop(view, seat, WP_STOP_DRAINED);
        return NULL;
    }
    for (;;) {
        uint32_t index;
        enum wp_next next = wp_next_wait(view, &index, -1);
        if (next == WP_NEXT_STOP) return NULL;
        if (next != WP_NEXT_TASK) continue;
        storm->ran++;
        // relaxed: claimed by this seat.
        if (wp_target_seat(wp_load_relaxed(&view->slots[index].target)) != storm->seat) storm->strange++;
        wp_enter(view, index);
        if (wp_test_below(&random, 20) == 0) wp_os_sleep_ns(5 * MS);
        wp_payload_set(&view->slots[index].result, 0, 8);
        wp_leave(view, index, WP_OUTCOME_OK);
    }
}
static void storm(void) {
    struct test_pool pool;
    test_pool_make(&pool, 4, 32, 2, false);
    struct storm actor[4];
    for (uint32_t i = 0; i < 4; i++) actor[i] = (struct storm){.pool = &pool, .seat = i, .tasks = wp_test_rounds(800)};
    wp_test_threads(4, storm_actor, actor, sizeof *actor);
    CHECK_EQ(actor[1].ran + actor[2].ran + actor[3].ran, actor[0].tasks);
    printf("    %u tasks, elsewhere %u\n", actor[0].tasks, actor[1].strange + actor[2].strange + actor[3].strange);
    CHECK(!wp_idle_any(pool.view[0].idle->watcher) && !wp_idle_any(pool.view[0].idle->idle));
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(a_task_of_a_dead_or_retiring_seat_is_anyone_s),
        WP_TEST(a_process_that_starts_is_given_time),
        WP_TEST(a_target_that_is_idle_or_searches_keeps_its_tasks),
        WP_TEST(between_two_tasks_a_seat_is_given_more_time),
        WP_TEST(a_long_queue_is_shared_though_its_seat_goes_on),
        WP_TEST(without_strong_tasks_behind_a_busy_seat_nobody_watches),
        WP_TEST(one_parked_seat_watches_with_the_earliest_deadline),
        WP_TEST(one_who_watches_early_enough_is_enough),
        WP_TEST(a_strong_task_that_comes_while_all_are_parked_makes_one_watch),
        WP_TEST(a_target_that_begins_a_task_leaves_no_other_unwatched),
        WP_TEST(a_watcher_takes_the_task_when_it_is_due),
        WP_TEST(an_outlier_hardly_changes_what_is_usual),
        WP_TEST(storm),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
