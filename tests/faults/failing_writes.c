/* Makes the n-th write or sync of a PostgreSQL fail, for test_io_errors.py: an LD_PRELOAD library.

   FAULTS names a file of four counters that all its processes share: the kind that is to fail (1 sync, 2
   write, 0 none), which call of that kind, how many there were since, how many have failed. Only regular
   files count, and stderr does not. A failed sync says EIO, a failed write ENOSPC. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { SYNC = 1, WRITE = 2 };
static volatile long *faults; /* kind, nth, seen, failed */

__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("FAULTS"), O_RDWR | O_CLOEXEC);
    void *shared = mmap(NULL, 4 * sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd < 0 || shared == MAP_FAILED) abort();
    faults = shared;
    close(fd);
}

static int fails(int fd, int kind) {
    struct stat facts;
    if (faults == NULL || faults[0] != kind || fd == 2 || fstat(fd, &facts) || !S_ISREG(facts.st_mode)) return 0;
    if (__sync_add_and_fetch(&faults[2], 1) != faults[1]) return 0;
    __sync_add_and_fetch(&faults[3], 1);
    errno = kind == SYNC ? EIO : ENOSPC;
    return 1;
}

#define WRAP(type, name, kind, takes, gives)                                  \
    type name takes {                                                         \
        static type(*real) takes;                                             \
        if (real == NULL) real = (type(*) takes)dlsym(RTLD_NEXT, #name);      \
        return fails(fd, kind) ? -1 : real gives;                             \
    }

WRAP(int, fsync, SYNC, (int fd), (fd))
WRAP(int, fdatasync, SYNC, (int fd), (fd))
WRAP(ssize_t, write, WRITE, (int fd, const void *from, size_t size), (fd, from, size))
WRAP(ssize_t, pwrite, WRITE, (int fd, const void *from, size_t size, off_t at), (fd, from, size, at))
WRAP(ssize_t, pwritev, WRITE, (int fd, const struct iovec *from, int parts, off_t at), (fd, from, parts, at))
