// wp_stats.h — what each seat has done, for looking at.
//
// Layer 2. Source: this project. Each counter is written by its own seat alone
// and read by anyone; a snapshot's fields may be a few microseconds apart.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_STATS_H
#define WP_STATS_H

#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"

enum wp_stat {
    WP_STAT_SUBMITTED,   // tasks published by this home
    WP_STAT_RELEASED,    // slots this home got back: harvested, cancelled, or never offered
    WP_STAT_RUN,         // tasks entered here
    WP_STAT_RUN_NS,      // time spent in them
    WP_STAT_STEALS,      // hints taken from another worker's deque or light set
    WP_STAT_STEALS_LOST, // steals that another claimant won
    WP_STAT_HINTS_STALE, // hints whose slot was not READY any more
    WP_STAT_PARKS,       // times this seat went to sleep
    WP_STAT_WAKES,       // system calls made to wake others
    WP_STAT_SPINS_USED,  // waits that spinning ended before sleep
    WP_STAT_COUNT,
};

struct wp_stats {
    wp_atomic64 counters[16];
};

_Static_assert(WP_STAT_COUNT <= 16, "segment layout: bump WP_LAYOUT_VERSION");
_Static_assert(sizeof(struct wp_stats) == 2 * WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

static inline void wp_stats_add(struct wp_stats *stats, enum wp_stat which, uint64_t n) {
    wp_atomic64 *counter = &stats->counters[which];
    // relaxed: one writer, and nothing is ordered by a counter.
    wp_store_relaxed(counter, wp_load_relaxed(counter) + n);
}
static inline uint64_t wp_stats_get(struct wp_stats *stats, enum wp_stat which) {
    return wp_load_relaxed(&stats->counters[which]); // relaxed: a snapshot
}

#endif
