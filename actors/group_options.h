/*  group_options: what a consumer group of a bus is told, by `group "name" { .. }` or by
    source.bus.                                                                       */
#pragma once
#include "actors/groups.h"
#include "runtime/options.h"

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
