#include "actors/sink_redis.h"
#include "actors/loads.h"
#include "actors/redis_form.h"
#include "actors/redis_port.h"
#include "actors/redis_probe.h"
#include "actors/redis_writer.h"
#include "runtime/intake.h"

const weir_sink_redis_config weir_sink_redis_defaults = {
    .server = WEIR_REDIS_SERVER_DEFAULTS,
    .maxlen = WEIR_FOREVER,
    .dedup_us = 3600000000,
    .window = 4096,
    .delivery = WEIR_DELIVERY_DEFAULTS,
};

/*  Bytes of entries that are not answered, beside one.                               */
static const size_t bytes_max = 16 << 20;

typedef struct {
    weir_actor *kit;
    const weir_sink_redis_config *config;
    weir_redis_port port;
    weir_redis_writer *writer;
    weir_redis_form form;
    weir_delivery *delivery;
    weir_doc doc;
    weir_loads loads;
    weir_subject subject; // the record that is being given
} sink_redis;

/* --- Settling ---------------------------------------------------------------------- */

static void refuse(sink_redis *self, const weir_redis_item *item, const char *why)
{
    const weir_load *load = item->load;
    weir_subject subject = {.doc = &self->doc};
    const uint8_t *body = weir_block_body(load->block);
    weir_reader reader = {body + item->offset, body + weir_block_size(load->block)};
    weir_record_read(&subject.record, &reader, true);
    weir_delivery_refuse(self->delivery, load->entry, &subject, item->origin, why);
}

static void settled(void *arg, const weir_redis_item *item, const char *refused)
{
    sink_redis *self = arg;
    weir_load *load = item->load;
    if (weir_actor_failed(self->kit)) return;
    if (refused)
        refuse(self, item, refused);
    else
        load->entry->fates.done++;
    if (weir_actor_failed(self->kit)) return;
    weir_loads_settle(&self->loads, load);
}

/* --- Records ----------------------------------------------------------------------- */

static void give(sink_redis *self, const weir_run *origin)
{
    const weir_redis_form *form = &self->form;
    size_t size = form->words.size;
    weir_redis_item *item = malloc(sizeof *item + size);
    if (!item) abort();
    *item = (weir_redis_item){.load = self->loads.current,
                              .origin = origin,
                              .offset = self->loads.at.offset,
                              .kind = form->kind,
                              .place = form->place,
                              .size = size};
    memcpy(item->words, form->words.data, size);
    weir_loads_hold(&self->loads);
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_BYTES_OUT, size);
    weir_redis_writer_add(self->writer, form->name.data, form->name.size, &item);
}

static void take_record(sink_redis *self, const weir_run *origin)
{
    weir_entry *entry = self->loads.current->entry;
    if (!weir_delivery_wants(self->delivery, entry, &self->subject, origin)) return;
    const char *error = weir_redis_form_fill(&self->form, &self->subject);
    if (error)
        weir_delivery_refuse(self->delivery, entry, &self->subject, origin, error);
    else
        give(self, origin);
}

static bool has_room(const sink_redis *self)
{
    return weir_redis_writer_entries(self->writer) < (size_t)self->config->window &&
           weir_redis_writer_bytes(self->writer) < bytes_max;
}

static void take_records(sink_redis *self)
{
    const weir_run *origin;
    while (has_room(self) &&
           weir_loads_next(&self->loads, &self->subject.record, &origin))
        take_record(self, origin);
}

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_redis *self = arg;
    weir_loads_add(&self->loads, entry, block);
}

/*  Something came, or is due: turn () follows.                                       */
static void ready(void *arg)
{
    sink_redis *self = arg;
    weir_redis_port_run(&self->port);
}

static void nothing(void *arg)
{
    (void)arg;
}

