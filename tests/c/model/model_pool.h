// model_pool.h — a tiny pool for the explorer: the real segment, a view for each actor.
//
// The headers of csrc as they are, but for three things. Memory from malloc would outlive
// an execution. The heuristic that asks whether a CPU is left over for spinning says
// "no": spinning is only looking more often, and its loads would multiply the states. The sweep
// of the payload arena is left out of recovery: no task here has a block, its tables are
// long, and its fence might hide that another one is missing; model_arena.c has it.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef MODEL_POOL_H
#define MODEL_POOL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

#define calloc model_calloc
#define free model_free

#define wp_may_spin wp_may_spin_by_load
#include "wp_wake.h"
#undef wp_may_spin
static inline bool wp_may_spin(struct wp_view *view) {
    (void)view;
    return false;
}

#include "wp_reclaim.h"
#define wp_reclaim_begin(reclaim, spans, leases, dead) ((void)(reclaim), false)
#include "wp_pool.h"
#undef wp_reclaim_begin

#define MODEL_SEATS 4u
#define MODEL_TASKS 8u

// What the program notes of one task, by the number in its payload.
struct model_task {
    wp_handle handle;
    uint32_t submitted;
    uint32_t entered; // times
    uint32_t settled; // outcomes that its home has harvested
    enum wp_outcome outcome;
};

// Private to the program. Actors write notes, and the law reads them; no actor acts on what
// another one noted.
struct model_pool {
    uint8_t *base;
    uint64_t bytes;
    struct wp_view view[MODEL_SEATS];
    struct wp_view recoverer; // the parent's other thread
    struct model_task task[MODEL_TASKS];
    uint32_t deaths;
    uint32_t dead; // seats, a bit each
    struct wp_recovered recovered;
};

static inline void model_pool_open(struct model_pool *pool, struct wp_view *view, uint32_t seat) {
    uint64_t none = UINT64_MAX / 2; // the arena of budget 0 has no memory to be mapped
    MODEL_CHECK(wp_view_open(view, pool->base, pool->bytes, NULL, none, -1, seat) == WP_SEGMENT_OK);
}

static inline void model_pool_name(const void *p, size_t bytes, const char *format, uint32_t a, uint32_t b) {
    char *text = model_private(32);
    snprintf(text, 32, format, a, b);
    model_name(p, bytes, text);
}

static inline void model_pool_name_set(const struct wp_taskset *set, const char *what, uint32_t seat) {
    char *text = model_private(32);
    snprintf(text, 32, "%s%u.", what, seat);
    char *summary = model_private(32), *leaves = model_private(32);
    snprintf(summary, 32, "%s%u.summary", what, seat);
    snprintf(leaves, 32, "%s%u.leaves", what, seat);
    model_name(set->summary, set->summary_words * 8, summary);
    model_name(set->leaves, set->leaf_words * 8, leaves);
}

