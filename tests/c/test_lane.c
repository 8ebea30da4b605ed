// test_lane.c — the message lane: every record that was committed comes out once, whole
// and in order; nothing else does; no scribbled word leads out of bounds.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_lane.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "wp_message.h"
#include "wp_test_pool.h"

// A guard on both sides: what is written outside the ring is seen.
#define GUARD 64u
struct box {
    uint8_t *memory;
    uint64_t bytes;
    struct wp_lane lane; // as producer and consumer at once
};

static struct box make(uint64_t capacity, uint64_t start) {
    struct box box = {.bytes = (wp_lane_bytes(capacity) + 63) / 64 * 64 + 2 * GUARD};
    box.memory = test_pool_map(box.bytes);
    memset(box.memory, 0xa5, box.bytes);
    memset(box.memory + GUARD, 0, sizeof(struct wp_lane_ends));
    box.lane = wp_lane_at(box.memory + GUARD, capacity);
    wp_store_relaxed(&box.lane.ends->head, start);
    wp_store_relaxed(&box.lane.ends->tail, start);
    wp_lane_sit(&box.lane);
    return box;
}
static void drop(struct box *box) {
    for (uint32_t i = 0; i < GUARD; i++) {
        CHECK_EQ(box->memory[i], 0xa5);
        CHECK_EQ(box->memory[GUARD + wp_lane_bytes(box->lane.capacity) + i], 0xa5);
    }
    munmap(box->memory, box->bytes);
}

// Record n: its length and every byte of it follow from n.
static uint32_t length_of(uint64_t n, uint64_t largest) {
    uint64_t state = n;
    uint64_t random = wp_test_random(&state);
    return (uint32_t)(random % 8 == 0 ? random / 8 % (largest + 1) : random / 8 % (largest < 23 ? largest + 1 : 24));
}
static enum wp_lane_outcome send(struct wp_lane *lane, uint64_t n) {
    uint32_t size = length_of(n, wp_lane_largest(lane));
    uint8_t *bytes = NULL;
    enum wp_lane_outcome outcome = wp_lane_begin(lane, size, (uint32_t)(n % 1000) + 1, &bytes);
    if (outcome != WP_LANE_OK) return outcome;
    for (uint32_t i = 0; i < size; i++) bytes[i] = (uint8_t)(n + i);
    wp_lane_commit(lane);
    return WP_LANE_OK;
}
static bool receive(struct wp_lane *lane, uint64_t n) {
    struct wp_lane_record record;
    enum wp_lane_outcome outcome = wp_lane_peek(lane, &record);
    if (outcome == WP_LANE_EMPTY) return false;
    CHECK_EQ(outcome, WP_LANE_OK);
    CHECK_EQ(record.size, length_of(n, wp_lane_largest(lane)));
    CHECK_EQ(record.kind, n % 1000 + 1);
    for (uint32_t i = 0; i < record.size; i++) CHECK_EQ(record.bytes[i], (uint8_t)(n + i));
    wp_lane_pop(lane);
    return true;
}

static void smoke(void) {
    struct box box = make(256, 0);
    struct wp_lane *lane = &box.lane;
    struct wp_lane_record record = {.size = 77};
    uint8_t *bytes = NULL;
    CHECK(wp_lane_is_empty(lane));
    CHECK_EQ(wp_lane_peek(lane, &record), WP_LANE_EMPTY);
    CHECK_EQ(record.size, 77); // an outcome without a record leaves it alone
    CHECK_EQ(wp_lane_begin(lane, 3, 5, &bytes), WP_LANE_OK);
    memcpy(bytes, "abc", 3);
    CHECK_EQ(wp_lane_peek(lane, &record), WP_LANE_EMPTY); // begun is not sent
    wp_lane_commit(lane);
    CHECK(!wp_lane_is_empty(lane));
    CHECK_EQ(wp_lane_begin(lane, 0, 6, &bytes), WP_LANE_OK); // an empty record is one, too
    wp_lane_commit(lane);
    for (uint32_t looks = 0; looks < 2; looks++) { // a look takes nothing
        CHECK_EQ(wp_lane_peek(lane, &record), WP_LANE_OK);
        CHECK(record.size == 3 && record.kind == 5 && memcmp(record.bytes, "abc", 3) == 0);
    }
    wp_lane_pop(lane);
    CHECK_EQ(wp_lane_peek(lane, &record), WP_LANE_OK);
    CHECK(record.size == 0 && record.kind == 6);
    wp_lane_pop(lane);
    CHECK_EQ(wp_lane_peek(lane, &record), WP_LANE_EMPTY);
    drop(&box);
}

