// test_parcel.c — blocks that a result names, and blocks lent by reference: each ends once,
// whoever dies, and none is another's while somebody looks there.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_pool.h"

#include "wp_test_pool.h"

#define A 1u // who makes, and dies
#define B 2u // who borrows
#define ID(number) ((uint64_t)(number) << 8 | WP_SHARED_TAG)

static uint64_t make(struct wp_view *view, uint64_t bytes, uint64_t id) {
    uint64_t offset = 0;
    CHECK_EQ(wp_arena_alloc(&view->arena, bytes, &offset), WP_ALLOC_OK);
    wp_store_relaxed(wp_block_identity(&view->arena.spans, offset), id);
    return offset;
}

// A parcel of `view` that names two blocks of its own.
static uint64_t make_parcel(struct wp_view *view, const uint64_t names[2]) {
    uint64_t offset = make(view, 1000, 0x100 | WP_PARCEL_TAG);
    struct wp_parcel *parcel = (struct wp_parcel *)(void *)(view->arena.spans.memory + offset);
    wp_atomic64 *name = (wp_atomic64 *)(parcel + 1);
    parcel->stream_bytes = 0;
    parcel->names = 2;
    for (uint32_t i = 0; i < 2; i++) wp_store_relaxed(&name[i], names[i]);
    return offset;
}

// A task of `home` that A has finished with such a parcel, or is about to.
static struct wp_slot *finish(struct test_pool *pool, struct wp_view *home, const uint64_t names[2], bool done) {
    wp_handle handle = test_pool_submit(home, TEST_ANYONE, 0);
    struct wp_slot *slot = &home->slots[wp_handle_index(handle)];
    CHECK_EQ(wp_slot_claim(slot, handle, A), WP_CLAIM_OK);
    wp_slot_enter(slot);
    wp_payload_set(&slot->result, make_parcel(&pool->view[A], names), 1000);
    if (done) wp_slot_finish(slot, WP_OUTCOME_OK);
    return slot;
}

static uint64_t used_bytes(struct test_pool *pool) {
    struct wp_usage usage;
    for (uint32_t seat = 0; seat < pool->shape.seats; seat++) {
        wp_arena_flush(&pool->view[seat].arena);
        wp_arena_sweep(&pool->view[seat].arena, 1, UINT32_MAX, true);
    }
    wp_usage_read(&pool->view[0].arena.spans, &pool->view[0].arena.leases, &usage, NULL);
    return usage.used_bytes;
}

static void harvest_parcel(struct wp_view *home, struct wp_slot *slot) {
    wp_handle handle = wp_handle_of((uint32_t)(slot - home->slots), wp_state_generation(wp_load_relaxed(&slot->state)));
    wp_home_drop_names(home, slot);
    wp_home_release(home, handle);
}

static void smoke(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    uint64_t names[2] = {make(&pool.view[A], 5000, ID(1)), make(&pool.view[A], 40000, ID(2))};
    struct wp_slot *slot = finish(&pool, &pool.view[0], names, true);
    // The parent inherits one, drops the other, then inherits the parcel itself.
    uint32_t lease = wp_arena_lease(&pool.view[0].arena, names[0], WP_LEASE_OWN);
    wp_home_inherit(&pool.view[0], slot, names[0]);
    harvest_parcel(&pool.view[0], slot);
    CHECK(wp_arena_owns(&pool.view[0].arena, names[0]));
    CHECK(!wp_arena_owns(&pool.view[0].arena, names[1]));
    wp_arena_free_leased(&pool.view[0].arena, lease);
    CHECK_EQ(used_bytes(&pool), 0);
    test_pool_end(&pool);
}

static void what_a_done_slot_names_outlives_its_maker(void) {
    for (int home = 0; home <= 2; home += 2) { // the parent's task, and another worker's
        struct test_pool pool;
        test_pool_make(&pool, 3, 8, 4, false);
        uint64_t names[2] = {make(&pool.view[A], 5000, ID(1)), make(&pool.view[A], 40000, ID(2))};
        struct wp_slot *slot = finish(&pool, &pool.view[home], names, true);
        uint64_t before = used_bytes(&pool);
        wp_recover(&pool.view[0], A, 1, -9);
        CHECK_EQ(used_bytes(&pool), before);
        test_pool_sit(&pool, A);
        // Others do not get them.
        for (int i = 0; i < 20; i++) CHECK(make(&pool.view[A], 5000, 9) != names[0]);
        wp_recover(&pool.view[0], A, 1, -9);
        test_pool_sit(&pool, A);
        CHECK_EQ(used_bytes(&pool), before);
        harvest_parcel(&pool.view[home], slot);
        CHECK_EQ(used_bytes(&pool), 0);
        test_pool_end(&pool);
    }
}

static void what_a_running_slot_names_goes_with_its_maker(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    uint64_t names[2] = {make(&pool.view[A], 5000, ID(1)), make(&pool.view[A], 40000, ID(2))};
    finish(&pool, &pool.view[0], names, false);
    CHECK(used_bytes(&pool) > 40000);
    wp_recover(&pool.view[0], A, 1, -9);
    test_pool_sit(&pool, A);
    CHECK_EQ(used_bytes(&pool), 0);
    test_pool_end(&pool);
}

