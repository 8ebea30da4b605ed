// test_search.c — a worker's side: what is found, in which order, and what the others
// see meanwhile.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_deque.h"
#include "wp_taskset.h"
#include "wp_test.h"

// What another seat does between two steps of the search under test.
static void (*between_steal_and_push)(void);
static void (*before_removal)(void);
static void meanwhile(void (**what)(void)) {
    void (*now)(void) = *what;
    if (now == NULL) return;
    *what = NULL; // once
    now();
}
#define wp_deque_push(deque, handle) (meanwhile(&between_steal_and_push), wp_deque_push(deque, handle))
#define wp_taskset_remove(set, index) (meanwhile(&before_removal), wp_taskset_remove(set, index))

#include "wp_search.h"
#include "wp_test_pool.h"

static struct test_pool pool;

static uint32_t must_find(struct wp_view *view) {
    uint32_t index;
    CHECK_EQ(wp_next_now(view, &index), WP_NEXT_TASK);
    uint64_t state = wp_load_acquire(&view->slots[index].state);
    CHECK(wp_state_phase(state) == WP_PHASE_CLAIMED && wp_state_owner(state) == view->self);
    return index;
}
static void must_find_nothing(struct wp_view *view) {
    uint32_t index = 12345;
    CHECK_EQ(wp_next_now(view, &index), WP_NEXT_NOTHING);
    CHECK_EQ(index, 12345);
}
static uint32_t run_next(struct wp_view *view) {
    uint32_t index = must_find(view);
    test_pool_run(view, index);
    return index;
}
static uint32_t to(uint32_t seat, enum wp_strength strength) { return wp_target(seat, strength, 0); }

static void smoke(void) {
    test_pool_make(&pool, 3, 8, 4, false);
    must_find_nothing(&pool.view[1]);
    wp_handle handle = test_pool_submit(&pool.view[0], TEST_ANYONE, 1);
    CHECK_EQ(run_next(&pool.view[1]), wp_handle_index(handle));
    must_find_nothing(&pool.view[1]);
    must_find_nothing(&pool.view[2]);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void places_are_searched_in_their_order(void) {
    test_pool_make(&pool, 3, 32, 16, false);
    struct wp_view *parent = &pool.view[0], *a = &pool.view[1], *b = &pool.view[2];
    wp_handle wanted[10];
    uint32_t n = 0;
    // From the last to the first.
    wanted[9] = test_pool_submit(b, TEST_ANYONE, 0);
    wanted[8] = test_pool_submit(parent, to(2, WP_STRENGTH_LIGHT), 0);
    wanted[7] = test_pool_submit(parent, TEST_ANYONE, 0);
    wp_deque_steal(&parent->places[0].deque, &wanted[7]); // its hint is lost; and recovered:
    wp_place_hint(parent, wp_handle_index(wanted[7]), TEST_ANYONE);
    wanted[5] = test_pool_submit(parent, TEST_ANYONE, 0);
    wanted[6] = test_pool_submit(parent, TEST_ANYONE, 0);
    wanted[4] = test_pool_submit(parent, to(1, WP_STRENGTH_LIGHT), 0);
    wanted[3] = test_pool_submit(a, TEST_ANYONE, 0);
    wanted[2] = test_pool_submit(a, TEST_ANYONE, 0);
    wanted[1] = test_pool_submit(parent, to(1, WP_STRENGTH_STRONG), 0);
    wanted[0] = test_pool_submit(parent, to(1, WP_STRENGTH_FORCE), 0);
    test_pool_submit(parent, to(2, WP_STRENGTH_STRONG), 0);
    test_pool_submit(parent, to(2, WP_STRENGTH_FORCE), 0);
    for (; n < 10; n++) {
        uint32_t index = must_find(a);
        CHECK_EQ(index, wp_handle_index(wanted[n]));
        // The last two are taken from another worker.
        CHECK_EQ(wp_seat_stat(a, 1, WP_STAT_STEALS), n < 8 ? 0 : n - 7);
    }
    must_find_nothing(a); // what is bound to the other seat stays
    run_next(b), run_next(b);
    must_find_nothing(b);
    test_pool_end(&pool);
}

static void nested_work_does_not_starve_submissions(void) {
    test_pool_make(&pool, 2, 8, 8, false);
    wp_handle handle = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    uint32_t rounds = 0;
    for (;; rounds++) { // its own deque is never empty
        test_pool_submit(&pool.view[1], TEST_ANYONE, 0);
        uint32_t index = must_find(&pool.view[1]);
        test_pool_run(&pool.view[1], index);
        test_pool_harvest(&pool.view[1]);
        if (index == wp_handle_index(handle)) break;
        CHECK(rounds < WP_FAIR_ROUND);
    }
    CHECK_EQ(rounds, WP_FAIR_ROUND - 1);
    test_pool_end(&pool);
}

static void a_batch_keeps_the_order_and_leaves_the_others_their_share(void) {
    test_pool_make(&pool, 3, 64, 4, false);
    wp_handle handle[60];
    for (uint32_t i = 0; i < 60; i++) handle[i] = test_pool_submit(&pool.view[0], TEST_ANYONE, i);
    CHECK_EQ(must_find(&pool.view[1]), wp_handle_index(handle[0]));
    CHECK_EQ(wp_deque_size(&pool.view[0].places[0].deque), 60 - WP_STEAL_BATCH);
    CHECK_EQ(wp_deque_size(&pool.view[0].places[1].deque), WP_STEAL_BATCH - 1);
    for (uint32_t i = 1; i < WP_STEAL_BATCH; i++) CHECK_EQ(must_find(&pool.view[1]), wp_handle_index(handle[i]));
    uint32_t found = WP_STEAL_BATCH;
    while (wp_deque_size(&pool.view[0].places[0].deque) > 0) {
        int64_t size = wp_deque_size(&pool.view[0].places[0].deque);
        must_find(&pool.view[1 + found++ % 2]);
        CHECK(wp_deque_size(&pool.view[0].places[0].deque) >= size - size / 3 - 1);
    }
    uint32_t index;
    while (wp_next_now(&pool.view[1], &index) == WP_NEXT_TASK) found++;
    CHECK_EQ(found, 60);
    must_find_nothing(&pool.view[2]);
    test_pool_end(&pool);
}

static void void_hints_are_passed_over(void) {
    test_pool_make(&pool, 3, 32, 4, false);
    struct wp_view *parent = &pool.view[0], *a = &pool.view[1];
    // Cancelled, of another use, out of bounds, and twice.
    wp_handle gone = test_pool_submit(parent, TEST_ANYONE, 0);
    CHECK(wp_slot_cancel(&parent->slots[wp_handle_index(gone)], gone));
    wp_home_release(parent, gone);
    wp_deque_push(&parent->places[0].deque, wp_handle_of(UINT32_MAX, 3));
    wp_deque_push(&parent->places[0].deque, WP_NO_HANDLE);
    wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 0);
    wp_deque_push(&parent->places[0].deque, handle);
    wp_taskset_add(&parent->orphans, wp_handle_index(gone));
    wp_taskset_add(&parent->orphans, wp_handle_index(handle));
    wp_or_acq_rel(&parent->orphans.leaves[parent->orphans.leaf_words - 1], UINT64_C(1) << 63); // no such slot
    wp_taskset_add(&parent->places[1].mailbox[0], wp_handle_index(gone));
    uint32_t found = 0, index;
    for (uint32_t n = 0; n < 20; n++)
        if (wp_next_now(a, &index) == WP_NEXT_TASK) CHECK(index == wp_handle_index(handle) && ++found == 1);
    CHECK_EQ(found, 1);
    CHECK(!wp_work_is_visible(a));
    CHECK(wp_seat_stat(a, 1, WP_STAT_HINTS_STALE) >= 3);
    test_pool_end(&pool);
}