static void full_and_too_big_are_told_apart_and_reading_makes_room(void) {
    for (uint64_t start = 0; start < 256; start += 8) {
        struct box box = make(256, start);
        struct wp_lane *lane = &box.lane;
        uint8_t *bytes = NULL;
        uint64_t largest = wp_lane_largest(lane);
        CHECK_EQ(wp_lane_begin(lane, largest + 1, 1, &bytes), WP_LANE_TOO_BIG);
        CHECK(bytes == NULL);
        uint32_t sent = 0;
        while (wp_lane_begin(lane, largest, 1, &bytes) == WP_LANE_OK) {
            wp_lane_commit(lane);
            sent++;
        }
        CHECK(sent == 3 || sent == 4); // padding may take the room of one
        CHECK_EQ(wp_lane_begin(lane, largest, 1, &bytes), WP_LANE_FULL);
        struct wp_lane_record record;
        for (uint32_t n = 0; n < sent; n++) {
            CHECK_EQ(wp_lane_peek(lane, &record), WP_LANE_OK);
            wp_lane_pop(lane);
        }
        CHECK_EQ(wp_lane_peek(lane, &record), WP_LANE_EMPTY);
        CHECK_EQ(wp_lane_begin(lane, largest, 1, &bytes), WP_LANE_OK);
        drop(&box);
    }
}

static void wraparound(void) {
    static const uint64_t starts[] = {
        0, 8, 248, UINT64_MAX - 7, UINT64_MAX - 2047, UINT64_MAX / 2 - 7, UINT32_MAX - 7u};
    for (uint64_t capacity = 64; capacity <= 4096; capacity *= 4) {
        for (uint32_t s = 0; s < sizeof starts / sizeof *starts; s++) {
            struct box box = make(capacity, starts[s] & ~UINT64_C(7));
            uint64_t in = 0, out = 0;
            uint64_t state = wp_test_stream(s);
            while (out < 2000) {
                for (uint32_t burst = wp_test_below(&state, 9); burst > 0 && send(&box.lane, in) == WP_LANE_OK; burst--)
                    in++;
                for (uint32_t burst = wp_test_below(&state, 9); burst > 0 && receive(&box.lane, out); burst--) out++;
            }
            while (receive(&box.lane, out)) out++;
            CHECK_EQ(in, out);
            drop(&box);
        }
    }
}

static void a_producer_that_dies_before_the_commit_leaves_nothing(void) {
    struct box box = make(256, 232); // the next record needs padding
    struct wp_lane next;
    uint8_t *bytes;
    CHECK_EQ(wp_lane_begin(&box.lane, 40, 9, &bytes), WP_LANE_OK);
    memset(bytes, 1, 40);
    next = wp_lane_at(box.lane.ends, 256); // its successor
    wp_lane_sit(&next);
    struct wp_lane_record record;
    CHECK_EQ(wp_lane_peek(&next, &record), WP_LANE_EMPTY);
    CHECK_EQ(send(&next, 3), WP_LANE_OK);
    CHECK(receive(&next, 3));
    drop(&box);
}

