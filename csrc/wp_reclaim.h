// wp_reclaim.h — what a dead seat left in the payload arena, made whole.
//
// Layer 2. Source: this project; docs/recovery.md, the arena's cases.
//
//   begin          leases are only added from here on
//   keep(offset)   once for every block that a slot names
//   end            then the leases are read: what neither names is freed
//
// A block in a dead seat's span is garbage when no slot and no lease names it:
// the dead seat alone could have known of it. A block elsewhere whose life the
// dead seat owned is named by an owning lease of that seat. Nothing that is read
// from shared memory is believed: a task may have scribbled over it.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_RECLAIM_H
#define WP_RECLAIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_lease.h"
#include "wp_span.h"

// Private to the recoverer: 4 bytes for each span.
//   kept  | borrowed: 16 | kept: 16 |   a bit for each block; a run has bit 0
struct wp_reclaim {
    struct wp_spans *spans;
    struct wp_leases *leases;
    uint32_t *kept;
    uint32_t dead;
    uint32_t seat;
};

#define WP_RECLAIM_BORROWED_SHIFT 16

// The living change a word of a dead seat's span at most three times for each
// block: a lease, its doom, its end. More is scribbling, and is left alone.
#define WP_RECLAIM_TRIES (3u * WP_SPAN_BLOCKS)

// Begin to recover what `dead` held; leases lapse instead of being cleared.
//
// Caller:   the one recoverer (the parent), with its own spans and leases, before
//           it reads the first slot; `dead` is proven dead.
// Returns:  false when there is no memory for the table: then nothing has begun.
static inline bool wp_reclaim_begin(struct wp_reclaim *reclaim, struct wp_spans *spans, struct wp_leases *leases,
                                    uint32_t dead) {
    *reclaim = (struct wp_reclaim){.spans = spans, .leases = leases, .dead = dead, .seat = leases->seat};
    reclaim->kept = calloc(spans->count, sizeof *reclaim->kept);
    if (reclaim->kept == NULL) return false;
    wp_lease_open(leases);
    return true;
}

static inline uint32_t wp_reclaim_bit(const struct wp_block *block) {
    return block->used != 0 ? (uint32_t)(block->used >> WP_SPAN_USED_SHIFT) : 1;
}

// Keep the block at `offset`, which a slot names: 0 and nonsense are ignored.
//
// Caller:   the recoverer, for every slot that is not FREE or RESERVED by the dead.
// Returns:  whether there is such a block.
static inline bool wp_reclaim_keep(struct wp_reclaim *reclaim, uint64_t offset) {
    struct wp_block block;
    if (!wp_span_look(reclaim->spans, offset, &block)) return false;
    reclaim->kept[block.span] |= wp_reclaim_bit(&block);
    return true;
}

// Read the leases of the living.
static inline void wp_reclaim_leased(struct wp_reclaim *reclaim) {
    uint32_t index = 0;
    for (uint64_t lease; (lease = wp_lease_next(reclaim->leases, &index, reclaim->dead)) != 0;) {
        struct wp_block block;
        if (!wp_span_look(reclaim->spans, wp_lease_offset(lease), &block)) continue;
        uint32_t bit = wp_reclaim_bit(&block);
        // An owner's lease names the block as a slot does; a borrower's only holds it.
        reclaim->kept[block.span] |= wp_lease_kind(lease) == WP_LEASE_OWN ? bit : bit << WP_RECLAIM_BORROWED_SHIFT;
    }
}

// Doom the blocks whose lives the dead seat owned and nobody else names: the
// span's owner frees them. The lease has kept each from reuse until now.
static inline void wp_reclaim_owned(struct wp_reclaim *reclaim) {
    uint32_t end = wp_lease_first(reclaim->dead + 1);
    for (uint32_t i = wp_lease_first(reclaim->dead); i < end; i++) {
        // relaxed: the seat is dead, and the kernel said so after its last store.
        uint64_t lease = wp_load_relaxed(&reclaim->leases->lease[i]);
        struct wp_block block;
        if (lease == 0 || wp_lease_kind(lease) != WP_LEASE_OWN) continue;
        if (!wp_span_look(reclaim->spans, wp_lease_offset(lease), &block)) continue;
        // Without the bit the dead seat was still between the lease and the bit: then
        // the slot it would have taken the block from names it still.
        if (!(block.word & block.leased) || reclaim->kept[block.span] & wp_reclaim_bit(&block)) continue;
        wp_block_wipe(reclaim->spans, &block, wp_lease_offset(lease));
        // sync span.doom (publish): the span's owner goes on, in wp_arena_sweep.
        wp_or_acq_rel(&reclaim->spans->word[block.span], block.doomed);
    }
}

