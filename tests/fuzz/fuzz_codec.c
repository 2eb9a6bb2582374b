/*  MessagePack: skip, read and a plain recursive walk agree; documents hold what
    a walk meets; a record that reads is encoded again without a change.       */
#include "runtime/record.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

/*  Walks the value at the reader by the public reads of one level.            */
static weir_err walk(weir_reader *reader, unsigned depth)
{
    weir_reader before = *reader;
    uint32_t count;
    weir_err err = weir_read_array(reader, &count);
    uint64_t items = count;
    if (err == WEIR_EMALFORMED) {
        err = weir_read_map(reader, &count);
        items = 2ull * count;
    }
    if (err == WEIR_ESHORT) return err;
    if (err == WEIR_EMALFORMED) {
        weir_value value;
        *reader = before;
        return weir_read_value(reader, &value);
    }
    if (depth == WEIR_DEPTH_MAX) return WEIR_EDEEP;
    for (uint64_t i = 0; i < items; i++) {
        err = walk(reader, depth + 1);
        if (err) return err;
    }
    return WEIR_OK;
}

static bool same_bytes(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    return a_size == b_size && (a_size == 0 || memcmp(a, b, a_size) == 0);
}

static bool same_value(const weir_value *a, const weir_value *b)
{
    if (a->type != b->type) return false;
    if (a->type == WEIR_MISSING || a->type == WEIR_NULL) return true;
    if (a->type == WEIR_BOOL) return a->boolean == b->boolean;
    if (a->type == WEIR_INT || a->type == WEIR_UINT) return a->natural == b->natural;
    if (a->type == WEIR_FLOAT)
        return a->natural == b->natural || (a->real != a->real && b->real != b->real);
    return same_bytes(a->data, a->size, b->data, b->size);
}

static void check_read(const uint8_t *data, size_t size)
{
    weir_reader read = {data, data + size}, skip = read, deep = read, trusted = read;
    weir_value value, fast;
    weir_err err = weir_read_value(&read, &value);
    CHECK(weir_read_skip(&skip) == err && skip.at == read.at);
    CHECK((walk(&deep, 0) == WEIR_OK) == (err == WEIR_OK));
    if (err) {
        CHECK(read.at == data);
        return;
    }
    CHECK(deep.at == read.at);
    CHECK(weir_read_nested(&trusted, &value, 0, true) == WEIR_OK);
    CHECK(trusted.at == read.at);
    trusted.at = data;
    CHECK(weir_read_nested(&trusted, &fast, 0, true) == WEIR_OK);
    CHECK(same_value(&value, &fast));
    weir_buffer out = {0};
    weir_json_index index = {0};
    if (weir_json_put_value(&out, &value) == WEIR_OK)
        CHECK(weir_json_scan(&index, out.data, out.size) == WEIR_OK);
    else
        CHECK(out.size == 0);
    weir_json_index_fini(&index);
    weir_buffer_fini(&out);
}

static void check_doc(const uint8_t *data, size_t size)
{
    weir_doc doc = {0}, again = {0};
    weir_err err = weir_doc_parse(&doc, WEIR_MSGPACK, data, size);
    weir_reader reader = {data, data + size};
    weir_err skipped = weir_read_skip(&reader);
    CHECK((err == WEIR_OK) == (skipped == WEIR_OK && reader.at == reader.end));
    weir_value root = {
        .type = doc.index.type, .format = WEIR_MSGPACK, .data = data, .size = size};
    weir_walk steps = {0};
    weir_value key, child, value;
    for (uint32_t i = 0; i < doc.index.count; i++) {
        const weir_json_field *field = &doc.index.fields[i];
        weir_doc_value(&doc, i, &value);
        CHECK(weir_value_next(&root, &steps, &key, &child));
        CHECK(same_value(&value, &child));
        CHECK(doc.index.type != WEIR_MAP || (key.type == WEIR_STR) == !field->nameless);
        if (key.type != WEIR_STR) continue;
        long last = weir_doc_find(&doc, (const char *)key.data, key.size);
        CHECK(last >= (long)i && !doc.index.fields[last].nameless);
    }
    if (!err) {
        weir_doc_reparse(&again, WEIR_MSGPACK, data, size);
        CHECK(again.index.count == doc.index.count && again.index.type == doc.index.type);
        CHECK(!weir_value_next(&root, &steps, &key, &child));
    }
    weir_doc_fini(&doc);
    weir_doc_fini(&again);
}

static void check_record(const uint8_t *data, size_t size)
{
    weir_reader reader = {data, data + size}, fast = reader, over = reader;
    weir_record record, trusted, again;
    weir_err err = weir_record_read(&record, &reader, false);
    weir_err trusted_err = weir_record_read(&trusted, &fast, true);
    if (err) {
        CHECK(reader.at == data);
        return;
    }
    CHECK(trusted_err == WEIR_OK && fast.at == reader.at);
    CHECK(weir_record_skip(&over) == WEIR_OK && over.at == reader.at);
    CHECK(trusted.data == record.data && trusted.headers == record.headers);
    CHECK(record.encoded == data && data + record.encoded_size == reader.at);
    weir_buffer out = {0}, scratch = {0};
    weir_record_put(&record, &out);
    CHECK(out.size <= record.encoded_size);
    weir_reader second = {out.data, out.data + out.size};
    CHECK(weir_record_read(&again, &second, false) == WEIR_OK && second.at == second.end);
    CHECK(again.has_ts == record.has_ts && again.ts_ms == record.ts_ms);
    CHECK(again.format == record.format && same_value(&again.key, &record.key));
    CHECK(same_bytes(again.data, again.size, record.data, record.size));
    CHECK(same_bytes(again.headers, again.headers_size, record.headers,
                     record.headers_size));
    char number[24];
    const uint8_t *bytes;
    size_t bytes_size;
    if (weir_key_bytes(&record.key, number, &scratch, &bytes, &bytes_size))
        CHECK(weir_key_vnode(bytes, bytes_size, 256) < 256);
    weir_value header;
    weir_record_header(&record, "tenant", 6, &header);
    weir_buffer_fini(&out);
    weir_buffer_fini(&scratch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_read(data, size);
    check_doc(data, size);
    check_record(data, size);
    return 0;
}
