#include "actors/bus_client.h"
#include "runtime/clock.h"
#include "runtime/options.h"
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <zmq.h>

static const int64_t answer_max = 64 << 20; // bytes; a record may be larger than a page
static const size_t why_max = 255;
static const int queue_max = 10000; // requests while there is no connection

const weir_bus_join weir_bus_join_defaults = {
    .start = "start",
    .ack_timeout_ms = 30000,
    .member_timeout_ms = 10000,
    .max_deliver = 5,
    .window = 10000,
    .retry_first_ms = 100,
    .retry_max_ms = 5000,
};

struct weir_bus_client {
    void *socket;
    uint64_t id; // of the last request
    weir_buffer out;
    zmq_msg_t in; // the last answer
};

/* --- Lifecycle --------------------------------------------------------------------- */

weir_err weir_bus_client_new(weir_bus_client **self_p, const weir_endpoint *endpoint,
                             weir_report *report)
{
    weir_endpoint own = *endpoint;
    own.message_max = answer_max;
    *self_p = NULL;
    void *socket = weir_socket_raw(ZMQ_DEALER, &own, false, queue_max, true, report);
    if (!socket) return report->err ? report->err : WEIR_ESYS;
    weir_bus_client *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->socket = socket;
    zmq_msg_init(&self->in);
    *self_p = self;
    return WEIR_OK;
}

void weir_bus_client_destroy(weir_bus_client **self_p)
{
    weir_bus_client *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    zmq_close(self->socket);
    zmq_msg_close(&self->in);
    weir_buffer_fini(&self->out);
    free(self);
}

int weir_bus_client_fd(const weir_bus_client *self)
{
    int fd = -1;
    size_t size = sizeof fd;
    zmq_getsockopt(self->socket, ZMQ_FD, &fd, &size);
    return fd;
}

bool weir_bus_client_wait(const weir_bus_client *self, int64_t until_us, int fd)
{
    zmq_pollitem_t items[] = {{.socket = self->socket, .events = ZMQ_POLLIN},
                              {.fd = fd, .events = ZMQ_POLLIN}};
    zmq_poll(items, fd < 0 ? 1 : 2, weir_clock_timeout_ms(until_us));
    return fd >= 0 && items[1].revents;
}

/* --- Requests ---------------------------------------------------------------------- */

static void put_text(weir_buffer *out, const char *text)
{
    weir_put_str(out, text, strlen(text));
}

static void put_number(weir_buffer *out, const char *name, uint64_t number)
{
    put_text(out, name);
    weir_put_uint(out, number);
}

static void put_named(weir_buffer *out, const char *name, const char *text)
{
    put_text(out, name);
    put_text(out, text);
}

static weir_buffer *begin(weir_bus_client *self, weir_bus_verb verb, uint32_t fields)
{
    self->out.size = 0;
    weir_put_array(&self->out, 3);
    weir_put_uint(&self->out, ++self->id);
    put_text(&self->out, weir_bus_verb_name(verb));
    weir_put_map(&self->out, fields);
    return &self->out;
}

/*  What finds no room is lost, as with a connection that is cut: no answer comes. */
static uint64_t end(weir_bus_client *self)
{
    zmq_send(self->socket, self->out.data, self->out.size, ZMQ_DONTWAIT);
    return self->id;
}

uint64_t weir_bus_client_hello(weir_bus_client *self)
{
    begin(self, WEIR_BUS_HELLO, 0);
    return end(self);
}

uint64_t weir_bus_client_leave(weir_bus_client *self)
{
    begin(self, WEIR_BUS_LEAVE, 0);
    return end(self);
}

static void put_worded(weir_buffer *out, const char *name, int64_t number,
                       int64_t meaning, const char *word)
{
    if (number == meaning)
        put_named(out, name, word);
    else
        put_number(out, name, (uint64_t)number);
}

static void put_from(weir_buffer *out, const weir_bus_poll *poll)
{
    if (poll->cursor)
        put_named(out, "cursor", poll->cursor);
    else if (poll->from)
        put_named(out, "from", poll->from);
    else
        put_number(out, "from", (uint64_t)poll->from_ms);
}