static void a_forced_task_is_left_to_its_target_wherever_its_hint_is(void) {
    test_pool_make(&pool, 3, 32, 4, false);
    struct wp_view *parent = &pool.view[0], *a = &pool.view[1], *b = &pool.view[2];
    wp_handle handle = test_pool_submit(parent, to(2, WP_STRENGTH_FORCE), 0);
    wp_deque_push(&parent->places[0].deque, handle);
    wp_taskset_add(&parent->orphans, wp_handle_index(handle));
    wp_taskset_add(&parent->places[1].mailbox[wp_mailbox_of(WP_STRENGTH_FORCE)], wp_handle_index(handle));
    wp_taskset_add(&parent->places[2].mailbox[wp_mailbox_of(WP_STRENGTH_LIGHT)], wp_handle_index(handle));
    uint32_t index;
    for (uint32_t n = 0; n < 5; n++) CHECK_EQ(wp_next_now(a, &index), WP_NEXT_NOTHING);
    CHECK(!wp_work_is_visible(a)); // or it could not sleep
    CHECK_EQ(run_next(b), wp_handle_index(handle));
    test_pool_end(&pool);
}

static void a_scribbled_hint_is_dropped_when_there_is_no_room_for_it(void) {
    test_pool_make(&pool, 3, 32, 4, false);
    struct wp_view *parent = &pool.view[0], *a = &pool.view[1];
    uint32_t index;
    while (wp_deque_push(&a->places[1].deque, wp_handle_of(0, 1))) { // stale, and full
    }
    for (uint32_t n = 0; n < 16; n++) wp_deque_push(&parent->places[0].deque, wp_handle_of(UINT32_MAX - n, n));
    CHECK_EQ(wp_search_parent(a, &index), WP_FIND_BUSY);
    CHECK(wp_taskset_is_empty(&parent->orphans));
    test_pool_end(&pool);
}

