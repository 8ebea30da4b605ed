// model_recover.c — a worker dies at any step; the parent recovers; a new incarnation sits down.
//
// The owner is a home with a deque of its own, the thief a whole worker that sleeps and is
// woken, the heir the owner's seat again. Law: every task that was offered has one outcome,
// is entered at most once (unless it may be retried), and in the end nothing is READY,
// nothing is in dead hands, and everybody who is alive sleeps.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "model_pool.h"

static struct model_pool *p;
static const uint32_t seat_of[] = {1, 2, WP_NO_SEAT, 1};
static int heir_actor;

static void thief(void *arg) { model_work(p, arg); }
static void recoverer(void *arg) {
    (void)arg;
    for (;;) {
        uint32_t seat = model_recover(p, seat_of);
        wp_seat_next_incarnation(&p->recoverer, seat);
        wp_seat_take(&p->recoverer, seat, 2);
        if (seat == 1) model_start(heir_actor);
    }
}

// ---- the owner pushes, pops, runs; the thief steals; the heir pushes on the same deque

static void owner(void *arg) {
    struct wp_view *view = arg;
    uint32_t index;
    model_submit(p, view, 0, MODEL_PLAIN_TARGET);
    model_submit(p, view, 1, MODEL_PLAIN_TARGET);
    while (wp_search_own(view, &index) == WP_FIND_OK) model_run(p, view, index);
}
static void heir(void *arg) {
    struct wp_view *view = arg;
    wp_home_begin(view);
    model_submit(p, view, 2, MODEL_PLAIN_TARGET);
    model_work(p, view);
}
static void set_up_actors(void (*first)(void *), void (*again)(void *), unsigned thief_flags) {
    p = model_pool(3, 1, 3);
    model_pool_open(p, &p->view[3], 1); // the heir's own view of the seat
    model_actor("owner", first, &p->view[1], MODEL_MORTAL);
    model_actor("thief", thief, &p->view[2], MODEL_DAEMON | thief_flags);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
    heir_actor = model_actor("heir", again, &p->view[3], MODEL_DORMANT | MODEL_DAEMON);
}
static void set_up_owner(void) { set_up_actors(owner, heir, 0); }

static void owner_of_one(void *arg) {
    struct wp_view *view = arg;
    uint32_t index;
    model_submit(p, view, 0, MODEL_PLAIN_TARGET);
    if (wp_search_own(view, &index) == WP_FIND_OK) model_run(p, view, index);
}
static void heir_of_one(void *arg) {
    struct wp_view *view = arg;
    wp_home_begin(view);
    model_work(p, view);
}
static void set_up_one(void) { set_up_actors(owner_of_one, heir_of_one, 0); }

static void conserved(void) {
    // With the thief dead and the owner gone home, nobody is there who could run anything.
    bool somebody = !(p->dead & 4) || (p->dead & 2);
    model_check_slots(p, somebody);
    uint32_t unsettled = 0;
    for (uint32_t t = 0; t < MODEL_TASKS; t++) {
        struct model_task *task = &p->task[t];
        if (!task->submitted) continue;
        unsettled += !task->settled;
        if (task->settled && task->outcome == WP_OUTCOME_OK) MODEL_CHECK(task->entered == 1);
        if (!task->settled && !(p->dead & 2)) { // DONE, and its home has left
            uint64_t state = p->view[0].slots[wp_handle_index(task->handle)].state.word;
            if (wp_state_outcome(state) == WP_OUTCOME_OK)
                MODEL_CHECK(task->entered == 1);
            else
                MODEL_CHECK(p->dead & 4);
        }
        if (task->settled && task->outcome == WP_OUTCOME_DIED) MODEL_CHECK(p->deaths > 0);
    }
    // What was reserved and not offered has no outcome; all else was harvested by the heir.
    if (p->dead & 2) MODEL_CHECK(unsettled <= p->recovered.freed);
    MODEL_CHECK(p->recovered.freed <= p->deaths && p->recovered.died <= p->deaths);
}

// ---- both may die: two recoveries, one after the other

static void set_up_both(void) { set_up_actors(owner_of_one, heir_of_one, MODEL_MORTAL); }

// ---- a task that may be retried: its argument stays, and another worker runs it again

