// test_os.c — what the core asks of the system: waiting and waking between threads and
// between processes, by futex and by polling; reserving; the parent's death.
//
// SPDX-License-Identifier: BSD-3-Clause
#include "wp_os.h"

#include <sys/mman.h>
#include <sys/wait.h>

#include "wp_test.h"

#if WP_OS_LINUX
#include <sys/mount.h>
#include <sys/prctl.h>
#endif

static void *map_shared(uint64_t bytes) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}
static pid_t fork_here(void) {
    fflush(stdout);
    pid_t pid = fork();
    CHECK(pid >= 0);
    return pid;
}
static int status_of(pid_t pid) {
    int status = 0;
    pid_t rc;
    while ((rc = waitpid(pid, &status, 0)) < 0 && errno == EINTR) {
    }
    CHECK(rc == pid);
    return status;
}
static void check_exit(pid_t pid) {
    int status = status_of(pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// The two ways to wait; a seat's parker is waited on by either.
typedef int wait_fn(wp_atomic32 *word, uint32_t expected, int64_t timeout_ns);
static wait_fn *const ways[] = {wp_os_wait, wp_os_poll_wait};
#define WAYS (sizeof ways / sizeof *ways)

static void smoke(void) {
    wp_atomic32 word = {0};
    for (uint32_t w = 0; w < WAYS; w++) {
        CHECK_EQ(ways[w](&word, 1, -1), 0); // it differs already
        CHECK_EQ(ways[w](&word, 1, 0), 0);
        CHECK_EQ(ways[w](&word, 0, 0), ETIMEDOUT);
    }
    wp_os_wake(&word); // nobody waits
    wp_os_yield();
    wp_cpu_relax();
}

static void time_goes_on_and_is_the_same_in_every_process(void) {
    int64_t *theirs = map_shared(4096);
    int64_t before = wp_os_now_ns();
    wp_os_sleep_ns(2000000);
    int64_t slept = wp_os_now_ns();
    CHECK(slept >= before + 2000000);
    pid_t pid = fork_here();
    if (pid == 0) {
        *theirs = wp_os_now_ns();
        _exit(0);
    }
    check_exit(pid);
    CHECK(*theirs >= slept && *theirs <= wp_os_now_ns());
    munmap(theirs, 4096);
}

static void a_wait_ends_after_its_time(void) {
    wp_atomic32 word = {7};
    for (uint32_t w = 0; w < WAYS; w++)
        for (int64_t timeout_ns = 1; timeout_ns <= 1000000; timeout_ns *= 100) {
            int64_t begun = wp_os_now_ns();
            CHECK_EQ(ways[w](&word, 7, timeout_ns), ETIMEDOUT);
            CHECK(wp_os_now_ns() - begun >= timeout_ns);
        }
}

static void polling_comes_back_now_and_then_for_signals(void) {
    wp_atomic32 word = {7};
    CHECK_EQ(wp_os_poll_wait(&word, 7, -1), EINTR);
    CHECK_EQ(wp_os_poll_wait(&word, 7, INT64_C(1) << 60), EINTR);
}

// ---- a signal ends a wait, so that an interpreter may look at it

struct waiter {
    wp_atomic32 word;
    wp_atomic32 over;
    int rc;
};
static void on_signal(int number) { (void)number; }
static void *wait_for_signal(void *argument) {
    struct waiter *waiter = argument;
    waiter->rc = wp_os_wait(&waiter->word, 0, -1);
    wp_store_release(&waiter->over, 1);
    return NULL;
}
static void a_signal_ends_a_wait(void) {
    struct sigaction action = {.sa_handler = on_signal}, before;
    CHECK(sigaction(SIGUSR1, &action, &before) == 0); // without SA_RESTART, as CPython
    struct waiter waiter = {0};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, wait_for_signal, &waiter) == 0);
    while (wp_load_acquire(&waiter.over) == 0) {
        pthread_kill(thread, SIGUSR1);
        sched_yield();
    }
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK_EQ(waiter.rc, EINTR);
    sigaction(SIGUSR1, &before, NULL);
}

// ---- ping-pong: a wake that is lost hangs

