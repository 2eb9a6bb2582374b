#include "actors/source_redis.h"
#include <unistd.h>
#include "actors/redis_group.h"
#include "actors/redis_port.h"
#include "actors/redis_probe.h"
#include "actors/redis_take.h"
#include "runtime/clock.h"
#include "runtime/log.h"

const weir_source_redis_config weir_source_redis_defaults = {
    .server = WEIR_REDIS_SERVER_DEFAULTS,
    .claim_after_us = WEIR_NONE,
    .window = 10000,
    .intake = WEIR_INTAKE_DEFAULTS_WITH(WEIR_FRAMING_BLOB),
};

static const size_t oversize_kept = 64 << 10; // bytes of an oversize payload

enum { streams_max = WEIR_REDIS_LINES_MAX / 2, name_max = 255 };

typedef struct source_redis source_redis;

/*  One stream.                                                                       */
typedef struct {
    source_redis *self;
    weir_redis_group *group;
    weir_redis_take entry;
} reading;

struct source_redis {
    weir_actor *kit;
    const weir_source_redis_config *config;
    weir_redis_port port;
    weir_intake *intake;
    weir_lane lane;    // positions are numbers of entries
    uint64_t number;   // of the last one
    reading *readings; // owned
    size_t count;
    weir_redis_pending *first, **last; // not safe, in the order of their numbers
    char group[name_max + 1], consumer[name_max + 1];
    bool draining, ended;
};

/* --- Entries ----------------------------------------------------------------------- */

static weir_framed piece_of(const source_redis *self, const weir_redis_take *entry,
                            const char *error)
{
    weir_framed piece = {.data = entry->data,
                         .size = entry->size,
                         .whole_size = entry->size,
                         .start = self->number - 1,
                         .end = self->number};
    if (error) {
        piece.kind = WEIR_PIECE_BAD;
        snprintf(piece.error, sizeof piece.error, "%s", error);
    } else if (piece.size > weir_actor_node(self->kit)->record_max) {
        piece.kind = WEIR_PIECE_OVERSIZE;
        if (piece.size > oversize_kept) piece.size = oversize_kept;
    }
    return piece;
}

static void take(void *arg, weir_redis_pending *pending, const redisReply *fields)
{
    reading *r = arg;
    source_redis *self = r->self;
    pending->number = ++self->number;
    pending->next = NULL;
    *self->last = pending;
    self->last = &pending->next;
    const char *error = weir_redis_take_entry(&r->entry, pending->id, fields);
    weir_framed piece = piece_of(self, &r->entry, error);
    weir_intake_envelope(self->intake, &r->entry.envelope);
    weir_intake_piece(self->intake, &self->lane, 0, r->entry.stream, &piece);
}

/*  So a block has entries of one stream, and none waits for others.                   */
static void taken(void *arg)
{
    reading *r = arg;
    weir_intake_flush(r->self->intake);
}

static void deleted(void *arg, uint64_t count)
{
    reading *r = arg;
    weir_count_add(weir_actor_vitals(r->self->kit), WEIR_COUNT_GAPS, count);
    weir_log(WEIR_WARN, "entries were deleted before they were read stream=%s count=%d",
             r->entry.stream, (int)count);
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    source_redis *self = arg;
    (void)report;
    for (weir_redis_pending *p; (p = self->first) && p->number <= entry->position;) {
        self->first = p->next;
        weir_redis_group_ack(p->group, p);
    }
    if (!self->first) self->last = &self->first;
    weir_actor_timer(self->kit, self->port.ready, 0); // a turn sends them
    return WEIR_OK;
}

/* --- Turns ------------------------------------------------------------------------- */

/*  Something came, or is due: turn () follows.                                       */
static void ready(void *arg)
{
    source_redis *self = arg;
    weir_redis_port_run(&self->port);
}

static void nothing(void *arg)
{
    (void)arg;
}

/*  What each stream may ask for: nothing while there is little room, so that requests are
    large.                                                                            */
static size_t room_for_each(source_redis *self, int64_t *wait_us)
{
    size_t window = (size_t)self->config->window, pending = 0;
    for (size_t i = 0; i < self->count; i++)
        pending += weir_redis_group_pending(self->readings[i].group);
    size_t room = window > pending ? window - pending : 0;
    size_t least = window / 4 < 100 ? window / 4 : 100;
    if (self->draining || room == 0 || room < least) return 0;
    if (!weir_intake_ready(self->intake, wait_us)) return 0;
    return room / self->count ? room / self->count : 1;
}

/*  All that was read is safe, and the server knows it or cannot be told.               */
static void end_if_done(source_redis *self)
{
    size_t untold = 0;
    if (!self->draining || self->ended || self->first) return;
    for (size_t i = 0; i < self->count; i++) {
        size_t unacked = weir_redis_group_unacked(self->readings[i].group);
        if (!weir_redis_group_has_left(self->readings[i].group)) return;
        if (unacked && !weir_redis_group_is_away(self->readings[i].group)) return;
        untold += unacked;
    }
    if (untold)
        weir_log(WEIR_WARN,
                 "the server is away: entries that are safe will come again "
                 "count=%d",
                 (int)untold);
    self->ended = true;
    weir_actor_end(self->kit);
}

