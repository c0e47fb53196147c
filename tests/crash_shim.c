/* Counts the calls with which a process changes a disk, and at the k-th of them fails the call or ends the process.
 *
 * Loaded with LD_PRELOAD; does nothing until crash_arm() is called. Standard streams and descriptors of anything but
 * regular files and folders do not count. Modes: see the enum; the driver in crash_storage.py names them in this order.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL_BEFORE, KILL_HALF, KILL_AFTER, FAIL_ONCE, FAIL_FROM_HERE, SHORT_WRITE };

static long calls, at;
static int mode, failure, armed;
static pid_t owner;

void crash_arm(long k, int how, int error) { calls = 0, at = k, mode = how, failure = error, owner = getpid(), armed = 1; }
long crash_calls(void) { armed = 0; return calls; }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int on_disk(int fd) {
    struct stat s;
    return fd > 2 && !fstat(fd, &s) && (S_ISREG(s.st_mode) || S_ISDIR(s.st_mode));
}

/* 0: go on; 1: fail with errno set; 2: half of it, then end; 3: all of it, then end; 4: write less than asked */
static int verdict(int counted, int frees) {
    if (!armed || !counted || getpid() != owner) return 0;
    ++calls;
    if (mode == FAIL_FROM_HERE && calls >= at && !frees) { errno = failure; return 1; }
    if (calls != at) return 0;
    switch (mode) {
    case KILL_BEFORE: die();
    case KILL_HALF: return 2;
    case KILL_AFTER: return 3;
    case FAIL_ONCE: errno = failure; return 1;
    case SHORT_WRITE: return 4;
    }
    return 0;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define PLAIN(type, name, parameters, arguments, counted, frees) \
    type name parameters {                                       \
        REAL(name);                                              \
        int v = verdict(counted, frees);                         \
        if (v == 1) return -1;                                   \
        type result = real arguments;                            \
        if (v == 2 || v == 3) die();                             \
        return result;                                           \
    }

#define WRITE(name, parameters, whole, half)                 \
    ssize_t name parameters {                                \
        REAL(name);                                          \
        int v = verdict(on_disk(fd), 0);                     \
        if (v == 1) return -1;                               \
        ssize_t result = (v == 2 || v == 4) ? real half : real whole; \
        if (v == 2 || v == 3) die();                         \
        return result;                                       \
    }

#define HALF(n) ((n) > 1 ? (n) / 2 : (n))

WRITE(write, (int fd, const void *data, size_t n), (fd, data, n), (fd, data, HALF(n)))
WRITE(pwrite, (int fd, const void *data, size_t n, off_t o), (fd, data, n, o), (fd, data, HALF(n), o))
WRITE(pwrite64, (int fd, const void *data, size_t n, off64_t o), (fd, data, n, o), (fd, data, HALF(n), o))
WRITE(writev, (int fd, const struct iovec *v_, int n), (fd, v_, n), (fd, v_, HALF(n)))
WRITE(pwritev, (int fd, const struct iovec *v_, int n, off_t o), (fd, v_, n, o), (fd, v_, HALF(n), o))

PLAIN(int, ftruncate, (int fd, off_t n), (fd, n), on_disk(fd), 0)
PLAIN(int, ftruncate64, (int fd, off64_t n), (fd, n), on_disk(fd), 0)
PLAIN(int, truncate, (const char *path, off_t n), (path, n), 1, 0)
PLAIN(int, truncate64, (const char *path, off64_t n), (path, n), 1, 0)
PLAIN(int, fsync, (int fd), (fd), on_disk(fd), 0)
PLAIN(int, fdatasync, (int fd), (fd), on_disk(fd), 0)
PLAIN(int, rename, (const char *a, const char *b), (a, b), 1, 0)
PLAIN(int, renameat, (int da, const char *a, int db, const char *b), (da, a, db, b), 1, 0)
PLAIN(int, link, (const char *a, const char *b), (a, b), 1, 0)
PLAIN(int, symlink, (const char *a, const char *b), (a, b), 1, 0)
PLAIN(int, unlink, (const char *path), (path), 1, 1)
PLAIN(int, unlinkat, (int d, const char *path, int flags), (d, path, flags), 1, 1)
PLAIN(int, rmdir, (const char *path), (path), 1, 1)
PLAIN(int, mkdir, (const char *path, mode_t m), (path, m), 1, 0)
PLAIN(int, mkdirat, (int d, const char *path, mode_t m), (d, path, m), 1, 0)

#define OPEN(name, parameters, arguments)                    \
    int name parameters {                                    \
        va_list list;                                        \
        va_start(list, flags);                               \
        mode_t m = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(list, mode_t) : 0; \
        va_end(list);                                        \
        REAL(name);                                          \
        int v = verdict(flags & (O_CREAT | O_TRUNC), 0);     \
        if (v == 1) return -1;                               \
        int result = real arguments;                         \
        if (v == 2 || v == 3) die();                         \
        return result;                                       \
    }

OPEN(open, (const char *path, int flags, ...), (path, flags, m))
OPEN(open64, (const char *path, int flags, ...), (path, flags, m))
OPEN(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, m))
OPEN(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, m))