static bool turn(void *arg)
{
    sink_redis *self = arg;
    take_records(self);
    if (weir_actor_failed(self->kit)) return false;
    int64_t wait_us = weir_redis_writer_run(self->writer);
    weir_actor_timer(self->kit, nothing, wait_us);
    return weir_redis_port_run(&self->port) && !weir_actor_failed(self->kit);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_redis_form_config form_of(const weir_sink_redis_config *c)
{
    return (weir_redis_form_config){.stream = c->stream,
                                    .id = c->id,
                                    .fields = &c->fields,
                                    .ids = c->dedup_us != WEIR_NONE};
}

static weir_err check(const void *config, weir_report *report)
{
    const weir_sink_redis_config *c = config;
    weir_redis_form form;
    weir_redis_form_config how = form_of(c);
    if (!c->stream) return weir_report_set(report, WEIR_EINVAL, "stream", "is required");
    if (c->id && c->dedup_us == WEIR_NONE)
        return weir_report_set(report, WEIR_EINVAL, "id",
                               "is of no use with dedup = none");
    weir_err err = weir_redis_form_init(&form, &how, report);
    weir_redis_form_fini(&form);
    return err ? err : weir_redis_server_check(&c->server, report);
}

static weir_err open_writer(sink_redis *self, weir_report *report)
{
    const weir_sink_redis_config *c = self->config;
    weir_redis_writer_config how = {.port = &self->port,
                                    .words = 2 * self->form.count,
                                    .maxlen = c->maxlen,
                                    .dedup_us = c->dedup_us,
                                    .settled = settled,
                                    .arg = self};
    self->port =
        (weir_redis_port){.kit = self->kit, .config = &c->server, .ready = ready};
    weir_err err = weir_redis_port_open(&self->port, report);
    if (!err) self->writer = weir_redis_writer_new(&how);
    return err;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_redis *self = arg;
    const weir_sink_redis_config *c = self->config = config;
    weir_redis_form_config form = form_of(c);
    self->kit = kit;
    weir_loads_init(&self->loads, kit);
    self->subject.doc = &self->doc;
    weir_err err = check(c, report);
    if (!err) err = weir_redis_form_init(&self->form, &form, report);
    if (!err) err = weir_delivery_new(&self->delivery, kit, &c->delivery, report);
    return err ? err : open_writer(self, report);
}

static void fini(void *arg)
{
    sink_redis *self = arg;
    weir_redis_writer_destroy(&self->writer);
    weir_redis_port_close(&self->port);
    weir_loads_fini(&self->loads);
    weir_delivery_destroy(&self->delivery);
    weir_redis_form_fini(&self->form);
    weir_doc_fini(&self->doc);
}

static weir_err probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const weir_sink_redis_config *c = config;
    weir_template stream;
    weir_err err = weir_template_parse(&stream, c->stream, report);
    bool constant = !err && weir_template_is_constant(&stream);
    weir_redis_probe what = {.server = &c->server,
                             .stream = constant ? (char *)stream.parts[0].text : NULL,
                             .stream_size = constant ? stream.parts[0].size : 0,
                             .timeout_us = timeout_us};
    if (!err) err = weir_redis_probe_run(&what, report);
    weir_template_fini(&stream);
    return err;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const all_word[] = {"all", NULL};

#define AT(member) offsetof(weir_sink_redis_config, member)

static const weir_option options[] = {
    WEIR_REDIS_SERVER_OPTIONS(weir_sink_redis_config, server),
    {"stream", WEIR_OPTION_TEXT, AT(stream), 0, 0, NULL, true,
     "the stream's key, with fields of the record in braces: \"orders:{region}\""},
    {"fields", WEIR_OPTION_MAP, AT(fields), 0, 0, NULL, false,
     "the fields of an entry, a text each, with fields of the record in braces; without "
     "it "
     "one: data = \"{$raw}\", the payload's text"},
    {"maxlen", WEIR_OPTION_INT, AT(maxlen), 1, WEIR_UNBOUNDED, all_word, false,
     "entries that a stream keeps, about (MAXLEN ~)"},
    {"dedup", WEIR_OPTION_TIME, AT(dedup_us), 1000, WEIR_UNBOUNDED, weir_none_word, false,
     "how long the server remembers the ids of records, so that none is doubled"},
    {"id", WEIR_OPTION_TEXT, AT(id), 0, 0, NULL, false,
     "a record's id, with fields of it in braces; without it that which a bus with a "
     "store has given it; records without one may be doubled"},
    {"window", WEIR_OPTION_INT, AT(window), 1, 65536, NULL, false,
     "records that the server has not answered"},
    {"on_error", WEIR_OPTION_WORD, AT(delivery.on_error), 0, 0, weir_on_error_words,
     false,
     "for a record that can never be stored: it lacks a field of a text, its key is no "
     "stream"},
    WEIR_SCREEN_OPTIONS(weir_sink_redis_config, delivery.screen),
    {.name = NULL},
};

const weir_class weir_sink_redis_class = {
    .name = "sink.redis",
    .help = "adds records to streams of a Redis server; done is what it has answered",
    .actor = weir_sink_redis,
    .size = sizeof(sink_redis),
    .config_size = sizeof(weir_sink_redis_config),
    .defaults = &weir_sink_redis_defaults,
    .options = options,
    .inlet = true,
    .check = check,
    .probe = probe,
    .init = init,
    .fini = fini,
    .start = ready,
    .recv_block = recv_block,
    .turn = turn,
};

void weir_sink_redis(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_redis_class, pipe, config);
}
