// wp_parcel.h — a block that names further blocks: what a result hands over beside itself.
//
// Layer 2. Source: this project.
//
//   | id: 8 | stream bytes: 4 | names: 4 | … 64 | names | stream | data, each on a cache line |
//
// A result may be made of blocks that its worker owned: the parcel of its slot names
// them, and while the slot is DONE their lives are the slot's. Its home takes each over
// by an owning lease before it lets go of the slot.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_PARCEL_H
#define WP_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_span.h"

//   id            whoever owns the block's life
//   names         the owner of the task, before DONE; the home of a dead seat's task, which
//                 clears each as it takes it
//   others        the encoder, before READY or DONE
struct wp_parcel {
    wp_atomic64 id;
    uint32_t stream_bytes;
    uint32_t names;
    uint8_t reserved[48];
};
_Static_assert(sizeof(struct wp_parcel) == WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

// The names in the parcel at `offset`: nothing is believed.
//
// Caller:   the home or the recoverer, of a slot that is DONE.
// Returns:  how many, and *names at the first; 0 when it is no parcel, or names none.
static inline uint32_t wp_parcel_names(const struct wp_spans *spans, uint64_t offset, wp_atomic64 **names) {
    struct wp_block block;
    if (spans->memory == NULL || !wp_span_look(spans, offset, &block)) return 0;
    if (!(block.word & WP_SPAN_COMMITTED) || block.bytes < sizeof(struct wp_parcel)) return 0;
    struct wp_parcel *parcel = (struct wp_parcel *)(void *)(spans->memory + offset);
    // relaxed: ordered by the slot's state.
    if ((wp_load_relaxed(&parcel->id) & 0xff) != WP_PARCEL_TAG) return 0;
    *names = (wp_atomic64 *)(parcel + 1);
    uint64_t most = (block.bytes - sizeof *parcel) / sizeof **names;
    return parcel->names <= most ? parcel->names : 0;
}

#endif
