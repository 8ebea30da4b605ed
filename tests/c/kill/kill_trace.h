// kill_trace.h — a child that is stopped after each of its instructions.
//
// x86-64 Linux only: ptrace(PTRACE_SINGLESTEP), `int3` as the first marker, and the
// instruction pointer as the second. A step is one instruction, one turn of a `rep`
// instruction, or one system call.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef KILL_TRACE_H
#define KILL_TRACE_H

#if !defined(__x86_64__) || !defined(__linux__)
#error "the instruction kill steps x86-64 processes of Linux"
#endif

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/types.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

// Where the steps begin and end; functions, so that the compiler moves nothing across.
static __attribute__((noinline)) void trace_begin(void) { __asm__ volatile("int3" ::: "memory"); }
static __attribute__((noinline)) void trace_end(void) { __asm__ volatile("nop" ::: "memory"); }

struct traced {
    pid_t pid;
    bool ended; // it is at trace_end
    int status; // as waitpid said last
};

static void trace_die(const char *what) {
    fprintf(stderr, "trace: %s: %s\n", what, strerror(errno));
    exit(3);
}

static void trace_wait(struct traced *t) {
    pid_t pid;
    do pid = waitpid(t->pid, &t->status, 0);
    while (pid < 0 && errno == EINTR);
    if (pid != t->pid) trace_die("waitpid");
}

// Fork a child that calls `body`, which calls trace_begin and trace_end, and does not
// return. The child is stopped at trace_begin.
static struct traced trace_start(void (*body)(void *), void *arg) {
    struct traced t = {0, false, 0};
    fflush(NULL);
    t.pid = fork();
    if (t.pid < 0) trace_die("fork");
    if (t.pid == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) _exit(90);
        body(arg);
        _exit(91);
    }
    trace_wait(&t);
    if (!WIFSTOPPED(t.status) || WSTOPSIG(t.status) != SIGTRAP) {
        fprintf(stderr, "trace: no stop at the first marker, status %x: is ptrace allowed here?\n", (unsigned)t.status);
        exit(3);
    }
    if (ptrace(PTRACE_SETOPTIONS, t.pid, NULL, (void *)(uintptr_t)PTRACE_O_EXITKILL) != 0) trace_die("SETOPTIONS");
    return t;
}

static uint64_t trace_rip(const struct traced *t) {
    errno = 0;
    long rip = ptrace(PTRACE_PEEKUSER, t->pid, (void *)offsetof(struct user, regs.rip), NULL);
    if (rip == -1 && errno != 0) trace_die("PEEKUSER");
    return (uint64_t)rip;
}

// One instruction. Returns: false when it crashed, which t->status tells.
static bool trace_step(struct traced *t) {
    if (t->ended) return true;
    if (ptrace(PTRACE_SINGLESTEP, t->pid, NULL, NULL) != 0) trace_die("SINGLESTEP");
    trace_wait(t);
    if (!WIFSTOPPED(t->status) || WSTOPSIG(t->status) != SIGTRAP) return false;
    t->ended = trace_rip(t) == (uint64_t)(uintptr_t)trace_end;
    return true;
}

// Up to `steps` instructions, or to the end. Returns: false when it crashed.
static bool trace_steps(struct traced *t, unsigned steps) {
    for (; steps > 0 && !t->ended; steps--)
        if (!trace_step(t)) return false;
    return true;
}

// SIGKILL, and wait until the kernel says that it is gone.
static void trace_kill(struct traced *t) {
    if (t->pid == 0) return;
    kill(t->pid, SIGKILL);
    do trace_wait(t);
    while (!WIFSIGNALED(t->status) && !WIFEXITED(t->status));
    t->pid = 0;
}

// Let it run to its exit. Returns: whether that was exit code 0.
static bool trace_finish(struct traced *t) {
    if (ptrace(PTRACE_CONT, t->pid, NULL, NULL) != 0) trace_die("CONT");
    trace_wait(t);
    if (WIFSTOPPED(t->status)) {
        int signal = WSTOPSIG(t->status);
        trace_kill(t);
        t->status = signal;
        return false;
    }
    t->pid = 0;
    return WIFEXITED(t->status) && WEXITSTATUS(t->status) == 0;
}

#endif
