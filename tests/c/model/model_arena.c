// model_arena.c — blocks of the payload arena: lent, freed from afar, doomed, reclaimed.
//
// Law: nobody's access of a block races with the next owner's (the blocks are plain,
// race-checked memory), no block is given out twice, and in the end none is lost.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "model_arena.h"

// What a slot says of a block, with its words as atomics.
struct names {
    wp_atomic64 state; // 0: FREE, 1: DONE
    wp_atomic64 block;
    wp_atomic64 taken; // the borrower has its lease
};
static struct names *names;

static void make(void) {
    make_arena();
    names = model_shared(sizeof *names);
    model_name(&names->state, 8, "state");
    model_name(&names->block, 8, "block");
    model_name(&names->taken, 8, "taken");
}

// ---- seat 1 makes a block, seat 2 borrows it, the parent ends its life

static void maker(void *arg) {
    (void)arg;
    struct wp_arena_view *view = &a->view[1];
    uint64_t block = get(view, 0);
    MODEL_CHECK(block != 0);
    a->held[0] = 0; // handed over: others end its life
    wp_store_release(&names->block, block);
    MODEL_CHECK(get(view, 1) != 0);
    get(view, 2); // the first again, if its life is over and its lease is gone
    if (a->held[2] == 0) get(view, 2);
}
static void borrower(void *arg) {
    (void)arg;
    struct wp_arena_view *view = &a->view[2];
    model_await64(&names->block, 0);
    uint64_t block = wp_load_acquire(&names->block);
    uint32_t lease = wp_arena_lease(view, block, WP_LEASE_BORROW);
    MODEL_CHECK(lease != WP_NO_LEASE);
    wp_store_release(&names->taken, 1);
    MODEL_CHECK(*at(block) == 0);
    wp_arena_unlease(view, lease);
}
static void ender(void *arg) {
    (void)arg;
    model_await64(&names->taken, 0);
    MODEL_CHECK(wp_load_acquire(&names->taken) == 1);
    uint64_t block = wp_load_acquire(&names->block);
    MODEL_CHECK(*at(block) == 0);
    MODEL_CHECK(wp_arena_free(&a->view[0], block) != WP_FREE_ALIEN);
}
static void set_up_lend(void) {
    make();
    model_actor("maker", maker, NULL, 0);
    model_actor("borrower", borrower, NULL, 0);
    model_actor("ender", ender, NULL, 0);
}
static void lent(void) {
    give(&a->view[1], 1);
    give(&a->view[1], 2);
    all_free(&a->view[1]);
}

// ---- seat 1 gives its blocks back, and seat 2 has the span next

static void first_user(void *arg) {
    (void)arg;
    get(&a->view[1], 0); // or the other has it all
    give(&a->view[1], 0);
    wp_arena_flush(&a->view[1]);
}
static void second_user(void *arg) {
    (void)arg;
    for (int tries = 0; tries < 3 && get(&a->view[2], 1) == 0; tries++) {
    }
}
static void set_up_hand_on(void) {
    make();
    model_actor("first", first_user, NULL, 0);
    model_actor("second", second_user, NULL, 0);
}
static void handed_on(void) {
    give(&a->view[2], 1);
    wp_arena_flush(&a->view[1]);
    all_free(&a->view[2]);
}

// ---- seat 1 dies; its block is a result that seat 2, a home, harvests meanwhile

