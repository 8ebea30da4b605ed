// wp_os.h — all that the core asks of the operating system.
//
// Layer 0. Source: futex(2), eventfd(2), pidfd_open(2), fallocate(2), madvise(2).
//
// Linux has everything; elsewhere, and with WP_OS_PORTABLE, waiting is polling
// with back-off and needs nothing but a clock. Functions return 0 or an errno.
// With WP_MODEL the explorer supplies wp_os_now_ns, _yield, _wait, _poll_wait, _wake and
// _eventfd_signal.
//
// SPDX-License-Identifier: BSD-3-Clause
#ifndef WP_OS_H
#define WP_OS_H

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <time.h>

#include "wp_atomic.h"
#include "wp_config.h"

#if defined(__linux__) && !defined(WP_OS_PORTABLE)
#define WP_OS_LINUX 1
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define WP_OS_LINUX 0
#endif

#define WP_NS_PER_SECOND INT64_C(1000000000)

#ifndef WP_MODEL

// Monotonic time, ns; comparable between the processes of one machine.
static inline int64_t wp_os_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * WP_NS_PER_SECOND + now.tv_nsec;
}

static inline void wp_os_sleep_ns(int64_t ns) {
    struct timespec span = {.tv_sec = (time_t)(ns / WP_NS_PER_SECOND), .tv_nsec = (long)(ns % WP_NS_PER_SECOND)};
    nanosleep(&span, NULL); // an early return is a spurious wake, which every caller allows
}

// Let other runnable processes have this CPU.
static inline void wp_os_yield(void) { sched_yield(); }

// The polling side looks after 2, 4, 8 … µs, at most every millisecond: a
// thousand looks a second is the price of a system without futexes.
#define WP_POLL_FIRST_NS INT64_C(2000)
#define WP_POLL_LAST_NS INT64_C(1000000)

// Wait by polling until *word is not `expected`.
//
// Returns: 0, or ETIMEDOUT, or EINTR after each longest nap so that the caller
//          can look for signals.
static inline int wp_os_poll_wait(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns) {
    int64_t nap_ns = WP_POLL_FIRST_NS;
    int64_t end_ns = timeout_ns < 0 ? INT64_MAX : wp_os_now_ns() + timeout_ns;
    // relaxed: the caller reads what it waits for with its own order afterwards.
    while (wp_load_relaxed(word) == expected) {
        int64_t left_ns = end_ns - wp_os_now_ns();
        if (left_ns <= 0) return ETIMEDOUT;
        wp_os_sleep_ns(nap_ns < left_ns ? nap_ns : left_ns);
        if (nap_ns >= WP_POLL_LAST_NS) return EINTR;
        nap_ns *= 2;
    }
    return 0;
}

#if WP_OS_LINUX

_Static_assert(sizeof(wp_atomic32) == sizeof(uint32_t), "a futex is a plain 32-bit word");

// Sleep while *word is `expected`; timeout_ns < 0 waits for ever.
//
// Returns: 0 when woken or when the word differs, ETIMEDOUT, EINTR.
static inline int wp_os_wait(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns) {
    struct timespec span = {.tv_sec = (time_t)(timeout_ns / WP_NS_PER_SECOND),
                            .tv_nsec = (long)(timeout_ns % WP_NS_PER_SECOND)};
    long rc = syscall(SYS_futex, word, FUTEX_WAIT, expected, timeout_ns < 0 ? NULL : &span, NULL, 0);
    if (rc == 0 || errno == EAGAIN) return 0;
    return errno;
}

// Wake the one waiter of *word, in whatever process it sleeps.
static inline void wp_os_wake(wp_atomic32 *word) { syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0); }

static inline void wp_os_eventfd_signal(int fd) {
    uint64_t one = 1;
    // EAGAIN means that 2**64 - 2 signals are pending: the reader wakes anyway.
    ssize_t n = write(fd, &one, sizeof one);
    (void)n;
}

static inline int wp_os_reserve(int fd, int64_t offset, int64_t bytes) {
    int rc;
    do rc = posix_fallocate(fd, (off_t)offset, (off_t)bytes);
    while (rc == EINTR);
    return rc;
}

#ifdef FALLOC_FL_PUNCH_HOLE
// Give the pages back; the range reads as zeros and must be reserved again.
static inline int wp_os_punch(int fd, int64_t offset, int64_t bytes) {
    int rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)bytes);
    return rc == 0 ? 0 : errno;
}
#endif

// Keep a mapping out of forked children: a task may fork, and its child must
// neither see nor hold the pool.
static inline int wp_os_dont_fork(void *base, uint64_t bytes) {
    return madvise(base, bytes, MADV_DONTFORK) == 0 ? 0 : errno;
}

static inline void *wp_os_exit_with_parent(void *arg) {
    // Of a pidfd and of a pipe, both in one word: a fresh thread has no memory of its own.
    uint64_t both = (uint64_t)(uintptr_t)arg;
    struct pollfd gone[2] = {{.fd = (int)(both & UINT32_MAX), .events = POLLIN},
                             {.fd = (int)(both >> 32), .events = POLLIN}};
    while (poll(gone, 2, -1) < 0 && errno == EINTR) {
    }
    _exit(1);
}

// End this process when the process behind `pidfd` ends, or becomes another program and
// with that closes its end of the pipe `lifeline`; from a native thread: it needs no
// interpreter, so a worker stuck in C code goes too.
static inline int wp_os_watch_parent(int pidfd, int lifeline) {
    _Static_assert(sizeof(void *) == 8, "two descriptors fit a pointer");
    uint64_t both = (uint64_t)(uint32_t)pidfd | (uint64_t)(uint32_t)lifeline << 32;
    pthread_t thread;
    sigset_t all, before;
    // Signals stay with the threads that know them: the new one blocks them all.
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, wp_os_exit_with_parent, (void *)(uintptr_t)both);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc != 0 ? rc : pthread_detach(thread);
}

#else // portable: no futex, no eventfd, no way to reserve

static inline int wp_os_wait(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns) {
    return wp_os_poll_wait(word, expected, timeout_ns);
}
static inline void wp_os_wake(wp_atomic32 *word) { (void)word; }
static inline void wp_os_eventfd_signal(int fd) { (void)fd; }
static inline int wp_os_reserve(int fd, int64_t offset, int64_t bytes) {
    (void)fd, (void)offset, (void)bytes;
    return 0;
}
static inline int wp_os_dont_fork(void *base, uint64_t bytes) {
    (void)base, (void)bytes;
    return 0;
}
static inline int wp_os_watch_parent(int pidfd, int lifeline) {
    (void)pidfd, (void)lifeline;
    return ENOSYS;
}

#endif // WP_OS_LINUX
#endif // WP_MODEL
#endif
