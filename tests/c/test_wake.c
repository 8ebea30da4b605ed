// test_wake.c — parking and waking: no order of steps leaves a seat asleep beside work.
//
// A lost wake-up is a hang, which the frame's alarm ends: nothing here waits by time.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_wake.h"

#include <sys/mman.h>

#include "wp_test_pool.h"

#if WP_OS_LINUX
#include <sys/eventfd.h>
#endif

static uint32_t parker(struct test_pool *pool, uint32_t seat) {
    return wp_load_acquire(&pool->view[0].places[seat].seat->parker);
}
static bool is_idle(struct test_pool *pool, uint32_t seat) { return wp_idle_has(pool->view[0].idle->idle, seat); }
static bool searches(struct test_pool *pool, uint32_t seat) { return wp_idle_has(pool->view[0].idle->searching, seat); }

static void park(struct wp_view *view, uint32_t how) {
    wp_search_begin(view);
    CHECK(wp_park_arm(view, how));
}

static void smoke(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    struct wp_view *a = &pool.view[1];
    wp_search_begin(a);
    CHECK(searches(&pool, 1) && !is_idle(&pool, 1));
    CHECK(wp_park_arm(a, WP_PARKER_FUTEX));
    CHECK(!searches(&pool, 1) && is_idle(&pool, 1));
    CHECK_EQ(parker(&pool, 1), WP_PARKER_FUTEX);
    CHECK_EQ(wp_park_sleep(a, 0), WP_WAIT_TIMEOUT);
    CHECK(wp_unpark(&pool.view[0], 1));
    CHECK(!wp_unpark(&pool.view[0], 1)); // another did
    CHECK_EQ(parker(&pool, 1), WP_PARKER_TOKEN);
    CHECK_EQ(wp_park_sleep(a, -1), WP_WAIT_WOKEN);
    wp_park_disarm(a);
    CHECK(searches(&pool, 1) && !is_idle(&pool, 1));
    CHECK_EQ(parker(&pool, 1), 0);
    wp_search_end(a);
    CHECK(!searches(&pool, 1));
    CHECK_EQ(wp_seat_stat(a, 1, WP_STAT_PARKS), 2);
    CHECK_EQ(wp_seat_stat(a, 0, WP_STAT_WAKES), 1);
    test_pool_end(&pool);
}

static void a_token_left_before_arming_does_not_keep_a_seat_awake_and_work_does(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    struct wp_view *parent = &pool.view[0], *a = &pool.view[1];
    CHECK(!wp_unpark(parent, 1));
    park(a, WP_PARKER_FUTEX);
    CHECK_EQ(parker(&pool, 1), WP_PARKER_FUTEX);
    wp_park_disarm(a);
    // Each kind of work, put there without a word to the seat.
    for (uint32_t kind = 0; kind < 8; kind++) {
        struct wp_place *other = &parent->places[2], *own = &parent->places[1];
        uint64_t handle;
        if (kind == 0) wp_deque_push(&parent->places[0].deque, 1);
        if (kind == 1) wp_deque_push(&other->deque, 1);
        if (kind == 2) wp_taskset_add(&parent->orphans, 1);
        if (kind == 3) wp_taskset_add(&other->mailbox[wp_mailbox_of(WP_STRENGTH_LIGHT)], 1);
        if (kind == 4) wp_taskset_add(&own->mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)], 1);
        if (kind == 5) wp_taskset_add(&own->mailbox[wp_mailbox_of(WP_STRENGTH_FORCE)], 1);
        if (kind == 6) wp_taskset_add(&own->completions, 1);
        if (kind == 7) wp_store_relaxed(&own->seat->stop, WP_STOP_DRAINED);
        CHECK(!wp_park_arm(a, WP_PARKER_FUTEX));
        CHECK(searches(&pool, 1) && !is_idle(&pool, 1));
        CHECK_EQ(parker(&pool, 1), 0);
        if (kind == 0) wp_deque_steal(&parent->places[0].deque, &handle);
        if (kind == 1) wp_deque_steal(&other->deque, &handle);
        if (kind == 2) wp_taskset_remove(&parent->orphans, 1);
        if (kind == 3) wp_taskset_remove(&other->mailbox[wp_mailbox_of(WP_STRENGTH_LIGHT)], 1);
        if (kind == 4) wp_taskset_remove(&own->mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)], 1);
        if (kind == 5) wp_taskset_remove(&own->mailbox[wp_mailbox_of(WP_STRENGTH_FORCE)], 1);
        if (kind == 6) wp_taskset_remove(&own->completions, 1);
        if (kind == 7) wp_store_relaxed(&own->seat->stop, WP_STOP_NO);
        CHECK(wp_park_arm(a, WP_PARKER_FUTEX));
        wp_park_disarm(a);
    }
    // What others are bound to is no reason.
    wp_taskset_add(&parent->places[2].mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)], 1);
    wp_taskset_add(&parent->places[2].mailbox[wp_mailbox_of(WP_STRENGTH_FORCE)], 1);
    wp_taskset_add(&parent->places[2].completions, 1);
    CHECK(wp_park_arm(a, WP_PARKER_FUTEX));
    test_pool_end(&pool);
}

