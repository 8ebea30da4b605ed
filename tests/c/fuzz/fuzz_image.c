// fuzz_image.c — recovery, search and harvest over images of a segment that something
// has scribbled on.
//
//   life       seats submit, claim, run, lend, park … and stop anywhere: a valid image
//   scribble   words, bits and bytes are written over, anywhere but for the head at times
//   go on      the parent recovers a dead seat, survivors search and run, homes harvest,
//              a new process sits down; then another seat dies
//
// Laws: every call ends; no byte outside the segment is touched (AddressSanitizer: both
// parts lie in heap blocks of their exact sizes); what recovery promises of the dead seat
// holds, whatever the image was.
//
// Usage: fuzz_image [--seed N] [--images N] [--seconds N]; a failure prints its seed.
// With -DFUZZ_LIBFUZZER: the entry point of libFuzzer instead, see run.sh.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_pool.h"
#include "wp_usage.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PARENT, DEAD, SURVIVOR, OTHER, SEATS };
static const struct wp_shape shape = {SEATS, 70, 10, 12 * WP_SPAN_BYTES};

// ---- where the choices come from: a seed, or libFuzzer's bytes

struct source {
    const uint8_t *data; // NULL: random
    size_t size;
    uint64_t random;
};
static uint64_t draw(struct source *s) {
    if (s->data != NULL) {
        uint64_t value = 0;
        size_t n = s->size < 4 ? s->size : 4;
        memcpy(&value, s->data, n);
        s->data += n, s->size -= n;
        return value * UINT64_C(0x9e3779b97f4a7c15) >> (n == 0 ? 0 : 16);
    }
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return s->random * UINT64_C(0x2545f4914f6cdd1d) >> 8;
}
static uint64_t below(struct source *s, uint64_t n) { return draw(s) % n; }

// ---- saying what failed

static const char *doing = "";

#ifdef FUZZ_LIBFUZZER
static void watch(unsigned seconds) { (void)seconds; } // libFuzzer has a clock of its own
#else
static void watch(unsigned seconds) { alarm(seconds); }
static uint64_t seed_now;

static void say_seed(void) {
    char text[160];
    int n = snprintf(text, sizeof text, "fuzz: seed %llu, while: %s\n", (unsigned long long)seed_now, doing);
    if (write(2, text, (size_t)n) < 0) return;
}
static void on_signal(int number) {
    say_seed();
    if (number == SIGALRM) {
        static const char text[] = "fuzz: it does not end\n";
        if (write(2, text, sizeof text - 1) < 0) _exit(3);
    }
    signal(number, SIG_DFL);
    raise(number == SIGALRM ? SIGABRT : number);
}
#endif
#define LAW(cond, ...)                                                                                                 \
    do {                                                                                                               \
        if (!(cond)) {                                                                                                 \
            fprintf(stderr, "fuzz: " __VA_ARGS__);                                                                     \
            fprintf(stderr, "\n");                                                                                     \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#if defined(__SANITIZE_ADDRESS__) || defined(FUZZ_LIBFUZZER)
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "abort_on_error=1:detect_leaks=0"; }
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void) { return "abort_on_error=1:halt_on_error=1:print_stacktrace=1"; }
#endif

// ---- an image

struct image {
    uint8_t *control, *memory;
    uint64_t bytes, memory_bytes;
    struct wp_view view[SEATS];
};

static void *exact(uint64_t bytes) {
    void *at = NULL;
    if (posix_memalign(&at, WP_CACHE_LINE, bytes) != 0) abort();
    memset(at, 0, bytes);
    return at;
}

static bool sit(struct image *m, uint32_t seat) {
    if (m->view[seat].places != NULL) wp_view_close(&m->view[seat]);
    return wp_view_open(&m->view[seat], m->control, m->bytes, m->memory, m->memory_bytes, -1, seat) == WP_SEGMENT_OK;
}

