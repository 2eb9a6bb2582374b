#include "actors/source_bus.h"
#include "actors/bus_client.h"
#include "actors/outstanding.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include "runtime/rundir.h"
#include <sodium.h>
#include <stdio.h>

const weir_source_bus_config weir_source_bus_defaults = {.options =
                                                             WEIR_GROUP_OPTIONS_DEFAULTS};

static const int64_t fetch_ms = 1000; // that a fetch waits there
/*  Without an answer for so long it begins again: a member, and one that is not yet.   */
static const int64_t answer_us = 5000000, greeting_us = 3000000;
static const int64_t beat_us = 250000; // how often that is looked at
static const int64_t again_first_us = 100000, again_max_us = 10000000;

typedef struct {
    weir_actor *kit;
    const weir_source_bus_config *config;
    char endpoint[256], group[WEIR_BUS_GROUP_MAX + 1], member[WEIR_BUS_TEXT_MAX + 1];
    char where_bus[64];          // the bus's name must be; "": any
    weir_bus_client *client;     // NULL: it waits before the next attempt
    int fd;                      // of client
    uint64_t hello, join, fetch; // ids of requests without answer; 0: none
    bool joined;
    uint64_t nonce;   // of the bus that it has joined; 0: not known
    int64_t asked_us; // when the last request was sent
    int64_t heard_us; // when an answer came, or the attempt began
    int64_t again_us; // wait before the next attempt
    weir_outstanding sent;
    int port;
    bool ending;
    bool blind; // told as a wait: a shard cannot be read
} source_bus;

/* --- Connection -------------------------------------------------------------------- */

/*  A timer, or something to read: the next turn looks.                                 */
static void nothing(void *arg)
{
    (void)arg;
}

/*  What stands between the bus and its store; "": nothing.                             */
static void note_trouble(source_bus *self, const char *trouble)
{
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    if (*trouble)
        weir_vitals_wait(vitals, WEIR_WAIT_READ, self->endpoint, "%s", trouble);
    else if (self->blind)
        weir_vitals_flow(vitals, WEIR_WAIT_READ, self->endpoint);
    self->blind = *trouble;
}

static void hang_up(source_bus *self)
{
    if (!self->client) return;
    weir_actor_unwatch(self->kit, self->fd);
    weir_bus_client_destroy(&self->client);
    self->hello = self->join = self->fetch = 0;
    self->joined = false;
    note_trouble(self, "");
}

/*  Waits longer each time, until records come.                                         */
static void try_again(source_bus *self, const char *why)
{
    weir_vitals_wait(weir_actor_vitals(self->kit), WEIR_WAIT_LINK, self->endpoint, "%s",
                     why);
    weir_log(WEIR_WARN, "bus is away endpoint=%s cause=\"%s\" wait_ms=%d", self->endpoint,
             why, (int)(self->again_us / 1000));
    hang_up(self);
    self->heard_us = weir_clock_now_us();
}

static weir_err dial(source_bus *self, weir_report *report)
{
    const weir_endpoint endpoint = {.endpoint = self->endpoint,
                                    .realm = weir_actor_node(self->kit)->realm,
                                    .plaintext = self->config->plaintext,
                                    .server = self->config->server};
    weir_err err = weir_bus_client_new(&self->client, &endpoint, report);
    if (err) return err;
    self->fd = weir_bus_client_fd(self->client);
    err = weir_actor_watch(self->kit, self->fd, nothing);
    if (err) return weir_report_set(report, err, NULL, "no descriptors left");
    self->hello = weir_bus_client_hello(self->client);
    self->asked_us = self->heard_us = weir_clock_now_us();
    return WEIR_OK;
}

