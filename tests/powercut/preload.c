/* Logs everything a program does to the files below a directory, in the order in which it took effect.
 *
 * Loaded by LD_PRELOAD into the server and its command line under test_powercut.py; disk.py reads the log and rebuilds
 * what a disk may hold after a power cut at any place of it. A mutex is held across each real call and the record of
 * it, so the order of records is the order of effects. Syncs are two records, begun and done: what was written before
 * the first is durable from the second on. They do not reach the real disk, they only take a while.
 *
 * What is not intercepted here (io_uring, stdio, writable mappings, direct system calls) shows in the end: the test
 * compares the files that the log tells of with the real ones. sync_file_range and msync promise nothing by themselves
 * that survives a power cut, so they are left alone.
 *
 *   POWERCUT_DIR      the directory: absolute, without symbolic links
 *   POWERCUT_LOG      where the log goes: not below the directory
 *   POWERCUT_SYNC_US  how long a sync takes, in microseconds
 *   POWERCUT_DIE_AT   SIGKILL ourselves once the log is so long: no call is under way then whose record is missing
 */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum { PARTS = 1024, INODES = 1 << 16 };

/* The payload follows: the bytes written, or one path, or two with a NUL between them, relative to the directory. */
struct record {
    uint32_t size; /* of the record with its payload */
    uint32_t kind;
    uint64_t inode;
    uint64_t value; /* an offset, a length, a sync's number, whether an open created the file */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX];
static dev_t device;
static int log_fd = -1;
static off_t die_at;
static unsigned sync_us;
static uint64_t syncs;
/* The inodes ever opened or made below the directory: a hash table without removal. */
static uint64_t inodes[INODES];

static void fail(const char *what) {
    fprintf(stderr, "powercut: %s: %s\n", what, strerror(errno));
    abort();
}

__attribute__((constructor)) static void begin(void) {
    const char *dir = getenv("POWERCUT_DIR"), *log = getenv("POWERCUT_LOG");
    const char *die = getenv("POWERCUT_DIE_AT"), *us = getenv("POWERCUT_SYNC_US");
    struct stat st;
    if (!dir || !log) return;
    if (strlen(dir) >= sizeof root || stat(dir, &st) != 0) fail(dir);
    strcpy(root, dir);
    device = st.st_dev;
    die_at = die ? atoll(die) : 0;
    sync_us = us ? (unsigned)atoi(us) : 0;
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) fail(log);
}

/* -- the log: with the mutex held ---------------------------------------------------------------------------------- */

static void append(uint32_t kind, uint64_t inode, uint64_t value, const struct iovec *payload, int parts,
                   size_t length) {
    struct record head = {(uint32_t)(sizeof head + length), kind, inode, value};
    struct iovec all[PARTS + 1] = {{&head, sizeof head}};
    int count = 1;
    for (size_t left = length; left > 0 && count <= parts; count++) {
        all[count] = payload[count - 1];
        if (all[count].iov_len > left) all[count].iov_len = left;
        left -= all[count].iov_len;
    }
    if (syscall(SYS_writev, log_fd, all, count) != (long)head.size) fail("writing the log");
    if (die_at && lseek(log_fd, 0, SEEK_CUR) >= die_at) {
        kill(getpid(), SIGKILL);
        pause();
    }
}

static void append_text(uint32_t kind, uint64_t inode, uint64_t value, const char *text, size_t length) {
    struct iovec payload = {(void *)text, length};
    append(kind, inode, value, &payload, 1, length);
}

static void append_two(uint32_t kind, uint64_t inode, const char *from, const char *to) {
    struct iovec payload[2] = {{(void *)from, strlen(from) + 1}, {(void *)to, strlen(to)}};
    append(kind, inode, 0, payload, 2, payload[0].iov_len + payload[1].iov_len);
}

static uint64_t *slot(uint64_t inode) {
    uint64_t at = inode * 0x9e3779b97f4a7c15u % INODES;
    for (int tried = 0; inodes[at] != 0 && inodes[at] != inode; at = (at + 1) % INODES)
        if (++tried == INODES) fail("too many files");
    return &inodes[at];
}

static void remember(uint64_t inode) { *slot(inode) = inode; }

/* Whether `fd` is a file or a directory of ours; gives its inode. */
static int ours(int fd, uint64_t *inode) {
    struct stat st;
    if (log_fd < 0 || fstat(fd, &st) != 0 || st.st_dev != device) return 0;
    if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) return 0;
    *inode = st.st_ino;
    return *slot(st.st_ino) != 0;
}

/* -- paths --------------------------------------------------------------------------------------------------------- */

/* Takes ".", ".." and empty parts out of an absolute path, in place. */
static void normalize(char *path) {
    char *out = path;
    for (char *in = path; *in;) {
        while (*in == '/') in++;
        size_t part = strcspn(in, "/");
        if (part == 2 && in[0] == '.' && in[1] == '.') {
            while (out > path && *--out != '/') continue;
        } else if (part > 0 && !(part == 1 && in[0] == '.')) {
            *out++ = '/';
            memmove(out, in, part);
            out += part;
        }
        in += part;
    }
    *out = 0;
}

