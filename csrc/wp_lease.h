// wp_lease.h — who still looks at which block: published claims that nobody counts.
//
// Layer 1. Source: this project; hazard pointers (Michael, "Hazard Pointers:
// Safe Memory Reclamation for Lock-Free Objects", IEEE TPDS 2004), with a whole
// object's life instead of one operation's.
//
//   seat 0: | held: 64 words | 4096 leases |   seat n: | held: 4 words | 256 leases |
//
// A borrower publishes a lease in its own seat before the block's owner could let
// go; what orders the two is the message or state word that lets go. Whoever
// frees the block then finds the lease. A dead seat's leases are simply cleared.
//
// While a recovery is open, leases are only added: a block that changes hands
// (from a slot to a lease, from a lease to a slot) is then seen in the one or in
// the other, because slots are read first and leases last.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_LEASE_H
#define WP_LEASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"

// Views that outlive their task are few; results that the parent holds are not.
// A full table is an outcome: the caller copies.
#define WP_LEASES_PARENT 4096u
#define WP_LEASES_WORKER 256u
#define WP_NO_LEASE UINT32_MAX

enum wp_lease_kind {
    WP_LEASE_BORROW, // a reader or writer; somebody else ends the block's life
    WP_LEASE_OWN,    // this seat ends the block's life: after its death recovery does
};

// | offset, a multiple of 64 | kind: 6 |   0 means none
#define WP_LEASE_KIND_MASK UINT64_C(63)
_Static_assert(WP_CACHE_LINE > WP_LEASE_KIND_MASK, "an offset leaves room for the kind");

