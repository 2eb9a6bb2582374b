#include "runtime/codec.h"
#include "runtime/utf8.h"
#include <assert.h>

static uint16_t load16(const uint8_t *at)
{
    uint16_t bits;
    memcpy(&bits, at, sizeof bits);
    return __builtin_bswap16(bits);
}

static uint32_t load32(const uint8_t *at)
{
    uint32_t bits;
    memcpy(&bits, at, sizeof bits);
    return __builtin_bswap32(bits);
}

static uint64_t load64(const uint8_t *at)
{
    uint64_t bits;
    memcpy(&bits, at, sizeof bits);
    return __builtin_bswap64(bits);
}

/*  What stands behind a first byte from 0xc0 to 0xdf.                         */
typedef struct {
    uint8_t type;  // weir_type; MISSING: no such first byte
    uint8_t width; // bytes of the number behind it: a size, a count, or the value
    uint8_t extra; // EXT: the size of its contents when width is 0
} form;

static const form forms[32] = {
    [0x00] = {WEIR_NULL, 0, 0},  [0x02] = {WEIR_BOOL, 0, 0},  [0x03] = {WEIR_BOOL, 0, 0},
    [0x04] = {WEIR_BIN, 1, 0},   [0x05] = {WEIR_BIN, 2, 0},   [0x06] = {WEIR_BIN, 4, 0},
    [0x07] = {WEIR_EXT, 1, 0},   [0x08] = {WEIR_EXT, 2, 0},   [0x09] = {WEIR_EXT, 4, 0},
    [0x0a] = {WEIR_FLOAT, 4, 0}, [0x0b] = {WEIR_FLOAT, 8, 0}, [0x0c] = {WEIR_UINT, 1, 0},
    [0x0d] = {WEIR_UINT, 2, 0},  [0x0e] = {WEIR_UINT, 4, 0},  [0x0f] = {WEIR_UINT, 8, 0},
    [0x10] = {WEIR_INT, 1, 0},   [0x11] = {WEIR_INT, 2, 0},   [0x12] = {WEIR_INT, 4, 0},
    [0x13] = {WEIR_INT, 8, 0},   [0x14] = {WEIR_EXT, 0, 1},   [0x15] = {WEIR_EXT, 0, 2},
    [0x16] = {WEIR_EXT, 0, 4},   [0x17] = {WEIR_EXT, 0, 8},   [0x18] = {WEIR_EXT, 0, 16},
    [0x19] = {WEIR_STR, 1, 0},   [0x1a] = {WEIR_STR, 2, 0},   [0x1b] = {WEIR_STR, 4, 0},
    [0x1c] = {WEIR_ARRAY, 2, 0}, [0x1d] = {WEIR_ARRAY, 4, 0}, [0x1e] = {WEIR_MAP, 2, 0},
    [0x1f] = {WEIR_MAP, 4, 0},
};

/*  One head, read.                                                            */
typedef struct {
    weir_type type;
    uint64_t number; // the value's bits, the size of the contents, or the count
    uint8_t width;   // bytes that number came from
    bool small;      // number stands in the first byte itself
} head;

static uint64_t load(const uint8_t *at, uint8_t width)
{
    switch (width) {
    case 1:
        return *at;
    case 2:
        return load16(at);
    case 4:
        return load32(at);
    default:
        return load64(at);
    }
}

/*  The head of a first byte outside 0xc0..0xdf, which holds all there is.     */
static head small_head(uint8_t first)
{
    if (first < 0x80) return (head){WEIR_INT, first, 0, true};
    if (first < 0x90) return (head){WEIR_MAP, first & 15u, 0, true};
    if (first < 0xa0) return (head){WEIR_ARRAY, first & 15u, 0, true};
    if (first < 0xc0) return (head){WEIR_STR, first & 31u, 0, true};
    return (head){WEIR_INT, (uint64_t)(int64_t)(int8_t)first, 0, true};
}

