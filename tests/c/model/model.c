// model.c — the engine of the explorer; model.h says what it does.
//
// Source: this project; after Norris and Demsky, "CDSChecker", OOPSLA 2013 (stores
// with histories, by execution), Kang et al., "A Promising Semantics", POPL 2017
// (views), Musuvathi and Qadeer, "Iterative Context Bounding", PLDI 2007 (preemptions,
// happens-before caching).
//
// SPDX-License-Identifier: BSD-3-Clause
#include "model.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

// A view is joined at every step: small is fast. Too small is said, never ignored.
#define ACTORS 8u
#define LOCATIONS 160u
#define HISTORY 250u // stores to one word, a byte in a view
#define STORES 8192u // stores of one execution
#define CHOICES 65536u
#define STEPS 20000u // of one execution; more is a livelock
#define SHARED_BYTES (640u * 1024u)
#define PRIVATE_BYTES (256u * 1024u)
#define STACK_BYTES (256u * 1024u)
#define CONSUMED 64u
#define NAMES 512u
#define UNUSED 16u
#define EVENTFDS 8u
#define MAX_STATES (UINT64_C(1) << 26) // 1 GiB for each of these, at most
#define NOBODY 0xffu

struct clock {
    uint16_t t[ACTORS]; // how much of each actor's past happens before
};
struct view {
    uint8_t at[LOCATIONS]; // the oldest store of each word that may still be seen
};
struct knowledge {
    struct clock clock;
    struct view view;
};
struct store {
    uint64_t value;
    struct clock when; // what happens before it, the storer's own step included
    struct knowledge message;
};
struct location {
    uint32_t offset;
    uint32_t count;
    uint32_t calls; // system calls on this word, in order
    uint16_t order[HISTORY + 1];
};

enum actor_state {
    ACTOR_DORMANT,
    ACTOR_READY,
    ACTOR_FUTEX,
    ACTOR_POLL,
    ACTOR_EVENTFD,
    ACTOR_MOURNER,
    ACTOR_OVER,
    ACTOR_DEAD
};

struct actor {
    const char *name;
    void (*run)(void *);
    void *arg;
    unsigned flags;
    enum actor_state state;
    struct knowledge now;      // what happened before, for this actor
    struct knowledge pending;  // seen by relaxed loads: known at the next fence
    struct knowledge released; // known at the last fence: what relaxed stores carry
    uint64_t hash;             // of its own steps: with the others' it is the state
    uint64_t share;
    const void *word; // what it sleeps on
    uint64_t expected;
    int64_t deadline_ns; // of its sleep; -1: none
    bool timed_out;
    unsigned word_bytes;
    int fd;
    uint8_t last_seen[LOCATIONS];
    uint16_t last_time[LOCATIONS];
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
};

struct consumed {
    uint16_t location;
    uint16_t time;
    uint8_t seen;
    uint8_t actor;
};

// For race detection: the last write and each actor's last read of a byte.
struct plain {
    uint32_t execution;
    uint16_t write_time;
    uint8_t writer;
    uint8_t reserved;
    uint16_t read_time[ACTORS];
};

struct node {
    uint8_t n;
    uint8_t chosen;
};

enum mode { MODE_SEARCH, MODE_RANDOM, MODE_REPLAY };
enum outcome { OUTCOME_END, OUTCOME_KNOWN, OUTCOME_RESTART, OUTCOME_VIOLATION };
enum kind { KIND_STEP, KIND_NEXT, KIND_LOAD, KIND_PROGRAM };

struct cached {
    uint64_t key;
    uint64_t budgets; // bit 8 * preemptions + stale: searched with so much left
};

static uint8_t shared[SHARED_BYTES] __attribute__((aligned(64)));
static uint8_t private_[PRIVATE_BYTES] __attribute__((aligned(64)));
static uint8_t shared_first[SHARED_BYTES], private_first[PRIVATE_BYTES];
static uint8_t stacks[ACTORS][STACK_BYTES] __attribute__((aligned(64)));
static uint16_t location_of[SHARED_BYTES / 4];                       // 1 + location, in this execution
static uint8_t readers[SHARED_BYTES / 4], writers[SHARED_BYTES / 4]; // actors, in all executions
static bool contended[SHARED_BYTES / 4];                             // read by one and written by another: a step
static bool racy[SHARED_BYTES];
static struct plain plain[SHARED_BYTES];

struct model_place model_place;

static struct engine {
    size_t shared_used, private_used, shared_base, private_base;
    struct actor actors[ACTORS];
    unsigned actor_count;
    struct location locations[LOCATIONS];
    unsigned location_count;
    struct store stores[STORES];
    unsigned store_count;
    struct view fences; // the global order of the seq_cst fences
    uint32_t fence_count;
    struct consumed consumed[CONSUMED];
    unsigned consumed_count;
    uint32_t eventfd[EVENTFDS], eventfd_calls[EVENTFDS];
    unsigned undelivered[ACTORS], undelivered_count;
    unsigned current;
    bool free_running; // the engine itself runs program code: no steps
    uint64_t total;    // hash of the state
    uint32_t execution;
    uint32_t steps;
    int64_t now_ns;
    unsigned preemptions_left, stale_left, deaths_left;

    enum mode mode;
    bool trace, is_long, strict_death;
    struct model_bounds bounds;
    struct node trail[CHOICES];
    unsigned depth, length, prefix;
    uint64_t random;
    struct cached *cache;
    uint64_t cache_size, states;

    enum outcome outcome;
    char message[512];
    jmp_buf checking;
    void *main_sp;
#if !defined(__x86_64__)
    ucontext_t main_context;
#endif
    struct {
        uint32_t offset, bytes;
        const char *name;
    } names[NAMES];
    unsigned name_count;
    struct {
        size_t from, to;
    } unused[UNUSED + 1]; // in order; what is between them is restored
    unsigned unused_count;
} E;

static _Noreturn void broken(const char *what) {
    fprintf(stderr, "model: %s\n", what);
    exit(3);
}

// ---- coroutines

static void actor_main(void);

#if defined(__x86_64__)
void model_switch(void **from, void *to);
__asm__(".text\n"
        ".globl model_switch\n"
        ".type model_switch,@function\n"
        "model_switch:\n"
        "  pushq %rbp\n  pushq %rbx\n  pushq %r12\n  pushq %r13\n  pushq %r14\n  pushq %r15\n"
        "  movq %rsp, (%rdi)\n"
        "  movq %rsi, %rsp\n"
        "  popq %r15\n  popq %r14\n  popq %r13\n  popq %r12\n  popq %rbx\n  popq %rbp\n"
        "  ret\n"
        ".size model_switch,.-model_switch\n");

