/*  jetstream_feed: the server's side of source.jetstream: the durable consumer, the
   messages that it brings, and their acknowledgements.

        server --pulls--> held --take--> records .. --commit--> +ACK --confirmed--> let go

    A feed is a base struct of the actor's: threads of libnats and the session's do their
    part under the mutex of its line, and wake the actor.

    Private to source.jetstream. Functions are the actor's thread's.                  */
#pragma once
#include "actors/jetstream_durable.h"
#include "actors/jetstream_held.h"
#include "actors/jetstream_port.h"
#include "actors/jetstream_spans.h"

typedef enum {
    WEIR_FEED_CLOSED = 0, // there is no session, or the consumer was not looked at in it
    WEIR_FEED_ASKING,     // that is being done
    WEIR_FEED_READY,
    WEIR_FEED_WAITING, // until again_us
} weir_js_feed_state;

/*  A request for messages that the server may still send.                            */
typedef struct {
    uint64_t token;
    uint32_t left;
    size_t bytes_left;
    bool got; // some
} weir_js_pull;

enum { WEIR_FEED_PULLS = 2 }; // requests at a time

/*  What is held, by number:

        first .. acked    their acknowledgements are on their way, to be confirmed
              .. safe     are to be acknowledged
              .. taken    are records on their way
              .. end - 1  wait for room                                             */
typedef struct {
    weir_js_port port; // first; the line's mutex guards all up to `body`
    weir_js_held held;
    uint64_t acked, safe, taken;
    weir_js_feed_state state;
    int64_t again_us;
    unsigned failures; // in a row, until the consumer answers a request
    weir_js_pull pulls[WEIR_FEED_PULLS];
    uint32_t pull_count;
    bool wants;                  // there is room for messages
    bool one;                    // the next message is larger than a request asks for
    unsigned confirms;           // that are awaited
    unsigned unconfirmed;        // tries in a row
    uint64_t pending;            // behind what has come, as the server has told last
    int64_t ack_wait_us;         // the consumer's
    weir_js_durable_info bounds; // of requests: the consumer's
    int64_t progress_us;         // when the server is told next that they are under way
    uint64_t progress_at, progress_to;
    bool leaving;        // what is not safe is given back
    bool stopped, quiet; // leaving: nothing is asked for; and nothing comes
    uint64_t given_back;
    weir_js_spans done; // confirmed
    char *reply;        // of any message of the consumer; owned; NULL: none has come
    uint64_t repeat_at, repeat_to; // acknowledgements of what is done that are repeated
    uint64_t highest;              // sequence
    int64_t highest_ms;            // when the newest message was stored
    int64_t stream_ms;             // when the stream was made; 0: nobody has told
    int64_t consumer_ms;           // when the consumer was
    char fatal[256];
    weir_js_response response;
    weir_buffer body; // scratch
    weir_actor *kit;
    weir_js_durable durable; // its texts are lent
} weir_js_feed;

/*  In init; zeroed before.                                                          */
weir_err weir_js_feed_open(weir_js_feed *self, weir_actor *kit,
                           const weir_js_durable *durable,
                           const weir_js_port_config *config, weir_report *report);
/*  What is safe is acknowledged, and what is not is given back, as far as the server is
    there: blocks for a second at most. Half-built ones, too.                          */
void weir_js_feed_close(weir_js_feed *self);

/*  First in a turn. Gives when the next one is due, -1: when it is woken. False: the
   actor has failed. */
bool weir_js_feed_run(weir_js_feed *self, int64_t *due_us);

/*  The next message, which is the caller's; its number is `taken` then, and item is what
   is known of it. NULL: there is none.                                                */
natsMsg *weir_js_feed_take(weir_js_feed *self, weir_js_item *item);

/*  Whether there is room for messages; and at the end of what there is, so says the
    actor's vitals.                                                                  */
void weir_js_feed_want(weir_js_feed *self, bool wants);

/*  All up to this number is safe.                                                   */
void weir_js_feed_commit(weir_js_feed *self, uint64_t number);

/*  All that was taken is safe; *confirmed: and the server knows.                     */
bool weir_js_feed_is_safe(weir_js_feed *self, bool *confirmed);