static void send_join(source_bus *self)
{
    const weir_group_options *o = &self->config->options;
    weir_group_config start = weir_group_defaults;
    weir_bus_join join = weir_bus_join_defaults;
    weir_group_options_start(o, &start, NULL); // it was checked
    join.group = self->group;
    join.member = self->member;
    join.where = self->config->where;
    join.start = start.start == WEIR_GROUP_TIME ? NULL : o->start ? o->start : "start";
    join.start_ms = start.start_ms;
    join.ack_timeout_ms = WEIR_NONE; // a sink may be waiting for its server
    join.member_timeout_ms = o->member_timeout_us / 1000;
    join.max_deliver = o->max_deliver;
    join.window = o->window;
    join.retry_first_ms = o->retry_first_us / 1000;
    join.retry_max_ms = o->retry_max_us / 1000;
    self->joined = false;
    self->join = weir_bus_client_join(self->client, &join);
    self->asked_us = weir_clock_now_us();
}

/* --- Records ----------------------------------------------------------------------- */

/*  Records of one answer, all of one shard, on their way into blocks.                  */
typedef struct {
    source_bus *self;
    weir_builder builder;
    weir_run origin;
    size_t run_bytes; // of each run
    weir_run runs[WEIR_RUNS_MAX];
    size_t run_count;
    weir_position *at; // of each record, owned
    uint32_t shard, capacity;
} taking;

static void send_taken(taking *t)
{
    source_bus *self = t->self;
    weir_block *block = weir_builder_seal(&t->builder);
    if (!block) return;
    if (self->nonce) weir_block_set_places(block, t->runs, t->run_count);
    weir_outstanding_send(&self->sent, self->kit, self->port, t->shard, &block, &t->at);
    t->run_count = 0;
    t->capacity = 0;
}

static void note_position(taking *t, weir_position at)
{
    uint32_t records = t->builder.records;
    if (records == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 64;
        t->at = realloc(t->at, t->capacity * sizeof *t->at);
        if (!t->at) abort();
    }
    t->at[records] = at;
}

static bool continues(const weir_run *last, const weir_place *place)
{
    return place->epoch == last->place.epoch &&
           place->sequence == last->place.sequence + last->records &&
           place->offset == last->place.offset + last->records;
}

/*  A record that begins a run when there is no room for one begins a block.            */
static void take_record(taking *t, const weir_bus_record *record)
{
    const weir_place place = {.nonce = t->self->nonce,
                              .epoch = record->epoch,
                              .sequence = record->sequence,
                              .offset = record->at.b ? record->at.b : record->at.a,
                              .shard = record->shard};
    bool new = !t->run_count || !continues(&t->runs[t->run_count - 1], &place);
    if (new && (t->run_count == WEIR_RUNS_MAX ||
                (t->run_count + 1) * t->run_bytes > WEIR_RUN_BYTES_MAX))
        send_taken(t);
    if (new) {
        t->runs[t->run_count] = t->origin;
        t->runs[t->run_count++].place = place;
    }
    t->runs[t->run_count - 1].records++;
    note_position(t, record->at);
    weir_builder_add(&t->builder, &record->record, &t->origin);
}

static size_t size_of(const char *text)
{
    return text ? strlen(text) : 0;
}

static void take_records(source_bus *self, weir_bus_answer *answer)
{
    const weir_node *node = weir_actor_node(self->kit);
    const char *peer = self->config->server;
    taking t = {.self = self,
                .builder = {.ledger = node->ledger, .target = node->block_bytes},
                .origin = {.source = node->name, .peer = peer, .label = self->endpoint},
                .run_bytes = 16 + WEIR_PLACE_BYTES + size_of(node->name) + size_of(peer) +
                             size_of(self->endpoint)};
    weir_bus_record record;
    weir_err err = WEIR_OK;
    weir_actor_vitals(self->kit)->at_end =
        answer->count == 0 && !answer->is_late && !*answer->trouble;
    note_trouble(self, answer->trouble);
    bool first = true;
    while (!err && (err = weir_bus_answer_next(answer, &record)) == WEIR_OK) {
        if (!first && record.shard != t.shard) err = WEIR_EMALFORMED;
        if (err) break;
        first = false;
        t.shard = record.shard;
        take_record(&t, &record);
    }
    send_taken(&t);
    weir_builder_fini(&t.builder);
    free(t.at);
    if (err == WEIR_EMALFORMED)
        weir_actor_fail(self->kit, err, self->endpoint,
                        "it sent what is no record: is it the endpoint of a bus?");
}