uint64_t weir_bus_client_poll(weir_bus_client *self, const weir_bus_poll *poll)
{
    weir_buffer *out = begin(self, WEIR_BUS_POLL, poll->where ? 4 : 3);
    put_from(out, poll);
    put_number(out, "limit", poll->limit);
    put_number(out, "timeout_ms", poll->timeout_ms);
    if (poll->where) put_named(out, "where", poll->where);
    return end(self);
}

uint64_t weir_bus_client_join(weir_bus_client *self, const weir_bus_join *join)
{
    weir_buffer *out = begin(self, WEIR_BUS_JOIN, join->where ? 10 : 9);
    put_named(out, "group", join->group);
    put_named(out, "member", join->member);
    if (join->start)
        put_named(out, "start", join->start);
    else
        put_number(out, "start", (uint64_t)join->start_ms);
    put_worded(out, "ack_timeout_ms", join->ack_timeout_ms, WEIR_NONE, "none");
    put_worded(out, "max_deliver", join->max_deliver, WEIR_FOREVER, "forever");
    put_number(out, "member_timeout_ms", (uint64_t)join->member_timeout_ms);
    put_number(out, "window", (uint64_t)join->window);
    put_number(out, "retry_first_ms", (uint64_t)join->retry_first_ms);
    put_number(out, "retry_max_ms", (uint64_t)join->retry_max_ms);
    if (join->where) put_named(out, "where", join->where);
    return end(self);
}

uint64_t weir_bus_client_fetch(weir_bus_client *self, uint32_t limit, size_t bytes,
                               int64_t timeout_ms)
{
    weir_buffer *out = begin(self, WEIR_BUS_FETCH, 3);
    put_number(out, "limit", limit);
    put_number(out, "bytes", bytes);
    put_number(out, "timeout_ms", (uint64_t)timeout_ms);
    return end(self);
}

static void put_place(weir_buffer *out, uint32_t shard, weir_position at)
{
    put_number(out, "shard", shard);
    put_number(out, "a", at.a);
    put_number(out, "b", at.b);
}

uint64_t weir_bus_client_ack(weir_bus_client *self, uint32_t shard, weir_position at,
                             bool up_to)
{
    weir_buffer *out = begin(self, WEIR_BUS_ACK, 4);
    put_place(out, shard, at);
    put_text(out, "up_to");
    weir_put_bool(out, up_to);
    return end(self);
}

/*  As much of a text as may be sent, without a part of a character. */
static size_t text_size(const char *text)
{
    size_t size = strlen(text);
    if (size <= why_max) return size;
    for (size = why_max; size > 0 && ((uint8_t)text[size] & 0xc0) == 0x80; size--)
        continue;
    return size;
}

uint64_t weir_bus_client_nack(weir_bus_client *self, uint32_t shard, weir_position at,
                              int64_t delay_ms, const char *why)
{
    weir_buffer *out = begin(self, WEIR_BUS_NACK, delay_ms < 0 ? 4 : 5);
    put_place(out, shard, at);
    if (delay_ms >= 0) put_number(out, "delay_ms", (uint64_t)delay_ms);
    put_text(out, "why");
    weir_put_str(out, why, text_size(why));
    return end(self);
}

/* --- Answers ----------------------------------------------------------------------- */

static weir_err read_text(weir_reader *reader, char *to, size_t room)
{
    const char *text;
    size_t size;
    weir_err err = weir_read_str(reader, &text, &size);
    if (!err) snprintf(to, room, "%.*s", (int)(size < room ? size : room - 1), text);
    return err;
}

/*  The first of a list of shards with their sentences, if there is one.                */
static weir_err read_trouble(weir_reader reader, char to[320])
{
    uint32_t count, members;
    uint64_t shard;
    char why[256];
    if (weir_read_array(&reader, &count)) return WEIR_EMALFORMED;
    if (count == 0) return WEIR_OK;
    if (weir_read_array(&reader, &members) || members != 2 ||
        weir_read_uint(&reader, &shard) || read_text(&reader, why, sizeof why))
        return WEIR_EMALFORMED;
    snprintf(to, 320, "shard %" PRIu64 ": %s", shard, why);
    return WEIR_OK;
}

