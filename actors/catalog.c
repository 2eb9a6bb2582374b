#include "actors/catalog.h"
#include "actors/bus_node.h"
#include "actors/engine.h"
#include "actors/sink_file.h"
#include "actors/sink_jetstream.h"
#include "actors/sink_link.h"
#include "actors/sink_null.h"
#include "actors/sink_redis.h"
#include "actors/sink_stdout.h"
#include "actors/sink_zmq.h"
#include "actors/source_bus.h"
#include "actors/source_file.h"
#include "actors/source_generate.h"
#include "actors/source_jetstream.h"
#include "actors/source_link.h"
#include "actors/source_redis.h"
#include "actors/source_stdin.h"
#include "actors/source_zmq.h"

const weir_class *const weir_catalog[] = {
    &weir_source_file_class,    &weir_source_stdin_class,     &weir_source_generate_class,
    &weir_engine_class,         &weir_sink_file_class,        &weir_sink_stdout_class,
    &weir_sink_null_class,      &weir_source_link_class,      &weir_sink_link_class,
    &weir_source_zmq_class,     &weir_sink_zmq_class,         &weir_bus_node_class,
    &weir_source_bus_class,     &weir_sink_redis_class,       &weir_source_redis_class,
    &weir_sink_jetstream_class, &weir_source_jetstream_class, NULL,
};

const weir_class *weir_catalog_find(const char *name)
{
    for (const weir_class *const *class = weir_catalog; *class; class ++)
        if (streq((*class)->name, name)) return *class;
    return NULL;
}
