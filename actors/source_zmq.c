#include "actors/source_zmq.h"
#include "actors/zmq_frames.h"
#include "actors/zmq_gaps.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <xxhash.h>

const weir_source_zmq_config weir_source_zmq_defaults = {
    .port.hwm = 1000,
    .intake = WEIR_INTAKE_DEFAULTS_WITH(WEIR_FRAMING_BLOB),
};

#define MESSAGES_A_TURN 1024
#define PEER_BUCKETS 256
#define PARTS_MAX (WEIR_ZMQ_FRAMES_MAX + 1) // a ROUTER puts the sender's id before

static const size_t replies_max = 65536; // then nothing is read
static const int replies_hwm = 65536;    // of one peer: what he does not read is dropped
static const size_t envelope_max = 4096; // bytes
static const size_t oversize_kept = 64 << 10;   // bytes of an oversize payload
static const size_t bad_bytes_a_turn = 1 << 20; // of dead letters, before they settle
static const int64_t finish_us = 1000000;       // for what libzmq holds at the end
static const int64_t tell_us = 1000000;         // between two lines of one cause

/*  Somebody whose certificate came with a message.                              */
typedef struct known_peer {
    struct known_peer *next;
    bool allowed;
    char name[WEIR_PEER_NAME_MAX];
    char key[41]; // of its connection, Z85
} known_peer;

/*  An answer that is owed once message `number` is safe: id, envelope, "".       */
typedef struct reply {
    struct reply *next;
    uint64_t number;
    size_t count;
    zmq_msg_t parts[];
} reply;

typedef struct {
    weir_actor *kit;
    const weir_source_zmq_config *config;
    weir_zmq_port port;
    weir_intake *intake;
    weir_lane lane; // positions are numbers of messages
    weir_zmq_map map;
    uint64_t number;            // of the last message
    zmq_msg_t parts[PARTS_MAX]; // of the message, the first `count` of them
    weir_zmq_frame frames[PARTS_MAX];
    size_t count;
    bool surplus;           // there were more
    weir_framer *framer;    // NULL: a payload is a record
    bool open;              // the framer has more of the message
    weir_envelope envelope; // of the message's records
    weir_buffer headers;
    weir_doc doc;       // scratch
    weir_path sequence; // no steps: none
    weir_zmq_gaps *gaps;
    weir_zmq_frame sender;           // whose sequence it is
    known_peer *peers[PEER_BUCKETS]; // by their keys, owned
    reply *first, **last;            // owed, the oldest first
    size_t owed;
    uint64_t owed_number;        // message of the newest
    weir_buffer bad;             // scratch: a message that could not be read
    size_t bad_bytes;            // of this turn
    uint64_t missing, malformed; // not told yet
    const char *cause;           // of the last malformed one
    bool telling;                // a line was written less than tell_us ago
    bool draining, ended;
    int64_t finish_at_us; // draining: when it ends at the latest
} source_zmq;

static const int socket_types[] = {
    [WEIR_SOURCE_ZMQ_PULL] = ZMQ_PULL,
    [WEIR_SOURCE_ZMQ_SUB] = ZMQ_SUB,
    [WEIR_SOURCE_ZMQ_ROUTER] = ZMQ_ROUTER,
};

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err check(const void *config, weir_report *report)
{
    const weir_source_zmq_config *c = config;
    weir_zmq_map map;
    weir_report cause = {0};
    if (weir_zmq_map_parse(&map, &c->frames, &cause))
        return weir_report_set(report, WEIR_EINVAL, "frames", "%s", cause.text);
    if (c->topics.count && c->type != WEIR_SOURCE_ZMQ_SUB)
        return weir_report_set(report, WEIR_EINVAL, "topics",
                               "only type = sub subscribes to topics");
    if (c->sequence && weir_zmq_map_has(&map, WEIR_ZMQ_SEQUENCE))
        return weir_report_set(report, WEIR_EINVAL, "sequence",
                               "`frames` names a frame for it already");
    return weir_zmq_port_check(&c->port, report);
}

/*  A peer that comes back under his own id takes over from the connection that is
    dead; else libzmq would never read from the new one.                        */
