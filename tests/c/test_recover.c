// test_recover.c — after a worker's death, wherever it struck: every task has exactly one
// outcome, nothing that was not entered is lost, and every slot comes back.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_pool.h"
#include "wp_usage.h"

#include <sys/mman.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif
#include <sys/wait.h>

#include "wp_test_pool.h"

#define A 1u // the seat that dies
#define B 2u

static struct wp_slot *slot_of(struct test_pool *pool, wp_handle handle) {
    return &pool->view[0].slots[wp_handle_index(handle)];
}
static struct wp_recovered die(struct test_pool *pool) { return wp_recover(&pool->view[0], A, 4242, -9); }
static void check_counts(struct wp_recovered out, uint32_t again, uint32_t died, uint32_t cancelled, uint32_t freed) {
    CHECK_EQ(out.again, again);
    CHECK_EQ(out.died, died);
    CHECK_EQ(out.cancelled, cancelled);
    CHECK_EQ(out.freed, freed);
}
static void claim(struct test_pool *pool, uint32_t seat, wp_handle handle) {
    CHECK_EQ(wp_slot_claim(slot_of(pool, handle), handle, seat), WP_CLAIM_OK);
}
// A survivor finds the task by looking as it always does, runs it, and the parent harvests.
static void check_runs(struct test_pool *pool, wp_handle handle) {
    uint32_t index;
    CHECK_EQ(wp_next_now(&pool->view[B], &index), WP_NEXT_TASK);
    CHECK_EQ(index, wp_handle_index(handle));
    test_pool_run(&pool->view[B], index);
}
static void check_death(struct test_pool *pool, wp_handle handle, bool entered) {
    uint64_t state;
    CHECK(wp_slot_is_done(slot_of(pool, handle), &state));
    CHECK_EQ(wp_state_outcome(state), WP_OUTCOME_DIED);
    CHECK_EQ(wp_state_owner(state), A);
    CHECK_EQ(wp_state_generation(state), wp_handle_generation(handle));
    struct wp_death death;
    struct wp_slot *slot = slot_of(pool, handle);
    CHECK(wp_payload_block(&slot->result) == 0 && slot->result.bytes == sizeof death);
    memcpy(&death, slot->bytes, sizeof death);
    CHECK(death.pid == 4242 && death.status == -9 && death.seat == A && death.entered == entered);
}
static void end(struct test_pool *pool) {
    test_pool_check_free(pool);
    test_pool_end(pool);
}

static void smoke(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    struct wp_view *parent = &pool.view[0];
    wp_handle ready = test_pool_submit(parent, TEST_ANYONE, 0), claimed = test_pool_submit(parent, TEST_ANYONE, 0);
    wp_handle entered = test_pool_submit(parent, TEST_ANYONE, 0), done = test_pool_submit(parent, TEST_ANYONE, 0);
    uint64_t hint;
    while (wp_deque_steal(&parent->places[0].deque, &hint) == WP_STEAL_OK) { // in its hand
    }
    claim(&pool, A, claimed), claim(&pool, A, entered), claim(&pool, A, done);
    wp_slot_enter(slot_of(&pool, entered));
    wp_slot_enter(slot_of(&pool, done));
    wp_slot_finish(slot_of(&pool, done), WP_OUTCOME_OK); // and died before the completion bit
    wp_handle reserved = wp_home_reserve(&pool.view[A]), own = test_pool_submit(&pool.view[A], TEST_ANYONE, 0);
    check_counts(die(&pool), 1, 1, 0, 1);
    CHECK_EQ(test_pool_phase(&pool, reserved), WP_PHASE_FREE);
    check_death(&pool, entered, true);
    CHECK_EQ(test_pool_harvest(parent), 2);
    check_runs(&pool, ready), check_runs(&pool, claimed), check_runs(&pool, own);
    CHECK_EQ(test_pool_harvest(parent), 2);
    CHECK_EQ(test_pool_harvest(test_pool_sit(&pool, A)), 1);
    CHECK_EQ(wp_home_free_slots(&pool.view[A]), 4);
    CHECK_EQ(wp_home_free_slots(parent), 8);
    check_counts(die(&pool), 0, 0, 0, 0); // of an empty seat: nothing
    end(&pool);
}

