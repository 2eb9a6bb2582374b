/*  doc: lazy access by path to the fields of a payload, whatever its format.

    A doc indexes one container level of JSON or MessagePack; nothing below is
    touched before it is asked for. One doc is reused for record after record.  */
#pragma once
#include "runtime/json.h"

/*  One step of a path: a member's name, or an element's index from 0.         */
typedef struct {
    char *name;  // owned; NULL: an index
    size_t size; // of name
    uint32_t index;
} weir_step;

typedef struct {
    weir_step *steps; // owned
    size_t count;
} weir_path;

/*  Parses a.b[2].`any text`.c: a name, then names behind dots and indices in
    brackets. A bare name is an identifier; in backquotes it may hold any bytes
    but a backquote. On WEIR_EINVAL
    *error_at is the offset of the first byte that does not fit.               */
weir_err weir_path_parse(weir_path *self, const char *text, size_t *error_at);
void weir_path_fini(weir_path *self);

typedef struct {
    weir_format format;
    const uint8_t *data; // borrowed: the payload
    size_t size;
    weir_json_index index; // of JSON and, in the same form, of MessagePack
    uint64_t parses;       // how many payloads this doc has parsed, for counters
} weir_doc;

/*  Checks the payload whole and indexes its top level. The bytes are borrowed
    until the next parse. A JSON document that is no object, and a TEXT payload,
    have no fields. Errors as weir_json_scan (for MessagePack too; bytes behind
    the document are WEIR_EMALFORMED); index.error and .error_at are set. The
    index of an array holds its elements, which no name finds.                 */
weir_err weir_doc_parse(weir_doc *self, weir_format format, const uint8_t *data,
                        size_t size);

/*  The same for bytes that are known to be well-formed: a container that came
    out of an accepted doc, an encoded payload of our own.                     */
void weir_doc_reparse(weir_doc *self, weir_format format, const uint8_t *data,
                      size_t size);

/*  Frees the index and zeroes the doc; a zeroed doc is ready for use.         */
void weir_doc_fini(weir_doc *self);

/*  Position of the top-level member of that name (the last of duplicates), or -1.
    MessagePack: only keys of type str have names.                             */
long weir_doc_find(const weir_doc *self, const char *name, size_t size);

/*  The value of field number i < index.count.                                 */
void weir_doc_value(const weir_doc *self, uint32_t i, weir_value *value);

/*  The value at the path, from the top. False, and MISSING, when a step has no
    such member or is no container.                                            */
bool weir_doc_get(const weir_doc *self, const weir_path *path, weir_value *value);

/*  One step down from a container that an accepted doc gave.                  */
bool weir_value_child(const weir_value *self, const weir_step *step, weir_value *child);

/*  Walks the elements of an ARRAY or the members of a MAP that an accepted doc
    gave. key is MISSING in arrays. A walk starts with a zeroed weir_walk.     */
typedef struct {
    size_t offset;
    uint32_t left;
    bool started;
} weir_walk;
bool weir_value_next(const weir_value *self, weir_walk *walk, weir_value *key,
                     weir_value *child);

/*  The text of a STR, unescaped if need be: points into the value itself, or into
    scratch, which is then overwritten.                                        */
const char *weir_value_text(const weir_value *self, weir_buffer *scratch, size_t *size);
