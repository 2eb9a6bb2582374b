/*  A host program: two of Weir's actors, linked by hand, without topology and Lua. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include "actors/sink_null.h"
#include "actors/source_generate.h"

int main(void)
{
    weir_vitals generated = WEIR_VITALS_INIT, taken = WEIR_VITALS_INIT;
    weir_source_generate_config from = weir_source_generate_defaults;
    weir_sink_null_config to = weir_sink_null_defaults;
    generated.wake_fd = eventfd(0, EFD_CLOEXEC);
    from.node.name = "gen";
    from.node.vitals = &generated;
    from.count = 100000;
    to.node.vitals = &taken;

    zactor_t *sink = zactor_new(weir_sink_null, &to);
    zactor_t *source = zactor_new(weir_source_generate, &from);
    weir_err err = weir_actor_ask(sink, NULL, "LISTEN", "inproc://sink", NULL);
    if (!err) err = weir_actor_ask(source, NULL, "CONNECT", "gen", "inproc://sink", NULL);
    if (!err) err = weir_actor_ask(sink, NULL, "START", NULL);
    if (!err) err = weir_actor_ask(source, NULL, "START", NULL);
    while (!err && generated.state != WEIR_STATE_ENDED)
        eventfd_read(generated.wake_fd, &(eventfd_t){0});
    zactor_destroy(&source);
    zactor_destroy(&sink);
    printf("%s: %" PRIu64 " sent, %" PRIu64 " taken\n", weir_err_name(err),
           weir_count_get(&generated, WEIR_COUNT_DONE),
           weir_count_get(&taken, WEIR_COUNT_DONE));
    return err != WEIR_OK;
}
