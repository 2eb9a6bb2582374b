/*  jetstream_line: keeps one connection to the server alive, for the writer or the reader
    of a JetStream store, for source.jetstream or sink.jetstream, and asks JetStream's
    questions over it.

        down --> trying --> up --lost--> down, and at once trying
                    '----> down, for a while that grows

    A line is a base struct. Its mutex guards it and all of who embeds it; the functions
    of its class are called under it, but for `tell`, which follows each time. What is due
    by time is done by the line's keeper, who calls weir_js_line_run.

    Private to what speaks with JetStream. */
#pragma once
#include <pthread.h>
#include "actors/batcher.h"
#include "actors/jetstream_session.h"
#include "runtime/buffer.h"

typedef struct weir_js_line weir_js_line;

typedef struct weir_js_call weir_js_call;
typedef struct {
    weir_js_call *first, **end;
} weir_js_calls;

/*  What a call brought; msg is lent. NULL: text says why there is no answer; denied: we
    may not ask.                                                                    */
typedef struct {
    natsMsg *msg;
    const char *text;
    bool denied;
} weir_js_answer;

/*  arg is what the call was made with.                                             */
typedef void(weir_js_answered)(weir_js_line *line, void *arg, uint64_t token,
                               const weir_js_answer *answer);

typedef struct {
    const char *name; // for log lines
    void (*up)(weir_js_line *self);
    /*  The session is gone, with all that was under way; calls were answered before. When
        it is not open then, the next attempt is far, or will end alike (fatal): error
        says why.                                                                   */
    void (*down)(weir_js_line *self);
    /*  Publishes; true: again soon. In the session's thread.                       */
    bool (*pump)(weir_js_line *self);
    void (*acked)(weir_js_line *self, const natsMsg *msg, const jsPubAck *ack,
                  const jsPubAckErr *error);
    /*  With a subject of its own; who keeps it makes *msg_p NULL.                     */
    void (*data)(weir_js_line *self, natsMsg **msg_p);
    void (*denied)(weir_js_line *self, const char *subject, const char *text);
    void (*tell)(weir_js_line *self); // without the mutex: answers what is to be
} weir_js_line_class;

typedef struct {
    const char *url, *client; // as of the session; lent
    const char *actor;        // in log lines; lent
    const char *shown;        // the url without secrets; lent
    int64_t timeout_us;
    weir_retry_wait backoff; // between attempts to connect
    uint64_t nonce;          // of that
    bool plaintext, tls;
    void (*wake)(void *keeper, int64_t due_us); // run is to be called by then; 0: now
    void *keeper;
} weir_js_line_config;

typedef enum { WEIR_LINE_DOWN = 0, WEIR_LINE_TRYING, WEIR_LINE_UP } weir_js_line_state;

struct weir_js_line {
    const weir_js_line_class *class;
    weir_js_line_config config;
    pthread_mutex_t mutex;
    weir_js_line_state state;
    bool wanted;       // someone needs it
    bool closing;      // nothing begins any more
    bool fatal;        // the last attempt has ended so
    char error[256];   // why it is down; "": it was not tried yet
    unsigned failures; // attempts in a row that have not brought an answer
    int64_t again_us;  // when it is tried again, while down
    bool heard;        // the server has said something in this session
    int64_t heard_us;  // when it last did
    size_t server;     // first of the url to try
    uint64_t connects;
    weir_nats_session *session; // while trying and up; down: one that waits for release
    weir_js_calls asked, sent;  // in the order of their deadlines
    uint64_t last_token;
};

void weir_js_line_init(weir_js_line *self, const weir_js_line_class *class,
                       const weir_js_line_config *config);
/*  Ends the session and answers all calls. Without the mutex; once the keeper has ended.
 */
void weir_js_line_close(weir_js_line *self);
void weir_js_line_fini(weir_js_line *self);

/*  The keeper's: does what is due; gives when it is to be called next, -1: when it is
    woken. Without the mutex.                                                       */
int64_t weir_js_line_run(weir_js_line *self);

/* --- Under the mutex --------------------------------------------------------------- */

/*  Somebody needs the server: connects, if it does not wait after a failure.        */
void weir_js_line_want(weir_js_line *self);

/*  Whether what is asked now waits for an attempt to connect, or may go; else error says
    why not.                                                                        */
static inline bool weir_js_line_is_open(const weir_js_line *self)
{
    return !self->closing && (self->state != WEIR_LINE_DOWN || !self->failures);
}

/*  Has pump called.                                                                */
void weir_js_line_wake(weir_js_line *self);

/*  Ends the session, which does not do its work.                                    */
void weir_js_line_cut(weir_js_line *self, const char *text);

/*  Something has had no answer in time: when nothing at all has come for so long, the
    session is ended.                                                               */
void weir_js_line_is_late(weir_js_line *self, int64_t now_us);

/*  Asks; answered by the deadline. The body is the call's from now on.              */
uint64_t weir_js_line_call(weir_js_line *self, const char *subject, weir_buffer *body,
                           weir_js_answered *answered, void *arg);
/*  The same for a request whose answers are messages.                               */
uint64_t weir_js_line_pull(weir_js_line *self, const char *subject, weir_buffer *body,
                           weir_js_answered *answered, void *arg);
/*  The call is not answered any more.                                               */
void weir_js_line_cancel(weir_js_line *self, uint64_t token);

/*  Pump's first part: sends the calls. False: the session is broken.                */
bool weir_js_line_send_calls(weir_js_line *self);
