// wp_arena.h — payload memory: blocks from 1 KiB up, owned by one, lent by lease.
//
// Layer 2. Source: this project; spans and open spans as mimalloc's pages
// (Leijen, Zorn, de Moura, "Mimalloc: Free List Sharding in Action", 2019), with
// one bitmap word in place of the free lists. docs/recovery.md has the deaths.
//
//   control segment:  | head | seats | leases | one word for each span |
//   memory segment:   | none | span | span | span … |     (sparse; another mapping)
//
// A seat takes all free blocks of a span at once: the span is then *open*, and
// the blocks go out and come back by a private mask without an atomic. Any seat
// frees any block by one CAS; a span whose last block is freed is free again
// for all, by that same CAS. A block that is leased when its life ends is
// *doomed*, and freed by its span's owner when no lease names it any more.
//
// A view is private to a seat and used by one thread at a time.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_ARENA_H
#define WP_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_lease.h"
#include "wp_span.h"

// Low spans that one search for room looks at before it goes higher: 4 MiB of
// blocks are looked through whole, more in turns, for about 0.1 µs.
#define WP_ARENA_LOOK_SPANS 256u

// Doomed blocks are looked for in every so many searches: seldom enough to cost
// little, often enough that no more than 1 MiB of a class waits.
#define WP_ARENA_SWEEP_ROUND 64u

//   all     fixed when the segment is made
struct wp_arena {
    uint64_t budget_bytes;
    uint32_t spans; // with span 0, which is none
    uint32_t seats;
    uint8_t reserved[48];
};

