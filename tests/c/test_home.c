// test_home.c — a home's side: slots go out, outcomes come in, and waiting ends for
// what it waits for.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_home.h"
#include "wp_usage.h"

#include <sys/mman.h>

#include "wp_test_pool.h"

#if WP_OS_LINUX
#include <poll.h>
#include <sys/eventfd.h>
#endif

// A worker's whole side: finds the task of this handle, runs it, tells the home.
static void run_at(struct test_pool *pool, uint32_t seat, wp_handle handle) {
    struct wp_view *view = &pool->view[seat];
    CHECK_EQ(wp_slot_claim(&view->slots[wp_handle_index(handle)], handle, seat), WP_CLAIM_OK);
    test_pool_run(view, wp_handle_index(handle));
}

static void smoke(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    struct wp_view *parent = &pool.view[0];
    wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 41), found = 0;
    CHECK_EQ(test_pool_phase(&pool, handle), WP_PHASE_READY);
    CHECK(wp_deque_steal(&parent->places[0].deque, &found) == WP_STEAL_OK && found == handle);
    CHECK(!wp_home_has_completions(parent) && !wp_home_is_served(parent, handle));
    run_at(&pool, 2, handle);
    CHECK(wp_home_has_completions(parent) && wp_home_is_served(parent, handle) &&
          wp_home_is_served(parent, WP_NO_HANDLE));
    uint32_t first = 99;
    uint64_t bits = wp_home_take(parent, &first), word;
    CHECK(bits == UINT64_C(1) << wp_handle_index(handle) && first == 0);
    memcpy(&word, parent->slots[wp_handle_index(handle)].bytes, sizeof word);
    CHECK_EQ(word, 42);
    CHECK(wp_home_take(parent, &first) == 0 && !wp_home_has_completions(parent));
    wp_home_untake(parent, wp_handle_index(handle));
    CHECK_EQ(test_pool_harvest(parent), 1);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void a_reserved_slot_has_what_a_plain_task_has(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 4, 2, false);
    for (uint32_t seat = 0; seat < 2; seat++)
        for (uint32_t n = 0; n < 10; n++) {
            struct wp_view *view = &pool.view[seat];
            wp_handle handle = wp_home_reserve(view);
            struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
            CHECK(wp_view_home(view, wp_handle_index(handle)) == seat && slot->home == seat);
            CHECK(wp_load_relaxed(&slot->target) == TEST_ANYONE &&
                  wp_load_relaxed(&slot->cancel) == wp_cancel_word(handle) &&
                  wp_load_relaxed(&slot->parent) == WP_NO_HANDLE && wp_load_relaxed(&slot->function) == 0 &&
                  wp_load_relaxed(&slot->deadline_ns) == 0 && slot->start_ns == 0 && slot->end_ns == 0 &&
                  wp_payload_block(&slot->argument) == 0 && slot->argument.bytes == 0 &&
                  wp_payload_block(&slot->result) == 0 && slot->result.bytes == 0 && slot->pre_us == 0 &&
                  slot->call == 0 && slot->attempt_limit == 1 && slot->group == 0);
            wp_store_relaxed(&slot->target, 7), wp_store_relaxed(&slot->cancel, 2), wp_store_relaxed(&slot->parent, 3);
            wp_store_relaxed(&slot->function, 64), wp_store_relaxed(&slot->deadline_ns, 5),
                slot->start_ns = 6, slot->end_ns = 7, slot->pre_us = 9, slot->call = 10, slot->attempt_limit = 11,
                slot->group = 12;
            wp_home_release(view, handle);
        }
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void slots_go_round_and_run_out(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 5, 3, false);
    for (uint32_t seat = 0; seat < 3; seat++) {
        struct wp_view *view = &pool.view[seat];
        uint32_t slots = wp_view_self(view)->slots, first = wp_view_self(view)->first_slot;
        wp_handle handle[8];
        CHECK_EQ(wp_home_free_slots(view), slots);
        for (uint32_t i = 0; i < slots; i++) CHECK_EQ(wp_handle_index(handle[i] = wp_home_reserve(view)), first + i);
        CHECK_EQ(wp_home_free_slots(view), 0);
        CHECK(wp_home_reserve(view) == WP_NO_HANDLE && wp_home_reserve(view) == WP_NO_HANDLE);
        wp_home_release(view, handle[1]);
        wp_home_release(view, handle[0]);
        for (uint32_t i = 2; i < slots; i++) wp_home_release(view, handle[i]);
        CHECK_EQ(wp_handle_index(wp_home_reserve(view)), first + 1); // the one free for longest
        wp_handle again = wp_home_reserve(view);
        CHECK_EQ(wp_handle_index(again), first);
        CHECK_EQ(wp_handle_generation(again), wp_handle_generation(handle[0]) + 1);
        CHECK_EQ(wp_seat_stat(view, seat, WP_STAT_RELEASED), slots);
    }
    test_pool_end(&pool);
}