static void a_task_not_entered_runs_again_and_one_that_kills_whoever_decodes_it_ends(void) {
    for (uint32_t limit = 1; limit <= WP_ATTEMPT_MAX; limit += limit < 4 ? 1 : 125) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 4, 2, false);
        wp_handle handle = wp_home_reserve(&pool.view[0]);
        slot_of(&pool, handle)->attempt_limit = (uint8_t)limit;
        wp_home_submit(&pool.view[0], handle);
        uint32_t deaths = 0, index;
        for (; deaths < 300; deaths++) {
            test_pool_sit(&pool, A);
            if (wp_next_now(&pool.view[A], &index) != WP_NEXT_TASK) break;
            CHECK_EQ(wp_state_attempt(wp_load_acquire(&slot_of(&pool, handle)->state)), deaths + 1);
            struct wp_recovered out = die(&pool);
            CHECK_EQ(out.again + out.died, 1);
        }
        // It never eats the pool: the count of attempts has 8 bits.
        uint32_t most = limit + WP_DECODE_DEATHS < WP_ATTEMPT_MAX ? limit + WP_DECODE_DEATHS : WP_ATTEMPT_MAX;
        CHECK_EQ(deaths, most);
        check_death(&pool, handle, false);
        CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
        end(&pool);
    }
}

static void a_task_that_was_entered_runs_again_as_often_as_it_may(void) {
    for (uint32_t limit = 1; limit <= 4; limit++) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 4, 2, false);
        wp_handle handle = wp_home_reserve(&pool.view[0]);
        slot_of(&pool, handle)->attempt_limit = (uint8_t)limit;
        wp_home_submit(&pool.view[0], handle);
        for (uint32_t attempt = 1; attempt <= limit; attempt++) {
            claim(&pool, A, handle);
            wp_slot_enter(slot_of(&pool, handle));
            check_counts(die(&pool), attempt < limit, attempt == limit, 0, 0);
        }
        check_death(&pool, handle, true);
        CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
        end(&pool);
    }
}

static void a_task_that_was_to_be_cancelled_is(void) {
    for (uint32_t entered = 0; entered < 2; entered++) {
        struct test_pool pool;
        uint64_t state;
        test_pool_make(&pool, 3, 4, 2, false);
        wp_handle handle = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
        slot_of(&pool, handle)->attempt_limit = 9;
        claim(&pool, A, handle);
        if (entered) wp_slot_enter(slot_of(&pool, handle));
        wp_store_relaxed(&slot_of(&pool, handle)->cancel, 1);
        check_counts(die(&pool), 0, 0, 1, 0);
        CHECK(wp_slot_is_done(slot_of(&pool, handle), &state));
        CHECK_EQ(wp_state_outcome(state), WP_OUTCOME_CANCELLED);
        CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
        end(&pool);
    }
}

static void what_the_living_do_is_left_alone(void) {
    struct test_pool pool;
    uint32_t index;
    test_pool_make(&pool, 3, 8, 4, false);
    wp_handle running = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    CHECK_EQ(wp_next_now(&pool.view[B], &index), WP_NEXT_TASK);
    wp_slot_enter(slot_of(&pool, running));
    wp_handle held = wp_home_reserve(&pool.view[0]), other = wp_home_reserve(&pool.view[B]);
    wp_handle of_dead = test_pool_submit(&pool.view[A], TEST_ANYONE, 0);
    claim(&pool, B, of_dead); // its home dies, it runs on
    uint64_t before = wp_load_relaxed(&slot_of(&pool, running)->state);
    check_counts(die(&pool), 0, 0, 0, 0);
    CHECK(wp_load_relaxed(&slot_of(&pool, running)->state) == before);
    CHECK(test_pool_phase(&pool, held) == WP_PHASE_RESERVED && test_pool_phase(&pool, other) == WP_PHASE_RESERVED);
    CHECK_EQ(test_pool_phase(&pool, of_dead), WP_PHASE_CLAIMED);
    test_pool_sit(&pool, A);
    CHECK_EQ(wp_home_free_slots(&pool.view[A]), 3);
    test_pool_run(&pool.view[B], wp_handle_index(running));
    test_pool_run(&pool.view[B], wp_handle_index(of_dead));
    wp_home_release(&pool.view[0], held), wp_home_release(&pool.view[B], other);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    CHECK_EQ(test_pool_harvest(&pool.view[A]), 1);
    end(&pool);
}