_Static_assert(sizeof(struct wp_arena) == WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

// The span of a class that a seat hands out from. Private: bits of `free` are
// used in the span's word, so nobody else touches those blocks.
struct wp_arena_open {
    uint32_t span;
    uint32_t free;
    uint32_t from; // where the next search in the low spans begins
};

struct wp_arena_view {
    struct wp_spans spans;
    uint32_t seat;
    uint32_t searches;
    uint32_t run_hint; // where a run was freed last: warm, and likely of the size asked next
    uint64_t spare_bytes;
    struct wp_arena_open open[WP_SPAN_CLASSES];
    struct wp_leases leases;
};

enum wp_alloc {
    WP_ALLOC_OK,        // the block is the caller's
    WP_ALLOC_FULL,      // no room now: trying again after a free may succeed
    WP_ALLOC_NEVER,     // more than the budget can ever give
    WP_ALLOC_NO_MEMORY, // the budget has room, but the system has no page for it
};

enum wp_free {
    WP_FREE_DONE,   // the block may be another's already
    WP_FREE_DOOMED, // somebody leases it: its span's owner frees it afterwards
    WP_FREE_ALIEN,  // no block in use begins there: nothing was done
};

// Spans of a budget, with span 0.
static inline uint64_t wp_arena_spans(uint64_t budget_bytes) { return budget_bytes / WP_SPAN_BYTES + 1; }

// Bytes of the memory segment of a budget.
static inline uint64_t wp_arena_memory_bytes(uint64_t budget_bytes) {
    return wp_arena_spans(budget_bytes) * WP_SPAN_BYTES;
}

// Bytes to carve in the control segment.
static inline uint64_t wp_arena_bytes(uint64_t budget_bytes, uint32_t seats) {
    return sizeof(struct wp_arena) + seats * sizeof(struct wp_span_seat) + wp_lease_bytes(seats) +
           wp_arena_spans(budget_bytes) * sizeof(wp_atomic64);
}

// Make an arena in zeroed memory of wp_arena_bytes bytes.
//
// Caller: the parent, before anyone else maps the segment.
static inline void wp_arena_init(struct wp_arena *arena, uint64_t budget_bytes, uint32_t seats) {
    *arena = (struct wp_arena){
        .budget_bytes = budget_bytes, .spans = (uint32_t)wp_arena_spans(budget_bytes), .seats = seats};
}

// Open a seat's view of the arena. Nothing in shared memory is changed.
//
// Caller:   the process or thread of `seat`; `bytes` were carved for the arena,
//           `memory_bytes` are mapped at `memory`. fd: of the memory, -1 for none.
// Returns:  false when the head and the sizes disagree.
static inline bool wp_arena_open(struct wp_arena_view *view, struct wp_arena *arena, uint64_t bytes, void *memory,
                                 uint64_t memory_bytes, int fd, uint32_t seat) {
    uint64_t budget_bytes = arena->budget_bytes;
    uint32_t seats = arena->seats;
    if (seats < 1 || seats > WP_MAX_SEATS || seat >= seats || wp_arena_spans(budget_bytes) > UINT32_MAX / 2 ||
        wp_arena_bytes(budget_bytes, seats) > bytes || wp_arena_memory_bytes(budget_bytes) > memory_bytes)
        return false;
    *view = (struct wp_arena_view){.seat = seat};
    struct wp_span_seat *words = (struct wp_span_seat *)(arena + 1);
    wp_lease_map(&view->leases, words + seats, seats, seat);
    view->spans = (struct wp_spans){.word = view->leases.lease + wp_lease_first(seats),
                                    .seat = words,
                                    .memory = memory,
                                    .count = (uint32_t)wp_arena_spans(budget_bytes),
                                    .seats = seats,
                                    .fd = fd};
    return true;
}

// Is `offset` the beginning of a block in use?
static inline bool wp_arena_owns(const struct wp_arena_view *view, uint64_t offset) {
    struct wp_block block;
    return wp_span_look(&view->spans, offset, &block);
}

// The bytes a block has room for; 0 when there is no block at `offset`.
static inline uint64_t wp_arena_block_bytes(const struct wp_arena_view *view, uint64_t offset) {
    struct wp_block block;
    return wp_span_look(&view->spans, offset, &block) ? block.bytes : 0;
}

// Where a block is in this process.
//
// Returns:  NULL unless a block in use begins at `offset` and has room for `bytes`.
static inline void *wp_arena_at(const struct wp_arena_view *view, uint64_t offset, uint64_t bytes) {
    struct wp_block block;
    if (!wp_span_look(&view->spans, offset, &block) || block.bytes < bytes) return NULL;
    return view->spans.memory + offset;
}

static inline void wp_arena_spare(struct wp_arena_view *view, uint64_t more_bytes, uint64_t less_bytes) {
    view->spare_bytes += more_bytes - less_bytes;
    // relaxed: a statistic.
    wp_store_relaxed(&view->spans.seat[view->seat].spare_bytes, view->spare_bytes);
}

// Take blocks out of a span's word: the last makes it FREE.
//
// Caller:   whoever ends the blocks' lives, or holds them as spare.
// Progress: lock-free: a lost CAS means that another block of the span changed.
// Crash:    before the CAS nothing happened; after it all did.
static inline void wp_arena_give_back(struct wp_arena_view *view, uint32_t span, uint64_t used, uint64_t leased,
                                      uint64_t doomed) {
    uint64_t word = wp_load_relaxed(&view->spans.word[span]); // relaxed: the CAS decides
    // sync span.free (publish): whoever gets the block or the span next finds this use over.
    while (wp_span_kind(word) == WP_SPAN_SMALL &&
           !wp_cas_acq_rel(&view->spans.word[span], &word, wp_span_without(word, used, leased, doomed))) {
    }
}

// Give the spare blocks of all open spans back: what a seat does that will be
// idle, that retires, or that needs the room itself.
//
// Caller:   the seat.
// Crash:    spare blocks are used and unreferenced: recovery frees them.
static inline void wp_arena_flush(struct wp_arena_view *view) {
    for (uint32_t c = 0; c < WP_SPAN_CLASSES; c++) {
        struct wp_arena_open *open = &view->open[c];
        if (open->free != 0) wp_arena_give_back(view, open->span, (uint64_t)open->free << WP_SPAN_USED_SHIFT, 0, 0);
        *open = (struct wp_arena_open){.from = open->from};
    }
    wp_arena_spare(view, 0, view->spare_bytes);
}

// Free the doomed blocks of this seat's spans from `first` up to `end` that no
// lease names any more. With `all`, doomed runs of other seats are taken over
// first, so that a seat that sleeps does not keep them.
//
// Caller:   the seat: only the span's owner frees what is doomed, so a doomed bit
//           cannot become that of the block's next life while it looks.
// Crash:    the rest stays doomed; a run that was taken over is the dead seat's.
// Returns:  the bytes freed.
static inline uint64_t wp_arena_sweep(struct wp_arena_view *view, uint32_t first, uint32_t end, bool all) {
    struct wp_spans *spans = &view->spans;
    uint64_t freed = 0;
    for (uint32_t i = first; i < end && i < spans->count; i++) {
        // sync span.doom (observe): the leases of who borrowed before the doom are found below.
        uint64_t word = wp_load_acquire(&spans->word[i]);
        uint64_t offset = i * WP_SPAN_BYTES;
        if (wp_span_kind(word) == WP_SPAN_HEAD && (word & WP_RUN_DOOMED)) {
            uint64_t mine = (word & ~WP_SPAN_OWNER_MASK) | (uint64_t)view->seat << WP_SPAN_OWNER_SHIFT;
            // relaxed: only the right to free it moves here.
            if (word != mine && !(all && wp_cas_relaxed(&spans->word[i], &word, mine))) continue;
            if (wp_lease_find(&view->leases, offset)) continue;
            if (wp_span_free_run(spans, i, mine, view->seat)) freed += wp_span_high(mine) * WP_SPAN_BYTES;
        } else if (wp_span_kind(word) == WP_SPAN_SMALL && wp_span_owner(word) == view->seat &&
                   wp_span_class(word) < WP_SPAN_CLASSES) {
            uint64_t bytes = wp_span_classes[wp_span_class(word)].bytes;
            uint32_t doomed = (uint32_t)(word >> WP_SPAN_DOOMED_SHIFT) & wp_span_used(word);
            for (; doomed != 0; doomed &= doomed - 1) {
                uint32_t index = (uint32_t)__builtin_ctz(doomed);
                if (wp_lease_find(&view->leases, offset + index * bytes)) continue;
                uint64_t bit = UINT64_C(1) << index;
                wp_arena_give_back(view, i, bit << WP_SPAN_USED_SHIFT, bit << WP_SPAN_LEASED_SHIFT,
                                   bit << WP_SPAN_DOOMED_SHIFT);
                freed += bytes;
            }
        }
    }
    return freed;
}

enum wp_open {
    WP_OPEN_OK,      // it is open, with at least one spare block
    WP_OPEN_NO_ROOM, // full, or another's, or somebody was quicker
    WP_OPEN_COLD,    // free, but its pages cannot be reserved, or were not asked for
};

// Open span i for `class`, if it is this seat's and has room, or is free.
//
// Caller:   the seat; the span that is open has no spare block.
// Crash:    spare blocks are used and unreferenced: recovery frees them.
static inline enum wp_open wp_arena_open_span(struct wp_arena_view *view, uint32_t class, uint32_t i, bool cold) {
    struct wp_spans *spans = &view->spans;
    uint32_t bits = wp_span_classes[class].bits;
    uint32_t gained = bits;
    uint64_t word = wp_load_relaxed(&spans->word[i]); // relaxed: the CAS decides
    uint64_t next = wp_span_small(WP_SPAN_COMMITTED, view->seat, class, bits);
    if (wp_span_kind(word) == WP_SPAN_SMALL) {
        gained = bits & ~wp_span_used(word);
        if (wp_span_owner(word) != view->seat || wp_span_class(word) != class || gained == 0) return WP_OPEN_NO_ROOM;
        next = word | (uint64_t)bits << WP_SPAN_USED_SHIFT;
    } else if (wp_span_kind(word) != WP_SPAN_FREE) {
        return WP_OPEN_NO_ROOM;
    } else if (!(word & WP_SPAN_COMMITTED)) {
        if (!cold) return WP_OPEN_COLD;
        wp_span_mark_small(spans, view->seat, i);
        if (!wp_span_claim_run(spans, i, 1, view->seat)) return WP_OPEN_NO_ROOM;
        if (!wp_span_commit(spans, i, 1)) {
            wp_span_release_run(spans, i, 1);
            return WP_OPEN_COLD;
        }
        word = wp_load_relaxed(&spans->word[i]); // relaxed: a BUSY span is its owner's
    }
    // sync span.free (observe): the former users are done with what is gained.
    if (!wp_cas_acq_rel(&spans->word[i], &word, next)) return WP_OPEN_NO_ROOM;
    view->open[class].span = i;
    view->open[class].free = gained;
    wp_arena_spare(view, (uint64_t)(uint32_t)__builtin_popcount(gained) * wp_span_classes[class].bytes, 0);
    wp_span_mark_small(spans, view->seat, i); // also one that another seat had committed
    return WP_OPEN_OK;
}

// Find room for `class`: in the span that was open, where others may have freed;
// in a window of the low spans, which are warm; above them; then anywhere.
static inline enum wp_alloc wp_arena_find_room(struct wp_arena_view *view, uint32_t class) {
    struct wp_arena_open *open = &view->open[class];
    uint32_t count = view->spans.count;
    // relaxed: this seat's own word; checked, because shared memory may be scribbled over.
    uint32_t end = wp_load_relaxed(&view->spans.seat[view->seat].small_end);
    end = end < count ? end : count;
    if (open->span != 0 && wp_arena_open_span(view, class, open->span, false) == WP_OPEN_OK) return WP_ALLOC_OK;
    uint32_t cold = 0; // the first span of the window that was trimmed: better than a higher one
    for (uint32_t looked = 1; looked < end && looked <= WP_ARENA_LOOK_SPANS; looked++, open->from++) {
        if (open->from < 1 || open->from >= end) open->from = 1;
        enum wp_open outcome = wp_arena_open_span(view, class, open->from, false);
        if (outcome == WP_OPEN_OK) return WP_ALLOC_OK;
        if (outcome == WP_OPEN_COLD && cold == 0) cold = open->from;
    }
    if (cold != 0 && wp_arena_open_span(view, class, cold, true) == WP_OPEN_OK) return WP_ALLOC_OK;
    bool refused = false;
    uint32_t i = end > 1 ? end : 1;
    for (uint32_t looked = 1; looked < count; looked++, i++) {
        if (i >= count) i = 1;
        enum wp_open outcome = wp_arena_open_span(view, class, i, !refused);
        if (outcome == WP_OPEN_OK) return WP_ALLOC_OK;
        refused |= outcome == WP_OPEN_COLD; // the system said no: it need not be asked again
    }
    return refused ? WP_ALLOC_NO_MEMORY : WP_ALLOC_FULL;
}

static inline enum wp_alloc wp_arena_refill(struct wp_arena_view *view, uint32_t class) {
    if (++view->searches % WP_ARENA_SWEEP_ROUND == 0)
        // relaxed: this seat's own word.
        wp_arena_sweep(view, 1, wp_load_relaxed(&view->spans.seat[view->seat].small_end), false);
    if (wp_arena_find_room(view, class) == WP_ALLOC_OK) return WP_ALLOC_OK;
    wp_arena_flush(view);
    wp_arena_sweep(view, 1, view->spans.count, true);
    return wp_arena_find_room(view, class);
}

static inline bool wp_arena_run_at(struct wp_arena_view *view, uint32_t first, uint32_t length) {
    struct wp_spans *spans = &view->spans;
    if (first < 1 || length > spans->count - first) return false;
    for (uint32_t i = 0; i < length; i++) {
        uint64_t word = wp_load_relaxed(&spans->word[first + i]); // relaxed: a hint, the claim decides
        if (wp_span_kind(word) != WP_SPAN_FREE || !(word & WP_SPAN_COMMITTED)) return false;
    }
    return wp_span_claim_run(spans, first, length, view->seat);
}

// Claim a run, warm memory first: fresh shared memory costs six times as much to write.
static inline enum wp_alloc wp_arena_alloc_run(struct wp_arena_view *view, uint32_t length, uint64_t *offset) {
    struct wp_spans *spans = &view->spans;
    bool refused = false, found = wp_arena_run_at(view, view->run_hint, length);
    uint32_t head = found ? view->run_hint : wp_span_find_run(spans, length, view->seat, true);
    if (head == 0 && wp_arena_sweep(view, wp_span_lowest_run(spans), spans->count, false) > 0)
        head = wp_span_find_run(spans, length, view->seat, true);
    for (int pressed = 0; head == 0 && pressed < 2; pressed++) {
        if (pressed) {
            wp_arena_flush(view);
            wp_arena_sweep(view, 1, view->spans.count, true);
        }
        head = wp_span_find_run(spans, length, view->seat, refused);
        if (head == 0 || wp_span_commit(spans, head, length)) continue;
        wp_span_release_run(spans, head, length);
        refused = true;
        head = 0;
    }
    if (head == 0) return refused ? WP_ALLOC_NO_MEMORY : WP_ALLOC_FULL;
    // relaxed: a BUSY span is its owner's, and the block is handed on by what names it.
    wp_store_relaxed(&spans->word[head], wp_span_word(WP_SPAN_HEAD, WP_SPAN_COMMITTED, view->seat, length));
    *offset = head * WP_SPAN_BYTES;
    return WP_ALLOC_OK;
}

// Get a block of at least `bytes`, on a cache line of its own; above 8 KiB on a page.
//
// Caller:   the seat. It owns the block's life, until a slot or lease says otherwise.
// Progress: lock-free; wait-free while the open span has room.
// Crash:    the block, or the claim half-way, is a dead seat's and unreferenced:
//           recovery frees it.
// Returns:  WP_ALLOC_OK and *offset, else the reason; then *offset is untouched.
//           A claim half-way in another seat may make it FULL before its time.
static inline enum wp_alloc wp_arena_alloc(struct wp_arena_view *view, uint64_t bytes, uint64_t *offset) {
    if (bytes > WP_SPAN_SMALL_MAX) {
        if (bytes > (view->spans.count - 1) * WP_SPAN_BYTES) return WP_ALLOC_NEVER;
        return wp_arena_alloc_run(view, (uint32_t)((bytes + WP_SPAN_BYTES - 1) / WP_SPAN_BYTES), offset);
    }
    if (view->spans.count < 2) return WP_ALLOC_NEVER;
    uint32_t class = wp_span_class_of(bytes);
    struct wp_arena_open *open = &view->open[class];
    if (open->free == 0) {
        enum wp_alloc outcome = wp_arena_refill(view, class);
        if (outcome != WP_ALLOC_OK) return outcome;
    }
    uint32_t index = (uint32_t)__builtin_ctz(open->free);
    open->free &= open->free - 1;
    wp_arena_spare(view, 0, wp_span_classes[class].bytes);
    *offset = open->span * WP_SPAN_BYTES + index * (uint64_t)wp_span_classes[class].bytes;
    return WP_ALLOC_OK;
}

// End the life of a block.
//
// Caller:   the one that owns it, in whatever seat, once. Borrowers have their
//           leases already, or never get one.
// Progress: lock-free.
// Crash:    before the one CAS nothing happened, after it all did; a run is DYING
//           in between, and recovery of this seat goes on with it.
static inline enum wp_free wp_arena_free(struct wp_arena_view *view, uint64_t offset) {
    struct wp_block block;
    if (!wp_span_look(&view->spans, offset, &block)) return WP_FREE_ALIEN;
    if (block.word & block.doomed) return WP_FREE_ALIEN;
    wp_atomic64 *word = &view->spans.word[block.span];
    wp_block_wipe(&view->spans, &block, offset);
    block.word = wp_load_relaxed(word); // relaxed: what is borrowed by now has its bit, by the fence
    if (block.word & block.leased) {
        // The bit says that there was a lease once: look whether there is.
        if (wp_lease_find(&view->leases, offset)) {
            // sync span.doom (publish): the span's owner goes on, in wp_arena_sweep.
            wp_or_acq_rel(word, block.doomed);
            return WP_FREE_DOOMED;
        }
        // sync span.free (publish): the block is the caller's, and so is this bit of it.
        block.word = wp_and_acq_rel(word, ~block.leased) & ~block.leased;
    }
    if (block.used == 0) {
        view->run_hint = block.span;
        while (!wp_span_free_run(&view->spans, block.span, block.word, view->seat))
            // Somebody with an old reference set the leased bit, and finds that it is too late
            // (wp_block_borrow): whoever was in time was seen above.
            if (!wp_span_look(&view->spans, offset, &block) || block.used != 0) return WP_FREE_ALIEN;
        return WP_FREE_DONE;
    }
    struct wp_arena_open *open = &view->open[wp_span_class(block.word)];
    // An open span without spare may have become free, and another seat's.
    if (open->span == block.span && wp_span_owner(block.word) == view->seat) {
        open->free |= (uint32_t)(block.used >> WP_SPAN_USED_SHIFT);
        wp_arena_spare(view, block.bytes, 0);
        return WP_FREE_DONE;
    }
    wp_arena_give_back(view, block.span, block.used, 0, 0);
    if (wp_span_owner(block.word) == view->seat && block.span < open->from) open->from = block.span;
    return WP_FREE_DONE;
}

// Publish a lease: the block stays until it is cleared, whoever ends its life.
//
// Caller:   the seat, before the block's owner could let go of it.
// Crash:    recovery of this seat clears the lease; an owning one dooms its block.
// Returns:  the lease, or WP_NO_LEASE: the table is full, or there is no such block.
static inline uint32_t wp_arena_lease(struct wp_arena_view *view, uint64_t offset, enum wp_lease_kind kind) {
    struct wp_block block;
    if (!wp_span_look(&view->spans, offset, &block)) return WP_NO_LEASE;
    uint32_t lease = wp_lease_put(&view->leases, offset, kind);
    // The parent is never recovered, so its own blocks need no bit against reuse.
    if (lease == WP_NO_LEASE || (kind == WP_LEASE_OWN && view->seat == WP_PARENT_SEAT)) return lease;
    // sync lease.held (publish): whoever finds the bit finds the lease.
    wp_or_acq_rel(&view->spans.word[block.span], block.leased);
    return lease;
}

// Let go of a lease without ending the block's life.
//
// Caller:   the seat; for an owning lease, after the slot that owns it now is published.
static inline void wp_arena_unlease(struct wp_arena_view *view, uint32_t lease) {
    wp_lease_clear(&view->leases, lease);
}

// End the life of the block of an owning lease, and let go of the lease.
//
// Caller:   the seat, after the slot that named the block is free.
// Crash:    the lease keeps the block from reuse until recovery has doomed it: so
//           a block cannot be freed twice.
static inline void wp_arena_free_leased(struct wp_arena_view *view, uint32_t lease) {
    // relaxed: this seat's own word.
    uint64_t offset = wp_lease_offset(wp_load_relaxed(&view->leases.lease[lease]));
    if (view->seat != WP_PARENT_SEAT) wp_arena_free(view, offset); // finds the lease: dooms it
    wp_lease_clear(&view->leases, lease);
    if (view->seat == WP_PARENT_SEAT) wp_arena_free(view, offset);
}

// Free all that this seat can: what it keeps spare, and what is doomed.
static inline void wp_arena_tidy(struct wp_arena_view *view) {
    struct wp_span_gap gap = wp_span_gap(&view->spans);
    wp_arena_flush(view);
    wp_arena_sweep(view, 1, gap.first, true);
    wp_arena_sweep(view, gap.end, view->spans.count, true);
}

// Give free memory back to the system, all but `keep_bytes` of it.
//
// Returns:  the bytes given back.
static inline uint64_t wp_arena_trim(struct wp_arena_view *view, uint64_t keep_bytes) {
    wp_arena_tidy(view);
    return wp_span_trim(&view->spans, keep_bytes, view->seat);
}

#endif
