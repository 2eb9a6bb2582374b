#include "actors/zmq_frames.h"
#include "runtime/base64.h"

static const char *const part_names[WEIR_ZMQ_PARTS] = {
    [WEIR_ZMQ_PAYLOAD] = "payload",   [WEIR_ZMQ_KEY] = "key",
    [WEIR_ZMQ_TOPIC] = "topic",       [WEIR_ZMQ_HEADERS] = "headers",
    [WEIR_ZMQ_SEQUENCE] = "sequence", [WEIR_ZMQ_SKIP] = "skip",
};

static const size_t print_max = 64 << 10; // bytes of a frame that are printed

/* --- Map --------------------------------------------------------------------------- */

static weir_zmq_part part_of(const char *name)
{
    weir_zmq_part part = 0;
    while (part < WEIR_ZMQ_PARTS && strcmp(part_names[part], name))
        part++;
    return part;
}

bool weir_zmq_map_has(const weir_zmq_map *self, weir_zmq_part part)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->parts[i] == part) return true;
    return false;
}

weir_err weir_zmq_map_parse(weir_zmq_map *self, const weir_texts *names,
                            weir_report *report)
{
    *self = (weir_zmq_map){0};
    if (names->count > WEIR_ZMQ_FRAMES_MAX)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "a message has at most %d frames", WEIR_ZMQ_FRAMES_MAX);
    for (size_t i = 0; i < names->count; i++) {
        weir_zmq_part part = part_of(names->items[i]);
        if (part == WEIR_ZMQ_PARTS)
            return weir_report_set(report, WEIR_EINVAL, NULL,
                                   "a frame is \"payload\", \"key\", \"topic\", "
                                   "\"headers\", \"sequence\" or \"skip\", not \"%.40s\"",
                                   names->items[i]);
        if (part != WEIR_ZMQ_SKIP && weir_zmq_map_has(self, part))
            return weir_report_set(report, WEIR_EINVAL, NULL, "there are two of \"%s\"",
                                   names->items[i]);
        self->parts[self->count++] = part;
    }
    if (self->count && !weir_zmq_map_has(self, WEIR_ZMQ_PAYLOAD))
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "one frame must be \"payload\"");
    return WEIR_OK;
}

/* --- Finding ----------------------------------------------------------------------- */

static bool is_end_of_envelope(const weir_zmq_frame *frames, size_t count, size_t data)
{
    return count > data && frames[count - data - 1].size == 0;
}

size_t weir_zmq_envelope(const weir_zmq_map *self, const weir_zmq_frame *frames,
                         size_t count)
{
    if (self->count)
        return is_end_of_envelope(frames, count, self->count) ? count - self->count : 0;
    if (is_end_of_envelope(frames, count, 1)) return count - 1;
    return is_end_of_envelope(frames, count, 2) ? count - 2 : 0;
}

/*  False: it is no number, or one above 2^64-1.                                */
static bool read_decimal(const weir_zmq_frame *frame, uint64_t *number)
{
    *number = 0;
    for (size_t i = 0; i < frame->size; i++) {
        unsigned digit = (unsigned)frame->data[i] - '0';
        if (digit > 9 || __builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, digit, number))
            return false;
    }
    return frame->size > 0;
}

static bool read_sequence(const weir_zmq_frame *frame, uint64_t *number)
{
    if (read_decimal(frame, number)) return true;
    if (frame->size != sizeof *number) return false;
    memcpy(number, frame->data, sizeof *number);
    *number = __builtin_bswap64(*number);
    return true;
}

static const char *find_by_map(const weir_zmq_map *self, const weir_zmq_frame *frames,
                               size_t count, weir_zmq_parts *parts)
{
    if (count != self->count) return "the message has not as many frames as `frames` has";
    for (size_t i = 0; i < count; i++)
        parts->part[self->parts[i]] = frames[i];
    const weir_zmq_frame *sequence = &parts->part[WEIR_ZMQ_SEQUENCE];
    parts->has_sequence = sequence->data != NULL;
    if (parts->has_sequence && !read_sequence(sequence, &parts->sequence))
        return "the sequence is neither a decimal number nor 8 bytes";
    return NULL;
}

const char *weir_zmq_find(const weir_zmq_map *self, bool topics,
                          const weir_zmq_frame *frames, size_t count,
                          weir_zmq_parts *parts)
{
    *parts = (weir_zmq_parts){0};
    if (self->count) return find_by_map(self, frames, count, parts);
    if (count < 1 || count > 2)
        return "the message has neither one frame (payload) nor two (key, payload)";
    parts->part[WEIR_ZMQ_PAYLOAD] = frames[count - 1];
    if (count == 2) parts->part[topics ? WEIR_ZMQ_TOPIC : WEIR_ZMQ_KEY] = frames[0];
    return NULL;
}