static void a_dead_consumers_messages_are_read_out_and_the_lane_begins_anew(void) {
    struct box box = make(256, 200);
    struct wp_lane consumer = box.lane;
    for (uint64_t n = 0; n < 5; n++) CHECK_EQ(send(&box.lane, n * 8 + 1), WP_LANE_OK);
    CHECK(receive(&consumer, 1) && receive(&consumer, 9));
    wp_lane_sit(&box.lane);
    for (uint64_t n = 2; n < 5; n++) CHECK(receive(&box.lane, n * 8 + 1));
    CHECK_EQ(send(&box.lane, 7), WP_LANE_OK);
    wp_lane_discard(&box.lane);
    CHECK(wp_lane_is_empty(&box.lane));
    CHECK_EQ(send(&box.lane, 50), WP_LANE_OK); // the successor is still starting
    consumer = wp_lane_at(box.lane.ends, 256);
    wp_lane_sit(&consumer);
    CHECK(receive(&consumer, 50) && !receive(&consumer, 51));
    drop(&box);
}

static void scribbling_leads_nowhere(void) {
    uint64_t state = wp_test_stream(1);
    for (uint32_t round = 0; round < wp_test_rounds(200000); round++) {
        uint64_t capacity = 64u << wp_test_below(&state, 4);
        static uint64_t words[(128 + 1024 + 2 * GUARD) / 8];
        uint8_t *memory = (uint8_t *)words;
        memset(memory, 0xa5, sizeof words);
        struct wp_lane lane = wp_lane_at(memory + GUARD, capacity);
        wp_store_relaxed(&lane.ends->head, wp_test_random(&state) & ~UINT64_C(7));
        wp_store_relaxed(&lane.ends->tail, wp_load_relaxed(&lane.ends->head));
        wp_lane_sit(&lane);
        for (uint64_t n = 0; n < 3; n++) send(&lane, n);
        for (uint32_t hits = 1 + wp_test_below(&state, 3); hits > 0; hits--) {
            uint32_t what = wp_test_below(&state, 4);
            uint64_t value = wp_test_random(&state) >> wp_test_below(&state, 64);
            if (what == 0)
                wp_store_relaxed(&lane.ends->tail, value);
            else if (what == 1)
                wp_store_relaxed(&lane.ends->tail, lane.tail + value % 64);
            else
                memcpy(lane.bytes + wp_test_below(&state, (uint32_t)capacity / 8) * 8, &value, 8);
        }
        struct wp_lane_record record;
        enum wp_lane_outcome outcome = WP_LANE_OK;
        uint32_t looks = 0;
        uint32_t sum = 0;
        for (; outcome != WP_LANE_EMPTY && looks < 1000; looks++) {
            outcome = wp_lane_peek(&lane, &record);
            if (outcome != WP_LANE_OK) continue;
            CHECK(record.bytes >= lane.bytes && record.bytes + record.size <= lane.bytes + capacity);
            for (uint32_t i = 0; i < record.size; i++) sum += record.bytes[i];
            wp_lane_pop(&lane);
        }
        CHECK(looks < 1000); // it ends, whatever there was
        // The producer still writes inside, and says so when it cannot.
        wp_store_relaxed(&lane.ends->head, wp_test_random(&state));
        for (uint64_t n = 0; n < 40; n++) send(&lane, n + sum % 2);
        for (uint32_t i = 0; i < GUARD; i++) CHECK_EQ(memory[i], 0xa5);
        for (uint32_t i = 0; i < GUARD; i++) CHECK_EQ(memory[GUARD + wp_lane_bytes(capacity) + i], 0xa5);
    }
}

// ---- storms: two threads, two processes

