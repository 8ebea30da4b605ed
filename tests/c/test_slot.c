// test_slot.c — the state word: who may move it where, and that of all who try to
// claim a task exactly one may.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_slot.h"

#include "wp_test.h"

static uint64_t state_of(struct wp_slot *slot) { return wp_load_acquire(&slot->state); }

// What a home does before it offers a task to anyone.
static wp_handle fill(struct wp_slot *slot, uint32_t index, uint32_t target) {
    wp_handle handle = wp_slot_reserve(slot, index);
    wp_store_relaxed(&slot->target, target);
    wp_store_relaxed(&slot->cancel, wp_cancel_word(handle));
    return handle;
}
#define ANYONE wp_target(WP_NO_SEAT, WP_STRENGTH_NONE, 0)

static void smoke(void) {
    struct wp_slot slot = {0};
    uint64_t state;
    wp_handle handle = fill(&slot, 7, ANYONE);
    CHECK_EQ(wp_handle_index(handle), 7);
    CHECK_EQ(wp_handle_generation(handle), 1);
    CHECK_EQ(wp_slot_claim(&slot, handle, 3), WP_CLAIM_STALE); // RESERVED
    wp_slot_publish(&slot, handle);
    CHECK_EQ(wp_state_phase(state_of(&slot)), WP_PHASE_READY);
    CHECK_EQ(wp_state_owner(state_of(&slot)), WP_NO_SEAT);
    CHECK_EQ(wp_slot_claim(&slot, wp_handle_of(7, 2), 3), WP_CLAIM_STALE); // another generation
    CHECK_EQ(wp_slot_claim(&slot, handle, 3), WP_CLAIM_OK);
    CHECK_EQ(wp_slot_claim(&slot, handle, 4), WP_CLAIM_STALE);
    CHECK_EQ(wp_state_phase(state_of(&slot)), WP_PHASE_CLAIMED);
    CHECK_EQ(wp_state_owner(state_of(&slot)), 3);
    CHECK_EQ(wp_state_attempt(state_of(&slot)), 1);
    wp_slot_enter(&slot);
    CHECK_EQ(wp_state_phase(state_of(&slot)), WP_PHASE_RUNNING);
    CHECK(!wp_slot_is_done(&slot, &state));
    CHECK_EQ(wp_slot_claim(&slot, WP_NO_HANDLE, 4), WP_CLAIM_STALE);
    wp_slot_finish(&slot, WP_OUTCOME_ERROR);
    CHECK(wp_slot_is_done(&slot, &state));
    CHECK_EQ(wp_state_outcome(state), WP_OUTCOME_ERROR);
    CHECK_EQ(wp_state_owner(state), 3);
    CHECK_EQ(wp_state_attempt(state), 1);
    CHECK_EQ(wp_state_generation(state), 1);
    CHECK_EQ(wp_slot_claim(&slot, handle, 4), WP_CLAIM_STALE);
    wp_slot_free(&slot);
    CHECK_EQ(wp_state_phase(state_of(&slot)), WP_PHASE_FREE);
    CHECK_EQ(wp_state_generation(state_of(&slot)), 1);
    CHECK_EQ(wp_slot_claim(&slot, WP_NO_HANDLE, 4), WP_CLAIM_STALE);
}

static void a_state_word_gives_back_what_was_put_in(void) {
    uint64_t random = wp_test_stream(0);
    for (uint32_t n = wp_test_rounds(100000); n > 0; n--) {
        enum wp_phase phase = (enum wp_phase)wp_test_below(&random, WP_PHASE_DONE + 1);
        enum wp_outcome outcome = (enum wp_outcome)wp_test_below(&random, WP_OUTCOME_DIED + 1);
        uint32_t owner = wp_test_below(&random, WP_NO_SEAT + 1), attempt = wp_test_below(&random, 256);
        uint32_t generation = (uint32_t)wp_test_random(&random);
        uint64_t state = wp_state(phase, outcome, owner, attempt, generation);
        CHECK(wp_state_phase(state) == phase && wp_state_outcome(state) == outcome && wp_state_owner(state) == owner &&
              wp_state_attempt(state) == attempt && wp_state_generation(state) == generation);
        wp_handle handle = wp_handle_of(owner, generation);
        CHECK(wp_handle_index(handle) == owner && wp_handle_generation(handle) == generation);
    }
}