static inline struct model_pool *model_pool(uint32_t seats, uint32_t parent_slots, uint32_t worker_slots) {
    struct model_pool *pool = model_private(sizeof *pool);
    struct wp_shape shape = {.seats = seats, .parent_slots = parent_slots, .worker_slots = worker_slots};
    pool->bytes = wp_view_bytes(&shape);
    pool->base = model_shared(pool->bytes);
    wp_view_format(pool->base, &shape, 0, false);
    for (uint32_t s = 0; s < seats; s++) {
        model_pool_open(pool, &pool->view[s], s);
        wp_home_begin(&pool->view[s]);
    }
    model_pool_open(pool, &pool->recoverer, WP_PARENT_SEAT);

    struct wp_view *view = &pool->view[0];
    model_pool_name(view->idle->idle, 8, "idle", 0, 0);
    model_pool_name(view->idle->searching, 8, "searching", 0, 0);
    model_pool_name_set(&view->orphans, "orphans", 0);
    for (uint32_t s = 0; s < seats; s++) {
        struct wp_place *place = &view->places[s];
        model_pool_name(&place->seat->parker, 4, "parker%u", s, 0);
        model_pool_name(&place->seat->awaited, 8, "awaited%u", s, 0);
        model_pool_name(&place->seat->stop, 4, "stop%u", s, 0);
        model_pool_name(&place->seat->ready, 4, "ready%u", s, 0);
        model_pool_name(&place->deque.ends->top, 8, "top%u", s, 0);
        model_pool_name(&place->deque.ends->bottom, 8, "bottom%u", s, 0);
        model_pool_name(place->deque.entries, (size_t)place->deque.capacity * 8, "entries%u", s, 0);
        for (uint32_t m = 0; m < WP_MAILBOXES; m++) model_pool_name_set(&place->mailbox[m], "mailbox", s * 10 + m);
        model_pool_name_set(&place->completions, "completions", s);
        if (s == WP_PARENT_SEAT) continue;
        model_unused(place->to_seat.bytes, place->to_seat.capacity);
        model_unused(place->to_parent.bytes, place->to_parent.capacity);
    }
    for (uint32_t i = 0; i < view->slot_count; i++) {
        model_pool_name(&view->slots[i], sizeof view->slots[i], "slot%u", i, 0);
        model_pool_name(&view->slots[i].state, 8, "slot%u.state", i, 0);
    }
    return pool;
}

// ---- what processes do

static inline void model_task_write(struct wp_slot *slot, uint32_t what) { memcpy(slot->bytes, &what, sizeof what); }
static inline uint32_t model_task_read(const struct wp_slot *slot) {
    uint32_t what;
    memcpy(&what, slot->bytes, sizeof what);
    return what;
}

// A home submits task number `t`, with its number as its argument.
static inline void model_submit(struct model_pool *pool, struct wp_view *view, uint32_t t, uint32_t target) {
    wp_handle handle = wp_home_reserve(view);
    MODEL_CHECK(handle != WP_NO_HANDLE);
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    wp_store_relaxed(&slot->target, target);
    model_task_write(slot, t);
    pool->task[t].handle = handle;
    pool->task[t].submitted = 1; // noted first: a death after READY does not take it back
    model_note("submits task %u", t);
    wp_home_submit(view, handle);
}

#define MODEL_PLAIN_TARGET wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, 0)
#define MODEL_RESULT 100u // a task's result is this more than its argument

// A worker runs the task that it has claimed.
static inline void model_run(struct model_pool *pool, struct wp_view *view, uint32_t index) {
    struct wp_slot *slot = &view->slots[index];
    uint32_t t = model_task_read(slot);
    MODEL_CHECK(t < MODEL_TASKS && pool->task[t].submitted);
    wp_enter(view, index);
    model_note("runs task %u", t);
    MODEL_CHECK(++pool->task[t].entered <= slot->attempt_limit);
    model_task_write(slot, t + MODEL_RESULT);
    wp_leave(view, index, WP_OUTCOME_OK);
}

// A home harvests one slot, if it is done.
static inline void model_harvest_slot(struct model_pool *pool, struct wp_view *view, uint32_t index) {
    struct wp_slot *slot = &view->slots[index];
    uint64_t state;
    if (!wp_slot_is_done(slot, &state)) return;
    wp_handle handle = wp_handle_of(index, wp_state_generation(state));
    for (uint32_t t = 0; t < MODEL_TASKS; t++) {
        if (!pool->task[t].submitted || pool->task[t].handle != handle) continue;
        enum wp_outcome outcome = wp_state_outcome(state);
        model_note("harvests task %u", t);
        MODEL_CHECK(++pool->task[t].settled == 1);
        if (outcome == WP_OUTCOME_OK) MODEL_CHECK(model_task_read(slot) == t + MODEL_RESULT);
        pool->task[t].outcome = outcome;
    }
    wp_home_release(view, handle);
}

static inline void model_harvest(struct model_pool *pool, struct wp_view *view) {
    uint32_t first;
    for (uint64_t bits; (bits = wp_home_take(view, &first)) != 0;)
        for (; bits != 0; bits &= bits - 1) model_harvest_slot(pool, view, first + (uint32_t)__builtin_ctzll(bits));
}

