// wp_recover.h — make the pool whole after a worker's proven death.
//
// Layer 5. Source: this project; case by case in docs/recovery.md, modelled in
// tests/model/recover.pml.
//
// One recoverer: the parent, once the kernel says that the process is gone. The
// others go on meanwhile. Everything it reads may be scribbled on: no index is
// believed, every loop is bounded.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_RECOVER_H
#define WP_RECOVER_H

#include "wp_parcel.h"
#include "wp_reclaim.h"
#include "wp_wake.h"

struct wp_recovered {
    uint32_t again;     // tasks that will run again
    uint32_t died;      // tasks settled as died
    uint32_t cancelled; // tasks that were to be cancelled anyway
    uint32_t freed;     // slots it had reserved and not offered
};

static inline void wp_recover_settle(struct wp_view *view, uint32_t index, enum wp_outcome outcome,
                                     const struct wp_death *death) {
    struct wp_slot *slot = &view->slots[index];
    wp_payload_set(&slot->result, 0, sizeof *death);
    memcpy(slot->bytes, death, sizeof *death);
    wp_slot_finish(slot, outcome);
}

static inline void wp_recover_again(struct wp_view *view, uint32_t index, uint64_t state) {
    struct wp_slot *slot = &view->slots[index];
    // A result block that it had begun belongs to nobody now: the sweep frees it.
    wp_payload_set(&slot->result, 0, 0);
    wp_slot_reset_clock(slot);
    // sync slot.asked (publish): its owner had left it; the next may be asked again.
    wp_and_acq_rel(&slot->cancel, ~(uint32_t)WP_CANCEL_ENDED);
    // sync slot.ready (publish): as its home published it first.
    wp_store_release(&slot->state, wp_state(WP_PHASE_READY, WP_OUTCOME_NONE, WP_NO_SEAT, wp_state_attempt(state),
                                            wp_state_generation(state)));
}

// The hint of a slot that is DONE, for a finisher or a home that died with it.
static inline void wp_recover_completion(struct wp_view *view, uint32_t index) {
    struct wp_place *home = &view->places[wp_view_home(view, index)];
    wp_taskset_add(&home->completions, index - home->first_slot);
}

// One slot, for dead seat `seat`. Slots of living seats are only given new hints.
static inline void wp_recover_slot(struct wp_view *view, uint32_t index, uint32_t seat, struct wp_death *death,
                                   struct wp_recovered *out) {
    struct wp_slot *slot = &view->slots[index];
    // sync slot.entered (observe): the kernel's word of the death came before.
    uint64_t state = wp_load_acquire(&slot->state);
    enum wp_phase phase = wp_state_phase(state);
    bool owned = wp_state_owner(state) == seat;
    if (phase == WP_PHASE_RESERVED && wp_view_home(view, index) == seat) {
        wp_payload_set(&slot->argument, 0, 0);
        wp_payload_set(&slot->result, 0, 0);
        wp_slot_free(slot);
        out->freed++;
    } else if ((phase == WP_PHASE_CLAIMED || phase == WP_PHASE_RUNNING) && owned) {
        bool entered = phase == WP_PHASE_RUNNING;
        // Read here: a slot that is not the dead seat's may be written by its home.
        uint32_t attempt = wp_state_attempt(state), limit = slot->attempt_limit, decoded = limit + WP_DECODE_DEATHS;
        if (decoded > WP_ATTEMPT_MAX) decoded = WP_ATTEMPT_MAX; // where the count of attempts stops
        uint32_t asked = wp_slot_asked(slot);
        if (asked & (WP_CANCEL_ASKED | WP_CANCEL_FORCE)) {
            wp_recover_settle(view, index, WP_OUTCOME_CANCELLED, death);
            out->cancelled++;
        } else if (asked & WP_CANCEL_TIME) {
            wp_recover_settle(view, index, WP_OUTCOME_TIMEOUT, death);
            out->died++;
        } else if (attempt < (entered ? limit : decoded)) {
            wp_recover_again(view, index, state);
            out->again++;
        } else {
            death->entered = entered;
            wp_recover_settle(view, index, WP_OUTCOME_DIED, death);
            out->died++;
        }
    }
    // sync slot.ready (observe): the target read below is this use's, or the hint is stale.
    state = wp_load_acquire(&slot->state);
    if (wp_state_phase(state) == WP_PHASE_READY)
        wp_place_hint(view, index, wp_load_relaxed(&slot->target)); // relaxed: ordered by the state
    else if (wp_state_phase(state) == WP_PHASE_DONE)
        wp_recover_completion(view, index);
}

// Cancel what a fallen task had submitted: only the dead process could have waited for
// it. Children of tasks that ended before go on: nobody was to wait for those.
//
// Caller:   the recoverer, in the place of the dead home. `fallen` has the generation
//           of each slot whose task was in the dead seat's hands, else 0.
static inline void wp_recover_child(struct wp_view *view, uint32_t index, const uint32_t *fallen,
                                    struct wp_recovered *out) {
    struct wp_slot *slot = &view->slots[index];
    // sync slot.ready (observe): the parent read below is this use's, or the CAS fails.
    uint64_t state = wp_load_acquire(&slot->state);
    enum wp_phase phase = wp_state_phase(state);
    if (phase != WP_PHASE_READY && phase != WP_PHASE_CLAIMED && phase != WP_PHASE_RUNNING) return;
    wp_handle parent = wp_load_relaxed(&slot->parent); // relaxed: ordered by the state
    uint32_t above = wp_handle_index(parent);
    if (parent == WP_NO_HANDLE || above >= view->slot_count) return;
    if (fallen[above] == 0 || fallen[above] != wp_handle_generation(parent)) return;
    wp_handle handle = wp_handle_of(index, wp_state_generation(state));
    wp_slot_ask(slot, handle, WP_CANCEL_ASKED);
    if (phase == WP_PHASE_READY && wp_slot_cancel(slot, handle)) {
        wp_recover_completion(view, index);
        out->cancelled++;
    }
}

