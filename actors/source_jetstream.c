#include "actors/source_jetstream.h"
#include <inttypes.h>
#include "actors/jetstream_feed.h"
#include "actors/jetstream_record.h"
#include "runtime/clock.h"

const weir_source_jetstream_config weir_source_jetstream_defaults = {
    .port = WEIR_JS_PORT_DEFAULTS,
    .ack_wait_us = 30000000,
    .max_deliver = WEIR_FOREVER,
    .intake = WEIR_INTAKE_DEFAULTS_WITH(WEIR_FRAMING_BLOB),
};
enum {
    lot = 1024,              // messages that are taken in a turn
    oversize_kept = 64 << 10 // bytes of an oversize payload
};

typedef struct {
    weir_js_feed feed; // first
    weir_actor *kit;
    const weir_source_jetstream_config *config;
    char name[WEIR_JS_NAME]; // of the consumer
    weir_intake *intake;
    weir_framer *framer; // NULL: a payload is a record
    weir_lane lane;      // positions are the feed's numbers
    weir_js_record record;
    natsMsg *open;   // the framer has more of it; owned
    weir_js_item at; // of the message that was taken last
    bool draining, ended;
    int64_t finish_at_us;
} source_jetstream;

/* --- Records ----------------------------------------------------------------------- */

static void take_piece(source_jetstream *self, weir_framed *piece)
{
    piece->start = self->at.sequence;
    weir_intake_envelope(self->intake, &self->record.envelope);
    weir_intake_piece(self->intake, &self->lane, 0, self->config->stream, piece);
}

static void take_payload(source_jetstream *self)
{
    weir_framed piece = {.data = self->record.data,
                         .size = self->record.size,
                         .whole_size = self->record.size,
                         .end = self->feed.taken};
    if (piece.size > weir_actor_node(self->kit)->record_max) {
        piece.kind = WEIR_PIECE_OVERSIZE;
        if (piece.size > oversize_kept) piece.size = oversize_kept;
    }
    take_piece(self, &piece);
}

static void take_bad(source_jetstream *self, const char *error)
{
    weir_framed piece = {.kind = WEIR_PIECE_BAD,
                         .data = self->record.data,
                         .size = self->record.size,
                         .whole_size = self->record.size,
                         .end = self->feed.taken};
    if (piece.size > oversize_kept) piece.size = oversize_kept;
    snprintf(piece.error, sizeof piece.error, "%s", error);
    take_piece(self, &piece);
}

/*  It was delivered again and again, and never was safe: it may be what makes the path
    fail.                                                                           */
static void bury(source_jetstream *self)
{
    char error[128], label[320];
    const char *node = weir_actor_node(self->kit)->name;
    const weir_envelope *e = &self->record.envelope;
    weir_record record = {.format = e->whole ? e->format : WEIR_JSON,
                          .data = self->record.data,
                          .size = self->record.size,
                          .headers = e->headers,
                          .headers_size = e->headers_size,
                          .has_ts = e->has_ts,
                          .ts_ms = e->ts_ms};
    weir_intake_flush(self->intake);
    snprintf(error, sizeof error, "it was delivered %" PRIu64 " times and never was safe",
             self->at.delivered - 1);
    snprintf(label, sizeof label, "%.200s@%" PRIu64, self->config->stream,
             self->at.sequence);
    weir_dead *dead =
        weir_dead_new(node, WEIR_DEAD_MAX_DELIVER, error,
                      (uint32_t)self->at.delivered - 1, &record, node, NULL, label);
    weir_entry *entry = weir_actor_open(self->kit, &self->lane, 1, self->feed.taken, 0);
    entry->fates.dead = 1;
    weir_entry_add_dead(entry, &dead);
    weir_actor_done(self->kit, entry);
}

/*  The message is only through with its last record: until then the position stays
    before it.                                                                      */