static void hints_that_died_with_their_holder_are_given_anew(void) {
    for (uint32_t kind = 0; kind < 5; kind++) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 8, 4, false);
        struct wp_view *parent = &pool.view[0], *a = &pool.view[A];
        uint64_t hint;
        uint32_t target = kind < 3    ? TEST_ANYONE
                          : kind == 3 ? wp_target(B, WP_STRENGTH_FORCE, 0)
                                      : wp_target(B, WP_STRENGTH_STRONG, 0);
        wp_handle handle = wp_home_reserve(kind == 2 ? a : parent);
        wp_store_relaxed(&slot_of(&pool, handle)->target, target);
        if (kind == 2)
            wp_slot_publish(slot_of(&pool, handle), handle); // died before any hint
        else
            wp_home_submit(parent, handle);
        if (kind == 0) CHECK_EQ(wp_deque_steal(&parent->places[0].deque, &hint), WP_STEAL_OK); // in its hand
        if (kind == 1) { // on its own deque, and bottom lowered for a pop
            CHECK_EQ(wp_deque_steal(&parent->places[0].deque, &hint), WP_STEAL_OK);
            CHECK(wp_deque_push(&a->places[A].deque, hint));
            wp_atomic64 *bottom = &a->places[A].deque.ends->bottom;
            wp_store_relaxed(bottom, wp_load_relaxed(bottom) - 1);
        }
        if (kind >= 3) { // a search of its own set a leaf invisible
            struct wp_taskset *box = &a->places[B].mailbox[wp_mailbox_of(wp_target_strength(target))];
            wp_and_acq_rel(&box->summary[0], 0);
        }
        check_counts(die(&pool), 0, 0, 0, 0);
        check_runs(&pool, handle);
        CHECK_EQ(test_pool_harvest(kind == 2 ? test_pool_sit(&pool, A) : parent), 1);
        end(&pool);
    }
}

static void completions_that_died_with_their_holder_are_given_anew(void) {
    struct test_pool pool;
    uint32_t first;
    test_pool_make(&pool, 3, 8, 4, false);
    wp_handle of_parent = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    wp_handle of_b = test_pool_submit(&pool.view[B], TEST_ANYONE, 0);
    wp_handle of_a = test_pool_submit(&pool.view[A], TEST_ANYONE, 0);
    for (uint32_t i = 0; i < 3; i++) {
        wp_handle handle = i == 0 ? of_parent : i == 1 ? of_b : of_a;
        claim(&pool, i == 2 ? B : A, handle);
        wp_slot_enter(slot_of(&pool, handle));
    }
    wp_slot_finish(slot_of(&pool, of_parent), WP_OUTCOME_OK);
    // Between leaf and summary.
    wp_slot_finish(slot_of(&pool, of_b), WP_OUTCOME_OK);
    wp_or_acq_rel(&pool.view[0].places[B].completions.leaves[0], 1);
    // Taken by its home, not yet harvested.
    test_pool_run(&pool.view[B], wp_handle_index(of_a));
    CHECK(wp_home_take(&pool.view[A], &first) != 0);
    check_counts(die(&pool), 0, 0, 0, 0);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    CHECK_EQ(test_pool_harvest(&pool.view[B]), 1);
    CHECK_EQ(test_pool_harvest(test_pool_sit(&pool, A)), 1);
    end(&pool);
}

static void nobody_sleeps_on_a_wake_that_died(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    wp_search_begin(&pool.view[B]);
    CHECK(wp_park_arm(&pool.view[B], WP_PARKER_FUTEX));
    wp_search_begin(&pool.view[A]); // others rely on it
    wp_idle_set(pool.view[0].idle->watcher, A);
    wp_handle handle = test_pool_submit(&pool.view[0], TEST_ANYONE, 0);
    CHECK_EQ(wp_load_acquire(&pool.view[0].places[B].seat->parker), WP_PARKER_FUTEX);
    die(&pool);
    for (uint32_t seat = 0; seat < 3; seat++)
        CHECK(wp_load_acquire(&pool.view[0].places[seat].seat->parker) & WP_PARKER_TOKEN);
    CHECK(!wp_idle_any(pool.view[0].idle->searching) && !wp_idle_has(pool.view[0].idle->idle, A) &&
          !wp_idle_any(pool.view[0].idle->watcher));
    CHECK_EQ(wp_park_sleep(&pool.view[B], -1), WP_WAIT_WOKEN);
    wp_park_disarm(&pool.view[B]);
    check_runs(&pool, handle);
    CHECK_EQ(test_pool_harvest(&pool.view[0]), 1);
    // One that slept: nobody may rely on waking it.
    wp_idle_set(pool.view[0].idle->idle, A);
    die(&pool);
    CHECK(!wp_idle_has(pool.view[0].idle->idle, A));
    end(&pool);
}