static void one_idle_seat_is_woken_for_each_task_unless_somebody_searches(void) {
    struct test_pool pool;
    test_pool_make(&pool, 4, 8, 2, false);
    struct wp_view *parent = &pool.view[0];
    wp_wake_one(parent); // nobody sleeps: nothing
    for (uint32_t seat = 1; seat < 4; seat++) park(&pool.view[seat], WP_PARKER_FUTEX);
    for (uint32_t n = 1; n < 4; n++) {
        wp_wake_one(parent);
        // The same seat is not woken twice: a task for each.
        for (uint32_t seat = 1; seat < 4; seat++)
            CHECK_EQ(parker(&pool, seat), seat <= n ? WP_PARKER_TOKEN : WP_PARKER_FUTEX);
    }
    wp_wake_one(parent);
    CHECK_EQ(wp_seat_stat(parent, 0, WP_STAT_WAKES), 3);
    wp_park_disarm(&pool.view[1]); // it searches now
    wp_park_disarm(&pool.view[2]);
    wp_search_end(&pool.view[2]);
    park(&pool.view[2], WP_PARKER_FUTEX);
    wp_wake_one(parent);
    CHECK_EQ(parker(&pool, 2), WP_PARKER_FUTEX); // the searcher will find it, and then
    test_pool_submit(parent, TEST_ANYONE, 0);
    CHECK_EQ(parker(&pool, 2), WP_PARKER_FUTEX);
    wp_search_end(&pool.view[1]); // pass the word on
    CHECK_EQ(parker(&pool, 2), WP_PARKER_TOKEN);
    test_pool_end(&pool);
}

static void a_bound_task_wakes_its_target_and_a_light_one_somebody(void) {
    for (uint32_t strength = WP_STRENGTH_LIGHT; strength <= WP_STRENGTH_FORCE; strength++)
        for (uint32_t asleep = 0; asleep < 8; asleep += 2) { // bits of workers 1 and 2
            struct test_pool pool;
            test_pool_make(&pool, 3, 8, 2, false);
            for (uint32_t seat = 1; seat <= 2; seat++)
                if (asleep >> seat & 1) park(&pool.view[seat], WP_PARKER_FUTEX);
            test_pool_submit(&pool.view[0], wp_target(2, (enum wp_strength)strength, 0), 0);
            bool target = asleep >> 2 & 1, other = asleep >> 1 & 1;
            CHECK_EQ(parker(&pool, 2), target ? WP_PARKER_TOKEN : 0);
            // For a strong one somebody must watch its target, which is awake.
            CHECK_EQ(parker(&pool, 1), !other                                     ? 0
                                       : !target && strength != WP_STRENGTH_FORCE ? WP_PARKER_TOKEN
                                                                                  : WP_PARKER_FUTEX);
            test_pool_end(&pool);
        }
}

