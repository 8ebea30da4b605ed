// test_stats.c — counters with one writer each: exact at the end, never falling meanwhile.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_stats.h"

#include "wp_test.h"

static void smoke(void) {
    struct wp_stats stats = {0};
    for (uint32_t which = 0; which < WP_STAT_COUNT; which++) wp_stats_add(&stats, (enum wp_stat)which, which + 1);
    wp_stats_add(&stats, WP_STAT_RUN_NS, UINT64_C(1) << 40);
    for (uint32_t which = 0; which < WP_STAT_COUNT; which++)
        CHECK(wp_stats_get(&stats, (enum wp_stat)which) ==
              which + 1 + (which == WP_STAT_RUN_NS ? UINT64_C(1) << 40 : 0));
}

static void wraparound(void) {
    struct wp_stats stats = {0};
    wp_store_relaxed(&stats.counters[WP_STAT_RUN], UINT64_MAX);
    wp_stats_add(&stats, WP_STAT_RUN, 3);
    CHECK_EQ(wp_stats_get(&stats, WP_STAT_RUN), 2);
    CHECK_EQ(wp_stats_get(&stats, WP_STAT_RUN_NS), 0);
}

#define SEATS 3u
struct actor {
    struct wp_stats *stats;
    wp_atomic32 *over;
    uint32_t seat; // SEATS: reads
    uint64_t total;
};
static void *count(void *argument) {
    struct actor *actor = argument;
    uint64_t random = wp_test_stream(actor->seat), seen[SEATS] = {0};
    wp_test_gate();
    if (actor->seat < SEATS) {
        for (uint32_t n = wp_test_rounds(500000); n > 0; n--) {
            uint64_t more = wp_test_below(&random, 100);
            wp_stats_add(&actor->stats[actor->seat], WP_STAT_RUN_NS, more);
            actor->total += more;
        }
        wp_or_acq_rel(actor->over, UINT32_C(1) << actor->seat);
        return NULL;
    }
    while (wp_load_acquire(actor->over) != (1u << SEATS) - 1) {
        for (uint32_t seat = 0; seat < SEATS; seat++) {
            uint64_t now = wp_stats_get(&actor->stats[seat], WP_STAT_RUN_NS);
            CHECK(now >= seen[seat]);
            seen[seat] = now;
        }
        wp_test_jitter(&random);
    }
    return NULL;
}
static void storm(void) {
    struct wp_stats stats[SEATS] = {0};
    wp_atomic32 over = {0};
    struct actor actor[SEATS + 1];
    for (uint32_t i = 0; i <= SEATS; i++) actor[i] = (struct actor){stats, &over, i, 0};
    wp_test_threads(SEATS + 1, count, actor, sizeof *actor);
    for (uint32_t i = 0; i < SEATS; i++) CHECK(wp_stats_get(&stats[i], WP_STAT_RUN_NS) == actor[i].total);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {WP_TEST(smoke), WP_TEST(wraparound), WP_TEST(storm)};
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
