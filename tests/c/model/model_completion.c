// model_completion.c — a task is settled, and its home learns of it, asleep in whatever way.
//
// The tasks are RUNNING from the beginning: only finish, completion bit, wake-up, wait and
// harvest are explored. Law: the home, which has no time-out, harvests every outcome once.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "model_pool.h"

static struct model_pool *p;
static const uint32_t seat_of[] = {0, 1, 2, WP_NO_SEAT};

// Tasks 0 … tasks - 1 of home seat 0, run by seats 1, 2, 1 …
static void running(uint32_t tasks) {
    for (uint32_t t = 0; t < tasks; t++) {
        struct wp_view *view = &p->view[0];
        uint32_t seat = 1 + t % 2;
        model_submit(p, view, t, MODEL_PLAIN_TARGET);
        struct wp_slot *slot = &view->slots[wp_handle_index(p->task[t].handle)];
        MODEL_CHECK(wp_slot_claim(slot, p->task[t].handle, seat) == WP_CLAIM_OK);
        wp_slot_enter(slot);
        p->task[t].entered = 1;
    }
}

static void finisher(void *arg) {
    struct wp_view *view = arg;
    for (uint32_t t = view->self - 1; t < MODEL_TASKS; t += 2) {
        if (!p->task[t].entered) break;
        uint32_t index = wp_handle_index(p->task[t].handle);
        model_task_write(&view->slots[index], t + MODEL_RESULT);
        wp_finish(view, index, WP_OUTCOME_OK);
    }
}
static void recoverer(void *arg) {
    (void)arg;
    for (;;) model_recover(p, seat_of);
}

static uint32_t *tasks; // how many the home waits for

// The home's own notes: it alone writes them.
static bool all_settled(void) {
    for (uint32_t t = 0; t < *tasks; t++)
        if (!p->task[t].settled) return false;
    return true;
}

static void set_up_with(uint32_t count, void (*home)(void *), unsigned flags) {
    p = model_pool(3, 3, 1);
    tasks = model_private(sizeof *tasks);
    *tasks = count;
    for (uint32_t s = 0; s < 3; s++) p->view[s].places[0].eventfd = 0;
    p->recoverer.places[0].eventfd = 0;
    running(count);
    model_actor("home", home, NULL, 0);
    model_actor("finisher 1", finisher, &p->view[1], flags);
    model_actor("finisher 2", finisher, &p->view[2], flags);
    if (flags & MODEL_MORTAL) model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
}

// ---- for any completion

static void home_waits_any(void *arg) {
    (void)arg;
    for (;;) {
        model_harvest(p, &p->view[0]);
        if (all_settled()) return;
        wp_home_wait(&p->view[0], WP_NO_HANDLE, -1);
    }
}
static void set_up_any(void) { set_up_with(model_is_long() ? 3 : 2, home_waits_any, 0); }

// ---- for one task, then for another

static void home_waits_each(void *arg) {
    (void)arg;
    for (uint32_t t = 0; t < *tasks; t++)
        for (;;) {
            model_harvest(p, &p->view[0]);
            if (p->task[t].settled) break;
            wp_home_wait(&p->view[0], p->task[t].handle, -1);
        }
}
static void set_up_each(void) { set_up_with(model_is_long() ? 3 : 2, home_waits_each, 0); }

// ---- for one task that comes later than those before it did

static void sleeps_early(void) {
    p->view[0].spin_max_ns = 1;
    p->view[0].wait_low_ns = 1000 * WP_EARLY_WAKE_NS;
    p->view[0].wait_hits = WP_EARLY_SURE;
    p->view[0].cpus = 0; // none to look on: it sleeps again at once
}
static void set_up_early(void) {
    set_up_with(2, home_waits_each, 0);
    sleeps_early();
}

// ---- for one whose finisher is stopped between the outcome and its announcement

static void set_up_stopped(void) {
    p = model_pool(3, 3, 1);
    tasks = model_private(sizeof *tasks);
    *tasks = 1;
    running(1);
    uint32_t index = wp_handle_index(p->task[0].handle);
    model_task_write(&p->view[1].slots[index], MODEL_RESULT);
    wp_slot_finish(&p->view[1].slots[index], WP_OUTCOME_OK);
    model_actor("home", home_waits_each, NULL, 0);
}

// ---- in an event loop

static void home_loops(void *arg) {
    (void)arg;
    while (!all_settled()) {
        while (!wp_home_arm(&p->view[0])) {
            model_harvest(p, &p->view[0]);
            if (all_settled()) return;
        }
        model_eventfd_wait(0);
        model_harvest(p, &p->view[0]);
    }
}
static void set_up_eventfd(void) { set_up_with(2, home_loops, 0); }

// ---- in an event loop that a waiting thread interrupts

static void home_loops_and_waits(void *arg) {
    (void)arg;
    struct wp_view *view = &p->view[0];
    bool armed = wp_home_arm(view);
    // A thread leads: with the eventfd still armed, it must be woken by its futex.
    for (;;) {
        model_harvest(p, view);
        if (p->task[0].settled) break;
        wp_home_wait(view, p->task[0].handle, -1);
    }
    if (armed) wp_home_disarm(view);
    home_loops(NULL);
}
static void set_up_both(void) { set_up_with(2, home_loops_and_waits, 0); }