// A worker's life: until it is told to stop, which may be never.
static inline void model_work(struct model_pool *pool, struct wp_view *view) {
    uint32_t index;
    for (;;) {
        switch (wp_next_wait(view, &index, -1)) {
        case WP_NEXT_TASK:
            model_run(pool, view, index);
            break;
        case WP_NEXT_HARVEST:
            model_harvest(pool, view);
            break;
        case WP_NEXT_STOP:
            return;
        case WP_NEXT_NOTHING:
        case WP_NEXT_SIGNAL:
        case WP_NEXT_MESSAGE:
        default:
            break;
        }
    }
}

// The recoverer's: `seat_of` says where each actor sits, WP_NO_SEAT where none does.
static inline uint32_t model_recover(struct model_pool *pool, const uint32_t *seat_of) {
    uint32_t seat = seat_of[model_await_death()];
    pool->deaths++;
    pool->dead |= 1u << seat;
    struct wp_recovered out = wp_recover(&pool->recoverer, seat, 1, -9);
    pool->recovered.again += out.again;
    pool->recovered.died += out.died;
    pool->recovered.freed += out.freed;
    return seat;
}

// ---- laws

// Is there a way to find this READY slot? A live deque's entry, or a bit that is announced.
static inline bool model_set_has(const struct wp_taskset *set, uint32_t index) {
    return (set->leaves[index / 64].word >> index % 64 & 1) && (set->summary[index / 4096].word >> index / 64 % 64 & 1);
}
static inline bool model_is_findable(struct wp_view *view, uint32_t index) {
    if (model_set_has(&view->orphans, index)) return true;
    for (uint32_t s = 0; s < view->seats; s++) {
        struct wp_place *place = &view->places[s];
        for (uint32_t m = 0; m < WP_MAILBOXES; m++)
            if (model_set_has(&place->mailbox[m], index)) return true;
        for (int64_t i = (int64_t)place->deque.ends->top.word; i < (int64_t)place->deque.ends->bottom.word; i++)
            if (wp_deque_entry(&place->deque, i)->word ==
                wp_handle_of(index, wp_state_generation(view->slots[index].state.word)))
                return true;
    }
    return false;
}

// No slot is in hands that are dead, none is READY and cannot be found, none is DONE
// and not announced to its home. With `quiet`, nothing is READY at all.
static inline void model_check_slots(struct model_pool *pool, bool quiet) {
    struct wp_view *view = &pool->view[0];
    for (uint32_t i = 0; i < view->slot_count; i++) {
        uint64_t state = view->slots[i].state.word;
        uint32_t home = wp_view_home(view, i);
        switch (wp_state_phase(state)) {
        case WP_PHASE_FREE:
            break;
        case WP_PHASE_READY:
            MODEL_CHECK(!quiet && model_is_findable(view, i));
            break;
        case WP_PHASE_DONE:
            MODEL_CHECK(model_set_has(&view->places[home].completions, i - view->places[home].first_slot));
            break;
        case WP_PHASE_RESERVED:
            MODEL_CHECK(!(pool->dead & 1u << home));
            break;
        case WP_PHASE_CLAIMED:
        case WP_PHASE_RUNNING:
            MODEL_CHECK(!(pool->dead & 1u << wp_state_owner(state)));
            break;
        default:
            MODEL_CHECK(!"a phase");
        }
    }
}

// Every task of `home` that was submitted has one outcome, and ran if that is OK.
static inline void model_check_settled(struct model_pool *pool, uint32_t home) {
    for (uint32_t t = 0; t < MODEL_TASKS; t++) {
        struct model_task *task = &pool->task[t];
        if (!task->submitted || wp_view_home(&pool->view[0], wp_handle_index(task->handle)) != home) continue;
        MODEL_CHECK(task->settled == 1);
        MODEL_CHECK(task->outcome == WP_OUTCOME_OK ? task->entered == 1 : true);
        MODEL_CHECK(task->outcome == WP_OUTCOME_OK || task->outcome == WP_OUTCOME_CANCELLED || pool->deaths > 0);
    }
}

#endif
