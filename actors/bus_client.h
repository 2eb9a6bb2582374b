/*  bus_client: the other side of bus_server: a connection to the endpoint of a bus in
    another process, as a member of one of its groups (docs/wire.md, "The bus endpoint").
    Requests are sent without waiting; answers come when they come. What the other side
    says is checked. One thread; a class without a loop.                                */
#pragma once
#include "actors/bus_request.h"
#include "runtime/socket.h"

typedef struct weir_bus_client weir_bus_client;

/*  Connects; libzmq makes lost connections anew, and each new one has to join again.
    Errors as weir_socket_raw, with a report.                                           */
weir_err weir_bus_client_new(weir_bus_client **self_p, const weir_endpoint *endpoint,
                             weir_report *report);
void weir_bus_client_destroy(weir_bus_client **self_p);

/*  What a member asks for; texts are lent.                                             */
typedef struct {
    const char *group, *member;
    const char *where;      // NULL: none
    const char *start;      // "start", "end", a cursor; NULL: a time
    int64_t start_ms;       // the time
    int64_t ack_timeout_ms; // WEIR_NONE
    int64_t member_timeout_ms;
    int64_t max_deliver; // WEIR_FOREVER
    int64_t window;
    int64_t retry_first_ms, retry_max_ms;
} weir_bus_join;

extern const weir_bus_join weir_bus_join_defaults;

/*  What a poll asks for; texts are lent.                                               */
typedef struct {
    const char *cursor;  // NULL: from there
    const char *from;    // "start", "end"; NULL: the time from_ms
    int64_t from_ms;     // since 1970
    const char *where;   // NULL: none
    uint32_t limit;      // records
    uint64_t timeout_ms; // until the answer, at most
} weir_bus_poll;

/*  Each sends one request and gives its id.                                            */
uint64_t weir_bus_client_hello(weir_bus_client *self);
uint64_t weir_bus_client_poll(weir_bus_client *self, const weir_bus_poll *poll);
uint64_t weir_bus_client_join(weir_bus_client *self, const weir_bus_join *join);
uint64_t weir_bus_client_fetch(weir_bus_client *self, uint32_t limit, size_t bytes,
                               int64_t timeout_ms);
uint64_t weir_bus_client_ack(weir_bus_client *self, uint32_t shard, weir_position at,
                             bool up_to);
/*  delay_ms < 0: as the group has it. why is a text of at least 1 byte, in UTF-8.      */
uint64_t weir_bus_client_nack(weir_bus_client *self, uint32_t shard, weir_position at,
                              int64_t delay_ms, const char *why);
uint64_t weir_bus_client_leave(weir_bus_client *self);

/*  An answer; it lives until the next call of weir_bus_client_recv.                    */
typedef struct {
    uint64_t id;
    char code[32];
    char text[512]; // of what is not ok
    char bus[64];   // of hello; ""
    uint64_t nonce; // of hello; 0
    /*  Of fetch and poll: a shard has not answered; the first that cannot be read, as
        "shard 3: why", else "".                                                        */
    bool is_late;
    char trouble[320];
    weir_reader fields;  // all of them, a map
    weir_reader records; // of fetch and poll: those not taken yet
    uint32_t count;
} weir_bus_answer;

/*  Reads one from bytes, which are lent to it. WEIR_EMALFORMED and others.             */
weir_err weir_bus_answer_read(weir_bus_answer *self, const void *data, size_t size);

/*  False: there is none now. What is no answer is passed over.                         */
bool weir_bus_client_recv(weir_bus_client *self, weir_bus_answer *answer);

typedef struct {
    uint32_t shard;
    weir_position at;
    uint64_t epoch, sequence;
    weir_record record; // points into the answer
} weir_bus_record;

/*  Takes the next record. WEIR_ENOTFOUND: none is left; WEIR_EMALFORMED: the other side
    is wrong. */
weir_err weir_bus_answer_next(weir_bus_answer *self, weir_bus_record *record);

/*  The descriptor to wait on, after recv has given false: edge-triggered, and after a
    send recv must be asked again. */
int weir_bus_client_fd(const weir_bus_client *self);

/*  Waits for an answer to come, or the time (monotonic, -1: none), or until the other
    descriptor (-1: none) is readable. True: that one is.                               */
bool weir_bus_client_wait(const weir_bus_client *self, int64_t until_us, int fd);