static void a_task_is_put_where_its_target_looks(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 40, 2, false);
    struct wp_view *parent = &pool.view[0];
    uint64_t found;
    for (uint32_t seat = 1; seat < 3; seat++)
        for (uint32_t strength = WP_STRENGTH_LIGHT; strength <= WP_STRENGTH_FORCE; strength++) {
            // A priority moves a light task: it is no place of its target's any more.
            int8_t priority = strength == WP_STRENGTH_LIGHT ? 0 : 3;
            wp_handle handle = test_pool_submit(parent, wp_target(seat, (enum wp_strength)strength, priority), 0);
            struct wp_taskset *box = &parent->places[seat].mailbox[strength - WP_STRENGTH_LIGHT];
            CHECK_EQ(wp_taskset_find(box, 0), wp_handle_index(handle));
            wp_taskset_remove(box, wp_handle_index(handle));
            for (uint32_t other = 1; other < 3; other++)
                for (uint32_t m = 0; m < WP_MAILBOXES; m++)
                    CHECK(wp_taskset_is_empty(&parent->places[other].mailbox[m]));
            CHECK_EQ(wp_deque_size(&parent->places[0].deque), 0);
        }
    // No such seat: everyone's.
    wp_place_hint(parent, 9, wp_target(3, WP_STRENGTH_STRONG, 0));
    wp_place_hint(parent, 10, wp_target(0, WP_STRENGTH_FORCE, 0));
    wp_place_hint(parent, 11, wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, 0));
    wp_place_hint(parent, 12, wp_target(1, (enum wp_strength)77, 0));
    for (uint32_t i = 9; i <= 12; i++) {
        CHECK_EQ(wp_taskset_find(&parent->orphans, 0), i);
        wp_taskset_remove(&parent->orphans, i);
    }
    // The deque is full of stale hints: to the orphans.
    while (wp_deque_push(&parent->places[0].deque, 1)) {
    }
    wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 0);
    CHECK_EQ(wp_taskset_find(&parent->orphans, 0), wp_handle_index(handle));
    CHECK(wp_deque_steal(&parent->places[0].deque, &found) == WP_STEAL_OK && found == 1);
    test_pool_end(&pool);
}

static void a_new_incarnation_frees_what_is_done_and_waits_for_the_rest(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 4, 6, false);
    wp_handle handle[5];
    for (uint32_t i = 0; i < 5; i++) handle[i] = test_pool_submit(&pool.view[1], TEST_ANYONE, i);
    run_at(&pool, 2, handle[0]);
    run_at(&pool, 2, handle[1]);
    uint32_t first;
    wp_home_take(&pool.view[1], &first); // and dies with the bits in its hand
    CHECK_EQ(wp_slot_claim(&pool.view[2].slots[wp_handle_index(handle[2])], handle[2], 2), WP_CLAIM_OK);
    struct wp_view *next = test_pool_sit(&pool, 1);
    CHECK_EQ(wp_home_free_slots(next), 1);
    CHECK_EQ(test_pool_harvest(next), 2);
    CHECK_EQ(wp_home_free_slots(next), 3);
    test_pool_run(&pool.view[2], wp_handle_index(handle[2]));
    run_at(&pool, 2, handle[3]);
    run_at(&pool, 2, handle[4]);
    CHECK_EQ(test_pool_harvest(next), 3);
    CHECK_EQ(wp_home_free_slots(next), 6);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void a_slot_given_back_ends_its_blocks(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 4, 4, false);
    for (uint32_t home = 0; home < 2; home++)
        for (uint32_t done = 0; done < 2; done++) {
            struct wp_view *view = &pool.view[home];
            wp_handle handle = wp_home_reserve(view);
            struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
            uint64_t argument, result = 0;
            CHECK_EQ(wp_arena_alloc(&view->arena, 1000, &argument), WP_ALLOC_OK);
            wp_payload_set(&slot->argument, argument, 1000);
            if (done) {
                wp_slot_publish(slot, handle);
                CHECK_EQ(wp_slot_claim(slot, handle, 2), WP_CLAIM_OK);
                CHECK_EQ(wp_arena_alloc(&pool.view[2].arena, 5000, &result), WP_ALLOC_OK);
                wp_payload_set(&slot->result, result, 5000);
                wp_slot_finish(slot, WP_OUTCOME_OK);
            }
            wp_home_release(view, handle);
            CHECK(wp_payload_block(&slot->argument) == 0 && wp_payload_block(&slot->result) == 0);
            for (uint32_t seat = 0; seat < 3; seat++) wp_arena_flush(&pool.view[seat].arena);
            for (uint32_t seat = 0; seat < 3; seat++) wp_arena_sweep(&pool.view[seat].arena, 1, UINT32_MAX, false);
            CHECK(!wp_arena_owns(&view->arena, argument) && !wp_arena_owns(&view->arena, result));
            struct wp_usage usage;
            wp_usage_read(&view->arena.spans, &view->arena.leases, &usage, NULL);
            CHECK_EQ(usage.used_bytes, 0);
        }
    test_pool_end(&pool);
}

