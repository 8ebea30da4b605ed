// test_segment.c — the head of a segment is believed only when it is one of ours.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_segment.h"

#include "wp_test.h"

static void smoke(void) {
    struct wp_segment head = {.magic = WP_SEGMENT_MAGIC,
                              .version = WP_LAYOUT_VERSION,
                              .seats = 3,
                              .bytes = 5000,
                              .parent_slots = 1,
                              .worker_slots = 1};
    CHECK_EQ(wp_segment_check(&head, 5000), WP_SEGMENT_OK);
    CHECK_EQ(wp_segment_check(&head, 9000), WP_SEGMENT_OK); // a mapping is rounded up to pages
    CHECK(memcmp(&head.magic, "workpool", 8) == 0);
}

static void carved_structures_begin_on_lines_and_do_not_overlap(void) {
    uint64_t random = wp_test_stream(0), end = 0, last = 0;
    CHECK_EQ(wp_segment_carve(&end, 1), 0);
    for (uint32_t n = 0; n < 1000; n++) {
        last = end;
        uint64_t bytes = wp_test_below(&random, 300), offset = wp_segment_carve(&end, bytes);
        CHECK(offset % WP_CACHE_LINE == 0 && offset >= last && offset < last + WP_CACHE_LINE && end == offset + bytes);
    }
    end = UINT64_C(5) << 40; // larger than 32 bits
    CHECK(wp_segment_carve(&end, 100) == UINT64_C(5) << 40);
}

static void a_head_that_is_not_ours_is_told_apart(void) {
    struct wp_segment good = {.magic = WP_SEGMENT_MAGIC,
                              .version = WP_LAYOUT_VERSION,
                              .seats = 3,
                              .bytes = 5000,
                              .parent_slots = 1,
                              .worker_slots = 1};
    struct wp_segment head = good;
    CHECK_EQ(wp_segment_check(&good, sizeof good - 1), WP_SEGMENT_ALIEN);
    CHECK_EQ(wp_segment_check(&good, 0), WP_SEGMENT_ALIEN);
    for (uint32_t bit = 0; bit < 64; bit++) {
        head.magic = good.magic ^ UINT64_C(1) << bit;
        CHECK_EQ(wp_segment_check(&head, 5000), WP_SEGMENT_ALIEN);
    }
    head = good, head.version++;
    CHECK_EQ(wp_segment_check(&head, 5000), WP_SEGMENT_VERSION);
    CHECK_EQ(wp_segment_check(&good, 4999), WP_SEGMENT_SIZE);
    static const uint32_t seats[] = {0, 1, WP_MAX_SEATS + 1, UINT32_MAX};
    for (uint32_t i = 0; i < 4; i++) {
        head = good, head.seats = seats[i];
        CHECK_EQ(wp_segment_check(&head, 5000), WP_SEGMENT_SHAPE);
    }
    head = good, head.seats = WP_MAX_SEATS;
    CHECK_EQ(wp_segment_check(&head, 5000), WP_SEGMENT_OK);
    head = good, head.parent_slots = 0;
    CHECK_EQ(wp_segment_check(&head, 5000), WP_SEGMENT_SHAPE);
    head = good, head.worker_slots = 0;
    CHECK_EQ(wp_segment_check(&head, 5000), WP_SEGMENT_SHAPE);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {WP_TEST(smoke), WP_TEST(carved_structures_begin_on_lines_and_do_not_overlap),
                                           WP_TEST(a_head_that_is_not_ours_is_told_apart)};
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
