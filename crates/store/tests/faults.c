/* A disk that fails on demand, for tests/faults.rs: preloaded before libc, it reads the directory $FAULTS.
 *
 *   room      the maximum size of a state file, in bytes (ENOSPC)
 *   flush     state files cannot be flushed (EIO)
 *   readonly  state files cannot be opened for writing (EROFS)
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_state_file(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "/state.") != NULL;
}

/* The number in the file of that name, -1 if it is empty, or `none` if there is no such file. */
static long long fault(const char *name, long long none) {
    char path[PATH_MAX];
    const char *directory = getenv("FAULTS");
    if (directory == NULL) return none;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "re");
    if (file == NULL) return none;
    long long number = -1;
    if (fscanf(file, "%lld", &number) != 1) number = -1;
    fclose(file);
    return number;
}

static int full(int fd, off_t end) {
    int saved = errno;
    int answer = is_state_file(fd) && end > fault("room", LLONG_MAX);
    errno = answer ? ENOSPC : saved;
    return answer;
}

static int broken(int fd) {
    int saved = errno;
    int answer = is_state_file(fd) && fault("flush", LLONG_MAX) != LLONG_MAX;
    errno = answer ? EIO : saved;
    return answer;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    static ssize_t (*real)(int, const void *, size_t);
    if (real == NULL) real = dlsym(RTLD_NEXT, "write");
    int saved = errno;
    off_t at = lseek(fd, 0, SEEK_CUR);
    errno = saved;
    if (at >= 0 && full(fd, at + (off_t)count)) return -1;
    return real(fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    static ssize_t (*real)(int, const void *, size_t, off64_t);
    if (real == NULL) real = dlsym(RTLD_NEXT, "pwrite64");
    if (full(fd, at + (off_t)count)) return -1;
    return real(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return pwrite64(fd, bytes, count, at);
}

int fsync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = dlsym(RTLD_NEXT, "fsync");
    return broken(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    static int (*real)(int);
    if (real == NULL) real = dlsym(RTLD_NEXT, "fdatasync");
    return broken(fd) ? -1 : real(fd);
}

#define OPEN(name, parameters, arguments)                                                        \
    int name parameters {                                                                        \
        static int (*real) parameters;                                                           \
        if (real == NULL) real = dlsym(RTLD_NEXT, #name);                                        \
        va_list rest;                                                                            \
        va_start(rest, flags);                                                                   \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                \
        va_end(rest);                                                                            \
        if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) && strstr(path, "/state.") != NULL           \
            && fault("readonly", LLONG_MAX) != LLONG_MAX) {                                      \
            errno = EROFS;                                                                       \
            return -1;                                                                           \
        }                                                                                        \
        return real arguments;                                                                   \
    }
OPEN(open, (const char *path, int flags, ...), (path, flags, mode))
OPEN(open64, (const char *path, int flags, ...), (path, flags, mode))
OPEN(openat, (int at, const char *path, int flags, ...), (at, path, flags, mode))
OPEN(openat64, (int at, const char *path, int flags, ...), (at, path, flags, mode))