static void prepare(unsigned a) {
    void **top = (void **)(void *)(stacks[a] + STACK_BYTES);
    *--top = NULL; // keeps the stack aligned at entry, and ends backtraces
    *--top = (void *)(uintptr_t)actor_main;
    for (int i = 0; i < 6; i++) *--top = NULL;
    E.actors[a].sp = top;
}
static void switch_actors(unsigned from, unsigned to) { model_switch(&E.actors[from].sp, E.actors[to].sp); }
static void switch_from_main(unsigned to) { model_switch(&E.main_sp, E.actors[to].sp); }
static void switch_to_main(unsigned from) { model_switch(&E.actors[from].sp, E.main_sp); }
#else
static void prepare(unsigned a) {
    ucontext_t *c = &E.actors[a].context;
    getcontext(c);
    c->uc_stack.ss_sp = stacks[a];
    c->uc_stack.ss_size = STACK_BYTES;
    c->uc_link = NULL;
    makecontext(c, actor_main, 0);
}
static void switch_actors(unsigned from, unsigned to) { swapcontext(&E.actors[from].context, &E.actors[to].context); }
static void switch_from_main(unsigned to) { swapcontext(&E.main_context, &E.actors[to].context); }
static void switch_to_main(unsigned from) { swapcontext(&E.actors[from].context, &E.main_context); }
#endif

static _Noreturn void leave(enum outcome outcome) {
    E.outcome = outcome;
    switch_to_main(E.current);
    broken("an abandoned execution went on");
}

_Noreturn void model_violated(const char *file, int line, const char *what) {
    const char *slash = strrchr(file, '/');
    snprintf(E.message, sizeof E.message, "%s:%d: %s", slash != NULL ? slash + 1 : file, line, what);
    if (!E.free_running) leave(OUTCOME_VIOLATION);
    E.outcome = OUTCOME_VIOLATION;
    longjmp(E.checking, 1);
}

static _Noreturn void violation(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(E.message, sizeof E.message, format, args);
    va_end(args);
    leave(OUTCOME_VIOLATION);
}

// ---- traces

static const char *describe(uint32_t offset) {
    static char text[2][96];
    static unsigned turn;
    char *to = text[turn++ & 1];
    for (unsigned i = E.name_count; i-- > 0;) // the last name given is the most precise
        if (offset >= E.names[i].offset && offset < E.names[i].offset + E.names[i].bytes) {
            uint32_t within = offset - E.names[i].offset;
            if (within == 0)
                snprintf(to, sizeof text[0], "%s", E.names[i].name);
            else
                snprintf(to, sizeof text[0], "%s+%u", E.names[i].name, within);
            return to;
        }
    snprintf(to, sizeof text[0], "shared+0x%x", offset);
    return to;
}

