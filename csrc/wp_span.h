// wp_span.h — the spans of the payload arena, and the one word that says all of each.
//
// Layer 1. Source: this project; bitmaps of blocks after mimalloc's and CK's
// free bitmaps, here in the word that also names the owner.
//
//   small  | doomed: 16 | leased: 16 | used: 16 | owner: 8 | class: 4 | committed: 1 | kind: 3 |
//   run    | length, or index of the head: 32   | marks: 16 | owner: 8 | 0: 4 | committed: 1 | kind: 3 |
//
//   FREE -> SMALL                     one CAS; back in the CAS that frees its last block
//   FREE -> BUSY(head), TAIL … TAIL   one CAS each; then HEAD, by its owner
//   HEAD -> DYING, TAILs -> FREE, DYING -> FREE
//
// All a block can be is in one word, so every step of its life is one
// instruction. The words are in the control segment, where a wild write into an
// array does not reach them: 8 bytes per 16 KiB. Zero is a free span.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_SPAN_H
#define WP_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"
#include "wp_os.h"

// Smaller spans waste less behind a large block, larger ones take fewer CASes:
// 64 MiB is 4096. Sixteen blocks are what three bitmaps leave room for.
#define WP_SPAN_BYTES UINT64_C(16384)
#define WP_SPAN_BLOCKS 16u

// 4 MiB a system call: nobody else finds them free meanwhile, for about 0.3 ms.
#define WP_TRIM_SPANS 256u

enum wp_span_kind {
    WP_SPAN_FREE,  // anyone may claim it
    WP_SPAN_BUSY,  // its owner is half-way through claiming or trimming it
    WP_SPAN_SMALL, // blocks of one class
    WP_SPAN_HEAD,  // the first of a run, which is one block
    WP_SPAN_TAIL,  // another of a run: its head speaks for it
    WP_SPAN_DYING, // a head whose owner is half-way through freeing the run
};

#define WP_SPAN_KIND_MASK UINT64_C(7)
#define WP_SPAN_COMMITTED UINT64_C(8) // its pages are reserved: touching them cannot be a SIGBUS
#define WP_SPAN_CLASS_SHIFT 4
#define WP_SPAN_OWNER_SHIFT 8
#define WP_SPAN_USED_SHIFT 16
#define WP_SPAN_LEASED_SHIFT 32
#define WP_SPAN_DOOMED_SHIFT 48
#define WP_SPAN_BITS UINT64_C(0xffff)
#define WP_SPAN_OWNER_MASK (UINT64_C(0xff) << WP_SPAN_OWNER_SHIFT)
#define WP_RUN_LEASED (UINT64_C(1) << 16)
#define WP_RUN_DOOMED (UINT64_C(1) << 17)
#define WP_RUN_SHIFT 32

_Static_assert(WP_MAX_SEATS <= 256, "a seat fits the owner field");
_Static_assert(WP_SPAN_BLOCKS == WP_SPAN_LEASED_SHIFT - WP_SPAN_USED_SHIFT, "a bit for each block");

// What a span of each class is divided into; a step wastes a quarter, the last a third.
#define WP_SPAN_CLASSES 9u
#define WP_SPAN_SMALL_MAX 8192u // above: whole spans
struct wp_span_class {
    uint16_t bytes; // a multiple of a cache line, so every block begins on one
    uint16_t bits;  // one for each block
};
static const struct wp_span_class wp_span_classes[WP_SPAN_CLASSES] = {
    {1024, 0xffff}, {1344, 0x0fff}, {1600, 0x03ff}, {2048, 0x00ff}, {2688, 0x003f},
    {3264, 0x001f}, {4096, 0x000f}, {5440, 0x0007}, {8192, 0x0003},
};

static inline uint32_t wp_span_class_of(uint64_t bytes) {
    uint32_t class = 0;
    while (wp_span_classes[class].bytes < bytes) class ++;
    return class;
}