static void a_wait_ends_for_its_task_alone(void) {
    for (uint32_t spins = 0; spins < 2; spins++)
        for (uint32_t polls = 0; polls < 2; polls++) {
            struct test_pool pool;
            test_pool_make(&pool, 2, 4, 2, polls);
            struct wp_view *parent = &pool.view[0];
            parent->spin_ns = parent->spin_max_ns = spins ? 20000 : 0;
            wp_handle first = test_pool_submit(parent, TEST_ANYONE, 0),
                      second = test_pool_submit(parent, TEST_ANYONE, 0);
            CHECK_EQ(wp_home_wait(parent, first, 300000), WP_WAIT_TIMEOUT);
            CHECK_EQ(wp_home_wait(parent, WP_NO_HANDLE, 0), WP_WAIT_TIMEOUT);
            run_at(&pool, 1, second);
            CHECK_EQ(wp_home_wait(parent, first, 0), WP_WAIT_TIMEOUT);
            CHECK_EQ(wp_home_wait(parent, second, -1), WP_WAIT_WOKEN);
            CHECK_EQ(wp_home_wait(parent, WP_NO_HANDLE, -1), WP_WAIT_WOKEN);
            run_at(&pool, 1, first);
            CHECK_EQ(wp_home_wait(parent, first, -1), WP_WAIT_WOKEN);
            CHECK_EQ(wp_load_acquire(&parent->places[0].seat->parker), 0);
            CHECK_EQ(test_pool_harvest(parent), 2);
            test_pool_end(&pool);
        }
}

// Waits that are alike let the home wake before the answer; others do not.
static void what_waits_take_is_learned(void) {
    const int64_t ms = 1000000;
    struct wp_view view = {.spin_max_ns = 60000};
    CHECK_EQ(wp_early_ns(&view), -1);                          // nothing is known
    for (int i = 0; i < 3; i++) wp_early_learn(&view, 3 * ms); // a few are enough
    CHECK(wp_early_ns(&view) > 2 * ms && wp_early_ns(&view) < 3 * ms);
    for (int i = 0; i < 40; i++) wp_early_learn(&view, 10 * ms);
    CHECK(wp_early_ns(&view) > 9 * ms && wp_early_ns(&view) < 10 * ms);
    for (int i = 0; i < 100; i++) wp_early_learn(&view, i % 2 ? 10 * ms : 11 * ms);
    CHECK(wp_early_ns(&view) > 9 * ms && wp_early_ns(&view) < 10 * ms + ms / 2);
    for (int i = 0; i < 100; i++) wp_early_learn(&view, i % 8 ? 10 * ms : 100 * ms); // some are not
    CHECK(wp_early_ns(&view) > 9 * ms && wp_early_ns(&view) < 11 * ms);
    for (int i = 0; i < 100; i++) wp_early_learn(&view, (i % 16) * ms); // none are
    CHECK_EQ(wp_early_ns(&view), -1);
    for (int i = 0; i < 100; i++) wp_early_learn(&view, 2 * ms);
    CHECK(wp_early_ns(&view) > ms && wp_early_ns(&view) < 2 * ms);
    for (int i = 0; i < 100; i++) wp_early_learn(&view, WP_EARLY_WAKE_NS); // no longer than waking takes
    CHECK_EQ(wp_early_ns(&view), 0);
    for (int i = 0; i < 1000; i++) wp_early_learn(&view, INT64_MAX / 2);
    CHECK(wp_early_ns(&view) >= 0);
    for (int i = 0; i < 100; i++) wp_early_learn(&view, -1); // it was woken sooner than a wake takes
    CHECK(wp_early_ns(&view) == 0 && view.wait_low_ns == 0);
}

