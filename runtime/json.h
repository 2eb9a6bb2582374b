/*  json: strict JSON (RFC 8259) as Weir needs it: checked in one fast pass,
    indexed one level deep, written back exactly.                              */
#pragma once
#include "runtime/buffer.h"
#include "runtime/utf8.h"
#include "runtime/value.h"

/*  Texts and documents are shorter than this, so that offsets fit 32 bits.     */
#define WEIR_TEXT_MAX UINT32_MAX

/*  One member of an object or element of an array, in place. Offsets count from
    the first byte of the text that was scanned.                               */
typedef struct {
    uint32_t key;        // contents of the name, behind its quote; arrays: 0
    uint32_t key_size;   // arrays: 0
    uint32_t value;      // first byte of the value (a string: its quote)
    uint32_t value_size; // bytes of the value (a string: with its quotes)
    uint8_t type;        // weir_type; an INT may turn out UINT or FLOAT when read
    bool key_escaped;    // the name holds backslash escapes
    bool nameless;       // MessagePack: the key is no str; key spans its encoding
    bool escaped;        // STR: the contents hold backslash escapes
} weir_json_field;

typedef struct {
    weir_json_field *fields; // owned, grows
    uint32_t count;
    uint32_t capacity;
    weir_type type;     // of the document itself
    uint32_t root;      // offset of the root value
    uint32_t root_size; // bytes of the root value
    uint32_t error_at;  // after a failure: offset of the offending byte
    const char *error;  // after a failure: constant text, such as "expected ':'"
} weir_json_index;

/*  Checks the whole text as one JSON document and indexes the members (or the
    elements) of its outermost value. White space around the document is allowed,
    anything else behind it is not. Strings must be UTF-8 without raw control
    characters; numbers must follow the grammar.
    Errors: WEIR_EMALFORMED, WEIR_ESHORT (the text ends too early; an empty text
    too), WEIR_EDEEP, WEIR_ETOOBIG (from WEIR_TEXT_MAX bytes on); error_at and
    error are set and count is 0.                                              */
weir_err weir_json_scan(weir_json_index *self, const uint8_t *text, size_t size);

/*  The same for text that weir_json_scan has accepted before (a nested value,
    or text that Weir wrote itself): no checks, faster.                        */
void weir_json_rescan(weir_json_index *self, const uint8_t *text, size_t size);

/*  The member's value. text is what was scanned. Numbers are converted here:
    an integer in the range of int64 is INT, up to 2^64-1 UINT, any other number
    FLOAT.                                                                     */
void weir_json_value(const weir_json_field *self, const uint8_t *text, weir_value *value);

/*  The value at `text`, which is one accepted JSON value of `size` bytes.     */
void weir_json_read(const uint8_t *text, size_t size, weir_value *value);

/*  The size of the accepted JSON value that begins at text[0]; size bounds it. */
size_t weir_json_skip(const uint8_t *text, size_t size);

/*  The last member of that name (the last of duplicates counts), or -1. Elements
    of arrays have no names.                                                   */
long weir_json_find(const weir_json_index *self, const uint8_t *text, const char *name,
                    size_t name_size);

void weir_json_index_fini(weir_json_index *self);

/*  Unescapes accepted string contents into `out`, which has room for `size`
    bytes; returns the length. A surrogate without its other half becomes the
    three bytes that UTF-8's scheme gives its number; weir_json_put_string writes
    such bytes as an escape again, so that nothing is altered.                 */
size_t weir_json_unescape(const uint8_t *data, size_t size, char *out);

/*  True when the unescaped contents equal the text.                           */
bool weir_json_equal(const uint8_t *data, size_t size, bool escaped, const char *text,
                     size_t text_size);

/*  Writers. put_string adds the quotes, escapes what must be (", \, controls),
    and nothing else; WEIR_EMALFORMED (nothing written) when the text is not UTF-8.
    put_float writes the fewest digits, rounded from the exact value, that read
    back to the same double, and always a '.' or an exponent; WEIR_EINVAL for NaN and
    infinities.           */
weir_err weir_json_put_string(weir_buffer *out, const char *text, size_t size);
weir_err weir_json_put_float(weir_buffer *out, double value);
void weir_json_put_int(weir_buffer *out, int64_t value);
void weir_json_put_uint(weir_buffer *out, uint64_t value);

/*  Writes any value (JSON: its bytes as they are, but raw line breaks between
    tokens become spaces so that the result is one line; MessagePack: converted;
    bin becomes a base64 string). Numbers and booleans without data are written
    from the number. Map keys that are not str, NaN, MISSING and extensions are
    WEIR_EINVAL; then out is as before.                                        */
weir_err weir_json_put_value(weir_buffer *out, const weir_value *value);

/*  Adds the member "name":"text" to the object that is being written, behind a comma
    unless it is the first. A text that is not UTF-8 becomes "?".                 */
void weir_json_put_member(weir_buffer *out, const char *name, const char *text);
