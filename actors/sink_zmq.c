#include "actors/sink_zmq.h"
#include "actors/loads.h"
#include "actors/template.h"
#include "actors/zmq_frames.h"
#include "runtime/clock.h"

const weir_sink_zmq_config weir_sink_zmq_defaults = {
    .port.hwm = 1000,
    .timeout_us = 30000000,
    .linger_us = 5000000,
    .delivery = WEIR_DELIVERY_DEFAULTS,
};

#define MESSAGES_A_TURN 1024
#define ENVELOPE 2 // frames: number, ""

/*  A message that was sent and is not answered.                                 */
typedef struct {
    weir_load *load; // NULL: it is answered
    size_t offset;   // of the record in the block's body
    int64_t sent_us;
} question;

/*  The frames of one record, and what they point into, beside the record.       */
typedef struct {
    weir_zmq_frame frames[ENVELOPE + WEIR_ZMQ_FRAMES_MAX];
    size_t count;
    uint8_t number[8]; // of the message, the most significant byte first
    char key_number[24], topic_number[24];
    weir_buffer key, topic;
} message;

typedef struct {
    weir_actor *kit;
    const weir_sink_zmq_config *config;
    weir_zmq_port port;
    weir_delivery *delivery;
    weir_zmq_map map;
    weir_template topic;
    weir_doc doc;
    weir_loads loads;
    weir_subject subject; // the record that is being sent
    message held, again;  // the record's, one that is sent once more
    bool holding;         // held has not been taken yet
    bool blocked;         // the wait is published
    uint64_t sent;        // number of the last message
    question *questions;  // ring of hwm places; NULL: no reply is asked for
    uint64_t base;        // number of the first that is not answered
} sink_zmq;

static const int socket_types[] = {
    [WEIR_SINK_ZMQ_PUSH] = ZMQ_PUSH,
    [WEIR_SINK_ZMQ_PUB] = ZMQ_PUB,
    [WEIR_SINK_ZMQ_DEALER] = ZMQ_DEALER,
};

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err check_frames(const weir_sink_zmq_config *c, weir_report *report)
{
    weir_zmq_map map;
    weir_report cause = {0};
    if (weir_zmq_map_parse(&map, &c->frames, &cause))
        return weir_report_set(report, WEIR_EINVAL, "frames", "%s", cause.text);
    if (weir_zmq_map_has(&map, WEIR_ZMQ_SKIP))
        return weir_report_set(report, WEIR_EINVAL, "frames",
                               "\"skip\" is nothing that could be sent");
    if (c->topic && map.count && !weir_zmq_map_has(&map, WEIR_ZMQ_TOPIC))
        return weir_report_set(report, WEIR_EINVAL, "topic", "`frames` has no \"topic\"");
    return WEIR_OK;
}

static weir_err check(const void *config, weir_report *report)
{
    const weir_sink_zmq_config *c = config;
    weir_template topic = {0};
    weir_report cause = {0};
    weir_err err = c->topic ? weir_template_parse(&topic, c->topic, &cause) : WEIR_OK;
    weir_template_fini(&topic);
    if (err) return weir_report_set(report, err, "topic", "%s", cause.text);
    if (c->reply == WEIR_SINK_ZMQ_SAFE && c->type != WEIR_SINK_ZMQ_DEALER)
        return weir_report_set(report, WEIR_EINVAL, "reply",
                               "only type = dealer receives replies");
    err = check_frames(c, report);
    return err ? err : weir_zmq_port_check(&c->port, report);
}

static void set_up(void *arg, void *handle)
{
    sink_zmq *self = arg;
    int linger_ms = (int)(self->config->linger_us / 1000);
    zmq_setsockopt(handle, ZMQ_LINGER, &linger_ms, sizeof linger_ms);
}

static void ready(void *arg)
{
    sink_zmq *self = arg;
    weir_zmq_port_woken(&self->port); // turn () follows
}

static void revoked(void *arg)
{
    sink_zmq *self = arg;
    weir_zmq_port_revoked(&self->port);
}