static void image_make(struct image *m) {
    memset(m, 0, sizeof *m);
    m->bytes = wp_view_bytes(&shape);
    m->memory_bytes = wp_arena_memory_bytes(shape.arena_bytes);
    m->control = exact(m->bytes);
    m->memory = exact(m->memory_bytes);
    wp_view_format(m->control, &shape, 2, true); // nobody sleeps: a wake is no system call
    for (uint32_t s = 0; s < SEATS; s++) {
        LAW(sit(m, s), "a fresh segment is refused");
        wp_home_begin(&m->view[s]);
        if (s == PARENT) continue;
        wp_seat_next_incarnation(&m->view[PARENT], s);
        wp_seat_take(&m->view[PARENT], s, 1000 + s);
    }
}
static void image_free(struct image *m) {
    for (uint32_t s = 0; s < SEATS; s++)
        if (m->view[s].places != NULL) wp_view_close(&m->view[s]);
    free(m->control);
    free(m->memory);
}

// ---- life

static void submit(struct wp_view *v, struct source *s) {
    wp_handle handle = wp_home_reserve(v);
    if (handle == WP_NO_HANDLE) return;
    struct wp_slot *slot = &v->slots[wp_handle_index(handle)];
    slot->attempt_limit = (uint8_t)(1 + below(s, 3));
    slot->argument.bytes = below(s, WP_INLINE_PAYLOAD_BYTES);
    uint64_t offset = 0, size = below(s, 30000);
    if (below(s, 3) == 0 && wp_arena_alloc(&v->arena, size, &offset) == WP_ALLOC_OK)
        wp_payload_set(&slot->argument, offset, size);
    if (below(s, 3) == 0) {
        enum wp_strength strength = (enum wp_strength)(1 + below(s, 3));
        wp_store_relaxed(&slot->target,
                         wp_target(1 + (uint32_t)below(s, SEATS - 1), strength, (int8_t)(below(s, 5) - 2)));
    }
    if (below(s, 16) == 0) return; // stays RESERVED
    wp_home_submit(v, handle);
}

// Read a payload as a decoder would: only where the arena says that there is one.
static uint8_t touched;
static void touch(struct wp_view *v, struct wp_slot *slot, struct wp_payload *where) {
    uint64_t block = wp_payload_block(where), bytes = where->bytes;
    const uint8_t *at = block != 0                         ? wp_arena_at(&v->arena, block, bytes)
                        : bytes <= WP_INLINE_PAYLOAD_BYTES ? slot->bytes
                                                           : NULL;
    if (at == NULL || bytes == 0) return;
    touched ^= at[0];
    touched ^= at[bytes - 1];
}

static void run(struct wp_view *v, struct source *s, uint32_t index, bool may_stop) {
    LAW(index < v->slot_count, "a claimed slot is out of bounds: %u", index);
    struct wp_slot *slot = &v->slots[index];
    touch(v, slot, &slot->argument);
    if (may_stop && below(s, 8) == 0) return; // stays CLAIMED
    wp_enter(v, index);
    if (may_stop && below(s, 8) == 0) return; // stays RUNNING
    uint64_t offset = 0, size = below(s, 30000);
    wp_payload_set(&slot->result, 0, 16);
    if (below(s, 3) == 0 && wp_arena_alloc(&v->arena, size, &offset) == WP_ALLOC_OK)
        wp_payload_set(&slot->result, offset, size);
    wp_leave(v, index, WP_OUTCOME_OK);
}

static void harvest(struct wp_view *v, unsigned most) {
    struct wp_place *self = wp_view_self(v);
    uint32_t first = 0;
    while (most-- > 0) {
        uint64_t bits = wp_home_take(v, &first), state;
        // Nothing more to take, yet told that there is: the home would look for ever.
        LAW(bits != 0 || wp_taskset_is_empty(&self->completions), "seat %u: its completions are never empty", v->self);
        if (bits == 0) return;
        for (; bits != 0; bits &= bits - 1) {
            uint32_t index = first + (uint32_t)__builtin_ctzll(bits);
            LAW(index >= self->first_slot && index < self->first_slot + self->slots,
                "seat %u is told of slot %u, which is not its own", v->self, index);
            if (!wp_slot_is_done(&v->slots[index], &state)) continue;
            touch(v, &v->slots[index], &v->slots[index].result);
            if (wp_home_free_slots(v) < self->slots)
                wp_home_release(v, wp_handle_of(index, wp_state_generation(state)));
        }
    }
}

