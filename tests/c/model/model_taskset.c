// model_taskset.c — the task set: add, find, remove, take, and slots that are used again.
//
// A bit is a hint and may be stale; but no slot that is READY may be without one. Law: whatever is
// READY or DONE in the end has its bit, and the bit is announced in the summary.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "model_pool.h"

static struct model_pool *p;
static const uint32_t seat_of[] = {0, 1, 2, WP_NO_SEAT, WP_NO_SEAT};

static void offer(uint32_t index, uint32_t t) {
    struct wp_view *view = &p->view[0];
    struct wp_slot *slot = &view->slots[index];
    wp_handle handle = wp_slot_reserve(slot, index);
    wp_store_relaxed(&slot->target, MODEL_PLAIN_TARGET);
    slot->attempt_limit = 1;
    model_task_write(slot, t);
    p->task[t].handle = handle;
    p->task[t].submitted = 1;
    wp_slot_publish(slot, handle);
    wp_taskset_add(&view->orphans, index);
}

static void await_and_free(uint32_t index) {
    struct wp_slot *slot = &p->view[0].slots[index];
    for (uint64_t state; !wp_slot_is_done(slot, &state);) model_await64(&slot->state, state);
    wp_slot_free(slot);
}

static uint32_t looks;
static void taker(void *arg) {
    struct wp_view *view = arg;
    uint32_t looked = 0, index;
    for (uint32_t look = 0; look < looks; look++) {
        if (wp_search_set(view, &view->orphans, &looked, &index) != WP_FIND_OK) continue;
        struct wp_slot *slot = &view->slots[index];
        uint32_t t = model_task_read(slot);
        wp_slot_enter(slot);
        model_note("runs task %u", t);
        MODEL_CHECK(++p->task[t].entered == 1);
        wp_slot_finish(slot, WP_OUTCOME_OK);
    }
}

// What is READY can be found; what is over was entered once.
static void findable(void) {
    struct wp_view *view = &p->view[0];
    for (uint32_t t = 0; t < MODEL_TASKS; t++) {
        if (!p->task[t].submitted) continue;
        uint32_t index = wp_handle_index(p->task[t].handle);
        uint64_t state = view->slots[index].state.word;
        bool now = wp_state_generation(state) == wp_handle_generation(p->task[t].handle);
        if (now && wp_state_phase(state) == WP_PHASE_RESERVED) continue; // its home was still at it
        if (now && wp_state_phase(state) == WP_PHASE_READY) {
            MODEL_CHECK(p->task[t].entered == 0);
            MODEL_CHECK(model_set_has(&view->orphans, index));
        } else {
            MODEL_CHECK(p->task[t].entered == 1 || p->deaths > 0);
        }
        if (now) MODEL_CHECK(wp_state_phase(state) != WP_PHASE_CLAIMED && wp_state_phase(state) != WP_PHASE_RUNNING);
    }
}

// ---- a slot used twice while its first bit is being taken out

static void home_reuses(void *arg) {
    (void)arg;
    offer(0, 0);
    await_and_free(0);
    offer(0, 1);
    if (!model_is_long()) return;
    await_and_free(0);
    offer(0, 2);
}
static void set_up_reuse(void) {
    p = model_pool(3, 2, 1);
    looks = 2;
    model_actor("home", home_reuses, NULL, MODEL_DAEMON);
    model_actor("taker 1", taker, &p->view[1], 0);
    model_actor("taker 2", taker, &p->view[2], 0);
}

// ---- two slots in one leaf: an adder meets whoever lowers the summary

static void home_adds(void *arg) {
    (void)arg;
    offer(0, 0);
    offer(1, 1);
}
static void set_up_lower(void) {
    p = model_pool(3, 2, 1);
    looks = 2;
    model_actor("home", home_adds, NULL, 0);
    model_actor("taker 1", taker, &p->view[1], 0);
    model_actor("taker 2", taker, &p->view[2], 0);
}

// ---- two leaves, two adders

static void home_adds_high(void *arg) {
    (void)arg;
    offer(64, 0);
    offer(1, 1);
}
static void set_up_leaves(void) {
    p = model_pool(3, 65, 1);
    looks = 2;
    model_actor("home", home_adds_high, NULL, 0);
    model_actor("taker 1", taker, &p->view[1], 0);
    model_actor("taker 2", taker, &p->view[2], 0);
}

// ---- a taker dies: recovery puts back what it had claimed and not entered

static void recoverer(void *arg) {
    (void)arg;
    for (;;) {
        uint32_t seat = seat_of[model_await_death()];
        struct wp_death death = {.pid = 1, .status = -9, .seat = seat, .entered = 0};
        struct wp_recovered out = {0, 0, 0, 0};
        p->deaths++;
        for (uint32_t i = 0; i < p->recoverer.slot_count; i++) wp_recover_slot(&p->recoverer, i, seat, &death, &out);
    }
}
static void set_up_death(void) {
    p = model_pool(3, 2, 1);
    looks = 2;
    model_actor("home", home_adds, NULL, 0);
    model_actor("taker 1", taker, &p->view[1], MODEL_MORTAL);
    model_actor("taker 2", taker, &p->view[2], MODEL_MORTAL);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
}

// ---- completions: two finishers add, the home takes leaf by leaf

static void finisher(void *arg) {
    struct wp_view *view = arg;
    struct wp_place *home = &view->places[0];
    for (uint32_t i = view->self - 1; i < home->slots; i += 2) {
        model_plain_write(&view->slots[i].bytes, 1); // a result; the bit hands it over too
        wp_taskset_add(&home->completions, i);
    }
}
static uint64_t *taken; // by the home
static void home_takes(void *arg) {
    (void)arg;
    struct wp_view *view = &p->view[0];
    for (uint32_t look = 0; look < 3; look++) {
        uint32_t base;
        uint64_t bits = wp_taskset_take(&view->places[0].completions, 0, &base);
        MODEL_CHECK((*taken & bits) == 0); // added once, taken once
        *taken |= bits;
        for (; bits != 0; bits &= bits - 1)
            model_plain_read(&view->slots[base + (uint32_t)__builtin_ctzll(bits)].bytes, 1);
    }
}
static void set_up_take(void) {
    p = model_pool(3, 3, 1);
    taken = model_private(sizeof *taken);
    model_actor("home", home_takes, NULL, 0);
    model_actor("finisher 1", finisher, &p->view[1], 0);
    model_actor("finisher 2", finisher, &p->view[2], 0);
}
static void all_taken(void) {
    struct wp_taskset *set = &p->view[0].places[0].completions;
    for (uint32_t i = 0; i < 3; i++) MODEL_CHECK((*taken >> i & 1) != model_set_has(set, i));
}

static const struct model_scenario scenarios[] = {
    {"reuse", "a bit meant for the next use is not lost", set_up_reuse, findable, {2, 2, 0}, {4, 4, 0}, false, NULL},
    {"lower", "a summary bit is not lost", set_up_lower, findable, {2, 2, 0}, {4, 4, 0}, false, NULL},
    {"leaves", "the same over two leaves", set_up_leaves, findable, {2, 1, 0}, {3, 3, 0}, false, NULL},
    {"death", "what a dead taker had is put back", set_up_death, findable, {2, 1, 1}, {3, 2, 2}, false, NULL},
    {"take", "each completion is taken once", set_up_take, all_taken, {3, 3, 0}, {7, MODEL_ANY, 0}, false, NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
