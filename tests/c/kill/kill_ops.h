// kill_ops.h — the operations that are stepped through, and the state each begins from.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef KILL_OPS_H
#define KILL_OPS_H

#include "kill_world.h"

struct op {
    const char *name;
    void (*prepare)(struct world *w, uint32_t seat);
    void (*run)(struct world *w, struct wp_view *v);
    // Tasks that may wait for a process that is stopped, not dead, in the middle of it:
    // those in its hands, and those that are bound to it.
    unsigned held;
};

// An operation: one function, so that it is optimised as a caller in the pool would be.
#define OP(name) static __attribute__((noinline)) void name(__attribute__((unused)) struct world *w, struct wp_view *v)

// Ids that the preparations and the survivors do not reach.
#define FIRST_OF_VICTIM 900u

// ---- preparations

static uint32_t bound_to(uint32_t seat, enum wp_strength strength) { return wp_target(seat, strength, 0); }

// `seat` sleeps on its parker, as far as others can see.
static void park(struct world *w, uint32_t seat) {
    if (seat != PARENT) wp_idle_set(w->view[seat].idle->idle, seat);
    wp_store_relaxed(&w->view[seat].places[seat].seat->awaited, WP_NO_HANDLE);
    wp_or_acq_rel(&w->view[seat].places[seat].seat->parker, WP_PARKER_FUTEX);
}

