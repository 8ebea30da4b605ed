// ping_pong.c — one cache line to another process and one back: the least any answer costs.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "floor.h"

// A trip is about as long as reading the clock: one reading per batch.
#define TRIPS_PER_BATCH 1000u
#define BATCHES 500u

struct board {
    wp_atomic32 ball;
    uint8_t pad[WP_CACHE_LINE - sizeof(wp_atomic32)];
    wp_atomic32 echo;
};

static void reply(void *shared) {
    struct board *board = shared;
    floor_pin(1);
    for (uint32_t i = 1; i <= TRIPS_PER_BATCH * (BATCHES + 1); i++) {
        while (wp_load_acquire(&board->ball) != i) {
        }
        wp_store_release(&board->echo, i);
    }
}

int main(void) {
    struct board *board = floor_share(sizeof *board);
    floor_pin(0); // before the fork: without a second CPU nobody would answer
    pid_t child = floor_fork(reply, board);
    static double ns[BATCHES + 1];
    uint32_t ball = 0;
    for (uint32_t batch = 0; batch <= BATCHES; batch++) {
        int64_t start_ns = wp_os_now_ns();
        for (uint32_t i = 0; i < TRIPS_PER_BATCH; i++) {
            wp_store_release(&board->ball, ++ball);
            while (wp_load_acquire(&board->echo) != ball) {
            }
        }
        ns[batch] = (double)(wp_os_now_ns() - start_ns) / TRIPS_PER_BATCH;
    }
    floor_join(child);
    // The first batch waited for the child to start.
    floor_print("{\"program\": \"ping_pong\", \"unit\": \"ns\", \"figures\": {", "round_trip", ns + 1, BATCHES);
    puts("}}");
    return 0;
}
