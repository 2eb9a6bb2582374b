#include "actors/sink_file.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/log.h"
#include "runtime/positions.h"
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

const weir_sink_file_config weir_sink_file_defaults = {
    .fsync_us = WEIR_ALWAYS,
    .retry_first_us = 100000,
    .retry_max_us = 30000000,
    .retry_attempts = WEIR_FOREVER,
    .delivery = WEIR_DELIVERY_DEFAULTS,
};

typedef struct {
    weir_actor *kit;
    const weir_sink_file_config *config;
    weir_delivery *delivery;
    weir_positions *positions; // how far our own whole writes reach
    int slot;                  // of the open file
    int fd;                    // -1: not open
    uint64_t length;           // bytes of the file that are whole
    bool unsynced;             // written, not yet on disk
    int64_t sync_at_us;        // when a delayed fsync is due; 0: nothing to sync
    bool holding;              // the last attempt failed; a timer will try again
    int64_t attempts;          // failed in a row
} sink_file;

/*  Bytes that are looked at at once when the end of the file is examined.     */
#define LOOK_BYTES 65536

static const int64_t quiet_us = 250000; // without new records a delayed fsync is made

/*  What positions.h looks at, at most, to know a file again.                  */
#define FINGERPRINT_BYTES 1024

/* --- Opening ----------------------------------------------------------------------- */

/*  Offset behind the last line break in [from, *end), or from. What cannot be read
    must not be taken for torn.                                                */
static weir_err last_line_end(int fd, uint64_t from, uint64_t *end)
{
    char bytes[LOOK_BYTES];
    while (*end > from) {
        uint64_t start = *end - from > LOOK_BYTES ? *end - LOOK_BYTES : from;
        size_t size = (size_t)(*end - start);
        for (size_t done = 0; done < size;) {
            ssize_t n = pread(fd, bytes + done, size - done, (off_t)(start + done));
            if (n < 0 && errno == EINTR) continue;
            if (n == 0) errno = EIO;
            if (n <= 0) return WEIR_ESYS;
            done += (size_t)n;
        }
        const char *found = memrchr(bytes, '\n', size);
        *end = found ? start + (uint64_t)(found - bytes) + 1 : start;
        if (found) break;
    }
    return WEIR_OK;
}

static weir_err fail(const sink_file *self, const char *what, weir_report *report)
{
    return weir_report_set(report, WEIR_ESYS, self->config->path, "cannot %s: %s", what,
                           strerror(errno));
}

/*  Cuts the half record that a crash of ours has left behind `own`.           */
static weir_err cut_torn_tail(sink_file *self, uint64_t own, uint64_t size,
                              weir_report *report)
{
    bool lines = self->config->delivery.framing == WEIR_DELIVERY_LINES;
    uint64_t whole = lines ? size : own;
    if (lines && last_line_end(self->fd, own, &whole)) return fail(self, "read", report);
    if (whole < size) {
        weir_log(WEIR_WARN, "torn tail cut path=%s from=%zu to=%zu", self->config->path,
                 (size_t)size, (size_t)whole);
        if (ftruncate(self->fd, (off_t)whole)) return fail(self, "cut", report);
    }
    self->length = whole;
    return WEIR_OK;
}

/*  A foreign file may end without a line break; ours begins on a line of its own. */
static weir_err begin_line(sink_file *self, uint64_t size, weir_report *report)
{
    char last = '\n';
    self->length = size;
    if (size && pread(self->fd, &last, 1, (off_t)size - 1) != 1)
        return fail(self, "read", report);
    if (last == '\n' || self->config->delivery.framing != WEIR_DELIVERY_LINES)
        return WEIR_OK;
    if (write(self->fd, "\n", 1) != 1) return fail(self, "write", report);
    self->length++;
    return WEIR_OK;
}

/*  A new file is only safe when its name is.                                  */
static weir_err sync_folder(sink_file *self, weir_report *report)
{
    if (self->config->fsync_us == WEIR_FOREVER) return WEIR_OK;
    weir_err err = weir_sync_folder(self->config->path);
    return err ? fail(self, "sync the folder of", report) : WEIR_OK;
}