static void prepare_nothing(struct world *w, uint32_t seat) { (void)w, (void)seat; }
static void prepare_sleeper(struct world *w, uint32_t seat) {
    (void)seat;
    park(w, SURVIVOR);
}
// The own deque is full of hints that are void.
static void prepare_full_deque(struct world *w, uint32_t seat) {
    while (wp_deque_push(&w->view[seat].places[seat].deque, wp_handle_of(3, 77))) {
    }
}
// READY, and hinted nowhere: the hint is in the victim's hands.
static void prepare_hintless(struct world *w, uint32_t seat) {
    w->handle = task_fill(&w->view[seat], w->next_id++, target_none(), false, 1);
    w->index = wp_handle_index(w->handle);
    wp_slot_publish(&w->view[seat].slots[w->index], w->handle);
}
static void prepare_own_one(struct world *w, uint32_t seat) { world_submit(w, seat, target_none(), false, 1); }
static void prepare_own_three(struct world *w, uint32_t seat) {
    for (int i = 0; i < 3; i++) world_submit(w, seat, target_none(), i == 1, 1);
}
static void prepare_parent_one(struct world *w, uint32_t seat) {
    (void)seat;
    world_submit(w, PARENT, target_none(), false, 1);
}
static void prepare_parent_many(struct world *w, uint32_t seat) {
    (void)seat;
    for (int i = 0; i < 32; i++) world_submit(w, PARENT, target_none(), i % 8 == 0, 1);
}
static void prepare_many_and_full(struct world *w, uint32_t seat) {
    prepare_parent_many(w, seat);
    prepare_full_deque(w, seat);
}
static void prepare_orphan(struct world *w, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        prepare_hintless(w, PARENT);
        wp_taskset_add(&w->view[PARENT].orphans, w->index);
    }
}
static void prepare_orphan_one(struct world *w, uint32_t seat) {
    (void)seat;
    prepare_orphan(w, 1);
}
// Move the next free slots of a home to the end of its ring.
static void pass_over(struct wp_view *v, uint32_t n) {
    uint32_t slots = wp_view_self(v)->slots;
    for (; n > 0; n--) v->free_ring[v->free_tail++ % slots] = v->free_ring[v->free_head++ % slots];
}
// Two in the first leaf, and two on each side of the boundary to the second.
static void prepare_orphans(struct world *w, uint32_t seat) {
    (void)seat;
    prepare_orphan(w, 2);
    pass_over(&w->view[PARENT], 60);
    prepare_orphan(w, 4);
}
// The first bits found are void.
static void prepare_void_orphans(struct world *w, uint32_t seat) {
    prepare_orphan_one(w, seat);
    wp_taskset_add(&w->view[PARENT].orphans, PARENT_SLOTS - 1);
    w->view[seat].looked[WP_MAILBOXES] = PARENT_SLOTS - 8;
}
static void prepare_mailbox(struct world *w, uint32_t seat) {
    world_submit(w, PARENT, bound_to(seat, WP_STRENGTH_FORCE), false, 1);
    world_submit(w, PARENT, bound_to(seat, WP_STRENGTH_STRONG), false, 1);
}
// READY, with a hint in the orphans, for claim().
static void prepare_ready(struct world *w, uint32_t seat) {
    (void)seat;
    prepare_orphan(w, 1);
}
static void prepare_claimed_of(struct world *w, uint32_t seat, uint32_t home, bool large, uint8_t limit) {
    w->handle = task_fill(&w->view[home], w->next_id++, target_none(), large, limit);
    w->index = wp_handle_index(w->handle);
    wp_slot_publish(&w->view[home].slots[w->index], w->handle);
    AUDIT(wp_slot_claim(&w->view[home].slots[w->index], w->handle, seat) == WP_CLAIM_OK, "no claim");
}
static void prepare_claimed(struct world *w, uint32_t seat) { prepare_claimed_of(w, seat, PARENT, false, 1); }
static void prepare_claimed_large(struct world *w, uint32_t seat) { prepare_claimed_of(w, seat, PARENT, true, 1); }
static void prepare_claimed_retry(struct world *w, uint32_t seat) { prepare_claimed_of(w, seat, PARENT, false, 2); }
static void prepare_running(struct world *w, uint32_t seat) {
    prepare_claimed(w, seat);
    wp_slot_enter(&w->view[seat].slots[w->index]);
    task_write(&w->view[seat], w->index, w->next_id - 1, false);
    w->ledger->entered[w->next_id - 1] = w->ledger->left[w->next_id - 1] = 1;
}
static void prepare_running_watched(struct world *w, uint32_t seat) {
    prepare_running(w, seat);
    park(w, PARENT);
}
static void prepare_running_own(struct world *w, uint32_t seat) {
    prepare_claimed_of(w, seat, seat, false, 1);
    wp_slot_enter(&w->view[seat].slots[w->index]);
    task_write(&w->view[seat], w->index, w->next_id - 1, false);
    w->ledger->entered[w->next_id - 1] = w->ledger->left[w->next_id - 1] = 1;
}
// Tasks of the victim's that the survivor has run; the middle one answers with a block.
static void prepare_done(struct world *w, uint32_t seat) {
    for (int i = 0; i < 3; i++) {
        w->handle = world_submit(w, seat, target_none(), i == 1, 1);
        w->index = wp_handle_index(w->handle);
        wp_slot_claim(&w->view[SURVIVOR].slots[w->index], w->handle, SURVIVOR);
        task_run(&w->view[SURVIVOR], w->ledger, w->index);
        wp_handle popped;
        wp_deque_pop(&w->view[seat].places[seat].deque, &popped);
        if (i == 1) w->block[0] = w->handle;
    }
    w->handle = w->block[0];
    w->index = wp_handle_index(w->handle);
}
// A former incarnation left one DONE, one READY, and one that the survivor runs.
static void prepare_former(struct world *w, uint32_t seat) {
    prepare_done(w, seat);
    prepare_hintless(w, seat);
    wp_taskset_add(&w->view[seat].orphans, w->index);
}
static void prepare_searching(struct world *w, uint32_t seat) { wp_search_begin(&w->view[seat]); }
static void prepare_searching_and_work(struct world *w, uint32_t seat) {
    wp_search_begin(&w->view[seat]);
    park(w, SURVIVOR);
    prepare_parent_one(w, seat);
}
static void prepare_wait(struct world *w, uint32_t seat) {
    prepare_hintless(w, seat);
    wp_taskset_add(&w->view[seat].orphans, w->index);
}
// Something everywhere, but far from where the victim looks first.
static void prepare_victims(struct world *w, uint32_t seat) {
    (void)seat;
    world_submit(w, SURVIVOR, target_none(), false, 1);
    world_submit(w, PARENT, bound_to(SURVIVOR, WP_STRENGTH_LIGHT), false, 1);
}
static void prepare_blocks(struct world *w, uint32_t seat) {
    // Blocks that live across the death: of the parent's and the survivor's own tasks.
    world_submit(w, PARENT, target_none(), true, 1);
    world_submit(w, SURVIVOR, target_none(), true, 1);
    (void)seat;
}
static void prepare_own_block(struct world *w, uint32_t seat) {
    prepare_blocks(w, seat);
    AUDIT(wp_arena_alloc(&w->view[seat].arena, 700, &w->block[0]) == WP_ALLOC_OK, "no block");
    AUDIT(wp_arena_alloc(&w->view[seat].arena, 40000, &w->block[1]) == WP_ALLOC_OK, "no run");
}
static void prepare_foreign_block(struct world *w, uint32_t seat) {
    prepare_done(w, seat);
    w->block[0] = wp_payload_block(&w->view[seat].slots[w->index].result);
}

