// A time of day that is off by a number of seconds, which the test changes while the process runs.
// In: a file, named by CHAOS_CLOCK, with the offset as eight bytes. Out: the functions of the C
// library that read the time of day, and those that wait for it, as after a step of the clock: a
// wait that had begun before a step back lasts longer by it, as the kernel's would.
//
// Nothing here asks the dynamic linker for the functions it replaces: the allocator of the process
// is not ready when this is loaded.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static const int64_t SECOND_NS = 1000000000;
// A step is noticed within this time.
static const int64_t LOOK_NS = 20000000;

static const volatile int64_t *offset_s;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CHAOS_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    void *page = mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, file, 0);
    if (page == MAP_FAILED)
        abort();
    close(file);
    offset_s = page;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    int result = (int)syscall(SYS_clock_gettime, clock, at);
    if (result == 0 && offset_s && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        at->tv_sec += *offset_s;
    return result;
}

int gettimeofday(struct timeval *at, void *zone) {
    (void)zone;
    struct timespec now;
    int result = clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return result;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex,
                           const struct timespec *until) {
    for (;;) {
        struct timespec now, look;
        clock_gettime(CLOCK_REALTIME, &now);
        clock_gettime(CLOCK_MONOTONIC, &look);
        int64_t left_ns = (until->tv_sec - now.tv_sec) * SECOND_NS + until->tv_nsec - now.tv_nsec;
        int64_t step_ns = left_ns < 0 ? 0 : left_ns < LOOK_NS ? left_ns : LOOK_NS;
        look.tv_nsec += step_ns;
        look.tv_sec += look.tv_nsec / SECOND_NS;
        look.tv_nsec %= SECOND_NS;
        int result = pthread_cond_clockwait(condition, mutex, CLOCK_MONOTONIC, &look);
        if (result != ETIMEDOUT || left_ns <= step_ns)
            return result;
    }
}

// librdkafka waits by this name. It is the same thing underneath, and calls it by no name.
int cnd_timedwait(cnd_t *condition, mtx_t *mutex, const struct timespec *until) {
    int result = pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until);
    return result == 0 ? thrd_success : result == ETIMEDOUT ? thrd_timedout : thrd_error;
}