static void print_step(const struct model_place *place, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void print_step(const struct model_place *place, const char *format, ...) {
    const char *slash = place->file != NULL ? strrchr(place->file, '/') : NULL;
    fprintf(stderr, "  %-10s ", E.actors[E.current].name);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    if (place->file != NULL)
        fprintf(stderr, "   [%s, %s:%d]", place->function, slash != NULL ? slash + 1 : place->file, place->line);
    fputc('\n', stderr);
}

void model_note(const char *format, ...) {
    if (!E.trace || E.free_running) return;
    fprintf(stderr, "  %-10s -- ", E.actors[E.current].name);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

// A macro: its arguments are worked out for a trace alone.
#define trace(...)                                                                                                     \
    do {                                                                                                               \
        if (E.trace && !E.free_running) print_step(__VA_ARGS__);                                                       \
    } while (0)

static const char *order_name(memory_order order) {
    static const char *const names[] = {"relaxed", "consume", "acquire", "release", "acq_rel", "seq_cst"};
    return names[order];
}

// ---- the state, and what was searched

static uint64_t scramble(uint64_t x) { // MurmurHash3's finalizer
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    return x ^ x >> 33;
}

// Note a step of an actor. What it did and which store it met is all that it can know.
static void mix(unsigned a, uint64_t what, uint64_t which) {
    struct actor *actor = &E.actors[a];
    actor->hash = scramble(actor->hash * UINT64_C(0x9e3779b97f4a7c15) + (what << 56 ^ which));
    E.total -= actor->share;
    actor->share = scramble(actor->hash + (a + 1) * UINT64_C(0xd1b54a32d192ed03));
    E.total += actor->share;
}

static struct cached *cache_find(struct cached *cache, uint64_t size, uint64_t key) {
    uint64_t i = key & (size - 1);
    while (cache[i].key != 0 && cache[i].key != key) i = (i + 1) & (size - 1);
    return &cache[i];
}

static void cache_clear(void) {
    free(E.cache);
    E.cache_size = 1u << 14;
    E.cache = calloc(E.cache_size, sizeof *E.cache);
    E.states = 0;
    if (E.cache == NULL) broken("no memory");
}

// Was this state searched with as much left? Then there is nothing new behind it.
static void known(unsigned who) {
    if (E.mode != MODE_SEARCH || E.depth < E.prefix) return;
    uint64_t key = scramble(E.total ^ (who + 1) * UINT64_C(0xa24baed4963ee407));
    if (key == 0) key = 1;
    unsigned p = E.preemptions_left, s = E.stale_left < 7 ? E.stale_left : 7;
    uint64_t above = 0;
    for (unsigned i = p; i < 8; i++) above |= (UINT64_C(0xff) << s & UINT64_C(0xff)) << 8 * i;
    struct cached *found = cache_find(E.cache, E.cache_size, key);
    if (found->budgets & above) leave(OUTCOME_KNOWN);
    if (found->key == 0) {
        found->key = key;
        E.states++;
    }
    found->budgets |= UINT64_C(1) << (8 * p + s);
    if (E.states * 2 > E.cache_size && E.cache_size < MAX_STATES * 2) {
        struct cached *more = calloc(E.cache_size * 2, sizeof *more);
        if (more == NULL) broken("no memory");
        for (uint64_t i = 0; i < E.cache_size; i++)
            if (E.cache[i].key != 0) *cache_find(more, E.cache_size * 2, E.cache[i].key) = E.cache[i];
        free(E.cache);
        E.cache = more;
        E.cache_size *= 2;
    } else if (E.states + 1 >= E.cache_size) {
        broken("too many states: lower the bounds");
    }
}

static uint32_t roll(void) { // xorshift64*, Vigna 2016
    E.random ^= E.random >> 12;
    E.random ^= E.random << 25;
    E.random ^= E.random >> 27;
    return (uint32_t)(E.random * UINT64_C(2685821657736338717) >> 32);
}

static unsigned choose(unsigned n, enum kind kind, bool mortal) {
    unsigned c = 0;
    if (E.depth >= CHOICES) broken("too many choices in one execution");
    if (E.depth < E.prefix) {
        c = E.trail[E.depth].chosen;
        if (c >= n || (E.mode == MODE_SEARCH && E.trail[E.depth].n != n)) broken("the program is not deterministic");
    } else if (E.mode == MODE_RANDOM) {
        // Mostly go on, mostly see the newest, die seldom: else no execution gets far.
        uint32_t r = roll();
        if (kind == KIND_STEP) {
            unsigned first = mortal ? 2 : 1;
            if (mortal && (r & 127) == 0)
                c = 1;
            else if (n > first && (r >> 8 & 7) == 0)
                c = first + (r >> 16) % (n - first);
        } else if (kind == KIND_LOAD) {
            c = (r & 3) == 0 ? (r >> 8) % n : 0;
        } else {
            c = (r >> 8) % n;
        }
    }
    E.trail[E.depth++] = (struct node){(uint8_t)n, (uint8_t)c};
    if (E.length < E.depth) E.length = E.depth;
    return c;
}

// ---- who goes on

static uint64_t newest_at(const void *word, unsigned bytes) {
    uint32_t narrow;
    uint64_t wide;
    if (bytes == 4) {
        memcpy(&narrow, word, 4);
        return narrow;
    }
    memcpy(&wide, word, 8);
    return wide;
}

static bool can_go_on(const struct actor *a) {
    switch (a->state) {
    case ACTOR_READY:
        return true;
    case ACTOR_POLL:
        return newest_at(a->word, a->word_bytes) != a->expected;
    case ACTOR_EVENTFD:
        return E.eventfd[a->fd] != 0;
    case ACTOR_MOURNER:
        return E.undelivered_count != 0;
    case ACTOR_DORMANT:
    case ACTOR_FUTEX:
    case ACTOR_OVER:
    case ACTOR_DEAD:
    default:
        return false;
    }
}

static void go_to(unsigned to) {
    unsigned from = E.current;
    E.current = to;
    if (from != to) switch_actors(from, to);
}

// The current actor cannot go on: somebody else does.
static void next(void) {
    unsigned able[ACTORS], n = 0;
    for (unsigned a = 0; a < E.actor_count; a++)
        if (can_go_on(&E.actors[a])) able[n++] = a;
    if (n == 0) {
        // Time passes when everybody sleeps, up to the first deadline.
        for (unsigned a = 0; a < E.actor_count; a++) {
            const struct actor *sleeper = &E.actors[a];
            if (sleeper->state != ACTOR_FUTEX || sleeper->deadline_ns < 0) continue;
            if (n == 0 || sleeper->deadline_ns < E.actors[able[0]].deadline_ns) able[0] = a;
            n = 1;
        }
        if (n == 0) leave(OUTCOME_END);
        struct actor *first = &E.actors[able[0]];
        if (first->deadline_ns > E.now_ns) E.now_ns = first->deadline_ns;
        first->state = ACTOR_READY;
        first->timed_out = true;
    }
    unsigned c = 0;
    if (n > 1) {
        known(NOBODY);
        c = choose(n, KIND_NEXT, false);
    }
    go_to(able[c]);
}

static void die(void) {
    struct actor *self = &E.actors[E.current];
    struct model_place nowhere = {0};
    trace(&nowhere, "dies");
    E.deaths_left--;
    self->state = ACTOR_DEAD;
    mix(E.current, 1, 0);
    E.undelivered[E.undelivered_count++] = E.current;
    next();
    broken("a dead actor went on");
}

// Before every step that others could notice.
static void point(void) {
    if (++E.steps > STEPS) violation("no end after %u steps: a livelock", STEPS);
    struct actor *self = &E.actors[E.current];
    unsigned other[ACTORS], n = 1;
    bool mortal = (self->flags & MODEL_MORTAL) && E.deaths_left > 0;
    if (mortal) n++;
    unsigned first = n;
    if (E.preemptions_left > 0)
        for (unsigned a = 0; a < E.actor_count; a++)
            if (a != E.current && can_go_on(&E.actors[a])) other[n++ - first] = a;
    // Where there is no choice, one state in eight is looked up: paths that have met stop early.
    if (n > 1 || (E.total & 7) == 0) known(E.current);
    if (n == 1) return;
    unsigned c = choose(n, KIND_STEP, mortal);
    if (c == 0) return;
    if (mortal && c == 1) die();
    E.preemptions_left--;
    go_to(other[c - first]);
}

static void actor_main(void) {
    struct actor *self = &E.actors[E.current];
    self->run(self->arg);
    // Dying here is dying after the last step; so a word that only the mourner reads is met
    // at least once, and becomes a step with a death before it.
    if ((self->flags & MODEL_MORTAL) && E.deaths_left > 0) {
        known(E.current);
        if (choose(2, KIND_STEP, true) == 1) die();
    }
    self->state = ACTOR_OVER;
    struct model_place nowhere = {0};
    trace(&nowhere, "ends");
    next();
    broken("an actor went on after its end");
}

// ---- words

static void join(struct knowledge *to, const struct knowledge *from) {
    for (unsigned i = 0; i < ACTORS; i++)
        to->clock.t[i] = to->clock.t[i] > from->clock.t[i] ? to->clock.t[i] : from->clock.t[i];
    for (unsigned i = 0; i < LOCATIONS; i++)
        to->view.at[i] = to->view.at[i] > from->view.at[i] ? to->view.at[i] : from->view.at[i];
}

static uint32_t offset_of(const void *p) {
    uintptr_t offset = (uintptr_t)p - (uintptr_t)shared;
    if (offset >= E.shared_used) broken("an atomic word outside model_shared()");
    for (unsigned i = 0; i < E.unused_count; i++)
        if (offset >= E.unused[i].from && offset < E.unused[i].to && !E.free_running)
            broken("memory said to be unused is used");
    return (uint32_t)offset;
}

// The word's history, or NULL when no two actors meet there: then it is no step. That
// is learned: a meeting that was not expected begins the search again.
static struct location *meet(const void *p, bool write, unsigned bytes) {
    if ((uintptr_t)p - (uintptr_t)private_ < PRIVATE_BYTES) return NULL; // between threads: not explored
    uint32_t offset = offset_of(p), i = offset / 4;
    if (!contended[i]) {
        *(write ? &writers[i] : &readers[i]) |= (uint8_t)(1u << E.current);
        unsigned both = readers[i] | writers[i];
        if (writers[i] == 0 || (both & (both - 1)) == 0) return NULL;
        contended[i] = true;
        leave(OUTCOME_RESTART);
    }
    if (location_of[i] == 0) {
        if (E.location_count == LOCATIONS) broken("too many words: raise LOCATIONS");
        struct location *l = &E.locations[E.location_count];
        *l = (struct location){.offset = offset};
        struct store *s = &E.stores[E.store_count];
        memset(s, 0, sizeof *s);
        s->value = newest_at(p, bytes);
        l->order[l->count++] = (uint16_t)E.store_count++;
        location_of[i] = (uint16_t)++E.location_count;
    }
    return &E.locations[location_of[i] - 1];
}

static struct store *store_at(const struct location *l, unsigned i) { return &E.stores[l->order[i]]; }
static unsigned index_of(const struct location *l) { return (unsigned)(l - E.locations); }

static void write_newest(void *p, unsigned bytes, uint64_t value) {
    uint32_t narrow = (uint32_t)value;
    if (bytes == 4)
        memcpy(p, &narrow, 4);
    else
        memcpy(p, &value, 8);
}

static bool acquires(memory_order o) {
    return o == memory_order_acquire || o == memory_order_acq_rel || o == memory_order_seq_cst;
}
static bool releases(memory_order o) {
    return o == memory_order_release || o == memory_order_acq_rel || o == memory_order_seq_cst;
}

static void see(struct actor *self, const struct location *l, unsigned i, memory_order order) {
    unsigned at = index_of(l);
    struct store *s = store_at(l, i);
    if (self->now.view.at[at] < i) self->now.view.at[at] = (uint8_t)i;
    if (i > 0) { // the first store is older than all actors
        join(&self->pending, &s->message);
        if (acquires(order)) join(&self->now, &s->message);
    }
    self->last_seen[at] = (uint8_t)i;
    self->last_time[at] = self->now.clock.t[E.current];
}

static void append(struct actor *self, struct location *l, void *p, unsigned bytes, uint64_t value, memory_order order,
                   const struct knowledge *passed_on) {
    unsigned at = index_of(l), i = l->count;
    if (i == HISTORY) violation("%u stores to %s: a livelock, or raise HISTORY", HISTORY, describe(l->offset));
    if (E.store_count == STORES) violation("%u stores: a livelock, or raise STORES", STORES);
    self->now.view.at[at] = (uint8_t)i;
    struct store *s = &E.stores[E.store_count];
    s->value = value;
    s->when = self->now.clock;
    s->message = releases(order) ? self->now : self->released;
    s->message.view.at[at] = (uint8_t)i;
    if (passed_on != NULL) join(&s->message, passed_on);
    l->order[l->count++] = (uint16_t)E.store_count++;
    for (unsigned c = 0; c < E.consumed_count; c++) {
        struct consumed *k = &E.consumed[c];
        if (k->location == at && s->when.t[k->actor] < k->time)
            violation("%s is replaced, and %s's load that counted does not happen before", describe(l->offset),
                      E.actors[k->actor].name);
    }
    self->now.clock.t[E.current]++;
    write_newest(p, bytes, value);
}

static uint64_t load(void *p, unsigned bytes, memory_order order) {
    struct model_place place = model_place;
    if (E.free_running) return newest_at(p, bytes);
    struct location *l = meet(p, false, bytes);
    if (l == NULL) return newest_at(p, bytes);
    point();
    struct actor *self = &E.actors[E.current];
    unsigned newest = l->count - 1, oldest = self->now.view.at[index_of(l)], c = 0;
    if (newest > oldest && E.stale_left > 0) {
        c = choose(newest - oldest + 1, KIND_LOAD, false);
        if (c > 0 && E.stale_left < MODEL_ANY) E.stale_left--;
    }
    see(self, l, newest - c, order);
    mix(E.current, 2, (uint64_t)l->offset << 8 | (newest - c));
    uint64_t value = store_at(l, newest - c)->value;
    trace(&place, "load  %s = 0x%" PRIx64 " %s%s", describe(l->offset), value, order_name(order),
          c > 0 ? "  STALE" : "");
    return value;
}

static void store(void *p, unsigned bytes, uint64_t value, memory_order order) {
    struct model_place place = model_place;
    if (E.free_running) {
        write_newest(p, bytes, value);
        return;
    }
    struct location *l = meet(p, true, bytes);
    if (l == NULL) {
        write_newest(p, bytes, value);
        return;
    }
    point();
    mix(E.current, 3, (uint64_t)l->offset << 8 | l->count);
    trace(&place, "store %s = 0x%" PRIx64 " %s", describe(l->offset), value, order_name(order));
    append(&E.actors[E.current], l, p, bytes, value, order, NULL);
}

enum rmw { RMW_SWAP, RMW_OR, RMW_AND, RMW_CAS };

static uint64_t rmw(void *p, unsigned bytes, enum rmw what, uint64_t value, uint64_t *expected, memory_order order) {
    static const char *const names[] = {"swap ", "or   ", "and  ", "cas  "};
    struct model_place place = model_place;
    struct location *l = E.free_running ? NULL : meet(p, true, bytes);
    if (l != NULL) point();
    uint64_t old = newest_at(p, bytes), new = value;
    if (what == RMW_OR) new = old | value;
    if (what == RMW_AND) new = old & value;
    bool fails = what == RMW_CAS && old != *expected;
    if (what == RMW_CAS) *expected = old;
    if (l == NULL) {
        if (!fails) write_newest(p, bytes, new);
        return fails ? 0 : what == RMW_CAS ? 1 : old;
    }
    struct actor *self = &E.actors[E.current];
    unsigned newest = l->count - 1;
    mix(E.current, 4, (uint64_t)l->offset << 8 | newest);
    if (fails) {
        trace(&place, "cas   %s fails, it is 0x%" PRIx64, describe(l->offset), old);
        see(self, l, newest, memory_order_relaxed);
        return 0;
    }
    trace(&place, "%s %s: 0x%" PRIx64 " -> 0x%" PRIx64 " %s", names[what], describe(l->offset), old, new,
          order_name(order));
    see(self, l, newest, order);
    append(self, l, p, bytes, new, order, newest > 0 ? &store_at(l, newest)->message : NULL);
    return what == RMW_CAS ? 1 : old;
}

#define FAMILY(bits)                                                                                                   \
    uint##bits##_t model_load##bits(wp_atomic##bits *p, memory_order order) {                                          \
        return (uint##bits##_t)load(&p->word, bits / 8, order);                                                        \
    }                                                                                                                  \
    void model_store##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {                             \
        store(&p->word, bits / 8, value, order);                                                                       \
    }                                                                                                                  \
    bool model_cas##bits(wp_atomic##bits *p, uint##bits##_t *expected, uint##bits##_t value, memory_order order) {     \
        uint64_t wide = *expected;                                                                                     \
        bool done = rmw(&p->word, bits / 8, RMW_CAS, value, &wide, order) != 0;                                        \
        *expected = (uint##bits##_t)wide;                                                                              \
        return done;                                                                                                   \
    }                                                                                                                  \
    uint##bits##_t model_swap##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {                    \
        return (uint##bits##_t)rmw(&p->word, bits / 8, RMW_SWAP, value, NULL, order);                                  \
    }                                                                                                                  \
    uint##bits##_t model_or##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {                      \
        return (uint##bits##_t)rmw(&p->word, bits / 8, RMW_OR, value, NULL, order);                                    \
    }                                                                                                                  \
    uint##bits##_t model_and##bits(wp_atomic##bits *p, uint##bits##_t value, memory_order order) {                     \
        return (uint##bits##_t)rmw(&p->word, bits / 8, RMW_AND, value, NULL, order);                                   \
    }
FAMILY(32)
FAMILY(64)

void model_fence_seq_cst(void) {
    if (E.free_running) return;
    struct model_place place = model_place;
    point();
    struct actor *self = &E.actors[E.current];
    join(&self->now, &self->pending);
    for (unsigned i = 0; i < LOCATIONS; i++) {
        uint8_t both = self->now.view.at[i] > E.fences.at[i] ? self->now.view.at[i] : E.fences.at[i];
        self->now.view.at[i] = E.fences.at[i] = both;
    }
    self->released = self->now;
    self->now.clock.t[E.current]++;
    mix(E.current, 5, E.fence_count++);
    trace(&place, "fence seq_cst");
}

// ---- the operating system

int64_t model_os_now_ns(void) {
    if (!E.free_running) mix(E.current, 16, (uint64_t)E.now_ns);
    return E.now_ns;
}

// What a system call reads is the newest: the kernel's own barriers see to that.
static uint64_t call(struct location *l, const void *word, unsigned bytes, uint64_t what) {
    struct actor *self = &E.actors[E.current];
    if (l != NULL) {
        see(self, l, l->count - 1, memory_order_relaxed);
        mix(E.current, what, (uint64_t)l->offset << 24 | (uint64_t)l->calls++ << 8 | (l->count - 1));
    }
    return newest_at(word, bytes);
}

int model_os_wait(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns) {
    struct model_place place = model_place;
    if (E.free_running) broken("the law sleeps");
    struct location *l = meet(word, true, 4);
    point();
    struct actor *self = &E.actors[E.current];
    if (call(l, word, 4, 6) != expected) {
        trace(&place, "futex %s differs", describe(offset_of(word)));
        return 0;
    }
    trace(&place, "futex sleeps on %s", describe(offset_of(word)));
    self->state = ACTOR_FUTEX;
    self->word = word;
    self->deadline_ns = timeout_ns < 0 ? -1 : E.now_ns + timeout_ns;
    self->timed_out = false;
    next();
    if (!self->timed_out) return 0;
    mix(E.current, 17, (uint64_t)E.now_ns);
    trace(&place, "futex times out on %s", describe(offset_of(word)));
    return ETIMEDOUT;
}

void model_os_sleep_ns(int64_t ns) {
    if (E.free_running) return;
    point();
    struct actor *self = &E.actors[E.current];
    self->state = ACTOR_FUTEX;
    self->word = NULL;
    self->deadline_ns = E.now_ns + ns;
    next();
    mix(E.current, 18, (uint64_t)E.now_ns);
}

void model_os_wake(wp_atomic32 *word) {
    struct model_place place = model_place;
    if (E.free_running) return;
    struct location *l = meet(word, true, 4);
    point();
    if (l != NULL) mix(E.current, 7, (uint64_t)l->offset << 24 | (uint64_t)l->calls++ << 8);
    for (unsigned a = 0; a < E.actor_count; a++)
        if (E.actors[a].state == ACTOR_FUTEX && E.actors[a].word == word) {
            E.actors[a].state = ACTOR_READY;
            trace(&place, "futex wakes %s", E.actors[a].name);
            return;
        }
    trace(&place, "futex wakes nobody on %s", describe(offset_of(word)));
}

static void await(const void *word, unsigned bytes, uint64_t seen, const struct model_place *place) {
    struct location *l = meet(word, false, bytes);
    point();
    struct actor *self = &E.actors[E.current];
    if (newest_at(word, bytes) == seen) {
        trace(place, "waits for %s", describe(offset_of(word)));
        self->state = ACTOR_POLL;
        self->word = word;
        self->word_bytes = bytes;
        self->expected = seen;
        next();
        self->state = ACTOR_READY;
    }
    if (l != NULL) {
        see(self, l, l->count - 1, memory_order_relaxed);
        mix(E.current, 8, (uint64_t)l->offset << 8 | (l->count - 1));
    }
    trace(place, "sees %s change", describe(offset_of(word)));
}

int model_os_poll_wait(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns) {
    struct model_place place = model_place;
    if (timeout_ns >= 0) broken("polling with a deadline is not modelled");
    await(word, 4, expected, &place);
    return 0;
}

void model_await32(wp_atomic32 *p, uint32_t seen) {
    struct model_place nowhere = {0};
    await(p, 4, seen, &nowhere);
}
void model_await64(wp_atomic64 *p, uint64_t seen) {
    struct model_place nowhere = {0};
    await(p, 8, seen, &nowhere);
}

void model_os_eventfd_signal(int fd) {
    struct model_place place = model_place;
    if (E.free_running) return;
    if (fd < 0 || fd >= (int)EVENTFDS) broken("no such eventfd");
    point();
    mix(E.current, 9, (uint64_t)fd << 32 | E.eventfd_calls[fd]++);
    E.eventfd[fd]++;
    trace(&place, "eventfd %d is signalled", fd);
}

void model_eventfd_wait(int fd) {
    struct model_place nowhere = {0};
    point();
    struct actor *self = &E.actors[E.current];
    if (E.eventfd[fd] == 0) {
        trace(&nowhere, "waits for eventfd %d", fd);
        self->state = ACTOR_EVENTFD;
        self->fd = fd;
        next();
        self->state = ACTOR_READY;
    }
    mix(E.current, 10, (uint64_t)fd << 32 | E.eventfd_calls[fd]++);
    E.eventfd[fd] = 0;
    trace(&nowhere, "reads eventfd %d", fd);
}

// ---- what programs call

void *model_shared(size_t bytes) {
    size_t at = (E.shared_used + 63) / 64 * 64;
    if (at + bytes > SHARED_BYTES) broken("raise SHARED_BYTES");
    E.shared_used = at + bytes;
    return shared + at;
}

void *model_private(size_t bytes) {
    size_t at = (E.private_used + 63) / 64 * 64;
    if (at + bytes > PRIVATE_BYTES) broken("raise PRIVATE_BYTES");
    E.private_used = at + bytes;
    memset(private_ + at, 0, bytes);
    return private_ + at;
}
void *model_calloc(size_t count, size_t bytes) { return model_private(count * bytes); }

void model_name(const void *p, size_t bytes, const char *name) {
    if (E.name_count == NAMES) broken("raise NAMES");
    E.names[E.name_count].offset = offset_of(p);
    E.names[E.name_count].bytes = (uint32_t)bytes;
    E.names[E.name_count++].name = name;
}

void model_racy(const void *p, size_t bytes, const char *why) {
    (void)why;
    memset(racy + offset_of(p), 1, bytes);
}

void model_unused(const void *p, size_t bytes) {
    if (E.unused_count == UNUSED) broken("raise UNUSED");
    if (E.unused_count > 0 && offset_of(p) < E.unused[E.unused_count - 1].to) broken("unused memory goes upwards");
    E.unused[E.unused_count].from = offset_of(p);
    E.unused[E.unused_count++].to = offset_of(p) + bytes;
}

int model_actor(const char *name, void (*run)(void *), void *arg, unsigned flags) {
    if (E.actor_count == ACTORS) broken("too many actors");
    E.actors[E.actor_count] = (struct actor){.name = name, .run = run, .arg = arg, .flags = flags};
    return (int)E.actor_count++;
}

bool model_is_long(void) { return E.is_long; }

int model_await_death(void) {
    struct model_place nowhere = {0};
    struct actor *self = &E.actors[E.current];
    if (E.undelivered_count == 0) {
        self->state = ACTOR_MOURNER;
        next();
        self->state = ACTOR_READY;
    }
    unsigned dead = E.undelivered[0];
    memmove(E.undelivered, E.undelivered + 1, --E.undelivered_count * sizeof *E.undelivered);
    join(&self->now, &E.actors[dead].now);
    mix(E.current, 11, E.actors[dead].hash);
    if (!E.strict_death)
        for (unsigned a = 0; a < E.actor_count; a++) {
            struct view *view = &E.actors[a].now.view;
            const struct view *last = &E.actors[dead].now.view;
            for (unsigned i = 0; i < LOCATIONS; i++)
                view->at[i] = view->at[i] > last->at[i] ? view->at[i] : last->at[i];
            mix(a, 15, E.actors[dead].hash);
        }
    trace(&nowhere, "learns of the death of %s", E.actors[dead].name);
    return (int)dead;
}

void model_start(int actor) {
    struct model_place nowhere = {0};
    struct actor *self = &E.actors[E.current], *other = &E.actors[actor];
    point();
    if (other->state != ACTOR_DORMANT) broken("model_start of an actor that is not dormant");
    trace(&nowhere, "starts %s", other->name);
    join(&other->now, &self->now);
    join(&other->released, &self->now);
    other->state = ACTOR_READY;
    self->now.clock.t[E.current]++;
    mix((unsigned)actor, 12, self->hash);
    mix(E.current, 13, (uint64_t)actor);
}

unsigned model_choose(unsigned n) {
    if (n < 2) return 0;
    unsigned c = choose(n, KIND_PROGRAM, false);
    mix(E.current, 14, c);
    return c;
}

void model_consumed(const void *p) {
    if (E.free_running || location_of[offset_of(p) / 4] == 0) return;
    unsigned at = location_of[offset_of(p) / 4] - 1u;
    struct location *l = &E.locations[at];
    struct actor *self = &E.actors[E.current];
    for (unsigned i = self->last_seen[at] + 1u; i < l->count; i++)
        if (store_at(l, i)->when.t[E.current] < self->last_time[at])
            violation("%s was replaced, and %s's load that counts does not happen before", describe(l->offset),
                      self->name);
    if (E.consumed_count == CONSUMED) broken("raise CONSUMED");
    E.consumed[E.consumed_count++] =
        (struct consumed){(uint16_t)at, self->last_time[at], self->last_seen[at], (uint8_t)E.current};
}

uint64_t model_peek64(const wp_atomic64 *p) { return p->word; }

// ---- plain memory

static inline void touch(const void *p, size_t bytes, bool write) {
    uintptr_t offset = (uintptr_t)p - (uintptr_t)shared;
    if (offset >= SHARED_BYTES || E.free_running) return;
    unsigned me = E.current;
    const struct clock *now = &E.actors[me].now.clock;
    for (size_t i = offset; i < offset + bytes; i++) {
        struct plain *cell = &plain[i];
        if (racy[i]) continue;
        if (cell->execution != E.execution) {
            memset(cell, 0, sizeof *cell);
            cell->execution = E.execution;
        }
        unsigned other = NOBODY;
        if (cell->write_time > now->t[cell->writer]) other = cell->writer;
        for (unsigned a = 0; write && a < E.actor_count; a++)
            if (cell->read_time[a] > now->t[a]) other = a;
        if (other != NOBODY)
            violation("data race: %s %s %s, which %s accessed [%s, %s:%d or after]", E.actors[me].name,
                      write ? "writes" : "reads", describe((uint32_t)i), E.actors[other].name,
                      model_place.function != NULL ? model_place.function : "?",
                      model_place.file != NULL ? model_place.file : "?", model_place.line);
        if (write) {
            cell->writer = (uint8_t)me;
            cell->write_time = now->t[me];
        } else {
            cell->read_time[me] = now->t[me];
        }
    }
}
void model_plain_read(const void *p, size_t bytes) { touch(p, bytes, false); }
void model_plain_write(const void *p, size_t bytes) { touch(p, bytes, true); }

// What -fsanitize=thread makes the compiler call, in place of its own runtime.
#define SANITIZER(bytes)                                                                                               \
    void __tsan_read##bytes(void *p);                                                                                  \
    void __tsan_write##bytes(void *p);                                                                                 \
    void __tsan_unaligned_read##bytes(void *p);                                                                        \
    void __tsan_unaligned_write##bytes(void *p);                                                                       \
    void __tsan_read##bytes(void *p) { touch(p, bytes, false); }                                                       \
    void __tsan_write##bytes(void *p) { touch(p, bytes, true); }                                                       \
    void __tsan_unaligned_read##bytes(void *p) { touch(p, bytes, false); }                                             \
    void __tsan_unaligned_write##bytes(void *p) { touch(p, bytes, true); }
SANITIZER(1)
SANITIZER(2)
SANITIZER(4)
SANITIZER(8)
SANITIZER(16)
void __tsan_init(void);
void __tsan_init(void) {}
void __tsan_read_range(void *p, size_t bytes);
void __tsan_write_range(void *p, size_t bytes);
void __tsan_read_range(void *p, size_t bytes) { touch(p, bytes, false); }
void __tsan_write_range(void *p, size_t bytes) { touch(p, bytes, true); }
void __tsan_func_entry(void *pc);
void __tsan_func_exit(void);
void __tsan_func_entry(void *pc) { (void)pc; }
void __tsan_func_exit(void) {}
void *__tsan_memcpy(void *to, const void *from, size_t bytes);
void *__tsan_memset(void *to, int value, size_t bytes);
void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
    touch(from, bytes, false);
    touch(to, bytes, true);
    return memcpy(to, from, bytes);
}
void *__tsan_memset(void *to, int value, size_t bytes) {
    touch(to, bytes, true);
    return memset(to, value, bytes);
}

