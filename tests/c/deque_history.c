// deque_history.c — what an owner and two thieves did to one deque, and when, for the
// checker of tests/structures/test_deque_linearizable.py.
//
//   deque_history HISTORIES SEED OPERATIONS CAPACITY
//
// Prints a line for each history, an operation being
//   thread,invoked_ns,returned_ns,operation,value,outcome
// and the operations separated by blanks. Not a test by itself: it is not named test_*.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_deque.h"
#include "wp_os.h"

#include "wp_test.h"

#define THREADS 3u // thread 0 is the owner
#define MOST_OPERATIONS 8u

struct operation {
    int64_t invoked_ns;
    int64_t returned_ns;
    const char *name;
    const char *outcome;
    uint64_t value;
};

struct history {
    struct wp_deque deque;
    wp_atomic32 arrived;                                  // a bit for each thread
    struct operation operation[THREADS][MOST_OPERATIONS]; // private to its thread until all is over
};

static struct history history;
static wp_atomic32 round_now; // which history is played
static uint32_t histories, operations;
static uint64_t capacity;

// A stamp is never earlier than what came before it in this thread, nor later than what
// comes after. A store that is still in this CPU's buffer has not happened: the fence
// ends it, so that the operation lies between its stamps.
static int64_t stamp(void) {
    wp_fence_seq_cst();
    int64_t now = wp_os_now_ns();
    wp_fence_seq_cst();
    return now;
}

static void pause_a_little(uint64_t *random) {
    for (uint32_t n = wp_test_below(random, 16); n > 0; n--) wp_cpu_relax();
}

// Sometimes another thread comes in between: on a busy machine, threads would else
// follow one another. It only makes the operation longer.
static void stretch(uint64_t *random) {
    if (wp_test_below(random, 16) == 0) sched_yield();
}

static void act(uint32_t thread, struct operation *o, uint64_t *random, uint64_t *next) {
    uint64_t value = 0;
    if (thread != 0) {
        o->name = "steal";
        o->invoked_ns = stamp();
        stretch(random);
        enum wp_steal outcome = wp_deque_steal(&history.deque, &value);
        stretch(random);
        o->returned_ns = stamp();
        o->outcome = outcome == WP_STEAL_OK ? "ok" : outcome == WP_STEAL_EMPTY ? "empty" : "lost";
    } else if (wp_test_below(random, 2) == 0) {
        value = (*next)++;
        o->name = "push";
        o->invoked_ns = stamp();
        stretch(random);
        bool done = wp_deque_push(&history.deque, value);
        stretch(random);
        o->returned_ns = stamp();
        o->outcome = done ? "ok" : "full";
    } else {
        o->name = "pop";
        o->invoked_ns = stamp();
        stretch(random);
        bool done = wp_deque_pop(&history.deque, &value);
        stretch(random);
        o->returned_ns = stamp();
        o->outcome = done ? "ok" : "empty";
    }
    o->value = value;
}

static void *play(void *argument) {
    uint32_t thread = *(uint32_t *)argument;
    uint64_t random = wp_test_stream(thread), next = 1;
    for (uint32_t round = 1; round <= histories; round++) {
        for (uint32_t spins = 0; wp_load_acquire(&round_now) != round; spins++)
            if (spins > 200) sched_yield();
        // All at once, as nearly as two CPUs can: who comes first waits a little.
        wp_or_acq_rel(&history.arrived, UINT32_C(1) << thread);
        for (uint32_t spins = 0; wp_load_acquire(&history.arrived) != (1u << THREADS) - 1 && spins < 2000; spins++)
            if (spins % 64 == 63) sched_yield();
        for (uint32_t n = 0; n < operations; n++) {
            act(thread, &history.operation[thread][n], &random, &next);
            pause_a_little(&random);
        }
        wp_or_acq_rel(&history.arrived, UINT32_C(0x100) << thread);
    }
    return NULL;
}

static void print_history(void) {
    for (uint32_t thread = 0; thread < THREADS; thread++)
        for (uint32_t n = 0; n < operations; n++) {
            struct operation *o = &history.operation[thread][n];
            printf("%u,%" PRId64 ",%" PRId64 ",%s,%" PRIu64 ",%s%c", thread, o->invoked_ns, o->returned_ns, o->name,
                   o->value, o->outcome, thread + 1 == THREADS && n + 1 == operations ? '\n' : ' ');
        }
}

int main(int argc, char **argv) {
    if (argc != 5) {
        fprintf(stderr, "usage: deque_history HISTORIES SEED OPERATIONS CAPACITY\n");
        return 2;
    }
    histories = (uint32_t)strtoul(argv[1], NULL, 0);
    wp_test_now.seed = strtoull(argv[2], NULL, 0);
    operations = (uint32_t)strtoul(argv[3], NULL, 0);
    capacity = strtoull(argv[4], NULL, 0);
    CHECK(operations >= 1 && operations <= MOST_OPERATIONS && capacity >= 1 && (capacity & (capacity - 1)) == 0);
    void *memory = aligned_alloc(WP_CACHE_LINE, (wp_deque_bytes(capacity) + 63) / 64 * 64);
    CHECK(memory != NULL);
    history.deque = wp_deque_at(memory, capacity);
    pthread_t thread[THREADS];
    uint32_t number[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        number[i] = i;
        CHECK(pthread_create(&thread[i], NULL, play, &number[i]) == 0);
    }
    for (uint32_t round = 1; round <= histories; round++) {
        memset(memory, 0, wp_deque_bytes(capacity));
        wp_store_relaxed(&history.deque.ends->top, (UINT64_C(1) << 62) - 2);
        wp_store_relaxed(&history.deque.ends->bottom, (UINT64_C(1) << 62) - 2);
        wp_store_relaxed(&history.arrived, 0);
        wp_store_release(&round_now, round);
        while (wp_load_acquire(&history.arrived) >> 8 != (1u << THREADS) - 1) sched_yield();
        print_history();
    }
    for (uint32_t i = 0; i < THREADS; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    free(memory);
    return 0;
}
