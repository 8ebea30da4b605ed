// test_pool.c — the whole pool with threads in its seats: every task has exactly one
// outcome, payloads arrive as they were written, and every slot comes back.
//
// Payloads are plain memory, so ThreadSanitizer sees a release that is missing.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_pool.h"
#include "wp_usage.h"

#include "wp_test_pool.h"

// ---- tasks whose payload tells whether it is whole

#define JOB_WORDS 12u
struct job {
    uint64_t id; // home << 32 | serial
    uint64_t words[JOB_WORDS];
    uint64_t check;
};
_Static_assert(sizeof(struct job) <= WP_INLINE_PAYLOAD_BYTES, "a job is inline");

static void job_fill(struct job *job, uint64_t id) {
    uint64_t state = id, sum = id;
    job->id = id;
    for (uint32_t i = 0; i < JOB_WORDS; i++) sum += job->words[i] = wp_test_random(&state);
    job->check = sum;
}
static void job_check(const struct job *job, uint64_t id) {
    struct job whole;
    job_fill(&whole, id);
    CHECK(memcmp(job, &whole, sizeof whole) == 0);
}

// ---- a load: what is submitted, and who does it

struct load {
    uint32_t tasks; // of the parent
    bool polls;
    bool binds;   // some tasks have a target
    bool nests;   // some tasks submit others
    bool cancels; // some tasks are cancelled if nobody has claimed them
    bool blocks;  // some payloads lie in the arena
    int64_t spin_ns;
};

#define WORKERS 3u
#define MOST_NESTED 3u
struct seat {
    struct load load;
    struct test_pool *pool;
    struct wp_view *view;
    uint64_t random;
    uint32_t serials;          // tasks submitted by this home
    uint32_t outstanding;      // of them, without an outcome
    uint32_t room;             // of the tables below
    uint8_t *outcome;          // by serial
    uint32_t *force;           // by serial: the seat it is bound to, or 0
    uint64_t *id;              // by own slot
    uint8_t *ran[1 + WORKERS]; // by home and serial: how often this seat ran it
};

static void seat_make(struct seat *seat, struct test_pool *pool, uint32_t index, const struct load *load) {
    *seat = (struct seat){.load = *load, .pool = pool, .view = &pool->view[index], .random = wp_test_stream(index)};
    seat->room = load->tasks * (MOST_NESTED + 1);
    seat->outcome = calloc(seat->room, 1);
    seat->force = calloc(seat->room, sizeof *seat->force);
    seat->id = calloc(seat->view->slot_count, sizeof *seat->id);
    for (uint32_t home = 0; home <= WORKERS; home++) CHECK((seat->ran[home] = calloc(seat->room, 1)) != NULL);
    CHECK(seat->outcome != NULL && seat->force != NULL && seat->id != NULL);
    seat->view->spin_ns = seat->view->spin_max_ns = load->spin_ns;
}
static void seat_end(struct seat *seat) {
    free(seat->outcome), free(seat->force), free(seat->id);
    for (uint32_t home = 0; home <= WORKERS; home++) free(seat->ran[home]);
}

static void *place(struct seat *seat, struct wp_slot *slot, struct wp_payload *where) {
    uint64_t block = 0;
    if (seat->load.blocks && wp_test_below(&seat->random, 4) == 0)
        (void)wp_arena_alloc(&seat->view->arena, 1024, &block); // without one it goes inline
    wp_payload_set(where, block, sizeof(struct job));
    return block == 0 ? slot->bytes : wp_arena_at(&seat->view->arena, block, sizeof(struct job));
}
static void *placed(struct seat *seat, struct wp_slot *slot, struct wp_payload *where) {
    uint64_t block = wp_payload_block(where);
    void *bytes = block == 0 ? slot->bytes : wp_arena_at(&seat->view->arena, block, where->bytes);
    CHECK(bytes != NULL);
    return bytes;
}