static void set_up(void *arg, void *handle)
{
    source_zmq *self = arg;
    const weir_texts *topics = &self->config->topics;
    int on = 1;
    if (self->config->type == WEIR_SOURCE_ZMQ_ROUTER)
        zmq_setsockopt(handle, ZMQ_ROUTER_HANDOVER, &on, sizeof on);
    if (self->config->type != WEIR_SOURCE_ZMQ_SUB) return;
    if (topics->count == 0) zmq_setsockopt(handle, ZMQ_SUBSCRIBE, "", 0);
    for (size_t i = 0; i < topics->count; i++)
        zmq_setsockopt(handle, ZMQ_SUBSCRIBE, topics->items[i], strlen(topics->items[i]));
}

static void ready(void *arg)
{
    source_zmq *self = arg;
    weir_zmq_port_woken(&self->port); // turn () follows
}

static void revoked(void *arg);

static weir_err open_port(source_zmq *self, weir_report *report)
{
    self->port = (weir_zmq_port){
        .kit = self->kit,
        .config = &self->config->port,
        .type = socket_types[self->config->type],
        .send_hwm = replies_hwm,
        .role = WEIR_ROLE_PRODUCE,
        .setup = set_up,
        .ready = ready,
        .revoked = revoked,
        .arg = self,
    };
    return weir_zmq_port_open(&self->port, report);
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    source_zmq *self = arg;
    const weir_source_zmq_config *c = self->config = config;
    size_t at;
    self->kit = kit;
    self->last = &self->first;
    weir_err err = check(c, report);
    if (err) return err;
    weir_zmq_map_parse(&self->map, &c->frames, report);
    if (c->sequence && weir_path_parse(&self->sequence, c->sequence, &at))
        return weir_report_set(report, WEIR_EINVAL, "sequence", "expected a field path");
    if (c->sequence || weir_zmq_map_has(&self->map, WEIR_ZMQ_SEQUENCE))
        self->gaps = weir_zmq_gaps_new();
    err = weir_intake_new(&self->intake, kit,
                          weir_actor_port(kit, weir_actor_node(kit)->name), &c->intake,
                          report);
    if (!err && c->intake.framing != WEIR_FRAMING_BLOB)
        err = weir_intake_framer(self->intake, &self->framer, report);
    return err ? err : open_port(self, report);
}

static void close_message(source_zmq *self)
{
    while (self->count)
        zmq_msg_close(&self->parts[--self->count]);
}

static void free_reply(reply *r)
{
    for (size_t i = 0; i < r->count; i++)
        zmq_msg_close(&r->parts[i]);
    free(r);
}

static void fini(void *arg)
{
    source_zmq *self = arg;
    weir_zmq_port_close(&self->port);
    weir_actor_lane_fini(self->kit, &self->lane);
    weir_intake_destroy(&self->intake);
    weir_framer_destroy(&self->framer);
    close_message(self);
    for (reply *r; (r = self->first); free_reply(r))
        self->first = r->next;
    for (int i = 0; i < PEER_BUCKETS; i++)
        for (known_peer *p; (p = self->peers[i]); free(p))
            self->peers[i] = p->next;
    weir_zmq_gaps_destroy(&self->gaps);
    weir_path_fini(&self->sequence);
    weir_doc_fini(&self->doc);
    weir_buffer_fini(&self->headers);
    weir_buffer_fini(&self->bad);
}

/* --- Telling ----------------------------------------------------------------------- */

/*  One line for a burst: the first of them at once, the rest a while later.     */
static void tell(void *arg)
{
    source_zmq *self = arg;
    self->telling = self->missing || self->malformed;
    if (!self->telling) return;
    if (self->missing)
        weir_log(WEIR_WARN, "gap endpoint=%s missing=%" PRIu64, self->port.endpoint,
                 self->missing);
    if (self->malformed)
        weir_log(WEIR_WARN, "malformed endpoint=%s%s%s messages=%" PRIu64 " cause=\"%s\"",
                 self->port.endpoint, self->envelope.peer ? " peer=" : "",
                 self->envelope.peer ? self->envelope.peer : "", self->malformed,
                 self->cause);
    self->missing = self->malformed = 0;
    weir_actor_timer(self->kit, tell, tell_us);
}