// The home is a worker that dies between two steps of taking them: the next one there ends the rest.
static void a_home_that_dies_as_it_takes_them_leaves_none(void) {
    for (int step = 0; step <= 3; step++) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 8, 4, false);
        struct wp_view *home = &pool.view[B];
        uint64_t names[2] = {make(&pool.view[A], 5000, ID(1)), make(&pool.view[A], 40000, ID(2))};
        struct wp_slot *slot = finish(&pool, home, names, true);
        uint32_t lease = WP_NO_LEASE;
        if (step >= 1) lease = wp_arena_lease(&home->arena, names[0], WP_LEASE_OWN);
        if (step >= 2) wp_home_inherit(home, slot, names[0]);
        if (step >= 3) wp_home_drop_names(home, slot);
        CHECK((step >= 1) == (lease != WP_NO_LEASE));
        wp_recover(&pool.view[0], B, 1, -9);
        home = test_pool_sit(&pool, B);
        CHECK(wp_home_has_completions(home));
        harvest_parcel(home, slot);
        CHECK_EQ(used_bytes(&pool), 0);
        test_pool_end(&pool);
    }
}

static void a_borrower_keeps_a_block_that_its_owner_ended(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    struct wp_arena_view *parent = &pool.view[0].arena, *borrower = &pool.view[B].arena;
    for (uint64_t bytes = 1000; bytes <= 40000; bytes += 39000) {
        uint32_t lease, late;
        uint64_t block = make(&pool.view[0], bytes, ID(77));
        CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, ID(78), &lease), WP_BORROW_GONE);
        CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, ID(77), &lease), WP_BORROW_OK);
        CHECK_EQ(wp_arena_free(parent, block), WP_FREE_DOOMED);
        // Held by the lease, but nobody else can borrow it any more.
        CHECK(used_bytes(&pool) > 0);
        CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, ID(77), &late), WP_BORROW_GONE);
        wp_arena_unlease(borrower, lease);
        CHECK_EQ(used_bytes(&pool), 0);
        CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, ID(77), &late), WP_BORROW_GONE);
        CHECK_EQ(wp_lease_count(&borrower->leases, B), 0);
    }
    test_pool_end(&pool);
}

// Whatever ended the block's life, a reference that comes late finds nobody there, though the
// next owner of the memory has not written to it yet.
static void late(struct test_pool *pool, uint32_t seat, uint64_t block, uint64_t bytes, uint64_t id) {
    struct wp_arena_view *borrower = &pool->view[B].arena;
    uint64_t got[400], count = 0;
    uint32_t lease;
    bool again = false;
    do {
        CHECK_EQ(wp_arena_alloc(&pool->view[seat].arena, bytes, &got[count]), WP_ALLOC_OK);
        again |= got[count] == block;
    } while (!again && ++count < 400);
    CHECK(again);
    CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, id, &lease), WP_BORROW_GONE);
    for (uint64_t i = 0; i <= count; i++) wp_arena_free(&pool->view[seat].arena, got[i]);
}
static void a_reference_that_comes_late_finds_nobody(void) {
    for (uint64_t bytes = 1000; bytes <= 40000; bytes += 39000) {
        struct test_pool pool;
        test_pool_make(&pool, 3, 8, 4, false);
        uint64_t block = make(&pool.view[A], bytes, ID(7));
        wp_arena_free(&pool.view[A].arena, block); // its owner
        late(&pool, A, block, bytes, ID(7));
        block = make(&pool.view[A], bytes, ID(8));
        wp_arena_free(&pool.view[0].arena, block); // who inherited it
        wp_arena_sweep(&pool.view[A].arena, 1, UINT32_MAX, true);
        late(&pool, A, block, bytes, ID(8));
        block = make(&pool.view[A], bytes, ID(9));
        wp_recover(&pool.view[0], A, 1, -9); // recovery, in the dead seat's span
        test_pool_sit(&pool, A);
        late(&pool, A, block, bytes, ID(9));
        block = make(&pool.view[0], bytes, ID(10));
        CHECK(wp_arena_lease(&pool.view[A].arena, block, WP_LEASE_OWN) != WP_NO_LEASE);
        wp_recover(&pool.view[0], A, 1, -9); // and in another's, which the dead seat had inherited
        test_pool_sit(&pool, A);
        wp_arena_sweep(&pool.view[0].arena, 1, UINT32_MAX, true);
        late(&pool, 0, block, bytes, ID(10));
        CHECK_EQ(used_bytes(&pool), 0);
        test_pool_end(&pool);
    }
}