static void default_map(weir_zmq_map *map, bool topic)
{
    if (map->count) return;
    if (topic) map->parts[map->count++] = WEIR_ZMQ_TOPIC;
    map->parts[map->count++] = WEIR_ZMQ_PAYLOAD;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    sink_zmq *self = arg;
    const weir_sink_zmq_config *c = self->config = config;
    self->kit = kit;
    weir_loads_init(&self->loads, kit);
    self->base = 1;
    self->subject.doc = &self->doc;
    weir_err err = check(c, report);
    if (err) return err;
    weir_zmq_map_parse(&self->map, &c->frames, report);
    default_map(&self->map, c->topic != NULL);
    if (c->topic) weir_template_parse(&self->topic, c->topic, report);
    if (c->reply == WEIR_SINK_ZMQ_SAFE) {
        self->questions = calloc((size_t)c->port.hwm, sizeof *self->questions);
        if (!self->questions) abort();
    }
    err = weir_delivery_new(&self->delivery, kit, &c->delivery, report);
    if (err) return err;
    self->port = (weir_zmq_port){
        .kit = kit,
        .config = &c->port,
        .type = socket_types[c->type],
        .role = WEIR_ROLE_CONSUME,
        .setup = set_up,
        .ready = ready,
        .revoked = revoked,
        .arg = self,
    };
    return weir_zmq_port_open(&self->port, report);
}

static void free_message(message *m)
{
    weir_buffer_fini(&m->key);
    weir_buffer_fini(&m->topic);
}

static void fini(void *arg)
{
    sink_zmq *self = arg;
    weir_zmq_port_close(&self->port);
    weir_loads_fini(&self->loads);
    free(self->questions);
    free_message(&self->held);
    free_message(&self->again);
    weir_delivery_destroy(&self->delivery);
    weir_template_fini(&self->topic);
    weir_doc_fini(&self->doc);
}

/* --- Frames ------------------------------------------------------------------------ */

static const weir_zmq_frame empty = {(const uint8_t *)"", 0};

static const char *put_key(const weir_subject *subject, message *m, weir_zmq_frame *frame)
{
    const weir_value *key = &subject->record.key;
    *frame = empty;
    if (key->type == WEIR_MISSING || key->type == WEIR_NULL) return NULL;
    if (weir_key_bytes(key, m->key_number, &m->key, &frame->data, &frame->size))
        return NULL;
    return "the key is neither text, bytes, integer nor boolean";
}

/*  By the template; without one the record's header `topic`, as source.zmq sets it. */
static const char *put_topic(sink_zmq *self, weir_subject *subject, message *m,
                             weir_zmq_frame *frame)
{
    weir_value value;
    m->topic.size = 0;
    if (self->config->topic) {
        const char *error = weir_template_put(&self->topic, subject, &m->topic);
        *frame = m->topic.size ? (weir_zmq_frame){m->topic.data, m->topic.size} : empty;
        return error;
    }
    weir_record_header(&subject->record, "topic", 5, &value);
    if (weir_key_bytes(&value, m->topic_number, &m->topic, &frame->data, &frame->size))
        return NULL;
    return "the record has no header `topic`, and the node no option of that name";
}

static const char *put_part(sink_zmq *self, weir_zmq_part part, weir_subject *subject,
                            message *m)
{
    const weir_record *record = &subject->record;
    weir_zmq_frame *frame = &m->frames[m->count++];
    *frame = empty;
    switch (part) {
    case WEIR_ZMQ_KEY:
        return put_key(subject, m, frame);
    case WEIR_ZMQ_TOPIC:
        return put_topic(self, subject, m, frame);
    case WEIR_ZMQ_HEADERS:
        if (record->headers)
            *frame = (weir_zmq_frame){record->headers, record->headers_size};
        return NULL;
    case WEIR_ZMQ_SEQUENCE:
        *frame = (weir_zmq_frame){m->number, sizeof m->number};
        return NULL;
    default:
        *frame = (weir_zmq_frame){record->data, record->size};
        return NULL;
    }
}

/*  NULL, or why the record makes no message.                                    */
static const char *render(sink_zmq *self, weir_subject *subject, uint64_t number,
                          message *m)
{
    const char *error = NULL;
    m->count = 0;
    number = __builtin_bswap64(number);
    memcpy(m->number, &number, sizeof m->number);
    if (self->questions) {
        m->frames[m->count++] = (weir_zmq_frame){m->number, sizeof m->number};
        m->frames[m->count++] = empty;
    }
    for (size_t i = 0; i < self->map.count && !error; i++)
        error = put_part(self, self->map.parts[i], subject, m);
    return error;
}

/*  False: the socket takes none now, or the actor has failed. libzmq takes the frames
    of a message all or none.                                                     */
