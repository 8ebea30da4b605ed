// model_lane.c — a lane under all interleavings: laps, padding, deaths of either end.
//
// Law: records come out whole, in order, each once: their bytes are plain, race-checked
// memory. A record whose producer died is there whole or not at all; what a dead consumer had
// not taken is read out by the recoverer; the next incarnation begins with an empty lane.
//
// SPDX-License-Identifier: BSD-3-Clause
#include <string.h>

#include "wp_lane.h"

#include "model.h"

#define RING 64u // records of 8 bytes span 16, those of 1 byte too: the largest has 8

static struct notes {
    void *memory;
    struct wp_lane at[4]; // of the producer, the consumer, the heir, the recoverer
    uint64_t sent;        // the last record that was committed, or may have been
    uint64_t taken;       // the last that came out
    bool torn;            // the producer died in a commit: `sent` may not have been
    int heir;
} *n;

static void make(void) {
    n = model_private(sizeof *n);
    n->memory = model_shared(wp_lane_bytes(RING));
    for (int i = 0; i < 4; i++) n->at[i] = wp_lane_at(n->memory, RING);
    model_name(&n->at[0].ends->head, 8, "head");
    model_name(&n->at[0].ends->tail, 8, "tail");
    model_name(n->at[0].bytes, RING, "bytes");
}

static bool send(struct wp_lane *lane, uint64_t number) {
    uint8_t *bytes;
    if (wp_lane_begin(lane, sizeof number, 7, &bytes) != WP_LANE_OK) return false;
    memcpy(bytes, &number, sizeof number);
    n->sent = number, n->torn = true; // noted first: a death after the store does not take it back
    model_note("sends %u", (unsigned)number);
    wp_lane_commit(lane);
    n->torn = false;
    return true;
}

static bool take(struct wp_lane *lane, bool pops) {
    struct wp_lane_record record;
    enum wp_lane_outcome outcome = wp_lane_peek(lane, &record);
    if (outcome == WP_LANE_EMPTY) return false;
    MODEL_CHECK(outcome == WP_LANE_OK);
    uint64_t number;
    MODEL_CHECK(record.kind == 7 && record.size == sizeof number);
    memcpy(&number, record.bytes, sizeof number);
    model_note("takes %u", (unsigned)number);
    MODEL_CHECK(number == n->taken + 1 && number <= n->sent);
    if (pops) n->taken = number;
    if (pops) wp_lane_pop(lane);
    return true;
}

// ---- a lap and more

static void producer(void *arg) {
    (void)arg;
    uint64_t number = 1;
    for (int tries = 0; tries < 8 && number <= 6; tries++) number += send(&n->at[0], number);
}
static void consumer(void *arg) {
    (void)arg;
    for (int tries = 0; tries < 6; tries++) take(&n->at[1], true);
}
static void set_up_laps(void) {
    make();
    model_actor("producer", producer, NULL, 0);
    model_actor("consumer", consumer, NULL, 0);
}
static void all_came_out(void) {
    while (take(&n->at[1], true)) {
    }
    MODEL_CHECK(n->taken == n->sent && wp_lane_is_empty(&n->at[0]));
}

// ---- records that do not end where the ring does

static void producer_of_pads(void *arg) {
    (void)arg;
    uint8_t *bytes;
    uint64_t number = 1;
    for (int tries = 0; tries < 6 && number <= 4; tries++) {
        if (wp_lane_begin(&n->at[0], 0, 8, &bytes) != WP_LANE_OK) continue; // 8 bytes: the next one is odd
        wp_lane_commit(&n->at[0]);
        while (tries++ < 6 && !send(&n->at[0], number)) {
        }
        number++;
    }
}
static void consumer_of_pads(void *arg) {
    (void)arg;
    struct wp_lane_record record;
    for (int tries = 0; tries < 8; tries++) {
        enum wp_lane_outcome outcome = wp_lane_peek(&n->at[1], &record);
        MODEL_CHECK(outcome != WP_LANE_CORRUPT);
        if (outcome == WP_LANE_EMPTY) continue;
        if (record.size == 0)
            wp_lane_pop(&n->at[1]);
        else
            MODEL_CHECK(take(&n->at[1], true));
    }
}
static void set_up_pads(void) {
    make();
    model_actor("producer", producer_of_pads, NULL, 0);
    model_actor("consumer", consumer_of_pads, NULL, 0);
}
static void nothing_is_torn(void) { consumer_of_pads(NULL); }