static void note_idle(source_redis *self)
{
    bool idle = true;
    for (size_t i = 0; i < self->count; i++)
        idle &= weir_redis_group_is_idle(self->readings[i].group);
    weir_actor_vitals(self->kit)->at_end = idle;
}

static bool turn(void *arg)
{
    source_redis *self = arg;
    int64_t due_us = -1, wait_us = 0;
    size_t room = room_for_each(self, &wait_us);
    if (wait_us) due_us = wait_us;
    for (size_t i = 0; i < self->count; i++)
        due_us =
            weir_earlier(due_us, weir_redis_group_run(self->readings[i].group, room));
    if (weir_actor_failed(self->kit)) return false;
    weir_actor_timer(self->kit, nothing, due_us);
    bool came = weir_redis_port_run(&self->port);
    if (weir_actor_failed(self->kit)) return false;
    note_idle(self);
    end_if_done(self);
    return came;
}

static void drain(void *arg)
{
    source_redis *self = arg;
    self->draining = true;
    for (size_t i = 0; i < self->count; i++)
        weir_redis_group_leave(self->readings[i].group);
    weir_intake_flush(self->intake);
    weir_actor_timer(self->kit, nothing, 0);
}

/* --- Lifecycle --------------------------------------------------------------------- */

/*  An id as Redis takes it: digits, and digits behind a hyphen.                        */
static bool is_id(const char *text)
{
    size_t digits = strspn(text, "0123456789");
    const char *rest = text + digits;
    if (!digits || digits > 20) return false;
    if (!*rest) return true;
    digits = *rest == '-' ? strspn(rest + 1, "0123456789") : 0;
    return digits && digits <= 20 && !rest[1 + digits];
}

static const char *start_of(const weir_source_redis_config *c)
{
    if (!c->start || streq(c->start, "start")) return "0-0";
    return streq(c->start, "end") ? "$" : c->start;
}

static weir_err wrong(weir_report *report, const char *option, const char *text)
{
    return weir_report_set(report, WEIR_EINVAL, option, "%s", text);
}

static weir_err check_streams(const weir_texts *streams, weir_report *report)
{
    if (!streams->count) return wrong(report, "stream", "is missing");
    if (streams->count > streams_max)
        return weir_report_set(report, WEIR_EINVAL, "stream",
                               "names %zu, of at most %d: each has two connections",
                               streams->count, (int)streams_max);
    for (size_t i = 0; i < streams->count; i++) {
        if (!*streams->items[i]) return wrong(report, "stream", "is empty");
        for (size_t k = 0; k < i; k++)
            if (streq(streams->items[i], streams->items[k]))
                return wrong(report, "stream", "names one twice");
    }
    return WEIR_OK;
}

static weir_err check(const void *config, weir_report *report)
{
    const weir_source_redis_config *c = config;
    const char *start = start_of(c);
    weir_err err = check_streams(&c->streams, report);
    if (err) return err;
    if (!streq(start, "$") && !is_id(start))
        return wrong(report, "start", "expected start, 'end' or the id of an entry");
    if (c->group && !*c->group) return wrong(report, "group", "is empty");
    if (c->consumer && !*c->consumer) return wrong(report, "consumer", "is empty");
    if (c->group && strlen(c->group) > name_max)
        return wrong(report, "group", "is longer than 255 bytes");
    if (c->consumer && strlen(c->consumer) > name_max)
        return wrong(report, "consumer", "is longer than 255 bytes");
    return weir_redis_server_check(&c->server, report);
}

static void name_group(const weir_source_redis_config *c, const weir_node *node,
                       char *text, size_t size)
{
    if (c->group)
        snprintf(text, size, "%s", c->group);
    else
        snprintf(text, size, "%.63s/%.63s", node->topology ? node->topology : "weir",
                 node->name ? node->name : "");
}

/*  The same after a restart, so that it finds what is pending for it.                  */
static void name_consumer(source_redis *self)
{
    const weir_node *node = weir_actor_node(self->kit);
    char host[65] = "";
    gethostname(host, sizeof host - 1);
    if (self->config->consumer)
        snprintf(self->consumer, sizeof self->consumer, "%s", self->config->consumer);
    else
        snprintf(self->consumer, sizeof self->consumer, "%s/%.63s/%.63s", host,
                 node->topology ? node->topology : "weir", node->name);
}

static weir_err open_group(source_redis *self, reading *r, const char *stream,
                           weir_report *report)
{
    const weir_source_redis_config *c = self->config;
    r->self = self;
    r->entry.stream = stream;
    r->entry.field = c->field;
    r->group = weir_redis_group_new(
        &(weir_redis_group_config){.port = &self->port,
                                   .stream = stream,
                                   .group = self->group,
                                   .consumer = self->consumer,
                                   .start = start_of(c),
                                   .claim_after_us = c->claim_after_us,
                                   .window = (size_t)c->window,
                                   .take = take,
                                   .taken = taken,
                                   .deleted = deleted,
                                   .arg = r});
    if (r->group) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, "stream", "there are too many");
}

