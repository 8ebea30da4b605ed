// deque_ops.c — push, pop and steal on csrc/wp_deque.h, alone and against another process.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "floor.h"
#include "wp_deque.h"

#define CAPACITY 4096u
#define LAPS 300u

struct board {
    wp_atomic32 start; // the lap that may begin
    uint8_t pad[WP_CACHE_LINE - sizeof(wp_atomic32)];
    wp_atomic32 ended; // the lap that the thief has ended
    uint8_t rest[WP_CACHE_LINE - sizeof(wp_atomic32)];
    // the deque follows
};

static struct wp_deque deque_of(struct board *board) { return wp_deque_at(board + 1, CAPACITY); }

static void spin_until(wp_atomic32 *word, uint32_t value) {
    while (wp_load_acquire(word) < value) wp_cpu_relax();
}

// Steal until nothing is left.
//
// Returns: how many handles this process won.
static uint64_t rob(const struct wp_deque *deque) {
    uint64_t handle, won = 0;
    for (;;) {
        enum wp_steal outcome = wp_deque_steal(deque, &handle);
        if (outcome == WP_STEAL_EMPTY) return won;
        won += outcome == WP_STEAL_OK;
    }
}

static void thief(void *shared) {
    struct board *board = shared;
    struct wp_deque deque = deque_of(board);
    floor_pin(1);
    for (uint32_t lap = 1; lap <= 2 * LAPS; lap++) {
        spin_until(&board->start, lap);
        rob(&deque);
        wp_store_release(&board->ended, lap);
    }
}

static void fill(const struct wp_deque *deque) {
    for (uint64_t i = 0; i < CAPACITY; i++) floor_check(wp_deque_push(deque, i), "push");
}

static double per_handle(int64_t start_ns, uint64_t handles) {
    return (double)(wp_os_now_ns() - start_ns) / (double)(handles > 0 ? handles : 1);
}

int main(void) {
    struct board *board = floor_share(sizeof *board + wp_deque_bytes(CAPACITY));
    struct wp_deque deque = deque_of(board);
    floor_pin(0);
    static double push[LAPS], pop[LAPS], steal[LAPS], remote[LAPS], contended[LAPS];
    uint64_t handle;
    for (uint32_t lap = 0; lap < LAPS; lap++) {
        int64_t start_ns = wp_os_now_ns();
        fill(&deque);
        push[lap] = per_handle(start_ns, CAPACITY);
        start_ns = wp_os_now_ns();
        while (wp_deque_pop(&deque, &handle)) {
        }
        pop[lap] = per_handle(start_ns, CAPACITY);
        fill(&deque);
        start_ns = wp_os_now_ns();
        steal[lap] = per_handle(start_ns, rob(&deque));
    }

    // Forked only now: a second process that spins would slow what is measured alone.
    pid_t child = floor_fork(thief, board);
    uint32_t lap = 0;
    for (uint32_t i = 0; i < LAPS; i++) {
        fill(&deque);
        int64_t start_ns = wp_os_now_ns();
        wp_store_release(&board->start, ++lap);
        spin_until(&board->ended, lap);
        remote[i] = per_handle(start_ns, CAPACITY);
    }
    for (uint32_t i = 0; i < LAPS; i++) {
        fill(&deque);
        wp_store_release(&board->start, ++lap);
        // The time counts from the thief's first success: until then nobody contends.
        while (wp_deque_size(&deque) == CAPACITY) wp_cpu_relax();
        int64_t start_ns = wp_os_now_ns();
        contended[i] = per_handle(start_ns, rob(&deque));
        spin_until(&board->ended, lap);
    }
    floor_join(child);
    floor_print("{\"program\": \"deque_ops\", \"unit\": \"ns\", \"figures\": {", "push", push, LAPS);
    floor_print(", ", "pop", pop, LAPS);
    floor_print(", ", "steal", steal, LAPS);
    floor_print(", ", "steal_remote", remote, LAPS);
    floor_print(", ", "steal_contended", contended, LAPS);
    puts("}}");
    return 0;
}