// ---- a worker's death: it is the producer, and the parent reads out what it sent

static void recoverer_of_producer(void *arg) {
    (void)arg;
    // As the parent: it is the consumer, and none of its threads reads the lane meanwhile.
    for (unsigned reads = model_choose(3); reads > 0; reads--) take(&n->at[1], true);
    model_await_death();
    uint64_t before = n->taken;
    while (take(&n->at[1], true)) {
    }
    MODEL_CHECK(n->taken >= before && (n->taken == n->sent || (n->torn && n->taken + 1 == n->sent)));
    n->sent = n->taken = 0;
    wp_lane_discard(&n->at[1]);
    model_start(n->heir);
}
static void heir_sends(void *arg) {
    (void)arg;
    wp_lane_sit(&n->at[2]);
    MODEL_CHECK(send(&n->at[2], 1) && send(&n->at[2], 2));
}
static void set_up_producer_dies(void) {
    make();
    model_actor("producer", producer, NULL, MODEL_MORTAL);
    model_actor("recoverer", recoverer_of_producer, NULL, MODEL_DAEMON);
    n->heir = model_actor("heir", heir_sends, NULL, MODEL_DORMANT);
}

// ---- a worker's death: it is the consumer, and the parent reads out what it did not

static void recoverer_of_consumer(void *arg) {
    (void)arg;
    model_await_death();
    struct wp_lane *lane = &n->at[3]; // as wp_message_inherit; the parent is the producer too
    uint64_t tail = n->at[0].tail;
    wp_lane_sit(lane);
    wp_store_release(&lane->ends->tail, tail);
    // The record in hand may come twice: the dead had read it and not said so.
    struct wp_lane_record record;
    if (wp_lane_peek(lane, &record) == WP_LANE_OK) {
        uint64_t number;
        memcpy(&number, record.bytes, sizeof number);
        MODEL_CHECK(number == n->taken || number == n->taken + 1);
        n->taken = number - 1;
    }
    while (take(lane, true)) {
    }
    MODEL_CHECK(n->taken == n->sent);
    n->sent = n->taken = 0;
    wp_lane_discard(lane);
    n->at[0] = *lane;
    model_start(n->heir);
    send(&n->at[0], 1);
    send(&n->at[0], 2);
}
static void heir_reads(void *arg) {
    (void)arg;
    wp_lane_sit(&n->at[2]);
    for (int tries = 0; tries < 3; tries++) take(&n->at[2], true);
}
static void set_up_consumer_dies(void) {
    make();
    for (uint64_t number = 1; number <= 3; number++) send(&n->at[0], number);
    model_actor("consumer", consumer, NULL, MODEL_MORTAL);
    model_actor("recoverer", recoverer_of_consumer, NULL, MODEL_DAEMON);
    n->heir = model_actor("heir", heir_reads, NULL, MODEL_DORMANT);
}
static void nothing(void) {}

static const struct model_scenario scenarios[] = {
    {"laps", "records come out once, in order", set_up_laps, all_came_out, {3, 4, 0}, {6, MODEL_ANY, 0}, false, NULL},
    {"pads", "a record never wraps", set_up_pads, nothing_is_torn, {3, 3, 0}, {5, MODEL_ANY, 0}, false, NULL},
    {"producer_dies", "sent whole or not at all", set_up_producer_dies, nothing, {3, 3, 1}, {5, 5, 1}, false, NULL},
    {"consumer_dies",
     "what was not read is read out",
     set_up_consumer_dies,
     nothing,
     {3, 3, 1},
     {5, 5, 1},
     false,
     NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