// ---- executions

static void begin(void) {
    size_t from = 0;
    E.unused[E.unused_count].from = E.shared_base;
    for (unsigned i = 0; i <= E.unused_count; from = E.unused[i++].to)
        memcpy(shared + from, shared_first + from, E.unused[i].from - from);
    memcpy(private_, private_first, E.private_base);
    E.shared_used = E.shared_base;
    E.private_used = E.private_base;
    for (unsigned i = 0; i < E.location_count; i++) location_of[E.locations[i].offset / 4] = 0;
    E.location_count = E.store_count = E.consumed_count = 0;
    memset(&E.fences, 0, sizeof E.fences);
    memset(E.eventfd, 0, sizeof E.eventfd);
    memset(E.eventfd_calls, 0, sizeof E.eventfd_calls);
    E.fence_count = E.undelivered_count = E.steps = E.depth = 0;
    E.length = E.prefix;
    E.total = 0;
    E.now_ns = 1;
    if (++E.execution == 0) broken("too many executions");
    E.preemptions_left = E.bounds.preemptions;
    E.stale_left = E.bounds.stale;
    E.deaths_left = E.bounds.deaths;
    for (unsigned a = 0; a < E.actor_count; a++) {
        struct actor *actor = &E.actors[a];
        actor->state = actor->flags & MODEL_DORMANT ? ACTOR_DORMANT : ACTOR_READY;
        memset(&actor->now, 0, sizeof actor->now);
        memset(&actor->pending, 0, sizeof actor->pending);
        memset(&actor->released, 0, sizeof actor->released);
        actor->now.clock.t[a] = 1;
        actor->hash = actor->share = 0;
        prepare(a);
    }
}

