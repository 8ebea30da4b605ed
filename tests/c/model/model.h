// model.h — an explorer of interleavings, stale loads and deaths for the code of csrc.
//
// A program is compiled with -DWP_MODEL: the same headers, with every atomic operation
// a step of the engine. Coroutines, *actors*, stand for processes. The engine runs the
// program again and again, each time with another sequence of *choices*:
//
//   who goes on     before every step; switching away from an actor that could go on
//                   costs one of a bounded number of preemptions
//   what a load sees   any store that C11 lets it see; one that is not the newest costs
//                   one of a bounded number of stale loads
//   who dies        a mortal actor ends between any two of its steps; a bounded number
//
// It is a depth-first search by re-execution, or seeded random play. Two prefixes that
// differ only in the order of independent steps lead to one state, which is searched once.
//
// ---- the memory model
//
// Each word has its stores in the order of execution. An actor, and each message that a
// store carries, has a *view*: for each word, the oldest store that may still be seen.
//
//   relaxed load    takes a store from its view on, and moves the view there
//   acquire load    also joins the store's message
//   relaxed store   carries what the actor knew at its last fence
//   release store   carries all that the actor knows
//   RMW             reads the newest store, and passes its message on (release sequence)
//   seq_cst fence   joins one global view and leaves its own there; and is a release and an
//                   acquire fence
//   seq_cst RMW     is an acquire-release one: on words changed by RMWs alone, C11 asks no more
//
// Plain accesses of shared memory are instrumented by the compiler (-fsanitize=thread,
// with the engine in place of its runtime): two of them that no happens-before orders,
// one being a write, are a violation.
//
// A death synchronises with the recoverer: the kernel said so after the last store. And no
// load that comes later than that sees anything older than the dead actor's last stores:
// C11 has no word for this, but caches are coherent, and a death takes a thousand times
// as long as a load may be early. With --strict-death, only what C11 says.
//
// Limits. The order of the stores to one word is that of their execution: a store is never put
// before one that is there. No load sees a store that has not run (no load
// buffering, as in RC11); model_consumed() is the substitute where that matters. A CAS that
// fails sees the newest store. What is beyond the bounds is seen by random play only.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef MODEL_H
#define MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wp_model_atomic.h"

// How an actor may end.
enum {
    MODEL_MORTAL = 1,  // it may die at any step
    MODEL_DAEMON = 2,  // it may sleep when all is over
    MODEL_DORMANT = 4, // it begins at model_start
};

// How far a search goes. Zero preemptions are zero, not "no bound".
struct model_bounds {
    unsigned preemptions; // at most 7
    unsigned stale;       // at most 7; MODEL_ANY: as many as there are
    unsigned deaths;
};
#define MODEL_ANY 8u

struct model_scenario {
    const char *name;
    const char *law;                 // what it shows, in a few words
    void (*set_up)(void);            // once: makes memory and actors
    void (*check)(void);             // when nobody can go on: the law
    struct model_bounds quick, more; // for CI, and for the long run
    bool random_only;                // too large to be searched: played at random
    void (*finally)(void);           // after a complete search
};

// Run a program: the whole of its main().
int model_main(int argc, char **argv, const struct model_scenario *scenarios, size_t count);

// ---- called by set_up

// Zeroed memory that the actors share: atomics, and race-checked plain bytes.
void *model_shared(size_t bytes);
// Zeroed memory for the program's own notes, or private to one actor: never a step, never a race.
void *model_private(size_t bytes);
// Name a piece of shared memory for traces.
void model_name(const void *p, size_t bytes, const char *name);
// Plain accesses there may race: `why` must say why that is harmless.
void model_racy(const void *p, size_t bytes, const char *why);
// Memory there is never touched, so it need not be restored. In ascending order.
void model_unused(const void *p, size_t bytes);
// Returns: the actor's number.
int model_actor(const char *name, void (*run)(void *), void *arg, unsigned flags);
// Is this the long run? For scenarios that grow with it.
bool model_is_long(void);

// ---- called by actors

// Wait until some actor dies. Returns its number; its end happens before this return.
int model_await_death(void);
// Let a dormant actor begin; what the caller knows, it knows.
void model_start(int actor);
// Wait until the newest value of a word is not `seen`, as a polling loop does in the end.
void model_await32(wp_atomic32 *p, uint32_t seen);
void model_await64(wp_atomic64 *p, uint64_t seen);
// Wait for an eventfd and reset it.
void model_eventfd_wait(int fd);
// One of n branches, each explored.
unsigned model_choose(unsigned n);
// The caller's last load of this word counted: no store may replace what it read unless it
// happens after that load. (Elsewhere, a load that is overtaken is invisible here.)
void model_consumed(const void *p);
// Plain accesses that the compiler does not see.
void model_plain_read(const void *p, size_t bytes);
void model_plain_write(const void *p, size_t bytes);
// Write into the trace of a replay.
void model_note(const char *format, ...) __attribute__((format(printf, 1, 2)));

// ---- anywhere

// The newest value, without a step: for laws and notes only.
uint64_t model_peek64(const wp_atomic64 *p);
_Noreturn void model_violated(const char *file, int line, const char *what);
#define MODEL_CHECK(condition)                                                                                         \
    do {                                                                                                               \
        if (!(condition)) model_violated(__FILE__, __LINE__, #condition);                                              \
    } while (0)

// For headers that allocate private memory: forgotten at the end of each execution.
void *model_calloc(size_t count, size_t bytes);
static inline void model_free(void *p) { (void)p; }

#endif