static bool send_message(sink_zmq *self, const message *m)
{
    size_t bytes = 0;
    for (size_t i = 0; i < m->count; i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < m->count ? ZMQ_SNDMORE : 0);
        bytes += m->frames[i].size;
        if (zmq_send(self->port.handle, m->frames[i].data, m->frames[i].size, flags) >= 0)
            continue;
        if (errno != EAGAIN)
            weir_actor_fail(self->kit, WEIR_ESYS, self->port.endpoint, "cannot send: %s",
                            zmq_strerror(errno));
        return false;
    }
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_BYTES_OUT, bytes);
    return true;
}

/* --- Questions --------------------------------------------------------------------- */

static question *question_at(const sink_zmq *self, uint64_t number)
{
    return &self->questions[number % (uint64_t)self->config->port.hwm];
}

static bool may_ask(const sink_zmq *self)
{
    return !self->questions ||
           self->sent + 1 - self->base < (uint64_t)self->config->port.hwm;
}

static void resend(void *arg);

static void ask(sink_zmq *self)
{
    if (self->base == self->sent)
        weir_actor_timer(self->kit, resend, self->config->timeout_us);
    *question_at(self, self->sent) =
        (question){self->loads.current, self->loads.at.offset, weir_clock_now_us()};
    weir_loads_hold(&self->loads);
}

/*  Answers come in any order, twice, and to questions of an earlier life.        */
static void take_answer(sink_zmq *self, uint64_t number)
{
    if (number < self->base || number > self->sent) return;
    question *q = question_at(self, number);
    weir_load *load = q->load;
    if (!load) return;
    q->load = NULL;
    while (self->base <= self->sent && !question_at(self, self->base)->load)
        self->base++;
    weir_loads_settle(&self->loads, load);
}

/*  Reads a message whose first frame may be a number of ours, with "" behind it. False:
    there is none.                                                                */
static bool read_answer(sink_zmq *self)
{
    uint64_t number = 0;
    bool numbered = false, ours = false, more = true;
    for (int i = 0; more; i++) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, self->port.handle, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            return false;
        }
        more = zmq_msg_more(&part);
        size_t size = zmq_msg_size(&part);
        if (i == 0 && size == sizeof number) {
            memcpy(&number, zmq_msg_data(&part), sizeof number);
            numbered = true;
        }
        if (i == 1) ours = numbered && size == 0;
        zmq_msg_close(&part);
    }
    if (ours) take_answer(self, __builtin_bswap64(number));
    return true;
}

/*  The record of a question, rendered as it was.                                 */
static bool ask_again(sink_zmq *self, uint64_t number)
{
    question *q = question_at(self, number);
    const weir_block *block = q->load->block;
    weir_reader reader = {weir_block_body(block) + q->offset,
                          weir_block_body(block) + weir_block_size(block)};
    weir_doc doc = {0};
    weir_subject subject = {.doc = &doc};
    if (weir_record_read(&subject.record, &reader, true)) return false;
    bool sent =
        !render(self, &subject, number, &self->again) && send_message(self, &self->again);
    weir_doc_fini(&doc);
    if (sent) q->sent_us = weir_clock_now_us();
    if (sent) weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_RETRIES, 1);
    return sent;
}

static void resend(void *arg)
{
    sink_zmq *self = arg;
    int64_t late_us = weir_clock_now_us() - self->config->timeout_us;
    bool going = self->port.handle != NULL;
    for (uint64_t n = self->base; n <= self->sent && going; n++) {
        const question *q = question_at(self, n);
        if (q->load && q->sent_us <= late_us) going = ask_again(self, n);
    }
    if (self->base <= self->sent)
        weir_actor_timer(self->kit, resend, self->config->timeout_us / 4);
}

/* --- Sending ----------------------------------------------------------------------- */

/*  Moves to the next record that is to be sent. False: there is none.            */
static bool hold_record(sink_zmq *self)
{
    const weir_run *origin;
    while (weir_loads_next(&self->loads, &self->subject.record, &origin)) {
        weir_entry *entry = self->loads.current->entry;
        if (!weir_delivery_wants(self->delivery, entry, &self->subject, origin)) continue;
        const char *error = render(self, &self->subject, self->sent + 1, &self->held);
        if (!error) return self->holding = true;
        weir_delivery_refuse(self->delivery, entry, &self->subject, origin, error);
    }
    return false;
}