/* --- Answers ----------------------------------------------------------------------- */

static bool is(const weir_bus_answer *answer, const char *code)
{
    return strcmp(answer->code, code) == 0;
}

/*  What another attempt cannot mend.                                                   */
static bool is_final(const weir_bus_answer *answer)
{
    return is(answer, "bad_request") || is(answer, "bad_cursor") ||
           is(answer, "bad_where");
}

/*  Who it is is asked before each join: another bus may listen there meanwhile.        */
static void met(source_bus *self, const weir_bus_answer *answer)
{
    self->hello = 0;
    self->nonce = answer->nonce;
    if (self->joined || self->join) return; // it was a sign of life
    if (*self->where_bus && strcmp(self->where_bus, answer->bus))
        weir_actor_fail(self->kit, WEIR_EINVAL, self->endpoint,
                        "this is the bus '%s', not '%s'", answer->bus, self->where_bus);
    else
        send_join(self);
}

static void ask_again(source_bus *self)
{
    self->joined = false;
    if (self->hello) return;
    self->hello = weir_bus_client_hello(self->client);
    self->asked_us = weir_clock_now_us();
}

static void joined(source_bus *self)
{
    self->join = 0;
    self->joined = true;
    self->again_us = again_first_us;
    weir_vitals_flow(weir_actor_vitals(self->kit), WEIR_WAIT_LINK, self->endpoint);
    weir_log(WEIR_INFO, "joined endpoint=%s group=%s", self->endpoint, self->group);
}

static void handle(source_bus *self, weir_bus_answer *answer)
{
    bool ok = is(answer, "ok");
    self->heard_us = weir_clock_now_us();
    if (is(answer, "not_joined")) {
        self->fetch = 0;
        if (!self->join) ask_again(self);
    } else if (!ok && is_final(answer)) {
        weir_actor_fail(self->kit, WEIR_EREFUSED, self->endpoint, "%s: %s", answer->code,
                        answer->text);
    } else if (!ok && !is(answer, "not_owner")) {
        try_again(self, answer->text);
    } else if (answer->id == self->hello) {
        met(self, answer);
    } else if (answer->id == self->join) {
        joined(self);
    } else if (answer->id == self->fetch) {
        self->fetch = 0;
        take_records(self, answer);
    }
}

static void read_answers(source_bus *self)
{
    weir_bus_answer answer;
    while (self->client && !weir_actor_failed(self->kit) &&
           weir_bus_client_recv(self->client, &answer))
        handle(self, &answer);
}

/* --- Turns ------------------------------------------------------------------------- */

static void fetch(source_bus *self)
{
    const weir_node *node = weir_actor_node(self->kit);
    if (!self->joined || self->fetch || self->ending || !weir_actor_has_room(self->kit))
        return;
    self->fetch = weir_bus_client_fetch(self->client, 10000, node->block_bytes, fetch_ms);
    self->asked_us = weir_clock_now_us();
}

/*  A member that cannot fetch says that it lives; one that hears nothing begins again. */
static void look_at_time(source_bus *self, int64_t now)
{
    weir_report report = {0};
    bool waits = self->hello || self->join || self->fetch;
    int64_t patience_us = self->joined ? answer_us : greeting_us;
    if (!self->client && now - self->heard_us >= self->again_us) {
        self->again_us =
            2 * self->again_us < again_max_us ? 2 * self->again_us : again_max_us;
        if (dial(self, &report))
            weir_actor_fail(self->kit, report.err, report.where, "%s", report.text);
    } else if (self->client && waits && now - self->heard_us >= patience_us &&
               now - self->asked_us >= patience_us) {
        try_again(self, "it does not answer");
    } else if (self->joined && !waits &&
               now - self->asked_us >= self->config->options.member_timeout_us / 3) {
        self->hello = weir_bus_client_hello(self->client);
        self->asked_us = now;
    }
}