struct end {
    struct wp_lane lane;
    uint64_t count;
    bool sends;
};
static void run_end(struct end *end) {
    uint64_t state = wp_test_stream(end->sends);
    for (uint64_t n = 0; n < end->count;) {
        if (end->sends ? send(&end->lane, n) == WP_LANE_OK : receive(&end->lane, n))
            n++;
        else
            sched_yield();
        if (n % 64 == 0) wp_test_jitter(&state);
    }
}
static void *run_thread(void *end) {
    wp_test_gate();
    run_end(end);
    return NULL;
}
static void storm(void) {
    for (uint64_t capacity = 64; capacity <= 65536; capacity *= 32) {
        struct box box = make(capacity, UINT64_MAX - 4095);
        struct end ends[2] = {{box.lane, wp_test_rounds(300000), true}, {box.lane, wp_test_rounds(300000), false}};
        wp_test_threads(2, run_thread, ends, sizeof *ends);
        CHECK(wp_lane_is_empty(&box.lane));
        drop(&box);
    }
}

static void storm_between_two_processes(void) {
    struct box box = make(4096, UINT64_MAX - 4095);
    struct end producer = {box.lane, wp_test_rounds(300000), true}, consumer = {box.lane, producer.count, false};
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        run_end(&producer);
        _exit(0);
    }
    run_end(&consumer);
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK(wp_lane_is_empty(&box.lane));
    drop(&box);
}

// A producer that is killed again and again: what came before its death is whole, and its
// successor goes on where it was.
static void a_killed_producer_leaves_whole_records(void) {
    struct box box = make(4096, 0);
    for (uint32_t round = 0; round < wp_test_rounds(60); round++) {
        struct end producer = {wp_lane_at(box.lane.ends, 4096), UINT64_MAX, true};
        wp_lane_sit(&producer.lane);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) run_end(&producer);
        uint64_t n = 0, state = wp_test_stream(round);
        for (uint64_t most = wp_test_below(&state, 3000); n < most;)
            if (receive(&box.lane, n)) n++;
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, NULL, 0) == pid);
        while (receive(&box.lane, n)) n++;
    }
    drop(&box);
}

// ---- messages: what the lanes of a pool carry

static void post(struct wp_view *view, uint32_t seat, uint64_t n) {
    uint8_t *memory;
    while ((memory = wp_message_begin(view, seat, sizeof n)) == NULL) sched_yield();
    memcpy(memory, &n, sizeof n);
    wp_message_send(view, seat);
}
static void post_block(struct wp_view *view, uint32_t seat, uint64_t bytes) {
    uint64_t block;
    CHECK_EQ(wp_arena_alloc(&view->arena, bytes, &block), WP_ALLOC_OK);
    memset(wp_arena_at(&view->arena, block, bytes), (int)seat, bytes);
    CHECK(wp_message_send_block(view, seat, block, bytes));
}
static uint64_t read_one(struct wp_view *view, uint32_t seat, enum wp_message_kind kind) {
    struct wp_message message;
    struct wp_lane *lane = wp_message_in(view, seat);
    CHECK_EQ(wp_message_look(view, lane, &message), kind);
    uint64_t n = message.size;
    if (kind == WP_MESSAGE_BODY) memcpy(&n, message.bytes, sizeof n);
    if (kind != WP_MESSAGE_NONE) wp_message_done(view, lane, &message);
    return n;
}
// Blocks in use, of any seat, when nobody holds spare ones.
static uint32_t blocks(struct test_pool *pool) {
    uint32_t count = 0;
    for (uint32_t seat = 0; seat < pool->shape.seats; seat++) {
        wp_arena_flush(&pool->view[seat].arena);
        wp_arena_sweep(&pool->view[seat].arena, 1, pool->view[seat].arena.spans.count, true);
    }
    struct wp_spans *spans = &pool->view[0].arena.spans;
    for (uint32_t i = 1; i < spans->count; i++) {
        uint64_t word = wp_load_relaxed(&spans->word[i]);
        count += wp_span_kind(word) == WP_SPAN_SMALL ? (uint32_t)__builtin_popcount(wp_span_used(word))
                                                     : wp_span_kind(word) == WP_SPAN_HEAD;
    }
    return count;
}

