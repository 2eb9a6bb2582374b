/*  reader: brings a node the records of a bus with a store: a member of the node's
    consumer group, which fetches within the credit of its one link. What the link
    acknowledges is acknowledged to the group; a block that it gives back is sent again
    after the group's waits. For the supervisor it is a source that can go back. */
#pragma once
#include "actors/hub.h"
#include "runtime/actor.h"

/*  What `group "name" { .. }` says; `of` names the bus.                            */
typedef struct {
    char *of;
    char *start;            // "start", "end", a time, or a cursor
    int64_t ack_timeout_us; // WEIR_NONE
    int64_t retry_first_us, retry_max_us;
    int64_t member_timeout_us;
    int64_t max_deliver;
    int64_t window;
} weir_group_options;

#define WEIR_GROUP_OPTIONS_DEFAULTS                                                      \
    {                                                                                    \
        .ack_timeout_us = WEIR_NONE, .retry_first_us = 100000, .retry_max_us = 5000000,  \
        .member_timeout_us = 10000000, .max_deliver = 5, .window = 10000                 \
    }

extern const weir_group_options weir_group_options_defaults;
extern const weir_option weir_group_option_rows[]; // of weir_group_options
weir_err weir_group_options_check(const weir_group_options *self, weir_report *report);

/*  The same but for the bus.                                                       */
bool weir_group_options_equal(const weir_group_options *a, const weir_group_options *b);

/*  `start` as the groups have it; the texts are lent. WEIR_EINVAL.                  */
weir_err weir_group_options_start(const weir_group_options *self,
                                  weir_group_config *config, weir_report *report);

typedef struct {
    weir_node node;
    weir_hub *hub; // lent; of the bus that it reads
    char *group;   // owned
    char *member;  // owned; the name of the node that it feeds
    weir_group_options options;
} weir_reader_config;

extern const weir_class weir_reader_class; // its options: none that the language sets
void weir_bus_reader(zsock_t *pipe, void *config);
