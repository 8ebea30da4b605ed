// wp_taskset.h — an idempotent set of slot indices.
//
// Layer 2. Source: this project; the summary protocol is proved by cases in
// docs/memory-model.md.
//
//   summary   | one bit per leaf word: "it may hold something" |
//   leaves    | one bit per slot | one bit per slot | ...
//
// Never full, hole-free, and rebuilt from the state words at any time. A bit is a
// hint: adding it twice is adding it once, and who finds it asks the slot.
//
//   add:    F1 or leaf;     if the summary bit is 0: or summary
//   empty:  clear summary;  F2 or leaf with 0 (reads the latest); if not 0: or summary
//   F1 before F2: the emptier sees the bit and sets the summary again.
//   F2 before F1: F1 reads from F2, so the adder sees the cleared summary and sets it.
//   No third case: both are read-modify-writes of one word.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_TASKSET_H
#define WP_TASKSET_H

#include <stdbool.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"

#define WP_NO_INDEX UINT32_MAX

// Process-private: where a set is.
struct wp_taskset {
    wp_atomic64 *summary;
    wp_atomic64 *leaves;
    uint32_t leaf_words;
    uint32_t summary_words;
};

static inline uint32_t wp_taskset_words(uint32_t bits) { return (bits + 63) / 64; }

static inline uint64_t wp_taskset_bytes(uint32_t slots) {
    uint32_t leaves = wp_taskset_words(slots);
    return (uint64_t)(leaves + wp_taskset_words(leaves)) * sizeof(wp_atomic64);
}

static inline struct wp_taskset wp_taskset_at(void *memory, uint32_t slots) {
    struct wp_taskset s;
    s.leaf_words = wp_taskset_words(slots);
    s.summary_words = wp_taskset_words(s.leaf_words);
    s.summary = memory;
    s.leaves = s.summary + s.summary_words;
    return s;
}

static inline void wp_taskset_raise(const struct wp_taskset *s, uint32_t leaf) {
    uint64_t bit = UINT64_C(1) << leaf % 64;
    // relaxed: ordered after the leaf's read-modify-write, see the head of this file;
    // skipping a bit that is set spares the line when many add at once.
    if (wp_load_relaxed(&s->summary[leaf / 64]) & bit) return;
    // sync taskset.summary (publish): who reads the bit reads the leaf.
    wp_or_acq_rel(&s->summary[leaf / 64], bit);
}

// Add a slot.
//
// Caller:   any process.
// Progress: wait-free.
// Crash:    between leaf and summary the bit is invisible: recovery adds every
//           READY slot again, and every DONE slot of the dead owner.
static inline void wp_taskset_add(const struct wp_taskset *s, uint32_t index) {
    // sync taskset.leaf (publish): F1.
    wp_or_acq_rel(&s->leaves[index / 64], UINT64_C(1) << index % 64);
    wp_taskset_raise(s, index / 64);
}

static inline bool wp_taskset_is_empty(const struct wp_taskset *s) {
    for (uint32_t w = 0; w < s->summary_words; w++) {
        // relaxed: a look; the re-check before parking is ordered by its own fence.
        uint64_t bits = wp_load_relaxed(&s->summary[w]);
        // Bits behind the last leaf are scribbled: nobody would ever take them away.
        if (w == s->summary_words - 1 && s->leaf_words % 64 != 0) bits &= (UINT64_C(1) << s->leaf_words % 64) - 1;
        if (bits != 0) return false;
    }
    return true;
}

// Does it hold at least `enough` slots? A look: some may be void.
static inline bool wp_taskset_holds(const struct wp_taskset *s, uint32_t enough) {
    uint32_t count = 0;
    for (uint32_t w = 0; w < s->summary_words && count < enough; w++)
        // relaxed: a heuristic's input, all of it.
        for (uint64_t bits = wp_load_relaxed(&s->summary[w]); bits != 0 && count < enough; bits &= bits - 1) {
            uint32_t leaf = w * 64 + (uint32_t)__builtin_ctzll(bits);
            // relaxed: as above.
            if (leaf < s->leaf_words) count += (uint32_t)__builtin_popcountll(wp_load_relaxed(&s->leaves[leaf]));
        }
    return count >= enough;
}

