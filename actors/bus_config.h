/*  bus_config: the options of a bus.                                               */
#pragma once
#include "actors/dispatch.h"
#include "actors/scale.h"
#include "actors/store_disk.h"
#include "actors/store_jetstream.h"
#include "actors/store_redis.h"
#include "runtime/actor.h"

typedef enum {
    WEIR_BUS_MEMORY = 0,
    WEIR_BUS_DISK,
    WEIR_BUS_REDIS,
    WEIR_BUS_JETSTREAM,
} weir_bus_store;

extern const char *const weir_bus_store_words[];

/*  Of a store on a server, beside the config of its class.                         */
typedef struct {
    char *url, *prefix;
    int64_t keep; // as for a disk store
} weir_bus_server_options;

typedef struct {
    int64_t shards; // at the first start; WEIR_AUTO: min (CPUs, 8)
    int64_t vnodes;
    char *key;
    char *state;
    int64_t ring_records, ring_bytes;
    int overflow; // weir_overflow
    int64_t one_in;
    weir_batch_config batch;
    weir_retry_config retry;
    int64_t flush_timeout_us, drain_timeout_us;
    int64_t policy; // WEIR_TABLE or WEIR_FUNCTION: there is a `scale`, whose policy adds
                    // and drains shards
    bool wants;     // the policy is a function in the table
    weir_policy function; // of a policy that is one
    weir_scale_config scale;
    int store;    // weir_bus_store
    char *path;   // of the disk store; NULL: bus/NAME under the topology's state
    int64_t keep; // 0: not said; WEIR_FOREVER: all; WEIR_TABLE: the bounds in disk
    weir_disk_config disk; // without path and name
    weir_bus_server_options redis_server, jetstream_server;
    weir_redis_config redis; // without texts and nonce, as the next one
    weir_jetstream_config jetstream;
    char *listen;   // where the bus is read by others; NULL: only in the run folder
    bool plaintext; // of listen
} weir_bus_options;

extern const weir_bus_options weir_bus_options_defaults;

/*  What the table alone cannot tell; where is the option.                          */
weir_err weir_bus_options_check(const weir_bus_options *self, weir_report *report);

/*  With the texts of self, lent, and without bus and nonce.                        */
weir_redis_config weir_bus_redis_config(const weir_bus_options *self);
weir_jetstream_config weir_bus_jetstream_config(const weir_bus_options *self);

/*  Active shards at the first start, and the bounds of scaling, without `auto`.     */
uint32_t weir_bus_first_shards(const weir_bus_options *self);
bool weir_bus_has_function(const weir_bus_options *self); // as its policy
bool weir_bus_has_policy(const weir_bus_options *self);
uint32_t weir_bus_scale_max(const weir_bus_options *self);

struct weir_hub;

/*  Of the actor that is a bus's node.                                              */
typedef struct {
    weir_node node;
    weir_bus_options bus;
    struct weir_hub *hub; // lent; NULL: an own one
} weir_bus_node_config;

extern const weir_bus_node_config weir_bus_node_defaults;
extern const weir_option weir_bus_node_options[];
