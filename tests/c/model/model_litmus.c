// model_litmus.c — does the explorer itself know C11? Small programs with known answers.
//
// Each scenario collects the outcomes of all its executions: the forbidden ones must
// never come up, and the surprising ones that C11 allows must.
//
// Source: Maranget, Sarkar, Sewell, "A Tutorial Introduction to the ARM and POWER Relaxed Memory
// Models", 2012; Lahav et al., "Repairing Sequential Consistency in C/C++11", PLDI 2017.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_atomic.h"

#include "model.h"

struct words {
    wp_atomic64 x, y, z;
    uint64_t payload;
};
static struct words *w;
static uint64_t *r;       // what the actors read, four of them
static uint64_t outcomes; // bit r0 + 2 * r1 + 4 * r2 + 8 * r3, over all executions

static void set_up_words(void) {
    w = model_shared(sizeof *w);
    r = model_private(4 * sizeof *r);
    model_name(&w->x, 8, "x");
    model_name(&w->y, 8, "y");
    model_name(&w->z, 8, "z");
    model_name(&w->payload, 8, "payload");
    outcomes = 0;
}
static void collect(void) { outcomes |= UINT64_C(1) << (r[0] + 2 * r[1] + 4 * r[2] + 8 * r[3]); }
#define SAW(r0, r1, r2, r3) (outcomes >> ((r0) + 2 * (r1) + 4 * (r2) + 8 * (r3)) & 1)

// ---- message passing: y says that x is there

static void mp_write_relaxed(void *arg) {
    (void)arg;
    wp_store_relaxed(&w->x, 1);
    wp_store_relaxed(&w->y, 1);
}
static void mp_write(void *arg) {
    (void)arg;
    wp_store_relaxed(&w->x, 1);
    wp_store_release(&w->y, 1);
}
static void mp_write_fence(void *arg) {
    (void)arg;
    wp_store_relaxed(&w->x, 1);
    wp_fence_seq_cst();
    wp_store_relaxed(&w->y, 1);
}
static void mp_read(void *arg) {
    (void)arg;
    r[0] = wp_load_acquire(&w->y);
    r[1] = wp_load_relaxed(&w->x);
}
static void mp_read_relaxed(void *arg) {
    (void)arg;
    r[0] = wp_load_relaxed(&w->y);
    r[1] = wp_load_relaxed(&w->x);
}
static void mp_read_fence(void *arg) {
    (void)arg;
    r[0] = wp_load_relaxed(&w->y);
    wp_fence_seq_cst();
    r[1] = wp_load_relaxed(&w->x);
}
static void set_up_mp(void) {
    set_up_words();
    model_actor("writer", mp_write, NULL, 0);
    model_actor("reader", mp_read, NULL, 0);
}
static void set_up_mp_relaxed_store(void) {
    set_up_words();
    model_actor("writer", mp_write_relaxed, NULL, 0);
    model_actor("reader", mp_read, NULL, 0);
}
static void set_up_mp_relaxed_load(void) {
    set_up_words();
    model_actor("writer", mp_write, NULL, 0);
    model_actor("reader", mp_read_relaxed, NULL, 0);
}
static void set_up_mp_fences(void) {
    set_up_words();
    model_actor("writer", mp_write_fence, NULL, 0);
    model_actor("reader", mp_read_fence, NULL, 0);
}
static void ordered(void) { MODEL_CHECK(!SAW(1, 0, 0, 0) && SAW(1, 1, 0, 0) && SAW(0, 0, 0, 0) && SAW(0, 1, 0, 0)); }
static void unordered(void) { MODEL_CHECK(SAW(1, 0, 0, 0) && SAW(1, 1, 0, 0) && SAW(0, 0, 0, 0)); }

// ---- release sequence: an RMW in between passes the message on, a store does not

static void rs_rmw(void *arg) {
    (void)arg;
    uint64_t expected = 1;
    wp_cas_relaxed(&w->y, &expected, 3);
}
static void rs_store(void *arg) {
    (void)arg;
    if (wp_load_relaxed(&w->y) == 1) wp_store_relaxed(&w->y, 3);
}
static void rs_read(void *arg) {
    (void)arg;
    r[0] = wp_load_acquire(&w->y) == 3;
    r[1] = wp_load_relaxed(&w->x);
}
static void set_up_rs_rmw(void) {
    set_up_words();
    model_actor("writer", mp_write, NULL, 0);
    model_actor("between", rs_rmw, NULL, 0);
    model_actor("reader", rs_read, NULL, 0);
}
static void set_up_rs_store(void) {
    set_up_words();
    model_actor("writer", mp_write, NULL, 0);
    model_actor("between", rs_store, NULL, 0);
    model_actor("reader", rs_read, NULL, 0);
}

// ---- store buffering: only seq_cst fences on both sides forbid 0 0

static void sb_left(void *arg) {
    wp_store_release(&w->x, 1);
    if (arg != NULL) wp_fence_seq_cst();
    r[0] = wp_load_acquire(&w->y);
}
static void sb_right(void *arg) {
    wp_store_release(&w->y, 1);
    if (arg != NULL) wp_fence_seq_cst();
    r[1] = wp_load_acquire(&w->x);
}
static void set_up_sb(void) {
    set_up_words();
    model_actor("left", sb_left, w, 0);
    model_actor("right", sb_right, w, 0);
}
static void set_up_sb_one_fence(void) {
    set_up_words();
    model_actor("left", sb_left, NULL, 0);
    model_actor("right", sb_right, w, 0);
}
static void not_both_old(void) {
    MODEL_CHECK(!SAW(0, 0, 0, 0) && SAW(1, 0, 0, 0) && SAW(0, 1, 0, 0) && SAW(1, 1, 0, 0));
}
static void both_old(void) { MODEL_CHECK(SAW(0, 0, 0, 0) && SAW(1, 0, 0, 0) && SAW(0, 1, 0, 0) && SAW(1, 1, 0, 0)); }