static void live(struct image *m, struct source *s, unsigned steps, bool may_stop) {
    uint32_t index;
    uint64_t offset = 0;
    while (steps-- > 0) {
        uint32_t seat = (uint32_t)below(s, SEATS);
        struct wp_view *v = &m->view[seat];
        if (v->places == NULL) continue;
        switch (below(s, 10)) {
        case 0:
        case 1:
        case 2:
            doing = "submit";
            submit(v, s);
            break;
        case 3:
        case 4:
        case 5:
            doing = "search and run";
            if (seat != PARENT && wp_search_round(v, &index) == WP_FIND_OK) run(v, s, index, may_stop);
            break;
        case 6:
            doing = "harvest";
            harvest(v, 3);
            break;
        case 7:
            doing = "alloc and free";
            if (wp_arena_alloc(&v->arena, below(s, 60000), &offset) != WP_ALLOC_OK) break;
            if (below(s, 2)) wp_arena_lease(&v->arena, offset, WP_LEASE_BORROW);
            if (below(s, 2)) wp_arena_free(&v->arena, offset);
            break;
        case 8:
            doing = "park";
            if (seat == PARENT) break;
            wp_search_begin(v);
            if (wp_park_arm(v, WP_PARKER_FUTEX) && below(s, 2)) wp_park_disarm(v);
            wp_search_end(v);
            break;
        default:
            doing = "sweep";
            wp_arena_sweep(&v->arena, 1, UINT32_MAX, below(s, 2) != 0);
            break;
        }
    }
}

// ---- scribbling

static uint64_t nonsense(struct source *s, uint64_t old) {
    switch (below(s, 10)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return UINT64_C(1) << 63;
    case 3:
        return INT64_MAX - below(s, 300);
    case 4:
        return below(s, 300);
    case 5:
        return old ^ UINT64_C(1) << below(s, 64);
    case 6:
        return old + below(s, 9) - 4;
    case 7:
        return below(s, 16) | below(s, 6) << 4 | below(s, 6) << 12 | below(s, 256) << 24 | below(s, 4) << 32;
    case 8:
        return draw(s) << 32 ^ below(s, 300) << 32 ^ below(s, 300);
    default:
        return draw(s) << 40 ^ draw(s);
    }
}

// Where to: a structure, so that small ones are hit as often as large ones.
static uint64_t aim(struct image *m, struct source *s) {
    struct wp_view *v = &m->view[PARENT];
    struct wp_place *place = &v->places[below(s, SEATS)];
    uint8_t *at = m->control;
    uint64_t size = sizeof(struct wp_segment);
    switch (below(s, 12)) {
    case 0:
        at = (uint8_t *)v->idle, size = sizeof *v->idle;
        break;
    case 1:
        at = (uint8_t *)v->orphans.summary, size = wp_taskset_bytes(v->slot_count);
        break;
    case 2:
        at = (uint8_t *)place->seat, size = sizeof *place->seat;
        break;
    case 3:
        at = (uint8_t *)place->deque.ends, size = sizeof *place->deque.ends;
        break;
    case 4:
        at = (uint8_t *)place->deque.entries, size = (uint64_t)place->deque.capacity * 8;
        break;
    case 5:
        at = (uint8_t *)place->mailbox[below(s, WP_MAILBOXES)].summary, size = wp_taskset_bytes(v->slot_count);
        break;
    case 6:
        at = (uint8_t *)place->completions.summary, size = wp_taskset_bytes(place->slots);
        break;
    case 7:
        at = (uint8_t *)v->arena.spans.word, size = v->arena.spans.count * UINT64_C(8);
        break;
    case 8:
        at = (uint8_t *)v->arena_head, size = wp_arena_bytes(shape.arena_bytes, SEATS);
        break;
    case 9:
        at = (uint8_t *)&v->slots[below(s, v->slot_count)], size = 96;
        break;
    case 10:
        at = (uint8_t *)v->slots, size = v->slot_count * sizeof *v->slots;
        break;
    default:
        size = m->bytes;
        break;
    }
    return (uint64_t)(at - m->control) + below(s, size / 8) * 8;
}

