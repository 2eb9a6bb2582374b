/*  template: a text with fields of the record in it: "logs.{host}.{user.id}"; {{ is a
    brace. A class without sockets.                                             */
#pragma once
#include "runtime/record.h"

typedef struct {
    char *text; // owned, stands before the field
    size_t size;
    weir_path path; // no steps: no field
} weir_template_part;

/*  Whether a field may stand there: NULL, or a constant sentence that says why not.   */
typedef const char *(weir_template_check)(const uint8_t *data, size_t size);

typedef struct {
    weir_template_part *parts; // owned
    size_t count;
    weir_template_check *check; // of each field's text; NULL: all may stand there
} weir_template;

/*  WEIR_EINVAL with a report without the option's name. To be ended in any case.   */
weir_err weir_template_parse(weir_template *self, const char *text, weir_report *report);
void weir_template_fini(weir_template *self);

/*  Appends the text for a record. NULL, or a constant sentence that says what is wrong;
    then the end of out is of no use.                                            */
const char *weir_template_put(const weir_template *self, weir_subject *subject,
                              weir_buffer *out);
