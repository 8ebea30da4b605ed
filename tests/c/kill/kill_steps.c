// kill_steps.c — SIGKILL after every instruction of every operation, recovery, audit.
//
//   kill      the victim dies after step k, for every k; the pool is recovered and goes on
//   stop      it is stopped after step k, nobody recovers, the others go on; then it does
//   pair      a second process is stopped after its step j while the first is killed, or
//             stopped too, after its step k; then who lives goes on
//
// With --quick the victim dies only after those steps that changed shared memory: after
// any other it leaves the same bytes as after the step before. Pairs are sampled.
//
// x86-64 Linux only. Usage: kill_steps [--quick] [--alone] [PART OF A NAME]...
// --alone leaves the pairs out.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "kill_audit.h"
#include "kill_ops.h"
#include "kill_pairs.h"

#include <sched.h>
#include <time.h>

static struct world world;
static struct traced first, second;
static unsigned failures, ran;

struct body {
    const struct op *op;
    uint32_t seat;
};

// Claimed or entered by this process: end it as a worker would.
static void finish_hand(struct world *w, struct wp_view *v, uint32_t index) {
    uint64_t state = wp_load_acquire(&v->slots[index].state);
    if (wp_state_owner(state) != v->self) return;
    if (wp_state_phase(state) == WP_PHASE_CLAIMED && task_run(v, w->ledger, index) == UINT64_MAX) _exit(2);
    if (wp_state_phase(state) != WP_PHASE_RUNNING) return;
    struct note note; // entered, its argument still whole; or its result is written
    memcpy(&note, v->slots[index].bytes, sizeof note);
    if (note.id < IDS) {
        w->ledger->entered[note.id] = w->ledger->left[note.id] = 1;
        task_write(v, index, note.id, false);
    }
    wp_finish(v, index, WP_OUTCOME_OK);
}

// Finish what the operation left in this process's hands, and what is bound to it. The
// rest is for the others to find.
static void tail(struct world *w, struct wp_view *v) {
    uint32_t index = w->hand_index;
    if (w->hand_handle != WP_NO_HANDLE) wp_search_claim(v, w->hand_handle, &index);
    finish_hand(w, v, index != WP_NO_INDEX ? index : w->index);
    for (int strength = WP_STRENGTH_STRONG; strength <= WP_STRENGTH_FORCE; strength++)
        while (wp_search_mailbox(v, v->self, (enum wp_strength)strength, &index) == WP_FIND_OK)
            finish_hand(w, v, index);
    _exit(0);
}

static void body(void *arg) {
    const struct body *b = arg;
    struct wp_view *v = &world.view[b->seat];
    trace_begin();
    b->op->run(&world, v);
    trace_end();
    tail(&world, v);
}

static void wake_up(struct world *w) {
    for (uint32_t s = SURVIVOR; s <= OTHER; s++)
        if (wp_idle_has(w->view[s].idle->idle, s)) {
            wp_park_disarm(&w->view[s]);
            wp_search_end(&w->view[s]);
        }
}

static void end_all(void) {
    trace_kill(&first);
    trace_kill(&second);
}

static unsigned steps_made; // by the first, this time

static bool is_changed(const uint8_t *control, const uint8_t *memory, const struct ledger *ledger) {
    return memcmp(control, world.control, world.bytes) != 0 || memcmp(memory, world.memory, world.memory_bytes) != 0 ||
           memcmp(ledger, world.ledger, sizeof *ledger) != 0;
}

// Let the first make k steps; or, when `quick`, as many as change shared memory k times.
// Counted anew each time: an operation that reads a clock is not always of one length.
static bool go_to(unsigned k, bool quick) {
    static uint8_t *control, *memory;
    static struct ledger ledger;
    if (control == NULL) control = malloc(world.bytes), memory = malloc(world.memory_bytes);
    if (control == NULL || memory == NULL) trace_die("malloc");
    for (steps_made = 0; k > 0 && !first.ended; k--) {
        if (quick) {
            memcpy(control, world.control, world.bytes);
            memcpy(memory, world.memory, world.memory_bytes);
            ledger = *world.ledger;
        }
        do {
            if (!trace_step(&first)) return false;
            steps_made++;
        } while (quick && !first.ended && !is_changed(control, memory, &ledger));
    }
    return true;
}

// Returns: whether step k was before the end.
static bool kill_at(const struct op *op, unsigned k, bool quick) {
    struct body b = {op, VICTIM};
    world_restore(&world);
    first = trace_start(body, &b);
    AUDIT(go_to(k, quick), "the operation itself crashes, status %x", (unsigned)first.status);
    bool more = !first.ended;
    trace_kill(&first);
    world_note(&world, VICTIM);
    world_recover(&world, VICTIM, -9);
    wake_up(&world);
    world_reincarnate(&world, VICTIM);
    world_go_on(&world, SURVIVOR, VICTIM);
    audit_end(&world);
    return more;
}