// The execution is over: is the law kept?
static void judge(const struct model_scenario *scenario) {
    for (unsigned a = 0; a < E.actor_count; a++) {
        const struct actor *actor = &E.actors[a];
        if (actor->state == ACTOR_OVER || actor->state == ACTOR_DEAD || actor->state == ACTOR_DORMANT) continue;
        if (actor->flags & MODEL_DAEMON) continue;
        static const char *const doing[] = {
            "", "ready", "asleep on its futex", "waiting for a word", "waiting for an eventfd", "waiting for a death"};
        snprintf(E.message, sizeof E.message, "%s is %s and nobody is left to wake it", actor->name,
                 doing[actor->state]);
        E.outcome = OUTCOME_VIOLATION;
        return;
    }
    E.free_running = true;
    if (setjmp(E.checking) == 0) scenario->check();
    E.free_running = false;
}

// One execution, from the trail's prefix on.
static enum outcome execute(const struct model_scenario *scenario) {
    unsigned first = 0, able[ACTORS], n = 0;
    begin();
    for (unsigned a = 0; a < E.actor_count; a++)
        if (can_go_on(&E.actors[a])) able[n++] = a;
    if (n > 1) first = choose(n, KIND_NEXT, false);
    E.current = able[first];
    switch_from_main(E.current);
    if (E.outcome == OUTCOME_END) judge(scenario);
    return E.outcome;
}