// Which leaf comes next at or after leaf `from`, round the end?
static inline uint32_t wp_taskset_next_leaf(const struct wp_taskset *s, uint32_t from) {
    for (uint32_t n = 0; n <= s->summary_words; n++) {
        uint32_t w = (from / 64 + n) % s->summary_words;
        // sync taskset.summary (observe): the leaf read next holds what was announced.
        uint64_t bits = wp_load_acquire(&s->summary[w]);
        if (n == 0) bits &= UINT64_MAX << from % 64;
        if (bits == 0) continue;
        uint32_t leaf = w * 64 + (uint32_t)__builtin_ctzll(bits);
        if (leaf < s->leaf_words) return leaf; // else a scribbled bit behind the end
    }
    return WP_NO_INDEX;
}

// The leaf was seen empty: take its summary bit away, unless something came in.
static inline void wp_taskset_lower(const struct wp_taskset *s, uint32_t leaf) {
    // sync taskset.summary (publish): cleared before the leaf is read again.
    wp_and_acq_rel(&s->summary[leaf / 64], ~(UINT64_C(1) << leaf % 64));
    // sync taskset.leaf (observe): F2; a read-modify-write, because a plain load
    // might miss an add whose adder still saw the summary bit.
    if (wp_or_acq_rel(&s->leaves[leaf], 0) != 0) wp_taskset_raise(s, leaf);
}

// Find a slot at or after `from`, round the end, and leave it there.
//
// Caller:   any process; then: claim the slot, wp_taskset_remove, look again.
// Returns:  an index below 64 * leaf_words, or WP_NO_INDEX when the set is empty.
static inline uint32_t wp_taskset_find(const struct wp_taskset *s, uint32_t from) {
    uint32_t leaf = from / 64 < s->leaf_words ? from / 64 : 0;
    // relaxed: a hint; the slot's state decides.
    uint64_t bits = wp_load_relaxed(&s->leaves[leaf]) & UINT64_MAX << from % 64;
    for (uint32_t looks = 0; bits == 0 && looks <= s->leaf_words; looks++) {
        leaf = wp_taskset_next_leaf(s, (leaf + 1) % s->leaf_words);
        if (leaf == WP_NO_INDEX) return WP_NO_INDEX;
        // relaxed: as above.
        bits = wp_load_relaxed(&s->leaves[leaf]);
        if (bits == 0) wp_taskset_lower(s, leaf);
    }
    return bits == 0 ? WP_NO_INDEX : leaf * 64 + (uint32_t)__builtin_ctzll(bits);
}

// Take a slot out.
//
// Caller:   any process that has claimed the slot; or found it void, and then
//           reads its state *again* and adds the bit again if it is READY.
// Crash:    the bit of a claimed slot is stale at worst.
static inline void wp_taskset_remove(const struct wp_taskset *s, uint32_t index) {
    uint64_t bit = UINT64_C(1) << index % 64;
    // sync taskset.leaf (observe): what the adder of this bit wrote is seen by the
    // caller's second read of the state.
    if ((wp_and_acq_rel(&s->leaves[index / 64], ~bit) & ~bit) == 0) wp_taskset_lower(s, index / 64);
}

// Take a whole leaf at or after slot `from`, round the end.
//
// Caller:   the only taker (the home, of its completions).
// Crash:    the bits are gone with their taker: recovery adds every DONE slot of a
//           dead home again.
// Returns:  its bits, and *base is the slot of bit 0; 0 when the set is empty.
static inline uint64_t wp_taskset_take(const struct wp_taskset *s, uint32_t from, uint32_t *base) {
    uint32_t leaf = from / 64 < s->leaf_words ? from / 64 : 0;
    while ((leaf = wp_taskset_next_leaf(s, leaf)) != WP_NO_INDEX) {
        // sync taskset.summary (publish): cleared before the leaf is emptied.
        wp_and_acq_rel(&s->summary[leaf / 64], ~(UINT64_C(1) << leaf % 64));
        // sync taskset.leaf (observe): F2, and it takes everything.
        uint64_t bits = wp_swap_acq_rel(&s->leaves[leaf], 0);
        if (bits != 0) {
            *base = leaf * 64;
            return bits;
        }
    }
    return 0;
}

#endif
