// test_taskset.c — the set of hints: what was added is found until it is taken, also
// when many add, find and take at once.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_taskset.h"

#include "wp_test.h"

static struct wp_taskset make(uint32_t slots) {
    void *memory = calloc(1, wp_taskset_bytes(slots));
    CHECK(memory != NULL);
    return wp_taskset_at(memory, slots);
}
static void drop(struct wp_taskset *set) { free(set->summary); }

// A leaf that holds something is announced, or its slots would lie there for ever.
static void check_announced(const struct wp_taskset *set) {
    for (uint32_t leaf = 0; leaf < set->leaf_words; leaf++)
        if (wp_load_acquire(&set->leaves[leaf]) != 0) CHECK(wp_load_acquire(&set->summary[leaf / 64]) >> leaf % 64 & 1);
}

static const uint32_t sizes[] = {1, 63, 64, 65, 128, 1000, 4096, 4097, 9000};
#define SIZES (sizeof sizes / sizeof *sizes)

static void smoke(void) {
    struct wp_taskset set = make(200);
    CHECK(wp_taskset_is_empty(&set));
    CHECK_EQ(wp_taskset_find(&set, 0), WP_NO_INDEX);
    wp_taskset_add(&set, 70);
    wp_taskset_add(&set, 70);
    wp_taskset_add(&set, 199);
    CHECK(!wp_taskset_is_empty(&set));
    CHECK_EQ(wp_taskset_find(&set, 0), 70);
    CHECK_EQ(wp_taskset_find(&set, 71), 199);
    CHECK_EQ(wp_taskset_find(&set, 70), 70); // it stays
    wp_taskset_remove(&set, 70);
    CHECK_EQ(wp_taskset_find(&set, 70), 199);
    wp_taskset_remove(&set, 199);
    CHECK_EQ(wp_taskset_find(&set, 0), WP_NO_INDEX);
    CHECK(wp_taskset_is_empty(&set));
    wp_taskset_remove(&set, 199); // of what is not there: nothing
    CHECK(wp_taskset_is_empty(&set));
    drop(&set);
}

static void every_slot_of_every_size_is_found_alone(void) {
    for (uint32_t s = 0; s < SIZES; s++) {
        struct wp_taskset set = make(sizes[s]);
        for (uint32_t i = 0; i < sizes[s]; i += sizes[s] > 2000 ? 37 : 1) {
            wp_taskset_add(&set, i);
            uint32_t from[] = {0, i, i + 1, sizes[s] - 1, sizes[s], sizes[s] + 1000};
            for (uint32_t f = 0; f < sizeof from / sizeof *from; f++) CHECK_EQ(wp_taskset_find(&set, from[f]), i);
            wp_taskset_remove(&set, i);
            CHECK(wp_taskset_is_empty(&set));
        }
        drop(&set);
    }
}

static void wraparound(void) {
    // Found in order from anywhere, once round.
    for (uint32_t s = 0; s < SIZES; s++) {
        struct wp_taskset set = make(sizes[s]);
        for (uint32_t start = 0; start < sizes[s]; start += 1 + sizes[s] / 7) {
            for (uint32_t i = 0; i < sizes[s]; i++) wp_taskset_add(&set, i);
            for (uint32_t n = 0, at = start; n < sizes[s]; n++) {
                uint32_t i = wp_taskset_find(&set, at);
                CHECK_EQ(i, (start + n) % sizes[s]);
                wp_taskset_remove(&set, i);
                at = i + 1;
            }
            CHECK(wp_taskset_is_empty(&set));
        }
        drop(&set);
    }
}

static void a_leaf_is_taken_whole_in_turn(void) {
    struct wp_taskset set = make(9000);
    uint32_t base, looked = 0;
    CHECK_EQ(wp_taskset_take(&set, 0, &base), 0);
    for (uint32_t i = 0; i < 9000; i += 3) wp_taskset_add(&set, i);
    uint32_t taken = 0;
    for (uint64_t bits; (bits = wp_taskset_take(&set, looked, &base)) != 0; looked = base + 64) {
        CHECK(base % 64 == 0 && base >= looked / 64 * 64);
        for (; bits != 0; bits &= bits - 1, taken++) CHECK_EQ((base + (uint32_t)__builtin_ctzll(bits)) % 3, 0);
    }
    CHECK_EQ(taken, 3000);
    CHECK(wp_taskset_is_empty(&set));
    drop(&set);
}