// Returns: whether the head was spared. It is read once, when a process sits down.
static bool scribble(struct image *m, struct source *s, unsigned times) {
    bool spared = true;
    while (times-- > 0) {
        uint64_t at = aim(m, s), word;
        if (at + 8 > m->bytes) continue;
        uint64_t arena_at = (uint64_t)((uint8_t *)m->view[PARENT].arena_head - m->control);
        if (at < sizeof(struct wp_segment) || (at >= arena_at && at < arena_at + sizeof(struct wp_arena)))
            spared = false;
        if (below(s, 8) == 0) {
            uint64_t run = below(s, 200);
            for (uint64_t i = at; i < at + run && i < m->bytes; i++) m->control[i] = (uint8_t)draw(s);
            if (at < sizeof(struct wp_segment) || (at < arena_at + sizeof(struct wp_arena) && at + run > arena_at))
                spared = false;
        } else {
            memcpy(&word, m->control + at, 8);
            word = nonsense(s, word);
            memcpy(m->control + at, &word, 8);
        }
    }
    return spared;
}

// ---- what recovery promises

static bool has(const struct wp_taskset *set, uint32_t index) {
    uint32_t leaf = index / 64;
    return wp_load_relaxed(&set->leaves[leaf]) >> index % 64 & 1 &&
           wp_load_relaxed(&set->summary[leaf / 64]) >> leaf % 64 & 1;
}
static bool is_hinted(struct wp_view *v, uint32_t index) {
    if (has(&v->orphans, index)) return true;
    for (uint32_t s = 0; s < v->seats; s++)
        for (uint32_t b = 0; b < WP_MAILBOXES; b++)
            if (has(&v->places[s].mailbox[b], index)) return true;
    for (uint32_t level = 0; level < WP_LEVELS; level++)
        if (has(&v->level[level], index)) return true;
    return false;
}

static void check_recovered(struct wp_view *v, uint32_t dead) {
    doing = "what recovery promises";
    struct wp_place *place = &v->places[dead];
    for (uint32_t i = 0; i < v->slot_count; i++) {
        uint64_t state = wp_load_relaxed(&v->slots[i].state);
        enum wp_phase phase = wp_state_phase(state);
        uint32_t home = wp_view_home(v, i);
        LAW((phase != WP_PHASE_CLAIMED && phase != WP_PHASE_RUNNING) || wp_state_owner(state) != dead,
            "slot %u is in the dead seat's hands", i);
        LAW(phase != WP_PHASE_RESERVED || home != dead, "slot %u stays reserved", i);
        LAW(phase != WP_PHASE_READY || is_hinted(v, i), "slot %u is READY and has no hint", i);
        LAW(phase != WP_PHASE_DONE || has(&v->places[home].completions, i - v->places[home].first_slot),
            "slot %u is DONE and its home is not told", i);
    }
    LAW(wp_deque_size(&place->deque) == 0, "the dead seat's deque is not empty");
    LAW(!wp_idle_has(v->idle->idle, dead) && !wp_idle_has(v->idle->searching, dead) &&
            !wp_idle_has(v->idle->watcher, dead),
        "a bit of the dead seat is set");
    LAW(wp_lease_count(&v->arena.leases, dead) == 0, "a lease of the dead seat is held");
    for (uint32_t s = 0; s < v->seats; s++)
        LAW(wp_load_relaxed(&v->places[s].seat->parker) & WP_PARKER_TOKEN, "seat %u was not woken", s);
}