static weir_err read_late(weir_reader reader, bool *is_late)
{
    uint32_t count;
    if (weir_read_array(&reader, &count)) return WEIR_EMALFORMED;
    *is_late = count > 0;
    return WEIR_OK;
}

/*  The fields that somebody here wants; others are passed over.                        */
static weir_err read_field(weir_bus_answer *answer, weir_reader *reader)
{
    char name[32] = "";
    weir_err err = read_text(reader, name, sizeof name);
    if (err) return err;
    if (strcmp(name, "text") == 0)
        return read_text(reader, answer->text, sizeof answer->text);
    if (strcmp(name, "bus") == 0)
        return read_text(reader, answer->bus, sizeof answer->bus);
    if (strcmp(name, "nonce") == 0) return weir_read_uint(reader, &answer->nonce);
    weir_reader before = *reader;
    err = weir_read_skip(reader);
    if (err) return err;
    before.end = reader->at;
    if (strcmp(name, "failed") == 0) return read_trouble(before, answer->trouble);
    if (strcmp(name, "slow") == 0) return read_late(before, &answer->is_late);
    if (strcmp(name, "records")) return WEIR_OK;
    answer->records = (weir_reader){before.at, reader->at};
    return weir_read_array(&answer->records, &answer->count);
}

weir_err weir_bus_answer_read(weir_bus_answer *answer, const void *data, size_t size)
{
    weir_reader reader = {data, (const uint8_t *)data + size};
    uint32_t count;
    *answer = (weir_bus_answer){0};
    if (weir_read_array(&reader, &count) || count != 3) return WEIR_EMALFORMED;
    if (weir_read_uint(&reader, &answer->id) && weir_read_nil(&reader))
        return WEIR_EMALFORMED;
    weir_err err = read_text(&reader, answer->code, sizeof answer->code);
    answer->fields = reader;
    if (!err) err = weir_read_map(&reader, &count);
    while (count-- && !err)
        err = read_field(answer, &reader);
    return err;
}

bool weir_bus_client_recv(weir_bus_client *self, weir_bus_answer *answer)
{
    for (;;) {
        if (zmq_msg_recv(&self->in, self->socket, ZMQ_DONTWAIT) < 0) return false;
        bool more = zmq_msg_more(&self->in);
        weir_err err = weir_bus_answer_read(answer, zmq_msg_data(&self->in),
                                            zmq_msg_size(&self->in));
        for (zmq_msg_t rest; more; zmq_msg_close(&rest)) {
            zmq_msg_init(&rest);
            more = zmq_msg_recv(&rest, self->socket, ZMQ_DONTWAIT) >= 0 &&
                   zmq_msg_more(&rest);
        }
        if (!err) return true;
    }
}

static weir_err read_place(weir_reader *reader, weir_bus_record *record)
{
    uint64_t shard;
    uint32_t count;
    if (weir_read_array(reader, &count) || count != 6) return WEIR_EMALFORMED;
    if (weir_read_uint(reader, &shard) || shard > UINT32_MAX ||
        weir_read_uint(reader, &record->at.a) || weir_read_uint(reader, &record->at.b) ||
        weir_read_uint(reader, &record->epoch) ||
        weir_read_uint(reader, &record->sequence))
        return WEIR_EMALFORMED;
    record->shard = (uint32_t)shard;
    return WEIR_OK;
}

weir_err weir_bus_answer_next(weir_bus_answer *self, weir_bus_record *record)
{
    weir_value encoded;
    if (self->count == 0) return WEIR_ENOTFOUND;
    self->count--;
    if (read_place(&self->records, record) || weir_read_value(&self->records, &encoded) ||
        encoded.type != WEIR_BIN)
        return WEIR_EMALFORMED;
    weir_reader reader = {encoded.data, encoded.data + encoded.size};
    return weir_record_read(&record->record, &reader, false) || reader.at != reader.end
               ? WEIR_EMALFORMED
               : WEIR_OK;
}