/*  Steps behind the head. A claim that the bytes left cannot hold is ESHORT.  */
static weir_err read_head(weir_reader *self, head *h)
{
    if (self->at >= self->end) return WEIR_ESHORT;
    uint8_t first = *self->at;
    if (first < 0xc0 || first > 0xdf) {
        *h = small_head(first);
        self->at++;
    } else {
        const form *f = &forms[first - 0xc0];
        if (f->type == WEIR_MISSING) return WEIR_EMALFORMED;
        if ((size_t)(self->end - self->at) < 1u + f->width) return WEIR_ESHORT;
        uint64_t number = f->width ? load(self->at + 1, f->width) : f->extra;
        *h = (head){f->type, f->type == WEIR_BOOL ? first & 1u : number, f->width, false};
        self->at += 1 + f->width;
    }
    size_t left = (size_t)(self->end - self->at);
    switch (h->type) {
    case WEIR_STR:
    case WEIR_BIN:
        return h->number > left ? WEIR_ESHORT : WEIR_OK;
    case WEIR_EXT: // one byte names its kind
        h->number++;
        return h->number > left ? WEIR_ESHORT : WEIR_OK;
    case WEIR_MAP: // counts keys and values from here on
        h->number *= 2;
        return h->number > left ? WEIR_ESHORT : WEIR_OK;
    case WEIR_ARRAY:
        return h->number > left ? WEIR_ESHORT : WEIR_OK;
    default:
        return WEIR_OK;
    }
}

/*  Steps over the contents of a str, bin or ext; nothing for the rest.        */
static weir_err read_body(weir_reader *self, const head *h, bool trusted)
{
    if (h->type != WEIR_STR && h->type != WEIR_BIN && h->type != WEIR_EXT) return WEIR_OK;
    if (h->type == WEIR_STR && !trusted && !weir_utf8_valid(self->at, h->number))
        return WEIR_EMALFORMED;
    self->at += h->number;
    return WEIR_OK;
}

static bool is_container(weir_type type)
{
    return type == WEIR_ARRAY || type == WEIR_MAP;
}

/*  Steps over the values inside a container which is the depth-th.            */
static weir_err skip_items(weir_reader *self, uint64_t items, unsigned depth,
                           bool trusted)
{
    uint64_t left[WEIR_DEPTH_MAX + 1]; // values still to come, by depth
    unsigned top = depth;
    if (depth > WEIR_DEPTH_MAX) return WEIR_EDEEP;
    left[top] = items;
    for (;;) {
        while (left[top] == 0) {
            if (top == depth) return WEIR_OK;
            top--;
        }
        left[top]--;
        head h;
        weir_err err = read_head(self, &h);
        if (!err) err = read_body(self, &h, trusted);
        if (err) return err;
        if (is_container(h.type)) {
            if (top == WEIR_DEPTH_MAX) return WEIR_EDEEP;
            left[++top] = h.number;
        }
    }
}

static void set_int(weir_value *value, const head *h)
{
    value->type = WEIR_INT;
    switch (h->width) {
    case 1:
        value->integer = (int8_t)h->number;
        break;
    case 2:
        value->integer = (int16_t)h->number;
        break;
    case 4:
        value->integer = (int32_t)h->number;
        break;
    default:
        value->integer = (int64_t)h->number;
    }
}

static void set_float(weir_value *value, const head *h)
{
    value->type = WEIR_FLOAT;
    if (h->width == 4) {
        uint32_t bits = (uint32_t)h->number;
        float real;
        memcpy(&real, &bits, sizeof real);
        value->real = real;
    } else {
        memcpy(&value->real, &h->number, sizeof value->real);
    }
}

static void set_value(weir_value *value, const head *h)
{
    value->type = h->type;
    switch (h->type) {
    case WEIR_BOOL:
        value->boolean = h->number != 0;
        break;
    case WEIR_INT:
        set_int(value, h);
        break;
    case WEIR_UINT:
        if (h->number <= INT64_MAX) {
            value->type = WEIR_INT;
            value->integer = (int64_t)h->number;
        } else {
            value->natural = h->number;
        }
        break;
    case WEIR_FLOAT:
        set_float(value, h);
        break;
    default:
        break;
    }
}

