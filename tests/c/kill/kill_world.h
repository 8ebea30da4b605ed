// kill_world.h — a pool of four seats in one segment, its photograph, and its audit.
//
//   seat 0  the parent, and the recoverer        in this process
//   seat 1  the victim                           a traced child; its next incarnation here
//   seat 2  the survivor                         in this process
//   seat 3  the other: a second traced child, or at rest
//
// A photograph keeps the whole segment and the private state of every view, so that
// each kill begins from the same bytes.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef KILL_WORLD_H
#define KILL_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>

#include "wp_pool.h"
#include "wp_usage.h"

#include "kill_trace.h"

enum { PARENT, VICTIM, SURVIVOR, OTHER, SEATS };

// 106 slots: two leaf words, so that a set's summary matters.
#define PARENT_SLOTS 70u
#define WORKER_SLOTS 12u
#define SLOTS (PARENT_SLOTS + (SEATS - 1) * WORKER_SLOTS)
#define SPANS UINT64_C(12)
#define IDS 1024u

// What a task carries, and what its result is: whoever reads one that was not wholly
// written finds it out.
struct note {
    uint64_t id;
    uint64_t check;
};
#define RESULT_OF(id) ((id) | UINT64_C(1) << 40)
static struct note note_of(uint64_t id) { return (struct note){id, ~(id * UINT64_C(0x9e3779b97f4a7c15))}; }

// In shared memory: how often user code was entered, and left, for each id.
struct ledger {
    uint32_t entered[IDS];
    uint32_t left[IDS];
};

// What must become of a slot, as it was when the victim died.
struct due {
    uint32_t generation;
    uint64_t id;    // 0: any
    bool owed;      // it had a task: exactly one outcome is due
    bool may_die;   // it was RUNNING in the victim's hands
    bool may_rerun; // and may be entered again
    bool settled;
    unsigned outcomes;
};

struct world {
    uint8_t *control, *memory;
    uint64_t bytes, memory_bytes;
    int fd;
    struct ledger *ledger;
    struct wp_view view[SEATS];
    uint64_t next_id;
    // What an operation is about; set by its preparation, inherited by the child.
    wp_handle handle;
    uint32_t index;
    wp_handle second_handle; // and what the second process's is about
    uint32_t second_index;
    uint64_t block[2];
    uint32_t lease;
    // In a child: what its operation left in its hands.
    uint32_t hand_index;
    wp_handle hand_handle;

    struct due due[SLOTS];
    uint8_t *photo, *photo_memory;
    struct ledger photo_ledger;
    struct wp_view photo_view[SEATS];
    uint32_t photo_ring[SEATS][PARENT_SLOTS];
    struct wp_place photo_places[SEATS][SEATS]; // with the positions in the lanes
    uint64_t photo_next_id;
};

// ---- failing

static jmp_buf audit_failed;
static char audit_message[512];

static __attribute__((format(printf, 1, 2), noreturn)) void audit_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(audit_message, sizeof audit_message, format, args);
    va_end(args);
    longjmp(audit_failed, 1);
}
#define AUDIT(cond, ...)                                                                                               \
    do {                                                                                                               \
        if (!(cond)) audit_fail(__VA_ARGS__);                                                                          \
    } while (0)

// ---- making and photographing a world

static void *world_map(uint64_t bytes, int fd) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    if (at == MAP_FAILED) trace_die("mmap");
    return at;
}

static void world_sit(struct world *w, uint32_t seat) {
    if (w->view[seat].places != NULL) wp_view_close(&w->view[seat]);
    AUDIT(wp_view_open(&w->view[seat], w->control, w->bytes, w->memory, w->memory_bytes, w->fd, seat) == WP_SEGMENT_OK,
          "seat %u cannot be opened", seat);
    wp_home_begin(&w->view[seat]);
}

