// test_idle.c — one bit per seat: nobody's bit is lost in another's change.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_idle.h"

#include "wp_test.h"

static void smoke(void) {
    wp_atomic64 bits[WP_SEAT_WORDS] = {0};
    CHECK(!wp_idle_any(bits) && wp_idle_count(bits) == 0);
    CHECK_EQ(wp_idle_next(bits, 0, WP_MAX_SEATS), WP_NO_SEAT);
    wp_idle_set(bits, 70);
    wp_idle_set(bits, 70);
    wp_idle_set(bits, 3);
    CHECK(wp_idle_any(bits) && wp_idle_count(bits) == 2);
    CHECK(wp_idle_has(bits, 3) && wp_idle_has(bits, 70) && !wp_idle_has(bits, 4));
    wp_idle_clear(bits, 3);
    wp_idle_clear(bits, 3);
    CHECK(!wp_idle_has(bits, 3) && wp_idle_count(bits) == 1);
    wp_idle_clear(bits, 70);
    CHECK(!wp_idle_any(bits));
}

static void each_seat_has_its_own_bit(void) {
    for (uint32_t seat = 0; seat < WP_MAX_SEATS; seat++) {
        wp_atomic64 bits[WP_SEAT_WORDS] = {0};
        wp_idle_set(bits, seat);
        for (uint32_t other = 0; other < WP_MAX_SEATS; other++) {
            CHECK_EQ(wp_idle_has(bits, other), other == seat);
            CHECK_EQ(wp_idle_next(bits, other, WP_MAX_SEATS), other <= seat ? seat : WP_NO_SEAT);
        }
    }
}

static void the_next_seat_is_below_the_number_of_seats(void) {
    wp_atomic64 bits[WP_SEAT_WORDS] = {0};
    for (uint32_t seat = 0; seat < WP_MAX_SEATS; seat++) wp_idle_set(bits, seat);
    for (uint32_t seats = 1; seats <= WP_MAX_SEATS; seats++) {
        CHECK_EQ(wp_idle_next(bits, seats - 1, seats), seats - 1);
        CHECK_EQ(wp_idle_next(bits, seats, seats), WP_NO_SEAT);
        CHECK_EQ(wp_idle_next(bits, WP_MAX_SEATS, seats), WP_NO_SEAT);
    }
    // Scribbled bits behind the end are nobody.
    wp_atomic64 few[WP_SEAT_WORDS] = {0};
    wp_idle_set(few, 9), wp_idle_set(few, 100);
    CHECK_EQ(wp_idle_next(few, 0, 9), WP_NO_SEAT);
    CHECK_EQ(wp_idle_next(few, 10, 64), WP_NO_SEAT);
    CHECK_EQ(wp_idle_next(few, 10, 101), 100);
}

static void wraparound(void) {
    // A loop over the set bits, as the waker's, meets each once and ends at the last seat.
    wp_atomic64 bits[WP_SEAT_WORDS] = {0};
    uint64_t random = wp_test_stream(0);
    for (uint32_t round = 0; round < 200; round++) {
        uint32_t wanted = 0, met = 0;
        for (uint32_t seat = 1; seat < WP_MAX_SEATS; seat++) {
            bool in = wp_test_below(&random, 1 + round % 40) == 0 || seat == WP_MAX_SEATS - 1;
            if (in)
                wp_idle_set(bits, seat);
            else
                wp_idle_clear(bits, seat);
            wanted += in;
        }
        for (uint32_t seat = 1; (seat = wp_idle_next(bits, seat, WP_MAX_SEATS)) != WP_NO_SEAT; seat++) met++;
        CHECK_EQ(met, wanted);
        CHECK_EQ(wp_idle_count(bits), wanted);
    }
}

// ---- seats that share words

#define SEATS 4u
struct actor {
    wp_atomic64 *bits;
    uint32_t first; // its seats: first, first + step, ...
    uint32_t step;
    uint32_t seats;
    uint64_t random;
    bool in[WP_MAX_SEATS];
};
static void *flip(void *argument) {
    struct actor *actor = argument;
    wp_test_gate();
    for (uint32_t n = wp_test_rounds(200000); n > 0; n--) {
        uint32_t seat = actor->first + actor->step * wp_test_below(&actor->random, actor->seats);
        CHECK_EQ(wp_idle_has(actor->bits, seat), actor->in[seat]); // nobody else writes it
        actor->in[seat] = !actor->in[seat];
        if (actor->in[seat])
            wp_idle_set(actor->bits, seat);
        else
            wp_idle_clear(actor->bits, seat);
        if (actor->in[seat]) CHECK(wp_idle_any(actor->bits) && wp_idle_next(actor->bits, seat, WP_MAX_SEATS) == seat);
        wp_test_jitter(&actor->random);
    }
    return NULL;
}
static void race(uint32_t step, uint32_t seats) {
    wp_atomic64 bits[WP_SEAT_WORDS] = {0};
    static struct actor actor[SEATS];
    for (uint32_t i = 0; i < SEATS; i++)
        actor[i] = (struct actor){.bits = bits, .first = i, .step = step, .seats = seats, .random = wp_test_stream(i)};
    wp_test_threads(SEATS, flip, actor, sizeof *actor);
    uint32_t count = 0;
    for (uint32_t seat = 0; seat < WP_MAX_SEATS; seat++) {
        bool in = false;
        for (uint32_t i = 0; i < SEATS; i++) in |= actor[i].in[seat];
        CHECK_EQ(wp_idle_has(bits, seat), in);
        count += in;
    }
    CHECK_EQ(wp_idle_count(bits), count);
}
static void stampede(void) { race(1, 1); }
static void storm(void) { race(SEATS, WP_MAX_SEATS / SEATS); }

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(each_seat_has_its_own_bit),
        WP_TEST(the_next_seat_is_below_the_number_of_seats),
        WP_TEST(wraparound),
        WP_TEST(stampede),
        WP_TEST(storm),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
