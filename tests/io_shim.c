/* read() of files whose path contains FAULT_NAME fails from byte FAULT_FROM on: FAULT_TIMES times a process, or always. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t read(int fd, void *buffer, size_t count) {
    static ssize_t (*plain)(int, void *, size_t);
    static int failed;
    const char *name = getenv("FAULT_NAME"), *from = getenv("FAULT_FROM"), *times = getenv("FAULT_TIMES");
    char link[64], path[4096];
    ssize_t length;
    if (!plain) plain = (ssize_t (*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = name && from ? readlink(link, path, sizeof path - 1) : -1;
    if (length > 0) {
        path[length] = 0;
        if (strstr(path, name) && lseek(fd, 0, SEEK_CUR) >= atol(from) && (!times || failed < atoi(times))) {
            failed++;
            errno = EIO;
            return -1;
        }
    }
    return plain(fd, buffer, count);
}