static void take_next_piece(source_jetstream *self)
{
    weir_framed piece;
    if (weir_framer_next(self->framer, weir_clock_now_us(), &piece)) {
        piece.end = self->feed.taken - 1;
        take_piece(self, &piece);
        return;
    }
    weir_intake_mark(self->intake, &self->lane, 0, self->feed.taken);
    natsMsg_Destroy(self->open);
    self->open = NULL;
}

static void read_message(source_jetstream *self, natsMsg *msg)
{
    if (self->at.done) {
        weir_intake_mark(self->intake, &self->lane, 0, self->feed.taken);
        natsMsg_Destroy(msg);
        return;
    }
    bool unwrap = self->config->intake.format == WEIR_INTAKE_AUTO;
    const char *error = weir_js_record_read(&self->record, msg, unwrap, self->at.sequence,
                                            self->at.stored_ms);
    if ((int64_t)self->at.delivered > self->config->max_deliver) {
        bury(self);
    } else if (error) {
        take_bad(self, error);
    } else if (!self->framer || self->record.whole) {
        take_payload(self);
    } else {
        weir_framer_reset(self->framer, 0);
        weir_framer_feed(self->framer, self->record.data, self->record.size);
        weir_framer_end(self->framer);
        self->open = msg;
        return;
    }
    natsMsg_Destroy(msg);
}
/* --- Turns ------------------------------------------------------------------------- */

static void nothing(void *arg)
{
    (void)arg; // turn () follows
}

static bool has_room(source_jetstream *self)
{
    int64_t wait_us;
    if (weir_intake_ready(self->intake, &wait_us)) return true;
    if (wait_us) weir_intake_flush(self->intake);
    if (wait_us) weir_actor_timer(self->kit, nothing, wait_us);
    return false;
}

/*  False: there is nothing left, or no room; *room says which.                       */
static bool take_next(source_jetstream *self, bool *room)
{
    *room = has_room(self);
    if (!*room) return false;
    if (self->open) {
        take_next_piece(self);
        return true;
    }
    natsMsg *msg = self->draining ? NULL : weir_js_feed_take(&self->feed, &self->at);
    if (msg) read_message(self, msg);
    return msg;
}

/*  All that was taken is safe, and the server knows.                                 */
static bool is_through(source_jetstream *self)
{
    bool confirmed, safe = weir_js_feed_is_safe(&self->feed, &confirmed);
    return safe && (confirmed || weir_clock_now_us() >= self->finish_at_us);
}

static void end_if_through(source_jetstream *self)
{
    if (!self->draining || self->ended || self->open || !is_through(self)) return;
    self->ended = true;
    weir_actor_end(self->kit);
}
static bool turn(void *arg)
{
    source_jetstream *self = arg;
    bool room = false;
    int64_t due_us;
    int i = 0;
    if (weir_actor_failed(self->kit) || !weir_js_feed_run(&self->feed, &due_us))
        return false;
    while (i < lot && !weir_actor_failed(self->kit) && take_next(self, &room))
        i++;
    if (weir_actor_failed(self->kit)) return false;
    if (i < lot && room) weir_intake_flush(self->intake);
    weir_js_feed_want(&self->feed, room && !self->draining);
    end_if_through(self);
    if (self->draining && !self->ended) due_us = weir_earlier(due_us, self->finish_at_us);
    weir_js_port_sleep(&self->feed.port, due_us);
    return i == lot;
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    source_jetstream *self = arg;
    (void)report;
    weir_js_feed_commit(&self->feed, entry->position);
    return WEIR_OK;
}

/*  A reader does not take it, and never will: the message is done with.               */
static weir_err refused(void *arg, weir_entry *entry, const weir_refused *refusal)
{
    source_jetstream *self = arg;
    weir_iterator walk = {.block = refusal->block};
    weir_record record;
    const weir_run *origin;
    char error[320];
    snprintf(error, sizeof error, "%s: %s", refusal->code, refusal->text);
    while (weir_iterator_next(&walk, &record, &origin)) {
        weir_dead *dead =
            weir_dead_new(weir_actor_node(self->kit)->name, WEIR_DEAD_REFUSED, error, 1,
                          &record, origin->source, origin->peer, origin->label);
        weir_entry_add_dead(entry, &dead);
        entry->lost++;
    }
    return WEIR_OK;
}