struct court {
    wp_atomic32 ball[2]; // each waits on its own word, as a seat does
    wait_fn *wait;
    uint32_t rounds;
    uint64_t value; // plain memory
};
struct player {
    struct court *court;
    uint32_t side;
};
static void play(struct court *court, uint32_t side) {
    for (uint32_t round = 1; round <= court->rounds; round++) {
        if (side == 0) {
            court->value = court->value * 3 + round;
            wp_store_release(&court->ball[1], round);
            wp_os_wake(&court->ball[1]);
        }
        while (wp_load_acquire(&court->ball[side]) != round) {
            int rc = court->wait(&court->ball[side], round - 1, -1);
            CHECK(rc == 0 || (rc == EINTR && court->wait == wp_os_poll_wait) || (rc == EINTR && !WP_OS_LINUX));
        }
        if (side == 1) {
            court->value = court->value * 3 + round;
            wp_store_release(&court->ball[0], round);
            wp_os_wake(&court->ball[0]);
        }
    }
}
static void *play_in_thread(void *argument) {
    struct player *player = argument;
    wp_test_gate();
    play(player->court, player->side);
    return NULL;
}
static uint64_t value_after(uint32_t rounds) {
    uint64_t value = 0;
    for (uint32_t round = 1; round <= rounds; round++) value = (value * 3 + round) * 3 + round;
    return value;
}
static void stampede_between_threads(void) {
    for (uint32_t w = 0; w < WAYS; w++) {
        struct court court = {.wait = ways[w], .rounds = wp_test_rounds(w == 0 && WP_OS_LINUX ? 20000 : 500)};
        struct player player[2] = {{&court, 0}, {&court, 1}};
        wp_test_threads(2, play_in_thread, player, sizeof *player);
        CHECK(court.value == value_after(court.rounds));
    }
}
static void stampede_between_processes(void) {
    for (uint32_t w = 0; w < WAYS; w++) {
        struct court *court = map_shared(sizeof *court);
        *court = (struct court){.wait = ways[w], .rounds = wp_test_rounds(w == 0 && WP_OS_LINUX ? 10000 : 500)};
        pid_t pid = fork_here();
        if (pid == 0) {
            alarm(WP_TEST_HANG_SECONDS);
            play(court, 1);
            _exit(0);
        }
        play(court, 0);
        check_exit(pid);
        CHECK(court->value == value_after(court->rounds));
        munmap(court, sizeof *court);
    }
}

// Several waiters may wait on words of one line: each wake is for one word.
#define SLEEPERS 4u
struct bed {
    wp_atomic32 word[SLEEPERS];
    wp_atomic32 woken[SLEEPERS];
    uint32_t rounds;
};
struct sleeper {
    struct bed *bed;
    uint32_t seat; // SLEEPERS: wakes
};
static void *sleep_or_wake(void *argument) {
    struct sleeper *sleeper = argument;
    struct bed *bed = sleeper->bed;
    uint32_t seat = sleeper->seat;
    uint64_t random = wp_test_stream(seat);
    wp_test_gate();
    if (seat < SLEEPERS) {
        for (uint32_t round = 1; round <= bed->rounds; round++) {
            while (wp_load_acquire(&bed->word[seat]) < round) wp_os_wait(&bed->word[seat], round - 1, -1);
            wp_store_release(&bed->woken[seat], round);
        }
        return NULL;
    }
    uint32_t left = SLEEPERS * bed->rounds;
    while (left > 0) {
        uint32_t who = wp_test_below(&random, SLEEPERS), round = wp_load_acquire(&bed->woken[who]);
        if (round == bed->rounds || wp_load_relaxed(&bed->word[who]) != round) {
            sched_yield();
            continue;
        }
        wp_store_release(&bed->word[who], round + 1);
        wp_os_wake(&bed->word[who]);
        left--;
    }
    return NULL;
}
static void storm_of_sleepers(void) {
    struct bed bed = {.rounds = wp_test_rounds(WP_OS_LINUX ? 5000 : 300)};
    struct sleeper sleeper[SLEEPERS + 1];
    for (uint32_t i = 0; i <= SLEEPERS; i++) sleeper[i] = (struct sleeper){&bed, i};
    wp_test_threads(SLEEPERS + 1, sleep_or_wake, sleeper, sizeof *sleeper);
    for (uint32_t i = 0; i < SLEEPERS; i++) CHECK_EQ(wp_load_relaxed(&bed.woken[i]), bed.rounds);
}

