/*  record: one event, as it lies in a block.

    Encoded it is [timestamp_ms | nil, key | nil, payload, headers | nil] in
    MessagePack. A weir_record points into those bytes and owns nothing.       */
#pragma once
#include "runtime/codec.h"
#include "runtime/doc.h"

typedef struct {
    bool has_ts;
    uint32_t in_run; // set by who walks a block: its index in its run
    int64_t ts_ms;
    weir_value key;      // MISSING: none; else STR, BIN, BOOL, INT, UINT or any other
    weir_format format;  // of the payload
    const uint8_t *data; // the payload: JSON text, raw bytes, or a MessagePack map
    size_t size;
    const uint8_t *headers; // an encoded map, or NULL
    size_t headers_size;
    const uint8_t *encoded; // the whole record as it lies in its block, or NULL
    size_t encoded_size;
} weir_record;

/*  Reads the record at the reader and steps behind it. `trusted` bytes were
    written by this process: their lengths are believed and payloads not walked
    where that can be helped. Else every str must be UTF-8, but for a payload that is one.
    Errors as weir_read_value; WEIR_EMALFORMED also when it is no record.      */
weir_err weir_record_read(weir_record *self, weir_reader *reader, bool trusted);

/*  Steps over a record of trusted bytes without reading more of it than its size. Errors
    as weir_read_value.                                                        */
weir_err weir_record_skip(weir_reader *reader);

/*  Steps over a record that is not trusted, and checks it as weir_record_read does, which
    takes longer.                                                              */
weir_err weir_record_check(weir_reader *reader);

/*  Appends the record's encoding, made from its fields; `encoded` is not looked
    at. A key that is JSON is written as the MessagePack value that it means (a
    str that is not UTF-8, because of a lone surrogate, as bin).               */
void weir_record_put(const weir_record *self, weir_buffer *out);

/*  Appends any value as MessagePack. A JSON str that is not UTF-8, because of a lone
    surrogate, becomes bin.                                                    */
void weir_value_put(const weir_value *self, weir_buffer *out);

/*  The value of a header, MISSING when there is none of that name.            */
void weir_record_header(const weir_record *self, const char *name, size_t size,
                        weir_value *value);

/*  The bytes by which a key routes: str and bin as they are, booleans as
    true/false, integers in decimal. False for anything else: keyless.
    number is scratch that *data may point into.                               */
bool weir_key_bytes(const weir_value *key, char number[24], weir_buffer *scratch,
                    const uint8_t **data, size_t *size);

/*  Whether a value is a key, as above.                                        */
bool weir_key_is(const weir_value *value);

/*  vnode = XXH3-64 (key bytes) mod vnodes.                                    */
uint32_t weir_key_vnode(const uint8_t *data, size_t size, uint32_t vnodes);

/*  Where a bus with a store has a record; nonce:epoch:shard:sequence is its id.  */
typedef struct {
    uint64_t nonce; // of the bus; 0: the record has no place
    uint64_t epoch, sequence, offset;
    uint32_t shard;
} weir_place;

/*  What a filter or a function looks at: a record, where it came from, and its
    payload, parsed at the first look and only then.                           */
typedef enum { WEIR_UNPARSED = 0, WEIR_PARSED, WEIR_UNDECODABLE } weir_parse_state;

typedef struct {
    weir_record record;
    const char *source;      // name of the source node; NULL: missing
    const char *peer;        // authenticated name of the peer; NULL: missing
    weir_doc *doc;           // lent; reused for record after record
    weir_parse_state state;  // of doc for this record
    const weir_place *place; // of the first record of its run; NULL: has none
} weir_subject;

/*  The record's own place; false: it has none.                                */
static inline bool weir_subject_place(const weir_subject *self, weir_place *place)
{
    if (!self->place || !self->place->nonce) return false;
    *place = *self->place;
    place->sequence += self->record.in_run;
    place->offset += self->record.in_run;
    return true;
}

/*  Parses the payload unless that was done. False: it cannot be decoded, and
    doc->index.error, .error_at say why.                                       */
static inline bool weir_subject_parse(weir_subject *self)
{
    if (self->state == WEIR_UNPARSED) {
        weir_err err = weir_doc_parse(self->doc, self->record.format, self->record.data,
                                      self->record.size);
        self->state = err ? WEIR_UNDECODABLE : WEIR_PARSED;
    }
    return self->state == WEIR_PARSED;
}