static void world_make(struct world *w) {
    struct wp_shape shape = {SEATS, PARENT_SLOTS, WORKER_SLOTS, SPANS * WP_SPAN_BYTES};
    memset(w, 0, sizeof *w);
    w->bytes = wp_view_bytes(&shape);
    w->memory_bytes = wp_arena_memory_bytes(shape.arena_bytes);
    w->fd = memfd_create("kill", MFD_CLOEXEC);
    if (w->fd < 0 || ftruncate(w->fd, (off_t)w->memory_bytes) != 0) trace_die("memfd");
    w->control = world_map(w->bytes, -1);
    w->memory = world_map(w->memory_bytes, w->fd);
    w->ledger = world_map(sizeof *w->ledger, -1);
    w->photo = malloc(w->bytes);
    w->photo_memory = malloc(w->memory_bytes);
    if (w->photo == NULL || w->photo_memory == NULL) trace_die("malloc");
}

// Zero everything and sit down everywhere.
static void world_reset(struct world *w) {
    struct wp_shape shape = {SEATS, PARENT_SLOTS, WORKER_SLOTS, SPANS * WP_SPAN_BYTES};
    memset(w->control, 0, w->bytes);
    memset(w->memory, 0, w->memory_bytes);
    memset(w->ledger, 0, sizeof *w->ledger);
    wp_view_format(w->control, &shape, 2, false);
    w->next_id = 1;
    w->hand_index = WP_NO_INDEX;
    w->hand_handle = WP_NO_HANDLE;
    for (uint32_t s = 0; s < SEATS; s++) {
        world_sit(w, s);
        if (s == PARENT) continue;
        wp_seat_next_incarnation(&w->view[PARENT], s);
        wp_seat_take(&w->view[PARENT], s, 1000 + s);
    }
}

static void world_photograph(struct world *w) {
    memcpy(w->photo, w->control, w->bytes);
    memcpy(w->photo_memory, w->memory, w->memory_bytes);
    w->photo_ledger = *w->ledger;
    w->photo_next_id = w->next_id;
    for (uint32_t s = 0; s < SEATS; s++) {
        w->photo_view[s] = w->view[s];
        memcpy(w->photo_places[s], w->view[s].places, sizeof w->photo_places[s]);
        memcpy(w->photo_ring[s], w->view[s].free_ring, w->view[s].places[s].slots * sizeof(uint32_t));
    }
}

static void world_restore(struct world *w) {
    memcpy(w->control, w->photo, w->bytes);
    memcpy(w->memory, w->photo_memory, w->memory_bytes);
    *w->ledger = w->photo_ledger;
    w->next_id = w->photo_next_id;
    for (uint32_t s = 0; s < SEATS; s++) {
        struct wp_place *places = w->view[s].places; // the victim's was opened anew
        uint32_t *ring = w->view[s].free_ring;
        w->view[s] = w->photo_view[s];
        w->view[s].places = places;
        w->view[s].free_ring = ring;
        memcpy(places, w->photo_places[s], sizeof w->photo_places[s]);
        memcpy(ring, w->photo_ring[s], places[s].slots * sizeof(uint32_t));
    }
}

// ---- tasks

static inline void *task_bytes(struct wp_view *v, struct wp_slot *slot, struct wp_payload *where) {
    uint64_t block = wp_payload_block(where);
    return block != 0 ? wp_arena_at(&v->arena, block, where->bytes) : slot->bytes;
}

// Reserve and fill a slot; large payloads go through the arena.
static inline wp_handle task_fill(struct wp_view *v, uint64_t id, uint32_t target, bool large, uint8_t limit) {
    wp_handle handle = wp_home_reserve(v);
    if (handle == WP_NO_HANDLE) return handle;
    struct wp_slot *slot = &v->slots[wp_handle_index(handle)];
    slot->argument.bytes = sizeof(struct note);
    slot->attempt_limit = limit;
    wp_store_relaxed(&slot->target, target);
    if (large) {
        uint64_t offset = 0;
        if (wp_arena_alloc(&v->arena, 3000, &offset) != WP_ALLOC_OK) return WP_NO_HANDLE;
        wp_payload_set(&slot->argument, offset, sizeof(struct note));
    }
    struct note note = note_of(id);
    memcpy(task_bytes(v, slot, &slot->argument), &note, sizeof note);
    return handle;
}
static inline uint32_t target_none(void) { return wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, 0); }