static void a_target_gives_back_what_was_put_in(void) {
    for (int priority = INT8_MIN; priority <= INT8_MAX; priority++)
        for (uint32_t strength = WP_STRENGTH_NONE; strength <= WP_STRENGTH_FORCE; strength++)
            for (uint32_t seat = 0; seat <= WP_NO_SEAT; seat += 39) {
                uint32_t target = wp_target(seat, (enum wp_strength)strength, (int8_t)priority);
                CHECK(wp_target_seat(target) == seat && wp_target_strength(target) == (enum wp_strength)strength &&
                      wp_target_priority(target) == priority);
                CHECK_EQ(wp_slot_may_claim(target, seat), true);
                CHECK_EQ(wp_slot_may_claim(target, seat + 1), strength != WP_STRENGTH_FORCE);
            }
}

static void a_forced_task_refuses_all_but_its_target(void) {
    for (uint32_t strength = WP_STRENGTH_NONE; strength <= WP_STRENGTH_FORCE; strength++) {
        struct wp_slot slot = {0};
        wp_handle handle = fill(&slot, 0, wp_target(5, (enum wp_strength)strength, 0));
        wp_slot_publish(&slot, handle);
        uint64_t before = state_of(&slot);
        enum wp_claim other = wp_slot_claim(&slot, handle, 4);
        CHECK_EQ(other, strength == WP_STRENGTH_FORCE ? WP_CLAIM_REFUSED : WP_CLAIM_OK);
        if (other != WP_CLAIM_REFUSED) continue;
        CHECK(state_of(&slot) == before);
        CHECK_EQ(wp_slot_claim(&slot, WP_NO_HANDLE, 4), WP_CLAIM_REFUSED);
        CHECK_EQ(wp_slot_claim(&slot, WP_NO_HANDLE, 5), WP_CLAIM_OK);
    }
}

static void only_a_ready_task_of_that_generation_is_cancelled(void) {
    struct wp_slot slot = {0};
    uint64_t state;
    wp_handle handle = fill(&slot, 0, ANYONE);
    CHECK(!wp_slot_cancel(&slot, handle));
    wp_slot_publish(&slot, handle);
    CHECK(!wp_slot_cancel(&slot, wp_handle_of(0, 2)));
    CHECK(wp_slot_cancel(&slot, handle));
    CHECK(!wp_slot_cancel(&slot, handle));
    CHECK(wp_slot_is_done(&slot, &state));
    CHECK_EQ(wp_state_outcome(state), WP_OUTCOME_CANCELLED);
    CHECK_EQ(wp_state_owner(state), WP_NO_SEAT);
    CHECK_EQ(wp_slot_claim(&slot, handle, 1), WP_CLAIM_STALE);
    wp_slot_free(&slot);
    handle = fill(&slot, 0, ANYONE);
    wp_slot_publish(&slot, handle);
    CHECK_EQ(wp_slot_claim(&slot, handle, 1), WP_CLAIM_OK);
    CHECK(!wp_slot_cancel(&slot, handle));
    wp_slot_enter(&slot);
    CHECK(!wp_slot_cancel(&slot, handle));
}

static void attempts_are_counted_up_to_their_most(void) {
    struct wp_slot slot = {0};
    wp_handle handle = fill(&slot, 0, ANYONE);
    for (uint32_t attempt = 0; attempt < 300; attempt++) {
        uint32_t before = attempt < WP_ATTEMPT_MAX ? attempt : WP_ATTEMPT_MAX;
        wp_store_release(&slot.state, wp_state(WP_PHASE_READY, WP_OUTCOME_NONE, WP_NO_SEAT, before, 1));
        CHECK_EQ(wp_slot_claim(&slot, handle, 1), WP_CLAIM_OK);
        CHECK_EQ(wp_state_attempt(state_of(&slot)), attempt + 1 < WP_ATTEMPT_MAX ? attempt + 1 : WP_ATTEMPT_MAX);
        CHECK_EQ(wp_state_owner(state_of(&slot)), 1);
        CHECK_EQ(wp_state_generation(state_of(&slot)), 1);
    }
}

