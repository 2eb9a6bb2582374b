/*  zmq_frames: how the frames of a plain ZeroMQ message are the parts of a record. A
    class without sockets, for source.zmq and sink.zmq.

        [ envelope .. "" ]  part  part ..

    An envelope, as REQ and DEALER send one to a ROUTER, ends with an empty frame. What
    is behind it is told by a map; without one, by the number of frames: one is the
    payload, two are key (from PUB: topic) and payload.                         */
#pragma once
#include "runtime/doc.h"
#include "runtime/options.h"
#include "runtime/record.h"

/*  A message with more frames is malformed.                                     */
#define WEIR_ZMQ_FRAMES_MAX 16

typedef enum {
    WEIR_ZMQ_PAYLOAD = 0,
    WEIR_ZMQ_KEY,
    WEIR_ZMQ_TOPIC,
    WEIR_ZMQ_HEADERS,  // a MessagePack map or a JSON object
    WEIR_ZMQ_SEQUENCE, // decimal, or 8 bytes, the most significant one first
    WEIR_ZMQ_SKIP,     // looked at by nobody
    WEIR_ZMQ_PARTS,    // their number
} weir_zmq_part;

typedef struct {
    weir_zmq_part parts[WEIR_ZMQ_FRAMES_MAX];
    size_t count; // 0: by the number of frames
} weir_zmq_map;

/*  Reads a list of names. WEIR_EINVAL with a report: an unknown name, one twice, no
    payload.                                                                    */
weir_err weir_zmq_map_parse(weir_zmq_map *self, const weir_texts *names,
                            weir_report *report);
bool weir_zmq_map_has(const weir_zmq_map *self, weir_zmq_part part);

typedef struct {
    const uint8_t *data;
    size_t size;
} weir_zmq_frame;

/*  Where the parts of one message are. Of a part that is not there data is NULL.   */
typedef struct {
    weir_zmq_frame part[WEIR_ZMQ_PARTS];
    bool has_sequence;
    uint64_t sequence;
} weir_zmq_parts;

/*  How many of the frames are an envelope, its empty frame included; 0: there is none. */
size_t weir_zmq_envelope(const weir_zmq_map *self, const weir_zmq_frame *frames,
                         size_t count);

/*  Finds the parts; topics: of two frames, without a map, the first is the topic.
    The result is NULL or a constant sentence that says what is wrong.          */
const char *weir_zmq_find(const weir_zmq_map *self, bool topics,
                          const weir_zmq_frame *frames, size_t count,
                          weir_zmq_parts *parts);

/*  Text becomes STR, other bytes BIN.                                          */
void weir_zmq_value(const weir_zmq_frame *frame, weir_value *value);

/*  Appends the record's headers: those of the headers frame, and the topic as `topic`.
    Nothing is appended when there is neither. doc is scratch. NULL or a sentence, after
    which the end of out is of no use.                                          */
const char *weir_zmq_headers(const weir_zmq_parts *parts, weir_doc *doc,
                             weir_buffer *out);

/*  All frames as a JSON array, for a dead letter: texts as they are, other bytes as
    {"base64": ..}; at most 64 KB of each.                                       */
void weir_zmq_print(const weir_zmq_frame *frames, size_t count, weir_buffer *out);