static void a_wait_that_wakes_early_waits_on(void) {
    for (uint32_t cpus = 0; cpus < 3; cpus += 2) { // without a CPU to look on, and with one
        struct test_pool pool;
        test_pool_make(&pool, 2, 4, 2, false);
        struct wp_view *parent = &pool.view[0];
        parent->cpus = cpus;
        wp_handle first = test_pool_submit(parent, TEST_ANYONE, 0), second = test_pool_submit(parent, TEST_ANYONE, 0);
        parent->spin_ns = 0, parent->spin_max_ns = 20000;
        parent->wait_low_ns = 300000, parent->wait_hits = WP_EARLY_SURE;
        CHECK_EQ(wp_home_wait(parent, first, 200000), WP_WAIT_TIMEOUT); // it may not wait that long
        int64_t begun_ns = wp_os_now_ns();
        CHECK_EQ(wp_home_wait(parent, first, 800000), WP_WAIT_TIMEOUT);
        CHECK(wp_os_now_ns() - begun_ns >= 800000);
        CHECK_EQ(parent->wait_low_ns, 300000); // nothing came, nothing is learned
        wp_unpark(parent, 0);                  // another thread has something to tell
        CHECK_EQ(wp_home_wait(parent, first, -1), WP_WAIT_WOKEN);
        CHECK_EQ(parent->wait_low_ns, 300000);
        run_at(&pool, 1, second);
        CHECK_EQ(wp_home_wait(parent, first, 800000), WP_WAIT_TIMEOUT);
        run_at(&pool, 1, first);
        parent->spin_ns = 0; // the token came at once: looking would have found it
        CHECK_EQ(wp_home_wait(parent, first, -1), WP_WAIT_WOKEN);
        CHECK(parent->wait_low_ns < 300000);
        CHECK_EQ(wp_load_acquire(&parent->places[0].seat->parker), 0);
        CHECK_EQ(test_pool_harvest(parent), 2);
        test_pool_end(&pool);
    }
}

// Another thread of the home, or recovery, has something to tell the one that waits:
// it may do so before that one has armed, even while it spins.
static void a_token_left_before_the_wait_ends_it(void) {
    for (uint32_t spins = 0; spins < 2; spins++)
        for (uint32_t polls = 0; polls < 2; polls++) {
            struct test_pool pool;
            test_pool_make(&pool, 2, 4, 2, polls);
            struct wp_view *parent = &pool.view[0];
            parent->spin_ns = parent->spin_max_ns = spins ? 20000 : 0;
            wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 0);
            wp_unpark(parent, 0);
            CHECK_EQ(wp_home_wait(parent, handle, 100000000), WP_WAIT_WOKEN);
            CHECK_EQ(wp_home_wait(parent, handle, 0), WP_WAIT_TIMEOUT); // and only that one
            test_pool_end(&pool);
        }
}

// Tasks that end while their home is awake, as if one each `gap_ns`.
static void end_some(struct test_pool *pool, uint32_t count, int64_t gap_ns) {
    struct wp_view *parent = &pool->view[0];
    wp_handle found;
    for (uint32_t i = 0; i < count; i++) {
        CHECK_EQ(wp_deque_steal(&parent->places[0].deque, &found), WP_STEAL_OK);
        run_at(pool, 1, found);
    }
    CHECK_EQ(test_pool_harvest(parent), count);
    parent->asked_ns = wp_os_now_ns() - count * gap_ns;
}

static void a_home_rests_while_many_short_tasks_are_left_for_busy_cpus(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 512, 2, false);
    struct wp_view *parent = &pool.view[0];
    const int64_t short_ns = WP_REST_NS / 20;
    for (uint32_t i = 0; i < 200; i++) test_pool_submit(parent, TEST_ANYONE, i);
    CHECK(!wp_home_may_rest(parent)); // none has ended: nothing is known
    end_some(&pool, 5, short_ns);
    CHECK(wp_home_may_rest(parent));
    CHECK(!wp_home_may_rest(parent)); // none has ended since
    end_some(&pool, 5, WP_REST_NS);
    CHECK(!wp_home_may_rest(parent)); // one at a time is waited for
    end_some(&pool, 5, short_ns);
    parent->cpus = 3; // a CPU to spare
    CHECK(!wp_home_may_rest(parent));
    parent->cpus = 2;
    end_some(&pool, 115, short_ns);
    CHECK(!wp_home_may_rest(parent)); // 70 are left, and 20 would end: too few
    end_some(&pool, 70, short_ns);
    CHECK(!wp_home_may_rest(parent));
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void *leave_a_token(void *argument) {
    struct test_pool *pool = argument;
    while (!(wp_load_acquire(&pool->view[0].places[0].seat->parker) & WP_PARKER_FUTEX)) wp_os_yield();
    wp_unpark(&pool->view[1], 0);
    return NULL;
}

