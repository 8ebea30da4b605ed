// wp_slot.h — the record of one task, and the state word that is the only truth about it.
//
// Layer 2. Source: this project; proof by cases in docs/recovery.md.
//
//   FREE -> RESERVED -> READY -> CLAIMED(w) -> RUNNING(w) -> DONE -> FREE
//           home        home     any, CAS      owner         owner   home
//
// | generation: 32 | attempt: 8 | owner: 12 | outcome: 8 | phase: 4 |
//
// The payload and the plain fields are ordered by this word alone: written before
// a release store or CAS of it, read after an acquire load or CAS. Queues carry
// hints (a handle, or a bit); a hint may be stale, doubled or lost.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_SLOT_H
#define WP_SLOT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_atomic.h"
#include "wp_config.h"

enum wp_phase {
    WP_PHASE_FREE,     // on its home's private free list
    WP_PHASE_RESERVED, // its home fills it
    WP_PHASE_READY,    // anyone the affinity allows may claim it
    WP_PHASE_CLAIMED,  // its owner decodes it: user code was not entered
    WP_PHASE_RUNNING,  // user code may have been entered
    WP_PHASE_DONE,     // the outcome is written; its home may harvest it
};

enum wp_outcome {
    WP_OUTCOME_NONE,
    WP_OUTCOME_OK,        // the payload is the result
    WP_OUTCOME_ERROR,     // the payload is the exception
    WP_OUTCOME_CANCELLED, // never entered, or abandoned at the home's wish
    WP_OUTCOME_DIED,      // its worker died: the payload is a struct wp_death
    WP_OUTCOME_TIMEOUT,   // its worker was ended for its overrun: the payload as before
};

// How binding a task's target is: who may claim it (see wp_slot_may_claim).
enum wp_strength {
    WP_STRENGTH_NONE,
    WP_STRENGTH_LIGHT,  // the target first, anyone without hesitation
    WP_STRENGTH_STRONG, // others only when loads are unbalanced
    WP_STRENGTH_FORCE,  // the target alone
};

#define WP_STATE_PHASE_MASK UINT64_C(0xf)
#define WP_STATE_OUTCOME_SHIFT 4
#define WP_STATE_OWNER_SHIFT 12
#define WP_STATE_ATTEMPT_SHIFT 24
#define WP_STATE_GENERATION_SHIFT 32
#define WP_ATTEMPT_MAX 255u

_Static_assert(WP_MAX_SEATS <= WP_NO_SEAT, "a seat fits the owner field");

static inline uint64_t wp_state(enum wp_phase phase, enum wp_outcome outcome, uint32_t owner, uint32_t attempt,
                                uint32_t generation) {
    return (uint64_t)phase | (uint64_t)outcome << WP_STATE_OUTCOME_SHIFT | (uint64_t)owner << WP_STATE_OWNER_SHIFT |
           (uint64_t)attempt << WP_STATE_ATTEMPT_SHIFT | (uint64_t)generation << WP_STATE_GENERATION_SHIFT;
}
static inline enum wp_phase wp_state_phase(uint64_t s) { return (enum wp_phase)(s & WP_STATE_PHASE_MASK); }
static inline enum wp_outcome wp_state_outcome(uint64_t s) {
    return (enum wp_outcome)(s >> WP_STATE_OUTCOME_SHIFT & 0xff);
}
static inline uint32_t wp_state_owner(uint64_t s) { return (uint32_t)(s >> WP_STATE_OWNER_SHIFT & 0xfff); }
static inline uint32_t wp_state_attempt(uint64_t s) { return (uint32_t)(s >> WP_STATE_ATTEMPT_SHIFT & 0xff); }
static inline uint32_t wp_state_generation(uint64_t s) { return (uint32_t)(s >> WP_STATE_GENERATION_SHIFT); }

// A handle names one use of a slot: index | generation << 32.
typedef uint64_t wp_handle;
static inline wp_handle wp_handle_of(uint32_t index, uint32_t generation) {
    return (uint64_t)index | (uint64_t)generation << 32;
}
static inline uint32_t wp_handle_index(wp_handle h) { return (uint32_t)h; }
static inline uint32_t wp_handle_generation(wp_handle h) { return (uint32_t)(h >> 32); }
#define WP_NO_HANDLE UINT64_MAX
#define WP_NO_TASK (UINT64_MAX - 1) // a handle that no task has

// What the payload of WP_OUTCOME_DIED says.
struct wp_death {
    int32_t pid;
    int32_t status; // exit code, or minus the signal
    uint32_t seat;
    uint32_t entered; // 1: user code may have been entered
};