static void recover(struct image *m, uint32_t dead) {
    struct wp_view *v = &m->view[PARENT];
    doing = "recovery";
    wp_recover(v, dead, 1000, -9);
    check_recovered(v, dead);
}

static void one_image(struct source *s) {
    struct image m;
    image_make(&m);
    doing = "a valid life";
    live(&m, s, (unsigned)below(s, 200), true);
    bool spared = scribble(&m, s, 1 + (unsigned)below(s, below(s, 4) ? 12 : 120));
    watch(20);
    if (spared && below(s, 4) != 0) {
        doing = "sitting down";
        LAW(sit(&m, SURVIVOR), "a segment with its head intact is refused");
        wp_home_begin(&m.view[SURVIVOR]);
    } else if (!spared) {
        // Whoever sits down now is refused, or works within bounds.
        struct wp_view late = {0};
        doing = "sitting down at a scribbled head";
        if (wp_view_open(&late, m.control, m.bytes, m.memory, m.memory_bytes, -1, SURVIVOR) == WP_SEGMENT_OK) {
            uint32_t index;
            wp_home_begin(&late);
            if (wp_search_round(&late, &index) == WP_FIND_OK) LAW(index < late.slot_count, "out of bounds");
            wp_view_close(&late);
        }
    }
    recover(&m, DEAD);
    live(&m, s, 100, false);
    if (spared) {
        doing = "the next incarnation";
        wp_seat_next_incarnation(&m.view[PARENT], DEAD);
        LAW(sit(&m, DEAD), "the next incarnation is refused");
        wp_home_begin(&m.view[DEAD]);
        wp_seat_take(&m.view[PARENT], DEAD, 2000);
        submit(&m.view[DEAD], s);
    }
    scribble(&m, s, (unsigned)below(s, 3));
    live(&m, s, 60, true);
    recover(&m, OTHER);
    live(&m, s, 60, false);
    doing = "a look at everything";
    struct wp_usage usage;
    uint32_t counts[WP_PHASE_DONE + 1];
    wp_usage_read(&m.view[PARENT].arena.spans, &m.view[PARENT].arena.leases, &usage, NULL);
    wp_count_phases(&m.view[PARENT], counts);
    watch(0);
    image_free(&m);
}

#ifdef FUZZ_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct source s = {data, size, 1};
    one_image(&s);
    return 0;
}

#else

static uint64_t option(int argc, char **argv, const char *name, uint64_t otherwise) {
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0) return strtoull(argv[i + 1], NULL, 10);
    return otherwise;
}

int main(int argc, char **argv) {
    uint64_t seed = option(argc, argv, "--seed", (uint64_t)wp_os_now_ns() % 1000000000);
    uint64_t images = option(argc, argv, "--images", UINT64_MAX), seconds = option(argc, argv, "--seconds", 20);
    int64_t end_ns = wp_os_now_ns() + (int64_t)seconds * WP_NS_PER_SECOND;
    uint64_t first = seed, done = 0;
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    signal(SIGBUS, on_signal);
    signal(SIGFPE, on_signal);
    signal(SIGALRM, on_signal);
    printf("fuzz: from seed %llu\n", (unsigned long long)first);
    fflush(stdout);
    for (; done < images && wp_os_now_ns() < end_ns; done++, seed++) {
        seed_now = seed;
        // splitmix64: neighbouring seeds have nothing in common.
        uint64_t x = (seed + 1) * UINT64_C(0x9e3779b97f4a7c15);
        x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        struct source s = {NULL, 0, (x ^ x >> 27) | 1};
        one_image(&s);
    }
    printf("fuzz: %llu images, all whole\n", (unsigned long long)done);
    return 0;
}

#endif
