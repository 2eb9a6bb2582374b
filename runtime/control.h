/*  control: the control endpoint's sockets, requests, replies and streams, without any
    policy: what a command does is its owner's. docs/control.md is the protocol.

        request  [""] "WEIR1" id command arg ...
        reply    [""] "WEIR1" id code body          the body is JSON

    One thread uses it, the owner's; nothing blocks. A client that does not read is
    not waited for: its replies are dropped, and soon its streams end.            */
#pragma once
#include "runtime/buffer.h"
#include "runtime/realm.h"

#define WEIR_CONTROL_FRAME_MAX 65536 // bytes of a frame of a request
#define WEIR_CONTROL_ARGS_MAX 16
#define WEIR_CONTROL_ID_MAX 64 // bytes
#define WEIR_CONTROL_STREAMS_MAX 32

/* --- Requests ---------------------------------------------------------------------- */

typedef struct {
    const void *data;
    size_t size;
} weir_control_frame;

/*  One request. All texts are lent until its end.                               */
typedef struct weir_request {
    const char *command;
    const char *args[WEIR_CONTROL_ARGS_MAX + 1]; // ends with a NULL
    size_t arg_count;
    const char *peer; // the name in the sender's certificate; NULL: by the local socket
    const char *key;  // its key; NULL as peer is
    bool delimited;   // began with an empty frame; so does the reply
    weir_control_frame id;
    weir_control_frame address; // of the connection
    int port;                   // number of the socket
    char *text;                 // owned: command and args
} weir_request;

/*  Reads a request from the frames behind the address. WEIR_EPROTO: not of this
    protocol; WEIR_EMALFORMED, WEIR_ETOOBIG: of it, but wrong; the report is a sentence.
    The id is set where there is one. To be ended in any case.                    */
weir_err weir_request_parse(weir_request *self, const weir_control_frame *frames,
                            size_t count, weir_report *report);
void weir_request_fini(weir_request *self);

/*  The code in a reply: "ok", "invalid", "not-found", ...                       */
const char *weir_control_code(weir_err err);

/* --- Endpoint ---------------------------------------------------------------------- */

typedef struct weir_control weir_control;

typedef struct {
    weir_realm *realm;   // lent; it must outlive the endpoint
    const char *run_dir; // for ipc://RUN_DIR/NAME.sock; NULL: none
    const char *name;    // of the running weir
    const char *tcp;     // a further endpoint, by CURVE, role control; NULL: none
    /*  Answers by weir_control_reply or weir_control_stream, before it returns.  */
    void (*request)(void *arg, const weir_request *request);
    void *arg;
} weir_control_config;

/*  Binds. The texts are lent until it ends. WEIR_EREFUSED: the name is taken; else
    errors of weir_rundir_open and of the sockets. *self_p is NULL then.          */
weir_err weir_control_new(weir_control **self_p, const weir_control_config *config,
                          weir_report *report);

/*  Ends all streams, removes socket and lock. NULL is accepted.                 */
void weir_control_destroy(weir_control **self_p);

/*  Where it listens in fact; NULL behind the last.                              */
const char *weir_control_endpoint(const weir_control *self, int port);

/*  The descriptor of a port to wait on; -1 behind the last. It is edge-triggered:
    before each wait weir_control_run must have returned false.                   */
int weir_control_fd(const weir_control *self, int port);

/*  Answers what has come. True: there is more.                                  */
bool weir_control_run(weir_control *self);

/*  Requests that were none of ours, so far.                                     */
uint64_t weir_control_refused(const weir_control *self);

/*  Sends the one reply: the body as it is when err is 0, else the report's sentence. */
void weir_control_reply(weir_control *self, const weir_request *request, weir_err err,
                        const weir_buffer *body, const weir_report *report);

/* --- Streams ----------------------------------------------------------------------- */

/*  An answer in many replies: code "more" each, until the last.                 */
typedef struct weir_stream weir_stream;

/*  NULL: WEIR_CONTROL_STREAMS_MAX are open. Owned by the endpoint until it ends. */
weir_stream *weir_control_stream(weir_control *self, const weir_request *request);

/*  WEIR_EFULL: the client has not read what it was sent before, this one is left out.
    WEIR_ECLOSED: it is gone, has not read for some seconds, or may not any more; only
    weir_stream_end is left.                                                      */
weir_err weir_stream_send(weir_stream *self, const void *json, size_t size);

/*  Sends the last reply, "ok", and ends. *self_p becomes NULL.                  */
void weir_stream_end(weir_stream **self_p, const weir_buffer *body);

/*  The same with an error and its code; the body has the member "error".        */
void weir_stream_fail(weir_stream **self_p, weir_err err, const weir_buffer *body);

/*  Whether the request comes from the stream's client.                          */
bool weir_stream_is_of(const weir_stream *self, const weir_request *request);