static void a_scribbled_summary_leads_nowhere_else(void) {
    for (uint32_t s = 0; s < SIZES; s++) {
        struct wp_taskset set = make(sizes[s]);
        for (uint32_t w = 0; w < set.summary_words; w++) wp_store_relaxed(&set.summary[w], UINT64_MAX);
        uint32_t base;
        CHECK_EQ(wp_taskset_find(&set, 5), WP_NO_INDEX);
        CHECK_EQ(wp_taskset_take(&set, 5, &base), 0);
        for (uint32_t w = 0; w < set.leaf_words; w++) wp_store_relaxed(&set.leaves[w], UINT64_MAX);
        for (uint32_t w = 0; w < set.summary_words; w++) wp_store_relaxed(&set.summary[w], UINT64_MAX);
        for (uint32_t n = 0; n < 64 * set.leaf_words; n++) {
            uint32_t i = wp_taskset_find(&set, n);
            CHECK(i < 64 * set.leaf_words);
            wp_taskset_remove(&set, i);
        }
        CHECK_EQ(wp_taskset_find(&set, 0), WP_NO_INDEX);
        drop(&set);
    }
}

static void a_summary_bit_that_died_with_its_adder_is_raised_by_the_next(void) {
    struct wp_taskset set = make(300);
    wp_or_acq_rel(&set.leaves[2], 2); // the adder of 129 died before the summary
    CHECK(wp_taskset_is_empty(&set));
    wp_taskset_add(&set, 129); // recovery adds it again
    CHECK_EQ(wp_taskset_find(&set, 0), 129);
    drop(&set);
}

// ---- adders and takers of the same slots

#define ACTORS 4u
struct field {
    struct wp_taskset set;
    uint32_t slots;
    wp_atomic64 *state; // 0: free, 1: ready, 2: claimed; then the use
    uint64_t *payload;  // plain memory, published by the state
    wp_atomic32 adders; // bits of those who still add
};
struct actor {
    struct field *field;
    uint32_t seat;
    uint32_t rounds; // uses that it will offer; 0: it takes
    uint64_t done, lost, again;
};

// Slot i belongs to one adder, its home.
static void offer(struct actor *actor, uint32_t adders) {
    struct field *field = actor->field;
    uint64_t random = wp_test_stream(actor->seat);
    uint32_t own = field->slots / adders, first = actor->seat * own, at = 0;
    for (uint32_t use = 0; use < actor->rounds;) {
        uint32_t i = first + at++ % own;
        if (wp_load_acquire(&field->state[i]) % 4 != 0) {
            wp_test_jitter(&random);
            continue;
        }
        use++;
        field->payload[i] = use * UINT64_C(31) + i;
        wp_store_release(&field->state[i], (uint64_t)use << 2 | 1);
        wp_taskset_add(&field->set, i);
        if (wp_test_below(&random, 8) == 0) wp_taskset_add(&field->set, i); // a double hint, maybe of a later use
        actor->done++;
    }
    wp_and_acq_rel(&field->adders, ~(UINT32_C(1) << actor->seat));
}
static bool use(struct actor *actor, uint32_t i, uint64_t state) {
    struct field *field = actor->field;
    if (state % 4 != 1) return false;
    uint64_t expected = state;
    if (!wp_cas_acq_rel(&field->state[i], &expected, state + 1)) {
        actor->lost++;
        return false;
    }
    CHECK(field->payload[i] == (state >> 2) * UINT64_C(31) + i);
    actor->done++;
    return true;
}
// As wp_search_set: claim, remove; what was void is read again and put back.
static void find(struct actor *actor) {
    struct field *field = actor->field;
    uint64_t random = wp_test_stream(actor->seat);
    uint32_t looked = 0;
    for (;;) {
        bool over = wp_load_acquire(&field->adders) == 0;
        uint32_t i = wp_taskset_find(&field->set, looked);
        if (i == WP_NO_INDEX) {
            if (over && wp_taskset_is_empty(&field->set)) return;
            wp_test_jitter(&random);
            continue;
        }
        looked = i + 1;
        bool mine = use(actor, i, wp_load_acquire(&field->state[i]));
        wp_test_jitter(&random);
        wp_taskset_remove(&field->set, i);
        if (mine)
            wp_store_release(&field->state[i], wp_load_relaxed(&field->state[i]) & ~UINT64_C(3));
        else if (wp_load_acquire(&field->state[i]) % 4 == 1) {
            wp_taskset_add(&field->set, i);
            actor->again++;
        }
    }
}
static void *offer_or_find(void *argument) {
    struct actor *actor = argument;
    wp_test_gate();
    if (actor->rounds > 0)
        offer(actor, 2);
    else
        find(actor);
    return NULL;
}
// As wp_home_take: one taker, who sees each leaf whole.
static void *offer_or_take(void *argument) {
    struct actor *actor = argument;
    struct field *field = actor->field;
    uint64_t random = wp_test_stream(actor->seat);
    wp_test_gate();
    if (actor->rounds > 0) {
        offer(actor, ACTORS - 1);
        return NULL;
    }
    for (uint32_t base, looked = 0;;) {
        bool over = wp_load_acquire(&field->adders) == 0;
        uint64_t bits = wp_taskset_take(&field->set, looked, &base);
        if (bits == 0) {
            if (over) return NULL;
            wp_test_jitter(&random);
            continue;
        }
        looked = base + 64;
        for (; bits != 0; bits &= bits - 1) {
            uint32_t i = base + (uint32_t)__builtin_ctzll(bits);
            if (use(actor, i, wp_load_acquire(&field->state[i])))
                wp_store_release(&field->state[i], wp_load_relaxed(&field->state[i]) & ~UINT64_C(3));
        }
    }
}