static inline uint64_t wp_span_word(enum wp_span_kind kind, uint64_t committed, uint32_t seat, uint32_t high) {
    return (uint64_t)kind | committed | (uint64_t)seat << WP_SPAN_OWNER_SHIFT | (uint64_t)high << WP_RUN_SHIFT;
}
static inline uint64_t wp_span_small(uint64_t committed, uint32_t seat, uint32_t class, uint32_t used) {
    return wp_span_word(WP_SPAN_SMALL, committed, seat, 0) | (uint64_t)class << WP_SPAN_CLASS_SHIFT |
           (uint64_t)used << WP_SPAN_USED_SHIFT;
}
static inline enum wp_span_kind wp_span_kind(uint64_t w) { return (enum wp_span_kind)(w & WP_SPAN_KIND_MASK); }
static inline uint32_t wp_span_owner(uint64_t w) { return (uint32_t)(w >> WP_SPAN_OWNER_SHIFT & 0xff); }
static inline uint32_t wp_span_class(uint64_t w) { return (uint32_t)(w >> WP_SPAN_CLASS_SHIFT & 0xf); }
static inline uint32_t wp_span_used(uint64_t w) { return (uint32_t)(w >> WP_SPAN_USED_SHIFT & WP_SPAN_BITS); }
static inline uint32_t wp_span_high(uint64_t w) { return (uint32_t)(w >> WP_RUN_SHIFT); }

// What a seat says of itself; all three for searches and statistics, none for safety.
//   all     the seat alone; spare_bytes also the recoverer when it is dead
struct wp_span_seat {
    wp_atomic64 spare_bytes; // used by the words of its open spans, but in no block
    wp_atomic32 small_end;   // behind the highest span it ever tried to open
    wp_atomic32 run_depth;   // from the end of all spans to the lowest it ever tried to make a run of
    uint8_t reserved[48];
};

_Static_assert(sizeof(struct wp_span_seat) == WP_CACHE_LINE, "segment layout: bump WP_LAYOUT_VERSION");

// This process's view of the spans. Private; what it points to is shared.
struct wp_spans {
    wp_atomic64 *word;
    struct wp_span_seat *seat;
    uint8_t *memory; // span i begins at memory + i * WP_SPAN_BYTES
    uint32_t count;  // span 0 is never given out: offset 0 means none
    uint32_t seats;
    int fd; // of the memory; -1: nothing to reserve, nothing to give back
};

// Where a block is, and its bits in the span's word.
struct wp_block {
    uint64_t word; // as it was when the block was looked up
    uint64_t used; // 0 for a run
    uint64_t leased;
    uint64_t doomed;
    uint64_t bytes;
    uint32_t span;
};

// Look up the block at `offset`. Nothing is believed: the offset and the word may
// both be nonsense.
//
// Caller:   any process. The answer lasts while the block does.
// Returns:  false when no block in use begins there.
static inline bool wp_span_look(const struct wp_spans *spans, uint64_t offset, struct wp_block *block) {
    uint64_t span = offset / WP_SPAN_BYTES;
    uint32_t within = (uint32_t)(offset % WP_SPAN_BYTES);
    if (span < 1 || span >= spans->count) return false;
    // relaxed: kind and class are fixed while the block is in use, and whoever
    // handed the block over ordered its bytes.
    uint64_t word = wp_load_relaxed(&spans->word[span]);
    block->word = word;
    block->span = (uint32_t)span;
    if (wp_span_kind(word) == WP_SPAN_SMALL && wp_span_class(word) < WP_SPAN_CLASSES) {
        const struct wp_span_class *class = &wp_span_classes[wp_span_class(word)];
        uint32_t index = within / class->bytes;
        if (index * class->bytes != within || !(wp_span_used(word) & class->bits & 1u << index)) return false;
        block->used = UINT64_C(1) << (WP_SPAN_USED_SHIFT + index);
        block->leased = UINT64_C(1) << (WP_SPAN_LEASED_SHIFT + index);
        block->doomed = UINT64_C(1) << (WP_SPAN_DOOMED_SHIFT + index);
        block->bytes = class->bytes;
        return true;
    }
    uint32_t length = wp_span_high(word);
    if (wp_span_kind(word) != WP_SPAN_HEAD || within != 0 || length < 1 || length > spans->count - span) return false;
    block->used = 0;
    block->leased = WP_RUN_LEASED;
    block->doomed = WP_RUN_DOOMED;
    block->bytes = length * WP_SPAN_BYTES;
    return true;
}