weir_err weir_read_nested(weir_reader *self, weir_value *value, unsigned depth,
                          bool trusted)
{
    weir_reader reader = *self;
    head h;
    weir_err err = read_head(&reader, &h);
    if (err) return err;
    const uint8_t *body = reader.at;
    if (is_container(h.type))
        err = skip_items(&reader, h.number, depth + 1, trusted);
    else
        err = read_body(&reader, &h, trusted);
    if (err) return err;
    bool contents = h.type == WEIR_STR || h.type == WEIR_BIN;
    value->format = WEIR_MSGPACK;
    value->escaped = false;
    value->natural = 0;
    value->data = contents ? body : self->at;
    value->size = (size_t)(reader.at - value->data);
    set_value(value, &h);
    *self = reader;
    return WEIR_OK;
}

weir_err weir_read_value(weir_reader *self, weir_value *value)
{
    return weir_read_nested(self, value, 0, false);
}

weir_err weir_read_skip(weir_reader *self)
{
    weir_value value;
    return weir_read_nested(self, &value, 0, false);
}

static weir_err read_count(weir_reader *self, weir_type type, uint32_t *count)
{
    weir_reader reader = *self;
    head h;
    weir_err err = read_head(&reader, &h);
    if (err) return err;
    if (h.type != type) return WEIR_EMALFORMED;
    *count = (uint32_t)(type == WEIR_MAP ? h.number / 2 : h.number);
    *self = reader;
    return WEIR_OK;
}

weir_err weir_read_array(weir_reader *self, uint32_t *count)
{
    return read_count(self, WEIR_ARRAY, count);
}

weir_err weir_read_map(weir_reader *self, uint32_t *count)
{
    return read_count(self, WEIR_MAP, count);
}

/*  Reads a value that is no container; *after is the reader behind it.        */
static weir_err read_scalar(const weir_reader *self, weir_reader *after,
                            weir_value *value)
{
    *after = *self;
    head h;
    weir_err err = read_head(after, &h);
    if (err) return err;
    if (is_container(h.type)) return WEIR_EMALFORMED;
    *after = *self;
    return weir_read_value(after, value);
}

weir_err weir_read_uint(weir_reader *self, uint64_t *number)
{
    weir_reader after;
    weir_value value;
    weir_err err = read_scalar(self, &after, &value);
    if (err) return err;
    if (value.type == WEIR_UINT)
        *number = value.natural;
    else if (value.type == WEIR_INT && value.integer >= 0)
        *number = (uint64_t)value.integer;
    else
        return WEIR_EMALFORMED;
    *self = after;
    return WEIR_OK;
}

weir_err weir_read_int(weir_reader *self, int64_t *number)
{
    weir_reader after;
    weir_value value;
    weir_err err = read_scalar(self, &after, &value);
    if (err) return err;
    if (value.type != WEIR_INT) return WEIR_EMALFORMED;
    *number = value.integer;
    *self = after;
    return WEIR_OK;
}

weir_err weir_read_str(weir_reader *self, const char **text, size_t *size)
{
    weir_reader after;
    weir_value value;
    weir_err err = read_scalar(self, &after, &value);
    if (err) return err;
    if (value.type != WEIR_STR) return WEIR_EMALFORMED;
    *text = (const char *)value.data;
    *size = value.size;
    *self = after;
    return WEIR_OK;
}

weir_err weir_read_bool(weir_reader *self, bool *truth)
{
    weir_reader after;
    weir_value value;
    weir_err err = read_scalar(self, &after, &value);
    if (err) return err;
    if (value.type != WEIR_BOOL) return WEIR_EMALFORMED;
    *truth = value.boolean;
    *self = after;
    return WEIR_OK;
}

weir_err weir_read_nil(weir_reader *self)
{
    weir_reader after;
    weir_value value;
    weir_err err = read_scalar(self, &after, &value);
    if (err) return err;
    if (value.type != WEIR_NULL) return WEIR_EMALFORMED;
    *self = after;
    return WEIR_OK;
}

/*  Writes first and the lowest `width` bytes of number, most significant first;
    returns the length. out has room for 9 bytes.                              */