static void blocks_of_the_dead_are_freed_and_those_of_its_tasks_kept(void) {
    struct test_pool pool;
    uint64_t lost, argument, half;
    test_pool_make(&pool, 3, 8, 4, false);
    struct wp_view *parent = &pool.view[0], *a = &pool.view[A];
    CHECK_EQ(wp_arena_alloc(&a->arena, 2000, &lost), WP_ALLOC_OK);
    wp_handle own = wp_home_reserve(a), task = test_pool_submit(parent, TEST_ANYONE, 0);
    CHECK_EQ(wp_arena_alloc(&a->arena, 2000, &argument), WP_ALLOC_OK);
    wp_payload_set(&slot_of(&pool, own)->argument, argument, 2000);
    wp_home_submit(a, own);
    claim(&pool, A, task);
    CHECK_EQ(wp_arena_alloc(&a->arena, 2000, &half), WP_ALLOC_OK);
    wp_payload_set(&slot_of(&pool, task)->result, half, 2000);
    die(&pool);
    CHECK(wp_arena_owns(&parent->arena, argument) && !wp_arena_owns(&parent->arena, lost) &&
          !wp_arena_owns(&parent->arena, half));
    uint32_t index;
    for (uint32_t n = 0; n < 2; n++) {
        CHECK_EQ(wp_next_now(&pool.view[B], &index), WP_NEXT_TASK);
        test_pool_run(&pool.view[B], index);
    }
    CHECK_EQ(test_pool_harvest(parent), 1);
    CHECK_EQ(test_pool_harvest(test_pool_sit(&pool, A)), 1);
    struct wp_usage usage;
    wp_usage_read(&parent->arena.spans, &parent->arena.leases, &usage, NULL);
    CHECK_EQ(usage.used_bytes, 0);
    end(&pool);
}

static void wraparound(void) {
    // A seat that dies again and again: incarnation, deque and generations go on.
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    uint64_t top = 0;
    for (uint32_t n = 0; n < 50; n++) {
        struct wp_view *a = test_pool_sit(&pool, A);
        for (uint32_t i = 0; i < 4; i++) test_pool_submit(a, TEST_ANYONE, i);
        uint32_t index;
        CHECK_EQ(wp_next_now(a, &index), WP_NEXT_TASK);
        if (n % 2 == 0) wp_slot_enter(&a->slots[index]);
        check_counts(die(&pool), n % 2, 1 - n % 2, 0, 0);
        uint64_t now = wp_load_relaxed(&a->places[A].deque.ends->top);
        CHECK(now > top && now == wp_load_relaxed(&a->places[A].deque.ends->bottom));
        top = now;
        uint32_t ran = 0;
        for (; wp_next_now(&pool.view[B], &index) == WP_NEXT_TASK; ran++) test_pool_run(&pool.view[B], index);
        CHECK_EQ(ran, 3 + n % 2);
        CHECK_EQ(test_pool_harvest(test_pool_sit(&pool, A)), 4);
    }
    end(&pool);
}

static void garbage_does_not_take_recovery_out_of_bounds(void) {
    uint64_t random = wp_test_stream(1);
    for (uint32_t round = wp_test_rounds(400); round > 0; round--) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 70, 4, false);
        struct wp_view *parent = &pool.view[0];
        uint8_t *from = (uint8_t *)parent->idle, *to = pool.base + pool.bytes;
        uint64_t words = (uint64_t)(to - from) / 8;
        uint32_t density = 1 + wp_test_below(&random, 64);
        struct wp_arena head = *parent->arena_head; // nobody opens a view of a scribbled one
        for (uint64_t w = 0; w < words; w++) {
            if (wp_test_below(&random, density) != 0) continue;
            uint64_t word = wp_test_random(&random);
            uint32_t kind = wp_test_below(&random, 4);
            if (kind == 0) word = UINT64_MAX >> wp_test_below(&random, 64);
            if (kind == 1)
                word = wp_state((enum wp_phase)wp_test_below(&random, 6), WP_OUTCOME_NONE, wp_test_below(&random, 4),
                                wp_test_below(&random, 256), (uint32_t)word);
            memcpy(from + w * 8, &word, 8);
        }
        *parent->arena_head = head;
        struct wp_recovered out = die(&pool);
        CHECK(out.again + out.died + out.freed <= parent->slot_count && out.cancelled <= parent->slot_count);
        for (uint32_t i = 0; i < parent->slot_count; i++) {
            uint64_t state = wp_load_relaxed(&parent->slots[i].state);
            enum wp_phase phase = wp_state_phase(state);
            CHECK(phase != WP_PHASE_CLAIMED && phase != WP_PHASE_RUNNING ? true : wp_state_owner(state) != A);
        }
        CHECK_EQ(wp_deque_size(&parent->places[A].deque), 0);
        // The survivors may look; and a new process may sit down.
        uint32_t index;
        for (uint32_t n = 0; n < 20; n++) wp_search_round(&pool.view[B], &index);
        test_pool_sit(&pool, A);
        for (uint32_t n = 0; n < 20; n++) wp_search_round(&pool.view[A], &index);
        test_pool_end(&pool);
    }
}