// The next prefix, depth first. Returns false after the last.
static bool backtrack(void) {
    unsigned n = E.length;
    while (n > 0 && E.trail[n - 1].chosen + 1u >= E.trail[n - 1].n) n--;
    if (n == 0) return false;
    E.trail[n - 1].chosen++;
    E.prefix = n;
    return true;
}

static double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); // of this process: the machine is shared
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

// A replay: the bounds, the words that are steps, the choices; zeros at the end are left out.
static void print_trail(FILE *to) {
    const char *comma = "";
    fprintf(to, "%u,%u,%u:", E.bounds.preemptions, E.bounds.stale, E.bounds.deaths);
    for (uint32_t i = 0; i < E.shared_base / 4; i++) {
        if (!contended[i]) continue;
        uint32_t end = i;
        while (end < E.shared_base / 4 && contended[end]) end++;
        fprintf(to, end - i > 1 ? "%s%x-%x" : "%s%x", comma, i, end - 1);
        comma = ",";
        i = end;
    }
    unsigned n = E.length;
    while (n > 0 && E.trail[n - 1].chosen == 0) n--;
    fputc('/', to);
    for (unsigned i = 0; i < n;) {
        unsigned run = 1;
        while (i + run < n && E.trail[i + run].chosen == E.trail[i].chosen) run++;
        if (run > 2)
            fprintf(to, "%s%ux%u", i > 0 ? "." : "", run, E.trail[i].chosen);
        else
            for (unsigned k = 0; k < run; k++) fprintf(to, "%s%u", i + k > 0 ? "." : "", E.trail[i].chosen);
        i += run;
    }
}