static void stopping_comes_before_work_and_draining_after(void) {
    test_pool_make(&pool, 2, 8, 4, false);
    uint32_t index;
    wp_handle own = test_pool_submit(&pool.view[1], TEST_ANYONE, 0);
    wp_seat_stop(&pool.view[0], 1, WP_STOP_DRAINED);
    CHECK_EQ(run_next(&pool.view[1]), wp_handle_index(own));
    CHECK_EQ(wp_next_now(&pool.view[1], &index), WP_NEXT_HARVEST);
    CHECK_EQ(test_pool_harvest(&pool.view[1]), 1);
    CHECK_EQ(wp_next_now(&pool.view[1], &index), WP_NEXT_STOP);
    test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    wp_seat_stop(&pool.view[0], 1, WP_STOP_NOW);
    CHECK_EQ(wp_next_now(&pool.view[1], &index), WP_NEXT_STOP);
    CHECK_EQ(wp_next_wait(&pool.view[1], &index, -1), WP_NEXT_STOP);
    CHECK(!wp_idle_any(pool.view[0].idle->idle) && !wp_idle_any(pool.view[0].idle->searching));
    test_pool_end(&pool);
}

static void waiting_ends_with_its_time(void) {
    for (uint32_t polls = 0; polls < 2; polls++) {
        test_pool_make(&pool, 2, 8, 4, polls);
        uint32_t index;
        CHECK_EQ(wp_next_wait(&pool.view[1], &index, 0), WP_NEXT_NOTHING);
        CHECK_EQ(wp_next_wait(&pool.view[1], &index, 1000000), WP_NEXT_NOTHING);
        CHECK_EQ(wp_load_acquire(&pool.view[0].places[1].seat->parker), 0);
        CHECK(!wp_idle_any(pool.view[0].idle->idle) && !wp_idle_any(pool.view[0].idle->searching));
        test_pool_end(&pool);
    }
}

static void victims_are_chosen_evenly(void) {
    test_pool_make(&pool, 6, 8, 4, false);
    uint32_t hits[5] = {0};
    for (uint32_t n = 0; n < 50000; n++) {
        uint32_t below = wp_search_random(&pool.view[1], 5);
        CHECK(below < 5);
        hits[below]++;
    }
    for (uint32_t i = 0; i < 5; i++) CHECK(hits[i] > 9000 && hits[i] < 11000);
    for (uint32_t seat = 1; seat < 6; seat++) CHECK(pool.view[seat].random != 0); // or it would stay so
    test_pool_end(&pool);
}

// ---- what another seat sees while this one searches

static bool is_asleep(uint32_t seat) {
    return wp_idle_has(pool.view[0].idle->idle, seat) &&
           !(wp_load_acquire(&pool.view[0].places[seat].seat->parker) & WP_PARKER_TOKEN);
}

// Seat 2 runs what it finds, finds nothing more, and goes to sleep.
static void the_other_falls_asleep(void) {
    struct wp_view *b = &pool.view[2];
    uint32_t index;
    wp_search_begin(b);
    while (wp_next_now(b, &index) == WP_NEXT_TASK) {
        wp_search_end(b);
        test_pool_run(b, index);
        wp_search_begin(b);
    }
    CHECK(wp_park_arm(b, WP_PARKER_FUTEX));
}
static void hints_in_a_thief_s_hand_do_not_lie_beside_a_sleeping_seat(void) {
    for (uint32_t searching = 0; searching < 2; searching++) {
        test_pool_make(&pool, 3, 32, 4, false);
        uint32_t index;
        for (uint32_t n = 0; n < 3; n++) test_pool_submit(&pool.view[0], TEST_ANYONE, n);
        between_steal_and_push = the_other_falls_asleep;
        if (searching)
            CHECK_EQ(wp_next_wait(&pool.view[1], &index, -1), WP_NEXT_TASK);
        else
            CHECK_EQ(wp_next_now(&pool.view[1], &index), WP_NEXT_TASK); // a first look, as the glue takes
        CHECK(between_steal_and_push == NULL);
        // One task is in this seat's hands, perhaps for long; another is in its deque.
        CHECK_EQ(wp_deque_size(&pool.view[0].places[1].deque), 1);
        CHECK(!is_asleep(2));
        test_pool_end(&pool);
    }
}