// The first word of a block that is lent by reference is its *identity*: no other block has
// the same, and it is wiped before the block's life ends, by whoever ends it (wp_borrow.h).
// The low byte tells what the block is: a payload of another kind has another first byte.
#define WP_PARCEL_TAG 0x41u // a payload with arrays
#define WP_SHARED_TAG 0x53u // one array, made in the arena

static inline wp_atomic64 *wp_block_identity(const struct wp_spans *spans, uint64_t offset) {
    return (wp_atomic64 *)(void *)(spans->memory + offset);
}

// Wipe the identity of a block, if it has one: nobody can borrow it from here on.
//
// Caller:   who ends the life of `block`, at `offset`, and looks for leases after that.
static inline void wp_block_wipe(const struct wp_spans *spans, const struct wp_block *block, uint64_t offset) {
    if (spans->memory == NULL || !(block->word & WP_SPAN_COMMITTED)) return;
    wp_atomic64 *identity = wp_block_identity(spans, offset);
    uint64_t tag = wp_load_relaxed(identity) & 0xff; // relaxed: ordered by what made the block the caller's
    if (tag != WP_PARCEL_TAG && tag != WP_SHARED_TAG) return;
    wp_store_relaxed(identity, 0); // relaxed: the fence orders it
    wp_fence_seq_cst();            // sync block.identity (publish): F1
}

// The word of a small span without the blocks whose bits are given: FREE without its last.
static inline uint64_t wp_span_without(uint64_t word, uint64_t used, uint64_t leased, uint64_t doomed) {
    uint64_t left = word & ~(used | leased | doomed);
    return wp_span_used(left) != 0 ? left : wp_span_word(WP_SPAN_FREE, word & WP_SPAN_COMMITTED, 0, 0);
}

// Reserve pages for what is not committed of `length` spans.
//
// Caller:   the owner of all of them (BUSY or TAIL).
// Crash:    pages may be reserved for spans that do not say so; reserving them
//           again costs nothing.
// Returns:  false when the system has no room; the spans say what is committed.
static inline bool wp_span_commit(const struct wp_spans *spans, uint32_t first, uint32_t length) {
    for (uint32_t i = first, end = first + length; i < end;) {
        uint32_t cold = i;
        // relaxed: the words are the caller's alone.
        while (cold < end && !(wp_load_relaxed(&spans->word[cold]) & WP_SPAN_COMMITTED)) cold++;
        if (cold == i) {
            i++;
            continue;
        }
#ifndef WP_MODEL
        if (spans->fd >= 0 &&
            wp_os_reserve(spans->fd, (int64_t)(i * WP_SPAN_BYTES), (int64_t)((cold - i) * WP_SPAN_BYTES)) != 0)
            return false;
#endif
        // relaxed: the words are the caller's alone.
        for (; i < cold; i++) wp_store_relaxed(&spans->word[i], wp_load_relaxed(&spans->word[i]) | WP_SPAN_COMMITTED);
    }
    return true;
}

// Free the tails of a run, then its head.
//
// Caller:   the owner of the head (BUSY or DYING), or the recoverer for it.
// Crash:    the head is still there and still its dead owner's: recovery does
//           the same again. A tail that somebody else claimed meanwhile does not
//           name this head, and no new run can begin at it before it is free.
static inline void wp_span_release_run(const struct wp_spans *spans, uint32_t head, uint32_t length) {
    for (uint32_t i = head + 1; i < spans->count && i - head < length; i++) {
        // relaxed: a tail that names this head is written by the caller alone.
        uint64_t tail = wp_load_relaxed(&spans->word[i]);
        if (wp_span_kind(tail) != WP_SPAN_TAIL || wp_span_high(tail) != head) continue;
        // sync span.free (publish): whoever claims the span finds the block's last use over.
        wp_store_release(&spans->word[i], wp_span_word(WP_SPAN_FREE, tail & WP_SPAN_COMMITTED, 0, 0));
    }
    // relaxed: the head is the caller's.
    uint64_t committed = wp_load_relaxed(&spans->word[head]) & WP_SPAN_COMMITTED;
    // sync span.free (publish): as above; and last, so that the run is never without a head.
    wp_store_release(&spans->word[head], wp_span_word(WP_SPAN_FREE, committed, 0, 0));
}

