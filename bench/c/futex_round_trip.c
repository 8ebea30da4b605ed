// futex_round_trip.c — wake another process and be woken by it: the floor for a pool whose
// worker sleeps.
//
// Neither side spins. "hot" asks again at once; "after_gap" sleeps 2 ms first, long
// enough for the other CPU to go idle. As in a pool nobody is pinned, and the kernel
// may run both sides on one CPU; "apart" pins them to two, which costs the interrupt
// that ends an idle CPU's halt.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "floor.h"

#define HOT_TRIPS 10000u
#define GAP_TRIPS 200u
#define GAP_NS INT64_C(2000000)
#define WARM_TRIPS 200u

struct board {
    wp_atomic32 ball;
    uint8_t pad[WP_CACHE_LINE - sizeof(wp_atomic32)];
    wp_atomic32 echo;
};

static void wait_for(wp_atomic32 *word, uint32_t value) {
    for (;;) {
        uint32_t seen = wp_load_acquire(word);
        if (seen == value) return;
        wp_os_wait(word, seen, -1);
    }
}

static void reply(void *shared) {
    struct board *board = shared;
    for (uint32_t i = 1; i <= WARM_TRIPS + HOT_TRIPS + GAP_TRIPS; i++) {
        wait_for(&board->ball, i);
        wp_store_release(&board->echo, i);
        wp_os_wake(&board->echo);
    }
}

static void reply_apart(void *shared) {
    floor_pin(1);
    reply(shared);
}

// One trip, ns; *wake_ns is how long the call that wakes took by itself.
static double trip(struct board *board, uint32_t ball, double *wake_ns) {
    int64_t start_ns = wp_os_now_ns();
    wp_store_release(&board->ball, ball);
    wp_os_wake(&board->ball);
    int64_t woken_ns = wp_os_now_ns();
    wait_for(&board->echo, ball);
    *wake_ns = (double)(woken_ns - start_ns);
    return (double)(wp_os_now_ns() - start_ns);
}

static double hot[HOT_TRIPS], hot_wake[HOT_TRIPS], gap[GAP_TRIPS], gap_wake[GAP_TRIPS];

static void measure(void (*partner)(void *)) {
    struct board *board = floor_share(sizeof *board);
    pid_t child = floor_fork(partner, board);
    uint32_t ball = 0;
    for (uint32_t i = 0; i < WARM_TRIPS; i++) trip(board, ++ball, hot_wake);
    for (uint32_t i = 0; i < HOT_TRIPS; i++) hot[i] = trip(board, ++ball, &hot_wake[i]);
    for (uint32_t i = 0; i < GAP_TRIPS; i++) {
        wp_os_sleep_ns(GAP_NS);
        gap[i] = trip(board, ++ball, &gap_wake[i]);
    }
    floor_join(child);
}

int main(void) {
    measure(reply);
    floor_print("{\"program\": \"futex_round_trip\", \"unit\": \"ns\", \"figures\": {", "hot", hot, HOT_TRIPS);
    floor_print(", ", "hot_wake_call", hot_wake, HOT_TRIPS);
    floor_print(", ", "after_gap", gap, GAP_TRIPS);
    floor_print(", ", "after_gap_wake_call", gap_wake, GAP_TRIPS);
    floor_pin(0);
    measure(reply_apart);
    floor_print(", ", "hot_apart", hot, HOT_TRIPS);
    floor_print(", ", "after_gap_apart", gap, GAP_TRIPS);
    puts("}}");
    return 0;
}