static uint32_t offered_later;
static void the_slot_is_offered_again(void) {
    struct wp_view *parent = &pool.view[0];
    wp_handle handle = wp_home_reserve(parent);
    offered_later = wp_handle_index(handle);
    struct wp_slot *slot = &parent->slots[offered_later];
    wp_slot_publish(slot, handle);
    wp_place_hint(parent, offered_later, TEST_ANYONE); // its deque was full, say
    wp_notify(parent, WP_NO_SEAT, WP_STRENGTH_NONE);
}
static void a_bit_set_again_while_it_is_found_void_is_not_lost(void) {
    test_pool_make(&pool, 3, 1, 4, false);
    struct wp_view *parent = &pool.view[0], *a = &pool.view[1];
    wp_taskset_add(&parent->orphans, 0); // stale: slot 0 is FREE
    before_removal = the_slot_is_offered_again;
    CHECK_EQ(must_find(a), offered_later);
    CHECK(before_removal == NULL);
    test_pool_end(&pool);
}

static void the_slot_is_offered_to_another(void) {
    struct wp_view *parent = &pool.view[0];
    test_pool_submit(parent, to(2, WP_STRENGTH_FORCE), 0);
}
static void a_bit_found_void_is_not_put_back_for_a_task_of_another_seat(void) {
    test_pool_make(&pool, 3, 1, 4, false);
    wp_taskset_add(&pool.view[0].orphans, 0);
    before_removal = the_slot_is_offered_to_another;
    must_find_nothing(&pool.view[1]);
    CHECK(before_removal == NULL && !wp_work_is_visible(&pool.view[1]));
    must_find(&pool.view[2]);
    test_pool_end(&pool);
}

// ---- many searchers

#define SEARCHERS 4u
struct searcher {
    uint32_t seat;
    uint32_t tasks;
    uint64_t found, lost;
};
static wp_atomic32 over;
static void *search(void *argument) {
    struct searcher *s = argument;
    struct wp_view *view = &pool.view[s->seat];
    uint64_t random = wp_test_stream(s->seat);
    wp_test_gate();
    if (s->seat == 0) { // the parent
        uint32_t left = s->tasks, out = 0;
        while (left > 0 || out > 0) {
            while (left > 0 && wp_home_free_slots(view) > 0) {
                enum wp_strength strength = (enum wp_strength)wp_test_below(&random, 4);
                test_pool_submit(view, to(1 + wp_test_below(&random, SEARCHERS), strength), left--);
                out++;
            }
            out -= test_pool_harvest(view);
            wp_test_jitter(&random);
        }
        wp_store_release(&over, 1);
        return NULL;
    }
    for (uint32_t index; wp_load_acquire(&over) == 0;) {
        if (wp_next_now(view, &index) != WP_NEXT_TASK) {
            wp_test_jitter(&random);
            continue;
        }
        uint64_t state = wp_load_relaxed(&view->slots[index].state);
        CHECK(wp_state_owner(state) == s->seat && wp_state_attempt(state) == 1);
        wp_test_jitter(&random);
        test_pool_run(view, index);
        s->found++;
    }
    return NULL;
}
static void race(uint32_t parent_slots, uint32_t tasks) {
    test_pool_make(&pool, 1 + SEARCHERS, parent_slots, 2, false);
    struct searcher s[1 + SEARCHERS];
    wp_store_relaxed(&over, 0);
    for (uint32_t i = 0; i <= SEARCHERS; i++) s[i] = (struct searcher){.seat = i, .tasks = tasks};
    wp_test_threads(1 + SEARCHERS, search, s, sizeof *s);
    uint64_t found = 0, lost = 0, stale = 0;
    for (uint32_t i = 1; i <= SEARCHERS; i++) {
        found += s[i].found;
        lost += wp_seat_stat(&pool.view[0], i, WP_STAT_STEALS_LOST);
        stale += wp_seat_stat(&pool.view[0], i, WP_STAT_HINTS_STALE);
    }
    printf("    %u tasks, steals lost %" PRIu64 ", hints stale %" PRIu64 "\n", tasks, lost, stale);
    CHECK_EQ(found, tasks);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}
static void stampede(void) { race(1, wp_test_rounds(20000)); }
static void storm(void) { race(48, wp_test_rounds(60000)); }

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(places_are_searched_in_their_order),
        WP_TEST(nested_work_does_not_starve_submissions),
        WP_TEST(a_batch_keeps_the_order_and_leaves_the_others_their_share),
        WP_TEST(void_hints_are_passed_over),
        WP_TEST(a_forced_task_is_left_to_its_target_wherever_its_hint_is),
        WP_TEST(a_scribbled_hint_is_dropped_when_there_is_no_room_for_it),
        WP_TEST(stopping_comes_before_work_and_draining_after),
        WP_TEST(waiting_ends_with_its_time),
        WP_TEST(victims_are_chosen_evenly),
        WP_TEST(hints_in_a_thief_s_hand_do_not_lie_beside_a_sleeping_seat),
        WP_TEST(a_bit_set_again_while_it_is_found_void_is_not_lost),
        WP_TEST(a_bit_found_void_is_not_put_back_for_a_task_of_another_seat),
        WP_TEST(stampede),
        WP_TEST(storm),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