// ---- storms: workers die, the parent recovers them, every task has one outcome

#define WORKERS 3u
#define PAYLOAD_WORDS 4u
struct ledger {        // shared; a task's words are written by whoever has claimed it
    uint32_t *entered; // by serial: times that user code was entered
    uint32_t serials;
};
enum { FATAL_NEVER, FATAL_DECODE, FATAL_RUN };

static void write_task(uint8_t *bytes, uint64_t serial, uint64_t mark) {
    for (uint64_t i = 0, word = serial; i < PAYLOAD_WORDS; i++, word = serial * (i + 7) ^ mark)
        memcpy(bytes + 8 * i, &word, 8);
}
static uint64_t read_task(const uint8_t *bytes, uint64_t mark) {
    uint64_t serial;
    uint8_t whole[8 * PAYLOAD_WORDS];
    memcpy(&serial, bytes, 8);
    write_task(whole, serial, mark);
    CHECK(memcmp(bytes, whole, sizeof whole) == 0);
    return serial;
}

// The parent's side, whoever the workers are.
struct parent {
    struct test_pool *pool;
    struct ledger *ledger;
    uint64_t random;
    uint32_t submitted, settled, outcomes[WP_OUTCOME_DIED + 1];
    uint8_t *outcome;
};
static void submit_some(struct parent *p) {
    struct wp_view *view = &p->pool->view[0];
    while (p->submitted < p->ledger->serials) {
        wp_handle handle = wp_home_reserve(view);
        if (handle == WP_NO_HANDLE) return;
        struct wp_slot *slot = slot_of(p->pool, handle);
        write_task(slot->bytes, p->submitted, 1);
        slot->group = p->submitted++;
        enum wp_strength strength = (enum wp_strength)wp_test_below(&p->random, 4);
        wp_store_relaxed(&slot->target, wp_target(1 + wp_test_below(&p->random, WORKERS), strength, 0));
        wp_home_submit(view, handle);
        if (wp_test_below(&p->random, 16) == 0 && wp_slot_cancel(slot, handle)) {
            p->outcome[slot->group] = WP_OUTCOME_CANCELLED;
            p->outcomes[WP_OUTCOME_CANCELLED]++;
            p->settled++;
            wp_home_release(view, handle);
        }
    }
}
static void settle_some(struct parent *p) {
    struct wp_view *view = &p->pool->view[0];
    uint32_t first;
    for (uint64_t bits; (bits = wp_home_take(view, &first)) != 0;) {
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
            struct wp_slot *slot = &view->slots[index];
            uint64_t state;
            if (!wp_slot_is_done(slot, &state)) continue;
            enum wp_outcome outcome = wp_state_outcome(state);
            uint32_t serial = slot->group;
            CHECK_EQ(p->outcome[serial], WP_OUTCOME_NONE);
            p->outcome[serial] = (uint8_t)outcome;
            p->outcomes[outcome]++;
            p->settled++;
            if (outcome == WP_OUTCOME_OK) {
                CHECK_EQ(read_task(slot->bytes, 2), serial);
                CHECK_EQ(p->ledger->entered[serial], 1);
            } else {
                CHECK_EQ(outcome, WP_OUTCOME_DIED);
                struct wp_death death;
                memcpy(&death, slot->bytes, sizeof death);
                CHECK_EQ(death.seat, wp_state_owner(state));
                // RUNNING is stored before user code: it may have been entered, once.
                CHECK(p->ledger->entered[serial] <= death.entered);
                CHECK(death.entered || wp_state_attempt(state) == 1 + WP_DECODE_DEATHS);
            }
            wp_home_release(view, wp_handle_of(index, wp_state_generation(state)));
        }
    }
}
static void check_ledger(struct parent *p, uint32_t deaths) {
    struct wp_view *view = &p->pool->view[0];
    CHECK_EQ(p->settled, p->ledger->serials);
    for (uint32_t i = 0; i < p->ledger->serials; i++) {
        CHECK(p->outcome[i] != WP_OUTCOME_NONE);
        if (p->outcome[i] == WP_OUTCOME_CANCELLED) CHECK_EQ(p->ledger->entered[i], 0);
    }
    // A death costs at most the task in its hands.
    CHECK(p->outcomes[WP_OUTCOME_DIED] <= deaths);
    for (uint32_t seat = 1; seat <= WORKERS; seat++) {
        test_pool_sit(p->pool, seat);
        test_pool_harvest(&p->pool->view[seat]); // nested tasks of incarnations that are gone
        CHECK_EQ(wp_home_free_slots(&p->pool->view[seat]), p->pool->shape.worker_slots);
    }
    CHECK_EQ(wp_home_free_slots(view), p->pool->shape.parent_slots);
    test_pool_check_free(p->pool);
    for (uint32_t seat = 0; seat <= WORKERS; seat++) wp_arena_flush(&p->pool->view[seat].arena);
    for (uint32_t seat = 0; seat <= WORKERS; seat++) wp_arena_sweep(&p->pool->view[seat].arena, 1, UINT32_MAX, false);
    struct wp_usage usage;
    wp_usage_read(&view->arena.spans, &view->arena.leases, &usage, NULL);
    CHECK_EQ(usage.used_bytes, 0);
    printf("    %u tasks, %u deaths: %u done, %u died, %u cancelled\n", p->ledger->serials, deaths,
           p->outcomes[WP_OUTCOME_OK], p->outcomes[WP_OUTCOME_DIED], p->outcomes[WP_OUTCOME_CANCELLED]);
}