// Claimed here: run it to its end. Large tasks answer out of line.
static inline void task_write(struct wp_view *v, uint32_t index, uint64_t id, bool large) {
    struct wp_slot *slot = &v->slots[index];
    struct note result = note_of(RESULT_OF(id));
    uint64_t offset = 0;
    if (large) (void)wp_arena_alloc(&v->arena, 2000, &offset); // without one it goes inline
    wp_payload_set(&slot->result, offset, sizeof result);
    memcpy(task_bytes(v, slot, &slot->result), &result, sizeof result);
}
// The same by a parcel, which hands over a block beside itself; the note is behind the names.
#define SHARED_ID(id) ((uint64_t)(id) << 8 | WP_SHARED_TAG)
static inline void task_write_parcel(struct wp_view *v, uint32_t index, uint64_t id) {
    struct note result = note_of(RESULT_OF(id));
    uint64_t named = 0, offset = 0;
    if (wp_arena_alloc(&v->arena, 5000, &named) != WP_ALLOC_OK) return;
    if (wp_arena_alloc(&v->arena, 2000, &offset) != WP_ALLOC_OK) return;
    wp_store_relaxed(wp_block_identity(&v->arena.spans, named), SHARED_ID(id));
    struct wp_parcel *parcel = wp_arena_at(&v->arena, offset, 2000);
    wp_atomic64 *name = (wp_atomic64 *)(parcel + 1);
    parcel->stream_bytes = sizeof result;
    parcel->names = 1;
    wp_store_relaxed(name, named);
    memcpy(name + 1, &result, sizeof result);
    wp_store_relaxed(&parcel->id, (uint64_t)id << 8 | WP_PARCEL_TAG);
    wp_payload_set(&v->slots[index].result, offset, sizeof *parcel + sizeof *name + sizeof result);
}
static inline void *task_result(struct wp_view *v, struct wp_slot *slot) {
    wp_atomic64 *names = NULL;
    uint32_t count = wp_parcel_names(&v->arena.spans, wp_payload_block(&slot->result), &names);
    return count != 0 ? names + count : task_bytes(v, slot, &slot->result);
}
static inline uint64_t task_run(struct wp_view *v, struct ledger *ledger, uint32_t index) {
    struct wp_slot *slot = &v->slots[index];
    struct note note = {0, 0};
    void *at = task_bytes(v, slot, &slot->argument);
    if (at != NULL) memcpy(&note, at, sizeof note);
    if (note.check != note_of(note.id).check || note.id >= IDS) return UINT64_MAX;
    wp_slot_enter(slot);
    ledger->entered[note.id]++;
    ledger->left[note.id]++;
    task_write(v, index, note.id, wp_payload_block(&slot->argument) != 0 || slot->attempt_limit > 1);
    wp_finish(v, index, WP_OUTCOME_OK);
    return note.id;
}

// A task of `home`, submitted in the ordinary way.
static wp_handle world_submit(struct world *w, uint32_t home, uint32_t target, bool large, uint8_t limit) {
    wp_handle handle = task_fill(&w->view[home], w->next_id++, target, large, limit);
    AUDIT(handle != WP_NO_HANDLE, "the preparation found no room");
    wp_home_submit(&w->view[home], handle);
    return handle;
}

// ---- what is due

static uint64_t slot_id(struct world *w, uint32_t index) {
    struct wp_slot *slot = &w->view[PARENT].slots[index];
    struct note note;
    void *at = task_bytes(&w->view[PARENT], slot, &slot->argument);
    AUDIT(at != NULL, "slot %u: its argument's block is gone", index);
    memcpy(&note, at, sizeof note);
    AUDIT(note.check == note_of(note.id).check && note.id < IDS, "slot %u: its argument is not whole", index);
    return note.id;
}

// Note every slot as it is at the victim's death. `dead` is WP_NO_SEAT when nobody died.
static void world_note(struct world *w, uint32_t dead) {
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct wp_slot *slot = &w->view[PARENT].slots[i];
        uint64_t state = wp_load_acquire(&slot->state);
        enum wp_phase phase = wp_state_phase(state);
        struct due *due = &w->due[i];
        bool running = phase == WP_PHASE_RUNNING && wp_state_owner(state) == dead;
        *due = (struct due){.generation = wp_state_generation(state)};
        due->owed = phase != WP_PHASE_FREE && phase != WP_PHASE_RESERVED;
        due->settled = phase == WP_PHASE_DONE;
        due->may_rerun = running && wp_state_attempt(state) < slot->attempt_limit;
        due->may_die = running && !due->may_rerun;
        // A task in the middle of its body may have written its result over its argument.
        if (phase == WP_PHASE_READY || phase == WP_PHASE_CLAIMED || due->may_rerun) due->id = slot_id(w, i);
    }
}