static void a_borrower_waits_for_the_end_of_a_recovery(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    struct wp_arena_view *borrower = &pool.view[B].arena;
    uint64_t block = make(&pool.view[A], 1000, ID(77));
    uint32_t lease;
    wp_lease_open(&pool.view[0].arena.leases);
    CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, ID(77), &lease), WP_BORROW_RECOVERING);
    wp_lease_close(&pool.view[0].arena.leases, A);
    CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, ID(77), &lease), WP_BORROW_OK);
    wp_recover(&pool.view[0], A, 1, -9);
    test_pool_sit(&pool, A);
    CHECK(used_bytes(&pool) > 0); // lent
    wp_arena_unlease(borrower, lease);
    CHECK_EQ(used_bytes(&pool), 0);
    test_pool_end(&pool);
}

static void a_reference_into_nothing_leaves_no_mark(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    struct wp_arena_view *borrower = &pool.view[B].arena;
    uint32_t lease;
    for (uint64_t block = 0; block < pool.memory_bytes + 65536; block += 64)
        CHECK_EQ(wp_block_borrow(&borrower->spans, &borrower->leases, block, 0, &lease), WP_BORROW_GONE);
    CHECK_EQ(used_bytes(&pool), 0);
    CHECK_EQ(wp_lease_count(&borrower->leases, B), 0);
    test_pool_end(&pool);
}

static void garbage_in_a_parcel_is_not_followed(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    wp_atomic64 *names;
    uint64_t none[2] = {0, 0}, offset = make_parcel(&pool.view[A], none);
    struct wp_parcel *parcel = (struct wp_parcel *)(void *)(pool.memory + offset);
    CHECK_EQ(wp_parcel_names(&pool.view[0].arena.spans, offset, &names), 2);
    parcel->names = UINT32_MAX;
    CHECK_EQ(wp_parcel_names(&pool.view[0].arena.spans, offset, &names), 0);
    parcel->names = 2;
    wp_store_relaxed(&parcel->id, WP_SHARED_TAG);
    CHECK_EQ(wp_parcel_names(&pool.view[0].arena.spans, offset, &names), 0);
    CHECK_EQ(wp_parcel_names(&pool.view[0].arena.spans, offset + 64, &names), 0);
    CHECK_EQ(wp_parcel_names(&pool.view[0].arena.spans, UINT64_MAX, &names), 0);
    test_pool_end(&pool);
}

// An owner that makes and ends blocks, and borrowers that were sent their references.
struct race {
    struct test_pool *pool;
    wp_atomic64 block, id, stop;
    wp_atomic32 borrowed;
};

static void *borrow_all(void *argument) {
    struct race *race = argument;
    struct wp_arena_view *view = &race->pool->view[B].arena;
    while (!wp_load_acquire(&race->stop)) {
        uint64_t id = wp_load_acquire(&race->id), block = wp_load_acquire(&race->block);
        uint32_t lease;
        if (wp_block_borrow(&view->spans, &view->leases, block, id, &lease) != WP_BORROW_OK) continue;
        // The whole block is that of the identity for as long as it is lent.
        wp_atomic64 *word = wp_block_identity(&view->spans, block) + 1;
        for (int i = 0; i < 50; i++) CHECK_EQ(wp_load_relaxed(word), id);
        wp_store_relaxed(&race->borrowed, wp_load_relaxed(&race->borrowed) + 1);
        wp_arena_unlease(view, lease);
    }
    return NULL;
}

static void stampede(void) {
    struct test_pool pool;
    test_pool_make(&pool, 3, 8, 4, false);
    struct race race = {.pool = &pool};
    struct wp_arena_view *owner = &pool.view[0].arena;
    pthread_t thread;
    CHECK_EQ(pthread_create(&thread, NULL, borrow_all, &race), 0);
    uint64_t rounds = (uint64_t)wp_test_rounds(5000);
    for (uint64_t i = 1; i <= rounds || wp_load_relaxed(&race.borrowed) == 0; i++) {
        uint64_t block, id = ID(i);
        CHECK_EQ(wp_arena_alloc(owner, i % 3 ? 1000 : 20000, &block), WP_ALLOC_OK);
        wp_atomic64 *word = wp_block_identity(&owner->spans, block);
        wp_store_relaxed(word + 1, id);
        wp_store_release(word, id);
        wp_store_release(&race.block, block);
        wp_store_release(&race.id, id);
        for (uint64_t wait = 0; wait < i % 64; wait++) wp_os_yield();
        wp_arena_free(owner, block);
        if (i % 16 == 0) wp_arena_sweep(owner, 1, UINT32_MAX, false);
    }
    wp_store_release(&race.stop, 1);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    CHECK_EQ(used_bytes(&pool), 0);
    test_pool_end(&pool);
}

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(what_a_done_slot_names_outlives_its_maker),
        WP_TEST(what_a_running_slot_names_goes_with_its_maker),
        WP_TEST(a_home_that_dies_as_it_takes_them_leaves_none),
        WP_TEST(a_borrower_keeps_a_block_that_its_owner_ended),
        WP_TEST(a_reference_that_comes_late_finds_nobody),
        WP_TEST(a_borrower_waits_for_the_end_of_a_recovery),
        WP_TEST(a_reference_into_nothing_leaves_no_mark),
        WP_TEST(garbage_in_a_parcel_is_not_followed),
        WP_TEST(stampede),
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
