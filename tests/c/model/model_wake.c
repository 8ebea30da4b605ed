// model_wake.c — going to sleep and being woken: no wake-up is lost, whoever dies.
//
// The parent submits and sleeps for the outcomes; workers search, park, run. Nobody has a
// time-out: if a wake-up is lost, everybody sleeps and the parent waits for ever, which
// the engine reports.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "model_pool.h"

static struct model_pool *p;

static void parent_waits_for_all(uint32_t tasks) {
    struct wp_view *view = &p->view[0];
    for (;;) {
        model_harvest(p, view);
        uint32_t settled = 0;
        for (uint32_t t = 0; t < MODEL_TASKS; t++)
            settled += wp_view_home(view, wp_handle_index(p->task[t].handle)) == 0 ? p->task[t].settled : 0;
        if (settled >= tasks) return;
        wp_home_wait(view, WP_NO_HANDLE, -1);
    }
}

static void parent_submits_one(void *arg) {
    uint32_t target = arg != NULL ? *(uint32_t *)arg : MODEL_PLAIN_TARGET;
    model_submit(p, &p->view[0], 0, target);
    parent_waits_for_all(1);
}
static void parent_submits_two(void *arg) {
    (void)arg;
    model_submit(p, &p->view[0], 0, MODEL_PLAIN_TARGET);
    model_submit(p, &p->view[0], 1, MODEL_PLAIN_TARGET);
    parent_waits_for_all(2);
}
static void worker(void *arg) { model_work(p, arg); }

static void settled(void) {
    model_check_settled(p, 0);
    model_check_slots(p, true);
}

static void set_up_workers(void (*parent)(void *), void *arg, unsigned flags) {
    model_actor("parent", parent, arg, 0);
    model_actor("worker 1", worker, &p->view[1], MODEL_DAEMON | flags);
    model_actor("worker 2", worker, &p->view[2], MODEL_DAEMON | flags);
}
static void set_up_one(void) {
    p = model_pool(3, 2, 1);
    set_up_workers(parent_submits_one, NULL, 0);
}
static void set_up_two(void) {
    p = model_pool(3, 2, 1);
    set_up_workers(parent_submits_two, NULL, 0);
}

// ---- a task for one seat

static void set_up_target(enum wp_strength strength) {
    p = model_pool(3, 2, 1);
    uint32_t *target = model_private(sizeof *target);
    *target = wp_target(2, strength, 0);
    set_up_workers(parent_submits_one, target, 0);
}
static void set_up_light(void) { set_up_target(WP_STRENGTH_LIGHT); }
static void set_up_strong(void) { set_up_target(WP_STRENGTH_STRONG); }
static void set_up_force(void) { set_up_target(WP_STRENGTH_FORCE); }

// ---- both workers must run at the same time: the chain of wake-ups reaches the second

static struct meeting {
    wp_atomic32 first, second;
} *meeting;

static void worker_meets(void *arg) {
    struct wp_view *view = arg;
    uint32_t index;
    while (wp_next_wait(view, &index, -1) == WP_NEXT_TASK) {
        uint32_t t = model_task_read(&view->slots[index]);
        // Task 0 is over when task 1 has begun, and the other way round: one worker cannot do both.
        wp_store_release(t == 0 ? &meeting->first : &meeting->second, 1);
        model_await32(t == 0 ? &meeting->second : &meeting->first, 0);
        model_run(p, view, index);
    }
}
static void set_up_chain(void) {
    p = model_pool(3, 2, 1);
    meeting = model_shared(sizeof *meeting);
    model_actor("parent", parent_submits_two, NULL, 0);
    model_actor("worker 1", worker_meets, &p->view[1], MODEL_DAEMON);
    model_actor("worker 2", worker_meets, &p->view[2], MODEL_DAEMON);
}

// ---- a strong task behind a task that ends only once the strong one has begun: its target
//      cannot run it, and nobody but time says so to who sleeps