#if WP_OS_LINUX

static void an_eventfd_is_signalled_and_never_blocks(void) {
    int fd = eventfd(0, EFD_NONBLOCK);
    uint64_t count = 0, most = UINT64_MAX - 1;
    CHECK(fd >= 0);
    wp_os_eventfd_signal(fd);
    wp_os_eventfd_signal(fd);
    CHECK(read(fd, &count, sizeof count) == (ssize_t)sizeof count && count == 2);
    CHECK(write(fd, &most, sizeof most) == (ssize_t)sizeof most);
    wp_os_eventfd_signal(fd); // full
    CHECK(read(fd, &count, sizeof count) == (ssize_t)sizeof count && count == most);
    wp_os_eventfd_signal(-1); // a seat without one
    close(fd);
}

static void an_eventfd_is_signalled_from_another_process(void) {
    int fd = eventfd(0, 0);
    uint64_t count = 0;
    pid_t pid = fork_here();
    if (pid == 0) {
        wp_os_eventfd_signal(fd);
        _exit(0);
    }
    CHECK(read(fd, &count, sizeof count) == (ssize_t)sizeof count && count == 1);
    check_exit(pid);
    close(fd);
}

static int memory_file(void) {
    int fd = memfd_create("test_os", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    CHECK(fd >= 0);
    return fd;
}
static uint8_t *map_file(int fd, uint64_t bytes) {
    uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

static void what_is_reserved_is_there_and_what_is_punched_reads_as_zeros(void) {
    int fd = memory_file();
    const uint64_t bytes = 1 << 20;
    CHECK_EQ(wp_os_reserve(fd, 0, (int64_t)bytes), 0);
    CHECK_EQ(wp_os_reserve(fd, 4096, 4096), 0); // again
    uint8_t *memory = map_file(fd, bytes);
    memset(memory, 1, bytes);
    CHECK_EQ(wp_os_punch(fd, 65536, 65536), 0);
    CHECK(memory[65535] == 1 && memory[65536] == 0 && memory[131071] == 0 && memory[131072] == 1);
    CHECK_EQ(wp_os_reserve(fd, 65536, 65536), 0);
    memory[65536] = 1;
    CHECK_EQ(wp_os_reserve(-1, 0, 4096), EBADF);
    CHECK_EQ(wp_os_punch(-1, 0, 4096), EBADF);
    munmap(memory, bytes);
    close(fd);
}

static void a_file_that_may_not_grow_is_an_error_and_no_signal(void) {
    int fd = memory_file();
    CHECK(ftruncate(fd, 65536) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_GROW) == 0);
    CHECK_EQ(wp_os_reserve(fd, 0, 65536), 0);
    CHECK(wp_os_reserve(fd, 0, 65537) != 0);
    close(fd);
}

// A /dev/shm of 64 KiB, for a child alone, where that may be made.
static void a_full_file_system_is_an_error_and_no_signal(void) {
    char folder[] = "/tmp/wp_test_os_XXXXXX";
    CHECK(mkdtemp(folder) != NULL);
    pid_t pid = fork_here();
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
            mount("none", folder, "tmpfs", 0, "size=64k") != 0)
            _exit(77);
        char name[64];
        snprintf(name, sizeof name, "%s/file", folder);
        int fd = open(name, O_RDWR | O_CREAT, 0600);
        CHECK(fd >= 0 && ftruncate(fd, 1 << 20) == 0);
        CHECK_EQ(wp_os_reserve(fd, 0, 32768), 0);
        CHECK_EQ(wp_os_reserve(fd, 0, 1 << 20), ENOSPC);
        uint8_t *memory = map_file(fd, 1 << 20);
        memset(memory, 1, 32768); // what was reserved before stays so
        _exit(0);
    }
    int status = status_of(pid);
    CHECK(rmdir(folder) == 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
        printf("    no mount here: not run\n");
    else
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void a_forked_child_does_not_see_what_is_not_for_it(void) {
#ifdef WP_TEST_EMULATED
    printf("    qemu ignores MADV_DONTFORK: not run\n");
#else
    uint64_t bytes = 4 * 4096;
    uint8_t *memory = map_shared(bytes), *other = map_shared(bytes);
    CHECK_EQ(wp_os_dont_fork(memory, bytes), 0);
    CHECK(wp_os_dont_fork(memory + 1, bytes) != 0); // not on a page
    memory[0] = other[0] = 1;
    pid_t pid = fork_here();
    if (pid == 0) {
        unsigned char pages[4];
        bool seen = mincore(memory, bytes, pages) == 0 || errno != ENOMEM;
        _exit(seen || mincore(other, bytes, pages) != 0);
    }
    check_exit(pid);
    CHECK(memory[0] == 1);
    munmap(memory, bytes), munmap(other, bytes);
#endif
}

// The test forks a parent, which forks a worker; the parent is killed, and the worker
// must go though it is deep in C code and blocks every signal it can.
static void a_worker_ends_when_its_parent_is_killed(void) {
    int ready[2];
    CHECK(pipe(ready) == 0);
    bool reaps = prctl(PR_SET_CHILD_SUBREAPER, 1) == 0; // the worker becomes the test's child
    pid_t *worker = map_shared(4096);
    pid_t parent = fork_here();
    if (parent == 0) {
        int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
        CHECK(pidfd >= 0);
        if (fork() == 0) {
            *worker = getpid();
            sigset_t all, mask;
            sigfillset(&all);
            CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
            CHECK(wp_os_watch_parent(pidfd, -1) == 0);
            sigset_t after;
            CHECK(pthread_sigmask(SIG_SETMASK, NULL, &after) == 0);
            CHECK(sigismember(&mask, SIGINT) == 0 && sigismember(&after, SIGINT) == 0); // as it was
            CHECK(pthread_sigmask(SIG_SETMASK, &all, NULL) == 0);
            CHECK(write(ready[1], "w", 1) == 1);
            for (;;) wp_cpu_relax();
        }
        for (;;) pause();
    }
    char byte;
    CHECK(read(ready[0], &byte, 1) == 1);
    close(ready[1]);              // the parent and the worker alone hold it now
    CHECK(kill(*worker, 0) == 0); // while the parent lives, it lives
    kill(parent, SIGKILL);
    CHECK(WIFSIGNALED(status_of(parent)));
    CHECK(read(ready[0], &byte, 1) == 0); // the worker is gone, or this hangs
    if (reaps) {
        int status = status_of(*worker);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
        CHECK(prctl(PR_SET_CHILD_SUBREAPER, 0) == 0);
    } else {
        printf("    no subreaper here: its exit status was not seen\n");
    }
    munmap(worker, 4096);
    close(ready[0]);
}

#define LINUX_TESTS                                                                                                    \
    WP_TEST(an_eventfd_is_signalled_and_never_blocks), WP_TEST(an_eventfd_is_signalled_from_another_process),          \
        WP_TEST(what_is_reserved_is_there_and_what_is_punched_reads_as_zeros),                                         \
        WP_TEST(a_file_that_may_not_grow_is_an_error_and_no_signal),                                                   \
        WP_TEST(a_full_file_system_is_an_error_and_no_signal),                                                         \
        WP_TEST(a_forked_child_does_not_see_what_is_not_for_it), WP_TEST(a_worker_ends_when_its_parent_is_killed)
#else
static void what_the_system_lacks_is_told_or_does_nothing(void) {
    CHECK_EQ(wp_os_watch_parent(0, -1), ENOSYS);
    CHECK_EQ(wp_os_reserve(-1, 0, 4096), 0);
    CHECK_EQ(wp_os_dont_fork(NULL, 4096), 0);
    wp_os_eventfd_signal(-1);
}
#define LINUX_TESTS WP_TEST(what_the_system_lacks_is_told_or_does_nothing)
#endif

int main(int argc, char **argv) {
    static const struct wp_test tests[] = {
        WP_TEST(smoke),
        WP_TEST(time_goes_on_and_is_the_same_in_every_process),
        WP_TEST(a_wait_ends_after_its_time),
        WP_TEST(polling_comes_back_now_and_then_for_signals),
        WP_TEST(a_signal_ends_a_wait),
        WP_TEST(stampede_between_threads),
        WP_TEST(stampede_between_processes),
        WP_TEST(storm_of_sleepers),
        LINUX_TESTS,
    };
    return wp_test_main(tests, sizeof tests / sizeof *tests, argc, argv);
}
