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
// The first word of any block that is lent by reference is its *identity*: no other block has
// the same, and it is wiped when the block's life ends. A borrower that holds no other
// claim on the block publishes a lease first, then looks at the identity.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_PARCEL_H
#define WP_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_lease.h"
#include "wp_span.h"

// The low byte of an identity tells what the block is: a payload of another kind has
// another first byte.
#define WP_PARCEL_TAG 0x41u // a payload with arrays
#define WP_SHARED_TAG 0x53u // one array, made in the arena

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

static inline wp_atomic64 *wp_block_identity(const struct wp_spans *spans, uint64_t offset) {
    return (wp_atomic64 *)(void *)(spans->memory + offset);
}

// Wipe the identity of a block whose life is about to end: nobody can borrow it from here on.
//
// Caller:   its owner; wp_arena_free comes next.
static inline void wp_block_wipe(const struct wp_spans *spans, uint64_t offset) {
    wp_store_relaxed(wp_block_identity(spans, offset), 0); // relaxed: the fence orders it
    wp_fence_seq_cst();                                    // sync block.identity (publish): F1
}

enum wp_borrow {
    WP_BORROW_OK,
    WP_BORROW_GONE,       // another block is there, or none
    WP_BORROW_RECOVERING, // a recovery is open that may have missed the lease: ask again
    WP_BORROW_MANY,       // the table of leases is full
};

// Lease the block that had this identity, though nobody may hold it any more.
//
// Caller:   any seat that was sent a reference.
// Progress: lock-free; a lost CAS means that another block of the span changed.
// Crash:    the lease is a dead seat's: recovery clears it.
// Returns:  WP_BORROW_OK and *lease, else the reason; then there is no lease.
static inline enum wp_borrow wp_block_borrow(const struct wp_spans *spans, struct wp_leases *leases, uint64_t offset,
                                             uint64_t id, uint32_t *lease) {
    struct wp_block block;
    enum wp_borrow outcome = WP_BORROW_GONE;
    *lease = wp_lease_put(leases, offset, WP_LEASE_BORROW);
    if (*lease == WP_NO_LEASE) return WP_BORROW_MANY;
    bool found = wp_span_look(spans, offset, &block);
    // sync lease.held (publish): whoever finds the bit finds the lease.
    while (found && !wp_cas_acq_rel(&spans->word[block.span], &block.word, block.word | block.leased))
        found = wp_span_look(spans, offset, &block);
    wp_fence_seq_cst(); // sync block.identity (observe): F2
    // relaxed: a recovery that this does not see has its fence (wp_lease_open) after F2, and sees the lease.
    if (wp_load_relaxed(&leases->head->recovering) & 1) outcome = WP_BORROW_RECOVERING;
    // relaxed: F2 orders it; what else is in the block was ordered by who sent the reference.
    else if (found && block.word & WP_SPAN_COMMITTED && wp_load_relaxed(wp_block_identity(spans, offset)) == id)
        return WP_BORROW_OK;
    wp_lease_clear(leases, *lease);
    return outcome;
}

#endif