// A worker's life. It ends early when `dies` says so, with everything as it is.
struct life {
    struct test_pool *pool;
    struct wp_view *view;
    struct ledger *ledger;
    uint64_t random;
    uint32_t seat;
    uint32_t mortal; // dies at one step in so many; 0: when killed
    uint32_t nested, harvested;
    wp_atomic32 *corpse; // its bit is set when it is dead
};
static bool dies(struct life *life) {
    if (life->mortal == 0) return false;
    wp_test_jitter(&life->random);
    return wp_test_below(&life->random, life->mortal) == 0;
}
// What a nested task is: no serial of the parent's.
#define NESTED UINT64_C(0xabcdef)
static bool work_once(struct life *life, uint32_t index) {
    struct wp_view *view = life->view;
    struct wp_slot *slot = &view->slots[index];
    if (dies(life)) return false;
    uint64_t serial = read_task(slot->bytes, 1);
    if (dies(life)) return false;
    wp_enter(view, index);
    if (dies(life)) return false;
    if (serial != NESTED) {
        CHECK(serial < life->ledger->serials);
        life->ledger->entered[serial]++;
    }
    if (serial != NESTED && wp_test_below(&life->random, 4) == 0) {
        wp_handle handle = wp_home_reserve(view);
        if (dies(life)) return false;
        if (handle != WP_NO_HANDLE) {
            struct wp_slot *mine = &view->slots[wp_handle_index(handle)];
            write_task(mine->bytes, NESTED, 1);
            if (wp_test_below(&life->random, 2) == 0) {
                uint64_t block = 0;
                wp_arena_alloc(&view->arena, 1000, &block);
                if (dies(life)) return false;
                wp_payload_set(&mine->argument, block, 1000);
            }
            if (dies(life)) {
                wp_slot_publish(mine, handle); // offered, and no hint
                return false;
            }
            wp_home_submit(view, handle);
        }
    }
    uint64_t block = 0;
    if (wp_test_below(&life->random, 4) == 0) wp_arena_alloc(&view->arena, 3000, &block);
    if (dies(life)) return false;
    wp_payload_set(&slot->result, block, 3000);
    write_task(slot->bytes, serial, 2);
    if (dies(life)) return false;
    if (dies(life)) {
        wp_slot_finish(slot, WP_OUTCOME_OK); // settled, and nobody told
        return false;
    }
    wp_leave(view, index, WP_OUTCOME_OK);
    return !dies(life);
}
// Harvest own tasks. False: dead.
static bool harvest_own(struct life *life) {
    struct wp_view *view = life->view;
    uint32_t first;
    uint64_t state;
    for (uint64_t bits; (bits = wp_home_take(view, &first)) != 0;)
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
            if (dies(life)) return false;
            if (!wp_slot_is_done(&view->slots[index], &state)) continue;
            wp_home_release(view, wp_handle_of(index, wp_state_generation(state)));
        }
    return true;
}
static void live(struct life *life) {
    uint32_t index;
    wp_home_begin(life->view);
    for (;;) {
        enum wp_next next = wp_next_now(life->view, &index);
        if (next == WP_NEXT_NOTHING) {
            if (dies(life)) {
                wp_search_begin(life->view); // dead while others rely on it
                return;
            }
            next = wp_next_wait(life->view, &index, -1);
        }
        if (next == WP_NEXT_STOP) return;
        if (next == WP_NEXT_TASK && !work_once(life, index)) return;
        if (next == WP_NEXT_HARVEST && !harvest_own(life)) return;
    }
}