static bool turn(void *arg)
{
    source_bus *self = arg;
    read_answers(self);
    if (weir_actor_failed(self->kit)) return false;
    look_at_time(self, weir_clock_now_us());
    if (self->client) fetch(self);
    read_answers(self); // what came while something was sent gives no sign
    weir_actor_timer(self->kit, nothing, beat_us);
    return self->client && self->joined && !self->fetch && !self->ending &&
           !weir_actor_failed(self->kit) && weir_actor_has_room(self->kit);
}

/*  The answers are not waited for: what they may say makes no difference here.         */
static weir_err ack(void *arg, uint32_t shard, weir_position at, weir_report *report)
{
    source_bus *self = arg;
    (void)report;
    if (self->client && self->joined) weir_bus_client_ack(self->client, shard, at, true);
    return WEIR_OK;
}

static weir_err nack(void *arg, uint32_t shard, weir_position at, const char *why)
{
    source_bus *self = arg;
    if (self->client) weir_bus_client_nack(self->client, shard, at, -1, why);
    return WEIR_OK;
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    source_bus *self = arg;
    weir_actor_timer(self->kit, nothing, 0);
    return weir_outstanding_commit(entry, ack, self, report);
}

static weir_err refused(void *arg, weir_entry *entry, const weir_refused *refusal)
{
    source_bus *self = arg;
    return weir_outstanding_refuse(self->kit, entry, refusal, nack, self);
}

static void drain(void *arg)
{
    source_bus *self = arg;
    self->ending = true;
    weir_actor_end(self->kit);
}

/* --- Lifecycle --------------------------------------------------------------------- */

/*  "NAME/BUS" in two.                                                                  */
static weir_err split(const char *text, char name[64], char bus[64], weir_report *report)
{
    const char *slash = text ? strchr(text, '/') : NULL;
    size_t size = slash ? (size_t)(slash - text) : 0;
    if (!slash || size == 0 || size > 63 || strlen(slash + 1) > 63 || !slash[1] ||
        strchr(slash + 1, '/'))
        return weir_report_set(report, WEIR_EINVAL, "bus",
                               "expected NAME/BUS, a bus of a topology on this host; or "
                               "give `connect`");
    snprintf(name, 64, "%.*s", (int)size, text);
    snprintf(bus, 64, "%s", slash + 1);
    return WEIR_OK;
}

static weir_err check(const void *config, weir_report *report)
{
    const weir_source_bus_config *c = config;
    char name[64], bus[64];
    weir_report cause = {0};
    weir_endpoint endpoint = {
        .endpoint = c->connect, .plaintext = c->plaintext, .server = c->server};
    weir_err err = WEIR_OK;
    if (!c->connect)
        err = split(c->bus, name, bus, report);
    else if (weir_endpoint_check(&endpoint, false, &cause) ||
             !weir_endpoint_is_foreign(c->connect))
        err = weir_report_set(report, WEIR_EINVAL, "connect", "%s",
                              *cause.text ? cause.text
                                          : "expected tcp://HOST:PORT or ipc://PATH");
    return err ? err : weir_group_options_check(&c->options, report);
}