static void note_sequence(source_zmq *self, uint64_t number)
{
    const weir_zmq_frame *sender = &self->sender;
    uint64_t missing = weir_zmq_gaps_note(self->gaps, sender->data, sender->size, number);
    if (!missing) return;
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_GAPS, missing);
    self->missing += missing;
    if (!self->telling) tell(self);
}

/* --- Peers ------------------------------------------------------------------------- */

static bool is_allowed(const source_zmq *self, const known_peer *peer)
{
    return weir_realm_allows_key(weir_actor_node(self->kit)->realm, peer->name, peer->key,
                                 WEIR_ROLE_PRODUCE);
}

/*  Names live as long as the actor, since blocks that are being built point to them;
    there are no more of them than certificates.                                */
static known_peer *find_peer(source_zmq *self, const char *name, const char *key)
{
    known_peer **bucket = &self->peers[XXH3_64bits(key, strlen(key)) % PEER_BUCKETS];
    known_peer *p = *bucket;
    while (p && (strcmp(p->name, name) || strcmp(p->key, key)))
        p = p->next;
    if (p) return p;
    p = calloc(1, sizeof *p);
    if (!p) abort();
    snprintf(p->name, sizeof p->name, "%s", name);
    snprintf(p->key, sizeof p->key, "%s", key);
    p->allowed = is_allowed(self, p);
    p->next = *bucket;
    return *bucket = p;
}

static void wake(void *arg)
{
    (void)arg; // turn () follows every wake-up
}

static void revoked(void *arg)
{
    source_zmq *self = arg;
    weir_zmq_port_revoked(&self->port);
    for (int i = 0; i < PEER_BUCKETS; i++)
        for (known_peer *p = self->peers[i]; p; p = p->next)
            p->allowed = is_allowed(self, p);
    weir_actor_timer(self->kit, wake, finish_us);
}

/*  False: the message's sender has been revoked since it was sent. The id that a ROUTER
    puts before the message does not always bear the name; the peer's own frames do. */
static bool know_peer(source_zmq *self)
{
    zmq_msg_t *part = &self->parts[self->count - 1];
    self->envelope.peer = NULL;
    if (!weir_zmq_port_knows_peers(&self->port)) return true;
    const char *name = zmq_msg_gets(part, "User-Id");
    const char *key = zmq_msg_gets(part, "Weir-Key");
    if (!name || !*name || !key) return false;
    known_peer *p = find_peer(self, name, key);
    if (!p->allowed) p->allowed = is_allowed(self, p);
    self->envelope.peer = p->name;
    return p->allowed;
}

/* --- Replies ----------------------------------------------------------------------- */

/*  Keeps id and envelope, which are the first `count` parts of the message.       */
static void owe_reply(source_zmq *self, size_t count)
{
    reply *r = calloc(1, sizeof *r + count * sizeof *r->parts);
    if (!r) abort();
    r->number = self->owed_number = self->number;
    r->count = count;
    for (size_t i = 0; i < count; i++) {
        zmq_msg_init(&r->parts[i]);
        zmq_msg_copy(&r->parts[i], &self->parts[i]);
    }
    *self->last = r;
    self->last = &r->next;
    self->owed++;
}

/*  To a peer that is gone or does not read, libzmq drops it.                     */
static void send_reply(source_zmq *self, reply *r)
{
    void *handle = self->port.handle;
    for (size_t i = 0; i < r->count; i++)
        zmq_msg_send(&r->parts[i], handle, ZMQ_DONTWAIT | ZMQ_SNDMORE);
    zmq_send(handle, "", 0, ZMQ_DONTWAIT);
}

static weir_err commit(void *arg, const weir_entry *entry, weir_report *report)
{
    (void)report;
    source_zmq *self = arg;
    bool sent = false;
    for (reply *r; (r = self->first) && r->number <= entry->position; sent = true) {
        self->first = r->next;
        self->owed--;
        if (self->port.handle) send_reply(self, r);
        free_reply(r);
    }
    if (!self->first) self->last = &self->first;
    if (sent) weir_zmq_port_sent(&self->port);
    return WEIR_OK;
}

/* --- Messages ---------------------------------------------------------------------- */

