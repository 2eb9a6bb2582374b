#include "actors/source_file.h"
#include "actors/notify.h"
#include "actors/streams.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <errno.h>
#include <limits.h>
#include <unistd.h>

const weir_source_file_config weir_source_file_defaults = {
    .start = WEIR_FILE_START,
    .at_end = WEIR_FILE_FOLLOW,
    .intake = WEIR_INTAKE_DEFAULTS,
};

#define READ_BYTES (256 * 1024)
#define PIECES_A_TURN 4096

static const int64_t sync_us = 1000000;
static const int64_t linger_us = 5000000; // for writers that are late to notice
static const int64_t gone_us = 60000000;  // then a file that was moved away is left
static const int64_t look_us = 1000000;
static const int64_t look_blind_us = 250000; // without inotify
static const int64_t look_soon_us = 10000;   // gathers a burst of new names
static const int64_t pace_us = 10000;        // shortest wait for the rate

/*  Looking takes at most 1/200 of the time when nothing happens, and 1/20 when names
    come and go, however many files there are.                                 */
static const int64_t look_share = 200, look_soon_share = 20;

typedef struct {
    weir_actor *kit;
    weir_vitals *vitals;
    const weir_source_file_config *config;
    weir_intake *intake;
    weir_paths *paths;
    weir_positions *positions;
    weir_notify *notify; // NULL: none; stop mode needs none
    bool blind;          // inotify does not see all folders
    uint8_t *chunk;      // READ_BYTES; lent to the framer of the queue's first stream
    bool chunk_lent;
    weir_streams streams;
    bool stopped;         // nothing more will be read
    bool sync_armed;      // the timer runs
    bool from_end;        // unknown files of the first scan begin at their end
    int64_t due_at_us;    // when something falls due in a quiet stream; -1: never
    int64_t look_at_us;   // when the next look is set
    int64_t looked_us;    // when the last one was over
    int64_t look_took_us; // and how long it took
    uint64_t lost;        // bytes of truncated files that were not read, or not whole
    char complaint[512];  // of the last scan, so that it is logged once
} source_file;

static bool stops(const source_file *self)
{
    return self->config->at_end == WEIR_FILE_STOP;
}

/* --- Looking ----------------------------------------------------------------------- */

static void look(source_file *self);

static void look_due(void *arg)
{
    source_file *self = arg;
    if (!self->stopped && !weir_actor_failed(self->kit)) look(self);
}

static void set_look(source_file *self, int64_t at_us)
{
    int64_t delay = at_us - weir_clock_now_us();
    self->look_at_us = at_us;
    weir_actor_timer(self->kit, look_due, delay > 0 ? delay : 0);
}

/*  Names have come or gone.                                                   */
static void look_soon(source_file *self)
{
    int64_t pause = look_soon_share * self->look_took_us;
    int64_t at_us = self->looked_us + (pause > look_soon_us ? pause : look_soon_us);
    if (at_us < self->look_at_us) set_look(self, at_us);
}

static void complain(weir_stream *s)
{
    if (!s->complained)
        weir_log(WEIR_WARN, "file passed over for now cause=\"%s\"",
                 weir_tail_error(s->tail));
    s->complained = true;
}

/*  The path has no file. One that was never opened is over at once; an open one is
    followed for a while, since its writer may still have it open.              */
static void check_gone(weir_stream *s, int64_t now_us)
{
    if (s->gone_at_us < 0) s->gone_at_us = now_us;
    int64_t wait_us = weir_tail_deleted(s->tail) ? linger_us : gone_us;
    if (!s->now && s->missing) s->leaving = true;
    if (s->now && now_us - s->gone_at_us >= wait_us) s->leaving = true;
}

static void check_stream(source_file *self, weir_stream *s, int64_t now_us)
{
    if (s->leaving || s->ending) return;
    weir_tail_state state = weir_tail_check(s->tail, now_us);
    if (s->now && weir_tail_slot(s->tail) == s->now->slot)
        weir_streams_note_extent(&self->streams, s, s->offset,
                                 s->offset + weir_tail_lag(s->tail), 0);
    if (state == WEIR_TAIL_ERROR) complain(s);
    if (state != WEIR_TAIL_GONE) {
        s->gone_at_us = -1;
    } else if (!s->queued) {
        check_gone(s, now_us);
        if (s->leaving) weir_stream_end_framer(s);
    }
    if (state == WEIR_TAIL_DATA || s->leaving) weir_streams_enqueue(&self->streams, s);
}

