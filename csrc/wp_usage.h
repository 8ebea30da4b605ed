// wp_usage.h — how much of the payload arena is in use, and by whom.
//
// Layer 2. Source: this project. Counted from the words of the spans when asked,
// because a count kept in shared memory would be wrong for ever after a death.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_USAGE_H
#define WP_USAGE_H

#include <stddef.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_lease.h"
#include "wp_span.h"

// A snapshot; fields may be a few microseconds apart. `seats` may be NULL, else
// it has room for every seat.
struct wp_usage_seat {
    uint64_t used_bytes; // in blocks of its spans
    uint64_t held_bytes; // in its spans
    uint64_t leases;
};
struct wp_usage {
    uint64_t budget_bytes;
    uint64_t committed_bytes; // taken from the system: the high water since the last trim
    uint64_t used_bytes;
    uint64_t doomed_bytes; // waiting for a borrower; part of used_bytes
    uint64_t run_bytes;    // the longest run that is free
};
static inline void wp_usage_read(const struct wp_spans *spans, const struct wp_leases *leases, struct wp_usage *usage,
                                 struct wp_usage_seat *seats) {
    struct wp_usage_seat each[WP_MAX_SEATS] = {{0}};
    struct wp_span_gap gap = wp_span_gap(spans);
    uint64_t run = 0;
    *usage = (struct wp_usage){.budget_bytes = (spans->count - 1) * WP_SPAN_BYTES};
    for (uint32_t i = 1; i < spans->count; i++) {
        if (i == gap.first) {
            run += (gap.end - gap.first) * WP_SPAN_BYTES;
            if (run > usage->run_bytes) usage->run_bytes = run;
            if ((i = gap.end) == spans->count) break;
        }
        uint64_t word = wp_load_relaxed(&spans->word[i]); // relaxed: a statistic
        struct wp_usage_seat *seat = &each[wp_span_owner(word)];
        uint64_t used = 0, doomed = 0;
        if (word & WP_SPAN_COMMITTED) usage->committed_bytes += WP_SPAN_BYTES;
        run = wp_span_kind(word) == WP_SPAN_FREE ? run + WP_SPAN_BYTES : 0;
        if (run > usage->run_bytes) usage->run_bytes = run;
        if (run != 0) continue;
        seat->held_bytes += WP_SPAN_BYTES;
        if (wp_span_kind(word) == WP_SPAN_SMALL && wp_span_class(word) < WP_SPAN_CLASSES) {
            uint64_t bytes = wp_span_classes[wp_span_class(word)].bytes;
            used = (uint32_t)__builtin_popcount(wp_span_used(word)) * bytes;
            doomed = (uint32_t)__builtin_popcount((uint32_t)(word >> WP_SPAN_DOOMED_SHIFT)) * bytes;
        } else if (wp_span_kind(word) == WP_SPAN_HEAD) {
            used = wp_span_high(word) * WP_SPAN_BYTES;
            doomed = word & WP_RUN_DOOMED ? used : 0;
        }
        seat->used_bytes += used;
        usage->doomed_bytes += doomed;
    }
    for (uint32_t i = 0; i < spans->seats; i++) {
        // relaxed: a statistic.
        uint64_t spare = wp_load_relaxed(&spans->seat[i].spare_bytes);
        each[i].used_bytes -= spare < each[i].used_bytes ? spare : each[i].used_bytes;
        each[i].leases = wp_lease_count(leases, i);
        usage->used_bytes += each[i].used_bytes;
        if (seats != NULL) seats[i] = each[i];
    }
}

#endif