static void messages_travel_both_ways_and_blocks_end_with_their_reader(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    struct wp_view *parent = &pool.view[0], *worker = &pool.view[2];
    CHECK(!wp_message_waits(parent) && !wp_seat_has_message(worker));
    post(parent, 2, 41);
    post_block(parent, 2, 5000);
    post_block(parent, 2, 100000);
    CHECK(wp_seat_has_message(worker) && !wp_seat_has_message(&pool.view[1]));
    CHECK_EQ(read_one(worker, 2, WP_MESSAGE_BODY), 41);
    CHECK_EQ(read_one(worker, 2, WP_MESSAGE_BLOCK), 5000);
    CHECK_EQ(read_one(worker, 2, WP_MESSAGE_BLOCK), 100000);
    read_one(worker, 2, WP_MESSAGE_NONE);
    CHECK(!wp_seat_has_message(worker));
    post(worker, 2, 42);
    post_block(worker, 2, 100000);
    CHECK(wp_message_waits(parent));
    CHECK_EQ(wp_message_posted(parent, 1), 2);
    CHECK_EQ(wp_message_posted(parent, 1), WP_NO_SEAT);
    CHECK_EQ(read_one(parent, 2, WP_MESSAGE_BODY), 42);
    CHECK_EQ(read_one(parent, 2, WP_MESSAGE_BLOCK), 100000);
    CHECK_EQ(blocks(&pool), 0);
    test_pool_end(&pool);
}

static void a_message_wakes_who_sleeps_and_keeps_a_seat_awake(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 2, false);
    struct wp_view *parent = &pool.view[0], *worker = &pool.view[1];
    wp_search_begin(worker);
    CHECK(wp_park_arm(worker, WP_PARKER_FUTEX));
    post(parent, 2, 1); // not for this one
    CHECK_EQ(wp_load_acquire(&parent->places[1].seat->parker), WP_PARKER_FUTEX);
    post(parent, 1, 1);
    CHECK_EQ(wp_park_sleep(worker, -1), WP_WAIT_WOKEN);
    wp_park_disarm(worker);
    CHECK(!wp_park_arm(worker, WP_PARKER_FUTEX));
    uint32_t index;
    CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_MESSAGE);
    wp_handle handle = test_pool_submit(parent, TEST_ANYONE, 5);
    CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_TASK); // turn and turn about
    test_pool_run(worker, index);
    CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_MESSAGE);
    read_one(worker, 1, WP_MESSAGE_BODY);
    CHECK_EQ(wp_next_now(worker, &index), WP_NEXT_NOTHING);
    CHECK_EQ(test_pool_phase(&pool, handle), WP_PHASE_DONE);
    CHECK_EQ(test_pool_harvest(parent), 1);
    CHECK(wp_home_arm(parent));
    post(worker, 1, 2);
    CHECK(!(wp_load_acquire(&parent->places[0].seat->parker) & WP_PARKER_ARMED));
    CHECK(!wp_home_arm(parent));
    CHECK_EQ(wp_home_wait(parent, WP_NO_HANDLE, 0), WP_WAIT_WOKEN);
    wp_search_end(worker);
    test_pool_end(&pool);
}

