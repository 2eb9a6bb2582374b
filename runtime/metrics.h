/*  metrics: what runs, as numbers in Prometheus' text format 0.0.4.

    Two tables hold them all: weir_count_infos (one metric for each counter of a node),
    and weir_metrics. Rendering reads atomic numbers and short locks only, from any
    thread, so no actor waits for it. The format's rules: a metric's samples stand
    together behind its # HELP and # TYPE; a counter never falls and ends in _total;
    times are in seconds.                                                      */
#pragma once
#include "runtime/health.h"

typedef struct weir_metric weir_metric;
struct weir_metric {
    const char *name;
    const char *labels; // for people: "node, actor"; "": none
    const char *help;
    bool counter; // else a gauge
    bool micros;  // the number is in us, and is written in seconds
    /*  The number of one node; false: it has none. NULL: see put.             */
    bool (*of_node)(weir_vitals *vitals, int64_t *number);
    /*  Writes the samples of a metric that is not one number a node.          */
    void (*put)(const weir_metric *self, const weir_view *view, weir_buffer *out);
};

extern const weir_metric weir_metrics[]; // NULL-name-ended

/*  A metric of the nodes of one class (weir_class.metrics). put writes a sample for each
    thing that a node has; its labels stand behind node and actor.             */
typedef struct {
    const char *name, *value;
} weir_label;

typedef struct weir_samples weir_samples;

typedef struct weir_class_metric weir_class_metric;
struct weir_class_metric {
    const char *name;
    const char *labels; // for people, beside node and actor: "shard"; "": none
    const char *help;
    bool counter, micros; // as above
    void (*put)(const weir_class_metric *self, const void *config, weir_samples *to);
    int which; // for put
};

void weir_samples_put(weir_samples *self, const weir_label *labels, size_t count,
                      int64_t number);

/*  The metric's name of a node's counter: "weir_in_total", "weir_resident".   */
void weir_metric_name(weir_count count, char name[64]);

/*  A label's value between its quotes: \, " and line breaks escaped, what is not UTF-8
    as ?.                                                                      */
void weir_metric_put_label(weir_buffer *out, const char *text);

/*  Everything. Any thread.                                                    */
void weir_metrics_put(const weir_view *view, weir_buffer *out);