static void a_home_is_woken_for_what_it_awaits(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 8, 2, false);
    struct wp_view *worker = &pool.view[1];
    struct wp_seat *home = pool.view[0].places[0].seat;
    wp_handle wanted = wp_handle_of(3, 4), other = wp_handle_of(3, 5);
    wp_notify_home(worker, 0, wanted); // it does not wait
    CHECK_EQ(parker(&pool, 0), 0);
    wp_store_relaxed(&home->awaited, wanted);
    wp_or_acq_rel(&home->parker, WP_PARKER_FUTEX);
    wp_notify_home(worker, 0, other);
    CHECK_EQ(parker(&pool, 0), WP_PARKER_FUTEX);
    wp_notify_home(worker, 0, wanted);
    CHECK_EQ(parker(&pool, 0), WP_PARKER_TOKEN);
    wp_store_relaxed(&home->parker, WP_PARKER_FUTEX);
    wp_store_relaxed(&home->awaited, WP_NO_HANDLE);
    wp_notify_home(worker, 0, other);
    CHECK_EQ(parker(&pool, 0), WP_PARKER_TOKEN);
    test_pool_end(&pool);
}

#if WP_OS_LINUX
static uint64_t signals(int fd) {
    uint64_t count = 0;
    return read(fd, &count, sizeof count) == (ssize_t)sizeof count ? count : 0;
}
static void a_seat_in_an_event_loop_is_woken_by_its_eventfd(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    int fd = eventfd(0, EFD_NONBLOCK);
    for (uint32_t seat = 0; seat < 3; seat++) pool.view[seat].places[1].eventfd = fd;
    park(&pool.view[1], WP_PARKER_EVENTFD);
    CHECK_EQ(signals(fd), 0);
    test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    CHECK_EQ(signals(fd), 1);
    test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    CHECK_EQ(signals(fd), 0); // it has a token
    wp_park_disarm(&pool.view[1]);
    CHECK_EQ(parker(&pool, 1), 0);
    // A home that awaits one task, and whose loop waits for any: the loop is told of any.
    wp_store_relaxed(&pool.view[1].places[1].seat->awaited, 7);
    wp_or_acq_rel(&pool.view[1].places[1].seat->parker, WP_PARKER_EVENTFD | WP_PARKER_FUTEX);
    wp_notify_home(&pool.view[2], 1, 8);
    CHECK_EQ(signals(fd), 1);
    CHECK_EQ(parker(&pool, 1), WP_PARKER_TOKEN);
    close(fd);
    test_pool_end(&pool);
}
#else
static void a_seat_in_an_event_loop_is_woken_by_its_eventfd(void) {}
#endif

static void spinning_adapts_between_its_bounds(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 8, 2, false);
    struct wp_view *view = &pool.view[1];
    wp_spin_adapt(view, true, 1);
    CHECK_EQ(view->spin_ns, 0); // switched off
    view->spin_max_ns = 50000;
    for (uint32_t n = 0; n < 20; n++) wp_spin_adapt(view, true, 1);
    CHECK_EQ(view->spin_ns, 50000);
    for (uint32_t n = 0; n < 20; n++) wp_spin_adapt(view, false, 1);
    CHECK_EQ(view->spin_ns, WP_SPIN_MIN_NS);
    CHECK_EQ(wp_seat_stat(view, 1, WP_STAT_SPINS_USED), 20);
    // A sleep that looking would have spared makes it worth while again; any other does not.
    view->spin_max_ns = INT64_C(3600) * 1000000000;
    wp_search_begin(view);
    CHECK(wp_park_arm(view, WP_PARKER_FUTEX));
    CHECK_EQ(wp_park_sleep(view, 1), WP_WAIT_TIMEOUT);
    CHECK_EQ(view->spin_ns, WP_SPIN_MIN_NS);
    wp_unpark(&pool.view[0], 1);
    CHECK_EQ(wp_park_sleep(view, -1), WP_WAIT_WOKEN);
    CHECK_EQ(view->spin_ns, view->spin_max_ns);
    wp_park_disarm(view);
    wp_search_end(view);
    test_pool_end(&pool);
}

