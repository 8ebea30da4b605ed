// test_cancel.c — what is asked of running tasks: it reaches one use of a slot, before its end, or not at all.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_test_pool.h"

static struct wp_slot *slot_of(struct test_pool *pool, wp_handle handle) {
    return &pool->view[0].slots[wp_handle_index(handle)];
}

static void claim(struct test_pool *pool, uint32_t seat, wp_handle handle) {
    CHECK_EQ(wp_slot_claim(slot_of(pool, handle), handle, seat), WP_CLAIM_OK);
}

// Run a claimed task as the glue does, to the end that may not return.
static void end_of(struct test_pool *pool, uint32_t seat, wp_handle handle) {
    wp_end(&pool->view[seat], wp_handle_index(handle));
    wp_leave(&pool->view[seat], wp_handle_index(handle), WP_OUTCOME_OK);
}

static void smoke(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 4, 2, false);
    wp_handle handle = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    struct wp_slot *slot = slot_of(&pool, handle);
    claim(&pool, 1, handle);
    CHECK_EQ(wp_slot_asked(slot), 0);
    CHECK(wp_slot_ask(slot, handle, WP_CANCEL_ASKED));
    CHECK(wp_slot_ask(slot, handle, WP_CANCEL_ASKED));
    CHECK(wp_slot_ask(slot, handle, WP_CANCEL_FORCE));
    CHECK_EQ(wp_slot_asked(slot), WP_CANCEL_ASKED | WP_CANCEL_FORCE);
    wp_enter(&pool.view[1], wp_handle_index(handle));
    CHECK_EQ(wp_slot_end(slot), WP_CANCEL_ASKED | WP_CANCEL_FORCE);
    CHECK(!wp_slot_ask(slot, handle, WP_CANCEL_TIME));
    CHECK(!wp_slot_ask(slot, handle, WP_CANCEL_KILL));
    wp_leave(&pool.view[1], wp_handle_index(handle), WP_OUTCOME_OK);
    CHECK_EQ(wp_slot_asked(slot), WP_CANCEL_ASKED | WP_CANCEL_FORCE | WP_CANCEL_ENDED); // for the home to see
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void a_late_ask_does_not_reach_the_next_use(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 1, 1, false);
    wp_handle before = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    claim(&pool, 1, before);
    wp_enter(&pool.view[1], wp_handle_index(before));
    end_of(&pool, 1, before);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    wp_handle now = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    CHECK(wp_handle_index(now) == wp_handle_index(before) && now != before);
    claim(&pool, 1, now);
    wp_enter(&pool.view[1], wp_handle_index(now));
    CHECK(!wp_slot_ask(slot_of(&pool, now), before, WP_CANCEL_KILL));
    CHECK_EQ(wp_slot_asked(slot_of(&pool, now)), 0);
    end_of(&pool, 1, now);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    test_pool_end(&pool);
}

static void descendants_that_wait_never_run_and_the_others_are_asked(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 8, false);
    wp_handle task = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    wp_handle stranger = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    claim(&pool, 1, task);
    wp_enter(&pool.view[1], wp_handle_index(task));
    wp_handle child[3];
    for (uint32_t i = 0; i < 3; i++) {
        child[i] = wp_home_reserve(&pool.view[1]);
        wp_home_set_parent(&pool.view[1], child[i], task);
        wp_home_submit(&pool.view[1], child[i]);
    }
    claim(&pool, 2, child[0]);
    wp_enter(&pool.view[2], wp_handle_index(child[0]));
    wp_handle grandchild = wp_home_reserve(&pool.view[2]);
    wp_home_set_parent(&pool.view[2], grandchild, child[0]);
    wp_home_submit(&pool.view[2], grandchild);

    CHECK_EQ(wp_cancel_descendants(&pool.view[0], task, WP_CANCEL_ASKED), 3); // two children, one below
    CHECK_EQ(wp_slot_asked(slot_of(&pool, child[0])), WP_CANCEL_ASKED);
    CHECK_EQ(wp_slot_asked(slot_of(&pool, task)), 0);
    CHECK_EQ(test_pool_phase(&pool, stranger), WP_PHASE_READY);
    CHECK_EQ(test_pool_phase(&pool, grandchild), WP_PHASE_DONE);
    end_of(&pool, 2, child[0]);
    CHECK_EQ(test_pool_harvest(&pool.view[1]), 3); // each home harvests its own
    CHECK_EQ(test_pool_harvest(&pool.view[2]), 1);
    end_of(&pool, 1, task);
    claim(&pool, 1, stranger);
    wp_enter(&pool.view[1], wp_handle_index(stranger));
    end_of(&pool, 1, stranger);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 2);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static uint32_t late_ones(struct test_pool *pool, int64_t now_ns, int64_t *due_ns, struct wp_late *late) {
    uint32_t at = 0, count = 0;
    struct wp_late found;
    *due_ns = INT64_MAX;
    while (wp_late_next(&pool->view[0], &at, now_ns, due_ns, &found)) {
        *late = found;
        count++;
    }
    return count;
}