static void recovery_resets_the_lanes_and_no_block_stays(void) {
    for (uint32_t died = 0; died < 3; died++) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 8, 2, false);
        struct wp_view *parent = &pool.view[0], *worker = &pool.view[1];
        for (uint32_t n = 0; n < 3; n++) post_block(parent, 1, 2000 + n * 20000);
        post_block(worker, 1, 3000);
        struct wp_message message;
        struct wp_lane *lane = wp_message_in(worker, 1);
        // Where the worker dies in wp_message_done: before the lease, before the pop, after it.
        CHECK_EQ(wp_message_look(worker, lane, &message), WP_MESSAGE_BLOCK);
        if (died > 0) CHECK(wp_arena_lease(&worker->arena, message.block, WP_LEASE_OWN) != WP_NO_LEASE);
        if (died > 1) wp_lane_pop(lane);
        CHECK_EQ(read_one(parent, 1, WP_MESSAGE_BLOCK), 3000); // it was sent before the death
        lane = wp_message_inherit(parent, 1);
        uint32_t unread = 0;
        for (; wp_message_look(parent, lane, &message) != WP_MESSAGE_NONE; unread++)
            wp_message_done(parent, lane, &message);
        CHECK_EQ(unread, died > 1 ? 2 : 3);
        wp_recover(parent, 1, 1000, 9);
        worker = test_pool_sit(&pool, 1);
        CHECK(!wp_seat_has_message(worker) && !wp_message_waits(parent));
        CHECK_EQ(blocks(&pool), 0);
        post(parent, 1, 7);
        post(worker, 1, 8);
        CHECK_EQ(read_one(worker, 1, WP_MESSAGE_BODY), 7);
        CHECK_EQ(read_one(parent, 1, WP_MESSAGE_BODY), 8);
        test_pool_end(&pool);
    }
}

// Both flood each other and sleep whenever there is nothing: a lost wake-up is a hang.
struct side {
    struct wp_view *view;
    uint64_t count;
};
static bool drain(struct wp_view *view, uint64_t *next) {
    struct wp_message message;
    struct wp_lane *lane = wp_message_in(view, 1);
    bool any = false;
    while (wp_message_look(view, lane, &message) == WP_MESSAGE_BODY) {
        uint64_t n;
        memcpy(&n, message.bytes, sizeof n);
        CHECK_EQ(n, *next);
        ++*next;
        wp_message_done(view, lane, &message);
        any = true;
    }
    return any;
}
static void *run_side(void *arg) {
    struct side *side = arg;
    struct wp_view *view = side->view;
    uint64_t sent = 0, heard = 0, state = wp_test_stream(view->self);
    wp_test_gate();
    while (sent < side->count || heard < side->count) {
        for (uint32_t burst = wp_test_below(&state, 20); burst > 0 && sent < side->count; burst--) {
            uint8_t *memory = wp_message_begin(view, 1, sizeof sent);
            if (memory == NULL) break;
            memcpy(memory, &sent, sizeof sent);
            wp_message_send(view, 1);
            sent++;
        }
        if (view->self == WP_PARENT_SEAT && wp_message_posted(view, 1) == WP_NO_SEAT) {
            if (sent == side->count && heard < side->count) wp_home_wait(view, WP_NO_HANDLE, -1);
        } else if (!drain(view, &heard) && view->self != WP_PARENT_SEAT && sent == side->count && heard < side->count) {
            uint32_t index;
            CHECK_EQ(wp_next_wait(view, &index, -1), WP_NEXT_MESSAGE);
        }
        if (view->self != WP_PARENT_SEAT) drain(view, &heard);
    }
    return NULL;
}
static void both_flood_and_sleep(void) {
    struct test_pool pool;
    test_pool_make(&pool, 2, 8, 2, false);
    struct side sides[2] = {{&pool.view[0], wp_test_rounds(200000)}, {&pool.view[1], wp_test_rounds(200000)}};
    wp_test_threads(2, run_side, sides, sizeof *sides);
    test_pool_end(&pool);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(full_and_too_big_are_told_apart_and_reading_makes_room),
        WP_TEST(wraparound),
        WP_TEST(a_producer_that_dies_before_the_commit_leaves_nothing),
        WP_TEST(a_dead_consumers_messages_are_read_out_and_the_lane_begins_anew),
        WP_TEST(scribbling_leads_nowhere),
        WP_TEST(storm),
        WP_TEST(storm_between_two_processes),
        WP_TEST(a_killed_producer_leaves_whole_records),
        WP_TEST(messages_travel_both_ways_and_blocks_end_with_their_reader),
        WP_TEST(a_message_wakes_who_sleeps_and_keeps_a_seat_awake),
        WP_TEST(recovery_resets_the_lanes_and_no_block_stays),
        WP_TEST(both_flood_and_sleep),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