// Submit one task, unless every slot is in use.
static bool submit(struct seat *seat) {
    struct wp_view *view = seat->view;
    wp_handle handle = wp_home_reserve(view);
    if (handle == WP_NO_HANDLE) return false;
    CHECK(seat->serials < seat->room);
    uint32_t index = wp_handle_index(handle), serial = seat->serials++;
    struct wp_slot *slot = &view->slots[index];
    uint64_t id = (uint64_t)view->self << 32 | serial;
    seat->id[index - wp_view_self(view)->first_slot] = id;
    struct job job;
    job_fill(&job, id);
    memcpy(place(seat, slot, &slot->argument), &job, sizeof job);
    slot->call = (uint8_t)id;
    slot->group = (uint32_t)id * 3;
    wp_store_relaxed(&slot->deadline_ns, (uint64_t)id * 7);
    if (seat->load.binds && wp_test_below(&seat->random, 2) == 0) {
        uint32_t target = 1 + wp_test_below(&seat->random, WORKERS);
        // A worker may stop while others submit, so only the parent binds with force.
        enum wp_strength strength = (enum wp_strength)(WP_STRENGTH_LIGHT + wp_test_below(&seat->random, 3));
        if (view->self != WP_PARENT_SEAT) strength = WP_STRENGTH_LIGHT;
        if (strength == WP_STRENGTH_FORCE) seat->force[serial] = target;
        wp_store_relaxed(&slot->target, wp_target(target, strength, -1));
    }
    seat->outstanding++;
    wp_home_submit(view, handle);
    if (seat->load.cancels && wp_test_below(&seat->random, 8) == 0 && wp_slot_cancel(slot, handle)) {
        seat->outcome[serial] = WP_OUTCOME_CANCELLED;
        seat->outstanding--;
        wp_home_release(view, handle);
    }
    return true;
}

static void harvest(struct seat *seat) {
    struct wp_view *view = seat->view;
    uint32_t first = 0;
    for (uint64_t bits; (bits = wp_home_take(view, &first)) != 0;) {
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
            struct wp_slot *slot = &view->slots[index];
            uint64_t state, id = seat->id[index - wp_view_self(view)->first_slot];
            if (!wp_slot_is_done(slot, &state)) continue;
            CHECK_EQ(wp_state_outcome(state), WP_OUTCOME_OK);
            CHECK_EQ(wp_state_attempt(state), 1);
            CHECK(slot->start_ns > 0 && slot->end_ns >= slot->start_ns);
            struct job job;
            memcpy(&job, placed(seat, slot, &slot->result), sizeof job);
            job_check(&job, ~id);
            CHECK_EQ(seat->outcome[(uint32_t)id], WP_OUTCOME_NONE);
            seat->outcome[(uint32_t)id] = WP_OUTCOME_OK;
            if (seat->force[(uint32_t)id] != 0) CHECK_EQ(wp_state_owner(state), seat->force[(uint32_t)id]);
            seat->outstanding--;
            wp_home_release(view, wp_handle_of(index, wp_state_generation(state)));
        }
    }
}

static void run(struct seat *seat, uint32_t index) {
    struct wp_view *view = seat->view;
    struct wp_slot *slot = &view->slots[index];
    uint32_t home = wp_view_home(view, index);
    CHECK_EQ(slot->home, home);
    struct job job;
    memcpy(&job, placed(seat, slot, &slot->argument), sizeof job);
    uint64_t id = job.id;
    job_check(&job, id);
    CHECK_EQ(id >> 32, home);
    CHECK(slot->call == (uint8_t)id && slot->group == (uint32_t)id * 3 &&
          wp_load_relaxed(&slot->deadline_ns) == (uint64_t)id * 7);
    wp_enter(view, index);
    seat->ran[home][(uint32_t)id]++;
    if (seat->load.nests && home == WP_PARENT_SEAT)
        for (uint32_t n = wp_test_below(&seat->random, MOST_NESTED + 1); n > 0; n--) submit(seat);
    wp_test_jitter(&seat->random);
    job_fill(&job, ~id);
    memcpy(place(seat, slot, &slot->result), &job, sizeof job);
    wp_leave(view, index, WP_OUTCOME_OK);
}