static void a_task_is_late_when_its_time_from_the_start_is_over(void) {
    struct test_pool pool;
    struct wp_late late;
    int64_t due_ns, second = WP_NS_PER_SECOND;
    test_pool_make(&pool, 3, 4, 2, false);
    wp_handle handle = wp_home_reserve(&pool.view[0]);
    struct wp_slot *slot = slot_of(&pool, handle);
    CHECK_EQ(late_ones(&pool, 0, &due_ns, &late), 0);
    CHECK_EQ(due_ns, INT64_MAX);
    wp_store_relaxed(&slot->deadline_ns, (uint64_t)-second);
    wp_home_submit(&pool.view[0], handle);
    // Waiting, and claimed, it could begin now.
    CHECK_EQ(late_ones(&pool, 5 * second, &due_ns, &late), 0);
    CHECK_EQ(due_ns, 6 * second);
    claim(&pool, 2, handle);
    CHECK_EQ(late_ones(&pool, 7 * second, &due_ns, &late), 0);
    CHECK_EQ(due_ns, 8 * second);
    wp_enter(&pool.view[2], wp_handle_index(handle));
    slot->start_ns = 10 * second;
    wp_slot_start_clock(slot);
    CHECK_EQ(late_ones(&pool, 10 * second, &due_ns, &late), 0);
    CHECK_EQ(due_ns, 11 * second);
    CHECK_EQ(late_ones(&pool, 11 * second, &due_ns, &late), 1);
    CHECK(late.handle == handle && late.seat == 2 && late.flags == WP_CANCEL_TIME);
    CHECK(!wp_runs_another(&pool.view[0], 2, handle));
    CHECK(wp_slot_ask(slot, handle, WP_CANCEL_KILL));
    struct wp_recovered out = wp_recover(&pool.view[0], 2, 42, -9);
    CHECK(out.died == 1 && out.again == 0);
    uint64_t state;
    CHECK(wp_slot_is_done(slot, &state));
    CHECK_EQ(wp_state_outcome(state), WP_OUTCOME_TIMEOUT);
    CHECK_EQ(late_ones(&pool, 12 * second, &due_ns, &late), 0);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void a_task_that_runs_again_can_be_asked_again(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 4, 2, false);
    wp_handle handle = wp_home_reserve(&pool.view[0]);
    struct wp_slot *slot = slot_of(&pool, handle);
    slot->attempt_limit = 2;
    wp_home_submit(&pool.view[0], handle);
    claim(&pool, 1, handle);
    wp_enter(&pool.view[1], wp_handle_index(handle));
    CHECK_EQ(wp_slot_end(slot), 0); // and dies before it is DONE
    CHECK(!wp_slot_ask(slot, handle, WP_CANCEL_FORCE));
    CHECK_EQ(wp_recover(&pool.view[0], 1, 42, -9).again, 1);
    CHECK(wp_slot_ask(slot, handle, WP_CANCEL_FORCE));
    claim(&pool, 2, handle);
    wp_enter(&pool.view[2], wp_handle_index(handle));
    CHECK_EQ(wp_slot_asked(slot), WP_CANCEL_FORCE);
    end_of(&pool, 2, handle);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    test_pool_end(&pool);
}

static void a_task_that_runs_again_has_all_of_its_time_again(void) {
    struct test_pool pool;
    struct wp_late late;
    int64_t due_ns, second = WP_NS_PER_SECOND;
    test_pool_make(&pool, 3, 4, 2, false);
    wp_handle handle = wp_home_reserve(&pool.view[0]);
    struct wp_slot *slot = slot_of(&pool, handle);
    slot->attempt_limit = 3;
    wp_store_relaxed(&slot->deadline_ns, (uint64_t)-second);
    wp_home_submit(&pool.view[0], handle);
    for (int64_t attempt = 1; attempt <= 3; attempt++) {
        claim(&pool, 2, handle);
        wp_enter(&pool.view[2], wp_handle_index(handle));
        slot->start_ns = 10 * attempt * second;
        if (attempt != 2) wp_slot_start_clock(slot); // the second dies before
        CHECK_EQ(late_ones(&pool, 10 * attempt * second, &due_ns, &late), 0);
        CHECK_EQ(due_ns, (10 * attempt + 1) * second);
        if (attempt < 3) CHECK_EQ(wp_recover(&pool.view[0], 2, 42, -9).again, 1);
        if (attempt < 3) CHECK_EQ((int64_t)wp_load_relaxed(&slot->deadline_ns), -second);
    }
    CHECK_EQ(late_ones(&pool, 31 * second, &due_ns, &late), 1);
    CHECK_EQ(late.flags, WP_CANCEL_TIME);
    end_of(&pool, 2, handle);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

// One asks to kill while the other leaves: it is condemned, or it has left, never both.
struct race {
    struct wp_slot *slot;
    wp_handle handle;
    bool condemned;
};

static void *condemn(void *arg) {
    struct race *race = arg;
    race->condemned = wp_slot_ask(race->slot, race->handle, WP_CANCEL_KILL);
    return NULL;
}

static void who_is_condemned_knows_it(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 1, 1, false);
    for (uint32_t n = 0; n < 300; n++) {
        wp_handle handle = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
        struct race race = {slot_of(&pool, handle), handle, false};
        pthread_t thread;
        claim(&pool, 1, handle);
        wp_enter(&pool.view[1], wp_handle_index(handle));
        CHECK(pthread_create(&thread, NULL, condemn, &race) == 0);
        if (n % 2) sched_yield();
        bool knows = wp_slot_end(race.slot) & WP_CANCEL_KILL;
        CHECK(pthread_join(thread, NULL) == 0);
        CHECK_EQ(knows, race.condemned);
        wp_leave(&pool.view[1], wp_handle_index(handle), WP_OUTCOME_OK);
        CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    }
    test_pool_end(&pool);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(a_late_ask_does_not_reach_the_next_use),
        WP_TEST(descendants_that_wait_never_run_and_the_others_are_asked),
        WP_TEST(a_task_is_late_when_its_time_from_the_start_is_over),
        WP_TEST(a_task_that_runs_again_can_be_asked_again),
        WP_TEST(a_task_that_runs_again_has_all_of_its_time_again),
        WP_TEST(who_is_condemned_knows_it),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
