/* Moves the wall clock of one process by the seconds in a file, and leaves its other clocks alone.
 *
 * Loaded with LD_PRELOAD. The file is named by STAMP_WALL_CLOCK_FILE and read at every call: eight
 * bytes, a signed number of the machine's own byte order. No file means no shift. */

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t shift_s(void) {
    const char *path = getenv("STAMP_WALL_CLOCK_FILE");
    int64_t shift = 0;
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file >= 0) {
        if (read(file, &shift, sizeof shift) != sizeof shift) {
            shift = 0;
        }
        close(file);
    }
    return shift;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        now->tv_sec += shift_s();
    }
    return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    (void)zone;
    struct timespec exact;
    int failed = clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return failed;
}

time_t time(time_t *result) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (result) {
        *result = exact.tv_sec;
    }
    return exact.tv_sec;
}
