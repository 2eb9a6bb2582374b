#include "runtime/dead.h"
#include "runtime/base64.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/log.h"
#include "runtime/redact.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

/*  That some are written is logged at once, and then once in so long.             */
static const int64_t log_again_us = 60000000;

struct weir_dead_file {
    int fd;
    char *path;
    uint64_t unsaid; // letters that were written since the log was told
    int64_t said_us; // when that was
};

static const char *const reason_names[] = {
    [WEIR_DEAD_PARSE] = "parse",         [WEIR_DEAD_FILTER] = "filter",
    [WEIR_DEAD_FUNCTION] = "function",   [WEIR_DEAD_OVERRUN] = "overrun",
    [WEIR_DEAD_UNROUTED] = "unrouted",   [WEIR_DEAD_SINK] = "sink",
    [WEIR_DEAD_OVERSIZE] = "oversize",   [WEIR_DEAD_REFUSED] = "refused",
    [WEIR_DEAD_EXHAUSTED] = "exhausted", [WEIR_DEAD_MAX_DELIVER] = "max_deliver",
    [WEIR_DEAD_TOO_LARGE] = "too_large",
};

/* --- Line -------------------------------------------------------------------------- */

static void put_bytes_as_base64(weir_buffer *line, const uint8_t *data, size_t size)
{
    weir_buffer_put_text(line, "{\"base64\":\"");
    char *at = (char *)weir_buffer_reserve(line, (size + 2) / 3 * 4 + 4);
    line->size += weir_base64_encode(at, data, size);
    weir_buffer_put_text(line, "\"}");
}

/*  A text of ours or of a user; what is not UTF-8 goes as base64.             */
static void put_text(weir_buffer *line, const char *name, const char *text)
{
    weir_buffer_printf(line, ",\"%s\":", name);
    char *told = text ? weir_redact(text) : NULL;
    if (told) text = told;
    if (!text)
        weir_buffer_put_text(line, "null");
    else if (weir_json_put_string(line, text, strlen(text)))
        put_bytes_as_base64(line, (const uint8_t *)text, strlen(text));
    free(told);
}

static void put_value(weir_buffer *line, const char *name, const weir_value *value)
{
    weir_buffer_printf(line, ",\"%s\":", name);
    if (value->type == WEIR_MISSING || weir_json_put_value(line, value))
        weir_buffer_put_text(line, "null");
}

static bool put_json_payload(weir_buffer *line, const weir_record *record)
{
    weir_json_index index = {0};
    bool good = !weir_json_scan(&index, record->data, record->size);
    if (good) {
        weir_value value;
        weir_json_read(record->data + index.root, index.root_size, &value);
        good = !weir_json_put_value(line, &value);
    }
    weir_json_index_fini(&index);
    return good;
}

/*  A payload that is JSON stays readable, so does text that is UTF-8 in a field of
    its own; everything else is base64 of its very bytes.                      */
void weir_dead_put_payload(weir_buffer *line, const weir_record *record)
{
    const char *text = (const char *)record->data;
    if (record->format == WEIR_JSON) {
        weir_buffer_put_text(line, ",\"payload\":");
        if (put_json_payload(line, record)) return;
        put_bytes_as_base64(line, record->data, record->size);
        return;
    }
    if (record->format == WEIR_TEXT && weir_utf8_valid(record->data, record->size)) {
        weir_buffer_put_text(line, ",\"text\":");
        weir_json_put_string(line, text, record->size);
        return;
    }
    weir_buffer_put_text(line,
                         record->format == WEIR_TEXT ? ",\"text\":" : ",\"msgpack\":");
    put_bytes_as_base64(line, record->data, record->size);
}

static void put_digest(weir_buffer *line, const char *node, const weir_record *record)
{
    weir_buffer all = {0};
    weir_buffer_put(&all, node, strlen(node) + 1);
    if (record->key.type != WEIR_MISSING && record->key.size)
        weir_buffer_put(&all, record->key.data, record->key.size);
    weir_buffer_put_byte(&all, 0);
    weir_buffer_put(&all, record->data, record->size);
    XXH128_hash_t hash = XXH3_128bits(all.data, all.size);
    weir_buffer_fini(&all);
    weir_buffer_printf(line, ",\"digest\":\"%016" PRIx64 "%016" PRIx64 "\"",
                       (uint64_t)hash.high64, (uint64_t)hash.low64);
}

static void put_headers(weir_buffer *line, const weir_record *record)
{
    weir_value headers = {.type = WEIR_MISSING};
    if (record->headers) {
        weir_reader reader = {record->headers, record->headers + record->headers_size};
        weir_read_value(&reader, &headers);
    }
    put_value(line, "headers", &headers);
}