static void wraparound(void) {
    struct wp_slot slot = {0};
    wp_handle last = 0;
    wp_store_relaxed(&slot.state, wp_state(WP_PHASE_FREE, WP_OUTCOME_NONE, WP_NO_SEAT, 0, UINT32_MAX - 3));
    for (uint32_t n = 0; n < 8; n++) {
        wp_handle handle = fill(&slot, 9, ANYONE);
        CHECK_EQ(wp_handle_generation(handle), (uint32_t)(UINT32_MAX - 2 + n));
        CHECK_EQ(wp_handle_index(handle), 9);
        CHECK(handle != WP_NO_HANDLE);
        wp_slot_publish(&slot, handle);
        CHECK_EQ(wp_slot_claim(&slot, last, 2), WP_CLAIM_STALE);
        CHECK(!wp_slot_cancel(&slot, last));
        CHECK_EQ(wp_slot_claim(&slot, handle, 2), WP_CLAIM_OK);
        CHECK_EQ(wp_state_owner(state_of(&slot)), 2);
        wp_slot_enter(&slot);
        wp_slot_finish(&slot, WP_OUTCOME_OK);
        wp_slot_free(&slot);
        last = handle;
    }
}

// ---- a home and its claimants

#define CLAIMANTS 3u
#define SLOTS 4u
struct field {
    struct wp_slot slot[SLOTS];
    wp_atomic64 hint[SLOTS]; // the last handle offered, as a queue would carry it
    wp_atomic32 stop;
    uint32_t slots; // in use
};
struct actor {
    struct field *field;
    uint32_t seat;
    uint64_t ran, lost, stale, refused;
    uint64_t unused[3]; // a line apart
};

static void write_payload(struct wp_slot *slot, uint64_t word) {
    for (uint32_t i = 0; i < WP_INLINE_PAYLOAD_BYTES / 8; i++, word = word * 3 + 1)
        memcpy(slot->bytes + 8 * i, &word, 8);
}
static void check_payload(const struct wp_slot *slot, uint64_t word) {
    uint64_t found;
    for (uint32_t i = 0; i < WP_INLINE_PAYLOAD_BYTES / 8; i++, word = word * 3 + 1) {
        memcpy(&found, slot->bytes + 8 * i, 8);
        CHECK(found == word);
    }
}

static void *claimant(void *argument) {
    struct actor *actor = argument;
    struct field *field = actor->field;
    uint64_t random = wp_test_stream(actor->seat);
    wp_test_gate();
    while (wp_load_acquire(&field->stop) == 0) {
        uint32_t i = wp_test_below(&random, field->slots);
        struct wp_slot *slot = &field->slot[i];
        wp_handle handle = wp_load_relaxed(&field->hint[i]);
        if (wp_test_below(&random, 4) == 0) handle = WP_NO_HANDLE;
        switch (wp_slot_claim(slot, handle, actor->seat)) {
        case WP_CLAIM_OK: {
            uint64_t state = wp_load_relaxed(&slot->state);
            uint32_t generation = wp_state_generation(state);
            CHECK(handle == WP_NO_HANDLE || wp_handle_generation(handle) == generation);
            CHECK_EQ(wp_state_owner(state), actor->seat);
            uint32_t target = wp_load_relaxed(&slot->target);
            CHECK(wp_slot_may_claim(target, actor->seat));
            check_payload(slot, (uint64_t)generation << 8 | i);
            CHECK_EQ(slot->group, generation);
            wp_slot_enter(slot);
            write_payload(slot, ~((uint64_t)generation << 8 | i));
            slot->end_ns = actor->seat;
            wp_slot_finish(slot, WP_OUTCOME_OK);
            actor->ran++;
            break;
        }
        case WP_CLAIM_LOST:
            actor->lost++;
            break;
        case WP_CLAIM_REFUSED:
            actor->refused++;
            sched_yield(); // let the target have it
            break;
        case WP_CLAIM_STALE:
            actor->stale++;
            wp_test_jitter(&random);
            break;
        }
    }
    return NULL;
}

