// wp_test.h — the smallest frame for the C tests: named tests, CHECK, a seed, a count.
//
//   ./test_deque                      all tests
//   ./test_deque storm wrap           those whose names contain one of these
//   ./test_deque storm --seed=7       with this seed (or WP_SEED=7); it is printed
//   WP_TEST_SCALE=20 ./test_deque     so many times longer
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_TEST_H
#define WP_TEST_H

#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// End the program, with the place and the condition, unless `cond`.
#define CHECK(cond)                                                                                                    \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "%s:%d: CHECK(%s) is false\n", __FILE__, __LINE__, #cond);                                 \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

// The same for two integers that must be equal, and say what they are.
#define CHECK_EQ(left, right)                                                                                          \
    do {                                                                                                               \
        int64_t wp_left = (int64_t)(left), wp_right = (int64_t)(right);                                                \
        if (wp_left != wp_right) {                                                                                     \
            fprintf(stderr, "%s:%d: CHECK_EQ(%s, %s): %" PRId64 " is not %" PRId64 "\n", __FILE__, __LINE__, #left,    \
                    #right, wp_left, wp_right);                                                                        \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct wp_test {
    const char *name;
    void (*run)(void);
};
#define WP_TEST(function) {#function, function}

// How much slower than plain code this build is: rounds are divided by it.
#ifndef WP_TEST_SLOWDOWN
#if defined(__SANITIZE_THREAD__)
#define WP_TEST_SLOWDOWN 4
#elif defined(__SANITIZE_ADDRESS__)
#define WP_TEST_SLOWDOWN 3
#else
#define WP_TEST_SLOWDOWN 1
#endif
#endif

// A lost wake-up is a hang: no test may take so long.
#define WP_TEST_HANG_SECONDS 200

static struct {
    uint64_t seed;
    double scale;
    double wait;      // how much longer a yield takes than where others want no CPU
    const char *name; // of the test that runs
} wp_test_now;

// So many rounds, where a plain -O2 build takes `rounds` on a machine that does nothing else.
static inline uint32_t wp_test_rounds(uint32_t rounds) {
    double wanted = rounds * wp_test_now.scale / (WP_TEST_SLOWDOWN * wp_test_now.wait);
    return wanted < 1 ? 1 : wanted > 2e9 ? 2000000000u : (uint32_t)wanted;
}

// splitmix64 (Steele, Lea, Flood 2014). A thread's own state comes from wp_test_stream.
static inline uint64_t wp_test_random(uint64_t *state) {
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}
static inline uint32_t wp_test_below(uint64_t *state, uint32_t limit) {
    return (uint32_t)((wp_test_random(state) >> 32) * limit >> 32);
}
static inline uint64_t wp_test_stream(uint64_t which) {
    uint64_t state = wp_test_now.seed ^ which * UINT64_C(0xd1342543de82ef95);
    wp_test_random(&state);
    return state;
}

// Sometimes let another thread run here: on few CPUs, most interleavings need it.
static inline void wp_test_jitter(uint64_t *state) {
    if (wp_test_below(state, 16) == 0) sched_yield();
}

// Run `count` threads, thread i with arguments + i * bytes, and wait for all. They
// start together once each has called wp_test_gate.
static pthread_barrier_t wp_test_barrier;
static inline void wp_test_gate(void) { pthread_barrier_wait(&wp_test_barrier); }
static inline void wp_test_threads(uint32_t count, void *(*run)(void *), void *arguments, size_t bytes) {
    pthread_t thread[64];
    CHECK(count <= 64 && pthread_barrier_init(&wp_test_barrier, NULL, count) == 0);
    for (uint32_t i = 0; i < count; i++)
        CHECK(pthread_create(&thread[i], NULL, run, (char *)arguments + i * bytes) == 0);
    for (uint32_t i = 0; i < count; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    pthread_barrier_destroy(&wp_test_barrier);
}

// Threads that wait for each other yield thousands of times. Beside work of higher priority each
// yield can cost milliseconds: then fewer rounds, or a sound test would look like one that hangs.
static inline double wp_test_wait(void) {
    const int yields = 16;
    const double usual_ns = 100e3, most = 32;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    for (int i = 0; i < yields; i++) sched_yield();
    clock_gettime(CLOCK_MONOTONIC, &after);
    double each = ((double)(after.tv_sec - before.tv_sec) * 1e9 + (double)(after.tv_nsec - before.tv_nsec)) / yields;
    return each < usual_ns ? 1 : each > most * usual_ns ? most : each / usual_ns;
}

static void wp_test_hangs(int signal_number) {
    static const char text[] = "the test hangs: ";
    ssize_t n = write(2, text, sizeof text - 1);
    n += write(2, wp_test_now.name, strlen(wp_test_now.name));
    n += write(2, "\n", 1);
    (void)n, (void)signal_number;
    abort();
}

// Run all tests, or those whose names contain one of the arguments.
static inline int wp_test_main(const struct wp_test *tests, size_t count, int argc, char **argv) {
    const char *seed = getenv("WP_SEED"), *scale = getenv("WP_TEST_SCALE");
    int passed = 0, names = 0;
    for (int a = 1; a < argc; a++) {
        if (strncmp(argv[a], "--seed=", 7) == 0)
            seed = argv[a] + 7;
        else
            names++;
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    wp_test_now.seed = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)(now.tv_sec ^ now.tv_nsec) % 1000000000u;
    wp_test_now.scale = scale != NULL && atof(scale) > 0 ? atof(scale) : 1;
    const char *program = strrchr(argv[0], '/');
    printf("%s: seed %" PRIu64 "\n", program != NULL ? program + 1 : argv[0], wp_test_now.seed);
    signal(SIGALRM, wp_test_hangs);
    for (size_t i = 0; i < count; i++) {
        int wanted = names == 0;
        for (int a = 1; a < argc; a++)
            wanted |= strncmp(argv[a], "--seed=", 7) != 0 && strstr(tests[i].name, argv[a]) != NULL;
        if (!wanted) continue;
        wp_test_now.wait = wp_test_wait();
        printf("%s\n", tests[i].name);
        if (wp_test_now.wait > 1) printf("    others want the CPUs: rounds / %.0f\n", wp_test_now.wait);
        fflush(stdout);
        wp_test_now.name = tests[i].name;
        alarm((unsigned)(WP_TEST_HANG_SECONDS * (wp_test_now.scale < 1 ? 1 : wp_test_now.scale)));
        tests[i].run();
        passed++;
    }
    alarm(0);
    printf("%d passed\n", passed);
    return passed > 0 ? 0 : 1;
}

#endif
