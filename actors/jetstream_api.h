/*  jetstream_api: the questions that JetStream is asked in JSON, and what it answers.
    Pure but for the messages that are read.

    Private to the JetStream store.                                                 */
#pragma once
#include <nats/nats.h>
#include "actors/store_jetstream.h"
#include "runtime/doc.h"

#define WEIR_JS_ID "Nats-Msg-Id"
#define WEIR_JS_EXPECTED_LAST "Nats-Expected-Last-Sequence"
#define WEIR_JS_EXPECTED_ID "Nats-Expected-Last-Msg-Id"
#define WEIR_JS_EXPECTED_STREAM "Nats-Expected-Stream"

/*  Errors of the server that decide what is done.                                   */
enum {
    WEIR_JS_NO_CONSUMER = 10012, // it could not be made
    WEIR_JS_NO_CONSUMER_THERE = 10014,
    WEIR_JS_NO_MESSAGE = 10037,
    WEIR_JS_TOO_LARGE = 10054,
    WEIR_JS_NO_STREAM = 10059,
    WEIR_JS_OTHER_STREAM = 10060,
    WEIR_JS_OTHER_SEQUENCE = 10063,
    WEIR_JS_WRONG_LAST_ID = 10070,
    WEIR_JS_WRONG_LAST = 10071,
    WEIR_JS_HEADERS_TOO_LARGE = 10097,
    WEIR_JS_ALL_WANTED = 10101, // a work queue's consumer must begin with all
    WEIR_JS_ROLLUP = 10111,
    WEIR_JS_IN_PROGRESS = 10158, // a duplicate of what is being stored
    WEIR_JS_WRONG_LAST_CONSTANT = 10164,
};

/*  Whether asking again would end alike: the configuration or the account is at fault. */
bool weir_js_error_is_fatal(int err_code);

/* --- Names ------------------------------------------------------------------------- */

#define WEIR_JS_NAME 160 // prefix and bus have at most 63 each

typedef struct {
    char stream[WEIR_JS_NAME], subject[WEIR_JS_NAME];
} weir_js_names;

void weir_js_names_make(weir_js_names *self, const weir_jetstream_config *config,
                        uint32_t shard);

/*  The shard whose stream this is; false: none of the bus.                          */
bool weir_js_names_shard(const weir_jetstream_config *config, const char *stream,
                         size_t size, uint32_t *shard);

/*  $JS.API.<what>.<stream>[.<more>].                                                */
void weir_js_ask(char subject[2 * WEIR_JS_NAME], const char *what, const char *stream,
                 const char *more);

/* --- Answers ----------------------------------------------------------------------- */

typedef struct {
    weir_doc doc; // lives from message to message
    weir_value root;
    bool failed;
    int code, err_code; // 503 and 0: nobody is there to answer
    char text[200];
} weir_js_response;

/*  The message is lent until the response has been looked at.                      */
void weir_js_response_read(weir_js_response *self, natsMsg *msg);
void weir_js_response_fini(weir_js_response *self);

/*  Members of a map; false, 0 or "": there is none of the kind.                     */
bool weir_js_member(const weir_value *from, const char *name, weir_value *to);
uint64_t weir_js_number(const weir_value *from, const char *name);
int64_t weir_js_integer(const weir_value *from, const char *name);
void weir_js_text(const weir_value *from, const char *name, char *to, size_t size);

/*  The status of a message without a body: 404, 408, 409, 503; 0: it has none.      */
int weir_js_status(natsMsg *msg);

/*  A member that is a time, in ms; 0: it is none, or before 1970.                   */
int64_t weir_js_time(const weir_value *from, const char *name);
/*  A time in JSON, with its quotes.                                                */
void weir_js_put_time(weir_buffer *out, int64_t ms);

/* --- Streams ----------------------------------------------------------------------- */

typedef struct {
    uint64_t first, last; // sequences; first > last: nothing is there
    uint64_t messages, bytes;
    int64_t first_ms, last_ms; // 0: none
} weir_js_state;

/*  From what STREAM.INFO and STREAM.CREATE answer, or an element of STREAM.LIST's.   */
void weir_js_state_read(weir_js_state *self, const weir_value *info);

/*  The body of STREAM.CREATE.                                                       */
void weir_js_put_stream(weir_buffer *out, const weir_jetstream_config *config,
                        const weir_js_names *names);

typedef enum {
    WEIR_JS_FITS = 0,
    WEIR_JS_OUTDATED, // bounds have changed: `update` is the body of STREAM.UPDATE
    WEIR_JS_FOREIGN,  // why says what is not ours
} weir_js_verdict;

/*  Whether the stream takes messages of subjects that the pattern stands for.        */
bool weir_js_stream_takes(const weir_value *info, const char *pattern);

weir_js_verdict weir_js_judge_stream(const weir_value *info,
                                     const weir_jetstream_config *config,
                                     const weir_js_names *names, weir_buffer *update,
                                     char why[200]);

/* --- Messages and consumers -------------------------------------------------------- */

/*  The body of STREAM.MSG.GET, and the id of the message that it answers; "": none.  */
void weir_js_put_get(weir_buffer *out, uint64_t sequence);
void weir_js_message_id(const weir_value *answer, char *id, size_t size);

/*  The body of CONSUMER.CREATE: a pull consumer without acks that begins with this
    sequence, or with the first message that arrived then or later (since_ms not 0); gone
    when nobody has asked it for idle_us.                                            */
void weir_js_put_consumer(weir_buffer *out, const char *stream, uint64_t sequence,
                          int64_t since_ms, int64_t idle_us);

/*  The body of CONSUMER.MSG.NEXT; bytes 0: no bound. What is there comes at once; where
    nothing is, the first message that comes within wait_us.                         */
void weir_js_put_next(weir_buffer *out, uint32_t records, size_t bytes, int64_t wait_us);

/*  What a message of a consumer says of itself.                                     */
typedef struct {
    char consumer[WEIR_JS_NAME];
    uint64_t sequence, pending; // in the stream; behind it
    uint64_t delivered;         // how often it was, this time included
    uint64_t number;            // of the consumer's deliveries, from 1, one by one
    int64_t stored_ms;
} weir_js_delivery;

/*  What the server counts of a delivered message against the bytes of a request. Of one
    with other headers than a bus's store writes, stored_bytes, which is faster, gives
    less; of one whose headers are written in an unusual way, both do.               */
size_t weir_js_delivered_bytes(natsMsg *msg);
size_t weir_js_stored_bytes(natsMsg *msg);

bool weir_js_delivery_read(weir_js_delivery *self, const char *reply);

/*  Where another message of the same consumer is acknowledged, made of the reply of one.
    False: there is no room.                                                        */
bool weir_js_ack_subject(char *to, size_t size, const char *reply, uint64_t sequence);