// Wipe the identities of the dead seat's blocks in span i that no slot and no owner's lease
// names: who has a reference to one, and no lease yet, comes too late.
static inline void wp_reclaim_wipe(const struct wp_reclaim *reclaim, uint32_t i) {
    // relaxed: only the dead seat gave out blocks here.
    uint64_t word = wp_load_relaxed(&reclaim->spans->word[i]);
    bool is_small = wp_span_kind(word) == WP_SPAN_SMALL && wp_span_class(word) < WP_SPAN_CLASSES;
    uint64_t bytes = is_small ? wp_span_classes[wp_span_class(word)].bytes : WP_SPAN_BYTES;
    for (uint64_t within = 0; within + bytes <= WP_SPAN_BYTES; within += bytes) {
        uint64_t offset = i * WP_SPAN_BYTES + within;
        struct wp_block block;
        if (wp_span_look(reclaim->spans, offset, &block) && !(reclaim->kept[i] & wp_reclaim_bit(&block)))
            wp_block_wipe(reclaim->spans, &block, offset);
    }
}

// What the word of a small span of the dead seat becomes.
static inline uint64_t wp_reclaim_small(uint64_t word, uint32_t marks) {
    // Of a class that does not exist, or with pages nobody vouches for: reserve them anew.
    if (wp_span_class(word) >= WP_SPAN_CLASSES || !(word & WP_SPAN_COMMITTED))
        return wp_span_word(WP_SPAN_FREE, 0, 0, 0);
    uint64_t kept = marks & WP_SPAN_BITS, borrowed = marks >> WP_RECLAIM_BORROWED_SHIFT;
    // A slot keeps a doomed block too: it may have been taken from there, lent and
    // doomed since the leases were read. The next incarnation's sweep looks again.
    uint64_t live = wp_span_used(word) & wp_span_classes[wp_span_class(word)].bits & (kept | borrowed);
    uint64_t gone = WP_SPAN_BITS & ~live;
    uint64_t next =
        wp_span_without(word, gone << WP_SPAN_USED_SHIFT, gone << WP_SPAN_LEASED_SHIFT, gone << WP_SPAN_DOOMED_SHIFT);
    // Lent by the dead seat itself: nobody else will end its life.
    return next | (live & ~kept) << WP_SPAN_DOOMED_SHIFT;
}

// Does a head, half-way or whole, answer for this tail?
static inline bool wp_reclaim_headed(const struct wp_spans *spans, uint32_t tail, uint64_t word) {
    uint32_t head = wp_span_high(word);
    if (head < 1 || head >= tail) return false;
    // relaxed: if it changes, so does the tail, and the CAS on that is lost.
    uint64_t first = wp_load_relaxed(&spans->word[head]);
    enum wp_span_kind kind = wp_span_kind(first);
    return (kind == WP_SPAN_HEAD || kind == WP_SPAN_BUSY || kind == WP_SPAN_DYING) && tail - head < wp_span_high(first);
}

// One attempt to make span i whole. A run goes from its head, as its owner would free it.
//
// Returns:  false when a living seat changed the word meanwhile.
static inline bool wp_reclaim_span(struct wp_reclaim *reclaim, uint32_t i) {
    const struct wp_spans *spans = reclaim->spans;
    // sync span.free (observe): what was freed before the death is not freed again.
    uint64_t word = wp_load_acquire(&spans->word[i]);
    uint64_t length = wp_span_high(word);
    if (wp_span_kind(word) == WP_SPAN_FREE || wp_span_owner(word) != reclaim->dead) return true;
    uint64_t next = wp_span_word(WP_SPAN_FREE, 0, 0, 0);
    wp_reclaim_wipe(reclaim, i);
    switch (wp_span_kind(word)) {
    case WP_SPAN_SMALL:
        next = wp_reclaim_small(word, reclaim->kept[i]);
        break;
    case WP_SPAN_HEAD: {
        if (length < 1 || length > spans->count - i) break;
        if (reclaim->kept[i] == 0) return wp_span_free_run(spans, i, word, reclaim->seat);
        next = reclaim->kept[i] & 1 ? word : word | WP_RUN_DOOMED;
        break;
    }
    case WP_SPAN_BUSY:
    case WP_SPAN_DYING:
        wp_span_release_run(spans, i, length < spans->count ? (uint32_t)length : spans->count);
        return true;
    case WP_SPAN_TAIL:
        if (wp_reclaim_headed(spans, i, word)) return true;
        break;
    case WP_SPAN_FREE:
    default:
        break; // scribbled over
    }
    // sync span.free (publish): as in wp_arena_give_back, for the dead seat.
    return next == word || wp_cas_acq_rel(&spans->word[i], &word, next);
}

// End the recovery: free what neither a slot nor a lease names, clear the dead
// seat's leases. What is kept is inherited by the seat's next incarnation.
//
// Caller:   the recoverer, after it has read all slots.
// Progress: one pass; a word that the living change is tried again as often as
//           they free a block of it, at most WP_RECLAIM_TRIES times.
static inline void wp_reclaim_end(struct wp_reclaim *reclaim) {
    wp_reclaim_leased(reclaim);
    wp_reclaim_owned(reclaim);
    for (uint32_t i = 1; i < reclaim->spans->count; i++)
        for (uint32_t tries = 0; tries <= WP_RECLAIM_TRIES && !wp_reclaim_span(reclaim, i); tries++) {
        }
    // relaxed: a statistic.
    wp_store_relaxed(&reclaim->spans->seat[reclaim->dead].spare_bytes, 0);
    wp_lease_close(reclaim->leases, reclaim->dead);
    free(reclaim->kept);
    reclaim->kept = NULL;
}

#endif
