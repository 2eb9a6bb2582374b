#include "actors/tail.h"
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/*  How far back from_end looks for the beginning of the last line.            */
static const size_t line_max = 64 * 1024;

/*  From here on a fingerprint does not grow.                                  */
static const uint64_t fingerprint_max = 1024;

struct weir_tail {
    char *path;                // owned
    int64_t linger_us;         // a replaced file is read so much longer
    weir_positions *positions; // borrowed
    bool from_end;             // an unknown file begins at its end
    int fd;                    // the file being read; -1: none
    uint64_t device, inode;    // of fd
    int slot;                  // of fd, claimed; -1: no file
    uint64_t offset;           // of the next byte of fd
    uint64_t fingerprinted;    // offset at which the fingerprint was last taken
    int next_fd;               // what has replaced fd at the path; -1: nothing
    int64_t leave_us;          // when fd may be left for next_fd
    bool had_file;             // a file was read before: its bytes may be in a framer
    bool replaced;             // check has found other content in fd
    char error[256];
};

static weir_tail_state fail(weir_tail *self, const char *what)
{
    snprintf(self->error, sizeof self->error, "cannot %s %s: %s", what, self->path,
             strerror(errno));
    return WEIR_TAIL_ERROR;
}

weir_tail *weir_tail_new(const weir_tail_config *config, weir_positions *positions)
{
    weir_tail *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->path = strdup(config->path);
    if (!self->path) abort();
    self->linger_us = config->linger_us;
    self->positions = positions;
    self->from_end = config->from_end;
    self->fd = self->next_fd = self->slot = -1;
    return self;
}

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

void weir_tail_destroy(weir_tail **self_p)
{
    weir_tail *self = *self_p;
    if (!self) return;
    weir_positions_release(self->positions, self->slot, NULL);
    close_fd(&self->fd);
    close_fd(&self->next_fd);
    free(self->path);
    free(self);
    *self_p = NULL;
}

/* --- Opening ----------------------------------------------------------------------- */

/*  Only regular files can be read again from a position. Anything else is refused
    before it is opened, as opening alone has effects on pipes and devices.    */
static bool is_followable(weir_tail *self, const struct stat *info)
{
    if (S_ISREG(info->st_mode)) return true;
    const char *kind = S_ISDIR(info->st_mode) ? "a folder; name its files, such as "
                       : S_ISFIFO(info->st_mode)
                           ? "a pipe; read it through stdin, not as "
                           : "no regular file; cannot follow ";
    snprintf(self->error, sizeof self->error, "%s is %s%s%s", self->path, kind,
             self->path, S_ISDIR(info->st_mode) ? "/*" : "");
    return false;
}