struct home {
    struct actor actor; // its `ran` counts what was cancelled
    uint32_t rounds;
    bool cancels, forces;
    uint64_t harvested;
};
static void home(struct home *home) {
    struct field *field = home->actor.field;
    uint64_t random = wp_test_stream(99), state;
    uint32_t offered = 0, busy = 0;
    wp_handle used[SLOTS];
    bool in_use[SLOTS] = {false};
    wp_test_gate();
    while (offered < home->rounds || busy > 0) {
        for (uint32_t i = 0; i < field->slots; i++) {
            struct wp_slot *slot = &field->slot[i];
            if (!in_use[i]) {
                if (offered == home->rounds) continue;
                enum wp_strength strength =
                    home->forces ? (enum wp_strength)wp_test_below(&random, 4) : WP_STRENGTH_NONE;
                used[i] = fill(slot, i, wp_target(1 + wp_test_below(&random, CLAIMANTS), strength, 0));
                slot->group = wp_handle_generation(used[i]);
                write_payload(slot, (uint64_t)slot->group << 8 | i);
                wp_slot_publish(slot, used[i]);
                wp_store_relaxed(&field->hint[i], used[i]);
                offered++, busy++;
                in_use[i] = true;
            }
            if (home->cancels && wp_test_below(&random, 64) == 0 && wp_slot_cancel(slot, used[i])) home->actor.ran++;
            if (!wp_slot_is_done(slot, &state)) continue;
            CHECK_EQ(wp_state_generation(state), wp_handle_generation(used[i]));
            uint64_t word = (uint64_t)wp_state_generation(state) << 8 | i;
            if (wp_state_outcome(state) == WP_OUTCOME_OK) {
                check_payload(slot, ~word);
                CHECK_EQ(slot->end_ns, wp_state_owner(state));
                home->harvested++;
            } else {
                CHECK_EQ(wp_state_outcome(state), WP_OUTCOME_CANCELLED);
                check_payload(slot, word);
            }
            wp_slot_free(slot);
            in_use[i] = false;
            busy--;
        }
        wp_test_jitter(&random);
    }
    wp_store_release(&field->stop, 1);
}
static struct home *the_home; // thread 0 of a storm
static void *home_or_claimant(void *argument) {
    struct actor *actor = argument;
    if (actor->seat != 0) return claimant(actor);
    home(the_home);
    return NULL;
}

static void storm_of(uint32_t slots, uint32_t rounds, bool cancels, bool forces) {
    static struct field field;
    memset(&field, 0, sizeof field);
    field.slots = slots;
    for (uint32_t i = 0; i < slots; i++) // the generation passes 2**32 on the way
        wp_store_relaxed(&field.slot[i].state,
                         wp_state(WP_PHASE_FREE, WP_OUTCOME_NONE, WP_NO_SEAT, 0, UINT32_MAX - rounds / slots / 2));
    struct actor actor[1 + CLAIMANTS];
    struct home parent = {.rounds = rounds, .cancels = cancels, .forces = forces};
    parent.actor = (struct actor){.field = &field};
    the_home = &parent;
    for (uint32_t i = 0; i <= CLAIMANTS; i++) actor[i] = (struct actor){.field = &field, .seat = i};
    wp_test_threads(1 + CLAIMANTS, home_or_claimant, actor, sizeof *actor);
    uint64_t ran = 0, lost = 0, stale = 0, refused = 0;
    for (uint32_t i = 1; i <= CLAIMANTS; i++) {
        ran += actor[i].ran, lost += actor[i].lost;
        stale += actor[i].stale, refused += actor[i].refused;
    }
    printf("    %u tasks: ran %" PRIu64 ", cancelled %" PRIu64 "; claims lost %" PRIu64 ", stale %" PRIu64
           ", refused %" PRIu64 "\n",
           rounds, ran, parent.actor.ran, lost, stale, refused);
    CHECK_EQ(ran, parent.harvested);
    CHECK_EQ(ran + parent.actor.ran, rounds);
    for (uint32_t i = 0; i < slots; i++) CHECK_EQ(wp_state_phase(state_of(&field.slot[i])), WP_PHASE_FREE);
}
static void stampede(void) { storm_of(1, wp_test_rounds(50000), false, false); }
static void storm(void) { storm_of(SLOTS, wp_test_rounds(100000), true, true); }
static void storm_of_claims_and_cancels(void) { storm_of(2, wp_test_rounds(50000), true, false); }

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(a_state_word_gives_back_what_was_put_in),
        WP_TEST(a_target_gives_back_what_was_put_in),
        WP_TEST(a_forced_task_refuses_all_but_its_target),
        WP_TEST(only_a_ready_task_of_that_generation_is_cancelled),
        WP_TEST(attempts_are_counted_up_to_their_most),
        WP_TEST(wraparound),
        WP_TEST(stampede),
        WP_TEST(storm),
        WP_TEST(storm_of_claims_and_cancels),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