static void drain(void *arg)
{
    source_jetstream *self = arg;
    self->draining = true;
    self->finish_at_us = weir_clock_now_us() + self->config->port.timeout_us;
    weir_js_port_wake(&self->feed.port);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err check(const void *config, weir_report *report)
{
    const weir_source_jetstream_config *c = config;
    weir_js_start start;
    weir_err err = weir_js_port_check(&c->port, report);
    if (err) return err;
    if (!c->stream || !weir_js_is_name(c->stream))
        return weir_report_set(report, WEIR_EINVAL, "stream",
                               "it is no name of a stream");
    if (c->durable && !weir_js_is_name(c->durable))
        return weir_report_set(report, WEIR_EINVAL, "durable",
                               "a name has no space, '.', '*', '>', '/' or '\\'");
    if (c->subjects && !weir_js_is_filter(c->subjects))
        return weir_report_set(report, WEIR_EINVAL, "subjects",
                               "expected one subject, in which a token may be * and the "
                               "last one >");
    return weir_js_start_read(&start, c->start, report);
}

static void name_consumer(const weir_source_jetstream_config *c, char name[WEIR_JS_NAME])
{
    const weir_node *node = &c->node;
    if (c->durable)
        snprintf(name, WEIR_JS_NAME, "%s", c->durable);
    else
        snprintf(name, WEIR_JS_NAME, "%.63s+%.63s",
                 node->topology ? node->topology : "weir",
                 node->name ? node->name : "in");
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_jetstream *self = arg;
    const weir_source_jetstream_config *c = self->config = config;
    weir_js_durable durable = {.stream = c->stream,
                               .name = self->name,
                               .subjects = c->subjects,
                               .ack_wait_us = c->ack_wait_us,
                               .window = c->port.window};
    int port = weir_actor_port(kit, weir_actor_node(kit)->name);
    self->kit = kit;
    weir_err err = check(c, report);
    if (err) return err;
    name_consumer(c, self->name);
    weir_js_start_read(&durable.start, c->start, NULL);
    err = weir_intake_new(&self->intake, kit, port, &c->intake, report);
    if (!err && c->intake.framing != WEIR_FRAMING_BLOB)
        err = weir_intake_framer(self->intake, &self->framer, report);
    return err ? err : weir_js_feed_open(&self->feed, kit, &durable, &c->port, report);
}

static void fini(void *arg)
{
    source_jetstream *self = arg;
    weir_js_feed_close(&self->feed);
    weir_actor_lane_fini(self->kit, &self->lane);
    weir_intake_destroy(&self->intake);
    weir_framer_destroy(&self->framer);
    natsMsg_Destroy(self->open);
    weir_js_record_fini(&self->record);
}

/* --- Probe ------------------------------------------------------------------------- */

/*  NULL: the consumer is there, or can be made; else why not.                         */
static const char *judge(const weir_js_response *is,
                         const weir_source_jetstream_config *c, const char *name,
                         char why[200])
{
    weir_js_durable durable = {
        .stream = c->stream, .name = name, .subjects = c->subjects};
    weir_js_durable_info info;
    if (is->err_code == WEIR_JS_NO_CONSUMER_THERE) return NULL;
    if (is->failed) return is->text;
    return weir_js_durable_judge(&info, &is->root, &durable, why) ? NULL : why;
}

/*  Asks no more than it does when it runs: who may not look at the stream does without.
 */
static weir_err probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const weir_source_jetstream_config *c = config;
    weir_js_asker asker;
    const weir_js_response *is = &asker.response;
    char name[WEIR_JS_NAME], why[200];
    const char *error = NULL;
    name_consumer(c, name);
    weir_err err = weir_js_asker_open(&asker, &c->port, timeout_us, report);
    if (!err) err = weir_js_ask_now(&asker, "STREAM.INFO", c->stream, "", report);
    if (!err && is->failed)
        error = is->err_code == WEIR_JS_NO_STREAM
                    ? "there is no such stream, and until there is one it waits"
                    : is->text;
    if (err && asker.denied) err = WEIR_OK;
    if (!err && !error)
        err = weir_js_ask_now(&asker, "CONSUMER.INFO", c->stream, name, report);
    if (!err && !error) error = judge(is, c, name, why);
    if (!err && error)
        err = weir_report_set(report, WEIR_EREFUSED, asker.port.servers.text,
                              "stream %s, consumer %s: %s", c->stream, name, error);
    if (!err)
        weir_report_set(report, WEIR_OK, asker.port.servers.text,
                        "the stream %s, the consumer %s %s", c->stream, name,
                        is->err_code ? "would be made" : "is there");
    weir_js_asker_close(&asker);
    return err;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const forever_word[] = {"forever", NULL};
static const char *const start_words[] = {"start", NULL};

#define AT(member) offsetof(weir_source_jetstream_config, member)

static const weir_option options[] = {
    WEIR_JS_PORT_OPTIONS(
        weir_source_jetstream_config, port,
        "most messages that are under way: max_ack_pending of a consumer "
        "that is made, and what is asked for at once"),
    {"stream", WEIR_OPTION_TEXT, AT(stream), 0, 0, NULL, true, "the stream to read"},
    {"subjects", WEIR_OPTION_TEXT, AT(subjects), 0, 0, NULL, false,
     "only these of its subjects: \"orders.*\" or \"orders.>\""},
    {"durable", WEIR_OPTION_TEXT, AT(durable), 0, 0, NULL, false,
     "name of the consumer, which is made if it is not there; sources that name the same "
     "share its messages; none: TOPOLOGY+NODE"},
    {"start", WEIR_OPTION_TEXT, AT(start), 0, 0, start_words, false,
     "where a new consumer begins: start, 'end', a sequence of the stream, or a time "
     "such "
     "as '2026-01-31T08:00:00Z'; none: start"},
    {"ack_wait", WEIR_OPTION_TIME, AT(ack_wait_us), 100e3, 24 * 3600e6, NULL, false,
     "of a new consumer: when this source is silent for so long its messages are "
     "delivered "
     "again"},
    {"max_deliver", WEIR_OPTION_INT, AT(max_deliver), 1, 1e6, forever_word, false,
     "deliveries of a message, those after cuts and restarts, too; after them it becomes "
     "a dead letter"},
    {"parse_error", WEIR_OPTION_WORD, AT(intake.parse_error), 0, 0, weir_on_error_words,
     false, "for messages and payloads that cannot be read"},
    WEIR_FRAMING_OPTIONS(weir_source_jetstream_config, intake),
    WEIR_RATE_OPTIONS(weir_source_jetstream_config, intake),
    WEIR_SCREEN_OPTIONS(weir_source_jetstream_config, intake.screen),
    {.name = NULL},
};

const weir_class weir_source_jetstream_class = {
    .name = "source.jetstream",
    .help =
        "brings the messages of a stream of NATS JetStream, and acknowledges those that "
        "are safe",
    .actor = weir_source_jetstream,
    .size = sizeof(source_jetstream),
    .config_size = sizeof(weir_source_jetstream_config),
    .defaults = &weir_source_jetstream_defaults,
    .options = options,
    .source = true,
    .check = check,
    .probe = probe,
    .init = init,
    .fini = fini,
    .turn = turn,
    .refused = refused,
    .commit = commit,
    .drain = drain,
};

void weir_source_jetstream(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_jetstream_class, pipe, config);
}
