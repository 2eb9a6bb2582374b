/*  The input is an expression, a NUL, and a JSON document. What compiles must have the
    same verdict on the document as JSON and as MessagePack, the opposite one under
    `not`, and the same one twice; a broken document must leave it unknown or as it is
    for every document. What does not compile must say where.                          */
#include "runtime/codec.h"
#include "runtime/filter.h"

#define EXPRESSION_MAX 4200
#define DOCUMENT_MAX 65536

static const char *const documents[] = {
    "{\"a\":1,\"b\":\"text\",\"c\":[1,2.5,\"x\",null],\"d\":{\"e\":true},\"f\":null}",
    "{\"a\":18446744073709551615,\"b\":\"\\u0041\\n\",\"x\":-0.0,\"a\":false}",
    "{}",
    "[1,2,3]",
};

static const char *const broken[] = {"", "{\"a\":1", "{\"a\":1}}", "\xff"};

static void require(bool held)
{
    if (!held) abort();
}

static bool put_packed(const weir_value *value, weir_buffer *out);

static bool put_packed_container(const weir_value *value, weir_buffer *out)
{
    weir_walk walk = {0};
    weir_value key, child;
    uint32_t count = 0;
    while (weir_value_next(value, &walk, &key, &child))
        count++;
    bool map = value->type == WEIR_MAP;
    map ? weir_put_map(out, count) : weir_put_array(out, count);
    walk = (weir_walk){0};
    while (weir_value_next(value, &walk, &key, &child)) {
        if (map && !put_packed(&key, out)) return false;
        if (!put_packed(&child, out)) return false;
    }
    return true;
}

/*  False: MessagePack cannot hold it (a str that is not UTF-8).                       */
static bool put_packed(const weir_value *value, weir_buffer *out)
{
    weir_buffer scratch = {0};
    size_t size;
    const char *text;
    bool fits = true;
    switch (value->type) {
    case WEIR_BOOL:
        weir_put_bool(out, value->boolean);
        return true;
    case WEIR_INT:
        weir_put_int(out, value->integer);
        return true;
    case WEIR_UINT:
        weir_put_uint(out, value->natural);
        return true;
    case WEIR_FLOAT:
        weir_put_float(out, value->real);
        return true;
    case WEIR_STR:
        text = weir_value_text(value, &scratch, &size);
        fits = weir_utf8_valid((const uint8_t *)text, size);
        if (fits) weir_put_str(out, text, size);
        weir_buffer_fini(&scratch);
        return fits;
    case WEIR_ARRAY:
    case WEIR_MAP:
        return put_packed_container(value, out);
    default:
        weir_put_nil(out);
        return true;
    }
}

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/*  A match near its bound may reach it in one run and not in another.                 */
static bool agree(const char *expression, weir_verdict a, weir_verdict b)
{
    if (a == b) return true;
    return (a == WEIR_UNKNOWN || b == WEIR_UNKNOWN) && has(expression, "~");
}

static weir_verdict match(weir_filter *filter, const char *expression, weir_format format,
                          const void *data, size_t size)
{
    weir_doc doc = {0};
    weir_subject subject = {.record = {.format = format, .data = data, .size = size},
                            .source = "here",
                            .doc = &doc};
    weir_verdict verdict = weir_filter_match(filter, &subject);
    require(agree(expression, verdict, weir_filter_match(filter, &subject)));
    weir_doc_fini(&doc);
    return verdict;
}

/*  $raw is missing in MessagePack: such expressions have no equal verdicts.           */
static void check_equal_verdicts(weir_filter *filter, const char *expression,
                                 const char *json, size_t size)
{
    weir_doc doc = {0};
    weir_buffer packed = {0};
    if (weir_doc_parse(&doc, WEIR_JSON, (const uint8_t *)json, size) == WEIR_OK &&
        doc.index.type == WEIR_MAP && !has(expression, "$raw")) {
        weir_value root;
        weir_json_read((const uint8_t *)json + doc.index.root, doc.index.root_size,
                       &root);
        if (put_packed(&root, &packed)) {
            require(
                agree(expression, match(filter, expression, WEIR_JSON, json, size),
                      match(filter, expression, WEIR_MSGPACK, packed.data, packed.size)));
        }
    }
    weir_buffer_fini(&packed);
    weir_doc_fini(&doc);
}

static void check_inverted(weir_filter *filter, const char *expression, const char *json,
                           size_t size)
{
    weir_buffer text = {0};
    weir_filter *inverted = NULL;
    weir_report report = {0};
    size_t column;
    weir_buffer_printf(&text, "not (%s)", expression);
    weir_buffer_put_byte(&text, 0);
    if (weir_filter_new(&inverted, (const char *)text.data, &column, &report) ==
        WEIR_OK) {
        weir_verdict verdict = match(filter, expression, WEIR_JSON, json, size);
        weir_verdict other = match(inverted, expression, WEIR_JSON, json, size);
        if (other != WEIR_UNKNOWN) other = other == WEIR_TRUE ? WEIR_FALSE : WEIR_TRUE;
        require(agree(expression, verdict, other));
        weir_filter_destroy(&inverted);
    } else {
        require(has(report.text, "levels") || has(report.text, "bytes"));
    }
    weir_buffer_fini(&text);
}

static void check(weir_filter *filter, const char *expression, const char *json,
                  size_t size)
{
    check_equal_verdicts(filter, expression, json, size);
    check_inverted(filter, expression, json, size);
    match(filter, expression, WEIR_TEXT, json, size);
    match(filter, expression, WEIR_MSGPACK, json, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char expression[EXPRESSION_MAX + 1];
    size_t expression_size = strnlen((const char *)data, size);
    if (expression_size > EXPRESSION_MAX || size - expression_size > DOCUMENT_MAX)
        return 0;
    memcpy(expression, data, expression_size);
    expression[expression_size] = 0;
    weir_filter *filter = NULL;
    weir_report report = {0};
    size_t column = 0;
    if (weir_filter_new(&filter, expression, &column, &report)) {
        require(!filter && report.text[0] && column >= 1 &&
                column <= expression_size + 1);
        return 0;
    }
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++)
        check(filter, expression, documents[i], strlen(documents[i]));
    bool fields = match(filter, expression, WEIR_JSON, broken[0], 0) == WEIR_UNKNOWN;
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        weir_verdict verdict =
            match(filter, expression, WEIR_JSON, broken[i], strlen(broken[i]));
        require(has(expression, "$raw") || has(expression, "~") ||
                fields == (verdict == WEIR_UNKNOWN));
    }
    if (expression_size < size) {
        check(filter, expression, (const char *)data + expression_size + 1,
              size - expression_size - 1);
    }
    weir_filter_destroy(&filter);
    return 0;
}