// Note them again, after the victim went on: what was settled meanwhile stays settled.
static void world_note_again(struct world *w, uint32_t dead) {
    struct due before[SLOTS];
    memcpy(before, w->due, sizeof before);
    world_note(w, dead);
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (!before[i].owed || w->due[i].owed) continue;
        AUDIT(before[i].outcomes == 1 || wp_view_home(&w->view[PARENT], i) == VICTIM, "slot %u was lost meanwhile", i);
        if (before[i].outcomes == 1) w->due[i] = before[i];
    }
}

// An outcome came home.
static void world_outcome(struct world *w, struct wp_view *home, uint32_t index, uint64_t state) {
    struct due *due = &w->due[index];
    struct wp_slot *slot = &home->slots[index];
    if (!due->owed || due->generation != wp_state_generation(state)) return; // a task of the new incarnation
    AUDIT(++due->outcomes == 1, "slot %u: a second outcome", index);
    enum wp_outcome outcome = wp_state_outcome(state);
    if (due->settled && outcome == WP_OUTCOME_CANCELLED) return;
    if (due->may_die && outcome == WP_OUTCOME_DIED) {
        struct wp_death death;
        memcpy(&death, slot->bytes, sizeof death);
        AUDIT(death.seat == VICTIM && death.entered == 1 && death.status == -9, "slot %u: another's death", index);
        return;
    }
    AUDIT(outcome == WP_OUTCOME_OK && !due->may_die, "slot %u: outcome %d", index, outcome);
    // A dead home had read it: it may have been about to free the slot.
    if (due->settled && home->self == VICTIM) return;
    struct note note = {0, 0};
    void *at = task_result(home, slot);
    AUDIT(at != NULL, "slot %u: its result's block is gone", index);
    memcpy(&note, at, sizeof note);
    AUDIT(note.check == note_of(note.id).check && note.id >> 40 == 1, "slot %u: its result is not whole", index);
    uint64_t id = note.id & 0xffffffff;
    AUDIT(due->id == 0 || due->id == id, "slot %u: another task's result", index);
    AUDIT(w->ledger->left[id] == 1 || due->may_rerun, "task %u was left %u times", (unsigned)id, w->ledger->left[id]);
    AUDIT(w->ledger->entered[id] <= (due->may_rerun ? 2u : 1u), "task %u was entered %u times", (unsigned)id,
          w->ledger->entered[id]);
}

static unsigned world_harvest(struct world *w, uint32_t seat) {
    struct wp_view *v = &w->view[seat];
    unsigned harvested = 0;
    uint32_t first = 0;
    for (uint64_t bits; (bits = wp_home_take(v, &first)) != 0;)
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
            uint64_t state;
            AUDIT(index < v->places[seat].first_slot + v->places[seat].slots, "seat %u: a completion of no slot", seat);
            if (!wp_slot_is_done(&v->slots[index], &state)) continue;
            world_outcome(w, v, index, state);
            wp_home_drop_names(v, &v->slots[index]);
            wp_home_release(v, wp_handle_of(index, wp_state_generation(state)));
            harvested++;
        }
    return harvested;
}

// Search and run until nothing is found. Returns how many tasks were run.
static unsigned world_drain(struct world *w, uint32_t seat) {
    unsigned ran = 0, nothing = 0;
    for (unsigned rounds = 0; nothing < 2; rounds++) {
        AUDIT(rounds < 1000, "seat %u: the search does not end", seat);
        uint32_t index;
        enum wp_find found = wp_search_round(&w->view[seat], &index);
        nothing = found == WP_FIND_NOTHING ? nothing + 1 : 0;
        if (found != WP_FIND_OK) continue;
        AUDIT(task_run(&w->view[seat], w->ledger, index) != UINT64_MAX,
              "slot %u: claimed, and its argument is not whole", index);
        ran++;
    }
    return ran;
}

#endif
