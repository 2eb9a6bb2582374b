/*  zmq_frames: any frames are mapped or refused; headers that are accepted are one
    well-formed map, in which the topic is the message's; a printed message is JSON.

    The first bytes choose the map; then each frame is a length and its bytes.    */
#include "actors/zmq_frames.h"

static void require(bool holds)
{
    if (!holds) abort();
}

typedef struct {
    const uint8_t *at, *end;
} input;

static unsigned take(input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static void choose_map(weir_zmq_map *map, input *in)
{
    static char *names[] = {"payload",  "key",  "topic", "headers",
                            "sequence", "skip", "x"};
    char *items[WEIR_ZMQ_FRAMES_MAX + 2];
    weir_texts texts = {.items = items, .count = take(in) % (WEIR_ZMQ_FRAMES_MAX + 2)};
    for (size_t i = 0; i < texts.count; i++)
        items[i] = names[take(in) % 7];
    weir_report report = {0};
    if (!weir_zmq_map_parse(map, &texts, &report)) return;
    require(*report.text);
    *map = (weir_zmq_map){0};
}

static size_t cut_frames(weir_zmq_frame *frames, input *in)
{
    size_t count = 0;
    while (in->at < in->end && count < WEIR_ZMQ_FRAMES_MAX) {
        size_t size = take(in);
        if (size > (size_t)(in->end - in->at)) size = (size_t)(in->end - in->at);
        frames[count++] = (weir_zmq_frame){in->at, size};
        in->at += size;
    }
    return count;
}

static void check_headers(const weir_zmq_parts *parts)
{
    weir_doc doc = {0};
    weir_buffer out = {0};
    const char *error = weir_zmq_headers(parts, &doc, &out);
    if (!error && out.size) {
        weir_reader reader = {out.data, out.data + out.size};
        weir_value map, topic;
        require(!weir_read_value(&reader, &map) && map.type == WEIR_MAP);
        require(reader.at == reader.end);
        weir_record record = {.headers = out.data, .headers_size = out.size};
        weir_record_header(&record, "topic", 5, &topic);
        const weir_zmq_frame *frame = &parts->part[WEIR_ZMQ_TOPIC];
        if (frame->data)
            require(topic.size == frame->size &&
                    !memcmp(topic.data, frame->data, topic.size));
    }
    weir_doc_fini(&doc);
    weir_buffer_fini(&out);
}

static void check_print(const weir_zmq_frame *frames, size_t count)
{
    weir_buffer out = {0};
    weir_json_index index = {0};
    weir_zmq_print(frames, count, &out);
    require(!weir_json_scan(&index, out.data, out.size));
    require(index.type == WEIR_ARRAY && index.count == count);
    weir_json_index_fini(&index);
    weir_buffer_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input in = {data, data + size};
    weir_zmq_map map;
    weir_zmq_frame frames[WEIR_ZMQ_FRAMES_MAX];
    weir_zmq_parts parts;
    choose_map(&map, &in);
    size_t count = cut_frames(frames, &in);
    check_print(frames, count);
    size_t before = weir_zmq_envelope(&map, frames, count);
    require(before <= count && (!before || !frames[before - 1].size));
    if (weir_zmq_find(&map, size & 1, frames + before, count - before, &parts)) return 0;
    require(parts.part[WEIR_ZMQ_PAYLOAD].data != NULL);
    check_headers(&parts);
    return 0;
}
