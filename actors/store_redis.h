/*  store_redis: a bus's records in Redis, one stream for each shard:

        key <prefix>:<bus>:<shard>   entry <epoch>-<sequence>   i <id>   r <record>

    A record is safe when the server has answered for it and for all before it; how safe
    that is, its appendfsync and replicas say. What was sent goes in by a script, which
    takes all records of a call or none, and only behind the id that has to be the last
    of the stream: so a stream has a prefix of what was given, once, whatever is cut.

    One thread speaks with the server, over one connection for writes and one for reads
    (of a cluster: with each server that has a shard), and waits for none of them.

    Offsets: a position is epoch and sequence. Gaps are told with their epoch. What was
    removed by MAXLEN is told as far as sequences say, that is from the reader's place, or
    from the begin of the epoch, to the first entry that is there. Arrival is not stored:
    where a time is asked for (since_ms) it is looked for by halving, by the timestamps
    that records have; where these do not rise it may be a later or an earlier record.

    What shards () tells is counted in entries, and may be some time old as far as
    trimming goes: first is behind those that were trimmed.

    Redis 6.2 or later; what was trimmed is counted from 7.0 on.                     */
#pragma once
#include "actors/store.h"
#include "runtime/options.h"

typedef struct {
    const char *bus, *url, *prefix; // url: redis://[user[:password]@]host[:port][/db],
                                    // unix:///path; lent
    uint64_t nonce;                 // of the bus: ids are nonce:epoch:shard:sequence
    int64_t timeout_us;             // of a connect or one request
    int64_t window;                 // records of a shard that are sent and not answered
    int64_t keep_records;           // of a shard, and up to some hundred more;
                                    // WEIR_FOREVER: all
    bool plaintext;                 // another host may be spoken to, without TLS
} weir_redis_config;

/*  "weir", 5 s, 1000, all, no.                                                     */
extern const weir_redis_config weir_redis_defaults;

/*  What new () would refuse but for bus and nonce, with its errors.                 */
weir_err weir_redis_config_check(const weir_redis_config *config, weir_report *report);

/*  Opens whether the server is there or not. Writes wait for a connection that is being
    made; they are answered RETRY when it fails or breaks. WEIR_EINVAL (where names the
    option), WEIR_EREFUSED (another host without plaintext), WEIR_ESYS, with a report. A
    url's password is in no text.                                                   */
weir_err weir_redis_store_new(weir_store **self_p, const weir_redis_config *config,
                              weir_report *report);

/*  The highest epoch in any of the bus's streams, 0: there is none. The bus raises its
    own above it before it writes. Tries for at most the timeout: WEIR_ETIMEOUT,
    WEIR_EREFUSED (credentials and what else does not pass by waiting), with a report. */
weir_err weir_redis_store_epoch(weir_store *self, uint64_t *epoch, weir_report *report);

typedef struct {
    bool connected;               // for writes
    uint64_t calls, call_records; // that were stored
    uint64_t connections;         // made for writes
    uint32_t unanswered_max;      // records of a shard, the most there were
    size_t buffer_max;            // bytes that waited to be sent, likewise
    uint64_t cut;                 // answers to reads that were too large to take whole
    char error[256];              // why it is not connected
} weir_redis_stats;

void weir_redis_look(weir_store *self, weir_redis_stats *stats);