static void prepare_own_shared(struct world *w, uint32_t seat) {
    prepare_own_block(w, seat);
    for (int i = 0; i < 2; i++)
        wp_store_relaxed(wp_block_identity(&w->view[seat].arena.spans, w->block[i]), SHARED_ID(i + 1));
}
// A task of the victim's that the survivor answers by a parcel; block[0] is what it names.
static void prepare_done_parcel(struct world *w, uint32_t seat) {
    uint64_t id = w->next_id;
    prepare_claimed_of(w, SURVIVOR, seat, false, 1);
    wp_slot_enter(&w->view[SURVIVOR].slots[w->index]);
    w->ledger->entered[id] = w->ledger->left[id] = 1;
    task_write_parcel(&w->view[SURVIVOR], w->index, id);
    wp_finish(&w->view[SURVIVOR], w->index, WP_OUTCOME_OK);
    wp_atomic64 *names = NULL;
    uint64_t parcel = wp_payload_block(&w->view[seat].slots[w->index].result);
    AUDIT(wp_parcel_names(&w->view[seat].arena.spans, parcel, &names) == 1, "no parcel");
    w->block[0] = wp_load_relaxed(names);
    w->block[1] = SHARED_ID(id);
}

// Two messages to the victim: one in the lane, one in a block.
static void post_block(struct wp_view *v, uint32_t seat, uint64_t id) {
    uint64_t offset = 0;
    struct note note = note_of(id);
    if (wp_arena_alloc(&v->arena, 3000, &offset) != WP_ALLOC_OK) return;
    memcpy(wp_arena_at(&v->arena, offset, sizeof note), &note, sizeof note);
    wp_message_send_block(v, seat, offset, sizeof note);
}
static void prepare_messages(struct world *w, uint32_t seat) {
    struct note note = note_of(800);
    memcpy(wp_message_begin(&w->view[PARENT], seat, sizeof note), &note, sizeof note);
    wp_message_send(&w->view[PARENT], seat);
    post_block(&w->view[PARENT], seat, 801);
}
static void prepare_listener(struct world *w, uint32_t seat) {
    (void)seat;
    park(w, PARENT);
}

// ---- operations