static void *work(void *argument) {
    struct seat *seat = argument;
    struct wp_view *view = seat->view;
    uint32_t index;
    for (bool stopped = false; !stopped || seat->outstanding > 0;) {
        // As the glue does: first a look that costs nothing, then the long way.
        enum wp_next next = wp_next_now(view, &index);
        if (next == WP_NEXT_NOTHING) next = wp_next_wait(view, &index, -1);
        if (next == WP_NEXT_TASK)
            run(seat, index);
        else if (next == WP_NEXT_HARVEST)
            harvest(seat);
        else if (next == WP_NEXT_STOP) {
            stopped = true;
            // What is left of this home's tasks is in the hands of others.
            if (seat->outstanding > 0) wp_home_wait(view, WP_NO_HANDLE, -1);
            harvest(seat);
        }
    }
    wp_arena_flush(&view->arena);
    return NULL;
}

static void play(const struct load *load) {
    struct test_pool pool;
    struct seat seat[1 + WORKERS];
    pthread_t thread[1 + WORKERS];
    test_pool_make(&pool, 1 + WORKERS, 40, 9, load->polls);
    for (uint32_t i = 0; i <= WORKERS; i++) seat_make(&seat[i], &pool, i, load);
    for (uint32_t i = 1; i <= WORKERS; i++) CHECK(pthread_create(&thread[i], NULL, work, &seat[i]) == 0);

    struct seat *parent = &seat[0];
    while (parent->serials < load->tasks || parent->outstanding > 0) {
        if (parent->serials < load->tasks && submit(parent)) {
            if (wp_test_below(&parent->random, 4) == 0) harvest(parent);
            wp_test_jitter(&parent->random);
            continue;
        }
        wp_home_wait(parent->view, WP_NO_HANDLE, -1);
        harvest(parent);
    }
    for (uint32_t i = 1; i <= WORKERS; i++) wp_seat_stop(parent->view, i, WP_STOP_DRAINED);
    for (uint32_t i = 1; i <= WORKERS; i++) CHECK(pthread_join(thread[i], NULL) == 0);

    uint64_t submitted = 0, cancelled = 0, ran = 0, counted[3] = {0};
    for (uint32_t home = 0; home <= WORKERS; home++) {
        CHECK_EQ(seat[home].outstanding, 0);
        for (uint32_t serial = 0; serial < seat[home].room; serial++) {
            uint32_t times = 0;
            for (uint32_t i = 1; i <= WORKERS; i++) times += seat[i].ran[home][serial];
            uint8_t outcome = seat[home].outcome[serial];
            CHECK_EQ(outcome != WP_OUTCOME_NONE, serial < seat[home].serials);
            CHECK_EQ(times, outcome == WP_OUTCOME_OK);
            ran += times;
            cancelled += outcome == WP_OUTCOME_CANCELLED;
        }
        submitted += seat[home].serials;
        counted[0] += wp_seat_stat(&pool.view[0], home, WP_STAT_SUBMITTED);
        counted[1] += wp_seat_stat(&pool.view[0], home, WP_STAT_RELEASED);
        counted[2] += wp_seat_stat(&pool.view[0], home, WP_STAT_RUN);
    }
    CHECK_EQ(submitted, ran + cancelled);
    CHECK(counted[0] == submitted && counted[1] == submitted && counted[2] == ran);
    test_pool_check_free(&pool);
    for (uint32_t i = 0; i <= WORKERS; i++)
        CHECK_EQ(wp_home_free_slots(&pool.view[i]), wp_view_self(&pool.view[i])->slots);
    CHECK(!wp_idle_any(pool.view[0].idle->idle) && !wp_idle_any(pool.view[0].idle->searching));
    // What was lent when its life ended is freed by its span's owner, later.
    wp_arena_flush(&pool.view[0].arena);
    for (uint32_t i = 0; i <= WORKERS; i++) wp_arena_sweep(&pool.view[i].arena, 1, UINT32_MAX, false);
    struct wp_usage usage;
    wp_usage_read(&pool.view[0].arena.spans, &pool.view[0].arena.leases, &usage, NULL);
    CHECK_EQ(usage.used_bytes, 0);
    printf("    %" PRIu64 " tasks, %" PRIu64 " cancelled; stolen %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", submitted,
           cancelled, wp_seat_stat(&pool.view[0], 1, WP_STAT_STEALS), wp_seat_stat(&pool.view[0], 2, WP_STAT_STEALS),
           wp_seat_stat(&pool.view[0], 3, WP_STAT_STEALS));
    for (uint32_t i = 0; i <= WORKERS; i++) seat_end(&seat[i]);
    test_pool_end(&pool);
}

