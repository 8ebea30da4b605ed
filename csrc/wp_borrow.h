// wp_borrow.h — borrowing a block by reference, though nobody may hold it any more.
//
// Layer 2. Source: this project.
//
// A borrower that holds no other claim on a block publishes a lease first, then looks at
// the block's identity (wp_span.h), which is wiped before its life ends:
//
//   who borrows:         Lease, F2 (seq_cst), ReadIdentity
//   who ends its life:   Wipe, F1 (seq_cst), ReadLeases
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_BORROW_H
#define WP_BORROW_H

#include <stdbool.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_lease.h"
#include "wp_span.h"

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
    // One that has not opened for this load has its fence (wp_lease_open) after F2, and sees the lease.
    // sync lease.recovered (observe): one that has closed since has wiped what it freed.
    if (wp_load_acquire(&leases->head->recovering) & 1) outcome = WP_BORROW_RECOVERING;
    // relaxed: F2 orders it; what else is in the block was ordered by who sent the reference.
    else if (found && block.word & WP_SPAN_COMMITTED && wp_load_relaxed(wp_block_identity(spans, offset)) == id)
        return WP_BORROW_OK;
    wp_lease_clear(leases, *lease);
    return outcome;
}

#endif
