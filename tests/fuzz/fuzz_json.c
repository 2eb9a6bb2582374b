/*  JSON: the scanner agrees with a plain recursive validator, rescan with scan,
    the steppers with the index, and what is written reads back.               */
#include "runtime/doc.h"

#define CHECK(condition)                                                                 \
    do {                                                                                 \
        if (!(condition)) __builtin_trap();                                              \
    } while (0)

/* --- The oracle -------------------------------------------------------------------- */

typedef struct {
    const uint8_t *text;
    size_t size;
    size_t at;
    bool deep; // met a container above the limit
} oracle;

static int look(const oracle *o)
{
    return o->at < o->size ? o->text[o->at] : -1;
}

static void blanks(oracle *o)
{
    while (look(o) == ' ' || look(o) == '\t' || look(o) == '\n' || look(o) == '\r')
        o->at++;
}

static bool take(oracle *o, int c)
{
    if (look(o) != c) return false;
    o->at++;
    return true;
}

static bool word(oracle *o, const char *text)
{
    while (*text)
        if (!take(o, (uint8_t)*text++)) return false;
    return true;
}

static bool digits(oracle *o)
{
    size_t start = o->at;
    while (look(o) >= '0' && look(o) <= '9')
        o->at++;
    return o->at > start;
}

static bool number(oracle *o)
{
    take(o, '-');
    if (!take(o, '0') && !digits(o)) return false;
    if (take(o, '.') && !digits(o)) return false;
    if (look(o) == 'e' || look(o) == 'E') {
        o->at++;
        if (!take(o, '+')) take(o, '-');
        return digits(o);
    }
    return true;
}

static bool string(oracle *o)
{
    if (!take(o, '"')) return false;
    while (look(o) != '"') {
        int c = look(o);
        if (c < 0x20) return false;
        if (c == '\\') {
            o->at++;
            int escape = look(o);
            if (escape <= 0 || !strchr("\"\\/bfnrtu", escape)) return false;
            o->at++;
            for (int i = 0; escape == 'u' && i < 4; i++) {
                int hex = look(o);
                if (hex <= 0 || !strchr("0123456789abcdefABCDEF", hex)) return false;
                o->at++;
            }
        } else {
            int length = weir_utf8_length(o->text + o->at, o->size - o->at);
            if (length <= 0) return false;
            o->at += (size_t)length;
        }
    }
    o->at++;
    return true;
}

static bool element(oracle *o, unsigned depth);

static bool container(oracle *o, unsigned depth, bool map)
{
    o->at++;
    if (depth > WEIR_DEPTH_MAX) {
        o->deep = true;
        return false;
    }
    blanks(o);
    if (take(o, map ? '}' : ']')) return true;
    for (;;) {
        blanks(o);
        if (map) {
            if (!string(o)) return false;
            blanks(o);
            if (!take(o, ':')) return false;
        }
        if (!element(o, depth)) return false;
        if (take(o, map ? '}' : ']')) return true;
        if (!take(o, ',')) return false;
    }
}

static bool element(oracle *o, unsigned depth)
{
    blanks(o);
    bool ok;
    switch (look(o)) {
    case '{':
    case '[':
        ok = container(o, depth + 1, look(o) == '{');
        break;
    case '"':
        ok = string(o);
        break;
    case 't':
        ok = word(o, "true");
        break;
    case 'f':
        ok = word(o, "false");
        break;
    case 'n':
        ok = word(o, "null");
        break;
    default:
        ok = number(o);
    }
    blanks(o);
    return ok;
}

static weir_err expected(const uint8_t *data, size_t size)
{
    oracle o = {data, size, 0, false};
    bool ok = element(&o, 0);
    if (o.deep) return WEIR_EDEEP;
    return ok && o.at == size ? WEIR_OK : WEIR_EMALFORMED;
}

/* --- Properties -------------------------------------------------------------------- */

static void check_same_index(const weir_json_index *a, const weir_json_index *b)
{
    CHECK(a->count == b->count && a->type == b->type);
    CHECK(a->root == b->root && a->root_size == b->root_size);
    for (uint32_t i = 0; i < a->count; i++) {
        const weir_json_field *f = &a->fields[i], *g = &b->fields[i];
        CHECK(f->key == g->key && f->key_size == g->key_size);
        CHECK(f->value == g->value && f->value_size == g->value_size);
        CHECK(f->type == g->type && f->escaped == g->escaped);
        CHECK(f->key_escaped == g->key_escaped && f->nameless == g->nameless);
    }
}

static void check_same_value(const weir_value *a, const weir_value *b)
{
    CHECK(a->type == b->type && a->data == b->data && a->size == b->size);
    CHECK(a->escaped == b->escaped && a->format == b->format);
    CHECK(a->natural == b->natural || (a->real != a->real && b->real != b->real));
}