/*  What is behind the last place is read and left.                              */
static bool recv_message(source_zmq *self)
{
    close_message(self);
    self->surplus = false;
    for (bool more = true; more;) {
        zmq_msg_t part;
        zmq_msg_init(&part);
        if (zmq_msg_recv(&part, self->port.handle, ZMQ_DONTWAIT) < 0) {
            zmq_msg_close(&part);
            return false;
        }
        more = zmq_msg_more(&part);
        self->surplus = self->count == PARTS_MAX;
        if (!self->surplus) {
            zmq_msg_t *place = &self->parts[self->count];
            zmq_msg_init(place);
            zmq_msg_move(place, &part);
            self->frames[self->count++] =
                (weir_zmq_frame){zmq_msg_data(place), zmq_msg_size(place)};
        }
        zmq_msg_close(&part);
    }
    return true;
}

static void count_malformed(source_zmq *self, const char *cause)
{
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_MALFORMED, 1);
    self->malformed++;
    self->cause = cause;
    if (!self->telling) tell(self);
}

/*  Records that are nothing but payload have a faster way in.                   */
static void use_envelope(source_zmq *self)
{
    const weir_envelope *e = &self->envelope;
    bool bare = e->key.type == WEIR_MISSING && !e->headers && !e->peer;
    weir_intake_envelope(self->intake, bare ? NULL : e);
}

static void take_bad(source_zmq *self, const char *error)
{
    weir_framed piece = {
        .kind = WEIR_PIECE_BAD, .start = self->number - 1, .end = self->number};
    self->bad.size = 0;
    weir_zmq_print(self->frames, self->count, &self->bad);
    self->bad_bytes += self->bad.size;
    piece.data = self->bad.data;
    piece.size = piece.whole_size = self->bad.size;
    snprintf(piece.error, sizeof piece.error, "%s", error);
    count_malformed(self, error);
    self->envelope = (weir_envelope){.peer = self->envelope.peer};
    use_envelope(self);
    weir_intake_piece(self->intake, &self->lane, 0, self->port.endpoint, &piece);
}

/*  Key and headers; the topic is the key of a record that has no other.         */
static const char *fill_envelope(source_zmq *self, const weir_zmq_parts *parts)
{
    const weir_zmq_frame *key = &parts->part[WEIR_ZMQ_KEY];
    if (!key->data) key = &parts->part[WEIR_ZMQ_TOPIC];
    self->envelope.key = (weir_value){.type = WEIR_MISSING};
    if (key->data) weir_zmq_value(key, &self->envelope.key);
    self->headers.size = 0;
    const char *error = weir_zmq_headers(parts, &self->doc, &self->headers);
    self->envelope.headers = self->headers.size ? self->headers.data : NULL;
    self->envelope.headers_size = self->headers.size;
    return error;
}

static void look_for_sequence(source_zmq *self, const weir_framed *piece)
{
    weir_value value;
    bool packed = piece->size && (piece->data[0] & 0x80);
    if (weir_doc_parse(&self->doc, packed ? WEIR_MSGPACK : WEIR_JSON, piece->data,
                       piece->size))
        return;
    if (!weir_doc_get(&self->doc, &self->sequence, &value)) return;
    if (value.type == WEIR_UINT) note_sequence(self, value.natural);
    if (value.type == WEIR_INT && value.integer >= 0)
        note_sequence(self, (uint64_t)value.integer);
}

static void take_piece(source_zmq *self, weir_framed *piece)
{
    if (piece->kind == WEIR_PIECE_RECORD && self->sequence.count)
        look_for_sequence(self, piece);
    if (piece->kind != WEIR_PIECE_RECORD) self->bad_bytes += piece->size;
    weir_intake_piece(self->intake, &self->lane, 0, self->port.endpoint, piece);
}

static void take_payload(source_zmq *self, const weir_zmq_frame *payload)
{
    weir_framed piece = {.data = payload->data,
                         .size = payload->size,
                         .whole_size = payload->size,
                         .start = self->number - 1,
                         .end = self->number};
    if (piece.size > weir_actor_node(self->kit)->record_max) {
        piece.kind = WEIR_PIECE_OVERSIZE;
        if (piece.size > oversize_kept) piece.size = oversize_kept;
    }
    take_piece(self, &piece);
}

/*  The message is only through with its last record: until then the position stays
    before it.                                                                  */