// Claim `length` spans from `first` on, for a run.
//
// Caller:   any seat.
// Progress: lock-free; one attempt for each span.
// Crash:    a BUSY head and some tails of a dead owner: recovery frees them.
// Returns:  true: they are BUSY and TAILs of `seat`. False: none is.
static inline bool wp_span_claim_run(const struct wp_spans *spans, uint32_t first, uint32_t length, uint32_t seat) {
    for (uint32_t i = 0; i < length; i++) {
        uint64_t word = wp_load_relaxed(&spans->word[first + i]); // relaxed: the CAS decides
        uint64_t committed = word & WP_SPAN_COMMITTED;
        uint64_t mine = i == 0 ? wp_span_word(WP_SPAN_BUSY, committed, seat, length)
                               : wp_span_word(WP_SPAN_TAIL, committed, seat, first);
        // sync span.free (observe): the memory's former user is done with it.
        if (wp_span_kind(word) == WP_SPAN_FREE && wp_cas_acq_rel(&spans->word[first + i], &word, mine)) continue;
        if (i > 0) wp_span_release_run(spans, first, i);
        return false;
    }
    return true;
}

// The marks of a seat: written before the claim, so that a death leaves no used span beyond them.
static inline void wp_span_mark_small(const struct wp_spans *spans, uint32_t seat, uint32_t span) {
    wp_atomic32 *end = &spans->seat[seat].small_end;
    // relaxed: a hint, and the seat's own word.
    if (wp_load_relaxed(end) <= span) wp_store_relaxed(end, span + 1);
}
static inline void wp_span_mark_run(const struct wp_spans *spans, uint32_t seat, uint32_t first) {
    wp_atomic32 *depth = &spans->seat[seat].run_depth;
    // relaxed: a hint, and the seat's own word.
    if (wp_load_relaxed(depth) < spans->count - first) wp_store_relaxed(depth, spans->count - first);
}

// The lowest span that was ever in a run; 1 also where a mark is nonsense.
static inline uint32_t wp_span_lowest_run(const struct wp_spans *spans) {
    uint32_t depth = 0;
    for (uint32_t i = 0; i < spans->seats; i++) {
        uint32_t its = wp_load_relaxed(&spans->seat[i].run_depth); // relaxed: a hint
        depth = its > depth ? its : depth;
    }
    return depth < spans->count ? spans->count - depth : 1;
}

// The spans from `first` up to `end` that nobody ever used: between the small ones, which grow
// up, and the runs, which grow down. Most of a large arena is; who looks at all spans skips them,
// and leaves even their words untouched.
struct wp_span_gap {
    uint32_t first;
    uint32_t end; // both `count` when there are none
};
static inline struct wp_span_gap wp_span_gap(const struct wp_spans *spans) {
    struct wp_span_gap gap = {1, wp_span_lowest_run(spans)};
    for (uint32_t i = 0; i < spans->seats; i++) {
        uint32_t its = wp_load_relaxed(&spans->seat[i].small_end); // relaxed: a hint
        gap.first = its > gap.first ? its : gap.first;
    }
    return gap.first < gap.end ? gap : (struct wp_span_gap){spans->count, spans->count};
}

