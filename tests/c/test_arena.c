// test_arena.c — the payload arena: blocks, leases, death, and the law that what
// was given out comes back exactly once.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_arena.h"
#include "wp_reclaim.h"
#include "wp_usage.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "wp_test.h"

// No single-stepping under a sanitizer or an emulator.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(WP_TEST_EMULATED)
#define STEPS 0
#else
#define STEPS 1
#endif

// ---- an arena with a view for each seat, in one process

#define MAX_SEATS 5u
struct fixture {
    struct wp_arena *arena;
    uint64_t bytes;
    uint8_t *memory;
    uint64_t memory_bytes;
    int fd;
    uint32_t seats;
    struct wp_arena_view view[MAX_SEATS];
};

static void open_view(struct fixture *f, uint32_t seat) {
    CHECK(wp_arena_open(&f->view[seat], f->arena, f->bytes, f->memory, f->memory_bytes, f->fd, seat));
}

static void set_up(struct fixture *f, uint64_t budget_bytes, uint32_t seats) {
    memset(f, 0, sizeof *f);
    f->seats = seats;
    f->bytes = wp_arena_bytes(budget_bytes, seats);
    f->arena = mmap(NULL, f->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(f->arena != MAP_FAILED);
    f->memory_bytes = wp_arena_memory_bytes(budget_bytes);
    f->fd = memfd_create("test_arena", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(f->fd >= 0 && ftruncate(f->fd, (off_t)f->memory_bytes) == 0);
    f->memory = mmap(NULL, f->memory_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, f->fd, 0);
    CHECK(f->memory != MAP_FAILED);
    wp_arena_init(f->arena, budget_bytes, seats);
    for (uint32_t i = 0; i < seats; i++) open_view(f, i);
}

static void tear_down(struct fixture *f) {
    munmap(f->arena, f->bytes);
    munmap(f->memory, f->memory_bytes);
    close(f->fd);
}

static struct wp_usage usage_of(struct fixture *f, struct wp_usage_seat *seats) {
    struct wp_usage usage;
    wp_usage_read(&f->view[0].spans, &f->view[0].leases, &usage, seats);
    return usage;
}

// The law of conservation: nothing in use, every span free, no lease.
static void check_empty(struct fixture *f) {
    for (uint32_t i = 0; i < f->seats; i++) wp_arena_flush(&f->view[i]);
    for (uint32_t i = 0; i < f->seats; i++) wp_arena_sweep(&f->view[i], 1, UINT32_MAX, false);
    struct wp_usage_seat seats[MAX_SEATS];
    struct wp_usage usage = usage_of(f, seats);
    CHECK(usage.used_bytes == 0 && usage.doomed_bytes == 0);
    for (uint32_t i = 0; i < f->seats; i++) CHECK(seats[i].held_bytes == 0 && seats[i].leases == 0);
    for (uint32_t i = 1; i < f->view[0].spans.count; i++)
        CHECK((wp_load_relaxed(&f->view[0].spans.word[i]) & ~WP_SPAN_COMMITTED) == 0);
}

static uint64_t must_alloc(struct wp_arena_view *view, uint64_t bytes) {
    uint64_t offset = 0;
    CHECK(wp_arena_alloc(view, bytes, &offset) == WP_ALLOC_OK);
    CHECK(offset != 0 && offset % 64 == 0 && wp_arena_at(view, offset, bytes) != NULL);
    return offset;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// A block says where it is, near its beginning, every 512 bytes and at its end. Its first word
// would be an identity, which is wiped, if its low byte were the tag of one.
static void mark(struct wp_arena_view *view, uint64_t offset, uint64_t salt) {
    uint64_t words = wp_arena_block_bytes(view, offset) / 8;
    uint64_t *at = wp_arena_at(view, offset, 0);
    for (uint64_t i = 2; i < words; i += 64) at[i] = offset ^ salt ^ i;
    at[1] = salt, at[words - 1] = ~(offset ^ salt);
}
static void check_mark(struct wp_arena_view *view, uint64_t offset) {
    uint64_t words = wp_arena_block_bytes(view, offset) / 8;
    uint64_t *at = wp_arena_at(view, offset, 0);
    CHECK(at != NULL);
    uint64_t salt = at[1];
    for (uint64_t i = 2; i < words; i += 64) CHECK(at[i] == (offset ^ salt ^ i));
    CHECK(at[words - 1] == ~(offset ^ salt));
}

// ---- one seat

static void smoke(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    CHECK(!wp_arena_owns(v, 0) && !wp_arena_owns(v, 64) && !wp_arena_owns(v, UINT64_MAX));
    uint64_t a = must_alloc(v, 1), b = must_alloc(v, 1024), c = must_alloc(v, 100000);
    CHECK(a != b && b != c && wp_arena_block_bytes(v, a) == 1024 && wp_arena_block_bytes(v, c) == 7 * WP_SPAN_BYTES);
    mark(v, a, 1), mark(v, b, 2), mark(v, c, 3);
    check_mark(v, a), check_mark(v, b), check_mark(v, c);
    CHECK(usage_of(&f, NULL).used_bytes == 2048 + 7 * WP_SPAN_BYTES);
    CHECK(!wp_arena_owns(v, a + 64) && !wp_arena_owns(v, c + WP_SPAN_BYTES) && wp_arena_at(v, a, 1025) == NULL);
    CHECK(wp_arena_free(v, a) == WP_FREE_DONE && wp_arena_free(v, b) == WP_FREE_DONE);
    CHECK(wp_arena_free(v, c) == WP_FREE_DONE && wp_arena_free(v, c) == WP_FREE_ALIEN);
    check_empty(&f);
    tear_down(&f);
}

static void blocks_are_aligned_and_waste_is_bounded(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    for (uint64_t bytes = 0; bytes <= 200000; bytes += bytes < 20000 ? 61 : 4099) {
        uint64_t offset = must_alloc(v, bytes);
        uint64_t got = wp_arena_block_bytes(v, offset);
        CHECK(got >= bytes && (bytes <= 8192 || offset % 4096 == 0));
        CHECK(bytes < 1024 || got < 2 * bytes + 64);
        CHECK(bytes < 49152 || got - bytes < got / 3);
        CHECK(wp_arena_free(v, offset) == WP_FREE_DONE);
    }
    check_empty(&f);
    tear_down(&f);
}

static void every_class_fills_the_budget_without_overlap(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    static uint64_t offset[2048];
    for (uint32_t class = 0; class < WP_SPAN_CLASSES; class++) {
        uint64_t bytes = wp_span_classes[class].bytes;
        CHECK(wp_span_class_of(bytes) == class && wp_span_class_of(bytes - 1) == class && bytes % 64 == 0);
        CHECK((uint64_t)__builtin_popcount(wp_span_classes[class].bits) == WP_SPAN_BYTES / bytes);
        uint32_t count = 0;
        while (wp_arena_alloc(v, bytes, &offset[count]) == WP_ALLOC_OK) mark(v, offset[count], count), count++;
        CHECK(count == (uint32_t)__builtin_popcount(wp_span_classes[class].bits) * (v->spans.count - 1));
        for (uint32_t i = 0; i < count; i++) check_mark(v, offset[i]);
        CHECK(usage_of(&f, NULL).used_bytes == count * bytes);
        for (uint32_t i = 0; i < count; i++) CHECK(wp_arena_free(v, offset[i * 7 % count]) != WP_FREE_DOOMED);
        for (uint32_t i = 0; i < count; i++)
            if (wp_arena_owns(v, offset[i])) wp_arena_free(v, offset[i]);
        check_empty(&f);
    }
    tear_down(&f);
}

static void exhaustion_is_an_outcome_and_a_free_ends_it(void) {
    struct fixture f;
    set_up(&f, 256 << 10, 2);
    struct wp_arena_view *v = &f.view[0];
    uint64_t offset[16], other = 77;
    for (int i = 0; i < 16; i++) offset[i] = must_alloc(v, WP_SPAN_BYTES);
    CHECK(wp_arena_alloc(v, WP_SPAN_BYTES, &other) == WP_ALLOC_FULL && other == 77);
    CHECK(wp_arena_alloc(v, 10, &other) == WP_ALLOC_FULL && wp_arena_alloc(&f.view[1], 10, &other) == WP_ALLOC_FULL);
    CHECK(wp_arena_alloc(v, 16 * WP_SPAN_BYTES, &other) == WP_ALLOC_FULL);
    CHECK(wp_arena_alloc(v, 16 * WP_SPAN_BYTES + 1, &other) == WP_ALLOC_NEVER && other == 77);
    CHECK(wp_arena_alloc(v, UINT64_MAX, &other) == WP_ALLOC_NEVER);
    CHECK(wp_arena_free(v, offset[5]) == WP_FREE_DONE);
    uint64_t small = must_alloc(&f.view[1], 10);
    CHECK(small / WP_SPAN_BYTES == offset[5] / WP_SPAN_BYTES);
    CHECK(wp_arena_free(v, small) == WP_FREE_DONE);
    // The other seat keeps spare blocks of its open span until it is idle.
    CHECK(wp_arena_alloc(v, 10, &other) == WP_ALLOC_FULL);
    wp_arena_flush(&f.view[1]);
    other = must_alloc(v, 10);
    CHECK(wp_arena_free(v, other) == WP_FREE_DONE);
    for (int i = 0; i < 16; i++)
        if (i != 5) CHECK(wp_arena_free(&f.view[i % 2], offset[i]) == WP_FREE_DONE);
    // A spare block does not stand in the way of the seat's own run.
    CHECK(wp_arena_free(v, must_alloc(v, 16 * WP_SPAN_BYTES)) == WP_FREE_DONE);
    check_empty(&f);
    tear_down(&f);
}

static void a_budget_below_one_span_never_gives(void) {
    struct fixture f;
    set_up(&f, 1000, 1);
    uint64_t offset = 0;
    CHECK(wp_arena_alloc(&f.view[0], 1, &offset) == WP_ALLOC_NEVER);
    CHECK(wp_arena_alloc(&f.view[0], 99999, &offset) == WP_ALLOC_NEVER && offset == 0);
    check_empty(&f);
    tear_down(&f);
}

static void runs_of_random_length_come_and_go_without_overlap(void) {
    struct fixture f;
    set_up(&f, 8 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    uint64_t held[40] = {0}, random = 7;
    for (int round = 0; round < 4000; round++) {
        uint64_t *slot = &held[next_random(&random) % 40];
        if (*slot != 0) {
            check_mark(v, *slot);
            CHECK(wp_arena_free(v, *slot) == WP_FREE_DONE);
            *slot = 0;
        } else if (wp_arena_alloc(v, 8193 + next_random(&random) % 400000, slot) == WP_ALLOC_OK) {
            mark(v, *slot, random);
        }
    }
    for (int i = 0; i < 40; i++)
        if (held[i] != 0) {
            check_mark(v, held[i]);
            CHECK(wp_arena_free(v, held[i]) == WP_FREE_DONE);
        }
    check_empty(&f);
    tear_down(&f);
}

static void warm_memory_is_used_before_fresh(void) {
    struct fixture f;
    set_up(&f, 64 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    uint64_t random = 3;
    for (int round = 0; round < 500; round++) {
        uint64_t big = must_alloc(v, 2 << 20), small = must_alloc(v, next_random(&random) % 8000);
        uint64_t middle = must_alloc(v, 65536);
        wp_arena_free(v, big), wp_arena_free(v, middle), wp_arena_free(v, small);
    }
    CHECK(usage_of(&f, NULL).committed_bytes <= (2 << 20) + 65536 + 20 * WP_SPAN_BYTES);
    check_empty(&f);
    tear_down(&f);
}

// ---- several seats

static void a_block_is_freed_by_another_seat(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 2);
    uint64_t offset[16];
    for (int i = 0; i < 16; i++) offset[i] = must_alloc(&f.view[1], 1000);
    for (int i = 0; i < 15; i++) CHECK(wp_arena_free(&f.view[0], offset[i]) == WP_FREE_DONE);
    struct wp_usage_seat seats[2];
    usage_of(&f, seats);
    CHECK(seats[0].held_bytes == 0 && seats[1].used_bytes == 1024 && seats[1].held_bytes == WP_SPAN_BYTES);
    CHECK(wp_arena_free(&f.view[0], offset[15]) == WP_FREE_DONE);
    // The last free of an open span without spare made it free, and another seat's.
    uint64_t other = must_alloc(&f.view[0], 1000);
    CHECK(other / WP_SPAN_BYTES == 1);
    CHECK(wp_arena_free(&f.view[1], other) == WP_FREE_DONE);
    CHECK(f.view[1].open[0].free == 0);
    uint64_t run = must_alloc(&f.view[1], 100000);
    CHECK(wp_arena_free(&f.view[0], run) == WP_FREE_DONE);
    check_empty(&f);
    tear_down(&f);
}

static void an_open_span_takes_back_what_others_freed(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 2);
    uint64_t random = 11, queue[8] = {0};
    for (unsigned i = 0; i < 100000; i++) {
        if (queue[i % 8]) CHECK(wp_arena_free(&f.view[0], queue[i % 8]) == WP_FREE_DONE);
        queue[i % 8] = must_alloc(&f.view[1], 3000 + next_random(&random) % 100);
    }
    CHECK(usage_of(&f, NULL).committed_bytes <= 8 * WP_SPAN_BYTES);
    for (unsigned i = 0; i < 8; i++) CHECK(wp_arena_free(&f.view[0], queue[i]) == WP_FREE_DONE);
    check_empty(&f);
    tear_down(&f);
}

static void a_leased_block_stays_until_the_last_lease_is_cleared(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 3);
    uint64_t sizes[] = {500, 8192, 100000};
    for (int i = 0; i < 3; i++) {
        uint64_t block = must_alloc(&f.view[0], sizes[i]);
        mark(&f.view[0], block, 9);
        uint32_t a = wp_arena_lease(&f.view[1], block, WP_LEASE_BORROW);
        uint32_t b = wp_arena_lease(&f.view[1], block, WP_LEASE_BORROW);
        uint32_t c = wp_arena_lease(&f.view[2], block, WP_LEASE_BORROW);
        CHECK(a != WP_NO_LEASE && b != a && c != b && c != WP_NO_LEASE);
        CHECK(wp_arena_free(&f.view[0], block) == WP_FREE_DOOMED);
        CHECK(wp_arena_free(&f.view[0], block) == WP_FREE_ALIEN);
        wp_arena_unlease(&f.view[1], a);
        CHECK(wp_arena_sweep(&f.view[0], 1, UINT32_MAX, true) == 0);
        wp_arena_unlease(&f.view[2], c);
        CHECK(wp_arena_sweep(&f.view[0], 1, UINT32_MAX, true) == 0 && usage_of(&f, NULL).doomed_bytes > 0);
        check_mark(&f.view[1], block);
        wp_arena_unlease(&f.view[1], b);
        CHECK(wp_arena_sweep(&f.view[0], 1, UINT32_MAX, false) >= sizes[i]);
        CHECK(!wp_arena_owns(&f.view[0], block) || i < 2);
        check_empty(&f);
        // A lease that is over leaves a bit, which costs a look and nothing else.
        block = must_alloc(&f.view[0], sizes[i]);
        wp_arena_unlease(&f.view[1], wp_arena_lease(&f.view[1], block, WP_LEASE_BORROW));
        CHECK(wp_arena_free(&f.view[i % 2], block) == WP_FREE_DONE);
        check_empty(&f);
    }
    CHECK(wp_arena_lease(&f.view[0], 64, WP_LEASE_BORROW) == WP_NO_LEASE);
    tear_down(&f);
}

static void a_full_lease_table_is_an_outcome(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 2);
    static uint32_t lease[WP_LEASES_PARENT];
    uint32_t most[2] = {WP_LEASES_PARENT, WP_LEASES_WORKER};
    for (uint32_t seat = 0; seat < 2; seat++) {
        uint64_t block = must_alloc(&f.view[seat], 100);
        for (uint32_t i = 0; i < most[seat]; i++) {
            lease[i] = wp_arena_lease(&f.view[seat], block, WP_LEASE_BORROW);
            CHECK(lease[i] != WP_NO_LEASE);
        }
        CHECK(wp_arena_lease(&f.view[seat], block, WP_LEASE_BORROW) == WP_NO_LEASE);
        CHECK(wp_lease_count(&f.view[0].leases, seat) == most[seat]);
        CHECK(wp_lease_count(&f.view[0].leases, 1 - seat) == 0);
        for (uint32_t i = 0; i < most[seat]; i++) wp_arena_unlease(&f.view[seat], lease[i]);
        CHECK(wp_arena_free(&f.view[1 - seat], block) == WP_FREE_DONE);
        check_empty(&f);
    }
    tear_down(&f);
}

static void a_doomed_run_of_a_sleeping_seat_is_taken_over_under_pressure(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 3);
    uint64_t block = must_alloc(&f.view[1], 900000);
    uint32_t lease = wp_arena_lease(&f.view[2], block, WP_LEASE_BORROW);
    CHECK(wp_arena_free(&f.view[0], block) == WP_FREE_DOOMED);
    uint64_t other = 0;
    CHECK(wp_arena_alloc(&f.view[0], 900000, &other) == WP_ALLOC_FULL);
    wp_arena_unlease(&f.view[2], lease);
    other = must_alloc(&f.view[0], 900000);
    CHECK(wp_arena_free(&f.view[0], other) == WP_FREE_DONE);
    check_empty(&f);
    tear_down(&f);
}

