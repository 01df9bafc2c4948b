/* Records all operations of a process on the files of one directory, for power_loss.rs: preloaded before libc, it
 * performs each call and appends it to $RECORD_LOG, under one lock, so that the log has the order of the calls. The
 * directory is $RECORD, without a trailing slash. Writes through a mapping are not recorded; only SQLite's -shm is
 * mapped, and SQLite creates it again when no process has it open.
 *
 * An entry: kind (1 byte), inode (8), offset or length (8), length of the name (4), length of the bytes (4), the
 * name, the bytes; numbers in native byte order.
 *
 *   c name    a new, empty file          w bytes   written at an offset       t   truncated or extended
 *   s         a file is flushed          d         the directory is flushed
 *   r name    renamed to the bytes       l name    a further name of a file   u name   a name is removed
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

/* The part of the path below the directory; "" for the directory itself, NULL for any other path. */
static const char *below(const char *path) {
    const char *root = getenv("RECORD");
    size_t length = root == NULL ? 0 : strlen(root);
    if (length == 0 || strncmp(path, root, length) != 0) return NULL;
    if (path[length] == 0) return "";
    return path[length] == '/' ? path + length + 1 : NULL;
}

/* The same for an open file; `path` has PATH_MAX bytes. */
static const char *name_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return NULL;
    path[length] = 0;
    return below(path);
}

static uint64_t inode(int fd) {
    struct stat found;
    return fstat(fd, &found) == 0 ? found.st_ino : 0;
}

static void note(char kind, uint64_t file, int64_t at, const char *name, const void *bytes, size_t count) {
    static int log = -1;
    int saved = errno;
    /* Not by open(), which is replaced here and would wait for the lock. */
    if (log < 0) log = (int)syscall(SYS_openat, AT_FDCWD, getenv("RECORD_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    uint32_t lengths[2] = {(uint32_t)strlen(name), (uint32_t)count};
    struct iovec parts[] = {{&kind, 1}, {&file, 8}, {&at, 8}, {lengths, 8}, {(void *)name, lengths[0]}, {(void *)bytes, count}};
    if (writev(log, parts, 6) != (ssize_t)(25 + lengths[0] + count)) abort();
    errno = saved;
}

static int opened(int (*real)(int, const char *, int, ...), int dir, const char *path, int flags, mode_t mode) {
    char found[PATH_MAX];
    pthread_mutex_lock(&order);
    int there = faccessat(dir, path, F_OK, 0) == 0;
    int fd = real(dir, path, flags, mode);
    const char *name = fd < 0 ? NULL : name_of(fd, found);
    if (name != NULL && *name != 0) {
        if (!there) note('c', inode(fd), 0, name, "", 0);
        else if (flags & O_TRUNC) note('t', inode(fd), 0, name, "", 0);
    }
    pthread_mutex_unlock(&order);
    return fd;
}

#define OPEN(name, parameters, dir)                                                                  \
    int name parameters {                                                                            \
        va_list rest;                                                                                \
        va_start(rest, flags);                                                                       \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                    \
        va_end(rest);                                                                                \
        REAL(openat);                                                                                \
        return opened(real, dir, path, flags, mode);                                                 \
    }
OPEN(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN(openat, (int at, const char *path, int flags, ...), at)
OPEN(openat64, (int at, const char *path, int flags, ...), at)

/* Performs `call` on `fd`, and records it if it changed one of the files of the directory. */
#define DONE(fd, call, kind, at, bytes, count)                                                       \
    char path[PATH_MAX];                                                                             \
    pthread_mutex_lock(&order);                                                                      \
    const char *name = name_of(fd, path);                                                            \
    __typeof__(call) answer = call;                                                                  \
    if (name != NULL && answer >= 0) note(kind, inode(fd), at, name, bytes, count);                  \
    pthread_mutex_unlock(&order);                                                                    \
    return answer

ssize_t write(int fd, const void *bytes, size_t count) {
    REAL(write);
    /* The offset after the write minus its length, which is also right for files opened for appending. */
    DONE(fd, real(fd, bytes, count), 'w', lseek(fd, 0, SEEK_CUR) - answer, bytes, (size_t)answer);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    REAL(pwrite64);
    DONE(fd, real(fd, bytes, count, at), 'w', at, bytes, (size_t)answer);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return pwrite64(fd, bytes, count, at);
}

int ftruncate64(int fd, off64_t length) {
    REAL(ftruncate64);
    DONE(fd, real(fd, length), 't', length, "", 0);
}

int ftruncate(int fd, off_t length) {
    return ftruncate64(fd, length);
}

int fsync(int fd) {
    REAL(fsync);
    DONE(fd, real(fd), *name == 0 ? 'd' : 's', 0, "", 0);
}

int fdatasync(int fd) {
    REAL(fdatasync);
    DONE(fd, real(fd), *name == 0 ? 'd' : 's', 0, "", 0);
}

int unlink(const char *path) {
    REAL(unlink);
    pthread_mutex_lock(&order);
    int answer = real(path);
    const char *name = below(path);
    if (name != NULL && answer == 0) note('u', 0, 0, name, "", 0);
    pthread_mutex_unlock(&order);
    return answer;
}

static int named(char kind, int answer, const char *from, const char *to) {
    const char *old = below(from), *new = below(to);
    /* A file moved into or out of the directory would make the record incomplete. */
    if ((old == NULL) != (new == NULL)) abort();
    if (old != NULL && answer == 0) note(kind, 0, 0, old, new, strlen(new));
    pthread_mutex_unlock(&order);
    return answer;
}

int rename(const char *from, const char *to) {
    REAL(rename);
    pthread_mutex_lock(&order);
    return named('r', real(from, to), from, to);
}

int link(const char *from, const char *to) {
    REAL(link);
    pthread_mutex_lock(&order);
    return named('l', real(from, to), from, to);
}

int linkat(int at, const char *from, int to_at, const char *to, int flags) {
    REAL(linkat);
    pthread_mutex_lock(&order);
    return named('l', real(at, from, to_at, to, flags), from, to);
}