static void scan(source_file *self)
{
    weir_report report = {0};
    weir_paths_scan(self->paths, &report);
    if (report.text[0] && strcmp(report.text, self->complaint))
        weir_log(WEIR_WARN, "files passed over for now path=%s cause=\"%s\"",
                 report.where, report.text);
    snprintf(self->complaint, sizeof self->complaint, "%s", report.text);
}

static void look(source_file *self)
{
    int64_t begun_us = weir_clock_now_us();
    scan(self);
    self->blind = !self->notify || !weir_notify_watch(self->notify, self->paths);
    weir_streams_sweep(&self->streams);
    for (size_t i = 0; i < self->streams.count; i++) {
        weir_stream *s = self->streams.list[i];
        s->missing = !weir_paths_has(self->paths, s->path);
        check_stream(self, s, begun_us);
    }
    weir_streams_add(&self->streams, self->paths, false);
    weir_streams_forget_settled(&self->streams);
    self->looked_us = weir_clock_now_us();
    self->look_took_us = self->looked_us - begun_us;
    int64_t pause = look_share * self->look_took_us;
    int64_t usual = self->blind ? look_blind_us : look_us;
    set_look(self, self->looked_us + (pause > usual ? pause : usual));
}

static void file_written(void *arg, const char *path)
{
    source_file *self = arg;
    weir_stream *s = weir_streams_find(&self->streams, path);
    if (s && s->tail && !s->queued) check_stream(self, s, weir_clock_now_us());
}