static void an_owning_lease_ends_in_a_free(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 3);
    for (uint32_t seat = 0; seat < 3; seat++) {
        uint64_t block = must_alloc(&f.view[1], 3000);
        uint32_t lease = wp_arena_lease(&f.view[seat], block, WP_LEASE_OWN);
        wp_arena_free_leased(&f.view[seat], lease);
        check_empty(&f);
    }
    tear_down(&f);
}

// ---- the system's memory

static uint64_t pages_of(struct fixture *f) {
    struct stat st;
    CHECK(fstat(f->fd, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

// Elsewhere the system neither reserves memory nor takes it back.
#if WP_OS_LINUX
static void trim_gives_free_memory_back(void) {
    struct fixture f;
    set_up(&f, 16 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    CHECK(pages_of(&f) == 0);
    uint64_t a = must_alloc(v, 4 << 20), b = must_alloc(v, 6 << 20), c = must_alloc(v, 100);
    mark(v, a, 1), mark(v, b, 2), mark(v, c, 3);
    CHECK(pages_of(&f) >= 10 << 20 && wp_arena_trim(v, 0) == 0);
    CHECK(wp_arena_free(v, b) == WP_FREE_DONE);
    CHECK(wp_arena_trim(v, 1 << 20) == 5 << 20);
    CHECK(pages_of(&f) == usage_of(&f, NULL).committed_bytes);
    check_mark(v, a), check_mark(v, c);
    b = must_alloc(v, 6 << 20);
    mark(v, b, 4), check_mark(v, a), check_mark(v, b);
    wp_arena_free(v, a), wp_arena_free(v, b), wp_arena_free(v, c);
    check_empty(&f);
    CHECK(wp_arena_trim(v, 0) > 10 << 20 && pages_of(&f) == 0 && usage_of(&f, NULL).committed_bytes == 0);
    tear_down(&f);
}

// How many pages of the spans' words were ever touched.
static uint32_t pages_of_words(struct fixture *f) {
    static unsigned char resident[4096];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    CHECK(f->bytes / page < sizeof resident && mincore(f->arena, f->bytes, resident) == 0);
    uint32_t touched = 0;
    for (uint64_t i = 0; i <= f->bytes / page; i++) touched += resident[i] & 1;
    return touched;
}

static void a_large_arena_is_looked_at_only_where_it_was_used(void) {
    struct fixture f;
    set_up(&f, UINT64_C(1) << 30, 3);
    uint32_t before = pages_of_words(&f);
    struct wp_arena_view *v = &f.view[0], *w = &f.view[1];
    CHECK(usage_of(&f, NULL).run_bytes == UINT64_C(1) << 30 && wp_arena_trim(v, 0) == 0);
    uint64_t small = must_alloc(v, 5000), run = must_alloc(w, 3 << 20), other = must_alloc(v, 1 << 20);
    mark(v, small, 1), mark(w, run, 2), mark(v, other, 3);
    struct wp_span_gap gap = wp_span_gap(&v->spans);
    CHECK(gap.first == 2 && gap.end == v->spans.count - 256);
    struct wp_usage usage = usage_of(&f, NULL);
    CHECK(usage.used_bytes == (4 << 20) + 5440 && usage.committed_bytes == (4 << 20) + WP_SPAN_BYTES);
    CHECK(usage.run_bytes == (gap.end - gap.first) * WP_SPAN_BYTES);
    CHECK(wp_arena_free(v, run) == WP_FREE_DONE && wp_arena_free(v, small) == WP_FREE_DONE);
    CHECK(wp_arena_trim(v, 0) == (3 << 20) + WP_SPAN_BYTES);
    check_mark(v, other);
    usage = usage_of(&f, NULL);
    CHECK(usage.committed_bytes == 1 << 20 && usage.run_bytes == (gap.end - 1) * WP_SPAN_BYTES);
    CHECK(wp_arena_free(v, other) == WP_FREE_DONE && wp_arena_trim(v, 0) == 1 << 20);
    CHECK(pages_of_words(&f) <= before + 4);
    check_empty(&f);
    tear_down(&f);
}

static void trimmed_low_spans_are_used_again_before_higher_ones(void) {
    struct fixture f;
    set_up(&f, 16 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    for (int round = 0; round < 100; round++) {
        uint64_t offset[20];
        for (int i = 0; i < 20; i++) offset[i] = must_alloc(v, 6000);
        for (int i = 0; i < 20; i++) CHECK(offset[i] / WP_SPAN_BYTES <= 10);
        for (int i = 0; i < 20; i++) CHECK(wp_arena_free(v, offset[i]) == WP_FREE_DONE);
        CHECK(wp_arena_trim(v, 0) == 10 * WP_SPAN_BYTES);
    }
    check_empty(&f);
    tear_down(&f);
}

static void a_full_file_system_is_an_outcome(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    // A file of 16 spans and no more: what lies beyond cannot be reserved, and
    // touching it would be a SIGBUS.
    CHECK(ftruncate(f.fd, 16 * (off_t)WP_SPAN_BYTES) == 0 && fcntl(f.fd, F_ADD_SEALS, F_SEAL_GROW) == 0);
    uint64_t offset = 77, held[15];
    CHECK(wp_arena_alloc(v, 100000, &offset) == WP_ALLOC_NO_MEMORY && offset == 77);
    CHECK(wp_arena_alloc(v, 64 * WP_SPAN_BYTES + 1, &offset) == WP_ALLOC_NEVER);
    for (int i = 0; i < 15; i++) held[i] = must_alloc(v, 8000), mark(v, held[i], 5);
    for (int i = 0; i < 15; i++) check_mark(v, held[i]);
    for (int i = 0; i < 15; i++) must_alloc(v, 8000);
    CHECK(wp_arena_alloc(v, 8000, &offset) == WP_ALLOC_NO_MEMORY && offset == 77);
    CHECK(wp_arena_free(v, held[7]) == WP_FREE_DONE);
    mark(v, must_alloc(v, 8000), 6);
    CHECK(wp_arena_alloc(v, 8000, &offset) == WP_ALLOC_NO_MEMORY);
    tear_down(&f);
    // A descriptor that is none: every reservation is refused.
    set_up(&f, 1 << 20, 1);
    f.view[0].spans.fd = 9999;
    CHECK(wp_arena_alloc(&f.view[0], 100, &offset) == WP_ALLOC_NO_MEMORY);
    CHECK(wp_arena_alloc(&f.view[0], 100000, &offset) == WP_ALLOC_NO_MEMORY && offset == 77);
    check_empty(&f);
    tear_down(&f);
}

static void warm_memory_serves_when_the_file_system_is_full(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 1);
    struct wp_arena_view *v = &f.view[0];
    uint64_t run = must_alloc(v, 100000);
    CHECK(wp_arena_free(v, run) == WP_FREE_DONE);
    v->spans.fd = 9999;
    mark(v, must_alloc(v, 5000), 1);
    run = must_alloc(v, 50000);
    mark(v, run, 2);
    tear_down(&f);
}
#endif // WP_OS_LINUX

// ---- death

static void recover(struct fixture *f, uint32_t dead, const uint64_t *slots, uint32_t count) {
    struct wp_reclaim reclaim;
    CHECK(wp_reclaim_begin(&reclaim, &f->view[0].spans, &f->view[0].leases, dead));
    for (uint32_t i = 0; i < count; i++) wp_reclaim_keep(&reclaim, slots[i]);
    wp_reclaim_end(&reclaim);
    open_view(f, dead);
}

static void what_a_dead_seat_held_is_freed_and_what_a_slot_names_stays(void) {
    struct fixture f;
    set_up(&f, 4 << 20, 3);
    uint64_t sizes[] = {500, 1500, 8192, 16384, 100000, 1000000}, kept[6];
    for (int i = 0; i < 6; i++) {
        must_alloc(&f.view[1], sizes[i]);
        kept[i] = must_alloc(&f.view[1], sizes[i]);
        mark(&f.view[1], kept[i], 4);
    }
    uint64_t others = must_alloc(&f.view[2], 500);
    recover(&f, 1, kept, 6);
    struct wp_usage_seat seats[3];
    CHECK(usage_of(&f, seats).used_bytes == 1024 + 1024 + 1600 + 8192 + 16384 + 7 * 16384 + 62 * 16384);
    CHECK(seats[1].leases == 0 && wp_arena_owns(&f.view[0], others));
    // The next incarnation goes on in the same spans.
    uint64_t more = must_alloc(&f.view[1], 500);
    CHECK(more / WP_SPAN_BYTES == kept[0] / WP_SPAN_BYTES && more != kept[0]);
    for (int i = 0; i < 6; i++) {
        check_mark(&f.view[2], kept[i]);
        CHECK(wp_arena_free(&f.view[i % 3], kept[i]) == WP_FREE_DONE);
    }
    CHECK(wp_arena_free(&f.view[1], more) == WP_FREE_DONE && wp_arena_free(&f.view[2], others) == WP_FREE_DONE);
    check_empty(&f);
    tear_down(&f);
}

static void what_a_dead_seat_lent_stays_while_it_is_leased(void) {
    struct fixture f;
    set_up(&f, 4 << 20, 3);
    uint64_t small = must_alloc(&f.view[1], 500), run = must_alloc(&f.view[1], 50000);
    uint32_t a = wp_arena_lease(&f.view[2], small, WP_LEASE_BORROW),
             b = wp_arena_lease(&f.view[0], run, WP_LEASE_BORROW);
    mark(&f.view[1], small, 1), mark(&f.view[1], run, 2);
    recover(&f, 1, NULL, 0);
    check_mark(&f.view[2], small), check_mark(&f.view[0], run);
    CHECK(usage_of(&f, NULL).doomed_bytes == 1024 + 4 * WP_SPAN_BYTES);
    wp_arena_unlease(&f.view[2], a), wp_arena_unlease(&f.view[0], b);
    check_empty(&f);
    tear_down(&f);
}

static void a_dead_seat_s_leases_are_cleared(void) {
    struct fixture f;
    set_up(&f, 4 << 20, 3);
    uint64_t block = must_alloc(&f.view[0], 50000);
    for (int i = 0; i < 100; i++) CHECK(wp_arena_lease(&f.view[1], block, WP_LEASE_BORROW) != WP_NO_LEASE);
    CHECK(wp_arena_free(&f.view[0], block) == WP_FREE_DOOMED);
    recover(&f, 1, NULL, 0);
    check_empty(&f);
    tear_down(&f);
}

static void a_lease_cleared_during_a_recovery_lapses(void) {
    struct fixture f;
    set_up(&f, 4 << 20, 3);
    uint64_t block = must_alloc(&f.view[1], 500);
    uint32_t lease = wp_arena_lease(&f.view[2], block, WP_LEASE_OWN);
    struct wp_reclaim reclaim;
    CHECK(wp_reclaim_begin(&reclaim, &f.view[0].spans, &f.view[0].leases, 1));
    // The slots were read already when the block went into one and its lease was cleared.
    wp_arena_unlease(&f.view[2], lease);
    wp_reclaim_end(&reclaim);
    open_view(&f, 1);
    CHECK(wp_arena_owns(&f.view[0], block) && wp_lease_count(&f.view[0].leases, 2) == 1);
    wp_arena_unlease(&f.view[2], wp_arena_lease(&f.view[2], block, WP_LEASE_BORROW));
    CHECK(wp_lease_count(&f.view[0].leases, 2) == 0 && wp_arena_free(&f.view[0], block) == WP_FREE_DONE);
    check_empty(&f);
    tear_down(&f);
}

// What seat 1 does, an instruction at a time, in a child; `slot` stands for a slot
// whose home is seat 1.
struct steps {
    wp_atomic64 slot;
};

static void steps_alloc(struct fixture *f, struct steps *s) {
    (void)s;
    uint64_t a[4];
    for (int i = 0; i < 4; i++) wp_arena_alloc(&f->view[1], (uint64_t[]){100, 8000, 9000, 60000}[i], &a[i]);
    for (int i = 0; i < 4; i++) wp_arena_free(&f->view[1], a[i]);
    wp_arena_flush(&f->view[1]);
}
static void steps_remote_free(struct fixture *f, struct steps *s) {
    // The slot is emptied first under an owning lease, then the block is freed.
    uint64_t offset = wp_load_acquire(&s->slot);
    uint32_t lease = wp_arena_lease(&f->view[1], offset, WP_LEASE_OWN);
    wp_store_release(&s->slot, 0);
    wp_arena_free_leased(&f->view[1], lease);
}
static void steps_move(struct fixture *f, struct steps *s) {
    // Out of the slot, and back into it.
    uint64_t offset = wp_load_acquire(&s->slot);
    uint32_t lease = wp_arena_lease(&f->view[1], offset, WP_LEASE_OWN);
    wp_store_release(&s->slot, 0);
    wp_store_release(&s->slot, offset);
    wp_arena_unlease(&f->view[1], lease);
}
static void steps_trim(struct fixture *f, struct steps *s) {
    (void)s;
    wp_arena_trim(&f->view[1], WP_SPAN_BYTES);
}
static void steps_sweep(struct fixture *f, struct steps *s) {
    (void)s;
    wp_arena_sweep(&f->view[1], 1, UINT32_MAX, true);
}

// After every instruction that changed the control part, the slot or the file's
// pages: recover a copy, and audit. The slot's block and the other seats' are whole,
// nothing else is used, and what says that it is committed is.
static uint64_t step_through(void (*steps)(struct fixture *, struct steps *), uint64_t slot_bytes, uint32_t slot_seat,
                             bool doomed, uint64_t *audits) {
    struct fixture f;
    set_up(&f, 16 * WP_SPAN_BYTES, 3);
    struct steps *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(s != MAP_FAILED);
    uint64_t others = must_alloc(&f.view[2], 3000), block = 0;
    wp_arena_free(&f.view[0], must_alloc(&f.view[0], 3 * WP_SPAN_BYTES)); // some is warm, some is not
    if (slot_bytes != 0) block = must_alloc(&f.view[slot_seat], slot_bytes), wp_store_relaxed(&s->slot, block);
    if (doomed) {
        uint32_t lease = wp_arena_lease(&f.view[0], block, WP_LEASE_BORROW);
        CHECK(wp_arena_free(&f.view[0], block) == WP_FREE_DOOMED);
        wp_arena_unlease(&f.view[0], lease);
        wp_store_relaxed(&s->slot, 0);
    }
    struct fixture copy = f;
    copy.arena = mmap(NULL, f.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint8_t *before = calloc(1, f.bytes);
    CHECK(copy.arena != MAP_FAILED && before != NULL);

    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        steps(&f, s);
        _exit(0);
    }
    int status;
    uint64_t count = 0, slot_before = 0, pages_before = 0;
    CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    for (; !WIFEXITED(status); count++) {
        uint64_t slot = wp_load_relaxed(&s->slot), pages = pages_of(&f);
        if (memcmp(before, f.arena, f.bytes) != 0 || slot != slot_before || pages != pages_before || count == 0) {
            *audits += 1;
            slot_before = slot, pages_before = pages;
            memcpy(before, f.arena, f.bytes);
            memcpy(copy.arena, f.arena, f.bytes);
            for (uint32_t i = 0; i < 3; i++) {
                struct wp_arena_view was = f.view[i];
                open_view(&copy, i);
                if (i != 1) memcpy(copy.view[i].open, was.open, sizeof was.open); // they live on
            }
            recover(&copy, 1, &slot, 1);
            CHECK(!WP_OS_LINUX || usage_of(&copy, NULL).committed_bytes <= pages);
            CHECK(wp_arena_owns(&copy.view[0], others));
            if (slot != 0) CHECK(wp_arena_block_bytes(&copy.view[0], slot) >= slot_bytes);
            if (slot != 0) CHECK(wp_arena_free(&copy.view[0], slot) != WP_FREE_ALIEN);
            wp_arena_free(&copy.view[2], others);
            check_empty(&copy);
        }
        CHECK(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
        CHECK(waitpid(child, &status, 0) == child && (WIFSTOPPED(status) || WIFEXITED(status)));
    }
    munmap(copy.arena, f.bytes);
    munmap(s, sizeof *s);
    free(before);
    tear_down(&f);
    return count;
}

static void death_at_any_instruction_leaves_what_recovery_makes_whole(void) {
    if (!STEPS) return;
    uint64_t audits = 0, count = 0;
    count += step_through(steps_alloc, 0, 0, false, &audits);
    for (uint32_t seat = 0; seat < 3; seat++)
        for (int i = 0; i < 2; i++) {
            uint64_t bytes = i ? 40000 : 700;
            count += step_through(steps_remote_free, bytes, seat, false, &audits);
            count += step_through(steps_move, bytes, seat, false, &audits);
            count += step_through(steps_sweep, bytes, seat, true, &audits);
        }
    count += step_through(steps_trim, 0, 0, false, &audits);
    printf("    %llu instructions, %llu audits\n", (unsigned long long)count, (unsigned long long)audits);
    CHECK(audits > 50);
}

static void garbage_does_not_take_recovery_out_of_bounds(void) {
    struct fixture f;
    set_up(&f, 4 << 20, 3);
    uint64_t random = 99;
    for (int round = 0; round < 300; round++) {
        struct wp_spans *spans = &f.view[0].spans;
        for (uint32_t i = 0; i < spans->count; i++) {
            uint64_t word = next_random(&random);
            // Half of them in the shape of a seat's span, so that every branch is met.
            if (word & 1 << 20) word = (word & ~WP_SPAN_OWNER_MASK) | UINT64_C(1) << WP_SPAN_OWNER_SHIFT;
            if (word & 1 << 21) word = (word & 0xffffffff) | (next_random(&random) % 300) << 32;
            wp_store_relaxed(&spans->word[i], word);
        }
        for (uint32_t i = 0; i < wp_lease_first(3); i++)
            if (round & 1) wp_store_relaxed(&f.view[0].leases.lease[i], next_random(&random) % (5 << 20));
        for (uint32_t i = 0; i < wp_lease_first(3) / 64; i++)
            wp_store_relaxed(&f.view[0].leases.held[i], round & 1 ? next_random(&random) : 0);
        uint64_t slots[200];
        for (int i = 0; i < 200; i++) slots[i] = i % 2 ? next_random(&random) : next_random(&random) % 300 * 1024;
        recover(&f, 1, slots, 200);
        CHECK(wp_lease_count(&f.view[0].leases, 1) == 0);
        // The living get an outcome, whatever it is. (Their spans say that they
        // are committed: the memory here is.)
        for (int i = 0; i < 200; i++) {
            uint64_t offset = 0;
            wp_arena_alloc(&f.view[1], next_random(&random) % 100000, &offset);
            wp_arena_free(&f.view[2], slots[i]);
            wp_arena_unlease(&f.view[0], wp_lease_first(0) + (uint32_t)(next_random(&random) % WP_LEASES_PARENT));
            wp_arena_at(&f.view[0], slots[i], 10);
        }
        wp_arena_sweep(&f.view[2], 1, UINT32_MAX, true);
        usage_of(&f, NULL);
    }
    tear_down(&f);
}

static void a_head_that_lies_is_refused(void) {
    struct fixture f;
    set_up(&f, 1 << 20, 3);
    CHECK(!wp_arena_open(&f.view[0], f.arena, f.bytes - 1, f.memory, f.memory_bytes, -1, 0));
    CHECK(!wp_arena_open(&f.view[0], f.arena, f.bytes, f.memory, f.memory_bytes - 1, -1, 0));
    CHECK(!wp_arena_open(&f.view[0], f.arena, f.bytes, f.memory, f.memory_bytes, -1, 3));
    f.arena->budget_bytes = UINT64_MAX;
    CHECK(!wp_arena_open(&f.view[0], f.arena, f.bytes, f.memory, f.memory_bytes, -1, 0));
    tear_down(&f);
}

// ---- threads as seats

#define BOXES 16u
struct storm {
    struct fixture f;
    wp_atomic64 box[MAX_SEATS][BOXES]; // [taker]: a sender puts, the taker alone takes
    wp_atomic32 dead[MAX_SEATS];       // 1: the seat's thread has died; 2: done
    unsigned rounds;
    bool die;
};
struct storm_seat {
    struct storm *s;
    uint32_t seat;
};

// Seats 1 … n. A taker owns what is in its boxes, as a home owns what its DONE slots
// name; it takes by an owning lease. With `die`, any step may be the last.
static void *storm_thread(void *arg) {
    struct storm_seat *me = arg;
    struct storm *s = me->s;
    struct wp_arena_view *v = &s->f.view[me->seat];
    uint64_t random = 1000 + me->seat;
    uint32_t loan[8];
    uint64_t loan_of[8] = {0};
#define MAY_DIE                                                                                                        \
    if (s->die && next_random(&random) % 500 == 0) goto died
    for (unsigned round = 0; round < s->rounds; round++) {
        uint32_t to = 1 + (uint32_t)(next_random(&random) % (s->f.seats - 1));
        uint64_t size = next_random(&random), offset = 0;
        size = size % 16 == 0 ? size % 150000 : size % 9000;
        if (wp_arena_alloc(v, size, &offset) == WP_ALLOC_OK) {
            mark(v, offset, random);
            MAY_DIE;
            uint64_t empty = 0;
            if (!wp_cas_acq_rel(&s->box[to][next_random(&random) % BOXES], &empty, offset)) {
                MAY_DIE;
                CHECK(wp_arena_free(v, offset) == WP_FREE_DONE);
            }
        }
        MAY_DIE;
        wp_atomic64 *box = &s->box[me->seat][next_random(&random) % BOXES];
        offset = wp_load_acquire(box);
        if (offset != 0) {
            uint32_t own = wp_arena_lease(v, offset, WP_LEASE_OWN);
            CHECK(own != WP_NO_LEASE);
            MAY_DIE;
            wp_store_release(box, 0);
            MAY_DIE;
            check_mark(v, offset);
            uint32_t i = (uint32_t)(next_random(&random) % 8);
            if (loan_of[i] != 0) check_mark(v, loan_of[i]), wp_arena_unlease(v, loan[i]);
            loan_of[i] = 0;
            if (next_random(&random) % 4 == 0) {
                loan[i] = wp_arena_lease(v, offset, WP_LEASE_BORROW);
                loan_of[i] = loan[i] != WP_NO_LEASE ? offset : 0;
            }
            MAY_DIE;
            uint64_t empty = 0;
            if (next_random(&random) % 4 == 0 &&
                wp_cas_acq_rel(&s->box[to][next_random(&random) % BOXES], &empty, offset)) {
                MAY_DIE;
                wp_arena_unlease(v, own);
            } else {
                MAY_DIE;
                wp_arena_free_leased(v, own);
            }
        }
        if (round % 256 == 0) wp_arena_flush(v);
        continue;
    died:
        memset(loan_of, 0, sizeof loan_of);
        wp_store_release(&s->dead[me->seat], 1);
        while (wp_load_acquire(&s->dead[me->seat]) == 1) sched_yield();
    }
    for (int i = 0; i < 8; i++)
        if (loan_of[i] != 0) check_mark(v, loan_of[i]), wp_arena_unlease(v, loan[i]);
    wp_arena_flush(v);
    wp_store_release(&s->dead[me->seat], 2);
    return NULL;
}

static void run_storm(uint64_t budget_bytes, uint32_t seats, unsigned rounds, bool die) {
    static struct storm s;
    memset(&s, 0, sizeof s);
    set_up(&s.f, budget_bytes, seats);
    s.rounds = rounds, s.die = die;
    pthread_t thread[MAX_SEATS];
    struct storm_seat arg[MAX_SEATS];
    for (uint32_t i = 1; i < seats; i++) {
        arg[i] = (struct storm_seat){&s, i};
        CHECK(pthread_create(&thread[i], NULL, storm_thread, &arg[i]) == 0);
    }
    unsigned deaths = 0;
    for (uint32_t done = 0; done + 1 < seats; sched_yield()) {
        done = 0;
        for (uint32_t i = 1; i < seats; i++) {
            uint32_t state = wp_load_acquire(&s.dead[i]);
            done += state == 2;
            if (state != 1) continue;
            struct wp_reclaim reclaim;
            CHECK(wp_reclaim_begin(&reclaim, &s.f.view[0].spans, &s.f.view[0].leases, i));
            for (uint32_t t = 1; t < seats; t++)
                for (uint32_t b = 0; b < BOXES; b++) wp_reclaim_keep(&reclaim, wp_load_acquire(&s.box[t][b]));
            wp_reclaim_end(&reclaim);
            open_view(&s.f, i);
            deaths++;
            wp_store_release(&s.dead[i], 0);
        }
    }
    for (uint32_t i = 1; i < seats; i++) CHECK(pthread_join(thread[i], NULL) == 0);
    for (uint32_t t = 1; t < seats; t++)
        for (uint32_t b = 0; b < BOXES; b++) {
            uint64_t offset = wp_load_acquire(&s.box[t][b]);
            if (offset == 0) continue;
            check_mark(&s.f.view[0], offset);
            CHECK(wp_arena_free(&s.f.view[0], offset) == WP_FREE_DONE);
        }
    // What lapsed under the last recovery goes with the next lease.
    for (uint32_t i = 1; i < seats; i++) wp_lease_purge(&s.f.view[i].leases);
    check_empty(&s.f);
    if (die) printf("    %u deaths\n", deaths);
    CHECK(!die || deaths > 0);
    tear_down(&s.f);
}

static void stampede(void) { run_storm(256 << 10, 5, STEPS ? 100000 : 10000, false); }
static void storm(void) { run_storm(4 << 20, 5, STEPS ? 100000 : 10000, false); }
static void storm_of_deaths(void) { run_storm(2 << 20, 5, STEPS ? 100000 : 10000, true); }

// ---- what it costs

static void bench(void) {
    struct fixture f;
    set_up(&f, 256 << 20, 2);
    uint64_t sizes[] = {200, 1024, 4096, 8192, 16384, 65536, 1 << 20, 64 << 20};
    for (int i = 0; i < 8; i++) {
        int rounds = sizes[i] > 70000 ? 200 : STEPS ? 200000 : 2000;
        for (int remote = 0; remote < 2; remote++) {
            int64_t best_ns = INT64_MAX;
            for (int repeat = 0; repeat < 5; repeat++) {
                int64_t start_ns = wp_os_now_ns();
                for (int r = 0; r < rounds; r++) {
                    uint64_t offset = 0;
                    wp_arena_alloc(&f.view[0], sizes[i], &offset);
                    wp_arena_free(&f.view[remote], offset);
                }
                int64_t took_ns = wp_os_now_ns() - start_ns;
                best_ns = took_ns < best_ns ? took_ns : best_ns;
            }
            printf("    %9llu bytes, %s: %.1f ns\n", (unsigned long long)sizes[i],
                   remote ? "freed by another seat" : "freed by its owner   ", (double)best_ns / rounds);
        }
    }
    check_empty(&f);
    tear_down(&f);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(blocks_are_aligned_and_waste_is_bounded),
        WP_TEST(every_class_fills_the_budget_without_overlap),
        WP_TEST(exhaustion_is_an_outcome_and_a_free_ends_it),
        WP_TEST(a_budget_below_one_span_never_gives),
        WP_TEST(runs_of_random_length_come_and_go_without_overlap),
        WP_TEST(warm_memory_is_used_before_fresh),
        WP_TEST(a_block_is_freed_by_another_seat),
        WP_TEST(an_open_span_takes_back_what_others_freed),
        WP_TEST(a_leased_block_stays_until_the_last_lease_is_cleared),
        WP_TEST(a_full_lease_table_is_an_outcome),
        WP_TEST(a_doomed_run_of_a_sleeping_seat_is_taken_over_under_pressure),
        WP_TEST(an_owning_lease_ends_in_a_free),
#if WP_OS_LINUX
        WP_TEST(trim_gives_free_memory_back),
        WP_TEST(a_large_arena_is_looked_at_only_where_it_was_used),
        WP_TEST(trimmed_low_spans_are_used_again_before_higher_ones),
        WP_TEST(a_full_file_system_is_an_outcome),
        WP_TEST(warm_memory_serves_when_the_file_system_is_full),
#endif
        WP_TEST(what_a_dead_seat_held_is_freed_and_what_a_slot_names_stays),
        WP_TEST(what_a_dead_seat_lent_stays_while_it_is_leased),
        WP_TEST(a_dead_seat_s_leases_are_cleared),
        WP_TEST(a_lease_cleared_during_a_recovery_lapses),
        WP_TEST(death_at_any_instruction_leaves_what_recovery_makes_whole),
        WP_TEST(garbage_does_not_take_recovery_out_of_bounds),
        WP_TEST(a_head_that_lies_is_refused),
        WP_TEST(stampede),
        WP_TEST(storm),
        WP_TEST(storm_of_deaths),
        WP_TEST(bench),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