static void smoke(void) { play(&(struct load){.tasks = 100}); }

static void plain_tasks(void) { play(&(struct load){.tasks = wp_test_rounds(60000)}); }
static void plain_tasks_of_seats_that_spin(void) {
    play(&(struct load){.tasks = wp_test_rounds(60000), .spin_ns = 20000});
}
static void nested_tasks(void) { play(&(struct load){.tasks = wp_test_rounds(25000), .nests = true}); }
static void bound_tasks(void) { play(&(struct load){.tasks = wp_test_rounds(30000), .binds = true, .spin_ns = 5000}); }
static void cancelled_tasks(void) { play(&(struct load){.tasks = wp_test_rounds(30000), .cancels = true}); }
static void storm(void) {
    play(&(struct load){.tasks = wp_test_rounds(25000), .binds = true, .nests = true, .cancels = true, .blocks = true});
}
static void storm_of_polling_seats(void) {
    play(&(struct load){
        .tasks = wp_test_rounds(3000), .polls = true, .binds = true, .nests = true, .cancels = true, .blocks = true});
}

// ---- one task at a time, waited for by its handle: every park and every wake counts

static void *serve(void *argument) {
    struct seat *seat = argument;
    uint32_t index;
    for (;;) {
        enum wp_next next = wp_next_wait(seat->view, &index, -1);
        if (next == WP_NEXT_STOP) return NULL;
        if (next == WP_NEXT_TASK) test_pool_run(seat->view, index);
    }
}