static void take_next_piece(source_zmq *self)
{
    weir_framed piece;
    self->open = weir_framer_next(self->framer, weir_clock_now_us(), &piece);
    if (self->open) {
        piece.start = piece.end = self->number - 1;
        take_piece(self, &piece);
    } else if (self->owed_number == self->number) {
        weir_intake_mark(self->intake, &self->lane, 0, self->number);
    }
}

static void open_payload(source_zmq *self, const weir_zmq_frame *payload)
{
    weir_framer_reset(self->framer, 0);
    weir_framer_feed(self->framer, payload->data, payload->size);
    weir_framer_end(self->framer);
    self->open = true;
}

/*  Whose sequence a number belongs to.                                           */
static void find_sender(source_zmq *self, const weir_zmq_parts *parts)
{
    static const weir_zmq_frame nobody = {(const uint8_t *)"", 0};
    const char *peer = self->envelope.peer;
    self->sender = nobody;
    if (self->config->type == WEIR_SOURCE_ZMQ_ROUTER)
        self->sender = self->frames[0];
    else if (parts->part[WEIR_ZMQ_TOPIC].data)
        self->sender = parts->part[WEIR_ZMQ_TOPIC];
    else if (peer)
        self->sender = (weir_zmq_frame){(const uint8_t *)peer, strlen(peer)};
}

/*  How many parts are before the data: id and envelope of a ROUTER.              */
static size_t find_data(const source_zmq *self)
{
    if (self->config->type != WEIR_SOURCE_ZMQ_ROUTER) return 0;
    return 1 + weir_zmq_envelope(&self->map, self->frames + 1, self->count - 1);
}

static bool is_envelope_small(const source_zmq *self, size_t parts)
{
    size_t bytes = 0;
    for (size_t i = 0; i < parts; i++)
        bytes += self->frames[i].size;
    return bytes <= envelope_max;
}

static const char *read_message(source_zmq *self, weir_zmq_parts *parts)
{
    if (self->surplus) return "the message has more than 16 frames";
    size_t before = find_data(self);
    if (!is_envelope_small(self, before)) return "the envelope has more than 4096 bytes";
    if (before > 1 && self->config->reply == WEIR_SOURCE_ZMQ_SAFE)
        owe_reply(self, before);
    const char *error =
        weir_zmq_find(&self->map, self->config->type == WEIR_SOURCE_ZMQ_SUB,
                      self->frames + before, self->count - before, parts);
    return error ? error : fill_envelope(self, parts);
}

static void take_message(source_zmq *self)
{
    weir_zmq_parts parts;
    if (!know_peer(self)) {
        count_malformed(self, "its sender is not allowed to produce any more");
        return;
    }
    self->number++;
    const char *error = read_message(self, &parts);
    if (error) {
        take_bad(self, error);
        return;
    }
    use_envelope(self);
    find_sender(self, &parts);
    if (parts.has_sequence) note_sequence(self, parts.sequence);
    if (self->framer)
        open_payload(self, &parts.part[WEIR_ZMQ_PAYLOAD]);
    else
        take_payload(self, &parts.part[WEIR_ZMQ_PAYLOAD]);
}

/* --- Reading ----------------------------------------------------------------------- */

/*  While there is no room nobody looks at the socket: its queue fills, and then those
    of the peers.                                                               */
static bool has_room(source_zmq *self)
{
    int64_t wait_us;
    if (self->owed >= replies_max) {
        weir_intake_flush(self->intake);
        return false; // commit () wakes
    }
    if (weir_intake_ready(self->intake, &wait_us)) return true;
    if (wait_us) weir_intake_flush(self->intake);
    if (wait_us) weir_actor_timer(self->kit, wake, wait_us);
    return false;
}

static void end(source_zmq *self)
{
    self->ended = true;
    weir_intake_flush(self->intake);
    weir_actor_end(self->kit);
}

/*  Nothing is left on the socket.                                                */
static bool run_dry(source_zmq *self)
{
    weir_intake_flush(self->intake);
    weir_actor_vitals(self->kit)->at_end = true;
    if (self->draining) {
        end(self);
        return false;
    }
    if (self->port.stale) return weir_zmq_port_renew(&self->port);
    return weir_zmq_port_wait(&self->port, ZMQ_POLLIN);
}

