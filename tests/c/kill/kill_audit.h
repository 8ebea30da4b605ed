// kill_audit.h — what recovery promises, and that the pool goes on.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef KILL_AUDIT_H
#define KILL_AUDIT_H

#include "kill_world.h"

static bool set_has(const struct wp_taskset *s, uint32_t index) {
    uint32_t leaf = index / 64;
    return wp_load_relaxed(&s->leaves[leaf]) >> index % 64 & 1 &&
           wp_load_relaxed(&s->summary[leaf / 64]) >> leaf % 64 & 1;
}

// Has this READY slot a hint where everyone, or its target, looks?
static bool is_hinted(struct world *w, uint32_t index) {
    struct wp_view *v = &w->view[PARENT];
    uint32_t target = wp_load_relaxed(&v->slots[index].target);
    enum wp_strength strength = wp_target_strength(target);
    int level = wp_target_priority(target) - WP_PRIORITY_MIN;
    if (strength <= WP_STRENGTH_LIGHT && wp_target_priority(target) != 0)
        return set_has(&v->level[level], index) && wp_load_relaxed(&v->idle->levels) >> level & 1;
    if (strength == WP_STRENGTH_NONE) return set_has(&v->orphans, index);
    return set_has(&v->places[wp_target_seat(target)].mailbox[wp_mailbox_of(strength)], index);
}

static bool is_named(struct world *w, uint64_t offset) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct wp_slot *slot = &w->view[PARENT].slots[i];
        if (wp_state_phase(wp_load_relaxed(&slot->state)) == WP_PHASE_FREE) continue;
        if (wp_payload_block(&slot->argument) == offset || wp_payload_block(&slot->result) == offset) return true;
        if (wp_state_phase(wp_load_relaxed(&slot->state)) != WP_PHASE_DONE) continue;
        wp_atomic64 *names = NULL;
        uint32_t count = wp_parcel_names(&w->view[PARENT].arena.spans, wp_payload_block(&slot->result), &names);
        for (uint32_t n = 0; n < count; n++)
            if (wp_load_relaxed(&names[n]) == offset) return true;
    }
    uint32_t index = 0;
    for (uint64_t lease; (lease = wp_lease_next(&w->view[PARENT].arena.leases, &index, WP_NO_SEAT)) != 0;)
        if (wp_lease_offset(lease) == offset) return true;
    return false;
}

// The arena after the recovery of `dead`: its spans hold named blocks and nothing else,
// nothing is half-way, and every block that a slot names is there.
static void audit_arena(struct world *w, uint32_t dead) {
    struct wp_spans *spans = &w->view[PARENT].arena.spans;
    for (uint32_t i = 1; i < spans->count; i++) {
        uint64_t word = wp_load_relaxed(&spans->word[i]);
        enum wp_span_kind kind = wp_span_kind(word);
        if (kind == WP_SPAN_FREE || wp_span_owner(word) != dead) continue;
        AUDIT(word & WP_SPAN_COMMITTED, "span %u: in use and not committed", i);
        AUDIT(kind == WP_SPAN_SMALL || kind == WP_SPAN_HEAD || kind == WP_SPAN_TAIL, "span %u: half-way (%d)", i, kind);
        if (kind == WP_SPAN_HEAD) AUDIT(is_named(w, i * WP_SPAN_BYTES), "span %u: a run that nobody names", i);
        if (kind == WP_SPAN_TAIL) AUDIT(wp_reclaim_headed(spans, i, word), "span %u: a tail without its head", i);
        if (kind != WP_SPAN_SMALL) continue;
        for (uint32_t used = wp_span_used(word); used != 0; used &= used - 1) {
            uint64_t bytes = wp_span_classes[wp_span_class(word)].bytes;
            uint64_t offset = i * WP_SPAN_BYTES + (uint32_t)__builtin_ctz(used) * bytes;
            AUDIT(is_named(w, offset), "span %u: block %llx is used and nobody names it", i,
                  (unsigned long long)offset);
        }
    }
    for (uint32_t i = wp_lease_first(dead); i < wp_lease_first(dead + 1); i++)
        AUDIT(wp_load_relaxed(&w->view[PARENT].arena.leases.lease[i]) == 0, "lease %u is the dead seat's", i);
    AUDIT(wp_lease_count(&w->view[PARENT].arena.leases, dead) == 0, "a lease of the dead seat is held");
}