static size_t store(uint8_t *out, uint8_t first, uint64_t number, unsigned width)
{
    out[0] = first;
    for (unsigned i = 0; i < width; i++)
        out[1 + i] = (uint8_t)(number >> 8 * (width - 1 - i));
    return 1 + width;
}

static void put(weir_buffer *out, uint8_t first, uint64_t number, unsigned width)
{
    out->size += store(weir_buffer_reserve(out, 9), first, number, width);
}

void weir_put_nil(weir_buffer *out)
{
    put(out, 0xc0, 0, 0);
}

void weir_put_bool(weir_buffer *out, bool value)
{
    put(out, value ? 0xc3 : 0xc2, 0, 0);
}

void weir_put_uint(weir_buffer *out, uint64_t value)
{
    if (value < 0x80)
        put(out, (uint8_t)value, 0, 0);
    else if (value <= UINT8_MAX)
        put(out, 0xcc, value, 1);
    else if (value <= UINT16_MAX)
        put(out, 0xcd, value, 2);
    else if (value <= UINT32_MAX)
        put(out, 0xce, value, 4);
    else
        put(out, 0xcf, value, 8);
}

void weir_put_int(weir_buffer *out, int64_t value)
{
    uint64_t bits = (uint64_t)value;
    if (value >= 0)
        weir_put_uint(out, bits);
    else if (value >= -32)
        put(out, (uint8_t)bits, 0, 0);
    else if (value >= INT8_MIN)
        put(out, 0xd0, bits, 1);
    else if (value >= INT16_MIN)
        put(out, 0xd1, bits, 2);
    else if (value >= INT32_MIN)
        put(out, 0xd2, bits, 4);
    else
        put(out, 0xd3, bits, 8);
}

/*  Narrowing a double is defined only inside float's range; a NaN keeps its bits
    in 8 bytes.                                                                */
void weir_put_float(weir_buffer *out, double value)
{
    if (value >= -0x1.fffffep127 && value <= 0x1.fffffep127 && value == (float)value) {
        float narrow = (float)value;
        uint32_t bits;
        memcpy(&bits, &narrow, sizeof bits);
        put(out, 0xca, bits, 4);
    } else {
        uint64_t bits;
        memcpy(&bits, &value, sizeof bits);
        put(out, 0xcb, bits, 8);
    }
}

size_t weir_put_str_head(uint8_t *out, size_t size)
{
    assert(size <= UINT32_MAX);
    if (size < 32) {
        out[0] = (uint8_t)(0xa0 | size);
        return 1;
    }
    if (size <= UINT8_MAX) return store(out, 0xd9, size, 1);
    if (size <= UINT16_MAX) return store(out, 0xda, size, 2);
    return store(out, 0xdb, size, 4);
}

size_t weir_put_bin_head(uint8_t *out, size_t size)
{
    assert(size <= UINT32_MAX);
    if (size <= UINT8_MAX) return store(out, 0xc4, size, 1);
    if (size <= UINT16_MAX) return store(out, 0xc5, size, 2);
    return store(out, 0xc6, size, 4);
}

void weir_put_str(weir_buffer *out, const void *text, size_t size)
{
    uint8_t *at = weir_buffer_reserve(out, 5 + size);
    out->size += weir_put_str_head(at, size);
    weir_buffer_put(out, text, size);
}

void weir_put_bin(weir_buffer *out, const void *data, size_t size)
{
    uint8_t *at = weir_buffer_reserve(out, 5 + size);
    out->size += weir_put_bin_head(at, size);
    weir_buffer_put(out, data, size);
}

void weir_put_array(weir_buffer *out, uint32_t count)
{
    if (count < 16)
        put(out, (uint8_t)(0x90 | count), 0, 0);
    else if (count <= UINT16_MAX)
        put(out, 0xdc, count, 2);
    else
        put(out, 0xdd, count, 4);
}

void weir_put_map(weir_buffer *out, uint32_t count)
{
    if (count < 16)
        put(out, (uint8_t)(0x80 | count), 0, 0);
    else if (count <= UINT16_MAX)
        put(out, 0xde, count, 2);
    else
        put(out, 0xdf, count, 4);
}
