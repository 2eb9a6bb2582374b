/*  jetstream_message: the message that sink.jetstream makes of a record: subject,
   headers, id and payload. A class without sockets, for one thread.

    Private to sink.jetstream.                                                      */
#pragma once
#include <nats/nats.h>
#include "actors/template.h"
#include "runtime/options.h"

#define WEIR_JS_SUBJECT_MAX 1024 // bytes: a server ends a connection for a longer line

typedef struct {
    const char *subject;       // template
    const char *stream;        // Nats-Expected-Stream; NULL: none
    const weir_rules *headers; // names and templates
    const char *payload, *id;  // templates; NULL: the record's own
} weir_js_message_config;

typedef struct {
    weir_template template;
    const char *name; // lent
} weir_js_message_header;

typedef struct {
    weir_js_message_config config; // lent
    weir_template subject, payload, id;
    weir_js_message_header *headers; // owned
    size_t header_count;
    weir_buffer scratch, text;
} weir_js_message;

/*  WEIR_EINVAL with a report, where is the option's name. To be ended in any case.   */
weir_err weir_js_message_init(weir_js_message *self, const weir_js_message_config *config,
                              weir_report *report);
void weir_js_message_fini(weir_js_message *self);

/*  The subjects of all messages, with * where fields stand: "orders.*". False: it is
   above the size, and cut. */
bool weir_js_message_pattern(const weir_js_message *self, char *to, size_t size);

/*  Gives the message of a record, which is the caller's. NULL, or a constant sentence
   that says why it makes none.                                                         */
const char *weir_js_message_make(weir_js_message *self, weir_subject *subject,
                                 natsMsg **msg);