static bool is_late(const source_zmq *self)
{
    int64_t now_us = weir_clock_now_us();
    if (self->draining) return now_us >= self->finish_at_us;
    return self->port.stale && now_us - self->port.stale_us >= finish_us;
}

/*  The socket is gone, or must not be read any longer.                            */
static bool leave_socket(source_zmq *self)
{
    if (!self->draining) return weir_zmq_port_renew(&self->port);
    end(self);
    return false;
}

static bool turn(void *arg)
{
    source_zmq *self = arg;
    self->bad_bytes = 0;
    if (self->ended || weir_actor_failed(self->kit)) return false;
    if (!self->open && (!self->port.handle || is_late(self))) return leave_socket(self);
    for (int i = 0; i < MESSAGES_A_TURN && self->bad_bytes < bad_bytes_a_turn; i++) {
        if (!has_room(self)) return false;
        if (self->open) {
            take_next_piece(self);
        } else if (recv_message(self)) {
            weir_actor_vitals(self->kit)->at_end = false;
            take_message(self);
        } else {
            return run_dry(self);
        }
        if (weir_actor_failed(self->kit)) return false;
    }
    if (self->bad_bytes >= bad_bytes_a_turn) weir_intake_flush(self->intake);
    return true;
}

static void drain(void *arg)
{
    source_zmq *self = arg;
    weir_zmq_port_unbind(&self->port);
    self->draining = true;
    self->finish_at_us = weir_clock_now_us() + finish_us;
    weir_actor_timer(self->kit, wake, finish_us);
}

/* --- Tables ------------------------------------------------------------------------ */

static const char *const type_words[] = {"pull", "sub", "router", NULL};
static const char *const reply_words[] = {"safe", "none", NULL};

#define AT(member) offsetof(weir_source_zmq_config, member)

static const weir_option options[] = {
    {"type", WEIR_OPTION_WORD, AT(type), 0, 0, type_words, true,
     "the socket: pull for PUSH peers, sub for PUB, router for REQ and DEALER"},
    WEIR_ZMQ_PORT_OPTIONS(weir_source_zmq_config, port),
    {"topics", WEIR_OPTION_TEXTS, AT(topics), 0, 0, NULL, false,
     "sub: beginnings of the topics to subscribe to; without it all"},
    {"frames", WEIR_OPTION_TEXTS, AT(frames), 0, 0, NULL, false,
     "what each frame is: \"payload\", \"key\", \"topic\", \"headers\" (a MessagePack "
     "map or "
     "a JSON object), \"sequence\" (decimal or 8 bytes), \"skip\"; without it one frame "
     "is "
     "the payload, two are key (sub: topic) and payload"},
    {"sequence", WEIR_OPTION_FIELD, AT(sequence), 0, 0, NULL, false,
     "field that counts up by one for each sender or topic: what is missing is counted"},
    {"reply", WEIR_OPTION_WORD, AT(reply), 0, 0, reply_words, false,
     "router: safe answers a message with an envelope, as REQ sends it, by an empty "
     "frame "
     "once it is safe"},
    {"parse_error", WEIR_OPTION_WORD, AT(intake.parse_error), 0, 0, weir_on_error_words,
     false, "for messages and payloads that cannot be read"},
    WEIR_FRAMING_OPTIONS(weir_source_zmq_config, intake),
    WEIR_RATE_OPTIONS(weir_source_zmq_config, intake),
    WEIR_SCREEN_OPTIONS(weir_source_zmq_config, intake.screen),
    {.name = NULL},
};

const weir_class weir_source_zmq_class = {
    .name = "source.zmq",
    .help =
        "takes messages from plain ZeroMQ peers; what it has taken and is not safe yet "
        "is lost when it stops at once",
    .actor = weir_source_zmq,
    .size = sizeof(source_zmq),
    .config_size = sizeof(weir_source_zmq_config),
    .defaults = &weir_source_zmq_defaults,
    .options = options,
    .source = true,
    .forgets = true,
    .check = check,
    .init = init,
    .fini = fini,
    .turn = turn,
    .drain = drain,
    .commit = commit,
};

void weir_source_zmq(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_source_zmq_class, pipe, config);
}
