/*  bus_request: the requests of docs/wire.md, part "The bus endpoint", as they come:
    bytes that nobody vouches for.

        request  [id, verb, {field: value, ..}]      one MessagePack array, one frame

    Nothing is kept of a request that is not exactly as the table has it: unknown fields,
    wrong types and numbers out of range are refused with a sentence that names them.   */
#pragma once
#include "actors/groups.h"
#include "actors/poll.h"

#define WEIR_BUS_PROTOCOL 1         // version, as hello tells it
#define WEIR_BUS_REQUEST_MAX 65536  // bytes of a request
#define WEIR_BUS_PAGE_MAX (8 << 20) // bytes of records in a reply; one record always fits
#define WEIR_BUS_TEXT_MAX 63        // bytes of a member's name
#define WEIR_BUS_GROUP_MAX 127      // bytes of a group's name

typedef enum {
    WEIR_BUS_HELLO = 0,
    WEIR_BUS_POLL,
    WEIR_BUS_JOIN,
    WEIR_BUS_FETCH,
    WEIR_BUS_ACK,
    WEIR_BUS_NACK,
    WEIR_BUS_LEAVE,
    WEIR_BUS_GROUPS,
    WEIR_BUS_VERBS
} weir_bus_verb;

/*  Where to begin: `from` of poll, `start` of join.                                    */
typedef enum { WEIR_AT_START = 0, WEIR_AT_END, WEIR_AT_TIME, WEIR_AT_CURSOR } weir_at;

typedef struct {
    bool has_id;
    uint64_t id;
    weir_bus_verb verb;
    /*  The fields of all verbs; those of others have their defaults. Texts are owned. */
    weir_at from;
    int64_t from_ms; // TIME
    char *cursor;    // CURSOR
    uint64_t limit, bytes, scan, timeout_ms;
    char *where;      // NULL: none
    uint32_t *shards; // owned; NULL: all
    size_t shard_count;
    bool by_time;
    char *group, *member;   // member NULL: none was given
    int64_t ack_timeout_ms; // WEIR_NONE
    int64_t max_deliver;    // WEIR_FOREVER
    uint64_t member_timeout_ms, retry_first_ms, retry_max_ms, window;
    uint64_t shard, a, b;
    bool up_to;
    int64_t delay_ms; // -1: as the group has it
    char *why;        // NULL: none
} weir_bus_request;

/*  Reads one. Errors, with a report, after which the id is set if there was one:
    WEIR_EMALFORMED, WEIR_ETOOBIG: no request; WEIR_ENOTFOUND: no such verb; WEIR_EINVAL:
    a field. To be ended in any case. */
weir_err weir_bus_request_read(weir_bus_request *self, const void *data, size_t size,
                               weir_report *report);
void weir_bus_request_fini(weir_bus_request *self);

const char *weir_bus_verb_name(weir_bus_verb verb);