static void race(void *(*run)(void *), uint32_t adders, uint32_t slots, uint32_t rounds) {
    struct field field = {.set = make(slots), .slots = slots};
    field.state = calloc(slots, sizeof *field.state);
    field.payload = calloc(slots, sizeof *field.payload);
    CHECK(field.state != NULL && field.payload != NULL);
    wp_store_relaxed(&field.adders, (UINT32_C(1) << adders) - 1);
    struct actor actor[ACTORS];
    for (uint32_t i = 0; i < ACTORS; i++)
        actor[i] = (struct actor){.field = &field, .seat = i, .rounds = i < adders ? rounds : 0};
    wp_test_threads(ACTORS, run, actor, sizeof *actor);
    uint64_t offered = 0, taken = 0, lost = 0, again = 0;
    for (uint32_t i = 0; i < ACTORS; i++) {
        if (i < adders)
            offered += actor[i].done;
        else
            taken += actor[i].done, lost += actor[i].lost, again += actor[i].again;
    }
    printf("    %u slots: %" PRIu64 " offered, %" PRIu64 " taken; claims lost %" PRIu64 ", put back %" PRIu64 "\n",
           slots, offered, taken, lost, again);
    CHECK_EQ(taken, offered);
    for (uint32_t i = 0; i < slots; i++) CHECK_EQ(wp_load_relaxed(&field.state[i]) % 4, 0);
    check_announced(&field.set);
    free(field.state), free(field.payload);
    drop(&field.set);
}
static void stampede(void) { race(offer_or_find, 2, 2, wp_test_rounds(60000)); }
static void storm(void) {
    race(offer_or_find, 2, 130, wp_test_rounds(100000));
    race(offer_or_find, 2, 64 * 70, wp_test_rounds(100000)); // two words of summary
}
static void stampede_on_completions(void) { race(offer_or_take, ACTORS - 1, ACTORS - 1, wp_test_rounds(60000)); }
static void storm_on_completions(void) {
    race(offer_or_take, ACTORS - 1, 64 * 3, wp_test_rounds(100000));
    race(offer_or_take, ACTORS - 1, 64 * 72, wp_test_rounds(60000));
}

// All that was added by anyone is there, whatever was removed beside it.
struct bits {
    struct wp_taskset set;
    wp_atomic32 over;
};
struct bit_actor {
    struct bits *bits;
    uint32_t seat;
    uint64_t random;
    bool in[64]; // leaf bit seat + ACTORS * n of every leaf is its own
};
#define BIT_LEAVES 4u
static void *flip(void *argument) {
    struct bit_actor *actor = argument;
    wp_test_gate();
    for (uint32_t n = wp_test_rounds(150000); n > 0; n--) {
        uint32_t k = wp_test_below(&actor->random, 64);
        uint32_t i = k / 16 * 64 + k % 16 * ACTORS + actor->seat; // leaf, then bit
        if (actor->in[k])
            wp_taskset_remove(&actor->bits->set, i);
        else
            wp_taskset_add(&actor->bits->set, i);
        actor->in[k] = !actor->in[k];
        if (wp_test_below(&actor->random, 16) == 0) {
            uint32_t found = wp_taskset_find(&actor->bits->set, i);
            CHECK(found == WP_NO_INDEX || found < BIT_LEAVES * 64);
        }
        wp_test_jitter(&actor->random);
    }
    return NULL;
}
static void storm_of_adds_and_removals(void) {
    struct bits bits = {.set = make(BIT_LEAVES * 64)};
    struct bit_actor actor[ACTORS];
    for (uint32_t i = 0; i < ACTORS; i++) actor[i] = (struct bit_actor){&bits, i, wp_test_stream(i), {false}};
    wp_test_threads(ACTORS, flip, actor, sizeof *actor);
    for (uint32_t seat = 0; seat < ACTORS; seat++)
        for (uint32_t k = 0; k < 64; k++) {
            uint32_t i = k / 16 * 64 + k % 16 * ACTORS + seat;
            CHECK_EQ(wp_load_relaxed(&bits.set.leaves[i / 64]) >> i % 64 & 1, actor[seat].in[k]);
        }
    check_announced(&bits.set);
    drop(&bits.set);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(every_slot_of_every_size_is_found_alone),
        WP_TEST(wraparound),
        WP_TEST(a_leaf_is_taken_whole_in_turn),
        WP_TEST(a_scribbled_summary_leads_nowhere_else),
        WP_TEST(a_summary_bit_that_died_with_its_adder_is_raised_by_the_next),
        WP_TEST(stampede),
        WP_TEST(storm),
        WP_TEST(stampede_on_completions),
        WP_TEST(storm_on_completions),
        WP_TEST(storm_of_adds_and_removals),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