static void parent_submits_stuck(void *arg) {
    model_submit(p, &p->view[0], 0, wp_target(2, WP_STRENGTH_FORCE, 0));
    model_submit(p, &p->view[0], 1, wp_target(2, *(uint32_t *)arg, 0));
    parent_waits_for_all(2);
}
static void worker_is_stuck(void *arg) {
    struct wp_view *view = arg;
    uint32_t index;
    while (wp_next_wait(view, &index, -1) == WP_NEXT_TASK) {
        uint32_t t = model_task_read(&view->slots[index]);
        if (t == 1)
            wp_store_release(&meeting->second, 1);
        else
            model_await32(&meeting->second, 0);
        model_run(p, view, index);
    }
}
static void set_up_stuck_pool(uint32_t seats, uint32_t strength, unsigned flags) {
    p = model_pool(seats, 2, 1);
    meeting = model_shared(sizeof *meeting);
    for (uint32_t seat = 1; seat < seats; seat++) wp_seat_take(&p->view[0], seat, seat);
    uint32_t *second = model_private(sizeof *second);
    *second = strength;
    model_actor("parent", parent_submits_stuck, second, 0);
    model_actor("worker 1", worker_is_stuck, &p->view[1], MODEL_DAEMON | flags);
    model_actor("worker 2", worker_is_stuck, &p->view[2], MODEL_DAEMON);
}
static void set_up_stuck(void) { set_up_stuck_pool(3, WP_STRENGTH_STRONG, 0); }
// A light task moves at once: a seat that was about to sleep sees it in another's set.
static void set_up_stuck_light(void) { set_up_stuck_pool(3, WP_STRENGTH_LIGHT, 0); }

// ---- a worker that stops, asleep or not

static void parent_stops(void *arg) {
    (void)arg;
    model_submit(p, &p->view[0], 0, MODEL_PLAIN_TARGET);
    wp_seat_stop(&p->view[0], 1, WP_STOP_DRAINED);
    wp_seat_stop(&p->view[0], 2, WP_STOP_DRAINED);
    parent_waits_for_all(1);
}
static void set_up_stop(void) {
    p = model_pool(3, 2, 1);
    model_actor("parent", parent_stops, NULL, 0);
    model_actor("worker 1", worker, &p->view[1], 0);
    model_actor("worker 2", worker, &p->view[2], 0);
}

// ---- deaths: of a worker with a task in hand, of a searcher that others relied on, of a
//      notifier half-way through a wake-up

static const uint32_t seat_of[] = {0, 1, 2, WP_NO_SEAT, 1};
static int heir;
static void recoverer(void *arg) {
    (void)arg;
    for (;;)
        if (model_recover(p, seat_of) == 1 && heir != 0) model_start(heir);
}
static void set_up_death_one(void) {
    p = model_pool(3, 2, 1);
    heir = 0;
    model_actor("parent", parent_submits_one, NULL, 0);
    model_actor("worker 1", worker, &p->view[1], MODEL_DAEMON | MODEL_MORTAL);
    model_actor("worker 2", worker, &p->view[2], MODEL_DAEMON);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
}
static void set_up_death_two(void) {
    p = model_pool(3, 2, 1);
    heir = 0;
    model_actor("parent", parent_submits_two, NULL, 0);
    model_actor("worker 1", worker, &p->view[1], MODEL_DAEMON | MODEL_MORTAL);
    model_actor("worker 2", worker, &p->view[2], MODEL_DAEMON);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
}

// The watcher dies, asleep or on its way: the other sleeper watches. A death with the task
// in hand is the task's.
static void set_up_death_watcher(void) {
    set_up_stuck_pool(4, WP_STRENGTH_STRONG, MODEL_MORTAL);
    heir = 0;
    model_actor("worker 3", worker_is_stuck, &p->view[3], MODEL_DAEMON);
    model_actor("recoverer", recoverer, NULL, MODEL_DAEMON);
}

// ---- a worker submits, and dies on the way: who sleeps is woken all the same

static void mortal_submitter(void *arg) {
    struct wp_view *view = arg;
    model_submit(p, view, 0, MODEL_PLAIN_TARGET);
}
static void set_up_death_notifier(void) {
    p = model_pool(3, 1, 2);
    heir = 0;
    model_actor("parent", recoverer, NULL, MODEL_DAEMON);
    model_actor("worker 1", mortal_submitter, &p->view[1], MODEL_MORTAL);
    model_actor("worker 2", worker, &p->view[2], MODEL_DAEMON);
}
// The submitter has left or died; worker 2 alone must have run what was offered.
static void ran(void) {
    uint32_t phase = wp_state_phase(p->view[0].slots[1].state.word);
    MODEL_CHECK(phase == WP_PHASE_FREE || phase == WP_PHASE_DONE);
    MODEL_CHECK(p->task[0].entered == (phase == WP_PHASE_DONE));
    MODEL_CHECK(p->deaths > 0 || p->task[0].entered == 1);
    model_check_slots(p, true);
}

// ---- the start hook has run: the parent, which sleeps for that, learns of it