/* Whether the path is the directory or below it; gives it relative to that. */
static int below(int dir, const char *path, char relative[PATH_MAX]) {
    char whole[2 * PATH_MAX + 2] = "", link[64];
    size_t length = strlen(root);
    if (log_fd < 0 || !path || strlen(path) >= PATH_MAX) return 0;
    if (path[0] != '/') {
        snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
        if (readlink(link, whole, PATH_MAX) < 0) return 0;
        strcat(whole, "/");
    }
    strcat(whole, path);
    normalize(whole);
    if (strncmp(whole, root, length) != 0 || (whole[length] != 0 && whole[length] != '/')) return 0;
    const char *rest = whole[length] ? whole + length + 1 : "";
    if (strlen(rest) >= PATH_MAX) return 0;
    strcpy(relative, rest);
    return 1;
}

/* The inode of a name; 0 where there is none. */
static uint64_t inode_at(int dir, const char *path) {
    struct stat st;
    int before = errno;
    uint64_t inode = fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_ino : 0;
    errno = before;
    return inode;
}

/* -- opening ------------------------------------------------------------------------------------------------------- */

static int open_any(int dir, const char *path, int flags, mode_t mode) {
    char relative[PATH_MAX];
    if (!below(dir, path, relative)) return (int)syscall(SYS_openat, dir, path, flags, mode);
    pthread_mutex_lock(&mutex);
    int made = (flags & O_CREAT) && inode_at(dir, path) == 0;
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0) {
        remember(st.st_ino);
        append_text('O', st.st_ino, (uint64_t)made, relative, strlen(relative));
        if ((flags & O_TRUNC) && !made) append_text('T', st.st_ino, 0, "", 0);
    }
    pthread_mutex_unlock(&mutex);
    return fd;
}

static mode_t mode_of(int flags, va_list rest) {
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(rest, mode_t) : 0;
}

#define OPEN(name)                                         \
    int name(const char *path, int flags, ...) {           \
        va_list rest;                                      \
        va_start(rest, flags);                             \
        mode_t mode = mode_of(flags, rest);                \
        va_end(rest);                                      \
        return open_any(AT_FDCWD, path, flags, mode);      \
    }
#define OPENAT(name)                                       \
    int name(int dir, const char *path, int flags, ...) {  \
        va_list rest;                                      \
        va_start(rest, flags);                             \
        mode_t mode = mode_of(flags, rest);                \
        va_end(rest);                                      \
        return open_any(dir, path, flags, mode);           \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { return open_any(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }
/* What open becomes in programs built with _FORTIFY_SOURCE. */
int __open_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_any(AT_FDCWD, path, flags, 0); }
int __openat_2(int dir, const char *path, int flags) { return open_any(dir, path, flags, 0); }
int __openat64_2(int dir, const char *path, int flags) { return open_any(dir, path, flags, 0); }

/* A socket is a name in a directory too; the server finds it after the cut. */
int bind(int fd, const struct sockaddr *address, socklen_t length) {
    char relative[PATH_MAX], path[sizeof(struct sockaddr_un) + 1] = "";
    const struct sockaddr_un *local = (const struct sockaddr_un *)address;
    size_t head = offsetof(struct sockaddr_un, sun_path);
    if (address->sa_family == AF_UNIX && length > head) memcpy(path, local->sun_path, length - head);
    if (path[0] == 0 || !below(AT_FDCWD, path, relative)) return (int)syscall(SYS_bind, fd, address, length);
    pthread_mutex_lock(&mutex);
    int done = (int)syscall(SYS_bind, fd, address, length);
    if (done == 0) append_text('K', inode_at(AT_FDCWD, path), 0, relative, strlen(relative));
    pthread_mutex_unlock(&mutex);
    return done;
}

/* -- writing ------------------------------------------------------------------------------------------------------- */

/* Writes the parts at `offset`, or where the file stands for a negative one. */
static ssize_t write_any(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    uint64_t inode;
    pthread_mutex_lock(&mutex);
    int logged = ours(fd, &inode);
    if (!logged) pthread_mutex_unlock(&mutex); /* a pipe or a socket may block */
    if (count > PARTS) count = PARTS; /* as the kernel's limit would: a short write */
    ssize_t done = offset < 0 && flags == 0 ? syscall(SYS_writev, fd, parts, count)
                                            : syscall(SYS_pwritev2, fd, parts, count, offset, 0, flags);
    if (logged) {
        if (done > 0) {
            off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset;
            append('W', inode, (uint64_t)at, parts, count, (size_t)done);
        }
        pthread_mutex_unlock(&mutex);
    }
    return done;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    struct iovec part = {(void *)bytes, count};
    return write_any(fd, &part, 1, -1, 0);
}
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) {
    struct iovec part = {(void *)bytes, count};
    return write_any(fd, &part, 1, offset, 0);
}
ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t offset) { return pwrite(fd, bytes, count, offset); }
ssize_t writev(int fd, const struct iovec *parts, int count) { return write_any(fd, parts, count, -1, 0); }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return write_any(fd, parts, count, offset, 0);
}
ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) {
    return write_any(fd, parts, count, offset, 0);
}
ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return write_any(fd, parts, count, offset, flags);
}
ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off_t offset, int flags) {
    return write_any(fd, parts, count, offset, flags);
}