// ---- two threads of the home: the one that sleeps for its own task learns that another waits

static struct followers {
    wp_atomic32 waiting;
    wp_atomic32 served;
} *followers;

static void leader(void *arg) {
    (void)arg;
    struct wp_view *view = &p->view[0];
    while (!p->task[0].settled) {
        model_harvest(p, view);
        // The follower's lock is released by whoever harvests its task.
        if (p->task[1].settled) wp_store_release(&followers->served, 1);
        if (p->task[0].settled) break;
        bool alone = wp_load_acquire(&followers->waiting) == 0;
        wp_home_wait(view, alone ? p->task[0].handle : WP_NO_HANDLE, -1);
    }
}
static void follower(void *arg) {
    (void)arg;
    wp_store_release(&followers->waiting, 1);
    wp_unpark(&p->recoverer, 0); // Gatherer._follow: the leader may sleep for its own task alone
    model_await32(&followers->served, 0);
    // Only now does the leader's task end: a leader that misses the follower waits for ever.
    uint32_t index = wp_handle_index(p->task[0].handle);
    model_task_write(&p->view[1].slots[index], 0 + MODEL_RESULT);
    wp_finish(&p->view[1], index, WP_OUTCOME_OK);
}
static void set_up_follower(void) {
    p = model_pool(3, 3, 1);
    tasks = model_private(sizeof *tasks);
    *tasks = 2;
    followers = model_shared(sizeof *followers);
    model_name(&followers->waiting, 4, "waiting");
    model_name(&followers->served, 4, "served");
    running(2);
    model_actor("leader", leader, NULL, 0);
    model_actor("follower", follower, NULL, 0);
    model_actor("finisher 2", finisher, &p->view[2], 0);
}

// ---- another thread arms the eventfd beside the one that sleeps

static void armer(void *arg) {
    (void)arg;
    (void)wp_home_arm(&p->view[0]); // it takes a token that it finds
}
static void set_up_armer(void) {
    set_up_with(1, home_waits_any, 0);
    model_actor("armer", armer, NULL, 0);
}

static void set_up_follower_early(void) {
    set_up_follower();
    sleeps_early();
}

// ---- with polling in place of futexes

static void set_up_poll(void) {
    set_up_with(2, home_waits_any, 0);
    for (uint32_t s = 0; s < 3; s++) p->view[s].polls = true;
}

// ---- deaths

static void set_up_death(void) { set_up_with(2, home_waits_any, MODEL_MORTAL); }
static void set_up_death_each(void) { set_up_with(2, home_waits_each, MODEL_MORTAL); }
static void set_up_death_eventfd(void) { set_up_with(2, home_loops, MODEL_MORTAL); }

static void settled(void) {
    for (uint32_t t = 0; t < *tasks; t++) {
        MODEL_CHECK(p->task[t].settled == 1);
        MODEL_CHECK(p->task[t].outcome == WP_OUTCOME_OK || (p->task[t].outcome == WP_OUTCOME_DIED && p->deaths > 0));
    }
    for (uint32_t i = 0; i < p->view[0].slot_count; i++)
        MODEL_CHECK(wp_state_phase(p->view[0].slots[i].state.word) == WP_PHASE_FREE);
}

static const struct model_scenario scenarios[] = {
    {"any", "a sleep for any completion ends", set_up_any, settled, {3, 3, 0}, {4, MODEL_ANY, 0}, false, NULL},
    {"each", "a sleep for one task ends", set_up_each, settled, {3, 3, 0}, {4, MODEL_ANY, 0}, false, NULL},
    {"early", "a sleep that was too short goes on", set_up_early, settled, {3, 3, 0}, {4, MODEL_ANY, 0}, false, NULL},
    {"stopped", "an outcome not announced", set_up_stopped, settled, {3, 3, 0}, {4, MODEL_ANY, 0}, false, NULL},
    {"eventfd", "an event loop is told", set_up_eventfd, settled, {3, 3, 0}, {4, MODEL_ANY, 0}, false, NULL},
    {"both",
     "an armed eventfd hides no sleeping thread",
     set_up_both,
     settled,
     {3, 3, 0},
     {4, MODEL_ANY, 0},
     false,
     NULL},
    {"follower",
     "a leader asleep for its own task hears of a follower",
     set_up_follower,
     settled,
     {3, 3, 0},
     {4, MODEL_ANY, 0},
     false,
     NULL},
    {"armer",
     "who arms the eventfd takes no sleeper's waking",
     set_up_armer,
     settled,
     {3, 3, 0},
     {4, MODEL_ANY, 0},
     false,
     NULL},
    {"follower_early",
     "the same in a sleep that ends early",
     set_up_follower_early,
     settled,
     {3, 3, 0},
     {4, MODEL_ANY, 0},
     false,
     NULL},
    {"poll", "the same by polling", set_up_poll, settled, {3, 3, 0}, {4, MODEL_ANY, 0}, false, NULL},
    {"death", "a dead finisher's outcome arrives", set_up_death, settled, {2, 2, 1}, {3, 3, 2}, false, NULL},
    {"death_each", "the same for one task", set_up_death_each, settled, {2, 2, 1}, {3, 3, 2}, false, NULL},
    {"death_eventfd", "the same in an event loop", set_up_death_eventfd, settled, {2, 2, 1}, {3, 3, 2}, false, NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
