/*  store_jetstream: a bus's records in streams of NATS JetStream, one for each shard.

        stream   <prefix>_<bus>_<shard>     subject   <prefix>.<bus>.<shard>

    A message is one record: its MessagePack encoding with the timestamp filled in, under
    the headers Nats-Msg-Id (nonce:epoch:shard:sequence), Nats-Expected-Last-Sequence, and
    Nats-Expected-Last-Msg-Id where the one before it is still under way. Its offset is
    its sequence in the stream. A record is safe when the server has acknowledged it: what
    that means for its disks and replicas is the server's configuration.

        write --> shard: queue --> window of unanswered records --> server
                                     acknowledged, in order --> batch->done
        read  --> a pull consumer without acks, kept for the reads that go on behind it

    The store opens even when no server answers, and goes on trying; meanwhile batches are
    answered RETRY. After each loss of the connection, and whenever the server does not
    take a record where it belongs, what was under way is looked up in the stream before
    anything is sent again: so each record is stored once, in order, however long that
    took.                                                                           */
#pragma once
#include "actors/store.h"
#include "runtime/options.h"

typedef struct {
    const char *bus;    // name: letters, digits, _ and -; copied
    const char *url;    // nats://[user[:password]@]host[:port][,...] or tls://; copied
    const char *prefix; // as a name; copied
    uint64_t nonce;     // of the bus; 0: nothing is written, records of any bus are read
    int64_t timeout_us; // of a connect, or of one request
    int64_t window;     // unanswered records of a shard
    int64_t keep_age_us, keep_bytes, keep_records; // WEIR_FOREVER (all): no bound
    int64_t replicas;                              // of each stream
    int64_t dedup_us;                              // duplicate window
    bool plaintext; // hosts other than this one need no TLS
    bool tls;       // as if each server were tls://
} weir_jetstream_config;

/*  prefix weir, 5 s, 1000, all, all, all, 1, 1 h, false, false.                    */
extern const weir_jetstream_config weir_jetstream_defaults;

/*  What new () would refuse but for the bus, with its errors.                      */
weir_err weir_jetstream_config_check(const weir_jetstream_config *config,
                                     weir_report *report);

/*  Connects later, and never blocks. WEIR_EINVAL with a report that has no password
    (where names the option): a bad url or name, a bound that no server takes, a remote
    host with neither TLS nor plaintext. WEIR_ESYS: no thread or descriptor.        */
weir_err weir_jetstream_store_new(weir_store **self_p,
                                  const weir_jetstream_config *config,
                                  weir_report *report);

typedef struct {
    bool connected;     // for writing
    char error[256];    // why not; "": no attempt has ended yet
    uint64_t connects;  // for writing
    uint64_t published; // records, each time
    uint64_t stored;    // records that were proven
    uint64_t lookups;   // in a stream, for records that were under way
} weir_jetstream_stats;

void weir_jetstream_look(weir_store *self, weir_jetstream_stats *stats);

/*  Which of the streams that `shards` has listed last is not the bus's, and why; "":
 * none. */
void weir_jetstream_foreign(weir_store *self, char why[256]);