static weir_err adopt_file(sink_file *self, weir_report *report)
{
    struct stat st;
    weir_file_id id;
    uint64_t own = 0;
    if (fstat(self->fd, &st)) return fail(self, "examine", report);
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return fail(self, "use it, it is no regular file", report);
    }
    if (weir_file_identify(&id, self->fd)) return fail(self, "read", report);
    uint64_t size = (uint64_t)st.st_size;
    self->slot = weir_positions_find(self->positions, self->fd, &id, &own);
    if (self->slot >= 0 && own <= size) {
        weir_err err = cut_torn_tail(self, own, size, report);
        if (err) return err;
        return weir_positions_commit(self->positions, self->slot, self->length);
    }
    weir_err err = begin_line(self, size, report);
    if (!err && size == 0) err = sync_folder(self, report);
    if (err) return err;
    if (self->slot >= 0) weir_positions_forget(self->positions, self->slot);
    return weir_positions_add(self->positions, &id, self->config->path, self->length,
                              &self->slot);
}

static weir_err open_file(sink_file *self, weir_report *report)
{
    self->fd = open(self->config->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (self->fd < 0) return fail(self, "open", report);
    weir_err err = adopt_file(self, report);
    if (err && !report->text[0]) fail(self, "remember the position of", report);
    if (err) {
        close(self->fd);
        self->fd = -1;
    }
    return err;
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_file *self = arg;
    self->kit = kit;
    self->config = config;
    self->fd = -1;
    const weir_node *node = weir_actor_node(kit);
    char state[PATH_MAX];
    snprintf(state, sizeof state, "%s/%s.tail", node->state_dir, node->name);
    weir_err err = weir_positions_open(&self->positions, state, report);
    if (!err)
        err = weir_delivery_new(&self->delivery, kit, &self->config->delivery, report);
    return err ? err : open_file(self, report);
}

static void fini(void *arg)
{
    sink_file *self = arg;
    weir_delivery_destroy(&self->delivery);
    weir_positions_close(&self->positions);
    if (self->fd >= 0) close(self->fd);
}

/* --- Writing ----------------------------------------------------------------------- */

static void retry(void *arg);

/*  What was written of the failed attempt is cut, and the whole is tried again
    later, unless it was the last attempt.                                     */
static void hold(sink_file *self)
{
    const weir_sink_file_config *c = self->config;
    int error = errno;
    self->attempts++;
    if (self->fd >= 0 && ftruncate(self->fd, (off_t)self->length)) {
        weir_actor_fail(self->kit, WEIR_ESYS, c->path, "cannot cut a partial write: %s",
                        strerror(errno));
        return;
    }
    if (c->retry_attempts != WEIR_FOREVER && self->attempts >= c->retry_attempts) {
        weir_actor_fail(self->kit, WEIR_ESYS, c->path, "cannot write: %s",
                        strerror(error));
        return;
    }
    int shift = self->attempts > 30 ? 30 : (int)self->attempts - 1;
    int64_t wait_us = c->retry_first_us << shift;
    if (wait_us > c->retry_max_us || wait_us <= 0) wait_us = c->retry_max_us;
    weir_log(WEIR_WARN, "cannot write, trying again path=%s cause=\"%s\" wait_ms=%d",
             c->path, strerror(error), (int)(wait_us / 1000));
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_RETRIES, 1);
    weir_vitals_wait(weir_actor_vitals(self->kit), WEIR_WAIT_WRITE, c->path,
                     "cannot write %s: %s", c->path, strerror(error));
    self->holding = true;
    weir_actor_timer(self->kit, retry, wait_us);
}