// Keep a slot's result, and what it hands over once it is DONE: before, those blocks are in their
// worker's hands; when its home has taken them, in its leases, which are read later.
static inline void wp_recover_keep_result(struct wp_view *view, struct wp_reclaim *reclaim, struct wp_slot *slot,
                                          enum wp_phase phase) {
    // sync slot.names (observe): a block just taken away is in a lease, or in a living seat's span.
    uint64_t parcel = wp_load_acquire(&slot->result.block);
    wp_reclaim_keep(reclaim, parcel);
    wp_atomic64 *names = NULL;
    uint32_t count = phase == WP_PHASE_DONE ? wp_parcel_names(&view->arena.spans, parcel, &names) : 0;
    for (uint32_t i = 0; i < count; i++)
        // sync slot.names (observe): as above.
        wp_reclaim_keep(reclaim, wp_load_acquire(&names[i]));
    // The home may have let go of the parcel before it was read: what was found there is then
    // nonsense, and this, which reads the newest value and changes nothing, sees the leases.
    if (phase == WP_PHASE_DONE && parcel != 0) wp_or_acq_rel(&slot->result.block, 0); // sync slot.names (observe)
}

// Wake everybody: a wake-up may have died with its sender after the token was left.
static inline void wp_wake_all(struct wp_view *view) {
    for (uint32_t seat = 0; seat < view->seats; seat++) {
        struct wp_place *place = &view->places[seat];
        // sync parker.token (publish): the woken seat sees what recovery restored.
        wp_swap_acq_rel(&place->seat->parker, WP_PARKER_TOKEN);
        if (!view->polls) wp_os_wake(&place->seat->parker);
        if (place->eventfd >= 0) wp_os_eventfd_signal(place->eventfd);
    }
}

// Recover `seat`, whose process is gone; afterwards the seat may be given away.
//
// Caller:   the parent, one thread at a time; it has read out the seat's lanes
//           (wp_message_inherit), and none of its threads uses them meanwhile.
// Progress: bounded by the number of slots and of the seat's blocks.
static inline struct wp_recovered wp_recover(struct wp_view *view, uint32_t seat, int32_t pid, int32_t status) {
    struct wp_recovered out = {0, 0, 0, 0};
    struct wp_death death = {.pid = pid, .status = status, .seat = seat, .entered = 0};
    struct wp_place *place = &view->places[seat];
    // relaxed: only the parent writes it; ordered for others by the wake.
    uint64_t life = wp_load_relaxed(&place->seat->life);
    // relaxed: as above.
    wp_store_relaxed(&place->seat->life, wp_life_of(0, wp_life_incarnation(life), WP_LIFE_EMPTY));
    wp_idle_clear(view->idle->idle, seat);
    wp_idle_clear(view->idle->searching, seat);
    wp_idle_clear(view->idle->watcher, seat);
    // relaxed: the process is gone; its successor writes it.
    wp_store_relaxed(&place->seat->current, WP_NO_HANDLE);
    // sync parker.armed (publish): nobody sleeps there.
    wp_and_acq_rel(&place->seat->parker, 0);
    wp_deque_discard(&place->deque);
    wp_lane_discard(&place->to_seat);
    wp_lane_discard(&place->to_parent);
    wp_idle_clear(view->mail->posted, seat);

    uint32_t *fallen = calloc(view->slot_count, sizeof *fallen);
    for (uint32_t i = 0; i < view->slot_count; i++) {
        // relaxed: a task in the dead seat's hands has no other writer.
        uint64_t state = wp_load_relaxed(&view->slots[i].state);
        enum wp_phase phase = wp_state_phase(state);
        if (fallen != NULL && (phase == WP_PHASE_CLAIMED || phase == WP_PHASE_RUNNING) && wp_state_owner(state) == seat)
            fallen[i] = wp_state_generation(state);
        wp_recover_slot(view, i, seat, &death, &out);
    }
    if (fallen != NULL) // without memory for the list they run for nobody: that harms nobody
        for (uint32_t i = place->first_slot; i < place->first_slot + place->slots; i++)
            wp_recover_child(view, i, fallen, &out);
    free(fallen);

    struct wp_reclaim reclaim;
    if (wp_reclaim_begin(&reclaim, &view->arena.spans, &view->arena.leases, seat)) {
        for (uint32_t i = 0; i < view->slot_count; i++) {
            struct wp_slot *slot = &view->slots[i];
            // sync slot.free (observe): a free slot's block, if its home still ends its
            // life, is named by a lease; leases are read after this.
            uint64_t state = wp_load_acquire(&slot->state);
            if (wp_state_phase(state) == WP_PHASE_FREE) continue;
            // sync slot.names (observe): a name just taken away is in a lease, or its block
            // is in a living seat's span; so is one not there yet. Both.
            wp_reclaim_keep(&reclaim, wp_load_acquire(&slot->argument.block));
            wp_reclaim_keep(&reclaim, wp_load_acquire(&slot->function));
            wp_recover_keep_result(view, &reclaim, slot, wp_state_phase(state));
        }
        wp_reclaim_end(&reclaim);
    }
    wp_wake_all(view);
    return out;
}

#endif
