// model_slot.c — the state word: claim, finish, harvest, reuse, cancel, with hints that are stale.
//
// The payload is plain memory, and every access of it is race-checked: what the state word
// does not order is a violation. Law: each use of a slot is entered at most once, by whoever
// claimed that use, with that use's payload; the home reads that use's result.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "model_pool.h"

static struct model_pool *p;
static const uint32_t seat_of[] = {0, 1, 2, WP_NO_SEAT};

// The home's side, without queues and wake-ups: those are other programs'.
static wp_handle offer(uint32_t t) {
    struct wp_view *view = &p->view[0];
    wp_handle handle = wp_home_reserve(view);
    MODEL_CHECK(handle != WP_NO_HANDLE);
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    model_task_write(slot, t);
    p->task[t].handle = handle;
    p->task[t].submitted = 1;
    wp_slot_publish(slot, handle);
    return handle;
}

static void await_done(wp_handle handle) {
    struct wp_slot *slot = &p->view[0].slots[wp_handle_index(handle)];
    for (;;) {
        uint64_t state;
        if (wp_slot_is_done(slot, &state)) break;
        model_await64(&slot->state, state);
    }
    model_harvest_slot(p, &p->view[0], wp_handle_index(handle));
}

static void settle_by_hand(struct wp_view *view, uint32_t index) {
    struct wp_slot *slot = &view->slots[index];
    uint32_t t = model_task_read(slot);
    MODEL_CHECK(t < MODEL_TASKS && p->task[t].submitted);
    wp_slot_enter(slot);
    model_note("runs task %u", t);
    MODEL_CHECK(++p->task[t].entered <= slot->attempt_limit);
    model_task_write(slot, t + MODEL_RESULT);
    wp_slot_finish(slot, WP_OUTCOME_OK);
}

// Every use that was offered and is over has one outcome; hands that are dead hold nothing.
static void conserved(void) {
    struct wp_view *view = &p->view[0];
    for (uint32_t i = 0; i < view->slot_count; i++) {
        uint64_t state = view->slots[i].state.word;
        enum wp_phase phase = wp_state_phase(state);
        MODEL_CHECK(phase == WP_PHASE_FREE || phase == WP_PHASE_READY || phase == WP_PHASE_DONE);
        for (uint32_t t = 0; t < MODEL_TASKS; t++) {
            if (!p->task[t].submitted || wp_handle_index(p->task[t].handle) != i) continue;
            bool now = wp_handle_generation(p->task[t].handle) == wp_state_generation(state) && phase != WP_PHASE_FREE;
            MODEL_CHECK(p->task[t].settled == !now);
            if (now && phase == WP_PHASE_READY) MODEL_CHECK(p->task[t].entered == 0);
            if (now && phase == WP_PHASE_DONE && wp_state_outcome(state) == WP_OUTCOME_OK)
                MODEL_CHECK(p->task[t].entered == 1);
            if (!now && p->task[t].outcome == WP_OUTCOME_OK) MODEL_CHECK(p->task[t].entered == 1);
            if (!now && p->task[t].outcome == WP_OUTCOME_CANCELLED) MODEL_CHECK(p->task[t].entered == 0);
        }
    }
}

// ---- one slot, used three times; one worker goes by handles, one by bare indices

static void home_reuses(void *arg) {
    (void)arg;
    await_done(offer(0));
    await_done(offer(1));
    offer(2);
}
static void worker_by_handle(void *arg) {
    struct wp_view *view = arg;
    for (uint32_t use = 1; use <= 3; use++) {
        wp_handle handle = wp_handle_of(0, use); // may come before its use, or long after
        if (wp_slot_claim(&view->slots[0], handle, view->self) != WP_CLAIM_OK) continue;
        MODEL_CHECK(wp_state_generation(view->slots[0].state.word) == use);
        settle_by_hand(view, 0);
    }
}
static void worker_by_index(void *arg) {
    struct wp_view *view = arg;
    for (uint32_t look = 0; look < 3; look++)
        if (wp_slot_claim(&view->slots[0], WP_NO_HANDLE, view->self) == WP_CLAIM_OK) settle_by_hand(view, 0);
}
static void set_up_reuse_with(unsigned flags) {
    p = model_pool(3, 1, 1);
    model_actor("home", home_reuses, NULL, MODEL_DAEMON); // the workers may have given up before
    model_actor("worker 1", worker_by_handle, &p->view[1], flags);
    model_actor("worker 2", worker_by_index, &p->view[2], flags);
}
static void set_up_reuse(void) { set_up_reuse_with(0); }

// ---- a force task: whoever reads the target of another use cannot claim with it

static void home_forces(void *arg) {
    (void)arg;
    await_done(offer(0));
    struct wp_view *view = &p->view[0];
    wp_handle handle = wp_home_reserve(view);
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    wp_store_relaxed(&slot->target, wp_target(1, WP_STRENGTH_FORCE, 0));
    model_task_write(slot, 1);
    p->task[1].handle = handle;
    p->task[1].submitted = 1;
    wp_slot_publish(slot, handle);
}
static void stranger(void *arg) {
    struct wp_view *view = arg;
    for (uint32_t look = 0; look < 3; look++) {
        if (wp_slot_claim(&view->slots[0], WP_NO_HANDLE, view->self) != WP_CLAIM_OK) continue;
        MODEL_CHECK(wp_state_generation(view->slots[0].state.word) == 1); // the second use is not for it
        settle_by_hand(view, 0);
    }
}
static void set_up_force(void) {
    p = model_pool(3, 1, 1);
    model_actor("home", home_forces, NULL, MODEL_DAEMON);
    model_actor("worker 1", worker_by_handle, &p->view[1], 0);
    model_actor("stranger", stranger, &p->view[2], 0);
}

// ---- a home that takes its task back

static void home_cancels(void *arg) {
    (void)arg;
    struct wp_view *view = &p->view[0];
    wp_handle handle = offer(0);
    if (wp_slot_cancel(&view->slots[0], handle))
        model_harvest_slot(p, view, 0);
    else
        await_done(handle);
    offer(1);
}
static void set_up_cancel(void) {
    p = model_pool(3, 1, 1);
    model_actor("home", home_cancels, NULL, MODEL_DAEMON);
    model_actor("worker 1", worker_by_handle, &p->view[1], 0);
    model_actor("worker 2", worker_by_index, &p->view[2], 0);
}

// ---- deaths: claimed and not entered comes back, entered has died, finished is finished

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
    set_up_reuse_with(MODEL_MORTAL);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
}

static const struct model_scenario scenarios[] = {
    {"reuse",
     "a use is claimed once, with its own payload",
     set_up_reuse,
     conserved,
     {2, 3, 0},
     {7, MODEL_ANY, 0},
     false,
     NULL},
    {"force", "a force task is its target's alone", set_up_force, conserved, {3, 3, 0}, {7, MODEL_ANY, 0}, false, NULL},
    {"cancel",
     "a cancelled task is never entered",
     set_up_cancel,
     conserved,
     {3, 3, 0},
     {7, MODEL_ANY, 0},
     false,
     NULL},
    {"death", "a death costs at most the task in hand", set_up_death, conserved, {2, 1, 1}, {3, 4, 2}, false, NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