static void mortal_maker(void *arg) {
    (void)arg;
    uint64_t block = get(&a->view[1], 0);
    wp_store_relaxed(&names->block, block); // published by the state
    wp_store_release(&names->state, 1);
}
static void harvester(void *arg) {
    (void)arg;
    struct wp_arena_view *view = &a->view[2];
    model_await64(&names->state, 0);
    MODEL_CHECK(wp_load_acquire(&names->state) == 1);
    uint64_t block = wp_load_relaxed(&names->block);
    MODEL_CHECK(*at(block) == 0);
    a->held[0] = 0; // from here on, whoever has it may end its life
    // As wp_home_release of a worker. The name goes by a release store, which the recoverer
    // acquires: else one that still sees DONE, and no name, may not see the lease yet.
    uint32_t lease = wp_arena_lease(view, block, WP_LEASE_OWN);
    MODEL_CHECK(lease != WP_NO_LEASE);
    wp_store_release(&names->block, 0);
    wp_store_release(&names->state, 0);
    wp_arena_free_leased(view, lease);
}
static void recoverer(void *arg) {
    (void)arg;
    struct wp_arena_view *view = &a->view[0];
    for (;;) {
        uint32_t dead = model_await_death() == 0 ? 1 : 2;
        a->dead |= 1u << dead;
        struct wp_reclaim reclaim;
        MODEL_CHECK(wp_reclaim_begin(&reclaim, &view->spans, &view->leases, dead));
        if (wp_load_acquire(&names->state) != 0)
            wp_reclaim_keep(&reclaim, wp_load_acquire(&names->block));
        else if (dead == 1)
            a->held[0] = 0; // never published, or harvested
        wp_reclaim_end(&reclaim);
        if (dead == 1) model_start(a->heir_actor);
    }
}
static void heir(void *arg) {
    (void)arg;
    get(&a->heir, 1);
    get(&a->heir, 2);
}
static void set_up_harvest(unsigned harvester_flags) {
    make();
    open_view(&a->heir, 1);
    model_actor("maker", mortal_maker, NULL, MODEL_MORTAL);
    model_actor("harvester", harvester, NULL, MODEL_DAEMON | harvester_flags);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
    a->heir_actor = model_actor("heir", heir, NULL, MODEL_DORMANT);
}
static void set_up_reclaim(void) { set_up_harvest(0); }
static void set_up_reclaim_both(void) { set_up_harvest(MODEL_MORTAL); }
static void reclaimed(void) {
    struct wp_arena_view *view = a->dead & 2 ? &a->heir : &a->view[1];
    if (names->state.word != 0) return;                     // the harvester is dead: the block waits for its heir
    if (!(a->dead & 4)) wp_lease_purge(&a->view[2].leases); // what lapsed while a recovery was open
    if (!(a->dead & 2)) a->held[0] = 0;
    give(view, 1);
    give(view, 2);
    all_free(view);
}

// ---- seat 1 dies while seat 2 hands a block of its on: from its own lease to a slot that is DONE

static uint32_t *lease_of_giver;

static void idler(void *arg) {
    (void)arg;
    get(&a->view[1], 1);
    give(&a->view[1], 1);
}
static void giver(void *arg) {
    (void)arg;
    wp_store_relaxed(&names->block, a->held[0]); // published by the state
    wp_store_release(&names->state, 1);
    wp_arena_unlease(&a->view[2], *lease_of_giver);
}
static void recoverer_of_idler(void *arg) {
    (void)arg;
    model_await_death();
    a->dead |= 2;
    a->held[1] = 0;
    struct wp_reclaim reclaim;
    MODEL_CHECK(wp_reclaim_begin(&reclaim, &a->view[0].spans, &a->view[0].leases, 1));
    if (wp_load_acquire(&names->state) != 0) wp_reclaim_keep(&reclaim, wp_load_acquire(&names->block));
    wp_reclaim_end(&reclaim);
    model_start(a->heir_actor);
}
static void set_up_hand_over(void) {
    make();
    open_view(&a->heir, 1);
    MODEL_CHECK(get(&a->view[1], 0) != 0);
    lease_of_giver = model_private(sizeof *lease_of_giver);
    *lease_of_giver = wp_arena_lease(&a->view[2], a->held[0], WP_LEASE_OWN);
    MODEL_CHECK(*lease_of_giver != WP_NO_LEASE);
    model_actor("idler", idler, NULL, MODEL_MORTAL);
    model_actor("giver", giver, NULL, 0);
    model_actor("recoverer", recoverer_of_idler, NULL, MODEL_DAEMON);
    a->heir_actor = model_actor("heir", heir, NULL, MODEL_DORMANT);
}
static void nothing(void) {}

static const struct model_scenario scenarios[] = {
    {"lend", "a lent block is not given out again", set_up_lend, lent, {3, 4, 0}, {4, 5, 0}, false, NULL},
    {"hand_on", "a span is its next user's alone", set_up_hand_on, handed_on, {3, 4, 0}, {5, 5, 0}, false, NULL},
    {"hand_over", "what a slot takes over stays", set_up_hand_over, nothing, {3, 3, 1}, {4, 5, 1}, false, NULL},
    {"reclaim", "a dead seat's block ends once", set_up_reclaim, reclaimed, {2, 2, 1}, {3, 4, 1}, false, NULL},
    {"reclaim_both", "so does one that dies twice", set_up_reclaim_both, reclaimed, {2, 1, 2}, {3, 2, 2}, false, NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