// What wp_recover promises, the moment it returns.
static void audit_recovered(struct world *w, uint32_t dead) {
    struct wp_view *v = &w->view[PARENT];
    struct wp_place *place = &v->places[dead];
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint64_t state = wp_load_acquire(&v->slots[i].state);
        enum wp_phase phase = wp_state_phase(state);
        uint32_t home = wp_view_home(v, i);
        AUDIT(phase <= WP_PHASE_DONE, "slot %u: phase %d", i, phase);
        if (phase == WP_PHASE_CLAIMED || phase == WP_PHASE_RUNNING)
            AUDIT(wp_state_owner(state) != dead, "slot %u is in the dead seat's hands", i);
        AUDIT(phase != WP_PHASE_RESERVED || home != dead, "slot %u stays reserved", i);
        AUDIT(phase != WP_PHASE_READY || is_hinted(w, i), "slot %u is READY and has no hint", i);
        if (phase == WP_PHASE_DONE)
            AUDIT(set_has(&v->places[home].completions, i - v->places[home].first_slot),
                  "slot %u is DONE and its home is not told", i);
        struct due *due = &w->due[i];
        if (due->owed && due->outcomes == 0)
            AUDIT(phase != WP_PHASE_FREE && due->generation == wp_state_generation(state), "slot %u is lost", i);
        if (!due->owed && dead == VICTIM)
            AUDIT(phase == WP_PHASE_FREE || home != dead, "slot %u: a task from nowhere", i);
    }
    AUDIT(wp_deque_size(&place->deque) == 0, "the dead seat's deque holds %d", (int)wp_deque_size(&place->deque));
    AUDIT(!wp_idle_has(v->idle->idle, dead), "the dead seat is idle");
    AUDIT(!wp_idle_has(v->idle->searching, dead), "the dead seat searches");
    AUDIT(!wp_idle_has(v->idle->watcher, dead), "the dead seat is the watcher");
    AUDIT(!(wp_load_relaxed(&place->seat->parker) & WP_PARKER_ARMED), "the dead seat is armed");
    AUDIT(!wp_life_is_taken(wp_load_relaxed(&place->seat->life)), "the dead seat is taken");
    for (uint32_t s = 0; s < SEATS; s++)
        AUDIT(wp_load_relaxed(&v->places[s].seat->parker) & WP_PARKER_TOKEN, "seat %u was not woken", s);
    audit_arena(w, dead);
}

// Each slot of a home is in its ring once, or in use.
static void audit_home(struct world *w, uint32_t seat) {
    struct wp_view *v = &w->view[seat];
    struct wp_place *place = &v->places[seat];
    unsigned in_ring[SLOTS] = {0};
    AUDIT(wp_home_free_slots(v) <= place->slots, "seat %u: its ring holds more than its slots", seat);
    for (uint64_t i = v->free_head; i != v->free_tail; i++) in_ring[v->free_ring[i % place->slots]]++;
    for (uint32_t i = place->first_slot; i < place->first_slot + place->slots; i++) {
        bool is_free = wp_state_phase(wp_load_relaxed(&v->slots[i].state)) == WP_PHASE_FREE;
        AUDIT(in_ring[i] == (is_free ? 1u : 0u), "slot %u: %s, and %u times in the ring", i,
              is_free ? "free" : "in use", in_ring[i]);
    }
}

// The survivor and the homes go on until nothing is left that they may do.
static void world_go_on(struct world *w, uint32_t a, uint32_t b) {
    for (unsigned did = 1; did != 0;) {
        did = world_drain(w, a) + world_harvest(w, PARENT) + world_harvest(w, a);
        if (b != a) did += world_drain(w, b) + world_harvest(w, b);
    }
}