static void a_rest_is_ended_by_a_token_which_the_wait_sees_too(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    struct wp_view *parent = &pool.view[0];
    wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 0);
    int64_t begun_ns = wp_os_now_ns();
    wp_home_rest(parent); // by its time
    CHECK(wp_os_now_ns() - begun_ns >= WP_REST_NS);
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, leave_a_token, &pool), 0);
    while (!(wp_load_relaxed(&parent->places[0].seat->parker) & WP_PARKER_TOKEN)) wp_home_rest(parent);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(wp_home_wait(parent, handle, -1), WP_WAIT_WOKEN);
    // A completion alone does not end it, and is there afterwards.
    wp_home_rest(parent);
    run_at(&pool, 1, handle);
    CHECK_EQ(wp_home_wait(parent, handle, -1), WP_WAIT_WOKEN);
    CHECK_EQ(test_pool_harvest(parent), 1);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void arming_tells_of_what_is_there_already(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 4, 2, false);
    struct wp_view *parent = &pool.view[0];
    wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 0);
    CHECK(wp_home_arm(parent));
    CHECK_EQ(wp_load_acquire(&parent->places[0].seat->parker), WP_PARKER_EVENTFD);
    wp_home_disarm(parent);
    CHECK_EQ(wp_load_acquire(&parent->places[0].seat->parker), 0);
    run_at(&pool, 1, handle);
    CHECK(!wp_home_arm(parent));
    // An armed eventfd outlives a wait on the futex.
    CHECK_EQ(wp_home_wait(parent, handle, -1), WP_WAIT_WOKEN);
    CHECK_EQ(wp_load_acquire(&parent->places[0].seat->parker), WP_PARKER_EVENTFD);
    CHECK_EQ(test_pool_harvest(parent), 1);
    test_pool_end(&pool);
}

#if WP_OS_LINUX
static bool is_readable(int fd) {
    struct pollfd look = {.fd = fd, .events = POLLIN};
    return poll(&look, 1, 0) == 1;
}
// Who waits for the workers to be ready has looked, then arms; the worker became ready
// between the two.
static void a_seat_that_became_ready_before_the_home_armed_is_not_missed(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 4, 2, false);
    int fd = eventfd(0, EFD_NONBLOCK);
    for (uint32_t seat = 0; seat < 2; seat++) pool.view[seat].places[0].eventfd = fd;
    CHECK(!wp_seat_is_ready(&pool.view[0], 1, 1));
    wp_seat_ready(&pool.view[1], 1);
    CHECK(!wp_home_arm(&pool.view[0]) || is_readable(fd));
    close(fd);
    test_pool_end(&pool);
}
static void an_armed_eventfd_is_signalled_at_the_next_completion(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 4, 2, false);
    int fd = eventfd(0, EFD_NONBLOCK);
    for (uint32_t seat = 0; seat < 2; seat++) pool.view[seat].places[0].eventfd = fd;
    struct wp_view *parent = &pool.view[0];
    wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 0), other = test_pool_submit(parent, TEST_ANYONE, 0);
    CHECK(wp_home_arm(parent) && !is_readable(fd));
    // Also while a thread waits for another task alone.
    CHECK_EQ(wp_home_wait(parent, other, 0), WP_WAIT_TIMEOUT);
    run_at(&pool, 1, handle);
    CHECK(is_readable(fd));
    close(fd);
    test_pool_end(&pool);
}
#else
static void a_seat_that_became_ready_before_the_home_armed_is_not_missed(void) {}
static void an_armed_eventfd_is_signalled_at_the_next_completion(void) {}
#endif

// ---- the slots' ring under a random load