static void stampede_of(bool polls, int64_t spin_ns, uint32_t rounds) {
    struct test_pool pool;
    struct seat seat[1 + WORKERS];
    pthread_t thread[1 + WORKERS];
    struct load load = {.tasks = 1, .polls = polls, .spin_ns = spin_ns};
    test_pool_make(&pool, 1 + WORKERS, 2, 1, polls);
    for (uint32_t i = 0; i <= WORKERS; i++) seat_make(&seat[i], &pool, i, &load);
    for (uint32_t i = 1; i <= WORKERS; i++) CHECK(pthread_create(&thread[i], NULL, serve, &seat[i]) == 0);
    struct wp_view *view = &pool.view[0];
    uint64_t random = wp_test_stream(9);
    for (uint32_t round = 0; round < rounds; round++) {
        // Sometimes for whoever comes, sometimes for a seat, asleep or not.
        uint32_t seat_wanted = 1 + wp_test_below(&random, WORKERS);
        enum wp_strength strength = (enum wp_strength)wp_test_below(&random, 4);
        wp_handle handle = test_pool_submit(view, wp_target(seat_wanted, strength, 0), round);
        struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
        uint64_t state, word;
        while (!wp_slot_is_done(slot, &state)) wp_home_wait(view, handle, -1);
        CHECK_EQ(wp_state_generation(state), wp_handle_generation(handle));
        memcpy(&word, slot->bytes, sizeof word);
        CHECK_EQ(word, round + 1);
        if (strength == WP_STRENGTH_FORCE) CHECK_EQ(wp_state_owner(state), seat_wanted);
        wp_home_release(view, handle); // its completion bit stays, or comes later: stale
        wp_test_jitter(&random);
    }
    for (uint32_t i = 1; i <= WORKERS; i++) wp_seat_stop(view, i, WP_STOP_NOW);
    for (uint32_t i = 1; i <= WORKERS; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    CHECK_EQ(test_pool_harvest(view), 0);
    test_pool_check_free(&pool);
    for (uint32_t i = 0; i <= WORKERS; i++) seat_end(&seat[i]);
    test_pool_end(&pool);
}
static void stampede(void) { stampede_of(false, 0, wp_test_rounds(8000)); }
static void stampede_of_seats_that_spin(void) { stampede_of(false, 10000, wp_test_rounds(8000)); }
static void stampede_of_polling_seats(void) { stampede_of(true, 0, wp_test_rounds(300)); }

// ---- tasks that wait for one another: a task beside an idle seat must not lie there

// As many tasks as workers; each runs until all have begun. A wake that is swallowed, or
// a task that is kept in a busy seat's deque while another seat sleeps, hangs.
struct meeting {
    struct seat *seat;
    wp_atomic32 *begun; // by round
};
static void *meet(void *argument) {
    struct meeting *meeting = argument;
    struct wp_view *view = meeting->seat->view;
    uint32_t index;
    for (;;) {
        enum wp_next next = wp_next_now(view, &index);
        if (next == WP_NEXT_NOTHING) next = wp_next_wait(view, &index, -1);
        if (next == WP_NEXT_STOP) return NULL;
        if (next != WP_NEXT_TASK) continue;
        uint64_t round;
        memcpy(&round, view->slots[index].bytes, sizeof round);
        wp_or_acq_rel(&meeting->begun[round], UINT32_C(1) << view->self);
        while (__builtin_popcount(wp_load_acquire(&meeting->begun[round])) < (int)WORKERS) sched_yield();
        test_pool_run(view, index);
    }
}
static void meetings(bool polls, int64_t spin_ns, uint32_t rounds) {
    struct test_pool pool;
    struct seat seat[1 + WORKERS];
    struct meeting meeting[1 + WORKERS];
    pthread_t thread[1 + WORKERS];
    struct load load = {.tasks = 1, .polls = polls, .spin_ns = spin_ns};
    wp_atomic32 *begun = calloc(rounds, sizeof *begun);
    CHECK(begun != NULL);
    test_pool_make(&pool, 1 + WORKERS, 16, 1, polls);
    for (uint32_t i = 0; i <= WORKERS; i++) seat_make(&seat[i], &pool, i, &load);
    for (uint32_t i = 1; i <= WORKERS; i++) {
        meeting[i] = (struct meeting){&seat[i], begun};
        CHECK(pthread_create(&thread[i], NULL, meet, &meeting[i]) == 0);
    }
    struct wp_view *view = &pool.view[0];
    uint64_t random = wp_test_stream(9);
    for (uint32_t round = 0; round < rounds; round++) {
        for (uint32_t i = 0; i < WORKERS; i++) {
            test_pool_submit(view, TEST_ANYONE, round);
            wp_test_jitter(&random);
        }
        for (uint32_t done = 0; (done += test_pool_harvest(view)) < WORKERS;) wp_home_wait(view, WP_NO_HANDLE, -1);
    }
    for (uint32_t i = 1; i <= WORKERS; i++) wp_seat_stop(view, i, WP_STOP_NOW);
    for (uint32_t i = 1; i <= WORKERS; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    test_pool_check_free(&pool);
    for (uint32_t i = 0; i <= WORKERS; i++) seat_end(&seat[i]);
    test_pool_end(&pool);
    free(begun);
}
static void tasks_that_need_each_other_all_run(void) {
    meetings(false, 0, wp_test_rounds(3000));
    meetings(false, 10000, wp_test_rounds(3000));
}
static void tasks_that_need_each_other_all_run_in_polling_seats(void) { meetings(true, 0, wp_test_rounds(150)); }

static void the_phases_are_counted_and_a_seat_tells_what_it_runs(void) {
    struct test_pool pool;
    uint32_t counts[WP_PHASE_DONE + 1], index;
    test_pool_make(&pool, 2, 8, 2, false);
    struct wp_view *parent = &pool.view[0], *worker = &pool.view[1];
    wp_handle first = test_pool_submit(parent, TEST_ANYONE, 1);
    test_pool_submit(parent, TEST_ANYONE, 2);
    wp_handle held = wp_home_reserve(parent);
    CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_TASK);
    CHECK_EQ(index, wp_handle_index(first));
    CHECK_EQ(wp_seat_current(parent, 1), WP_NO_HANDLE);
    wp_count_phases(parent, counts);
    CHECK(counts[WP_PHASE_RESERVED] == 1 && counts[WP_PHASE_READY] == 1 && counts[WP_PHASE_CLAIMED] == 1 &&
          counts[WP_PHASE_FREE] == parent->slot_count - 3);
    wp_enter(worker, index);
    CHECK_EQ(wp_handle_index(wp_seat_current(parent, 1)), index);
    wp_leave(worker, index, WP_OUTCOME_ERROR);
    CHECK_EQ(wp_seat_current(parent, 1), WP_NO_HANDLE);
    wp_count_phases(parent, counts);
    CHECK(counts[WP_PHASE_DONE] == 1 && counts[WP_PHASE_RUNNING] == 0);
    CHECK_EQ(wp_state_outcome(wp_load_acquire(&parent->slots[index].state)), WP_OUTCOME_ERROR);
    CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_TASK);
    test_pool_run(worker, index);
    wp_home_release(parent, held);
    CHECK_EQ(test_pool_harvest(parent), 2);
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

static void a_seat_is_taken_made_ready_stopped_and_given_away(void) {
    struct test_pool pool;
    uint32_t index;
    test_pool_make(&pool, 2, 8, 2, false);
    struct wp_view *parent = &pool.view[0], *worker = &pool.view[1];
    wp_atomic64 *life = &parent->places[1].seat->life;
    wp_store_relaxed(life, wp_life_of(0, 0xfffffe, WP_LIFE_EMPTY)); // the incarnation wraps too
    for (uint32_t n = 0; n < 3; n++) {
        uint32_t incarnation = wp_seat_next_incarnation(parent, 1);
        CHECK_EQ(incarnation, (0xffffff + n) & 0xffffff);
        CHECK(!wp_life_is_taken(wp_load_relaxed(life)));
        wp_seat_take(parent, 1, 4000000000u);
        CHECK(wp_life_is_taken(wp_load_relaxed(life)));
        CHECK_EQ(wp_life_pid(wp_load_relaxed(life)), 4000000000u);
        CHECK_EQ(wp_life_incarnation(wp_load_relaxed(life)), incarnation);
        CHECK(n == 1 || !wp_seat_is_ready(parent, 1, incarnation)); // 0 is what `ready` is at first
        wp_seat_ready(worker, incarnation);
        CHECK(wp_seat_is_ready(parent, 1, incarnation));
        CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_NOTHING);
        wp_seat_stop(parent, 1, WP_STOP_DRAINED);
        test_pool_submit(parent, TEST_ANYONE, n);
        CHECK_EQ(wp_next_wait(worker, &index, -1), WP_NEXT_TASK); // it drains first
        test_pool_run(worker, index);
        CHECK_EQ(test_pool_harvest(parent), 1);
        CHECK_EQ(wp_next_wait(worker, &index, -1), WP_NEXT_STOP);
        test_pool_submit(parent, TEST_ANYONE, n);
        wp_seat_stop(parent, 1, WP_STOP_NOW);
        CHECK_EQ(wp_next_wait(worker, &index, -1), WP_NEXT_STOP); // and now it does not
        wp_recover(parent, 1, 4242, -9);
        worker = test_pool_sit(&pool, 1);
        wp_seat_next_incarnation(parent, 1);
        wp_store_relaxed(life, wp_load_relaxed(life) - (UINT64_C(1) << 8)); // for the count above
        CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_TASK);
        test_pool_run(worker, index);
        CHECK_EQ(test_pool_harvest(parent), 1);
    }
    test_pool_check_free(&pool);
    test_pool_end(&pool);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(the_phases_are_counted_and_a_seat_tells_what_it_runs),
        WP_TEST(a_seat_is_taken_made_ready_stopped_and_given_away),
        WP_TEST(plain_tasks),
        WP_TEST(plain_tasks_of_seats_that_spin),
        WP_TEST(nested_tasks),
        WP_TEST(bound_tasks),
        WP_TEST(cancelled_tasks),
        WP_TEST(stampede),
        WP_TEST(stampede_of_seats_that_spin),
        WP_TEST(stampede_of_polling_seats),
        WP_TEST(tasks_that_need_each_other_all_run),
        WP_TEST(tasks_that_need_each_other_all_run_in_polling_seats),
        WP_TEST(storm),
        WP_TEST(storm_of_polling_seats),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