// Threads, so that sanitizers see all seats: a thread that returns is the dead process,
// and joining it the kernel's word.
static void *thread_life(void *argument) {
    struct life *life = argument;
    live(life);
    wp_or_acq_rel(life->corpse, UINT32_C(1) << life->seat);
    wp_unpark(life->view, 0); // what the supervisor does for the parent's other threads
    return NULL;
}
static void storm_of_threads(bool polls, uint32_t tasks) {
    struct test_pool pool;
    pthread_t thread[1 + WORKERS];
    struct life life[1 + WORKERS];
    wp_atomic32 corpse = {0};
    test_pool_make(&pool, 1 + WORKERS, 24, 6, polls);
    struct ledger ledger = {calloc(tasks, sizeof(uint32_t)), tasks};
    struct parent parent = {.pool = &pool, .ledger = &ledger, .random = wp_test_stream(0), .outcome = calloc(tasks, 1)};
    CHECK(ledger.entered != NULL && parent.outcome != NULL);
    uint32_t deaths = 0;
    for (uint32_t seat = 1; seat <= WORKERS; seat++) {
        life[seat] = (struct life){&pool, &pool.view[seat], &ledger, wp_test_stream(seat), seat, 100, 0, 0, &corpse};
        CHECK(pthread_create(&thread[seat], NULL, thread_life, &life[seat]) == 0);
    }
    uint32_t running = WORKERS;
    while (running > 0) {
        submit_some(&parent);
        if (parent.settled == tasks)
            for (uint32_t seat = 1; seat <= WORKERS; seat++) {
                wp_seat_stop(&pool.view[0], seat, WP_STOP_DRAINED);
            }
        uint32_t dead = wp_load_acquire(&corpse);
        for (uint32_t seat = 1; seat <= WORKERS; seat++) {
            if (!(dead >> seat & 1)) continue;
            CHECK(pthread_join(thread[seat], NULL) == 0);
            wp_and_acq_rel(&corpse, ~(UINT32_C(1) << seat));
            wp_recover(&pool.view[0], seat, 1, -9);
            if (parent.settled == tasks) {
                running--;
                continue;
            }
            deaths++;
            test_pool_sit(&pool, seat);
            CHECK(pthread_create(&thread[seat], NULL, thread_life, &life[seat]) == 0);
        }
        settle_some(&parent);
        if (parent.settled < tasks && wp_load_acquire(&corpse) == 0)
            wp_home_wait(&pool.view[0], WP_NO_HANDLE, 1000000);
        else
            sched_yield();
    }
    // Tasks of incarnations that are gone and that nobody ran: run them here.
    uint32_t index;
    wp_store_relaxed(&pool.view[0].places[1].seat->stop, WP_STOP_NO);
    test_pool_sit(&pool, 1);
    for (enum wp_next next; (next = wp_next_now(&pool.view[1], &index)) != WP_NEXT_NOTHING;) {
        if (next == WP_NEXT_TASK)
            test_pool_run(&pool.view[1], index);
        else
            test_pool_harvest(&pool.view[1]);
    }
    check_ledger(&parent, deaths + WORKERS);
    free(ledger.entered), free(parent.outcome);
    test_pool_end(&pool);
}
static void storm(void) { storm_of_threads(false, wp_test_rounds(20000)); }
static void storm_of_polling_seats(void) { storm_of_threads(true, wp_test_rounds(2000)); }

