#include "actors/sink_jetstream.h"
#include "actors/jetstream_message.h"
#include "actors/jetstream_window.h"
#include "actors/loads.h"

const weir_sink_jetstream_config weir_sink_jetstream_defaults = {
    .port = WEIR_JS_PORT_DEFAULTS,
    .retry_attempts = WEIR_FOREVER,
    .replicas = 1,
    .dedup_us = 120000000, // as the server's own
    .delivery = WEIR_DELIVERY_DEFAULTS,
};

enum { lot = 256 }; // messages that are made before others have their turn

typedef struct {
    weir_js_window window; // first
    weir_actor *kit;
    const weir_sink_jetstream_config *config;
    weir_js_message message;
    char pattern[WEIR_JS_NAME];
    weir_delivery *delivery;
    weir_doc doc;
    weir_loads loads;
} sink_jetstream;

/* --- Settling ---------------------------------------------------------------------- */

/*  The slot's record, read again.                                                   */
static const weir_run *read_again(const weir_js_slot *slot, weir_subject *subject)
{
    weir_iterator at = slot->at;
    const weir_run *origin;
    weir_iterator_next(&at, &subject->record, &origin);
    weir_subject_begin(subject, origin);
    return origin;
}

static void bury(sink_jetstream *self, const weir_js_slot *slot)
{
    const weir_load *load = slot->load;
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin = read_again(slot, &subject);
    weir_delivery_refuse(self->delivery, load->entry, &subject, origin, slot->why);
}

static void settle(sink_jetstream *self, weir_js_slot *slot)
{
    weir_load *load = slot->load;
    if (slot->state == WEIR_SLOT_STORED)
        load->entry->fates.done++;
    else
        bury(self, slot);
    free(slot->why);
    weir_loads_settle(&self->loads, load);
}

static void settle_answered(sink_jetstream *self)
{
    weir_js_slot done[lot];
    for (size_t count = lot; count == lot;) {
        count = weir_js_window_take(&self->window, done, lot);
        for (size_t i = 0; i < count; i++)
            settle(self, &done[i]);
    }
}

/* --- Making messages --------------------------------------------------------------- */

/*  The next record that makes a message. False: there is none.                       */
static bool make_next(sink_jetstream *self, weir_js_slot *slot)
{
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin;
    while (weir_loads_next(&self->loads, &subject.record, &origin)) {
        weir_load *load = self->loads.current;
        if (!weir_delivery_wants(self->delivery, load->entry, &subject, origin)) continue;
        *slot = (weir_js_slot){
            .load = load, .at = self->loads.at, .state = WEIR_SLOT_TO_SEND};
        const char *error = weir_js_message_make(&self->message, &subject, &slot->msg);
        if (!error) {
            weir_loads_hold(&self->loads);
            return true;
        }
        weir_delivery_refuse(self->delivery, load->entry, &subject, origin, error);
    }
    return false;
}

static natsMsg *make_again(void *arg, const weir_js_slot *slot)
{
    sink_jetstream *self = arg;
    weir_subject subject = {.doc = &self->doc};
    natsMsg *msg = NULL;
    read_again(slot, &subject);
    return weir_js_message_make(&self->message, &subject, &msg) ? NULL : msg;
}

/*  Fills the window; true: there is more, and room for it.                            */
static bool make_some(sink_jetstream *self)
{
    weir_js_slot made[lot];
    size_t count = 0;
    uint64_t room = weir_js_window_room(&self->window);
    weir_js_window_remake(&self->window, make_again, self);
    while (count < lot && count < room && make_next(self, &made[count]))
        count++;
    if (count) weir_js_window_add(&self->window, made, count);
    return count == lot;
}

/* --- Messages ---------------------------------------------------------------------- */

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_jetstream *self = arg;
    weir_loads_add(&self->loads, entry, block);
}

static bool turn(void *arg)
{
    sink_jetstream *self = arg;
    if (weir_actor_failed(self->kit)) return false;
    int64_t due_us = weir_js_window_run(&self->window);
    settle_answered(self);
    if (!weir_js_window_tell(&self->window)) return false;
    bool more = make_some(self);
    weir_js_port_sleep(&self->window.port, due_us);
    return more && !weir_actor_failed(self->kit);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_js_message_config message_config(const weir_sink_jetstream_config *c)
{
    return (weir_js_message_config){.subject = c->subject,
                                    .stream = c->stream,
                                    .headers = &c->headers,
                                    .payload = c->payload,
                                    .id = c->id};
}

static weir_err check_pattern(const weir_js_message *message,
                              const weir_sink_jetstream_config *c, weir_report *report)
{
    char pattern[WEIR_JS_NAME];
    if (!c->stream || weir_js_message_pattern(message, pattern, sizeof pattern))
        return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, "subject",
                           "it is too long for that of a stream");
}

static weir_err check(const void *config, weir_report *report)
{
    const weir_sink_jetstream_config *c = config;
    weir_js_message message;
    weir_js_message_config of = message_config(c);
    weir_err err = weir_js_port_check(&c->port, report);
    if (err) return err;
    err = weir_js_message_init(&message, &of, report);
    if (!err) err = check_pattern(&message, c, report);
    weir_js_message_fini(&message);
    return err;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_jetstream *self = arg;
    const weir_sink_jetstream_config *c = self->config = config;
    weir_js_message_config of = message_config(c);
    weir_js_target target = {.stream = c->stream,
                             .subject = self->pattern,
                             .replicas = c->replicas,
                             .dedup_us = c->dedup_us,
                             .attempts = c->retry_attempts};
    self->kit = kit;
    weir_loads_init(&self->loads, kit);
    weir_err err = check(c, report);
    if (err) return err;
    weir_js_message_init(&self->message, &of, report);
    weir_js_message_pattern(&self->message, self->pattern, sizeof self->pattern);
    err = weir_delivery_new(&self->delivery, kit, &c->delivery, report);
    return err ? err : weir_js_window_open(&self->window, kit, &target, &c->port, report);
}