/* --- Values ------------------------------------------------------------------------ */

void weir_zmq_value(const weir_zmq_frame *frame, weir_value *value)
{
    *value = (weir_value){
        .type = weir_utf8_valid(frame->data, frame->size) ? WEIR_STR : WEIR_BIN,
        .format = WEIR_MSGPACK,
        .data = frame->data,
        .size = frame->size,
    };
}

static bool begins_map(const weir_zmq_frame *frame)
{
    uint8_t first = frame->data[0];
    return (first & 0xf0) == 0x80 || first == 0xde || first == 0xdf;
}

/*  Reads the frame as a map; an empty frame is an empty one.                     */
static const char *read_map(const weir_zmq_frame *frame, weir_doc *doc, weir_value *map)
{
    static const uint8_t nothing[] = {0x80};
    *map = (weir_value){.type = WEIR_MAP,
                        .format = WEIR_MSGPACK,
                        .data = nothing,
                        .size = sizeof nothing};
    if (frame->size == 0) return NULL;
    weir_format format = begins_map(frame) ? WEIR_MSGPACK : WEIR_JSON;
    if (weir_doc_parse(doc, format, frame->data, frame->size) ||
        doc->index.type != WEIR_MAP)
        return "the headers are neither a MessagePack map nor a JSON object";
    if (format == WEIR_JSON) {
        weir_json_read(frame->data + doc->index.root, doc->index.root_size, map);
    } else {
        map->data = frame->data;
        map->size = frame->size;
    }
    return NULL;
}

static bool is_topic(const weir_value *key)
{
    return weir_json_equal(key->data, key->size, key->escaped, "topic", 5);
}

/*  Copies the map's members; the topic of the message goes before one of theirs. */
static const char *put_members(const weir_value *map, bool has_topic, weir_buffer *out)
{
    weir_value key, child;
    uint32_t count = has_topic;
    for (weir_walk walk = {0}; weir_value_next(map, &walk, &key, &child);) {
        if (key.type != WEIR_STR) return "a header's name is no text";
        count += !(has_topic && is_topic(&key));
    }
    weir_put_map(out, count);
    for (weir_walk walk = {0}; weir_value_next(map, &walk, &key, &child);) {
        if (has_topic && is_topic(&key)) continue;
        weir_value_put(&key, out);
        weir_value_put(&child, out);
    }
    return NULL;
}

const char *weir_zmq_headers(const weir_zmq_parts *parts, weir_doc *doc, weir_buffer *out)
{
    const weir_zmq_frame *topic = &parts->part[WEIR_ZMQ_TOPIC];
    const weir_zmq_frame *headers = &parts->part[WEIR_ZMQ_HEADERS];
    weir_value map, value;
    if (!topic->data && !headers->size) return NULL;
    const char *error = read_map(headers, doc, &map);
    if (!error) error = put_members(&map, topic->data != NULL, out);
    if (error || !topic->data) return error;
    weir_put_str(out, "topic", 5);
    weir_zmq_value(topic, &value);
    weir_value_put(&value, out);
    return NULL;
}

/* --- Printing ---------------------------------------------------------------------- */

/*  A text that is cut ends with a whole character.                              */
static size_t printed_size(const weir_zmq_frame *frame)
{
    if (frame->size <= print_max) return frame->size;
    size_t span = weir_utf8_span(frame->data, print_max);
    return span + 4 > print_max ? span : print_max;
}

static void print_frame(const weir_zmq_frame *frame, weir_buffer *out)
{
    size_t size = printed_size(frame);
    if (weir_json_put_string(out, (const char *)frame->data, size) == WEIR_OK) return;
    weir_buffer_put_text(out, "{\"base64\":\"");
    char *at = (char *)weir_buffer_reserve(out, weir_base64_size(size));
    out->size += weir_base64_encode(at, frame->data, size);
    weir_buffer_put_text(out, "\"}");
}

void weir_zmq_print(const weir_zmq_frame *frames, size_t count, weir_buffer *out)
{
    for (size_t i = 0; i < count; i++) {
        weir_buffer_put_byte(out, i ? ',' : '[');
        print_frame(&frames[i], out);
    }
    weir_buffer_put_text(out, count ? "]" : "[]");
}
