/*  bus_local: the bus that a weir_bus has in its own process: the actor that is its node,
    the hub that all of it shares, and who takes its records when there is no store.

    It lies above the actors: it runs some. Any thread, unless a function says otherwise.
 */
#pragma once
#include "actors/bus.h"
#include "actors/hub.h"

typedef struct weir_bus_local weir_bus_local;

/*  Starts it, ready for records; all of config but the ledger is copied. look_fd
    (eventfd) becomes readable when weir_bus_local_news is due. Errors as weir_bus_new;
    a given store is still the caller's then. Blocks on disk.                       */
weir_err weir_bus_local_new(weir_bus_local **self_p, const weir_bus_config *config,
                            int look_fd, weir_report *report);

/*  After weir_bus_local_end; its threads have left.                                */
void weir_bus_local_destroy(weir_bus_local **self_p);

/*  From now on the end closes a given store, too.                                  */
void weir_bus_local_own_store(weir_bus_local *self);

weir_vitals *weir_bus_local_vitals(weir_bus_local *self); // of the node
weir_route *weir_bus_local_route(weir_bus_local *self);   // where records go
const weir_bus_options *weir_bus_local_options(const weir_bus_local *self);

/*  After look_fd: wakes who waits for a change. An error: it has failed for good.  */
weir_err weir_bus_local_news(weir_bus_local *self, weir_report *report);

/*  No scaling starts any more; who waits for one goes.                             */
void weir_bus_local_drain(weir_bus_local *self);

/*  Flushes the store until the time has passed, ends the actors and closes the store,
    once. Nobody sends any more. WEIR_ETIMEOUT: a thread is stuck, and keeps what it uses.
 */
weir_err weir_bus_local_end(weir_bus_local *self, int64_t timeout_us);

/*  As weir_bus.h has them; look and audit also after the end.                       */
weir_err weir_bus_local_scale(weir_bus_local *self, uint32_t shards, int64_t timeout_us,
                              weir_report *report);
size_t weir_bus_local_look(weir_bus_local *self, weir_bus_shard *shards, size_t max);
void weir_bus_local_audit(weir_bus_local *self, weir_bus_sums *sums);
weir_poller *weir_bus_local_poller(weir_bus_local *self);
weir_groups *weir_bus_local_groups(weir_bus_local *self);