OP(op_submit) {
    wp_handle handle = task_fill(v, FIRST_OF_VICTIM, target_none(), false, 1);
    wp_home_submit(v, handle);
}
OP(op_submit_large) {
    wp_handle handle = task_fill(v, FIRST_OF_VICTIM, target_none(), true, 1);
    wp_home_submit(v, handle);
}
OP(op_submit_light) {
    wp_handle handle = task_fill(v, FIRST_OF_VICTIM, bound_to(SURVIVOR, WP_STRENGTH_LIGHT), false, 1);
    wp_home_submit(v, handle);
}
OP(op_submit_force) {
    wp_handle handle = task_fill(v, FIRST_OF_VICTIM, bound_to(SURVIVOR, WP_STRENGTH_FORCE), false, 1);
    wp_home_submit(v, handle);
}
OP(op_submit_to_the_dead) {
    wp_handle handle = task_fill(v, FIRST_OF_VICTIM, bound_to(v->self, WP_STRENGTH_FORCE), false, 1);
    wp_home_submit(v, handle);
}
OP(op_push) { wp_deque_push(&wp_view_self(v)->deque, w->handle); }
OP(op_pop) { wp_deque_pop(&wp_view_self(v)->deque, &w->hand_handle); }
OP(op_pop_and_claim) { wp_search_own(v, &w->hand_index); }
OP(op_steal) { wp_deque_steal(&v->places[PARENT].deque, &w->hand_handle); }
OP(op_steal_and_claim) { wp_search_steal(v, PARENT, 1, &w->hand_index); }
OP(op_steal_batch) { wp_search_parent(v, &w->hand_index); }
OP(op_take) { wp_search_set(v, &v->orphans, &v->looked[WP_MAILBOXES], &w->hand_index); }
OP(op_take_mailbox) { wp_search_mailbox(v, v->self, WP_STRENGTH_FORCE, &w->hand_index); }
OP(op_set_add) { wp_taskset_add(&v->orphans, w->index); }
OP(op_claim) {
    if (wp_slot_claim(&v->slots[w->index], w->handle, v->self) == WP_CLAIM_OK) w->hand_index = w->index;
}
OP(op_enter) { wp_enter(v, w->index); }
OP(op_finish) { wp_finish(v, w->index, WP_OUTCOME_OK); }
OP(op_leave) { wp_leave(v, w->index, WP_OUTCOME_OK); }
OP(op_end) {
    wp_end(v, w->index);
    wp_leave(v, w->index, WP_OUTCOME_OK);
}
OP(op_run) { task_run(v, w->ledger, w->index); }
// What cannot be decoded is settled without running. Its error takes the argument's place,
// so RUNNING comes first: CLAIMED would be run again, with half of each.
OP(op_refuse) {
    struct note note;
    memcpy(&note, v->slots[w->index].bytes, sizeof note);
    wp_slot_enter(&v->slots[w->index]);
    w->ledger->entered[note.id] = w->ledger->left[note.id] = 1;
    task_write(v, w->index, note.id, false);
    wp_leave(v, w->index, WP_OUTCOME_OK);
}
OP(op_harvest) {
    (void)w;
    uint32_t first = 0;
    uint64_t bits = wp_home_take(v, &first), state;
    for (; bits != 0; bits &= bits - 1) {
        uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
        if (wp_slot_is_done(&v->slots[index], &state))
            wp_home_release(v, wp_handle_of(index, wp_state_generation(state)));
    }
}
OP(op_release) { wp_home_release(v, w->handle); }
OP(op_cancel) {
    if (wp_slot_cancel(&v->slots[w->index], w->handle)) wp_home_release(v, w->handle);
}
OP(op_begin) {
    (void)w;
    wp_home_begin(v);
}
OP(op_park) {
    (void)w;
    if (wp_park_arm(v, WP_PARKER_FUTEX)) wp_park_disarm(v);
}
OP(op_search_end) {
    (void)w;
    wp_search_end(v);
}
OP(op_wait) { wp_home_wait(v, w->handle, 0); }
OP(op_unpark) {
    (void)w;
    wp_unpark(v, SURVIVOR);
}
OP(op_round) { wp_search_round(v, &w->hand_index); }
OP(op_next) {
    if (wp_next_wait(v, &w->hand_index, 0) != WP_NEXT_TASK) w->hand_index = WP_NO_INDEX;
}
OP(op_alloc) { wp_arena_alloc(&v->arena, 5000, &w->block[1]); }
OP(op_alloc_run) { wp_arena_alloc(&v->arena, 40000, &w->block[1]); }
OP(op_free) { wp_arena_free(&v->arena, w->block[0]); }
OP(op_free_run) { wp_arena_free(&v->arena, w->block[1]); }
OP(op_lease) {
    w->lease = wp_arena_lease(&v->arena, w->block[0], WP_LEASE_BORROW);
    wp_arena_unlease(&v->arena, w->lease);
}

OP(op_finish_parcel) {
    struct note note;
    memcpy(&note, v->slots[w->index].bytes, sizeof note);
    wp_slot_enter(&v->slots[w->index]);
    w->ledger->entered[note.id] = w->ledger->left[note.id] = 1;
    task_write_parcel(v, w->index, note.id);
    wp_finish(v, w->index, WP_OUTCOME_OK);
}
OP(op_harvest_parcel) { // the named block is kept for a while
    struct wp_slot *slot = &v->slots[w->index];
    w->lease = wp_arena_lease(&v->arena, w->block[0], WP_LEASE_OWN);
    wp_home_inherit(v, slot, w->block[0]);
    wp_home_drop_names(v, slot);
    wp_home_release(v, w->handle);
    wp_arena_free_leased(&v->arena, w->lease);
}
OP(op_drop_parcel) {
    wp_home_drop_names(v, &v->slots[w->index]);
    wp_home_release(v, w->handle);
}
OP(op_borrow) {
    if (wp_block_borrow(&v->arena.spans, &v->arena.leases, w->block[0], w->block[1], &w->lease) == WP_BORROW_OK)
        wp_arena_unlease(&v->arena, w->lease);
}

OP(op_submit_urgent) {
    wp_handle handle = task_fill(v, FIRST_OF_VICTIM, wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, 3), false, 1);
    wp_home_submit(v, handle);
}
OP(op_help) { wp_help_now(v, w->handle, WP_NO_HANDLE, 0, &w->hand_index); }
OP(op_help_wait) { wp_help_wait(v, WP_NO_HANDLE, WP_NO_HANDLE, wp_help_mark(v), &w->hand_index, 0); }
OP(op_post) {
    struct note note = note_of(810);
    uint8_t *bytes = wp_message_begin(v, v->self, sizeof note);
    if (bytes == NULL) return;
    memcpy(bytes, &note, sizeof note);
    wp_message_send(v, v->self);
}
OP(op_post_block) { post_block(v, v->self, 811); }
OP(op_read) {
    struct wp_lane *lane = wp_message_in(v, v->self);
    struct wp_message m;
    while (wp_message_look(v, lane, &m) != WP_MESSAGE_NONE) wp_message_done(v, lane, &m);
}

