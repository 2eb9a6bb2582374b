#include "actors/jetstream_durable.h"
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "actors/reader.h"

#define NS_PER_US INT64_C(1000)

weir_err weir_js_start_read(weir_js_start *self, const char *text, weir_report *report)
{
    weir_group_options options = {.start = (char *)text};
    weir_group_config config = {0};
    weir_report cause = {0};
    *self = (weir_js_start){0};
    if (text && *text && strspn(text, "0123456789") == strlen(text)) {
        self->from = WEIR_JS_FROM_SEQUENCE;
        self->sequence = strtoull(text, NULL, 10);
        if (self->sequence) return WEIR_OK;
    } else if (!weir_group_options_start(&options, &config, &cause) &&
               config.start != WEIR_GROUP_CURSOR) {
        self->from = config.start == WEIR_GROUP_END    ? WEIR_JS_FROM_END
                     : config.start == WEIR_GROUP_TIME ? WEIR_JS_FROM_TIME
                                                       : WEIR_JS_FROM_START;
        self->ms = config.start_ms;
        return WEIR_OK;
    }
    return weir_report_set(report, WEIR_EINVAL, "start",
                           "'%.60s' is not start, 'end', a sequence of the stream from "
                           "'1', or a time such as '2026-01-31T08:00:00Z'",
                           text);
}

bool weir_js_is_name(const char *text)
{
    size_t size = strlen(text);
    return size && size < WEIR_JS_NAME && !strpbrk(text, ". \t\r\n\f\"*>/\\");
}

/*  * is a token of its own, > the last one.                                         */
bool weir_js_is_filter(const char *text)
{
    size_t size = strlen(text);
    if (!size || size >= WEIR_JS_NAME || text[size - 1] == '.') return false;
    for (const char *at = text; *at; at += strcspn(at, "."), at += *at == '.') {
        size_t token = strcspn(at, ".");
        if (!token) return false;
        for (size_t i = 0; i < token; i++) {
            if ((unsigned char)at[i] <= ' ' || strchr("\"\\\x7f", at[i])) return false;
            if (strchr("*>", at[i]) && token > 1) return false;
        }
        if (*at == '>' && at[1]) return false;
    }
    return true;
}

static void put_start(weir_buffer *out, const weir_js_start *start)
{
    switch (start->from) {
    case WEIR_JS_FROM_START:
        weir_buffer_put_text(out, "\"all\"");
        break;
    case WEIR_JS_FROM_END:
        weir_buffer_put_text(out, "\"new\"");
        break;
    case WEIR_JS_FROM_SEQUENCE:
        weir_buffer_printf(out, "\"by_start_sequence\",\"opt_start_seq\":%" PRIu64,
                           start->sequence);
        break;
    case WEIR_JS_FROM_TIME:
        weir_buffer_put_text(out, "\"by_start_time\",\"opt_start_time\":");
        weir_js_put_time(out, start->ms);
        break;
    }
}

void weir_js_put_durable(weir_buffer *out, const weir_js_durable *self)
{
    weir_buffer_printf(out,
                       "{\"stream_name\":\"%s\",\"action\":\"create\",\"config\":{"
                       "\"durable_name\":\"%s\",\"ack_policy\":\"explicit\","
                       "\"replay_policy\":\"instant\",\"max_deliver\":-1,"
                       "\"ack_wait\":%" PRId64 ",\"max_ack_pending\":%" PRId64,
                       self->stream, self->name, self->ack_wait_us * NS_PER_US,
                       self->window);
    if (self->subjects)
        weir_buffer_printf(out, ",\"filter_subject\":\"%s\"", self->subjects);
    weir_buffer_put_text(out, ",\"deliver_policy\":");
    put_start(out, &self->start);
    weir_buffer_put_text(out, "}}");
}

/* --- One that is there ------------------------------------------------------------- */

static bool is_explicit(const weir_value *config, char why[200])
{
    char policy[32], deliver[8];
    weir_js_text(config, "ack_policy", policy, sizeof policy);
    weir_js_text(config, "deliver_subject", deliver, sizeof deliver);
    if (*deliver)
        snprintf(why, 200, "it is a push consumer, not one that is pulled from");
    else if (strcmp(policy, "explicit"))
        snprintf(why, 200, "its ack_policy is \"%s\", not \"explicit\"", policy);
    else
        return true;
    return false;
}

static bool has_filter(const weir_value *config, const char *subjects, char why[200])
{
    char filter[WEIR_JS_NAME];
    weir_value several;
    weir_js_text(config, "filter_subject", filter, sizeof filter);
    weir_js_member(config, "filter_subjects", &several);
    bool same = strcmp(filter, subjects ? subjects : "") == 0;
    bool all = !*filter && subjects && strcmp(subjects, ">") == 0;
    if (several.type == WEIR_ARRAY)
        snprintf(why, 200, "it has several filters, and one at most is expected");
    else if (!same && !all)
        snprintf(why, 200, "its filter is \"%.70s\", not \"%.70s\"", filter,
                 subjects ? subjects : "");
    else
        return true;
    return false;
}

/*  Of requests; 0 and less: there is none.                                          */
static uint32_t bound(const weir_value *config, const char *name)
{
    int64_t is = weir_js_integer(config, name);
    return is > 0 && is < UINT32_MAX ? (uint32_t)is : UINT32_MAX;
}

bool weir_js_durable_judge(weir_js_durable_info *info, const weir_value *root,
                           const weir_js_durable *wanted, char why[200])
{
    weir_value config, headers_only, floor, delivered;
    weir_js_member(root, "config", &config);
    weir_js_member(&config, "headers_only", &headers_only);
    if (!is_explicit(&config, why) || !has_filter(&config, wanted->subjects, why))
        return false;
    if (headers_only.type == WEIR_BOOL && headers_only.boolean) {
        snprintf(why, 200, "it delivers headers only");
        return false;
    }
    weir_js_member(root, "ack_floor", &floor);
    weir_js_member(root, "delivered", &delivered);
    *info = (weir_js_durable_info){
        .ack_wait_us = weir_js_integer(&config, "ack_wait") / NS_PER_US,
        .max_deliver = weir_js_integer(&config, "max_deliver"),
        .pending = weir_js_number(root, "num_pending"),
        .floor = weir_js_number(&floor, "stream_seq"),
        .delivered = weir_js_number(&delivered, "stream_seq"),
        .created_ms = weir_js_time(root, "created"),
        .batch_max = bound(&config, "max_batch"),
        .bytes_max = bound(&config, "max_bytes"),
        .waiting_max = bound(&config, "max_waiting"),
        .expires_us = weir_js_integer(&config, "max_expires") / NS_PER_US,
    };
    if (info->ack_wait_us <= 0) info->ack_wait_us = wanted->ack_wait_us;
    if (info->expires_us <= 0) info->expires_us = -1;
    return true;
}

/* --- Another one of its name ------------------------------------------------------- */

/*  What replaces something is made after all that this has brought was stored, and clocks
    of servers are not that far apart.                                               */
bool weir_js_is_same(int64_t known_ms, int64_t created_ms, int64_t newest_ms)
{
    static const int64_t apart_ms = 10000;
    return created_ms == known_ms || created_ms < newest_ms - apart_ms;
}
