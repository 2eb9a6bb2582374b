/*  jetstream_durable: the durable pull consumer that source.jetstream reads: its name,
   how it is made, and whether one that is there will do. Pure.

    Private to source.jetstream.                                                    */
#pragma once
#include "actors/jetstream_api.h"

typedef enum {
    WEIR_JS_FROM_START = 0,
    WEIR_JS_FROM_END,
    WEIR_JS_FROM_SEQUENCE,
    WEIR_JS_FROM_TIME,
} weir_js_from;

typedef struct {
    weir_js_from from;
    uint64_t sequence;
    int64_t ms;
} weir_js_start;

/*  "start", "end", a sequence, or a time as RFC 3339 has it; NULL: the start. WEIR_EINVAL
    with a report whose where is `start`.                                           */
weir_err weir_js_start_read(weir_js_start *self, const char *text, weir_report *report);

/*  Whether it can be the name of a stream or consumer.                              */
bool weir_js_is_name(const char *text);
/*  Whether a consumer may have it as its filter: tokens, * and >.                    */
bool weir_js_is_filter(const char *text);

typedef struct {
    const char *stream, *name;
    const char *subjects; // filter; NULL: all
    weir_js_start start;
    int64_t ack_wait_us, window;
} weir_js_durable;

/*  The body of CONSUMER.DURABLE.CREATE, which changes none that is there.            */
void weir_js_put_durable(weir_buffer *out, const weir_js_durable *self);

/*  What CONSUMER.INFO and CONSUMER.DURABLE.CREATE answer.                            */
typedef struct {
    int64_t ack_wait_us;
    int64_t max_deliver;       // -1: for ever
    uint64_t pending;          // behind it in the stream
    uint64_t floor, delivered; // sequences: up to the one all are acknowledged; the last
    int64_t created_ms;
    uint32_t batch_max, bytes_max; // of a request; UINT32_MAX: no bound
    uint32_t waiting_max;          // requests at a time
    int64_t expires_us;            // longest wait of a request; -1: no bound
} weir_js_durable_info;

/*  False: it is not what the source needs, and why says what it is.                  */
bool weir_js_durable_judge(weir_js_durable_info *info, const weir_value *root,
                           const weir_js_durable *wanted, char why[200]);

/*  Whether what is said to have been made at created_ms, and was at known_ms, is what it
    was: each replica of a cluster tells a time of its own. newest_ms is when the newest
    message that it has brought was stored, 0: it has brought none.                  */
bool weir_js_is_same(int64_t known_ms, int64_t created_ms, int64_t newest_ms);