weir_dead *weir_dead_new(const char *node, weir_dead_reason reason, const char *error,
                         uint32_t attempts, const weir_record *record, const char *source,
                         const char *peer, const char *label)
{
    static _Atomic uint64_t serial;
    weir_dead *self = calloc(1, sizeof *self);
    if (!self) abort();
    weir_buffer *line = &self->line;
    int64_t now_ms = weir_clock_wall_ms();
    weir_buffer_printf(line, "{\"id\":\"%" PRIx64 "-%x-%" PRIx64 "\"", (uint64_t)now_ms,
                       (unsigned)getpid(), atomic_fetch_add(&serial, 1) + 1);
    put_digest(line, node, record);
    weir_buffer_printf(line, ",\"time\":%" PRId64, now_ms);
    put_text(line, "node", node);
    put_text(line, "reason", reason_names[reason]);
    self->error_at = line->size + strlen(",\"error\":");
    put_text(line, "error", error);
    self->error_size = line->size - self->error_at;
    weir_buffer_printf(line, ",\"attempts\":%u", attempts);
    put_text(line, "source", source);
    put_text(line, "peer", peer);
    put_text(line, "label", label);
    put_value(line, "key", &record->key);
    put_headers(line, record);
    weir_dead_put_payload(line, record);
    weir_buffer_put_text(line, "}\n");
    return self;
}

void weir_dead_destroy_list(weir_dead **first_p)
{
    while (*first_p) {
        weir_dead *dead = *first_p;
        *first_p = dead->next;
        weir_buffer_fini(&dead->line);
        free(dead);
    }
}

/* --- File -------------------------------------------------------------------------- */

static weir_err fail(const weir_dead_file *self, const char *what, weir_report *report)
{
    return weir_report_set(report, WEIR_ESYS, self->path,
                           "cannot %s the dead letters: %s", what, strerror(errno));
}

/*  A crash may have left half a line: a line break keeps it from spoiling ours.
    Its input was not acknowledged, so it comes again whole.                   */
static weir_err end_torn_line(weir_dead_file *self, weir_report *report)
{
    struct stat st;
    char last;
    if (fstat(self->fd, &st)) return fail(self, "examine", report);
    if (st.st_size == 0)
        return weir_sync_folder(self->path) ? fail(self, "sync the folder of", report)
                                            : WEIR_OK;
    if (pread(self->fd, &last, 1, st.st_size - 1) != 1) return fail(self, "read", report);
    if (last != '\n' && write(self->fd, "\n", 1) != 1) return fail(self, "write", report);
    return WEIR_OK;
}

weir_err weir_dead_file_open(weir_dead_file **self_p, const char *path,
                             weir_report *report)
{
    weir_dead_file *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->path = strdup(path);
    self->fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    weir_err err = self->fd < 0 ? fail(self, "open", report) : WEIR_OK;
    if (!err) {
        flock(self->fd, LOCK_EX);
        err = end_torn_line(self, report);
        flock(self->fd, LOCK_UN);
    }
    if (err)
        weir_dead_file_close(&self);
    else
        *self_p = self;
    return err;
}

static weir_err append_group(weir_dead_file *self, const weir_buffer *group)
{
    if (weir_write_all(self->fd, group->data, group->size)) return WEIR_ESYS;
    return fdatasync(self->fd) ? WEIR_ESYS : WEIR_OK;
}

static void tell(weir_dead_file *self, const weir_dead *first)
{
    int64_t now_us = weir_clock_now_us();
    if (self->said_us && now_us - self->said_us < log_again_us) return;
    weir_log(WEIR_WARN, "dead letters count=%" PRIu64 " file=%s error=%.*s", self->unsaid,
             self->path, (int)first->error_size,
             (const char *)first->line.data + first->error_at);
    self->unsaid = 0;
    self->said_us = now_us;
}

weir_err weir_dead_file_write(weir_dead_file *self, const weir_dead *first,
                              weir_report *report)
{
    weir_buffer group = {0};
    uint64_t count = 0;
    for (const weir_dead *d = first; d; d = d->next, count++)
        weir_buffer_put(&group, d->line.data, d->line.size);
    flock(self->fd, LOCK_EX);
    struct stat st;
    bool known = fstat(self->fd, &st) == 0;
    weir_err err = known ? append_group(self, &group) : WEIR_ESYS;
    if (err) fail(self, "write", report);
    /*  Half a group must not stay: the same letters will come again.          */
    if (err && known && ftruncate(self->fd, st.st_size)) err = WEIR_ESYS;
    flock(self->fd, LOCK_UN);
    weir_buffer_fini(&group);
    self->unsaid += err ? 0 : count;
    if (!err && count) tell(self, first);
    return err;
}

void weir_dead_file_close(weir_dead_file **self_p)
{
    weir_dead_file *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    if (self->fd >= 0) close(self->fd);
    free(self->path);
    free(self);
}
