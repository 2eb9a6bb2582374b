/*  look: the fields of a JSON document by their names, for commands that read one.  */
#pragma once
#include "runtime/doc.h"

typedef struct {
    weir_json_index index;
    weir_value root;
} weir_look_doc;

/*  The text is lent until close. Errors as weir_json_scan; index.error tells. To be
    closed in any case; a zeroed one is closed.                                       */
weir_err weir_look_open(weir_look_doc *self, const void *text, size_t size);
void weir_look_close(weir_look_doc *self);

/*  The member of that name; false, and MISSING, without it.                   */
bool weir_look(const weir_value *map, const char *name, weir_value *value);

/*  0, false, "" when there is none, or another type. The text is copied, cut to the
    room, and given back.                                                      */
uint64_t weir_look_number(const weir_value *map, const char *name);
bool weir_look_bool(const weir_value *map, const char *name);
const char *weir_look_text(const weir_value *map, const char *name, char *text,
                           size_t size);

/*  The value itself as number and as text, the same way.                      */
uint64_t weir_look_natural(const weir_value *value);
const char *weir_look_copy(const weir_value *value, char *text, size_t size);