// Processes, killed wherever they are.
static pid_t launch(struct test_pool *pool, struct ledger *ledger, uint32_t seat) {
    uint64_t seed = wp_test_random(&(uint64_t){wp_test_now.seed + seat});
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid != 0) return pid;
#ifdef __linux__
    prctl(PR_SET_PDEATHSIG, SIGKILL); // nothing stays behind when a check fails
#endif
    struct life life = {.pool = pool, .view = &pool->view[seat], .ledger = ledger, .random = seed, .seat = seat};
    test_pool_sit(pool, seat);
    live(&life);
    _exit(0);
}
static void storm_of_kills_of(bool polls, uint32_t kills) {
    struct test_pool pool;
    pid_t pid[1 + WORKERS];
    test_pool_make(&pool, 1 + WORKERS, 24, 6, polls);
    uint32_t tasks = 4000000, deaths = 0;
    struct ledger ledger = {test_pool_map(tasks * sizeof(uint32_t)), tasks};
    struct parent parent = {.pool = &pool, .ledger = &ledger, .random = wp_test_stream(0), .outcome = calloc(tasks, 1)};
    CHECK(parent.outcome != NULL);
    for (uint32_t seat = 1; seat <= WORKERS; seat++) pid[seat] = launch(&pool, &ledger, seat);
    for (;;) {
        submit_some(&parent);
        settle_some(&parent);
        if (deaths == kills) ledger.serials = parent.submitted; // what is there comes to its end
        if (parent.settled == ledger.serials) break;
        // At any moment: after as many of the parent's own steps, or in the middle of theirs.
        if (deaths < kills && wp_test_below(&parent.random, 8) == 0) {
            for (uint32_t n = wp_test_below(&parent.random, 20000); n > 0; n--) wp_cpu_relax();
            if (wp_test_below(&parent.random, 2) == 0) sched_yield();
            uint32_t seat = 1 + wp_test_below(&parent.random, WORKERS);
            int status;
            kill(pid[seat], SIGKILL);
            CHECK(waitpid(pid[seat], &status, 0) == pid[seat] && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
            wp_recover(&pool.view[0], seat, pid[seat], -9);
            pid[seat] = launch(&pool, &ledger, seat);
            deaths++;
        } else {
            wp_home_wait(&pool.view[0], WP_NO_HANDLE, deaths < kills ? 200000 : -1);
        }
    }
    for (uint32_t seat = 1; seat <= WORKERS; seat++) wp_seat_stop(&pool.view[0], seat, WP_STOP_DRAINED);
    for (uint32_t seat = 1; seat <= WORKERS; seat++) {
        int status;
        CHECK(waitpid(pid[seat], &status, 0) == pid[seat] && WIFEXITED(status) && WEXITSTATUS(status) == 0);
        wp_recover(&pool.view[0], seat, pid[seat], 0);
    }
    uint32_t index;
    wp_store_relaxed(&pool.view[0].places[1].seat->stop, WP_STOP_NO);
    test_pool_sit(&pool, 1);
    for (enum wp_next next; (next = wp_next_now(&pool.view[1], &index)) != WP_NEXT_NOTHING;) {
        if (next == WP_NEXT_TASK)
            test_pool_run(&pool.view[1], index);
        else
            test_pool_harvest(&pool.view[1]);
    }
    check_ledger(&parent, deaths);
    munmap(ledger.entered, tasks * sizeof(uint32_t)), free(parent.outcome);
    test_pool_end(&pool);
}
static void storm_of_kills(void) { storm_of_kills_of(false, wp_test_rounds(400)); }
static void storm_of_kills_of_polling_seats(void) { storm_of_kills_of(true, wp_test_rounds(100)); }

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(a_task_not_entered_runs_again_and_one_that_kills_whoever_decodes_it_ends),
        WP_TEST(a_task_that_was_entered_runs_again_as_often_as_it_may),
        WP_TEST(a_task_that_was_to_be_cancelled_is),
        WP_TEST(what_the_living_do_is_left_alone),
        WP_TEST(hints_that_died_with_their_holder_are_given_anew),
        WP_TEST(completions_that_died_with_their_holder_are_given_anew),
        WP_TEST(nobody_sleeps_on_a_wake_that_died),
        WP_TEST(blocks_of_the_dead_are_freed_and_those_of_its_tasks_kept),
        WP_TEST(wraparound),
        WP_TEST(garbage_does_not_take_recovery_out_of_bounds),
        WP_TEST(storm),
        WP_TEST(storm_of_polling_seats),
        WP_TEST(storm_of_kills),
        WP_TEST(storm_of_kills_of_polling_seats),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
