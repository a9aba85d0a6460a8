// LD_PRELOAD: CLOCK_REALTIME jumps by hours and years every 200 ms, all other clocks are left alone (reliability.md
// §7).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

static const long long jumps_s[] = {0, 3600, -3600, 315360000, -315360000, -1, 1, -1900000000};

static int real_clock(clockid_t id, struct timespec* at) {
    static int (*next)(clockid_t, struct timespec*);
    if (!next) next = (int (*)(clockid_t, struct timespec*))dlsym(RTLD_NEXT, "clock_gettime");
    return next(id, at);
}

int clock_gettime(clockid_t id, struct timespec* at) {
    int failed = real_clock(id, at);
    if (failed || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE)) return failed;
    struct timespec steady;
    real_clock(CLOCK_MONOTONIC, &steady);
    long long fifths = steady.tv_sec * 5LL + steady.tv_nsec / 200000000LL;
    at->tv_sec += jumps_s[fifths % (sizeof jumps_s / sizeof *jumps_s)];
    return 0;
}

time_t time(time_t* out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out) *out = at.tv_sec;
    return at.tv_sec;
}

int gettimeofday(struct timeval* restrict at, void* restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}
