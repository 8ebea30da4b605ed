// test_order.c — which task is next: priorities, and the longest of a light set.
//
// SPDX-License-Identifier: BSD-3-Clause
#include <sys/mman.h>

#include "wp_pool.h"
#include "wp_test_pool.h"

static struct test_pool pool;

static uint32_t with_priority(int8_t priority) { return wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, priority); }
// Search, run; the argument of the task that was found.
static uint64_t next_word(uint32_t seat) {
    uint32_t index;
    uint64_t word;
    CHECK_EQ(wp_search_round(&pool.view[seat], &index), WP_FIND_OK);
    memcpy(&word, pool.view[0].slots[index].bytes, sizeof word);
    test_pool_run(&pool.view[seat], index);
    return word;
}
static void end(void) {
    uint32_t index;
    for (uint32_t seat = 1; seat < 3; seat++) CHECK_EQ(wp_search_round(&pool.view[seat], &index), WP_FIND_NOTHING);
    CHECK(!wp_work_is_visible(&pool.view[0]));
    test_pool_harvest(&pool.view[0]);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void smoke(void) {
    test_pool_make(&pool, 3, 32, 2, false);
    CHECK_EQ(wp_load_relaxed(&pool.view[0].idle->levels), 0);
    static const int8_t priorities[] = {0, -3, 5, WP_PRIORITY_MIN, 2, 5, WP_PRIORITY_MAX, -1, 0};
    static const int8_t order[] = {WP_PRIORITY_MAX, 5, 5, 2, 0, 0, -1, -3, WP_PRIORITY_MIN};
    for (uint32_t i = 0; i < sizeof priorities; i++)
        test_pool_submit(&pool.view[0], with_priority(priorities[i]), (uint64_t)(priorities[i] + 100));
    for (uint32_t i = 0; i < sizeof order; i++) CHECK_EQ(next_word(1 + i % 2), (uint64_t)(order[i] + 100));
    end();
}

static void equal_priorities_go_in_order_and_force_goes_first(void) {
    test_pool_make(&pool, 3, 32, 2, false);
    test_pool_submit(&pool.view[1], TEST_ANYONE, 9);
    for (uint64_t word = 1; word < 6; word++) test_pool_submit(&pool.view[0], with_priority(1), word);
    test_pool_submit(&pool.view[0], wp_target(1, WP_STRENGTH_FORCE, -4), 0);
    for (uint64_t word = 0; word < 6; word++) CHECK_EQ(next_word(1), word);
    CHECK_EQ(next_word(1), 9); // its own deque comes after
    CHECK_EQ(test_pool_harvest(&pool.view[1]), 1);
    end();
}

static void high_priorities_do_not_starve_the_others(void) {
    test_pool_make(&pool, 3, 8, 2, false);
    test_pool_submit(&pool.view[0], TEST_ANYONE, 1);
    test_pool_submit(&pool.view[0], wp_target(1, WP_STRENGTH_STRONG, 0), 2);
    uint32_t rounds = 0;
    for (uint64_t seen = 0; seen != 3; rounds++) {
        CHECK(rounds < 3 * WP_FAIR_ROUND);
        test_pool_submit(&pool.view[0], with_priority(7), 0);
        uint64_t word = next_word(1);
        seen |= word;
        test_pool_harvest(&pool.view[0]);
    }
    while (wp_work_is_visible(&pool.view[0])) next_word(1);
    end();
}

static void a_task_that_waits_is_promoted_by_a_second_hint(void) {
    test_pool_make(&pool, 3, 8, 2, false);
    wp_handle low = test_pool_submit(&pool.view[0], with_priority(-8), 1);
    test_pool_submit(&pool.view[0], TEST_ANYONE, 2);
    CHECK(wp_home_promote(&pool.view[0], low, -7) && wp_home_promote(&pool.view[0], low, 1));
    CHECK_EQ(next_word(1), 1);
    CHECK(!wp_home_promote(&pool.view[0], low, 2));
    CHECK_EQ(next_word(1), 2);
    // To 0: among the orphans, which come after the parent's deque.
    low = test_pool_submit(&pool.view[0], with_priority(-1), 3);
    test_pool_submit(&pool.view[0], with_priority(-1), 5);
    test_pool_submit(&pool.view[0], TEST_ANYONE, 4);
    CHECK(wp_home_promote(&pool.view[0], low, 0));
    CHECK_EQ(next_word(1), 4);
    CHECK_EQ(next_word(1), 3);
    CHECK_EQ(next_word(1), 5);
    end();
}

static void recovery_keeps_the_priority(void) {
    test_pool_make(&pool, 3, 8, 2, false);
    test_pool_submit(&pool.view[0], with_priority(4), 1);
    uint32_t index;
    CHECK_EQ(wp_search_round(&pool.view[2], &index), WP_FIND_OK); // claimed, then
    test_pool_submit(&pool.view[0], TEST_ANYONE, 2);
    wp_recover(&pool.view[0], 2, 2, -9);
    CHECK_EQ(next_word(1), 1);
    CHECK_EQ(next_word(1), 2);
    end();
}

static void a_seat_does_not_park_beside_a_task_of_any_priority(void) {
    for (int priority = WP_PRIORITY_MIN; priority <= WP_PRIORITY_MAX; priority++) {
        test_pool_make(&pool, 3, 8, 2, false);
        wp_search_begin(&pool.view[1]);
        CHECK(wp_park_arm(&pool.view[1], WP_PARKER_FUTEX));
        test_pool_submit(&pool.view[0], with_priority((int8_t)priority), 1);
        CHECK_EQ(wp_load_acquire(&pool.view[0].places[1].seat->parker), WP_PARKER_TOKEN);
        wp_park_disarm(&pool.view[1]);
        CHECK(!wp_park_arm(&pool.view[1], WP_PARKER_FUTEX));
        wp_search_end(&pool.view[1]);
        CHECK_EQ(next_word(1), 1);
        end();
    }
}

static void submit_cost(uint32_t target, uint32_t cost_us, uint64_t word) {
    wp_handle handle = wp_home_reserve(&pool.view[0]);
    struct wp_slot *slot = &pool.view[0].slots[wp_handle_index(handle)];
    wp_store_relaxed(&slot->target, target);
    wp_store_relaxed(&slot->cost_us, cost_us);
    memcpy(slot->bytes, &word, sizeof word);
    wp_home_submit(&pool.view[0], handle);
}
static void the_longest_of_a_light_set_is_first_for_its_seat_and_for_thieves(void) {
    test_pool_make(&pool, 3, 32, 2, false);
    static const uint32_t costs[] = {5, 100, 5, 7, 300, 5, 100};
    static const uint64_t order[] = {4, 1, 6, 3, 0, 2, 5}; // equals in turn
    for (uint32_t i = 0; i < 7; i++) submit_cost(wp_target(1, WP_STRENGTH_LIGHT, 0), costs[i], i);
    for (uint32_t i = 0; i < 7; i++) CHECK_EQ(next_word(1 + i % 2), order[i]);
    end();
}

static void without_costs_a_light_set_goes_in_order(void) {
    test_pool_make(&pool, 3, 32, 2, false);
    for (uint32_t i = 0; i < 20; i++) submit_cost(wp_target(1, WP_STRENGTH_LIGHT, 0), 0, i);
    for (uint32_t i = 0; i < 20; i++) CHECK_EQ(next_word(1), i);
    end();
}

// Law: with any mixture of costs, priorities and void hints each task runs once.
static void storm(void) {
    uint64_t random = wp_test_stream(0);
    for (uint32_t round = 0; round < wp_test_rounds(300); round++) {
        test_pool_make(&pool, 3, 64, 2, false);
        uint64_t left = 0, word = 0;
        for (uint32_t step = 0; step < 200; step++) {
            if (left < 60 && wp_test_below(&random, 2) == 0) {
                int8_t priority = (int8_t)(WP_PRIORITY_MIN + (int)wp_test_below(&random, WP_LEVELS));
                uint32_t seat = 1 + wp_test_below(&random, 2);
                enum wp_strength strength = (enum wp_strength)wp_test_below(&random, 2);
                submit_cost(wp_target(strength ? seat : WP_NO_SEAT, strength, priority), wp_test_below(&random, 3),
                            word++);
                left++;
            } else if (left > 0) {
                next_word(1 + wp_test_below(&random, 2)), left--;
                test_pool_harvest(&pool.view[0]);
            }
        }
        for (; left > 0; left--) next_word(1);
        end();
    }
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(equal_priorities_go_in_order_and_force_goes_first),
        WP_TEST(high_priorities_do_not_starve_the_others),
        WP_TEST(a_task_that_waits_is_promoted_by_a_second_hint),
        WP_TEST(recovery_keeps_the_priority),
        WP_TEST(a_seat_does_not_park_beside_a_task_of_any_priority),
        WP_TEST(the_longest_of_a_light_set_is_first_for_its_seat_and_for_thieves),
        WP_TEST(without_costs_a_light_set_goes_in_order),
        WP_TEST(storm),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