static void owner_retries(void *arg) {
    struct wp_view *view = arg;
    wp_handle handle = wp_home_reserve(view);
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    slot->attempt_limit = 2;
    model_task_write(slot, 0);
    p->task[0].handle = handle;
    p->task[0].submitted = 1;
    wp_home_submit(view, handle);
    uint32_t index;
    if (wp_search_own(view, &index) != WP_FIND_OK) return;
    MODEL_CHECK(model_task_read(&view->slots[index]) == 0);
    wp_enter(view, index);
    MODEL_CHECK(++p->task[0].entered <= 2);
    view->slots[index].result.bytes = MODEL_RESULT;
    wp_leave(view, index, WP_OUTCOME_OK);
}
static void retrier(void *arg) {
    struct wp_view *view = arg;
    uint32_t index;
    while (wp_next_wait(view, &index, -1) == WP_NEXT_TASK) {
        MODEL_CHECK(model_task_read(&view->slots[index]) == 0);
        wp_enter(view, index);
        MODEL_CHECK(++p->task[0].entered <= 2);
        view->slots[index].result.bytes = MODEL_RESULT;
        wp_leave(view, index, WP_OUTCOME_OK);
    }
}
static void heir_looks(void *arg) {
    struct wp_view *view = arg;
    uint32_t first;
    wp_home_begin(view);
    uint64_t bits = wp_home_take(view, &first);
    for (; bits != 0; bits &= bits - 1) {
        struct wp_slot *slot = &view->slots[first + (uint32_t)__builtin_ctzll(bits)];
        uint64_t state;
        if (wp_slot_is_done(slot, &state)) MODEL_CHECK(slot->result.bytes == MODEL_RESULT);
    }
}
static void set_up_retry(void) {
    p = model_pool(3, 1, 1);
    model_pool_open(p, &p->view[3], 1);
    model_actor("owner", owner_retries, &p->view[1], MODEL_MORTAL);
    model_actor("worker", retrier, &p->view[2], MODEL_DAEMON);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
    heir_actor = model_actor("heir", heir_looks, &p->view[3], MODEL_DORMANT);
}
static void retried(void) {
    uint64_t state = p->view[0].slots[1].state.word;
    enum wp_phase phase = wp_state_phase(state);
    MODEL_CHECK(phase == WP_PHASE_FREE || phase == WP_PHASE_DONE);
    if (phase == WP_PHASE_FREE) MODEL_CHECK(p->recovered.freed == 1 || !p->task[0].submitted);
    // A retry that could run did run: nothing died for good.
    if (phase == WP_PHASE_DONE) MODEL_CHECK(wp_state_outcome(state) == WP_OUTCOME_OK);
}

// ---- the home asks for a cancel; whether before, during or after a death, there is one outcome

static void canceller(void *arg) {
    struct wp_view *view = arg;
    model_submit(p, view, 0, wp_target(2, WP_STRENGTH_FORCE, 0));
    wp_handle handle = p->task[0].handle;
    struct wp_slot *slot = &view->slots[wp_handle_index(handle)];
    wp_store_relaxed(&slot->cancel, 1);
    if (wp_slot_cancel(slot, handle)) model_harvest_slot(p, view, wp_handle_index(handle));
    while (!p->task[0].settled) {
        model_harvest(p, view);
        if (!p->task[0].settled) wp_home_wait(view, handle, -1);
    }
}
static const uint32_t seat_of_cancel[] = {0, 2, WP_NO_SEAT, 2};
static void recoverer_of_cancel(void *arg) {
    (void)arg;
    model_recover(p, seat_of_cancel);
    model_start(heir_actor);
}
static void mortal_runner(void *arg) {
    struct wp_view *view = arg;
    uint32_t index;
    for (uint32_t look = 0; look < 2; look++)
        if (wp_search_mailbox(view, view->self, WP_STRENGTH_FORCE, &index) == WP_FIND_OK) model_run(p, view, index);
}
static void set_up_cancel(void) {
    p = model_pool(3, 1, 1);
    model_pool_open(p, &p->view[3], 2);
    model_actor("parent", canceller, &p->view[0], 0);
    model_actor("worker", mortal_runner, &p->view[2], MODEL_MORTAL);
    model_actor("recoverer", recoverer_of_cancel, NULL, MODEL_DAEMON);
    heir_actor = model_actor("heir", thief, &p->view[3], MODEL_DORMANT | MODEL_DAEMON);
}
static void cancelled(void) {
    MODEL_CHECK(p->task[0].settled == 1);
    if (p->task[0].outcome == WP_OUTCOME_OK) MODEL_CHECK(p->task[0].entered == 1);
    // It was asked for: a task that died meanwhile counts as cancelled, or died before.
    if (p->deaths == 0) MODEL_CHECK(p->task[0].outcome == WP_OUTCOME_OK || p->task[0].outcome == WP_OUTCOME_CANCELLED);
    model_check_slots(p, true);
}

static const struct model_scenario scenarios[] = {
    {"one",
     "an owner's death costs at most the task in its hands",
     set_up_one,
     conserved,
     {2, 0, 1},
     {2, 2, 1},
     false,
     NULL},
    {"owner",
     "the same with two tasks, and an heir that pushes on the same deque",
     set_up_owner,
     conserved,
     {1, 0, 1},
     {2, 2, 1},
     false,
     NULL},
    {"both", "owner and thief die", set_up_both, conserved, {0, 1, 2}, {2, 1, 2}, false, NULL},
    {"retry", "a task with retries runs again", set_up_retry, retried, {2, 1, 1}, {3, 2, 1}, false, NULL},
    {"cancel", "a cancelled task has one outcome", set_up_cancel, cancelled, {2, 1, 1}, {3, 2, 1}, false, NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