static void say_blocked(sink_zmq *self)
{
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    self->blocked = true;
    if (may_ask(self))
        weir_vitals_wait(vitals, WEIR_WAIT_WRITE, self->port.endpoint,
                         "no peer takes messages");
    else
        weir_vitals_wait(vitals, WEIR_WAIT_WRITE, self->port.endpoint,
                         "%" PRId64 " messages are not answered", self->config->port.hwm);
}

static void say_flowing(sink_zmq *self)
{
    if (self->blocked)
        weir_vitals_flow(weir_actor_vitals(self->kit), WEIR_WAIT_WRITE,
                         self->port.endpoint);
    self->blocked = false;
}

static bool send_held(sink_zmq *self)
{
    if (!may_ask(self) || !send_message(self, &self->held)) {
        say_blocked(self);
        return false;
    }
    say_flowing(self);
    self->holding = false;
    self->sent++;
    self->loads.current->entry->fates.done++;
    if (self->questions) ask(self);
    return true;
}

/*  What it waits for. A socket that is not waited for is left alone.              */
static bool wait_for_socket(sink_zmq *self)
{
    int events = 0;
    if (self->holding && may_ask(self)) events |= ZMQ_POLLOUT;
    if (self->questions && self->base <= self->sent) events |= ZMQ_POLLIN;
    return events && weir_zmq_port_wait(&self->port, events);
}

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    sink_zmq *self = arg;
    weir_loads_add(&self->loads, entry, block);
}

static bool turn(void *arg)
{
    sink_zmq *self = arg;
    if (weir_actor_failed(self->kit)) return false;
    if (self->port.stale && !weir_zmq_port_renew(&self->port)) return false;
    for (int i = 0; self->questions && i < MESSAGES_A_TURN; i++)
        if (!read_answer(self)) break;
    for (int i = 0; i < MESSAGES_A_TURN; i++) {
        if (!self->holding && !hold_record(self)) break;
        if (!send_held(self)) break;
        if (i + 1 == MESSAGES_A_TURN) return true;
    }
    return !weir_actor_failed(self->kit) && wait_for_socket(self);
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const type_words[] = {"push", "pub", "dealer", NULL};
static const char *const reply_words[] = {"none", "safe", NULL};

#define AT(member) offsetof(weir_sink_zmq_config, member)

static const weir_option options[] = {
    {"type", WEIR_OPTION_WORD, AT(type), 0, 0, type_words, true,
     "the socket: push for PULL peers, pub for SUB, dealer for ROUTER and REP"},
    WEIR_ZMQ_PORT_OPTIONS(weir_sink_zmq_config, port),
    {"topic", WEIR_OPTION_TEXT, AT(topic), 0, 0, NULL, false,
     "text of the topic frame, with fields in braces: \"logs.{host}\"; without it the "
     "header `topic`"},
    {"frames", WEIR_OPTION_TEXTS, AT(frames), 0, 0, NULL, false,
     "what each frame is: \"payload\", \"key\", \"topic\", \"headers\" (a MessagePack "
     "map), "
     "\"sequence\" (8 bytes, from 1 at each start); without it the topic, if `topic` is "
     "given, and the payload"},
    {"reply", WEIR_OPTION_WORD, AT(reply), 0, 0, reply_words, false,
     "dealer: with safe a record is done when the peer has answered it; at most hwm are "
     "not "
     "answered"},
    {"timeout", WEIR_OPTION_TIME, AT(timeout_us), 10000, 3600e6, NULL, false,
     "reply = safe: what is not answered by then is sent again"},
    {"linger", WEIR_OPTION_TIME, AT(linger_us), 0, 600e6, NULL, false,
     "at the end, for what is queued and not sent yet"},
    {"on_error", WEIR_OPTION_WORD, AT(delivery.on_error), 0, 0, weir_on_error_words,
     false, "for a record that lacks what `frames` or `topic` asks for"},
    WEIR_SCREEN_OPTIONS(weir_sink_zmq_config, delivery.screen),
    {.name = NULL},
};

const weir_class weir_sink_zmq_class = {
    .name = "sink.zmq",
    .help = "sends records to plain ZeroMQ peers; what libzmq has taken counts as done, "
            "unless reply = safe",
    .actor = weir_sink_zmq,
    .size = sizeof(sink_zmq),
    .config_size = sizeof(weir_sink_zmq_config),
    .defaults = &weir_sink_zmq_defaults,
    .options = options,
    .inlet = true,
    .check = check,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .turn = turn,
};

void weir_sink_zmq(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_sink_zmq_class, pipe, config);
}
