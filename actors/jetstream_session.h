/*  jetstream_session: one connection to a NATS server by libnats, from the attempt to its
    end, with a thread of its own.

        probe --> connect --> up --> (pump, read, write)* --> down
          '----------'-- next server of the url, or down

    libnats connects in a blocking call that its version 3.4.1 cannot end: it waits
    without a limit in a TLS handshake, and once its time is over before the server's
    first PONG it spins. So a server must have answered the probe shortly before, the call
    has no limit at all, and it is left to itself in its thread when it takes too long.
    Connected, the thread is libnats' event loop: publishing only fills a buffer, nothing
    waits for the server, and the socket can be shut down from any thread.

    Private to what speaks with JetStream.                                           */
#pragma once
#include <nats/nats.h>
#include "actors/jetstream_url.h"

typedef struct weir_nats_session weir_nats_session;

/*  What the owner is told; none of it once weir_nats_session_release has returned. `up`,
    `pump` and `down` come from the session's thread, the others from threads of
    libnats.                                                                        */
typedef struct {
    void (*up)(void *owner);
    /*  Now messages may be published. True: call it again as soon as the buffer has
        room.                                                                       */
    bool (*pump)(void *owner);
    /*  It has ended, or never was up. fatal: another attempt would end alike, since the
        server does not let us in, or is not what it should be. Once.               */
    void (*down)(void *owner, bool fatal, const char *text);
    /*  The answer to a message that was published; NULL: ack or error. All are lent.  */
    void (*acked)(void *owner, natsMsg *msg, const jsPubAck *ack,
                  const jsPubAckErr *error);
    /*  A message for an inbox of ours: token is the request's; 0: it has the subject that
        it was published with. Who keeps it makes *msg_p NULL.                       */
    void (*message)(void *owner, uint64_t token, natsMsg **msg_p);
    /*  The server does not allow something, which text names.                      */
    void (*denied)(void *owner, const char *text);
} weir_nats_handlers;

typedef struct {
    const char *url;   // copied; was parsed before
    const char *name;  // of the connection, for the server's lists; copied
    const char *actor; // whose log lines the thread's are; lent, until it is released
    int64_t timeout_us;
    size_t first;   // index of the server that is tried first
    bool plaintext; // hosts that are not this one's need no TLS
    bool tls;       // as if each url said tls://
    const weir_nats_handlers *handlers;
    void *owner;
} weir_nats_session_config;

/*  Opens the library, unless that was done: before a message is made or destroyed. Any
    thread.                                                                         */
void weir_nats_open(void);

/*  Begins to connect. NULL: there are too many attempts that do not end, or no thread or
    descriptor; text says so.                                                       */
weir_nats_session *weir_nats_session_start(const weir_nats_session_config *config,
                                           char text[256]);

/*  When the present attempt has taken too long, and the session should be released; -1:
    it is up, or has ended. Any thread.                                             */
int64_t weir_nats_session_deadline(weir_nats_session *self);
size_t weir_nats_session_server(weir_nats_session *self); // that it tries, or has

/*  Calls pump soon. Any thread.                                                    */
void weir_nats_session_wake(weir_nats_session *self);

/*  Ends it soon, with this text. Any thread, in a handler, too.                    */
void weir_nats_session_cut(weir_nats_session *self, const char *text);

/*  Ends it, waits until no handler runs, and up to wait_us for the thread, which is left
    alone then. Not in a handler, and without a lock that a handler takes.          */
void weir_nats_session_release(weir_nats_session **self_p, int64_t wait_us);

/* --- While it is up: in `up` and `pump` -------------------------------------------- */

int64_t weir_nats_session_max_payload(weir_nats_session *self); // also later
/*  The buffer is so full that pump should end.                                     */
bool weir_nats_session_is_full(weir_nats_session *self);

/*  Publishes with JetStream's acknowledgement; takes the message. When it fails the
    message stays the caller's.                                                       */
natsStatus weir_nats_session_publish(weir_nats_session *self, natsMsg **msg_p);

/*  Publishes a request whose answers come as messages with this token, from 1.       */
natsStatus weir_nats_session_request(weir_nats_session *self, const char *subject,
                                     uint64_t token, const void *data, size_t size);

/*  The same for what has messages of a stream as its answers, which come to an inbox of
    their own, until it is closed. What is delivered to it by then has come before the
    answer to the next request.                                                     */
natsStatus weir_nats_session_pull(weir_nats_session *self, const char *subject,
                                  uint64_t token, const void *data, size_t size);
natsStatus weir_nats_session_stop_pulls(weir_nats_session *self);

/*  Publishes, and nobody answers.                                                   */
natsStatus weir_nats_session_send(weir_nats_session *self, const char *subject,
                                  const void *data, size_t size);