// Find and claim a run, from the top down: small spans are taken from the bottom
// up, so that they do not split what large blocks leave. With `committed`, only
// what has its pages, where runs have been.
//
// Caller, progress, crash: as wp_span_claim_run.
// Returns:  the first span, or 0 when there is no such run.
static inline uint32_t wp_span_find_run(const struct wp_spans *spans, uint32_t length, uint32_t seat, bool committed) {
    uint32_t run = 0, lowest = committed ? wp_span_lowest_run(spans) : 1;
    for (uint32_t i = spans->count - 1; i >= lowest; i--) {
        uint64_t word = wp_load_relaxed(&spans->word[i]); // relaxed: a hint, the CAS decides
        bool fits = wp_span_kind(word) == WP_SPAN_FREE && (!committed || (word & WP_SPAN_COMMITTED));
        run = fits ? run + 1 : 0;
        if (run < length) continue;
        wp_span_mark_run(spans, seat, i);
        if (wp_span_claim_run(spans, i, length, seat)) return i;
        run = 0; // somebody was quicker in there
    }
    return 0;
}

// Free the run of a block whose life is over.
//
// Caller:   the one owner of the block's life; or, when it is doomed, the span's owner.
// Crash:    before the CAS nothing happened; after it the run is DYING, of a dead
//           `seat`, and recovery goes on with it.
// Returns:  false when the word was not `word` any more.
static inline bool wp_span_free_run(const struct wp_spans *spans, uint32_t head, uint64_t word, uint32_t seat) {
    uint32_t length = wp_span_high(word);
    uint64_t next = length == 1 ? wp_span_word(WP_SPAN_FREE, word & WP_SPAN_COMMITTED, 0, 0)
                                : wp_span_word(WP_SPAN_DYING, word & WP_SPAN_COMMITTED, seat, length);
    // sync span.free (publish): for a run of one; for others wp_span_release_run does it.
    if (!wp_cas_acq_rel(&spans->word[head], &word, next)) return false;
    if (length > 1) wp_span_release_run(spans, head, length);
    return true;
}

// Give the pages of free spans back to the system, but for `keep_bytes`, the
// highest: those of large blocks, which are dear to touch for the first time.
//
// Caller:   any seat.
// Crash:    a BUSY span that is not committed, of a dead owner: recovery frees it.
//           Its pages may stay with the system's file until it is used again.
// Returns:  the bytes given back; 0 where the system cannot.
static inline uint64_t wp_span_trim(const struct wp_spans *spans, uint64_t keep_bytes, uint32_t seat) {
    uint64_t kept = 0, punched = 0;
    struct wp_span_gap gap = wp_span_gap(spans);
#if !defined(WP_MODEL) && WP_OS_LINUX && defined(FALLOC_FL_PUNCH_HOLE)
    for (uint32_t i = spans->count - 1; i >= 1 && spans->fd >= 0;) {
        if (i >= gap.first && i < gap.end) {
            i = gap.first - 1;
            continue;
        }
        uint32_t end = i + 1; // the spans behind i and before end are the caller's
        for (; i >= 1 && end - i <= WP_TRIM_SPANS; i--) {
            uint64_t word = wp_load_relaxed(&spans->word[i]); // relaxed: the CAS decides
            if (wp_span_kind(word) != WP_SPAN_FREE || !(word & WP_SPAN_COMMITTED)) break;
            kept += WP_SPAN_BYTES;
            if (kept <= keep_bytes) break;
            // Not committed from here on: after a death it is reserved anew, not believed.
            // sync span.free (observe): the former user's last write is made before the hole.
            if (!wp_cas_acq_rel(&spans->word[i], &word, wp_span_word(WP_SPAN_BUSY, 0, seat, 1))) break;
        }
        if (i + 1 == end) {
            i--;
            continue;
        }
        int rc = wp_os_punch(spans->fd, (int64_t)((i + 1) * WP_SPAN_BYTES), (int64_t)((end - i - 1) * WP_SPAN_BYTES));
        punched += rc == 0 ? (end - i - 1) * WP_SPAN_BYTES : 0;
        for (uint32_t j = i + 1; j < end; j++)
            // sync span.free (publish): the hole is made before anyone reserves it again.
            wp_store_release(&spans->word[j], wp_span_word(WP_SPAN_FREE, rc == 0 ? 0 : WP_SPAN_COMMITTED, 0, 0));
    }
#else
    (void)keep_bytes, (void)seat, (void)kept, (void)gap;
#endif
    return punched;
}

#endif