static void parse_trail(const char *text) {
    char *end;
    if (sscanf(text, "%u,%u,%u", &E.bounds.preemptions, &E.bounds.stale, &E.bounds.deaths) != 3) broken("not a replay");
    text = strchr(text, ':');
    if (text++ == NULL) broken("not a replay");
    while (*text != '/' && *text != 0) {
        unsigned long from = strtoul(text, &end, 16), to = from;
        if (*end == '-') to = strtoul(end + 1, &end, 16);
        if (end == text || to >= SHARED_BYTES / 4) broken("not a replay");
        for (; from <= to; from++) contended[from] = true;
        text = *end == ',' ? end + 1 : end;
    }
    if (*text++ != '/') broken("not a replay");
    while (*text != 0) {
        unsigned long value = strtoul(text, &end, 10), run = 1;
        if (*end == 'x') {
            run = value;
            value = strtoul(end + 1, &end, 10);
        }
        if (end == text || E.prefix + run > CHOICES) broken("not a replay");
        for (; run > 0; run--) E.trail[E.prefix++] = (struct node){0, (uint8_t)value};
        text = *end == '.' ? end + 1 : end;
    }
}

struct options {
    const char *scenario, *replay;
    uint64_t random, seed;
    double seconds;
    int preemptions, stale, deaths;
    bool brief, more, strict_death;
};