/*  DATA: *fd is the open file at the path. Else GONE or ERROR.                */
static weir_tail_state open_path(weir_tail *self, int *fd)
{
    struct stat info;
    *fd = -1;
    if (stat(self->path, &info) < 0)
        return errno == ENOENT || errno == ENOTDIR ? WEIR_TAIL_GONE : fail(self, "find");
    if (!is_followable(self, &info)) return WEIR_TAIL_ERROR;
    *fd = open(self->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (*fd < 0) return errno == ENOENT ? WEIR_TAIL_GONE : fail(self, "open");
    if (fstat(*fd, &info) == 0 && is_followable(self, &info)) return WEIR_TAIL_DATA;
    close_fd(fd);
    return WEIR_TAIL_ERROR;
}

/*  Where a file begins of which only the end is wanted: behind its last newline, so
    that a line that is being written comes whole.                             */
static uint64_t last_line(int fd)
{
    struct stat info;
    if (fstat(fd, &info) < 0 || info.st_size <= 0) return 0;
    uint64_t end = (uint64_t)info.st_size;
    size_t want = end < line_max ? (size_t)end : line_max;
    char *bytes = malloc(want);
    if (!bytes) abort();
    ssize_t got = pread(fd, bytes, want, (off_t)(end - want));
    const char *newline = got > 0 ? memrchr(bytes, '\n', (size_t)got) : NULL;
    uint64_t start = end - want;
    if (newline)
        start += (uint64_t)(newline - bytes) + 1;
    else if (start > 0)
        start = end;
    free(bytes);
    return start;
}

/*  Where an unknown file begins. Only one that has never been followed may begin at
    its end: a known path has new content, and lost positions are read again.  */
static uint64_t first_offset(const weir_tail *self, int fd)
{
    bool skips = self->from_end && !weir_positions_knows(self->positions, self->path) &&
                 weir_positions_damaged(self->positions) == 0;
    return skips ? last_line(fd) : 0;
}

/*  Begins reading fd, which is then owned, from its position. DATA, TAKEN or ERROR. */
static weir_tail_state begin(weir_tail *self, int fd)
{
    weir_file_id id;
    uint64_t offset;
    if (weir_file_identify(&id, fd)) return fail(self, "read");
    int slot = weir_positions_find(self->positions, fd, &id, &offset);
    if (slot < 0) {
        offset = first_offset(self, fd);
        if (weir_positions_add(self->positions, &id, self->path, offset, &slot))
            return fail(self, "write a position of");
    }
    if (!weir_positions_claim(self->positions, slot)) return WEIR_TAIL_TAKEN;
    self->fd = fd;
    self->device = id.device;
    self->inode = id.inode;
    self->slot = slot;
    self->offset = offset;
    self->fingerprinted = id.fingerprint_size;
    self->from_end = false;
    self->replaced = offset > INT64_MAX;
    return WEIR_TAIL_DATA;
}

/*  No file is open: takes what has replaced the last one, or what is at the path. */
static weir_tail_state start(weir_tail *self)
{
    weir_tail_state state = WEIR_TAIL_DATA;
    if (self->next_fd < 0) state = open_path(self, &self->next_fd);
    if (state == WEIR_TAIL_GONE) self->from_end = false;
    if (state != WEIR_TAIL_DATA) return state;
    state = begin(self, self->next_fd);
    if (state == WEIR_TAIL_TAKEN) close_fd(&self->next_fd);
    if (state != WEIR_TAIL_DATA) return state;
    self->next_fd = -1;
    state = self->had_file ? WEIR_TAIL_ROTATED : WEIR_TAIL_OPENED;
    self->had_file = true;
    return state;
}

/* --- Reading ----------------------------------------------------------------------- */

/*  The open file has been read to its end and has a successor. If it has no name
    any more, nobody can read it again, and its slot is not needed.            */
static weir_tail_state rotate(weir_tail *self)
{
    bool deleted = weir_tail_deleted(self);
    weir_positions_release(self->positions, self->slot, &self->offset);
    if (deleted) weir_positions_forget(self->positions, self->slot);
    close_fd(&self->fd);
    self->slot = -1;
    return start(self);
}

/*  The content that was read is no more; what is there now is a new file to us. */
static weir_tail_state restart(weir_tail *self)
{
    int fd = self->fd;
    weir_positions_forget(self->positions, self->slot);
    self->fd = self->slot = -1;
    weir_tail_state state = begin(self, fd);
    if (state == WEIR_TAIL_DATA) return WEIR_TAIL_TRUNCATED;
    close(fd);
    return state;
}

/*  A small file is known by little. As it grows, so does its fingerprint: each time
    its size has doubled. False: its first bytes have changed.                 */
static bool fingerprint_more(weir_tail *self)
{
    if (self->fingerprinted >= fingerprint_max) return true;
    if (self->offset < 2 * self->fingerprinted && self->offset < fingerprint_max)
        return true;
    self->fingerprinted = self->offset;
    return weir_positions_refresh(self->positions, self->slot, self->fd) !=
           WEIR_EMALFORMED;
}

/*  Nothing is left of the open file for now.                                  */
static weir_tail_state at_end(weir_tail *self, int64_t now_us)
{
    struct stat info;
    if (fstat(self->fd, &info) < 0) return fail(self, "read");
    if (info.st_size >= 0 && (uint64_t)info.st_size < self->offset) return restart(self);
    if (self->next_fd >= 0 && now_us >= self->leave_us) return rotate(self);
    return WEIR_TAIL_END;
}

weir_tail_state weir_tail_read(weir_tail *self, int64_t now_us, uint8_t *buffer,
                               size_t size, size_t *bytes)
{
    assert(size > 0);
    *bytes = 0;
    if (self->fd < 0) return start(self);
    if (self->replaced) return restart(self);
    ssize_t got;
    do {
        got = pread(self->fd, buffer, size, (off_t)self->offset);
    } while (got < 0 && errno == EINTR);
    if (got < 0) return fail(self, "read");
    if (got == 0) return at_end(self, now_us);
    self->offset += (uint64_t)got;
    if (!fingerprint_more(self)) return restart(self);
    *bytes = (size_t)got;
    return WEIR_TAIL_DATA;
}

/* --- Looking ----------------------------------------------------------------------- */

/*  Has the open file other first bytes than it had? Then it was truncated, and has
    already grown beyond the offset.                                           */
static void check_content(weir_tail *self)
{
    weir_err err = weir_positions_refresh(self->positions, self->slot, self->fd);
    if (err == WEIR_EMALFORMED || err == WEIR_ENOTFOUND) self->replaced = true;
}

static bool is_open_file(const weir_tail *self, const struct stat *info)
{
    return info->st_dev == self->device && info->st_ino == self->inode;
}

/*  What lies at the path is not the open file: keeps it open until its turn.  */
static weir_tail_state take_next(weir_tail *self, int64_t now_us)
{
    struct stat info;
    weir_tail_state state = open_path(self, &self->next_fd);
    if (state != WEIR_TAIL_DATA) return state;
    if (fstat(self->next_fd, &info) == 0 && is_open_file(self, &info)) {
        close_fd(&self->next_fd);
        return WEIR_TAIL_END;
    }
    self->leave_us = now_us + self->linger_us;
    return WEIR_TAIL_DATA;
}

weir_tail_state weir_tail_check(weir_tail *self, int64_t now_us)
{
    struct stat info;
    if (self->next_fd >= 0) return WEIR_TAIL_DATA;
    bool found = stat(self->path, &info) == 0;
    if (!found && errno != ENOENT && errno != ENOTDIR) return fail(self, "find");
    if (self->fd < 0) {
        if (!found) self->from_end = false;
        return found ? WEIR_TAIL_DATA : WEIR_TAIL_GONE;
    }
    check_content(self);
    if (found && !is_open_file(self, &info)) return take_next(self, now_us);
    if (fstat(self->fd, &info) < 0) return fail(self, "read");
    if (self->replaced || (uint64_t)info.st_size != self->offset) return WEIR_TAIL_DATA;
    return found ? WEIR_TAIL_END : WEIR_TAIL_GONE;
}

int64_t weir_tail_deadline(const weir_tail *self)
{
    return self->fd >= 0 && self->next_fd >= 0 ? self->leave_us : -1;
}

int weir_tail_slot(const weir_tail *self)
{
    return self->slot;
}

uint64_t weir_tail_offset(const weir_tail *self)
{
    return self->offset;
}

uint64_t weir_tail_lag(const weir_tail *self)
{
    struct stat info;
    if (self->fd < 0 || fstat(self->fd, &info) < 0) return 0;
    uint64_t size = (uint64_t)info.st_size;
    return size > self->offset ? size - self->offset : 0;
}

bool weir_tail_deleted(const weir_tail *self)
{
    struct stat info;
    return self->fd >= 0 && fstat(self->fd, &info) == 0 && info.st_nlink == 0;
}

const char *weir_tail_path(const weir_tail *self)
{
    return self->path;
}

const char *weir_tail_error(const weir_tail *self)
{
    return self->error;
}