static const struct op ops[] = {
    {"submit", prepare_nothing, op_submit, 1},
    {"submit, a seat sleeps", prepare_sleeper, op_submit, 1},
    {"submit, a large one", prepare_nothing, op_submit_large, 1},
    {"submit, light", prepare_sleeper, op_submit_light, 1},
    {"submit, force", prepare_sleeper, op_submit_force, 1},
    {"submit, to itself", prepare_nothing, op_submit_to_the_dead, 1},
    {"submit, deque full", prepare_full_deque, op_submit, 1},
    {"submit, urgent", prepare_sleeper, op_submit_urgent, 1},
    {"push", prepare_hintless, op_push, 1},
    {"pop", prepare_own_three, op_pop, 1},
    {"pop the last", prepare_own_one, op_pop, 1},
    {"pop and claim", prepare_own_three, op_pop_and_claim, 1},
    {"steal", prepare_parent_many, op_steal, 1},
    {"steal the last", prepare_parent_one, op_steal, 1},
    {"steal and claim", prepare_parent_many, op_steal_and_claim, 1},
    {"steal a batch", prepare_parent_many, op_steal_batch, 8},
    {"steal a batch, deque full", prepare_many_and_full, op_steal_batch, 8},
    {"take", prepare_orphans, op_take, 1},
    {"take the last", prepare_orphan_one, op_take, 1},
    {"take, void hints first", prepare_void_orphans, op_take, 1},
    {"take from the mailbox", prepare_mailbox, op_take_mailbox, 2},
    {"claim", prepare_ready, op_claim, 1},
    {"enter", prepare_claimed, op_enter, 1},
    {"run", prepare_claimed, op_run, 1},
    {"run, with retries", prepare_claimed_retry, op_run, 1},
    {"run, a large one", prepare_claimed_large, op_run, 1},
    {"refuse", prepare_claimed, op_refuse, 1},
    {"finish", prepare_running, op_finish, 1},
    {"finish, the home sleeps", prepare_running_watched, op_finish, 1},
    {"finish, its own", prepare_running_own, op_finish, 1},
    {"leave", prepare_running_watched, op_leave, 1},
    {"end, leave", prepare_running_watched, op_end, 1},
    {"harvest", prepare_done, op_harvest, 0},
    {"release", prepare_done, op_release, 0},
    {"cancel", prepare_wait, op_cancel, 0},
    {"begin", prepare_former, op_begin, 0},
    {"park", prepare_searching, op_park, 0},
    {"park, there is work", prepare_searching_and_work, op_park, 0},
    {"end of search", prepare_searching_and_work, op_search_end, 0},
    {"wait for a task", prepare_wait, op_wait, 0},
    {"help, the awaited task", prepare_wait, op_help, 1},
    {"help, nothing to do", prepare_nothing, op_help_wait, 0},
    {"unpark", prepare_sleeper, op_unpark, 0},
    {"search, nothing", prepare_nothing, op_round, 0},
    {"search, victims", prepare_victims, op_round, 1},
    {"next", prepare_parent_many, op_next, 8},
    {"next, nothing", prepare_nothing, op_next, 0},
    {"alloc", prepare_blocks, op_alloc, 0},
    {"alloc a run", prepare_blocks, op_alloc_run, 0},
    {"free", prepare_own_block, op_free, 0},
    {"free a run", prepare_own_block, op_free_run, 0},
    {"post a message", prepare_listener, op_post, 0},
    {"post a block", prepare_listener, op_post_block, 0},
    {"read messages", prepare_messages, op_read, 0},
    {"lease", prepare_foreign_block, op_lease, 0},
    {"free what was lent", prepare_own_shared, op_free, 0},
    {"free a run that was lent", prepare_own_shared, op_free_run, 0},
    {"finish with a parcel", prepare_claimed, op_finish_parcel, 1},
    {"harvest a parcel", prepare_done_parcel, op_harvest_parcel, 0},
    {"drop a parcel", prepare_done_parcel, op_drop_parcel, 0},
    {"borrow", prepare_done_parcel, op_borrow, 0},
};

#undef OP
#endif
