// model_borrow.c — blocks borrowed by reference, late or in time, and blocks that a result names.
//
// Law: whoever has borrowed a block reads there what the block's maker wrote, until it lets
// go (the payload is plain, race-checked memory); a named block is its home's or goes; in
// the end none is lost.
//
// SPDX-License-Identifier: BSD-3-Clause
#define SEATS 4u
#include "model_arena.h"
#include "wp_borrow.h"
#include "wp_home.h"
#include "wp_recover.h"

#define ID(number) ((uint64_t)(number) << 8 | WP_SHARED_TAG)
#define MADE 11u  // what the maker writes
#define LATER 12u // what any other owner writes

static uint64_t *block; // that is lent

// A block of `view` with an identity and a payload.
static uint64_t make_lent(struct wp_arena_view *view, uint64_t id, uint64_t payload) {
    uint64_t offset;
    if (wp_arena_alloc(view, BLOCK, &offset) != WP_ALLOC_OK) return 0;
    model_note("has block %u", (unsigned)(offset / BLOCK));
    at(offset)[1] = payload;
    wp_store_relaxed(wp_block_identity(&view->spans, offset), id); // published by who sends the reference
    return offset;
}

static void make(uint32_t owner) {
    make_arena();
    block = model_private(sizeof *block);
    *block = make_lent(&a->view[owner], ID(1), MADE);
    MODEL_CHECK(*block != 0);
}

// Two more blocks: the lent one again, if it is free.
static void reuse(struct wp_arena_view *view) {
    for (uint32_t i = 0; i < 2; i++) a->held[i] = make_lent(view, ID(2 + i), LATER);
}
static void reuser(void *arg) {
    (void)arg;
    reuse(&a->view[1]);
}
static void heir_reuses(void *arg) {
    (void)arg;
    reuse(&a->heir);
}

static void borrow(struct wp_arena_view *view) {
    uint32_t lease;
    enum wp_borrow outcome = WP_BORROW_RECOVERING;
    for (int tries = 0; tries < 2 && outcome == WP_BORROW_RECOVERING; tries++)
        outcome = wp_block_borrow(&view->spans, &view->leases, *block, ID(1), &lease);
    if (outcome != WP_BORROW_OK) return;
    model_note("borrowed");
    MODEL_CHECK(at(*block)[1] == MADE);
    MODEL_CHECK(at(*block)[1] == MADE);
    wp_arena_unlease(view, lease);
}
static void borrower(void *arg) {
    (void)arg;
    borrow(&a->view[2]);
}
static void third_borrower(void *arg) {
    (void)arg;
    borrow(&a->view[3]);
}

static void end_all(struct wp_arena_view *owner) {
    for (uint32_t s = 0; s < SEATS; s++) wp_lease_purge(&a->view[s].leases);
    give(owner, 0);
    give(owner, 1);
    all_free(owner);
}

// ---- the parent ends a block of seat 1, which gives it out again

static void ender(void *arg) {
    (void)arg;
    MODEL_CHECK(wp_arena_free(&a->view[0], *block) != WP_FREE_ALIEN);
}
static void set_up_late(void) {
    make(1);
    model_actor("borrower", borrower, NULL, 0);
    model_actor("ender", ender, NULL, 0);
    model_actor("reuser", reuser, NULL, 0);
}
static void late(void) { end_all(&a->view[1]); }

// ---- its owner does both, in the span that is open

static void owner(void *arg) {
    (void)arg;
    MODEL_CHECK(wp_arena_free(&a->view[1], *block) != WP_FREE_ALIEN);
    reuse(&a->view[1]);
}
static void set_up_late_own(void) {
    make(1);
    model_actor("borrower", borrower, NULL, 0);
    model_actor("third", third_borrower, NULL, 0);
    model_actor("owner", owner, NULL, 0);
}

// ---- seat 1 dies, and its heir gives the block out again

static void idler(void *arg) {
    (void)arg;
    wp_arena_flush(&a->view[1]);
}
static void recover(uint32_t dead) {
    struct wp_reclaim reclaim;
    a->dead |= 1u << dead;
    MODEL_CHECK(wp_reclaim_begin(&reclaim, &a->view[0].spans, &a->view[0].leases, dead));
    wp_reclaim_end(&reclaim);
}
static void recoverer(void *arg) {
    (void)arg;
    model_await_death();
    recover(1);
    model_start(a->heir_actor);
}
static void set_up_late_death(void) {
    make(1);
    open_view(&a->heir, 1);
    model_actor("idler", idler, NULL, MODEL_MORTAL);
    model_actor("borrower", borrower, NULL, 0);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
    a->heir_actor = model_actor("heir", heir_reuses, NULL, MODEL_DORMANT);
}
static void late_death(void) {
    if (!(a->dead & 2)) MODEL_CHECK(wp_arena_free(&a->view[1], *block) != WP_FREE_ALIEN);
    end_all(a->dead & 2 ? &a->heir : &a->view[1]);
}

// ---- seat 2, which had inherited the block from seat 1, dies; seat 1 gives it out again

static uint32_t *inherited;

