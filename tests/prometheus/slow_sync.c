/* A disk in trouble: laid before the C library with LD_PRELOAD, syncs take 0.7 s longer for as long as the file SLOW_SYNC
   exists, and do not end for as long as the file HUNG_SYNC does. */
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_there(const char *name) {
    const char *file = getenv(name);
    return file && access(file, F_OK) == 0;
}

static void linger(void) {
    if (is_there("SLOW_SYNC")) usleep(700000);
    while (is_there("HUNG_SYNC")) usleep(20000);
}

int fdatasync(int file) {
    linger();
    return (int)syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    linger();
    return (int)syscall(SYS_fsync, file);
}