struct storm {
    struct test_pool *pool;
    wp_atomic64 *offered; // a ring of handles, one writer
    wp_atomic32 head, tail, over;
    uint32_t seat;
    uint64_t ran;
};
#define OFFERED 64u
static void *submit_or_run(void *argument) {
    struct storm *storm = *(struct storm **)argument;
    bool home = ((struct storm **)argument)[1] == NULL;
    uint64_t random = wp_test_stream(home);
    wp_test_gate();
    if (!home) {
        // Any hint will do: the claim decides.
        for (uint32_t n = 0; !wp_load_acquire(&storm->over) || n != wp_load_acquire(&storm->tail);) {
            if (n == wp_load_acquire(&storm->tail)) {
                wp_test_jitter(&random);
                continue;
            }
            wp_handle handle = wp_load_relaxed(&storm->offered[n++ % OFFERED]);
            wp_store_release(&storm->head, n);
            if (wp_slot_claim(&storm->pool->view[1].slots[wp_handle_index(handle)], handle, 1) != WP_CLAIM_OK) continue;
            test_pool_run(&storm->pool->view[1], wp_handle_index(handle));
            storm->ran++;
        }
        return NULL;
    }
    struct wp_view *view = &storm->pool->view[0];
    wp_handle held[8] = {0};
    uint32_t count = 0, tail = 0;
    uint64_t submitted = 0, gone = 0, cancelled = 0;
    for (uint32_t n = wp_test_rounds(60000); n > 0; n--) {
        wp_handle handle;
        uint32_t move = wp_test_below(&random, 8);
        while (tail - wp_load_acquire(&storm->head) == OFFERED) sched_yield();
        if (move < 5 && (handle = wp_home_reserve(view)) != WP_NO_HANDLE) {
            if (move == 0 && count < 8) {
                held[count++] = handle; // filled later, or given back unused
                continue;
            }
            uint64_t word = n;
            memcpy(view->slots[wp_handle_index(handle)].bytes, &word, sizeof word);
            wp_home_submit(view, handle);
            submitted++;
            wp_store_relaxed(&storm->offered[tail % OFFERED], handle);
            wp_store_release(&storm->tail, ++tail);
            if (move == 1 && wp_slot_cancel(&view->slots[wp_handle_index(handle)], handle)) {
                wp_home_release(view, handle);
                cancelled++;
            }
        } else if (move == 6 && count > 0) {
            wp_home_release(view, held[--count]);
        } else {
            gone += test_pool_harvest(view);
            wp_test_jitter(&random);
        }
        uint64_t stale;
        while (wp_deque_steal(&view->places[0].deque, &stale) == WP_STEAL_OK) {
        }
    }
    while (count > 0) wp_home_release(view, held[--count]);
    while (gone + cancelled < submitted) {
        wp_home_wait(view, WP_NO_HANDLE, -1);
        gone += test_pool_harvest(view);
    }
    wp_store_release(&storm->over, 1);
    CHECK_EQ(wp_home_free_slots(view), wp_view_self(view)->slots);
    printf("    %" PRIu64 " submitted, %" PRIu64 " cancelled\n", submitted, cancelled);
    return NULL;
}
static void storm(void) {
    struct test_pool pool;
    wp_atomic64 offered[OFFERED] = {0};
    test_pool_make(&pool, 2, 20, 2, false);
    struct storm storm = {.pool = &pool, .offered = offered};
    struct storm *arguments[4] = {&storm, NULL, &storm, &storm};
    wp_test_threads(2, submit_or_run, arguments, 2 * sizeof *arguments);
    CHECK_EQ(wp_seat_stat(&pool.view[0], 1, WP_STAT_RUN), storm.ran);
    CHECK(storm.ran > 0);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(a_reserved_slot_has_what_a_plain_task_has),
        WP_TEST(slots_go_round_and_run_out),
        WP_TEST(a_task_is_put_where_its_target_looks),
        WP_TEST(a_new_incarnation_frees_what_is_done_and_waits_for_the_rest),
        WP_TEST(a_slot_given_back_ends_its_blocks),
        WP_TEST(a_wait_ends_for_its_task_alone),
        WP_TEST(what_waits_take_is_learned),
        WP_TEST(a_wait_that_wakes_early_waits_on),
        WP_TEST(a_token_left_before_the_wait_ends_it),
        WP_TEST(a_home_rests_while_many_short_tasks_are_left_for_busy_cpus),
        WP_TEST(a_rest_is_ended_by_a_token_which_the_wait_sees_too),
        WP_TEST(arming_tells_of_what_is_there_already),
        WP_TEST(a_seat_that_became_ready_before_the_home_armed_is_not_missed),
        WP_TEST(an_armed_eventfd_is_signalled_at_the_next_completion),
        WP_TEST(storm),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