static void starter(void *arg) { wp_seat_ready(arg, 7); }
static void parent_waits_ready(void *arg) {
    (void)arg;
    while (!wp_seat_is_ready(&p->view[0], 1, 7)) wp_home_wait(&p->view[0], WP_NO_HANDLE, -1);
}
static void parent_waits_ready_eventfd(void *arg) {
    (void)arg;
    struct wp_view *view = &p->view[0];
    while (!wp_seat_is_ready(view, 1, 7))
        if (wp_home_arm(view)) model_eventfd_wait(0);
}
static void set_up_ready(void) {
    p = model_pool(2, 1, 1);
    model_actor("parent", parent_waits_ready, NULL, 0);
    model_actor("worker", starter, &p->view[1], 0);
}
static void set_up_ready_eventfd(void) {
    p = model_pool(2, 1, 1);
    for (uint32_t s = 0; s < 2; s++) p->view[s].places[0].eventfd = 0;
    model_actor("parent", parent_waits_ready_eventfd, NULL, 0);
    model_actor("worker", starter, &p->view[1], 0);
}

// ---- all work has ended: the parent, which sleeps for that, learns of it

static void last_worker(void *arg) {
    struct wp_view *view = arg;
    uint32_t index = wp_handle_index(p->task[0].handle);
    wp_finish(view, index, WP_OUTCOME_OK);
    model_work(p, view);
}
static void parent_waits_idle(void *arg) {
    (void)arg;
    wp_idle_watch(&p->view[0], true);
    while (wp_is_busy(&p->view[0])) wp_home_wait(&p->view[0], WP_NO_HANDLE, -1);
}
static void set_up_watched(void) {
    p = model_pool(3, 1, 1);
    // A task of seat 2's, which has no other word for the parent.
    struct wp_view *home = &p->view[2];
    model_submit(p, home, 0, MODEL_PLAIN_TARGET);
    MODEL_CHECK(wp_slot_claim(&home->slots[wp_handle_index(p->task[0].handle)], p->task[0].handle, 1) == WP_CLAIM_OK);
    wp_slot_enter(&home->slots[wp_handle_index(p->task[0].handle)]);
    model_actor("parent", parent_waits_idle, NULL, 0);
    model_actor("worker 1", last_worker, &p->view[1], MODEL_DAEMON);
}
static void nothing(void) {}

static const struct model_scenario scenarios[] = {
    {"one",
     "a task is found by a worker that was about to sleep",
     set_up_one,
     settled,
     {2, 2, 0},
     {3, 3, 0},
     false,
     NULL},
    {"two", "two tasks are found", set_up_two, settled, {2, 0, 0}, {3, 2, 0}, false, NULL},
    {"chain", "two tasks wake two workers", set_up_chain, settled, {2, 0, 0}, {3, 2, 0}, false, NULL},
    {"light", "a light task is found", set_up_light, settled, {2, 1, 0}, {3, 2, 0}, false, NULL},
    {"strong", "a strong task wakes its target", set_up_strong, settled, {2, 1, 0}, {3, 2, 0}, false, NULL},
    {"force", "a force task wakes its target", set_up_force, settled, {2, 1, 0}, {3, 2, 0}, false, NULL},
    {"stuck_light", "a light task moves at once", set_up_stuck_light, settled, {1, 1, 0}, {3, 2, 0}, false, NULL},
    {"stuck", "a strong task moves", set_up_stuck, settled, {1, 1, 0}, {3, 2, 0}, false, NULL},
    {"death_watcher", "a dead watcher is followed", set_up_death_watcher, settled, {0, 0, 1}, {2, 1, 1}, false, NULL},
    {"stop", "a seat that is to end ends", set_up_stop, settled, {2, 1, 0}, {3, 2, 0}, false, NULL},
    {"death_one", "a dead searcher hides no task", set_up_death_one, settled, {1, 0, 1}, {3, 2, 1}, false, NULL},
    {"death_two", "a dead worker hides no task", set_up_death_two, settled, {0, 1, 1}, {2, 2, 1}, false, NULL},
    {"death_notifier",
     "a wake-up that died is made good",
     set_up_death_notifier,
     ran,
     {2, 2, 1},
     {3, 3, 1},
     false,
     NULL},
    {"watched",
     "the parent learns that all work has ended",
     set_up_watched,
     nothing,
     {2, 2, 0},
     {4, 5, 0},
     false,
     NULL},
    {"ready",
     "the parent learns that a seat is ready",
     set_up_ready,
     nothing,
     {3, 3, 0},
     {5, MODEL_ANY, 0},
     false,
     NULL},
    {"ready_eventfd",
     "so does its event loop",
     set_up_ready_eventfd,
     nothing,
     {3, 3, 0},
     {5, MODEL_ANY, 0},
     false,
     NULL},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