static weir_err find_endpoint(source_bus *self, weir_report *report)
{
    const weir_source_bus_config *c = self->config;
    const weir_node *node = weir_actor_node(self->kit);
    char name[64], path[WEIR_IPC_PATH_MAX];
    if (c->connect) {
        snprintf(self->endpoint, sizeof self->endpoint, "%s", c->connect);
        snprintf(self->where_bus, sizeof self->where_bus, "%s", c->bus ? c->bus : "");
        return WEIR_OK;
    }
    weir_err err = split(c->bus, name, self->where_bus, report);
    if (err) return err;
    if (!node->run_dir)
        return weir_report_set(report, WEIR_EINVAL, "bus",
                               "there is no run folder: give `connect`");
    err = weir_rundir_bus(node->run_dir, name, self->where_bus, path, report);
    if (!err) snprintf(self->endpoint, sizeof self->endpoint, "ipc://%s", path);
    return err;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_bus *self = arg;
    const weir_source_bus_config *c = self->config = config;
    const weir_node *node = weir_actor_node(kit);
    self->kit = kit;
    self->again_us = again_first_us;
    self->port = weir_actor_port(kit, node->name);
    if (c->group)
        snprintf(self->group, sizeof self->group, "%s", c->group);
    else
        snprintf(self->group, sizeof self->group, "%.63s/%.63s",
                 node->topology ? node->topology : "weir", node->name);
    snprintf(self->member, sizeof self->member, "%.50s-%08x", node->name,
             randombytes_random());
    weir_err err = find_endpoint(self, report);
    if (err) return err;
    weir_endpoint_warn(
        &(weir_endpoint){.endpoint = self->endpoint, .plaintext = c->plaintext});
    return dial(self, report);
}

static void fini(void *arg)
{
    source_bus *self = arg;
    if (self->client && self->joined) weir_bus_client_leave(self->client);
    weir_bus_client_destroy(&self->client);
    weir_outstanding_fini(&self->sent, self->kit);
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const forever_word[] = {"forever", NULL};
static const char *const start_words[] = {"start", NULL};

#define AT(field) offsetof(weir_source_bus_config, field)

/* clang-format off */
static const weir_option options[] = {
    {"bus", WEIR_OPTION_TEXT, AT(bus), 0, 0, NULL, false, "NAME/BUS: a bus with a store of another topology on this host; with `connect` its name alone, which is then checked"},
    {"connect", WEIR_OPTION_TEXT, AT(connect), 0, 0, NULL, false, "its endpoint elsewhere (the bus's `listen`): tcp://HOST:PORT or ipc://PATH"},
    {"server", WEIR_OPTION_TEXT, AT(server), 0, 0, NULL, false, "the name in the certificate that the other side must have"},
    {"plaintext", WEIR_OPTION_BOOL, AT(plaintext), 0, 0, NULL, false, "tcp without encryption and without knowing who is there"},
    {"group", WEIR_OPTION_TEXT, AT(group), 0, 0, NULL, false, "the consumer group; none: TOPOLOGY/NODE"},
    {"where", WEIR_OPTION_FILTER, AT(where), 0, 0, NULL, false, "which records to bring; judged there, what does not match counts as acknowledged"},
    {"start", WEIR_OPTION_TEXT, AT(options.start), 0, 0, start_words, false, "where a new group begins: start, 'end', a time, or a cursor; none: start"},
    {"member_timeout", WEIR_OPTION_TIME, AT(options.member_timeout_us), 1e6, 3600e6, NULL, false, "when it is silent for so long, its records go to others"},
    {"max_deliver", WEIR_OPTION_INT, AT(options.max_deliver), 1, 1e6, forever_word, false, "failed deliveries that make a record a dead letter there"},
    {"window", WEIR_OPTION_INT, AT(options.window), 1, 1e6, NULL, false, "records that are not acknowledged"},
    {.name = NULL},
};
/* clang-format on */

const weir_class weir_source_bus_class = {
    .name = "source.bus",
    .help =
        "brings the records of a bus with a store of another topology, as a member of "
        "a consumer group",
    .actor = weir_source_bus,
    .size = sizeof(source_bus),
    .config_size = sizeof(weir_source_bus_config),
    .defaults = &weir_source_bus_defaults,
    .options = options,
    .source = true,
    .placed = true,
    .tracks = true,
    .check = check,
    .init = init,
    .fini = fini,
    .turn = turn,
    .refused = refused,
    .commit = commit,
    .drain = drain,
};

void weir_source_bus(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_bus_class, pipe, config);
}