static unsigned unsettled(struct world *w) {
    unsigned n = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        enum wp_phase phase = wp_state_phase(wp_load_acquire(&w->view[PARENT].slots[i].state));
        n += phase == WP_PHASE_READY || phase == WP_PHASE_CLAIMED || phase == WP_PHASE_RUNNING;
    }
    return n;
}

// Nobody has died and nobody is half-way: whatever is offered is found, whatever is
// settled reaches its home, without any help from recovery.
static void audit_calm(struct world *w) {
    world_go_on(w, SURVIVOR, SURVIVOR);
    for (uint32_t i = 0; i < SLOTS; i++) {
        enum wp_phase phase = wp_state_phase(wp_load_acquire(&w->view[PARENT].slots[i].state));
        uint32_t home = wp_view_home(&w->view[PARENT], i);
        AUDIT(phase != WP_PHASE_READY && phase != WP_PHASE_CLAIMED && phase != WP_PHASE_RUNNING,
              "slot %u: phase %d, and nobody finds it", i, phase);
        AUDIT(phase != WP_PHASE_DONE || home == VICTIM || home == OTHER, "slot %u is DONE, and its home is not told",
              i);
    }
}

static bool stop_at(const struct op *op, unsigned k, bool quick, unsigned *held) {
    struct body b = {op, VICTIM};
    world_restore(&world);
    first = trace_start(body, &b);
    AUDIT(go_to(k, quick), "the operation itself crashes, status %x", (unsigned)first.status);
    bool more = !first.ended;
    world_note(&world, WP_NO_SEAT);
    wake_up(&world);
    world_go_on(&world, SURVIVOR, SURVIVOR);
    unsigned left = unsettled(&world);
    *held = left > *held ? left : *held;
    AUDIT(trace_finish(&first), "stopped, continued, and did not end well: %x", (unsigned)first.status);
    world_note_again(&world, WP_NO_SEAT);
    audit_calm(&world);
    world_recover(&world, VICTIM, 0);
    world_reincarnate(&world, VICTIM);
    world_go_on(&world, SURVIVOR, VICTIM);
    audit_end(&world);
    return more;
}

enum order {
    SECOND_FIRST = 1,   // the second makes its j steps before the first makes its k
    BOTH_LIVE = 2,      // the first is stopped at k, not killed
    SECOND_GOES_ON = 4, // before the survivor does
    ORDERS = 8,
};

static bool pair_at(const struct pair *p, unsigned k, unsigned j, unsigned order, bool *more_second) {
    struct op a = {p->name, NULL, p->run, 0}, b = {p->name, NULL, p->run_second, 0};
    struct body body_a = {&a, VICTIM}, body_b = {&b, OTHER};
    world_restore(&world);
    first = trace_start(body, &body_a);
    uint32_t index = world.index;
    wp_handle handle = world.handle;
    world.index = world.second_index;
    world.handle = world.second_handle;
    second = trace_start(body, &body_b);
    world.index = index;
    world.handle = handle;
    bool sound = order & SECOND_FIRST ? trace_steps(&second, j) && trace_steps(&first, k)
                                      : trace_steps(&first, k) && trace_steps(&second, j);
    AUDIT(sound, "an operation crashes");
    bool more = !first.ended;
    *more_second = !second.ended;
    if (order & BOTH_LIVE) {
        world_note(&world, WP_NO_SEAT);
        if (order & SECOND_GOES_ON)
            AUDIT(trace_finish(&second), "the second does not end well: %x", (unsigned)second.status);
        AUDIT(trace_finish(&first), "the first does not end well: %x", (unsigned)first.status);
        if (!(order & SECOND_GOES_ON))
            AUDIT(trace_finish(&second), "the second does not end well: %x", (unsigned)second.status);
        world_note_again(&world, WP_NO_SEAT);
        audit_calm(&world);
        world_recover(&world, VICTIM, 0);
        world_reincarnate(&world, VICTIM);
    } else {
        trace_kill(&first);
        world_note(&world, VICTIM);
        world_recover(&world, VICTIM, -9);
        world_reincarnate(&world, VICTIM);
        if (!(order & SECOND_GOES_ON)) world_go_on(&world, SURVIVOR, VICTIM);
        AUDIT(trace_finish(&second), "the second does not end well: %x", (unsigned)second.status);
        audit_calm(&world);
    }
    world_recover(&world, OTHER, 0);
    world_reincarnate(&world, OTHER);
    world_go_on(&world, VICTIM, OTHER);
    audit_end(&world);
    return more;
}

// ---- the table

static bool prepared(void (*prepare)(struct world *, uint32_t)) {
    if (setjmp(audit_failed)) {
        printf("    the preparation fails: %s\n", audit_message);
        failures++;
        return false;
    }
    world_reset(&world);
    world.block[0] = world.block[1] = 0;
    world.index = world.second_index = 0;
    world.handle = world.second_handle = WP_NO_HANDLE;
    prepare(&world, VICTIM);
    world_photograph(&world);
    return true;
}

