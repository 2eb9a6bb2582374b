/*  template: a text with fields of the record in it: "logs.{host}.{user.id}"; {{ is a
    brace. Beside fields of the payload there are $raw (the payload's text, MessagePack as
    JSON), $key, $ts, $source, $peer, $id (nonce:epoch:shard:sequence, of a record from a
    bus with a store) and $headers.NAME. A class without sockets.               */
#pragma once
#include "runtime/record.h"

typedef enum {
    WEIR_TEMPLATE_TEXT = 0, // no field follows the text
    WEIR_TEMPLATE_FIELD,
    WEIR_TEMPLATE_RAW,
    WEIR_TEMPLATE_KEY,
    WEIR_TEMPLATE_TS,
    WEIR_TEMPLATE_SOURCE,
    WEIR_TEMPLATE_PEER,
    WEIR_TEMPLATE_ID,
    WEIR_TEMPLATE_HEADER,
} weir_template_kind;

typedef struct {
    char *text; // owned, stands before the field
    size_t size;
    weir_template_kind kind;
    weir_path path;        // of FIELD
    char *header;          // of HEADER, owned
    char *missing, *unfit; // owned: sentences about a record without it, and about a
                           // value that is no text
} weir_template_part;

/*  Whether a field may stand there: NULL, or a constant sentence that says why not.   */
typedef const char *(weir_template_check)(const uint8_t *data, size_t size);

typedef struct {
    weir_template_part *parts; // owned
    size_t count;
    bool any; // set by who owns it: any value will do; numbers, lists and maps as JSON
    weir_template_check
        *check; // so, too: of each field's text; NULL: all may stand there
} weir_template;

/*  Whether all records have the same text.                                     */
static inline bool weir_template_is_constant(const weir_template *self)
{
    return self->count == 0 ||
           (self->count == 1 && self->parts[0].kind == WEIR_TEMPLATE_TEXT);
}

/*  Appends nonce:epoch:shard:sequence.                                         */
void weir_template_put_place(const weir_place *place, weir_buffer *out);

/*  WEIR_EINVAL with a report without the option's name. To be ended in any case.   */
weir_err weir_template_parse(weir_template *self, const char *text, weir_report *report);
void weir_template_fini(weir_template *self);

/*  Appends the text for a record. NULL, or a sentence that says what is wrong, which
   lives as long as self; then the end of out is of no use.                           */
const char *weir_template_put(const weir_template *self, weir_subject *subject,
                              weir_buffer *out);