// Where bytes of a task are. The home frees both blocks at harvest, whoever wrote them.
// The block is atomic, as `function` is: the recoverer of one seat reads what every slot
// names, also those that a living home or owner is writing.
struct wp_payload {
    wp_atomic64 block; // arena offset; 0: the bytes are inline
    uint64_t bytes;
};

static inline uint64_t wp_payload_block(struct wp_payload *payload) {
    return wp_load_relaxed(&payload->block); // relaxed: ordered by the slot's state
}
static inline void wp_payload_set(struct wp_payload *payload, uint64_t block, uint64_t bytes) {
    wp_store_relaxed(&payload->block, block); // relaxed: published by the slot's state
    payload->bytes = bytes;
}

//   state     the truth: home while FREE, RESERVED, DONE; CAS from READY; owner
//             while CLAIMED, RUNNING; the recoverer for a proven dead owner
//   target    home, while RESERVED; its priority also while READY; atomic because a
//             stale hint may read it
//   cost_us   home, while RESERVED; atomic as target is
//   cancel    home and parent, by CAS from the exact word; the owner ends it
//   deadline_ns   home, while RESERVED; the owner, as it enters the task; the recoverer
//   home      fixed when the segment is made
//   result, start_ns, end_ns, pre_us   owner, while CLAIMED or RUNNING
//   bytes     the argument, later the result or the death; a task that may be
//             entered again (attempt_limit > 1) keeps its argument and answers
//             out of line
//   others    home, while RESERVED; fixed from READY on
struct wp_slot {
    wp_atomic64 state;
    wp_atomic32 target;      // seat | strength << 16 | priority (signed) << 24
    wp_atomic32 cancel;      // enum wp_cancel | low 24 bits of the generation << 8
    wp_atomic64 parent;      // handle of the task that submitted it; atomic as target is
    wp_atomic64 function;    // arena offset of the function's block; 0: the entrypoint
    wp_atomic64 deadline_ns; // 0: none; signed: minus the time it may take, until it is entered
    int64_t submit_ns;
    int64_t start_ns;
    int64_t end_ns;
    struct wp_payload argument;
    struct wp_payload result;
    wp_atomic32 cost_us; // estimate of its cost; 0: unknown
    uint32_t pre_us;     // measured time of the pre_task hook
    uint16_t home;
    uint8_t call;          // how the payload is applied to the function: the client's word
    uint8_t attempt_limit; // times it may be entered: 1 + retries
    uint32_t group;        // what one map or burst shares
    uint8_t bytes[WP_INLINE_PAYLOAD_BYTES];
};

_Static_assert(sizeof(struct wp_slot) == WP_SLOT_BYTES, "segment layout: bump WP_LAYOUT_VERSION");
_Static_assert(offsetof(struct wp_slot, bytes) + WP_INLINE_PAYLOAD_BYTES == WP_SLOT_BYTES, "the payload ends the slot");
_Static_assert(sizeof(struct wp_death) <= WP_INLINE_PAYLOAD_BYTES, "a death is told inline");

#define WP_TARGET_STRENGTH_SHIFT 16
#define WP_TARGET_PRIORITY_SHIFT 24
static inline uint32_t wp_target(uint32_t seat, enum wp_strength strength, int8_t priority) {
    return seat | (uint32_t)strength << WP_TARGET_STRENGTH_SHIFT |
           (uint32_t)(uint8_t)priority << WP_TARGET_PRIORITY_SHIFT;
}
static inline uint32_t wp_target_seat(uint32_t t) { return t & 0xffff; }
static inline enum wp_strength wp_target_strength(uint32_t t) {
    return (enum wp_strength)(t >> WP_TARGET_STRENGTH_SHIFT & 0xff);
}
static inline int8_t wp_target_priority(uint32_t t) { return (int8_t)(uint8_t)(t >> WP_TARGET_PRIORITY_SHIFT); }
static inline bool wp_target_is_plain(uint32_t t) { return t >> WP_TARGET_STRENGTH_SHIFT == 0; }

// May a process in `seat` claim a task with this target? Light and strong are
// questions of manners, which the search answers; only force is law.
static inline bool wp_slot_may_claim(uint32_t target, uint32_t seat) {
    return wp_target_strength(target) != WP_STRENGTH_FORCE || wp_target_seat(target) == seat;
}

// Take a FREE slot for a new task.
//
// Caller:   the home, which owns the slot.
// Crash:    the slot is RESERVED with a dead home: recovery frees it.
// Returns:  the handle of this use.
static inline wp_handle wp_slot_reserve(struct wp_slot *slot, uint32_t index) {
    // relaxed: only the home writes a FREE slot.
    uint32_t generation = wp_state_generation(wp_load_relaxed(&slot->state)) + 1;
    // relaxed: nobody reads a slot's fields through RESERVED.
    wp_store_relaxed(&slot->state, wp_state(WP_PHASE_RESERVED, WP_OUTCOME_NONE, WP_NO_SEAT, 0, generation));
    return wp_handle_of(index, generation);
}