//   recovering  the recoverer alone; odd while a recovery is open
struct wp_lease_head {
    wp_atomic64 recovering;
    uint8_t reserved[56];
};
_Static_assert(sizeof(struct wp_lease_head) == WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

// This process's view of the leases. Private, but for what it points to.
//   held    the seat alone writes its words: a bit for each lease; a hint for readers
//   lease   the seat alone writes its words, or the recoverer for a dead seat
struct wp_leases {
    struct wp_lease_head *head;
    wp_atomic64 *held;
    wp_atomic64 *lease;
    uint32_t seats;
    uint32_t seat;
    uint32_t lapsed_count;
    uint64_t lapsed[WP_LEASES_PARENT / 64]; // cleared by their holder during a recovery
};

static inline uint32_t wp_lease_first(uint32_t seat) {
    return seat == WP_PARENT_SEAT ? 0 : WP_LEASES_PARENT + (seat - 1) * WP_LEASES_WORKER;
}
static inline uint64_t wp_lease_bytes(uint32_t seats) {
    return sizeof(struct wp_lease_head) + wp_lease_first(seats) * sizeof(wp_atomic64) / 64 * 65;
}
static inline uint64_t wp_lease_offset(uint64_t lease) { return lease & ~WP_LEASE_KIND_MASK; }
static inline enum wp_lease_kind wp_lease_kind(uint64_t lease) {
    return (enum wp_lease_kind)(lease & WP_LEASE_KIND_MASK);
}

static inline void wp_lease_map(struct wp_leases *leases, void *base, uint32_t seats, uint32_t seat) {
    *leases = (struct wp_leases){.head = base, .seats = seats, .seat = seat};
    leases->held = (wp_atomic64 *)(leases->head + 1);
    leases->lease = leases->held + wp_lease_first(seats) / 64;
}

static inline void wp_lease_drop(struct wp_leases *leases, uint32_t index) {
    // sync lease.clear (publish): whoever does not find the lease may reuse the
    // block, and this seat's last use of it is over.
    wp_store_release(&leases->lease[index], 0);
    uint64_t held = wp_load_relaxed(&leases->held[index / 64]); // relaxed: this seat's word
    // sync lease.clear (publish): as above, for who does not look past this word.
    wp_store_release(&leases->held[index / 64], held & ~(UINT64_C(1) << index % 64));
}

// Drop what lapsed while a recovery was open.
static inline void wp_lease_purge(struct wp_leases *leases) {
    // relaxed: a recovery that opens after this load finds what lapsed under an
    // earlier one already in its slot.
    if (leases->lapsed_count == 0 || wp_load_relaxed(&leases->head->recovering) & 1) return;
    uint32_t first = wp_lease_first(leases->seat);
    for (uint32_t i = 0; i < WP_LEASES_PARENT / 64; i++)
        for (; leases->lapsed[i] != 0; leases->lapsed[i] &= leases->lapsed[i] - 1)
            wp_lease_drop(leases, first + i * 64 + (uint32_t)__builtin_ctzll(leases->lapsed[i]));
    leases->lapsed_count = 0;
}

// Publish a lease of the block at `offset`.
//
// Caller:   the seat, before the block's owner could let go of it.
// Progress: wait-free.
// Crash:    the lease is a dead seat's: recovery clears it.
// Returns:  its index; WP_NO_LEASE when the table is full.
static inline uint32_t wp_lease_put(struct wp_leases *leases, uint64_t offset, enum wp_lease_kind kind) {
    wp_lease_purge(leases);
    uint32_t end = wp_lease_first(leases->seat + 1) / 64;
    for (uint32_t i = wp_lease_first(leases->seat) / 64; i < end; i++) {
        uint64_t held = wp_load_relaxed(&leases->held[i]); // relaxed: this seat's word
        if (held == UINT64_MAX) continue;
        uint32_t bit = (uint32_t)__builtin_ctzll(~held);
        // sync lease.held (publish): who finds the bit looks at the lease; what
        // lets go of the block later orders both.
        wp_store_release(&leases->held[i], held | UINT64_C(1) << bit);
        // sync lease.held (publish): as above.
        wp_store_release(&leases->lease[i * 64 + bit], offset | (uint64_t)kind);
        return i * 64 + bit;
    }
    return WP_NO_LEASE;
}

// Clear a lease. While a recovery is open it only lapses, and goes later.
//
// Caller:   the seat; a lease that owned its block has freed it, or the slot that
//           owns it now is published.
// Crash:    recovery clears it.
static inline void wp_lease_clear(struct wp_leases *leases, uint32_t index) {
    wp_lease_purge(leases);
    // With the fence of wp_lease_open: a lease that the recoverer did not see was
    // published after it opened, so this load sees that it did.
    wp_fence_seq_cst();
    // relaxed: the fences order it.
    if (wp_load_relaxed(&leases->head->recovering) & 1) {
        uint32_t i = index - wp_lease_first(leases->seat);
        leases->lapsed[i / 64] |= UINT64_C(1) << i % 64;
        leases->lapsed_count++;
        return;
    }
    wp_lease_drop(leases, index);
}

// The next lease at or after *index, of any seat but `except`.
//
// Caller:   any process; a loop over it is a pass over the tables, and ends.
// Returns:  the lease, and *index behind it; or 0 when there is none.
static inline uint64_t wp_lease_next(const struct wp_leases *leases, uint32_t *index, uint32_t except) {
    uint32_t end = wp_lease_first(leases->seats);
    uint32_t skip = except < leases->seats ? wp_lease_first(except) : end;
    uint32_t skip_end = except < leases->seats ? wp_lease_first(except + 1) : end;
    while (*index < end) {
        if (*index >= skip && *index < skip_end) {
            *index = skip_end;
            continue;
        }
        // sync lease.held (observe): the leases behind the bits are those published.
        // sync lease.clear (observe): a bit that is gone took its holder's use with it.
        uint64_t held = wp_load_acquire(&leases->held[*index / 64]) >> *index % 64;
        if (held == 0) {
            *index = (*index / 64 + 1) * 64;
            continue;
        }
        *index += (uint32_t)__builtin_ctzll(held);
        // sync lease.held (observe): as above, and
        // sync lease.clear (observe): as above.
        uint64_t lease = wp_load_acquire(&leases->lease[*index]);
        *index += 1;
        if (lease != 0) return lease;
    }
    return 0;
}

// Does any seat hold a lease of the block at `offset`?
//
// Caller:   whoever would free the block: nobody can publish a new one.
static inline bool wp_lease_find(const struct wp_leases *leases, uint64_t offset) {
    uint32_t index = 0;
    for (uint64_t lease; (lease = wp_lease_next(leases, &index, WP_NO_SEAT)) != 0;)
        if (wp_lease_offset(lease) == offset) return true;
    return false;
}

static inline uint32_t wp_lease_count(const struct wp_leases *leases, uint32_t seat) {
    uint32_t count = 0;
    for (uint32_t i = wp_lease_first(seat) / 64; i < wp_lease_first(seat + 1) / 64; i++)
        count += (uint32_t)__builtin_popcountll(wp_load_relaxed(&leases->held[i])); // relaxed: a statistic
    return count;
}

// Open a recovery: from here to wp_lease_close leases are only added.
//
// Caller:   the one recoverer, before it reads the slots.
static inline void wp_lease_open(struct wp_leases *leases) {
    // relaxed: the recoverer's own word; the fence orders it before all that it reads.
    wp_store_relaxed(&leases->head->recovering, wp_load_relaxed(&leases->head->recovering) | 1);
    wp_fence_seq_cst();
}

// Clear all leases of a dead seat, and end the recovery.
static inline void wp_lease_close(struct wp_leases *leases, uint32_t dead) {
    for (uint32_t i = wp_lease_first(dead); i < wp_lease_first(dead + 1); i++)
        // relaxed: the seat is dead, so no use of a block is to be ordered.
        wp_store_relaxed(&leases->lease[i], 0);
    for (uint32_t i = wp_lease_first(dead) / 64; i < wp_lease_first(dead + 1) / 64; i++)
        wp_store_relaxed(&leases->held[i], 0); // relaxed: as above
    // sync lease.recovered (publish): relaxed, for each wiped identity had a fence after it. A holder
    // that reads the old value lets its lease lapse once more. The load: the recoverer's own word.
    wp_store_relaxed(&leases->head->recovering, (wp_load_relaxed(&leases->head->recovering) | 1) + 1);
}

#endif