static void fini(void *arg)
{
    sink_jetstream *self = arg;
    weir_js_window_close(&self->window);
    weir_loads_fini(&self->loads);
    weir_delivery_destroy(&self->delivery);
    weir_js_message_fini(&self->message);
    weir_doc_fini(&self->doc);
}

/* --- Probe ------------------------------------------------------------------------- */

/*  Whether the stream has the subjects of its messages, as far as they are known.   */
static bool takes_subject(const weir_sink_jetstream_config *c, const weir_js_response *is,
                          char pattern[WEIR_JS_NAME])
{
    weir_report report = {0};
    weir_js_message message;
    weir_js_message_config of = message_config(c);
    bool known = weir_js_message_init(&message, &of, &report) == WEIR_OK &&
                 weir_js_message_pattern(&message, pattern, WEIR_JS_NAME);
    weir_js_message_fini(&message);
    return !known || weir_js_stream_takes(&is->root, pattern);
}

/*  What the answer means; who may publish, and no more, does without one.             */
static weir_err judge(const weir_sink_jetstream_config *c, const weir_js_asker *asker,
                      weir_report *report)
{
    char pattern[WEIR_JS_NAME] = "";
    const weir_js_response *is = &asker->response;
    const char *shown = asker->port.servers.text;
    if (asker->denied)
        return weir_report_set(report, WEIR_OK, shown,
                               "it lets us in, but not look at its JetStream");
    if (is->failed && is->err_code != WEIR_JS_NO_STREAM)
        return weir_report_set(report, WEIR_EREFUSED, shown, "%s%s%s",
                               c->stream ? c->stream : "", c->stream ? ": " : "",
                               is->text);
    if (!c->stream) return weir_report_set(report, WEIR_OK, shown, "JetStream is there");
    if (is->failed)
        return weir_report_set(report, WEIR_OK, shown,
                               "JetStream is there, the stream %s would be made",
                               c->stream);
    if (!takes_subject(c, is, pattern))
        return weir_report_set(report, WEIR_EREFUSED, shown,
                               "the stream %s is there, but does not have the subject "
                               "%s",
                               c->stream, pattern);
    return weir_report_set(report, WEIR_OK, shown, "the stream %s is there", c->stream);
}

/*  Asks no more than it does when it runs.                                          */
static weir_err probe(const void *config, int64_t timeout_us, weir_report *report)
{
    const weir_sink_jetstream_config *c = config;
    weir_js_asker asker;
    weir_err err = weir_js_asker_open(&asker, &c->port, timeout_us, report);
    if (!err)
        err = weir_js_ask_now(&asker, c->stream ? "STREAM.INFO" : "INFO",
                              c->stream ? c->stream : "", "", report);
    if (!err || asker.denied) err = judge(c, &asker, report);
    weir_js_asker_close(&asker);
    return err;
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const forever_word[] = {"forever", NULL};

#define AT(member) offsetof(weir_sink_jetstream_config, member)

static const weir_option options[] = {
    WEIR_JS_PORT_OPTIONS(
        weir_sink_jetstream_config, port,
        "most messages without an answer; with 1 order is kept even when "
        "the stream takes some records and others not"),
    {"retry.attempts", WEIR_OPTION_INT, AT(retry_attempts), 1, 1e6, forever_word, false,
     "attempts in a row that store nothing before the node stops"},
    {"subject", WEIR_OPTION_TEXT, AT(subject), 0, 0, NULL, true,
     "of each message, with fields in braces: \"orders.{region}\"; a field is one token "
     "or "
     "a part of one"},
    {"stream", WEIR_OPTION_TEXT, AT(stream), 0, 0, NULL, false,
     "the stream that must take it; made when it is missing; without it some stream must "
     "have the subject"},
    {"headers", WEIR_OPTION_MAP, AT(headers), 0, 0, NULL, false,
     "headers of each message: { [\"Tenant\"] = \"{tenant}\" }"},
    {"payload", WEIR_OPTION_TEXT, AT(payload), 0, 0, NULL, false,
     "text with fields in braces; without it the payload as it is, a MessagePack "
     "document "
     "as JSON"},
    {"id", WEIR_OPTION_TEXT, AT(id), 0, 0, NULL, false,
     "the message's id, by which the stream knows duplicates, with fields in braces; "
     "without it the id that the record has from a bus with a store, else none"},
    {"replicas", WEIR_OPTION_INT, AT(replicas), 1, 5, NULL, false,
     "of a stream that is made"},
    {"dedup", WEIR_OPTION_TIME, AT(dedup_us), 100e3, 24 * 3600e6, NULL, false,
     "duplicate window of a stream that is made"},
    {"on_error", WEIR_OPTION_WORD, AT(delivery.on_error), 0, 0, weir_on_error_words,
     false, "for a record that makes no message, or that the stream can never take"},
    WEIR_SCREEN_OPTIONS(weir_sink_jetstream_config, delivery.screen),
    {.name = NULL},
};

const weir_class weir_sink_jetstream_class = {
    .name = "sink.jetstream",
    .help = "publishes records into streams of NATS JetStream; a record is done when the "
            "server has acknowledged it",
    .actor = weir_sink_jetstream,
    .size = sizeof(sink_jetstream),
    .config_size = sizeof(weir_sink_jetstream_config),
    .defaults = &weir_sink_jetstream_defaults,
    .options = options,
    .inlet = true,
    .check = check,
    .probe = probe,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .turn = turn,
};

void weir_sink_jetstream(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_jetstream_class, pipe, config);
}