// Another thread of the seat may take the token, as it arms the eventfd.
static void a_sleeper_whose_token_was_taken_is_awake(void) {
    for (uint32_t polls = 0; polls < 2; polls++) {
        struct test_pool pool;
        test_pool_make(&pool, 2, 8, 2, polls);
        struct wp_view *home = &pool.view[0];
        wp_atomic32 *word = &home->places[0].seat->parker;
        wp_or_acq_rel(word, WP_PARKER_FUTEX); // as wp_home_wait
        wp_unpark(&pool.view[1], 0);
        CHECK(!wp_home_arm(home)); // there was one
        CHECK_EQ(parker(&pool, 0), WP_PARKER_EVENTFD);
        CHECK_EQ(wp_park_sleep(home, -1), WP_WAIT_WOKEN);
        test_pool_end(&pool);
    }
}

static void only_seats_with_a_spare_cpu_spin(void) {
    struct test_pool pool;
    test_pool_make(&pool, 4, 8, 2, false); // of two CPUs
    struct wp_view *view = pool.view;
    wp_seats_launched(&view[0], 3);
    for (uint32_t seat = 1; seat < 4; seat++) park(&view[seat], WP_PARKER_FUTEX);
    CHECK(wp_may_spin(&view[0])); // all sleep
    wp_park_disarm(&view[2]);
    CHECK(wp_may_spin(&view[2])); // beside the parent there is one CPU
    wp_park_disarm(&view[1]);
    CHECK(wp_may_spin(&view[1]) && !wp_may_spin(&view[2])); // the lower seat has it
    wp_or_acq_rel(&view[0].places[0].seat->parker, WP_PARKER_FUTEX);
    CHECK(wp_may_spin(&view[1]) && wp_may_spin(&view[2])); // the parent sleeps
    wp_search_end(&view[1]);
    wp_search_end(&view[2]); // both have work
    wp_park_disarm(&view[3]);
    CHECK(!wp_may_spin(&view[3]) && !wp_may_spin(&view[0]));
    test_pool_end(&pool);
}

// ---- the handshake alone: a flag for work, one sleeper, wakers

// The flags stand for work. A waker sets one, then notifies; the sleeper looks for any,
// else parks. It sleeps for ever if a wake is lost.
#define WAKERS 3u
struct shake {
    struct test_pool *pool;
    uint32_t seat; // 0: the sleeper, in seat 1; else a waker in seat 1 + i
    uint32_t rounds;
    wp_atomic32 *ack; // by waker: the last round the sleeper has served
    uint64_t slept;
};
static void *shake(void *argument) {
    struct shake *shake = argument;
    struct wp_view *view = &shake->pool->view[1 + shake->seat];
    const struct wp_taskset *box = &view->places[1].mailbox[wp_mailbox_of(WP_STRENGTH_STRONG)];
    uint64_t random = wp_test_stream(shake->seat);
    wp_test_gate();
    if (shake->seat != 0) {
        for (uint32_t round = 1; round <= shake->rounds; round++) {
            wp_taskset_add(box, shake->seat);
            wp_notify(view, 1, WP_STRENGTH_STRONG);
            while (wp_load_acquire(&shake->ack[shake->seat]) != round) sched_yield();
            for (uint32_t n = wp_test_below(&random, 200); n > 0; n--) wp_cpu_relax();
        }
        return NULL;
    }
    uint32_t served[1 + WAKERS] = {0};
    wp_search_begin(view);
    for (uint32_t left = WAKERS * shake->rounds; left > 0;) {
        uint32_t i = wp_taskset_find(box, 0);
        if (i != WP_NO_INDEX) {
            wp_taskset_remove(box, i);
            wp_store_release(&shake->ack[i], ++served[i]);
            left--;
            continue;
        }
        if (!wp_park_arm(view, WP_PARKER_FUTEX)) continue;
        shake->slept++;
        while (wp_park_sleep(view, -1) != WP_WAIT_WOKEN) {
        }
        wp_park_disarm(view);
    }
    wp_search_end(view);
    return NULL;
}
static void shakes(bool polls, uint32_t rounds) {
    struct test_pool pool;
    struct shake actor[1 + WAKERS];
    wp_atomic32 ack[1 + WAKERS] = {0};
    test_pool_make(&pool, 2 + WAKERS, 8, 2, polls);
    for (uint32_t i = 0; i <= WAKERS; i++)
        actor[i] = (struct shake){.pool = &pool, .seat = i, .rounds = rounds, .ack = ack};
    wp_test_threads(1 + WAKERS, shake, actor, sizeof *actor);
    uint64_t wakes = 0;
    for (uint32_t i = 1; i <= WAKERS; i++) {
        CHECK_EQ(wp_load_relaxed(&ack[i]), rounds);
        wakes += wp_seat_stat(&pool.view[0], 1 + i, WP_STAT_WAKES);
    }
    printf("    %u rounds: slept %" PRIu64 ", woken %" PRIu64 "\n", WAKERS * rounds, actor[0].slept, wakes);
    CHECK(wakes >= actor[0].slept); // each sleep has one waker; others met a seat that stayed up
    CHECK(!is_idle(&pool, 1) && !searches(&pool, 1));
    test_pool_end(&pool);
}
static void stampede(void) { shakes(false, wp_test_rounds(15000)); }
static void stampede_on_a_polling_seat(void) { shakes(true, wp_test_rounds(400)); }