static weir_err open_groups(source_redis *self, weir_report *report)
{
    const weir_texts *streams = &self->config->streams;
    weir_err err = WEIR_OK;
    self->readings = calloc(streams->count, sizeof *self->readings);
    if (!self->readings) abort();
    for (size_t i = 0; i < streams->count && !err; i++, self->count++)
        err = open_group(self, &self->readings[i], streams->items[i], report);
    return err;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_redis *self = arg;
    const weir_source_redis_config *c = self->config = config;
    self->kit = kit;
    self->last = &self->first;
    weir_err err = check(c, report);
    if (err) return err;
    name_group(c, weir_actor_node(kit), self->group, sizeof self->group);
    name_consumer(self);
    err = weir_intake_new(&self->intake, kit,
                          weir_actor_port(kit, weir_actor_node(kit)->name), &c->intake,
                          report);
    if (err) return err;
    self->port = (weir_redis_port){.kit = kit, .config = &c->server, .ready = ready};
    err = weir_redis_port_open(&self->port, report);
    return err ? err : open_groups(self, report);
}

static void fini(void *arg)
{
    source_redis *self = arg;
    for (weir_redis_pending *p; (p = self->first);)
        self->first = p->next; // each is its group's
    for (size_t i = 0; i < self->count; i++) {
        weir_redis_group_destroy(&self->readings[i].group);
        weir_redis_take_fini(&self->readings[i].entry);
    }
    free(self->readings);
    weir_redis_port_close(&self->port);
    weir_actor_lane_fini(self->kit, &self->lane);
    weir_intake_destroy(&self->intake);
}

static weir_err probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const weir_source_redis_config *c = config;
    char group[256];
    weir_err err = WEIR_OK;
    name_group(c, &c->node, group, sizeof group);
    for (size_t i = 0; i < c->streams.count && !err; i++) {
        weir_redis_probe what = {.server = &c->server,
                                 .stream = c->streams.items[i],
                                 .stream_size = strlen(c->streams.items[i]),
                                 .group = group,
                                 .timeout_us = timeout_us};
        err = weir_redis_probe_run(&what, report);
    }
    return err;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const start_words[] = {"start", NULL};

#define AT(member) offsetof(weir_source_redis_config, member)

static const weir_option options[] = {
    WEIR_REDIS_SERVER_OPTIONS(weir_source_redis_config, server),
    {"stream", WEIR_OPTION_TEXTS, AT(streams), 0, 0, NULL, true,
     "the stream's key, or a list; one that is not there is made"},
    {"group", WEIR_OPTION_TEXT, AT(group), 0, 0, NULL, false,
     "the consumer group; none: TOPOLOGY/NODE"},
    {"consumer", WEIR_OPTION_TEXT, AT(consumer), 0, 0, NULL, false,
     "the name in the group, the same after a restart and nobody else's; none: "
     "HOST/TOPOLOGY/NODE"},
    {"start", WEIR_OPTION_TEXT, AT(start), 0, 0, start_words, false,
     "where a new group begins: start, 'end', or behind the id of an entry; none: start"},
    {"field", WEIR_OPTION_TEXT, AT(field), 0, 0, NULL, false,
     "the field that is the payload; none: entries of a bus of Weir are the records that "
     "they are, others a document of their fields"},
    {"claim_after", WEIR_OPTION_TIME, AT(claim_after_us), 1000, 86400e6, weir_none_word,
     false,
     "takes over what another consumer was given and has not acknowledged for so long"},
    {"window", WEIR_OPTION_INT, AT(window), 1, 1e6, NULL, false,
     "entries that are not acknowledged"},
    {"format", WEIR_OPTION_WORD, AT(intake.format), 0, 0, weir_format_words, false,
     "of the payload that `field` names; auto: by its first byte"},
    {"parse_error", WEIR_OPTION_WORD, AT(intake.parse_error), 0, 0, weir_on_error_words,
     false, "for entries that cannot be read as records"},
    WEIR_RATE_OPTIONS(weir_source_redis_config, intake),
    WEIR_SCREEN_OPTIONS(weir_source_redis_config, intake.screen),
    {.name = NULL},
};

const weir_class weir_source_redis_class = {
    .name = "source.redis",
    .help = "brings the entries of streams of a Redis server, as a member of a consumer "
            "group",
    .actor = weir_source_redis,
    .size = sizeof(source_redis),
    .config_size = sizeof(weir_source_redis_config),
    .defaults = &weir_source_redis_defaults,
    .options = options,
    .source = true,
    .check = check,
    .probe = probe,
    .init = init,
    .fini = fini,
    .start = ready,
    .turn = turn,
    .commit = commit,
    .drain = drain,
};

void weir_source_redis(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_redis_class, pipe, config);
}