static void second_idler(void *arg) {
    (void)arg;
    wp_arena_flush(&a->view[2]);
}
static void second_recoverer(void *arg) {
    (void)arg;
    model_await_death();
    recover(2);
    model_start(a->heir_actor);
}
static void sweeper(void *arg) {
    (void)arg;
    wp_arena_sweep(&a->view[1], 1, a->view[1].spans.count, true);
    reuse(&a->view[1]);
}
static void set_up_late_heir(void) {
    make(1);
    inherited = model_private(sizeof *inherited);
    *inherited = wp_arena_lease(&a->view[2], *block, WP_LEASE_OWN);
    model_actor("idler", second_idler, NULL, MODEL_MORTAL);
    model_actor("borrower", third_borrower, NULL, 0);
    model_actor("recoverer", second_recoverer, NULL, MODEL_DAEMON);
    a->heir_actor = model_actor("sweeper", sweeper, NULL, MODEL_DORMANT);
}
static void late_heir(void) {
    if (!(a->dead & 4)) wp_arena_free_leased(&a->view[2], *inherited);
    end_all(&a->view[1]);
}

// ---- a result of seat 1 names a block; its home, seat 2, takes or ends it; either may die

static struct {
    struct wp_slot *slot;
    struct wp_view home, parent;
} *p;

static void finisher(void *arg) {
    (void)arg;
    struct wp_arena_view *view = &a->view[1];
    uint64_t offset = make_lent(view, 0x100 | WP_PARCEL_TAG, MADE);
    MODEL_CHECK(offset != 0);
    struct wp_parcel *parcel = (struct wp_parcel *)(void *)at(offset);
    parcel->names = 1;
    wp_store_relaxed((wp_atomic64 *)(parcel + 1), *block); // published by DONE
    wp_store_relaxed(&p->slot->result.block, offset);
    wp_store_release(&p->slot->state, WP_PHASE_DONE);
}
static void home(void *arg) {
    (void)arg;
    struct wp_view *view = &p->home;
    model_await64(&p->slot->state, 0);
    MODEL_CHECK(wp_load_acquire(&p->slot->state) == WP_PHASE_DONE);
    uint64_t parcel = wp_payload_block(&p->slot->result);
    bool keeps = model_choose(2) == 0;
    uint32_t lease = keeps ? wp_arena_lease(&view->arena, *block, WP_LEASE_OWN) : WP_NO_LEASE;
    if (keeps) wp_home_inherit(view, p->slot, *block);
    wp_home_drop_names(view, p->slot);
    // As wp_home_release of a worker.
    uint32_t whole = wp_arena_lease(&view->arena, parcel, WP_LEASE_OWN);
    wp_store_release(&p->slot->result.block, 0);
    wp_store_release(&p->slot->state, WP_PHASE_FREE);
    wp_arena_free_leased(&view->arena, whole);
    if (!keeps) return;
    MODEL_CHECK(at(*block)[1] == MADE);
    MODEL_CHECK(wp_load_relaxed(wp_block_identity(&view->arena.spans, *block)) == ID(1)); // it can be lent
    wp_arena_free_leased(&view->arena, lease);
}
static void recoverer_of_both(void *arg) {
    (void)arg;
    for (;;) {
        uint32_t dead = model_await_death() == 0 ? 1 : 2;
        struct wp_reclaim reclaim;
        a->dead |= 1u << dead;
        MODEL_CHECK(wp_reclaim_begin(&reclaim, &p->parent.arena.spans, &p->parent.arena.leases, dead));
        enum wp_phase phase = wp_state_phase(wp_load_acquire(&p->slot->state));
        if (phase != WP_PHASE_FREE) wp_recover_keep_result(&p->parent, &reclaim, p->slot, phase);
        wp_reclaim_end(&reclaim);
        if (dead == 1) model_start(a->heir_actor);
    }
}
static void set_up_named_by(unsigned home_flags) {
    make(1);
    p = model_private(sizeof *p);
    p->slot = model_shared(sizeof *p->slot);
    model_name(&p->slot->state, 8, "state");
    model_name(&p->slot->result, sizeof p->slot->result, "result");
    p->home.self = 2;
    p->home.arena = a->view[2];
    p->parent.arena = a->view[0];
    open_view(&a->heir, 1);
    model_actor("finisher", finisher, NULL, MODEL_MORTAL);
    model_actor("home", home, NULL, MODEL_DAEMON | home_flags);
    model_actor("recoverer", recoverer_of_both, NULL, MODEL_DAEMON);
    a->heir_actor = model_actor("heir", heir_reuses, NULL, MODEL_DORMANT);
}
static void set_up_named(void) { set_up_named_by(0); }
static void set_up_named_both(void) { set_up_named_by(MODEL_MORTAL); }
static void named(void) {
    if (wp_state_phase(model_peek64(&p->slot->state)) == WP_PHASE_DONE) return; // the home's heir takes what is left
    wp_lease_purge(&p->home.arena.leases);
    end_all(a->dead & 2 ? &a->heir : &a->view[1]);
}

static const struct model_scenario scenarios[] = {
    {"late", "a late reference finds nobody", set_up_late, late, {3, 3, 0}, {4, 4, 0}, false, NULL},
    {"late_own", "nor in an open span", set_up_late_own, late, {3, 3, 0}, {4, 4, 0}, false, NULL},
    {"late_death", "nor after a death", set_up_late_death, late_death, {3, 3, 1}, {4, 4, 1}, false, NULL},
    {"late_heir", "nor after that of an heir", set_up_late_heir, late_heir, {3, 3, 1}, {4, 4, 1}, false, NULL},
    {"named", "what a result names is taken once", set_up_named, named, {2, 2, 1}, {3, 3, 1}, false, NULL},
    {"named_both", "or goes with who took it", set_up_named_both, named, {1, 1, 2}, {2, 1, 2}, false, NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