static void notified(void *arg)
{
    source_file *self = arg;
    if (weir_notify_read(self->notify, file_written, self)) look_soon(self);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err open_positions(source_file *self, weir_report *report)
{
    const weir_node *node = weir_actor_node(self->kit);
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.positions", node->state_dir, node->name);
    self->from_end = self->config->start == WEIR_FILE_END && access(path, F_OK) != 0;
    weir_err err = weir_positions_open(&self->positions, path, report);
    if (!err && report->text[0])
        weir_log(WEIR_ERROR, "positions lost path=%s cause=\"%s\"", path, report->text);
    if (!err) *report = (weir_report){0};
    return err;
}

/*  A batch job that misses a file in silence would lose it.                   */
static weir_err check_found(const source_file *self, weir_report *report)
{
    const weir_texts *path = &self->config->path;
    for (size_t i = 0; stops(self) && i < path->count; i++)
        if (!strpbrk(path->items[i], "*?[\\") &&
            !weir_paths_has(self->paths, path->items[i]))
            return weir_report_set(report, WEIR_ENOTFOUND, path->items[i],
                                   "the file is not there, and with at_end = stop it is "
                                   "not waited for");
    if (weir_paths_files(self->paths)) return WEIR_OK;
    weir_log(WEIR_WARN, "no file matches path=%s%s then=%s", path->items[0],
             path->count > 1 ? ",..." : "", stops(self) ? "end" : "wait");
    return WEIR_OK;
}

static weir_err scan_first(source_file *self, weir_report *report)
{
    weir_paths_scan(self->paths, report);
    if (report->text[0] && (stops(self) || report->err == WEIR_EINVAL))
        return report->err;
    snprintf(self->complaint, sizeof self->complaint, "%s", report->text);
    if (report->text[0])
        weir_log(WEIR_WARN, "files passed over for now path=%s cause=\"%s\"",
                 report->where, report->text);
    *report = (weir_report){0};
    return check_found(self, report);
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_file *self = arg;
    const weir_source_file_config *c = config;
    self->kit = kit;
    self->config = c;
    self->due_at_us = -1;
    self->vitals = weir_actor_vitals(kit);
    self->vitals->position = self->vitals->size_hint = 0;
    self->vitals->at_end = false;
    self->chunk = weir_intake_chunk(READ_BYTES);
    if (!c->path.count)
        return weir_report_set(report, WEIR_EINVAL, NULL, "there is no path to read");
    int port = weir_actor_port(kit, weir_actor_node(kit)->name);
    weir_err err = weir_intake_new(&self->intake, kit, port, &c->intake, report);
    self->streams.intake = self->intake;
    self->streams.vitals = self->vitals;
    self->streams.linger_us = linger_us;
    if (!err) err = weir_streams_begin(&self->streams, report);
    if (err) return err;
    err = weir_paths_new(&self->paths, (const char *const *)c->path.items, c->path.count,
                         report);
    if (!err) err = scan_first(self, report);
    if (!err) err = open_positions(self, report);
    self->streams.positions = self->positions;
    if (!err) weir_streams_add(&self->streams, self->paths, self->from_end);
    return err;
}

/*  Opens the files, so that what is written from now on counts as new.        */
static void open_all(source_file *self)
{
    size_t size;
    for (size_t i = 0; i < self->streams.count; i++) {
        weir_stream *s = self->streams.list[i];
        if (weir_tail_read(s->tail, 0, self->chunk, READ_BYTES, &size) ==
            WEIR_TAIL_OPENED)
            weir_streams_begin_file(&self->streams, s);
    }
}

static void start(void *arg)
{
    source_file *self = arg;
    if (self->from_end) open_all(self);
    if (stops(self)) return;
    self->notify = weir_notify_new();
    if (self->notify &&
        weir_actor_watch(self->kit, weir_notify_fd(self->notify), notified))
        weir_notify_destroy(&self->notify);
    if (!self->notify)
        weir_log(WEIR_WARN, "no inotify, files are polled cause=\"%s\"", strerror(errno));
    look(self);
}

static void fini(void *arg)
{
    source_file *self = arg;
    weir_streams_fini(&self->streams, self->kit);
    weir_intake_destroy(&self->intake);
    weir_notify_destroy(&self->notify);
    weir_paths_destroy(&self->paths);
    if (self->positions && weir_positions_sync(self->positions))
        weir_log(WEIR_ERROR, "cannot sync positions cause=\"%s\"", strerror(errno));
    weir_positions_close(&self->positions);
    free(self->chunk);
}

/* --- Reading ----------------------------------------------------------------------- */

/*  Calls for the streams that wait for the clock: a multiline record, or a replaced
    file that may be left.                                                     */
static void things_due(void *arg);

static int64_t due_us(const weir_stream *s)
{
    int64_t framer_us = s->framer ? weir_framer_deadline(s->framer) : -1;
    int64_t tail_us = weir_tail_deadline(s->tail);
    if (framer_us < 0) return tail_us;
    return tail_us < 0 || framer_us < tail_us ? framer_us : tail_us;
}

static void set_due(source_file *self, int64_t at_us)
{
    if (at_us < 0 || (self->due_at_us >= 0 && self->due_at_us <= at_us)) return;
    int64_t delay = at_us - weir_clock_now_us();
    self->due_at_us = at_us;
    weir_actor_timer(self->kit, things_due, delay > 0 ? delay : 0);
}

static void things_due(void *arg)
{
    source_file *self = arg;
    int64_t now_us = weir_clock_now_us();
    self->due_at_us = -1;
    for (size_t i = 0; !self->stopped && i < self->streams.count; i++) {
        weir_stream *s = self->streams.list[i];
        int64_t at_us = s->tail && !s->queued ? due_us(s) : -1;
        if (at_us >= 0 && at_us <= now_us)
            weir_streams_enqueue(&self->streams, s);
        else
            set_due(self, at_us);
    }
}

static void fail_file(source_file *self, const weir_stream *s, const char *text)
{
    weir_actor_fail(self->kit, WEIR_ESYS, s->path, "%s", text);
}

/*  Between lines a framer knows nothing but its offset.                       */
static bool is_blank(const source_file *self, const weir_framer *framer)
{
    int framing = self->config->intake.framing;
    bool lines = framing == WEIR_FRAMING_NDJSON || framing == WEIR_FRAMING_LINES;
    return lines && !weir_framer_pending(framer) && weir_framer_deadline(framer) < 0;
}

/*  Nothing more for now from the queue's first stream.                        */
static void rest(source_file *self)
{
    weir_stream *s = self->streams.first;
    if (s->framer && is_blank(self, s->framer))
        weir_streams_spare_framer(&self->streams, s);
    weir_streams_dequeue(&self->streams);
    set_due(self, due_us(s));
}

static void recv_end(source_file *self, weir_stream *s)
{
    if (!stops(self)) {
        rest(self);
        return;
    }
    s->leaving = true;
    weir_stream_end_framer(s);
}

/*  What was not read is lost, and the unfinished record with it.              */
static void recv_truncated(source_file *self, weir_stream *s)
{
    uint64_t held = s->framer ? weir_framer_pending(s->framer) : 0;
    uint64_t lost = held + weir_stream_unread(s);
    self->lost += lost;
    self->vitals->size_hint -= (int64_t)held;
    weir_log(WEIR_WARN, "file truncated path=%s lost_bytes=%zu lost_in_all=%zu", s->path,
             (size_t)lost, (size_t)self->lost);
    weir_streams_spare_framer(&self->streams, s);
    weir_streams_begin_file(&self->streams, s);
}

static void recv_nothing(source_file *self, weir_stream *s, weir_tail_state state)
{
    bool opened = weir_tail_slot(s->tail) >= 0;
    if (state == WEIR_TAIL_ERROR && (opened || stops(self)))
        fail_file(self, s, weir_tail_error(s->tail));
    else if (state == WEIR_TAIL_GONE && stops(self))
        fail_file(self, s, "the file was there at the start and is gone");
    else if (state == WEIR_TAIL_TAKEN && stops(self))
        weir_streams_requeue(
            &self->streams); // until the other path of the file has been read
    else {
        if (state == WEIR_TAIL_ERROR) complain(s);
        rest(self);
    }
}

static void recv_chunk(source_file *self, weir_stream *s, size_t size)
{
    uint64_t offset = weir_tail_offset(s->tail);
    weir_report report = {0};
    if (weir_streams_need_framer(&self->streams, s, offset - size, &report)) {
        weir_actor_fail(self->kit, report.err, report.where, "%s", report.text);
        return;
    }
    weir_framer_feed(s->framer, self->chunk, size);
    self->chunk_lent = true;
    self->streams.visit_bytes += size;
    self->vitals->at_end = false;
    weir_streams_note_extent(&self->streams, s, offset, s->end > offset ? s->end : offset,
                             size);
}

/*  Reads on in the queue's first stream, whose framer has nothing more to give.  */
static void read_file(source_file *self, weir_stream *s, int64_t now_us)
{
    size_t size;
    weir_tail_state state =
        weir_tail_read(s->tail, now_us, self->chunk, READ_BYTES, &size);
    if (state == WEIR_TAIL_DATA)
        recv_chunk(self, s, size);
    else if (state == WEIR_TAIL_TRUNCATED)
        recv_truncated(self, s);
    else if (s->now && weir_tail_slot(s->tail) != s->now->slot)
        weir_stream_end_framer(
            s); // the file was left, though another may not be open yet
    else if (state == WEIR_TAIL_OPENED || state == WEIR_TAIL_ROTATED)
        weir_streams_begin_file(&self->streams, s);
    else if (state == WEIR_TAIL_END)
        recv_end(self, s);
    else
        recv_nothing(self, s, state);
}

/*  Pieces of the queue's first stream, or one step towards the next. Gives how many, but
    for the first.                                                             */
static uint32_t step(source_file *self, int64_t now_us)
{
    weir_stream *s = self->streams.first;
    weir_framed piece;
    if (s->framer && weir_framer_next(s->framer, now_us, &piece)) {
        weir_intake_piece(self->intake, &s->now->lane, s->now->slot, s->path, &piece);
        return weir_intake_lines(self->intake, s->framer);
    } else if (s->ending) {
        weir_streams_finish_file(&self->streams);
    } else if (self->chunk_lent) {
        self->chunk_lent = false;
        if (self->streams.visit_bytes >= READ_BYTES) weir_streams_requeue(&self->streams);
    } else {
        read_file(self, s, now_us);
    }
    return 0;
}

static void wake(void *arg)
{
    (void)arg; // turn () follows every wake-up
}

/*  Waits for the rate a little longer than needed, as far as the burst allows, so that
    a block has many records; what has gathered goes out first.                */
static void wait_for_rate(source_file *self, int64_t wait_us)
{
    int64_t burst_us = self->config->intake.rate_burst;
    int64_t least_us = burst_us < pace_us ? burst_us : pace_us;
    weir_intake_flush(self->intake);
    weir_actor_timer(self->kit, wake, wait_us > least_us ? wait_us : least_us);
}

static bool turn(void *arg)
{
    source_file *self = arg;
    int64_t now_us = weir_clock_now_us(), wait_us;
    for (uint32_t i = 0; i < PIECES_A_TURN && self->streams.first && !self->stopped;
         i++) {
        if (!weir_intake_ready(self->intake, &wait_us)) {
            if (wait_us) wait_for_rate(self, wait_us);
            return false;
        }
        i += step(self, now_us);
        if (weir_actor_failed(self->kit)) return false;
    }
    if (self->stopped) return false;
    if (self->streams.first) return true;
    weir_intake_flush(self->intake);
    self->vitals->at_end = true;
    if (stops(self) && !self->streams.open) {
        self->stopped = true;
        weir_actor_end(self->kit);
    }
    return false;
}

/*  What the framers hold, and what is left of the chunk, will be read again.  */
static void drain(void *arg)
{
    source_file *self = arg;
    if (self->stopped) return;
    self->stopped = true;
    if (self->notify) weir_actor_unwatch(self->kit, weir_notify_fd(self->notify));
    weir_intake_flush(self->intake);
    weir_actor_end(self->kit);
}

static void reopen(void *arg)
{
    source_file *self = arg;
    if (!stops(self) && !self->stopped && self->look_at_us) look(self);
}

/* --- Committing -------------------------------------------------------------------- */

static void sync_due(void *arg)
{
    source_file *self = arg;
    self->sync_armed = false;
    if (weir_positions_sync(self->positions))
        weir_actor_fail(self->kit, WEIR_ESYS, NULL, "cannot sync the positions: %s",
                        strerror(errno));
}

/*  The position of a file whose content is gone needs none.                   */
static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    source_file *self = arg;
    weir_generation *g = entry->lane->owner;
    weir_err err = weir_positions_commit(self->positions, entry->token, entry->position);
    if (err && err != WEIR_ENOTFOUND)
        return weir_report_set(report, err, NULL, "cannot write a position: %s",
                               strerror(errno));
    self->vitals->position += (int64_t)(entry->position - g->committed);
    g->committed = entry->position;
    if (!self->sync_armed) weir_actor_timer(self->kit, sync_due, sync_us);
    self->sync_armed = true;
    return WEIR_OK;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const start_words[] = {"start", "end", NULL};
static const char *const at_end_words[] = {"follow", "stop", NULL};

static const weir_option options[] = {
    {"path", WEIR_OPTION_TEXTS, offsetof(weir_source_file_config, path), 0, 0, NULL, true,
     "files, or patterns such as '/var/log/*.log'; one or a list"},
    {"start", WEIR_OPTION_WORD, offsetof(weir_source_file_config, start), 0, 0,
     start_words, false,
     "where files begin that are there at the first start; later ones begin at their "
     "start, known ones at their position"},
    {"at_end", WEIR_OPTION_WORD, offsetof(weir_source_file_config, at_end), 0, 0,
     at_end_words, false,
     "follow: wait for more; stop: end when all files that matched at the start are "
     "read, and fail if one cannot be"},
    WEIR_FRAMING_OPTIONS(weir_source_file_config, intake),
    WEIR_RATE_OPTIONS(weir_source_file_config, intake),
    WEIR_SCREEN_OPTIONS(weir_source_file_config, intake.screen),
    {.name = NULL},
};

const weir_class weir_source_file_class = {
    .name = "source.file",
    .help = "reads records from files, and follows them as they grow and rotate",
    .actor = weir_source_file,
    .size = sizeof(source_file),
    .config_size = sizeof(weir_source_file_config),
    .defaults = &weir_source_file_defaults,
    .options = options,
    .source = true,
    .init = init,
    .fini = fini,
    .start = start,
    .turn = turn,
    .commit = commit,
    .drain = drain,
    .reopen = reopen,
};

void weir_source_file(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_file_class, pipe, config);
}
