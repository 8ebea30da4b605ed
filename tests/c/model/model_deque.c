// model_deque.c — the deque under all interleavings: owner, two thieves, wrap-around,
// and a death of anyone at any step with a new incarnation on the same indices.
//
// Law: a handle is taken at most once; without a death, each that was pushed was taken
// or is still there. What a new incarnation pushes is never taken for, or hidden
// by, what its predecessor left.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_deque.h"

#include "model.h"

#define HANDLES 8u

static struct notes {
    struct wp_deque deque;
    uint32_t pushed[HANDLES];
    uint32_t taken[HANDLES];
    int64_t index[HANDLES]; // where it was pushed
    uint32_t deaths;
    bool heir_ended;
    int heir;
} *n;

static void make(uint64_t capacity) {
    n = model_private(sizeof *n);
    void *memory = model_shared(wp_deque_bytes(capacity));
    n->deque = wp_deque_at(memory, capacity);
    model_name(&n->deque.ends->top, 8, "top");
    model_name(&n->deque.ends->bottom, 8, "bottom");
    model_name(n->deque.entries, capacity * 8, "entries");
}

static void take(uint64_t handle, bool stolen) {
    MODEL_CHECK(handle < HANDLES && n->pushed[handle] == 1);
    model_note("takes %u", (unsigned)handle);
    MODEL_CHECK(++n->taken[handle] == 1);
    // The owner may write the entry again only after this load of it.
    if (stolen) model_consumed(wp_deque_entry(&n->deque, n->index[handle]));
}

// Returns whether there was room.
static bool push(uint64_t handle) {
    n->pushed[handle] = 1; // first: a thief may have it before the push returns
    n->index[handle] = (int64_t)model_peek64(&n->deque.ends->bottom);
    if (wp_deque_push(&n->deque, handle)) return true;
    n->pushed[handle] = 0;
    return false;
}

static void pop(void) {
    uint64_t handle;
    if (wp_deque_pop(&n->deque, &handle)) take(handle, false);
}

static void thief_once(void *arg) {
    (void)arg;
    uint64_t handle;
    if (wp_deque_steal(&n->deque, &handle) == WP_STEAL_OK) take(handle, true);
}
static void thief_twice(void *arg) {
    thief_once(arg);
    thief_once(arg);
}

// Everything that was pushed came out exactly once, or is there.
static void conserved(void) {
    uint64_t handle;
    while (wp_deque_pop(&n->deque, &handle)) take(handle, false);
    for (uint64_t h = 0; h < HANDLES; h++) MODEL_CHECK(n->taken[h] == n->pushed[h]);
    MODEL_CHECK(wp_deque_size(&n->deque) == 0);
}

// ---- a lap and a half round two entries

static void owner_wraps(void *arg) {
    (void)arg;
    push(1);
    push(2);
    pop();
    push(3);
    push(4);
    pop();
    push(5);
}
static void set_up_wrap(void) {
    make(2);
    model_actor("owner", owner_wraps, NULL, 0);
    model_actor("thief 1", thief_twice, NULL, 0);
    model_actor("thief 2", model_is_long() ? thief_twice : thief_once, NULL, 0);
}

// ---- a fight over the last handle

static void owner_pops_last(void *arg) {
    (void)arg;
    MODEL_CHECK(push(1));
    pop();
    MODEL_CHECK(push(2)); // there is room, whoever had the last
    MODEL_CHECK(push(3));
    pop();
    pop();
}
static void set_up_last(void) {
    make(4);
    model_actor("owner", owner_pops_last, NULL, 0);
    model_actor("thief 1", thief_twice, NULL, 0);
    model_actor("thief 2", model_is_long() ? thief_twice : thief_once, NULL, 0);
}

// ---- deaths

static void mortal_owner(void *arg) {
    (void)arg;
    push(1);
    push(2);
    pop();
    push(3);
    pop();
}
static void heir(void *arg) {
    (void)arg;
    MODEL_CHECK(push(4));
    MODEL_CHECK(push(5));
    pop();
    n->heir_ended = true;
}
static void recoverer(void *arg) {
    (void)arg;
    for (;;) {
        int dead = model_await_death();
        n->deaths++;
        if (dead != 0) continue; // a thief: it held a hint at most
        wp_deque_discard(&n->deque);
        model_start(n->heir);
    }
}
static void set_up_death(void) {
    make(2);
    model_actor("owner", mortal_owner, NULL, MODEL_MORTAL);
    model_actor("thief 1", thief_twice, NULL, MODEL_MORTAL);
    model_actor("thief 2", model_is_long() ? thief_twice : thief_once, NULL, MODEL_MORTAL);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
    n->heir = model_actor("heir", heir, NULL, MODEL_DORMANT);
}
static void conserved_but_for_the_dead(void) {
    if (n->deaths == 0) {
        conserved();
        return;
    }
    uint64_t handle;
    while (wp_deque_pop(&n->deque, &handle)) take(handle, false);
    // Only a thief's death after its CAS loses a hint of a living owner.
    uint32_t lost = 0;
    for (uint64_t h = 4; h <= 5; h++) lost += n->pushed[h] - n->taken[h];
    MODEL_CHECK(lost <= n->deaths - (n->heir_ended ? 1 : 0));
    MODEL_CHECK(wp_deque_size(&n->deque) == 0);
}

static const struct model_scenario scenarios[] = {
    {"wrap",
     "each handle comes out once, over several laps",
     set_up_wrap,
     conserved,
     {2, 3, 0},
     {4, MODEL_ANY, 0},
     false,
     NULL},
    {"last", "the last handle has one taker", set_up_last, conserved, {2, 3, 0}, {4, MODEL_ANY, 0}, false, NULL},
    {"death",
     "a new incarnation begins with an empty deque",
     set_up_death,
     conserved_but_for_the_dead,
     {2, 2, 1},
     {3, 5, 2},
     false,
     NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
