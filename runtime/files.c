#include "runtime/files.h"
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

weir_err weir_sync_folder(const char *path)
{
    char *copy = strdup(path);
    if (!copy) abort();
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0) return WEIR_ESYS;
    int bad = fsync(fd), saved = errno;
    close(fd);
    errno = saved;
    return bad ? WEIR_ESYS : WEIR_OK;
}

weir_err weir_make_folders(const char *path)
{
    char part[PATH_MAX];
    size_t size = strlen(path);
    if (size == 0 || size >= sizeof part) {
        errno = size ? ENAMETOOLONG : ENOENT;
        return WEIR_ESYS;
    }
    memcpy(part, path, size + 1);
    for (char *at = part + 1;; at++) {
        char end = *at;
        if (end != '/' && end != 0) continue;
        *at = 0;
        bool made = mkdir(part, 0700) == 0;
        if (!made && errno != EEXIST) return WEIR_ESYS;
        if (made && weir_sync_folder(part)) return WEIR_ESYS;
        *at = end;
        if (!end) return WEIR_OK;
    }
}

weir_err weir_write_all(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        if (n < 0 && errno == EAGAIN)
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
        else if (n < 0 && errno != EINTR)
            return WEIR_ESYS;
        else if (n > 0)
            done += (size_t)n;
    }
    return WEIR_OK;
}

/*  Closes the descriptor in any case.                                         */
static bool fill(int fd, const void *data, size_t size, unsigned mode, bool durable)
{
    bool good = weir_write_all(fd, data, size) == WEIR_OK && fchmod(fd, mode) == 0 &&
                (!durable || fsync(fd) == 0);
    int saved = errno;
    if (close(fd) && good) return false;
    errno = saved;
    return good;
}

weir_err weir_replace_file(const char *path, const void *data, size_t size, unsigned mode,
                           bool durable)
{
    char temporary[PATH_MAX];
    if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return WEIR_ESYS;
    }
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0) return WEIR_ESYS;
    if (fill(fd, data, size, mode, durable) && rename(temporary, path) == 0)
        return durable ? weir_sync_folder(path) : WEIR_OK;
    int saved = errno;
    unlink(temporary);
    errno = saved;
    return WEIR_ESYS;
}

static weir_err read_all(int fd, char *text, size_t *size)
{
    size_t have = 0;
    while (have < *size) {
        ssize_t got = read(fd, text + have, *size - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return WEIR_ESYS;
        if (got == 0) break;
        have += (size_t)got;
    }
    *size = have;
    return WEIR_OK;
}

static weir_err read_open(int fd, size_t max, char **text, size_t *size, unsigned *mode)
{
    struct stat st;
    if (fstat(fd, &st)) return WEIR_ESYS;
    if (!S_ISREG(st.st_mode)) return WEIR_EINVAL;
    if (st.st_size > (off_t)max) return WEIR_ETOOBIG;
    *size = (size_t)st.st_size;
    *mode = st.st_mode & 07777;
    *text = malloc(*size + 1);
    if (!*text) abort();
    return read_all(fd, *text, size);
}

weir_err weir_read_file(const char *path, size_t max, char **text, size_t *size,
                        unsigned *mode)
{
    *text = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return errno == ENOENT ? WEIR_ENOTFOUND : WEIR_ESYS;
    weir_err err = read_open(fd, max, text, size, mode);
    int saved = errno;
    close(fd);
    if (err) {
        free(*text);
        *text = NULL;
    }
    errno = saved;
    return err;
}