// The seat's new process: it collects, submits, takes, runs.
static void world_reincarnate(struct world *w, uint32_t seat) {
    wp_seat_next_incarnation(&w->view[PARENT], seat);
    world_sit(w, seat);
    wp_seat_take(&w->view[PARENT], seat, 2000);
    world_harvest(w, seat);
    audit_home(w, seat);
    struct wp_view *v = &w->view[seat];
    wp_handle handle[3];
    for (unsigned i = 0; i < 3; i++) {
        handle[i] = task_fill(v, w->next_id++, target_none(), i == 0, 1);
        if (handle[i] == WP_NO_HANDLE) continue; // its slots are in use elsewhere
        wp_home_submit(v, handle[i]);
        struct due *due = &w->due[wp_handle_index(handle[i])];
        AUDIT(!due->owed || due->outcomes == 1, "a slot is given out again before its outcome came");
        *due = (struct due){.generation = due->generation};
    }
    wp_handle popped;
    if (handle[2] != WP_NO_HANDLE)
        AUDIT(wp_deque_pop(&v->places[seat].deque, &popped) && popped == handle[2],
              "the new incarnation pops another's");
    if (handle[2] != WP_NO_HANDLE) AUDIT(wp_deque_push(&v->places[seat].deque, popped), "the new deque is full");
}

// At the end nothing is left anywhere, and everything came once.
static void audit_end(struct world *w) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        uint64_t state = wp_load_acquire(&w->view[PARENT].slots[i].state);
        AUDIT(wp_state_phase(state) == WP_PHASE_FREE, "slot %u ends in phase %d, owner %u", i, wp_state_phase(state),
              wp_state_owner(state));
        AUDIT(w->due[i].outcomes == (w->due[i].owed ? 1u : 0u), "slot %u: %u outcomes", i, w->due[i].outcomes);
    }
    for (uint32_t s = 0; s < SEATS; s++) {
        audit_home(w, s);
        wp_lease_purge(&w->view[s].arena.leases);
        wp_arena_flush(&w->view[s].arena);
    }
    for (uint32_t s = 0; s < SEATS; s++) wp_arena_sweep(&w->view[s].arena, 1, UINT32_MAX, true);
    struct wp_usage usage;
    struct wp_usage_seat seats[SEATS];
    wp_usage_read(&w->view[PARENT].arena.spans, &w->view[PARENT].arena.leases, &usage, seats);
    AUDIT(usage.used_bytes == 0 && usage.doomed_bytes == 0, "the arena ends with %llu bytes in use",
          (unsigned long long)usage.used_bytes);
    for (uint32_t s = 0; s < SEATS; s++)
        AUDIT(seats[s].held_bytes == 0 && seats[s].leases == 0, "seat %u ends with %llu bytes held, %llu leases", s,
              (unsigned long long)seats[s].held_bytes, (unsigned long long)seats[s].leases);
}

// Read a lane to its end, as the parent does for the dead: every message is whole, and
// they come in the order in which they were sent.
static void read_out(struct world *w, struct wp_lane *lane) {
    struct wp_view *v = &w->view[PARENT];
    struct wp_message m;
    uint64_t last = 0;
    while (wp_message_look(v, lane, &m) != WP_MESSAGE_NONE) {
        struct note note;
        AUDIT(m.kind == WP_MESSAGE_BODY || m.kind == WP_MESSAGE_BLOCK, "a message of kind %d", m.kind);
        AUDIT(m.size == sizeof note, "a message of %llu bytes", (unsigned long long)m.size);
        memcpy(&note, m.bytes, sizeof note);
        AUDIT(note.check == note_of(note.id).check && note.id > last, "a message is not whole");
        last = note.id;
        wp_message_done(v, lane, &m);
    }
}

// A process of `seat` is gone: recover it, and look at what is promised.
static void world_recover(struct world *w, uint32_t seat, int32_t status) {
    read_out(w, wp_message_inherit(&w->view[PARENT], seat));
    read_out(w, &w->view[PARENT].places[seat].to_parent);
    wp_recover(&w->view[PARENT], seat, 1000 + (int32_t)seat, status);
    audit_recovered(w, seat);
}

#endif