// The same over the eventfd's and the futex's bits of one parker: a home that two
// threads watch. Law: whoever armed is told of what came after.
struct watch {
    struct test_pool *pool;
    uint32_t seat; // 0: settles; 1: sleeps on the futex
    uint32_t rounds;
    wp_atomic32 *seen;
};
static void *settle_or_wait(void *argument) {
    struct watch *watch = argument;
    struct wp_view *home = &watch->pool->view[0], *worker = &watch->pool->view[1];
    uint64_t random = wp_test_stream(watch->seat);
    wp_test_gate();
    for (uint32_t round = 1; round <= watch->rounds; round++) {
        if (watch->seat == 0) {
            wp_taskset_add(&worker->places[0].completions, round % 8);
            wp_notify_home(worker, 0, WP_NO_HANDLE);
            while (wp_load_acquire(watch->seen) != round) sched_yield();
            for (uint32_t n = wp_test_below(&random, 200); n > 0; n--) wp_cpu_relax();
            continue;
        }
        uint32_t first = 0;
        uint64_t bits;
        while ((bits = wp_home_take(home, &first)) == 0) wp_home_wait(home, WP_NO_HANDLE, -1);
        CHECK(bits == UINT64_C(1) << round % 8);
        wp_store_release(watch->seen, round);
    }
    return NULL;
}
static void waits(bool polls, int64_t spin_ns, uint32_t rounds) {
    struct test_pool pool;
    wp_atomic32 seen = {0};
    test_pool_make(&pool, 2, 8, 2, polls);
    pool.view[0].spin_ns = pool.view[0].spin_max_ns = spin_ns;
    struct watch actor[2] = {{&pool, 0, rounds, &seen}, {&pool, 1, rounds, &seen}};
    wp_test_threads(2, settle_or_wait, actor, sizeof *actor);
    CHECK_EQ(wp_load_relaxed(&seen), rounds);
    CHECK(!wp_home_has_completions(&pool.view[0]));
    test_pool_end(&pool);
}
static void storm_of_completions(void) {
    waits(false, 0, wp_test_rounds(20000));
    waits(false, 10000, wp_test_rounds(20000));
    waits(true, 0, wp_test_rounds(400));
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(a_token_left_before_arming_does_not_keep_a_seat_awake_and_work_does),
        WP_TEST(one_idle_seat_is_woken_for_each_task_unless_somebody_searches),
        WP_TEST(a_bound_task_wakes_its_target_and_a_light_one_somebody),
        WP_TEST(a_home_is_woken_for_what_it_awaits),
        WP_TEST(a_seat_in_an_event_loop_is_woken_by_its_eventfd),
        WP_TEST(spinning_adapts_between_its_bounds),
        WP_TEST(a_sleeper_whose_token_was_taken_is_awake),
        WP_TEST(only_seats_with_a_spare_cpu_spin),
        WP_TEST(stampede),
        WP_TEST(stampede_on_a_polling_seat),
        WP_TEST(storm_of_completions),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