// ---- independent reads of independent writes: acquire readers may disagree, fenced ones not

static void iriw_x(void *arg) {
    (void)arg;
    wp_store_release(&w->x, 1);
}
static void iriw_y(void *arg) {
    (void)arg;
    wp_store_release(&w->y, 1);
}
static void iriw_xy(void *arg) {
    r[0] = wp_load_acquire(&w->x);
    if (arg != NULL) wp_fence_seq_cst();
    r[1] = wp_load_acquire(&w->y);
}
static void iriw_yx(void *arg) {
    r[2] = wp_load_acquire(&w->y);
    if (arg != NULL) wp_fence_seq_cst();
    r[3] = wp_load_acquire(&w->x);
}
static void set_up_iriw_with(void *fences) {
    set_up_words();
    model_actor("x", iriw_x, NULL, 0);
    model_actor("y", iriw_y, NULL, 0);
    model_actor("xy", iriw_xy, fences, 0);
    model_actor("yx", iriw_yx, fences, 0);
}
static void set_up_iriw(void) { set_up_iriw_with(NULL); }
static void set_up_iriw_fences(void) { set_up_iriw_with(model_private(1)); }
static void disagree(void) { MODEL_CHECK(SAW(1, 0, 1, 0)); }
static void agree(void) { MODEL_CHECK(!SAW(1, 0, 1, 0) && SAW(1, 1, 1, 1) && SAW(1, 0, 1, 1)); }

// ---- coherence: one reader never goes back

static void co_write(void *arg) {
    (void)arg;
    wp_store_relaxed(&w->x, 1);
}
static void co_read(void *arg) {
    (void)arg;
    r[0] = wp_load_relaxed(&w->x);
    r[1] = wp_load_relaxed(&w->x);
}
static void set_up_co(void) {
    set_up_words();
    model_actor("writer", co_write, NULL, 0);
    model_actor("reader", co_read, NULL, 0);
}

// ---- plain memory: a release store hands it over, a relaxed one is a race

static void plain_write(void *arg) {
    w->payload = 7;
    if (arg != NULL)
        wp_store_release(&w->y, 1);
    else
        wp_store_relaxed(&w->y, 1);
}
static void plain_read(void *arg) {
    (void)arg;
    if (wp_load_acquire(&w->y) == 1) MODEL_CHECK(w->payload == 7);
}
static void set_up_plain(void) {
    set_up_words();
    model_actor("writer", plain_write, w, 0);
    model_actor("reader", plain_read, NULL, 0);
}
static void nothing(void) {}

// ---- death: it comes between any two steps, and orders what was before it

static void mortal(void *arg) {
    (void)arg;
    w->payload = 1;
    wp_store_relaxed(&w->x, 1);
    wp_store_relaxed(&w->y, 1);
}
static void mourner(void *arg) {
    (void)arg;
    model_await_death();
    r[0] = wp_load_relaxed(&w->x);
    r[1] = wp_load_relaxed(&w->y);
    r[2] = w->payload;
}
static void set_up_death(void) {
    set_up_words();
    model_actor("mortal", mortal, NULL, MODEL_MORTAL);
    model_actor("mourner", mourner, NULL, MODEL_DAEMON);
}
// Plain writes are no steps: the one before the first step is always made.
static void all_deaths(void) { MODEL_CHECK(SAW(0, 0, 1, 0) && SAW(1, 0, 1, 0) && SAW(1, 1, 1, 0) && !SAW(0, 1, 1, 0)); }

#define ALL {7, MODEL_ANY, 0}, {7, MODEL_ANY, 0}
#define ONE_DEATH {7, MODEL_ANY, 1}, {7, MODEL_ANY, 1}
static const struct model_scenario scenarios[] = {
    {"mp", "release and acquire order", set_up_mp, collect, ALL, false, ordered},
    {"mp_relaxed_store", "a relaxed store does not", set_up_mp_relaxed_store, collect, ALL, false, unordered},
    {"mp_relaxed_load", "a relaxed load does not", set_up_mp_relaxed_load, collect, ALL, false, unordered},
    {"mp_fences", "fences do", set_up_mp_fences, collect, ALL, false, ordered},
    {"rs_rmw", "a relaxed RMW passes a release on", set_up_rs_rmw, collect, ALL, false, ordered},
    {"rs_store", "a relaxed store does not", set_up_rs_store, collect, ALL, false, unordered},
    {"sb", "fences forbid that both read old", set_up_sb, collect, ALL, false, not_both_old},
    {"sb_one_fence", "one fence is not enough", set_up_sb_one_fence, collect, ALL, false, both_old},
    {"iriw", "readers may disagree", set_up_iriw, collect, ALL, false, disagree},
    {"iriw_fences", "fenced readers may not", set_up_iriw_fences, collect, ALL, false, agree},
    {"coherence", "a reader never goes back", set_up_co, collect, ALL, false, ordered},
    {"plain", "a release store hands plain memory over", set_up_plain, nothing, ALL, false, NULL},
    {"death", "an actor dies between any two steps", set_up_death, collect, ONE_DEATH, false, all_deaths},
};

int main(int argc, char **argv) { return model_main(argc, argv, scenarios, sizeof scenarios / sizeof *scenarios); }
