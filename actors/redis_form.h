/*  redis_form: what a record becomes in Redis: the name of its stream, its id, and the
    fields of its entry, each by a template. A class without sockets.                 */
#pragma once
#include "actors/redis_once.h"
#include "actors/template.h"
#include "runtime/options.h"

typedef struct {
    const char *stream; // template
    const char *id;     // template; NULL: the record's own, if it has one
    const weir_rules *fields;
    bool ids; // they are of use
} weir_redis_form_config;

typedef struct {
    weir_buffer name; // begins a field: its name as a word of the protocol
    weir_template text;
} weir_redis_form_field;

typedef struct {
    weir_template stream, id;
    bool has_id, ids;
    weir_redis_form_field *fields; // owned
    size_t count;
    /*  Of the last record.                                                           */
    weir_buffer name;
    weir_redis_id_kind kind;
    weir_place place;  // its id, if that is its kind
    weir_buffer words; // an id that is a text; names and texts; as words of the protocol
    weir_buffer scratch;
} weir_redis_form;

/*  WEIR_EINVAL with a report. To be ended in any case.                               */
weir_err weir_redis_form_init(weir_redis_form *self, const weir_redis_form_config *config,
                              weir_report *report);
void weir_redis_form_fini(weir_redis_form *self);

/*  NULL, or a constant sentence that says why the record makes no entry.             */
const char *weir_redis_form_fill(weir_redis_form *self, weir_subject *subject);