// Offer a filled slot to everyone.
//
// Caller:   the home.
// Crash:    before the store the slot is RESERVED, after it the task is accepted:
//           recovery finds it READY and makes it an orphan.
static inline void wp_slot_publish(struct wp_slot *slot, wp_handle handle) {
    // sync slot.ready (publish): whoever claims this generation reads the record
    // and the payload as they were written here.
    wp_store_release(&slot->state,
                     wp_state(WP_PHASE_READY, WP_OUTCOME_NONE, WP_NO_SEAT, 0, wp_handle_generation(handle)));
}

enum wp_claim {
    WP_CLAIM_OK,      // the task is the caller's, and only the caller's
    WP_CLAIM_STALE,   // not READY, or another generation: the hint is void
    WP_CLAIM_REFUSED, // READY, and bound to another seat
    WP_CLAIM_LOST,    // another process was quicker: it is not READY any more
};

// Claim the task for `seat`, if it is READY; any generation when `handle` is
// WP_NO_HANDLE (a bit of a task set), else that one alone.
//
// Caller:   any process.
// Progress: wait-free; one attempt.
// Crash:    before the CAS nothing happened; after it the slot is CLAIMED by a
//           dead seat, and recovery makes it READY again (user code was not entered).
static inline enum wp_claim wp_slot_claim(struct wp_slot *slot, wp_handle handle, uint32_t seat) {
    // sync slot.ready (observe): the fields read after this load are those of this
    // generation or of a later one; the CAS below rejects the later.
    uint64_t state = wp_load_acquire(&slot->state);
    if (wp_state_phase(state) != WP_PHASE_READY) return WP_CLAIM_STALE;
    if (handle != WP_NO_HANDLE && wp_state_generation(state) != wp_handle_generation(handle)) return WP_CLAIM_STALE;
    // relaxed: a later generation's target is possible here and harmless: then the CAS fails.
    if (!wp_slot_may_claim(wp_load_relaxed(&slot->target), seat)) return WP_CLAIM_REFUSED;
    uint32_t attempt = wp_state_attempt(state);
    if (attempt < WP_ATTEMPT_MAX) attempt++;
    uint64_t claimed = wp_state(WP_PHASE_CLAIMED, WP_OUTCOME_NONE, seat, attempt, wp_state_generation(state));
    // sync slot.ready (observe): on success the payload is that of the publisher.
    return wp_cas_acq_rel(&slot->state, &state, claimed) ? WP_CLAIM_OK : WP_CLAIM_LOST;
}

// Say that user code is about to be entered.
//
// Caller:   the owner, after the arguments are decoded.
// Crash:    before the store the task runs again, after it it died or is retried.
static inline void wp_slot_enter(struct wp_slot *slot) {
    // relaxed: while it is CLAIMED its owner alone writes it.
    uint64_t state = wp_load_relaxed(&slot->state);
    // sync slot.entered (publish): the recoverer, which reads this once the kernel
    // says that the process is gone, takes RUNNING for "may have been entered".
    wp_store_release(&slot->state, (state & ~WP_STATE_PHASE_MASK) | WP_PHASE_RUNNING);
}

// Settle a task whose outcome is written.
//
// Caller:   the owner; or the recoverer, for an owner that is dead.
// Crash:    before the store the task died; after it recovery adds the completion
//           bit that the owner could not.
static inline void wp_slot_finish(struct wp_slot *slot, enum wp_outcome outcome) {
    // relaxed: while it is CLAIMED or RUNNING its owner alone writes it.
    uint64_t state = wp_load_relaxed(&slot->state);
    // sync slot.done (publish): the home reads the result and the time stamps.
    wp_store_release(&slot->state, wp_state(WP_PHASE_DONE, outcome, wp_state_owner(state), wp_state_attempt(state),
                                            wp_state_generation(state)));
}

// Cancel a task that nobody has claimed.
//
// Caller:   the home.
// Crash:    the home is gone, and with it whoever could ask for the outcome.
// Returns:  true: it will never run, and the home settles it as CANCELLED.
static inline bool wp_slot_cancel(struct wp_slot *slot, wp_handle handle) {
    uint64_t ready = wp_load_relaxed(&slot->state); // relaxed: the CAS decides
    if (wp_state_phase(ready) != WP_PHASE_READY || wp_state_generation(ready) != wp_handle_generation(handle))
        return false;
    uint64_t done =
        wp_state(WP_PHASE_DONE, WP_OUTCOME_CANCELLED, WP_NO_SEAT, wp_state_attempt(ready), wp_state_generation(ready));
    // sync slot.done (publish): as in wp_slot_finish; here both sides are the home.
    return wp_cas_acq_rel(&slot->state, &ready, done);
}