static void failed(const char *mode, unsigned k, unsigned j) {
    end_all();
    if (failures++ < 40) printf("    %s, k=%u j=%u: %s\n", mode, k, j, audit_message);
    fflush(stdout);
}

enum verdict { MORE, ENDED, BROKEN };

static enum verdict try_kill(const struct op *op, unsigned k, bool quick) {
    if (setjmp(audit_failed)) return failed("kill", steps_made, 0), BROKEN;
    return kill_at(op, k, quick) ? MORE : ENDED;
}
static enum verdict try_stop(const struct op *op, unsigned k, bool quick, unsigned *held) {
    if (setjmp(audit_failed)) return failed("stop", steps_made, 0), BROKEN;
    return stop_at(op, k, quick, held) ? MORE : ENDED;
}
// Returns what became of the first; *second is ENDED when the second had no step j.
static enum verdict try_pair(const struct pair *p, unsigned k, unsigned j, unsigned order, enum verdict *second_) {
    bool more = false;
    *second_ = BROKEN;
    static const char *const modes[ORDERS] = {"pair",      "pair, 2nd first",      "live",      "live, 2nd first",
                                              "pair late", "pair late, 2nd first", "live late", "live late, 2nd first"};
    if (setjmp(audit_failed)) return failed(modes[order], k, j), BROKEN;
    enum verdict verdict = pair_at(p, k, j, order, &more) ? MORE : ENDED;
    *second_ = more ? MORE : ENDED;
    return verdict;
}

#define MOST_BROKEN 3u // of one operation: then the next has its turn

static void run_op(const struct op *op, bool quick) {
    if (!prepared(op->prepare)) return;
    ran++;
    unsigned kills = 0, bad = 0, held = 0, most_steps = 0;
    enum verdict verdict = MORE;
    for (unsigned k = 0; verdict != ENDED && bad < MOST_BROKEN; k++) {
        verdict = try_kill(op, k, quick);
        kills++;
        bad += verdict == BROKEN;
        most_steps = steps_made > most_steps ? steps_made : most_steps;
    }
    verdict = MORE;
    for (unsigned k = 0; verdict != ENDED && bad == 0; k++) {
        verdict = try_stop(op, k, quick, &held);
        bad += verdict == BROKEN;
    }
    bool too_many = held > op->held;
    failures += too_many;
    printf("%-28s %12u %8u %8u   %s\n", op->name, most_steps, kills, held,
           bad        ? "FAILED"
           : too_many ? "HELD UP"
                      : "whole");
    fflush(stdout);
}

static void run_pair(const struct pair *p, bool quick) {
    if (!prepared(p->prepare)) return;
    ran++;
    unsigned grid = 0, bad = 0, most_k = 0, most_j = 0, stride = quick ? 31 : 1;
    for (unsigned order = 0; order < ORDERS; order++) {
        enum verdict a = MORE;
        // Quick: each k in one of the orders, with every 31st j.
        for (unsigned k = quick ? order : 0; a != ENDED && bad < MOST_BROKEN; k += quick ? ORDERS : 1) {
            enum verdict b = MORE;
            for (unsigned j = k * 7 % stride; b != ENDED && bad < MOST_BROKEN; j += stride) {
                a = try_pair(p, k, j, order, &b);
                grid++;
                bad += a == BROKEN;
                most_j = j > most_j ? j : most_j;
            }
            most_k = k > most_k ? k : most_k;
        }
    }
    printf("%-28s %5u x %-4u %8u %8s   %s\n", p->name, most_k, most_j, grid, "", bad ? "FAILED" : "whole");
    fflush(stdout);
}

static bool wanted(const char *name, int argc, char **argv) {
    bool any = false;
    for (int a = 1; a < argc; a++) {
        if (argv[a][0] == '-') continue;
        if (strstr(name, argv[a]) != NULL) return true;
        any = true;
    }
    return !any;
}

int main(int argc, char **argv) {
    bool quick = false, alone = false;
    for (int a = 1; a < argc; a++) {
        quick |= strcmp(argv[a], "--quick") == 0;
        alone |= strcmp(argv[a], "--alone") == 0;
    }
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    // On one CPU a step is two switches and no interrupt.
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET((size_t)sched_getcpu(), &here);
    sched_setaffinity(0, sizeof here, &here);
    world_make(&world);
    printf("%-28s %12s %8s %8s\n", "operation", "instructions", "kills", "held up");
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (wanted(ops[i].name, argc, argv)) run_op(&ops[i], quick);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (!alone && wanted(pairs[i].name, argc, argv)) run_pair(&pairs[i], quick);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (ran == 0) printf("no operation has such a name\n");
    printf("%s in %ld s\n",
           failures ? "FAILED"
           : quick  ? "every change of shared memory: whole"
                    : "every instruction: whole",
           (long)(now.tv_sec - begun.tv_sec));
    return failures != 0 || ran == 0;
}