/*  Everything or nothing: a partial write is cut by hold ().                  */
static bool write_output(sink_file *self, const weir_buffer *output)
{
    for (size_t done = 0; done < output->size;) {
        ssize_t n = write(self->fd, output->data + done, output->size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        done += (size_t)n;
    }
    uint64_t length = self->length + output->size;
    if (weir_positions_commit(self->positions, self->slot, length)) return false;
    /*  While the file is short its fingerprint grows with it: an empty one would fit
        any file that comes to bear the same inode.                            */
    if (self->length < FINGERPRINT_BYTES)
        weir_positions_refresh(self->positions, self->slot, self->fd);
    self->length = length;
    return true;
}

/*  After a failed fdatasync the kernel may have forgotten what it could not write,
    and a second call would claim success: only a stop, and a replay, is safe.  */
static void sync_file(sink_file *self)
{
    bool good = !self->unsynced || fdatasync(self->fd) == 0;
    /*  Without line breaks the remembered length alone tells whole from torn. */
    if (good && self->unsynced && self->config->delivery.framing == WEIR_DELIVERY_BLOB)
        good = weir_positions_sync(self->positions) == WEIR_OK;
    if (!good) {
        weir_actor_fail(self->kit, WEIR_ESYS, self->config->path, "cannot sync: %s",
                        strerror(errno));
        return;
    }
    self->unsynced = false;
    weir_delivery_safe(self->delivery);
}

static void sync_due(void *arg)
{
    sink_file *self = arg;
    self->sync_at_us = 0;
    sync_file(self);
}

/*  A delayed fsync comes early when nothing more does, so that a source that has ended
    or drains need not wait for it.                                            */
static void delay_sync(sink_file *self)
{
    int64_t now = weir_clock_now_us();
    if (!self->sync_at_us) self->sync_at_us = now + self->config->fsync_us;
    int64_t left = self->sync_at_us - now;
    if (left < 0) left = 0;
    weir_actor_timer(self->kit, sync_due, left < quiet_us ? left : quiet_us);
}

static bool reopen_file(sink_file *self)
{
    weir_report report = {0};
    if (self->fd >= 0) return true;
    if (open_file(self, &report) == WEIR_OK) return true;
    weir_log(WEIR_WARN, "cannot open path=%s cause=\"%s\"", report.where, report.text);
    return false;
}

static void write_all(sink_file *self)
{
    const weir_buffer *output = weir_delivery_output(self->delivery);
    bool good = reopen_file(self);
    bool fresh = output->size > 0;
    if (good && fresh) good = write_output(self, output);
    if (good) {
        weir_delivery_written(self->delivery);
        self->unsynced |= fresh;
    } else {
        hold(self);
        return;
    }
    if (self->attempts)
        weir_vitals_flow(weir_actor_vitals(self->kit), WEIR_WAIT_WRITE,
                         self->config->path);
    self->attempts = 0;
    if (self->config->fsync_us == WEIR_ALWAYS) {
        sync_file(self);
    } else if (self->config->fsync_us == WEIR_FOREVER) {
        weir_delivery_safe(self->delivery);
    } else {
        delay_sync(self);
    }
}

static void retry(void *arg)
{
    sink_file *self = arg;
    self->holding = false;
    write_all(self);
}

/* --- Messages ---------------------------------------------------------------------- */

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_file *self = arg;
    weir_delivery_take(self->delivery, entry, block);
}

/*  New output is written at once; with a delayed fsync, inputs of earlier turns
    wait for the timer.                                                        */
static bool turn(void *arg)
{
    sink_file *self = arg;
    bool fresh = weir_delivery_output(self->delivery)->size > 0;
    bool bare = !self->unsynced && weir_delivery_waiting(self->delivery);
    if (!self->holding && (fresh || bare)) write_all(self);
    return false;
}

static void reopen(void *arg)
{
    sink_file *self = arg;
    if (self->fd < 0) return;
    sync_file(self);
    if (weir_actor_failed(self->kit)) return;
    close(self->fd);
    self->fd = -1;
    int slot = self->slot;
    if (!reopen_file(self))
        hold(self);
    else if (self->slot != slot) // the other file is not ours to look after any more
        weir_positions_forget(self->positions, slot);
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const fsync_words[] = {"always", "never", NULL};
static const char *const forever_word[] = {"forever", NULL};

static const weir_option options[] = {
    {"path", WEIR_OPTION_PATH, offsetof(weir_sink_file_config, path), 0, 0, NULL, true,
     "the file that is appended to; made if it is not there"},
    {"fsync", WEIR_OPTION_TIME, offsetof(weir_sink_file_config, fsync_us), 1000, 3600e6,
     fsync_words, false,
     "when a record counts as safe: always, on disk; a time, on disk at most that much "
     "later; never, in the kernel's hands"},
    {"retry.first", WEIR_OPTION_TIME, offsetof(weir_sink_file_config, retry_first_us),
     1000, 600e6, NULL, false, "wait before the first retry of a failed write"},
    {"retry.max", WEIR_OPTION_TIME, offsetof(weir_sink_file_config, retry_max_us), 1000,
     600e6, NULL, false, "longest wait"},
    {"retry.attempts", WEIR_OPTION_INT, offsetof(weir_sink_file_config, retry_attempts),
     1, 1e6, forever_word, false, "attempts in all before the node stops"},
    WEIR_DELIVERY_OPTIONS(weir_sink_file_config, delivery),
    {.name = NULL},
};

const weir_class weir_sink_file_class = {
    .name = "sink.file",
    .help = "appends records to a file",
    .actor = weir_sink_file,
    .size = sizeof(sink_file),
    .config_size = sizeof(weir_sink_file_config),
    .defaults = &weir_sink_file_defaults,
    .options = options,
    .inlet = true,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .turn = turn,
    .reopen = reopen,
};

void weir_sink_file(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_file_class, pipe, config);
}
