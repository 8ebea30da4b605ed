// floor.h — what the floor programs share: a shared mapping, a second process, figures.
//
// Each program prints one line of JSON; every figure is a median with quartiles,
// in nanoseconds.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef FLOOR_H
#define FLOOR_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "wp_os.h"

static inline void floor_check(bool ok, const char *what) {
    if (ok) return;
    perror(what);
    exit(1);
}

// Memory that a forked child shares, already touched: page faults are not the floor.
static inline void *floor_share(size_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    floor_check(memory != MAP_FAILED, "mmap");
    return memory;
}

// Run `body(shared)` in a second process, which dies with this one.
static inline pid_t floor_fork(void (*body)(void *), void *shared) {
    pid_t parent = getpid();
    pid_t child = fork();
    floor_check(child >= 0, "fork");
    if (child > 0) return child;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1); // it died before the line above
    body(shared);
    _exit(0);
}

static inline void floor_join(pid_t child) {
    int status = 0;
    floor_check(waitpid(child, &status, 0) == child && status == 0, "the second process");
}

// Keep this process on the n-th of the CPUs that the first call found usable. For
// programs that spin: two spinners on one CPU measure the scheduler's time slice.
static inline void floor_pin(int n) {
    static cpu_set_t usable; // a forked child inherits it, beside a narrowed affinity
    if (CPU_COUNT(&usable) == 0) floor_check(sched_getaffinity(0, sizeof usable, &usable) == 0, "sched_getaffinity");
    if (CPU_COUNT(&usable) < 2) {
        fputs("two usable CPUs are needed\n", stderr);
        exit(1);
    }
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &usable) || n-- > 0) cpu++;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    floor_check(sched_setaffinity(0, sizeof one, &one) == 0, "sched_setaffinity");
}

static inline int floor_compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// Print `"name": {median, quartiles, n}`; sorts the samples.
static inline void floor_print(const char *before, const char *name, double *ns, size_t n) {
    qsort(ns, n, sizeof *ns, floor_compare);
    printf("%s\"%s\": {\"median\": %.2f, \"q1\": %.2f, \"q3\": %.2f, \"n\": %zu}", before, name, ns[n / 2], ns[n / 4],
           ns[n * 3 / 4], n);
}

#endif