/* Refused for files of ours: whoever copies so falls back to reading and writing. */
ssize_t copy_file_range(int in, off_t *in_at, int out, off_t *out_at, size_t count, unsigned flags) {
    uint64_t inode;
    pthread_mutex_lock(&mutex);
    int refused = ours(out, &inode);
    pthread_mutex_unlock(&mutex);
    if (!refused) return syscall(SYS_copy_file_range, in, in_at, out, out_at, count, flags);
    errno = EXDEV;
    return -1;
}

int ftruncate(int fd, off_t length) {
    uint64_t inode;
    pthread_mutex_lock(&mutex);
    int logged = ours(fd, &inode);
    int done = (int)syscall(SYS_ftruncate, fd, length);
    if (logged && done == 0) append_text('T', inode, (uint64_t)length, "", 0);
    pthread_mutex_unlock(&mutex);
    return done;
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

int truncate(const char *path, off_t length) {
    char relative[PATH_MAX];
    int logged = below(AT_FDCWD, path, relative);
    pthread_mutex_lock(&mutex);
    int done = (int)syscall(SYS_truncate, path, length);
    if (logged && done == 0) append_text('T', inode_at(AT_FDCWD, path), (uint64_t)length, "", 0);
    pthread_mutex_unlock(&mutex);
    return done;
}
int truncate64(const char *path, off_t length) { return truncate(path, length); }

/* Only what makes a file longer changes what is read; holes and zeroes asked for by a mode show in the comparison. */
int fallocate(int fd, int mode, off_t offset, off_t length) {
    uint64_t inode;
    pthread_mutex_lock(&mutex);
    int logged = ours(fd, &inode);
    int done = (int)syscall(SYS_fallocate, fd, mode, offset, length);
    if (logged && done == 0 && mode == 0) append_text('A', inode, (uint64_t)(offset + length), "", 0);
    pthread_mutex_unlock(&mutex);
    return done;
}
int fallocate64(int fd, int mode, off_t offset, off_t length) { return fallocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) {
    int before = errno, failed = fallocate(fd, 0, offset, length) == 0 ? 0 : errno;
    errno = before;
    return failed;
}
int posix_fallocate64(int fd, off_t offset, off_t length) { return posix_fallocate(fd, offset, length); }

/* -- syncing ------------------------------------------------------------------------------------------------------- */

static int sync_any(int fd, long call) {
    uint64_t inode, number;
    pthread_mutex_lock(&mutex);
    if (!ours(fd, &inode)) {
        pthread_mutex_unlock(&mutex);
        return (int)syscall(call, fd);
    }
    /* A process that died in a sync leaves a number that no other may end. */
    number = (uint64_t)getpid() << 32 | ++syncs;
    append_text('B', inode, number, "", 0);
    pthread_mutex_unlock(&mutex);
    usleep(sync_us);
    pthread_mutex_lock(&mutex);
    append_text('S', inode, number, "", 0);
    pthread_mutex_unlock(&mutex);
    return 0;
}

int fsync(int fd) { return sync_any(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_any(fd, SYS_fdatasync); }

/* -- names --------------------------------------------------------------------------------------------------------- */

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    char old[PATH_MAX], new[PATH_MAX];
    int logged = below(from_dir, from, old) && below(to_dir, to, new);
    pthread_mutex_lock(&mutex);
    int done = (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
    if (logged && done == 0) append_two('R', inode_at(to_dir, to), old, new);
    pthread_mutex_unlock(&mutex);
    return done;
}
int renameat(int from_dir, const char *from, int to_dir, const char *to) {
    return renameat2(from_dir, from, to_dir, to, 0);
}
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags) {
    char old[PATH_MAX], new[PATH_MAX];
    int logged = below(from_dir, from, old) && below(to_dir, to, new);
    pthread_mutex_lock(&mutex);
    int done = (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
    if (logged && done == 0) append_two('L', inode_at(to_dir, to), old, new);
    pthread_mutex_unlock(&mutex);
    return done;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int dir, const char *path, int flags) {
    char relative[PATH_MAX];
    int logged = below(dir, path, relative);
    pthread_mutex_lock(&mutex);
    int done = (int)syscall(SYS_unlinkat, dir, path, flags);
    if (logged && done == 0) append_text('U', 0, 0, relative, strlen(relative));
    pthread_mutex_unlock(&mutex);
    return done;
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode) {
    char relative[PATH_MAX];
    int logged = below(dir, path, relative);
    pthread_mutex_lock(&mutex);
    int done = (int)syscall(SYS_mkdirat, dir, path, mode);
    if (logged && done == 0) {
        uint64_t inode = inode_at(dir, path);
        remember(inode);
        append_text('M', inode, 0, relative, strlen(relative));
    }
    pthread_mutex_unlock(&mutex);
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
