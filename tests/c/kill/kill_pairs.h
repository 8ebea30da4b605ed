// kill_pairs.h — what two processes do at once: the first at seat VICTIM, the second at OTHER.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef KILL_PAIRS_H
#define KILL_PAIRS_H

#include "kill_ops.h"

struct pair {
    const char *name;
    void (*prepare)(struct world *w, uint32_t seat);
    void (*run)(struct world *w, struct wp_view *v);
    void (*run_second)(struct world *w, struct wp_view *v);
};

static void prepare_two_running(struct world *w, uint32_t seat) {
    prepare_running(w, OTHER);
    w->second_index = w->index;
    prepare_running(w, seat);
    park(w, PARENT);
}
static void prepare_own_deque_for_both(struct world *w, uint32_t seat) {
    (void)seat;
    prepare_own_one(w, VICTIM);
}
static void prepare_their_deque(struct world *w, uint32_t seat) {
    (void)seat;
    prepare_own_one(w, OTHER);
}
static void prepare_two_orphans(struct world *w, uint32_t seat) {
    (void)seat;
    prepare_orphan(w, 2);
}
// In the second leaf: the first is looked at whatever its summary says.
static void prepare_orphan_and_hintless(struct world *w, uint32_t seat) {
    pass_over(&w->view[PARENT], 66);
    prepare_orphan(w, 1);
    uint32_t index = w->index;
    prepare_hintless(w, PARENT);
    w->second_index = w->index; // the second adds it
    w->index = index;
    (void)seat;
}
// A hint of a slot that its home, the second, is about to offer.
static void prepare_early_hint(struct world *w, uint32_t seat) {
    (void)seat;
    w->second_handle = task_fill(&w->view[OTHER], w->next_id++, target_none(), false, 1);
    w->second_index = wp_handle_index(w->second_handle);
    wp_taskset_add(&w->view[OTHER].orphans, w->second_index);
}
static void publish_with_hint(struct world *w, struct wp_view *v) {
    wp_slot_publish(&v->slots[w->index], w->handle);
    wp_place_hint(v, w->index, target_none());
}
static void steal_from_victim(struct world *w, struct wp_view *v) { wp_search_steal(v, VICTIM, 1, &w->hand_index); }
static void steal_from_other(struct world *w, struct wp_view *v) { wp_search_steal(v, OTHER, 1, &w->hand_index); }

static const struct pair pairs[] = {
    {"steal | steal", prepare_parent_one, op_steal_and_claim, op_steal_and_claim},
    {"pop | steal", prepare_own_deque_for_both, op_pop_and_claim, steal_from_victim},
    {"steal | pop", prepare_their_deque, steal_from_other, op_pop_and_claim},
    {"finish | finish", prepare_two_running, op_finish, op_finish},
    {"take | take", prepare_two_orphans, op_take, op_take},
    {"take, void hint | submit", prepare_early_hint, op_take, publish_with_hint},
    {"take the last | add", prepare_orphan_and_hintless, op_take, op_set_add},
};

#endif