static void set_up(const struct model_scenario *s, const struct options *options) {
    memset(shared, 0, sizeof shared);
    memset(private_, 0, sizeof private_);
    memset(readers, 0, sizeof readers);
    memset(writers, 0, sizeof writers);
    memset(contended, 0, sizeof contended);
    memset(racy, 0, sizeof racy);
    E.shared_used = E.private_used = 0;
    E.actor_count = E.name_count = E.unused_count = 0;
    E.is_long = options->more;
    E.strict_death = options->strict_death;
    E.bounds = options->more ? s->more : s->quick;
    if (options->preemptions >= 0) E.bounds.preemptions = (unsigned)options->preemptions;
    if (options->stale >= 0) E.bounds.stale = (unsigned)options->stale;
    if (options->deaths >= 0) E.bounds.deaths = (unsigned)options->deaths;
    if (E.bounds.preemptions > 7 || E.bounds.stale > MODEL_ANY) broken("bounds above 7");
    E.free_running = true;
    s->set_up();
    E.free_running = false;
    E.shared_base = E.shared_used;
    E.private_base = E.private_used;
    memcpy(shared_first, shared, E.shared_base);
    memcpy(private_first, private_, E.private_base);
    E.prefix = E.length = 0;
    E.trace = false;
}

static void tell(const char *program, const struct model_scenario *s, const struct options *options) {
    printf("%s/%s: VIOLATION: %s\n", program, s->name, E.message);
    printf("  replay: %s%s%s --scenario %s --replay ", program, options->more ? " --more" : "",
           options->strict_death ? " --strict-death" : "", s->name);
    print_trail(stdout);
    printf("\n");
    fflush(stdout);
    if (options->brief) return;
    E.prefix = E.length;
    E.mode = MODE_REPLAY;
    E.trace = true;
    execute(s);
    fprintf(stderr, "  %s\n", E.message);
}

// Search or play one scenario. Returns whether its law held.
static bool run(const char *program, const struct model_scenario *s, const struct options *options) {
    set_up(s, options);
    E.mode = options->random > 0 || (s->random_only && options->replay == NULL) ? MODE_RANDOM : MODE_SEARCH;
    uint64_t executions = 0, ends = 0, wanted = options->random > 0 ? options->random : 100000;
    uint32_t longest = 0;
    if (options->replay != NULL) {
        E.mode = MODE_REPLAY;
        parse_trail(options->replay);
        E.trace = true;
        enum outcome outcome = execute(s);
        printf("%s/%s: %s\n", program, s->name, outcome == OUTCOME_VIOLATION ? E.message : "no violation");
        return outcome != OUTCOME_VIOLATION;
    }
    cache_clear();
    if (E.mode == MODE_RANDOM) E.bounds.preemptions = 7 * 1000, E.bounds.stale = MODEL_ANY;
    double start = seconds_now();
    bool complete = false;
    while (!complete) {
        E.random = scramble(options->seed + executions) | 1;
        enum outcome outcome = execute(s);
        executions++;
        ends += outcome == OUTCOME_END;
        longest = E.steps > longest ? E.steps : longest;
        if (outcome == OUTCOME_VIOLATION) {
            tell(program, s, options);
            return false;
        }
        if (outcome == OUTCOME_RESTART) {
            E.prefix = E.length = 0;
            if (E.mode == MODE_SEARCH) cache_clear();
        } else if (E.mode == MODE_SEARCH) {
            complete = !backtrack();
        } else if (executions >= wanted) {
            break;
        } else {
            E.prefix = E.length = 0;
        }
        if (options->seconds > 0 && executions % 256 == 0 && seconds_now() - start > options->seconds) break;
    }
    char stale[16];
    snprintf(stale, sizeof stale, E.bounds.stale >= MODEL_ANY ? "any" : "%u", E.bounds.stale);
    if (E.mode == MODE_SEARCH)
        printf("%s/%s: %u actors, %u preemptions, %s stale, %u deaths: %s; %" PRIu64 " executions (%" PRIu64
               " to the end), %" PRIu64 " states, %u steps at most, %.1f s of CPU\n",
               program, s->name, E.actor_count, E.bounds.preemptions, stale, E.bounds.deaths,
               complete ? "complete" : "CUT", executions, ends, E.states, longest, seconds_now() - start);
    else
        printf("%s/%s: %u actors, random, %u deaths, seed %" PRIu64 ": %" PRIu64
               " executions, %u steps at most, %.1f s of CPU\n",
               program, s->name, E.actor_count, E.bounds.deaths, options->seed, executions, longest,
               seconds_now() - start);
    fflush(stdout);
    if (s->finally == NULL || !complete) return true;
    E.free_running = true;
    if (setjmp(E.checking) == 0) {
        s->finally();
        E.free_running = false;
        return true;
    }
    E.free_running = false;
    printf("%s/%s: VIOLATION: %s\n", program, s->name, E.message);
    return false;
}

static void usage(const char *program) {
    printf("usage: %s [--list] [--scenario NAME] [--more] [--seconds S] [--preemptions N] [--stale N] [--deaths N]\n"
           "       [--random EXECUTIONS [--seed N]] [--replay STRING] [--brief] [--strict-death]\n",
           program);
}

int model_main(int argc, char **argv, const struct model_scenario *scenarios, size_t count) {
    struct options o = {.seed = 1, .preemptions = -1, .stale = -1, .deaths = -1};
    const char *slash = strrchr(argv[0], '/'), *program = slash != NULL ? slash + 1 : argv[0];
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--list") == 0) {
            for (size_t s = 0; s < count; s++) printf("%s  %s\n", scenarios[s].name, scenarios[s].law);
            return 0;
        }
        if (strcmp(argv[i], "--more") == 0)
            o.more = true;
        else if (strcmp(argv[i], "--strict-death") == 0)
            o.strict_death = true;
        else if (strcmp(argv[i], "--brief") == 0)
            o.brief = true;
        else if (strcmp(argv[i], "--scenario") == 0)
            o.scenario = value, i++;
        else if (strcmp(argv[i], "--replay") == 0)
            o.replay = value, i++;
        else if (strcmp(argv[i], "--random") == 0)
            o.random = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--seed") == 0)
            o.seed = strtoull(value, NULL, 10), i++;
        else if (strcmp(argv[i], "--seconds") == 0)
            o.seconds = strtod(value, NULL), i++;
        else if (strcmp(argv[i], "--preemptions") == 0)
            o.preemptions = atoi(value), i++;
        else if (strcmp(argv[i], "--stale") == 0)
            o.stale = atoi(value), i++;
        else if (strcmp(argv[i], "--deaths") == 0)
            o.deaths = atoi(value), i++;
        else {
            usage(program);
            return 2;
        }
    }
    bool kept = true;
    unsigned ran = 0;
    for (size_t s = 0; s < count; s++) {
        if (o.scenario != NULL && strcmp(o.scenario, scenarios[s].name) != 0) continue;
        if (!kept && o.brief) break; // one is enough
        kept &= run(program, &scenarios[s], &o);
        ran++;
    }
    if (ran == 0) usage(program);
    return ran == 0 ? 2 : kept ? 0 : 1;
}