// What is asked of a task that somebody has claimed: the low byte of `cancel`. C code of
// the task itself may read that byte: anything but 0, and it should end.
enum wp_cancel {
    WP_CANCEL_ASKED = 1,   // it may go on, if it does not look
    WP_CANCEL_FORCE = 2,   // its outcome is CANCELLED, whatever it does
    WP_CANCEL_TIME = 4,    // it has run longer than it may: its outcome is a time-out
    WP_CANCEL_KILL = 8,    // its process will be killed, and waits for that
    WP_CANCEL_ENDED = 128, // its owner has left it: nothing can be asked any more
};
#define WP_CANCEL_FLAGS UINT32_C(0xff)

// The cancel word of a use of which nothing was asked.
static inline uint32_t wp_cancel_word(wp_handle handle) { return wp_handle_generation(handle) << 8; }

// What was asked of the task in the slot.
static inline uint32_t wp_slot_asked(struct wp_slot *slot) {
    return wp_load_relaxed(&slot->cancel) & WP_CANCEL_FLAGS; // relaxed: a flag; no data comes with it
}

// Ask something of one use of the slot.
//
// Caller:   its home, or the parent.
// Progress: lock-free: who loses found another flag set.
// Returns:  false: that use is over, or its owner has left it. Never another use's flag.
static inline bool wp_slot_ask(struct wp_slot *slot, wp_handle handle, uint32_t flags) {
    uint32_t word = wp_load_relaxed(&slot->cancel); // relaxed: the CAS decides
    do {
        if ((word & ~WP_CANCEL_FLAGS) != wp_cancel_word(handle) || (word & WP_CANCEL_ENDED)) return false;
        if ((word & flags) == flags) return true;
        // sync slot.asked (publish): the flag and the end of the task have one order.
    } while (!wp_cas_acq_rel(&slot->cancel, &word, word | flags));
    return true;
}

// The owner leaves the task: from here on nothing can be asked of it.
//
// Returns:  what was asked. With WP_CANCEL_KILL its process must not go on.
static inline uint32_t wp_slot_end(struct wp_slot *slot) {
    // sync slot.asked (observe): a flag that was set before counts, a later one is refused.
    return wp_or_acq_rel(&slot->cancel, WP_CANCEL_ENDED) & WP_CANCEL_FLAGS;
}

// A task with a time limit is entered, and has its start_ns: its deadline is known now.
static inline void wp_slot_start_clock(struct wp_slot *slot) {
    // relaxed: written by its owner alone now; a look for the parent, which asks by CAS.
    int64_t deadline_ns = (int64_t)wp_load_relaxed(&slot->deadline_ns);
    if (deadline_ns < 0)
        wp_store_relaxed(&slot->deadline_ns, (uint64_t)(slot->start_ns - deadline_ns)); // relaxed: as above
}

// It will be entered again: its next attempt has all of the time.
//
// Caller:   the recoverer, in the place of the dead owner. An owner that died between entering
//           and starting the clock has left the limit as it was.
static inline void wp_slot_reset_clock(struct wp_slot *slot) {
    // relaxed: nobody else writes it; published by the slot's state. Unsigned: it may be scribbled on.
    uint64_t deadline_ns = wp_load_relaxed(&slot->deadline_ns);
    if ((int64_t)deadline_ns > 0)
        wp_store_relaxed(&slot->deadline_ns, (uint64_t)slot->start_ns - deadline_ns); // relaxed: as above
}

// Is this slot's current use over? The state is given back for its outcome and attempt.
//
// Caller:   the home, which alone frees it.
static inline bool wp_slot_is_done(struct wp_slot *slot, uint64_t *state) {
    // sync slot.done (observe): the result read next is the one published.
    *state = wp_load_acquire(&slot->state);
    return wp_state_phase(*state) == WP_PHASE_DONE;
}

// Give a harvested slot back to its home's free list.
//
// Caller:   the home, which has read all it wants of the slot.
// Crash:    a home in a dead worker: recovery frees DONE slots of dead homes' tasks
//           when the new incarnation harvests them.
static inline void wp_slot_free(struct wp_slot *slot) {
    // relaxed: a DONE slot is its home's.
    uint64_t state = wp_load_relaxed(&slot->state);
    // sync slot.free (publish): a recoverer that sees the slot free sees the lease
    // that took over its block.
    wp_store_release(&slot->state, wp_state(WP_PHASE_FREE, WP_OUTCOME_NONE, WP_NO_SEAT, 0, wp_state_generation(state)));
}

#endif