/*  Writing the unescaped text gives a string that means the same.             */
static void check_text(const uint8_t *data, size_t size, bool escaped)
{
    weir_buffer text = {0}, again = {0};
    text.size =
        weir_json_unescape(data, size, (char *)weir_buffer_reserve(&text, size + 1));
    CHECK(text.size <= size);
    CHECK(weir_json_equal(data, size, escaped, (char *)text.data, text.size));
    weir_json_index index = {0};
    weir_buffer out = {0};
    CHECK(weir_json_put_string(&out, (char *)text.data, text.size) == WEIR_OK);
    CHECK(weir_json_scan(&index, out.data, out.size) == WEIR_OK);
    CHECK(index.type == WEIR_STR);
    again.size = weir_json_unescape(out.data + 1, out.size - 2,
                                    (char *)weir_buffer_reserve(&again, out.size));
    CHECK(again.size == text.size);
    CHECK(text.size == 0 || memcmp(again.data, text.data, text.size) == 0);
    weir_json_index_fini(&index);
    weir_buffer_fini(&out);
    weir_buffer_fini(&again);
    weir_buffer_fini(&text);
}

static void check_written(const weir_value *value)
{
    weir_buffer out = {0};
    weir_json_index index = {0};
    CHECK(weir_json_put_value(&out, value) == WEIR_OK);
    CHECK(!memchr(out.data, '\n', out.size) && !memchr(out.data, '\r', out.size));
    CHECK(weir_json_scan(&index, out.data, out.size) == WEIR_OK);
    weir_value again;
    weir_json_read(out.data + index.root, index.root_size, &again);
    CHECK(again.type == value->type);
    if (value->type == WEIR_FLOAT && value->real - value->real == 0) {
        out.size = 0;
        CHECK(weir_json_put_float(&out, value->real) == WEIR_OK);
        CHECK(weir_json_scan(&index, out.data, out.size) == WEIR_OK);
        weir_json_read(out.data, out.size, &again);
        CHECK(again.type == WEIR_FLOAT && again.natural == value->natural);
    }
    weir_json_index_fini(&index);
    weir_buffer_fini(&out);
}

/*  The container's own text is accepted, and walking it meets the index's fields. */
static void check_container(const weir_value *value)
{
    weir_json_index index = {0}, trusted = {0};
    CHECK(weir_json_scan(&index, value->data, value->size) == WEIR_OK);
    weir_json_rescan(&trusted, value->data, value->size);
    check_same_index(&index, &trusted);
    CHECK(index.type == value->type);
    weir_walk walk = {0};
    weir_value key, child, want;
    for (uint32_t i = 0; i < index.count; i++) {
        const weir_json_field *field = &index.fields[i];
        CHECK(weir_value_next(value, &walk, &key, &child));
        weir_json_value(field, value->data, &want);
        check_same_value(&child, &want);
        CHECK((key.type == WEIR_STR) == (value->type == WEIR_MAP));
        if (value->type != WEIR_MAP) continue;
        CHECK(key.data == value->data + field->key && key.size == field->key_size);
        CHECK(key.escaped == field->key_escaped);
        check_text(key.data, key.size, key.escaped);
        long last = weir_json_find(&index, value->data, (const char *)key.data, key.size);
        CHECK(key.escaped || last >= (long)i);
    }
    CHECK(!weir_value_next(value, &walk, &key, &child));
    weir_json_index_fini(&index);
    weir_json_index_fini(&trusted);
}

static void check_value(const weir_value *value)
{
    check_written(value);
    if (value->type == WEIR_STR) check_text(value->data, value->size, value->escaped);
    if (value->type == WEIR_ARRAY || value->type == WEIR_MAP) check_container(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weir_json_index index = {0}, trusted = {0};
    weir_err err = weir_json_scan(&index, data, size);
    weir_err want = expected(data, size);
    CHECK((err == WEIR_OK) == (want == WEIR_OK));
    CHECK((err == WEIR_EDEEP) == (want == WEIR_EDEEP));
    if (err) {
        CHECK(index.count == 0 && index.error);
        CHECK((err == WEIR_ESHORT) == (index.error_at >= size));
    } else {
        weir_value value;
        weir_json_rescan(&trusted, data, size);
        check_same_index(&index, &trusted);
        weir_json_read(data + index.root, index.root_size, &value);
        CHECK(weir_json_skip(value.data - (value.type == WEIR_STR), size - index.root) ==
              index.root_size);
        check_value(&value);
        for (uint32_t i = 0; i < index.count; i++) {
            weir_json_value(&index.fields[i], data, &value);
            check_value(&value);
        }
    }
    weir_buffer out = {0};
    if (weir_json_put_string(&out, (const char *)data, size) == WEIR_OK)
        CHECK(weir_json_scan(&index, out.data, out.size) == WEIR_OK);
    weir_buffer_fini(&out);
    weir_json_index_fini(&index);
    weir_json_index_fini(&trusted);
    return 0;
}
