#include "runtime/doc.h"
#include "runtime/codec.h"

/* --- Paths ------------------------------------------------------------------------- */

static bool begins_name(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static weir_step *add_step(weir_path *self)
{
    self->steps = realloc(self->steps, (self->count + 1) * sizeof *self->steps);
    if (!self->steps) abort();
    weir_step *step = &self->steps[self->count++];
    *step = (weir_step){0};
    return step;
}

static void add_name(weir_path *self, const char *name, size_t size)
{
    weir_step *step = add_step(self);
    step->name = malloc(size + 1);
    if (!step->name) abort();
    memcpy(step->name, name, size);
    step->name[size] = 0;
    step->size = size;
}

/*  Both parsers return what follows, or NULL with *at on the byte that is wrong. */
static const char *parse_name(weir_path *self, const char **at)
{
    const char *name = *at, *end = name;
    if (*name == '`') {
        end = strchr(++name, '`');
        if (!end) {
            *at = name + strlen(name);
            return NULL;
        }
        add_name(self, name, (size_t)(end - name));
        return end + 1;
    }
    if (!begins_name(*name)) return NULL;
    while (begins_name(*end) || is_digit(*end))
        end++;
    add_name(self, name, (size_t)(end - name));
    return end;
}

static const char *parse_index(weir_path *self, const char **at)
{
    uint32_t index = 0;
    if (!is_digit(**at)) return NULL;
    for (; is_digit(**at); ++*at)
        if (__builtin_mul_overflow(index, 10, &index) ||
            __builtin_add_overflow(index, (uint32_t)(**at - '0'), &index))
            return NULL;
    if (**at != ']') return NULL;
    add_step(self)->index = index;
    return *at + 1;
}

weir_err weir_path_parse(weir_path *self, const char *text, size_t *error_at)
{
    *self = (weir_path){0};
    const char *at = text;
    const char *next = parse_name(self, &at);
    while (next && *next) {
        at = next;
        if (*at != '.' && *at != '[')
            next = NULL;
        else if (*at++ == '.')
            next = parse_name(self, &at);
        else
            next = parse_index(self, &at);
    }
    if (next) return WEIR_OK;
    weir_path_fini(self);
    *error_at = (size_t)(at - text);
    return WEIR_EINVAL;
}

void weir_path_fini(weir_path *self)
{
    for (size_t i = 0; i < self->count; i++)
        free(self->steps[i].name);
    free(self->steps);
    *self = (weir_path){0};
}

/* --- The index of a MessagePack document ------------------------------------------- */

static weir_json_field *add_field(weir_json_index *index)
{
    if (index->count == index->capacity) {
        index->capacity = index->capacity ? index->capacity * 2 : 16;
        index->fields = realloc(index->fields, index->capacity * sizeof *index->fields);
        if (!index->fields) abort();
    }
    weir_json_field *field = &index->fields[index->count++];
    *field = (weir_json_field){0};
    return field;
}

/*  Reads one member, or element, of the root container into a new field.      */
static weir_err index_item(weir_doc *self, weir_reader *reader, bool map, bool trusted)
{
    weir_json_field field = {0};
    weir_value value;
    if (map) {
        const uint8_t *start = reader->at;
        weir_err err = weir_read_nested(reader, &value, 1, trusted);
        if (err) return err;
        field.nameless = value.type != WEIR_STR;
        const uint8_t *key = field.nameless ? start : value.data;
        field.key = (uint32_t)(key - self->data);
        field.key_size = (uint32_t)(reader->at - key);
    }
    field.value = (uint32_t)(reader->at - self->data);
    weir_err err = weir_read_nested(reader, &value, 1, trusted);
    if (err) return err;
    field.value_size = (uint32_t)(reader->at - self->data) - field.value;
    field.type = (uint8_t)value.type;
    *add_field(&self->index) = field;
    return WEIR_OK;
}

/*  Indexes the document at the reader and steps behind it.                    */
static weir_err index_document(weir_doc *self, weir_reader *reader, bool trusted)
{
    uint32_t count;
    bool map = weir_read_map(reader, &count) == WEIR_OK;
    if (!map && weir_read_array(reader, &count) != WEIR_OK) {
        weir_value root;
        weir_err err = weir_read_nested(reader, &root, 0, trusted);
        if (!err) self->index.type = root.type;
        return err;
    }
    for (uint32_t i = 0; i < count; i++) {
        weir_err err = index_item(self, reader, map, trusted);
        if (err) return err;
    }
    self->index.type = map ? WEIR_MAP : WEIR_ARRAY;
    return WEIR_OK;
}

/*  A document with an error has no fields.                                    */
static weir_err fail(weir_doc *self, weir_err err, size_t at, const char *error)
{
    self->index.count = 0;
    self->index.type = WEIR_MISSING;
    self->index.error_at = (uint32_t)at;
    self->index.error = error;
    return err;
}

static void clear(weir_doc *self, weir_format format, const uint8_t *data, size_t size)
{
    self->format = format;
    self->data = data;
    self->size = size;
    self->parses++;
    weir_json_index *index = &self->index;
    index->count = 0;
    index->type = WEIR_MISSING;
    index->root = index->root_size = index->error_at = 0;
    index->error = NULL;
}

static const char *describe(weir_err err)
{
    switch (err) {
    case WEIR_ESHORT:
        return "the document ends too early";
    case WEIR_EDEEP:
        return "nested too deeply";
    default:
        return "no MessagePack, or a str that is not UTF-8";
    }
}

static weir_err parse_packed(weir_doc *self, bool trusted)
{
    if (self->size >= WEIR_TEXT_MAX)
        return fail(self, WEIR_ETOOBIG, 0, "the document is too big");
    if (self->size == 0) return fail(self, WEIR_ESHORT, 0, describe(WEIR_ESHORT));
    weir_reader reader = {self->data, self->data + self->size};
    weir_err err = index_document(self, &reader, trusted);
    size_t at = (size_t)(reader.at - self->data);
    if (err) return fail(self, err, at, describe(err));
    if (at != self->size)
        return fail(self, WEIR_EMALFORMED, at, "bytes behind the document");
    self->index.root_size = (uint32_t)self->size;
    return WEIR_OK;
}

/* --- Docs -------------------------------------------------------------------------- */

weir_err weir_doc_parse(weir_doc *self, weir_format format, const uint8_t *data,
                        size_t size)
{
    clear(self, format, data, size);
    switch (format) {
    case WEIR_JSON:
        return weir_json_scan(&self->index, data, size);
    case WEIR_MSGPACK:
        return parse_packed(self, false);
    default:
        return WEIR_OK;
    }
}

void weir_doc_reparse(weir_doc *self, weir_format format, const uint8_t *data,
                      size_t size)
{
    clear(self, format, data, size);
    if (format == WEIR_JSON)
        weir_json_rescan(&self->index, data, size);
    else if (format == WEIR_MSGPACK)
        parse_packed(self, true);
}

void weir_doc_fini(weir_doc *self)
{
    weir_json_index_fini(&self->index);
    *self = (weir_doc){0};
}

long weir_doc_find(const weir_doc *self, const char *name, size_t size)
{
    return weir_json_find(&self->index, self->data, name, size);
}

/*  Reads accepted MessagePack of exactly `size` bytes; a container is not walked. */
static void read_packed(weir_type type, const uint8_t *data, size_t size,
                        weir_value *value)
{
    *value =
        (weir_value){.type = type, .format = WEIR_MSGPACK, .data = data, .size = size};
    if (type == WEIR_ARRAY || type == WEIR_MAP) return;
    weir_reader reader = {data, data + size};
    weir_read_nested(&reader, value, 0, true);
}

void weir_doc_value(const weir_doc *self, uint32_t i, weir_value *value)
{
    const weir_json_field *field = &self->index.fields[i];
    if (self->format == WEIR_JSON)
        weir_json_value(field, self->data, value);
    else
        read_packed(field->type, self->data + field->value, field->value_size, value);
}

static bool missing(weir_value *value)
{
    *value = (weir_value){.type = WEIR_MISSING};
    return false;
}

bool weir_doc_get(const weir_doc *self, const weir_path *path, weir_value *value)
{
    if (path->count == 0) return missing(value);
    const weir_step *step = &path->steps[0];
    long i = -1;
    if (step->name)
        i = weir_doc_find(self, step->name, step->size);
    else if (self->index.type == WEIR_ARRAY && step->index < self->index.count)
        i = (long)step->index;
    if (i < 0) return missing(value);
    weir_doc_value(self, (uint32_t)i, value);
    for (size_t s = 1; s < path->count; s++) {
        weir_value parent = *value;
        if (!weir_value_child(&parent, &path->steps[s], value)) return false;
    }
    return true;
}

/* --- Walking containers ------------------------------------------------------------ */

static size_t skip_space(const weir_value *self, size_t at)
{
    while (at < self->size && (self->data[at] == ' ' || self->data[at] == '\n' ||
                               self->data[at] == '\t' || self->data[at] == '\r'))
        at++;
    return at;
}

/*  Reads the JSON value at *at and steps behind it and the white space there.
    False: none is there.                                                      */
static bool next_json_value(const weir_value *self, size_t *at, weir_value *value)
{
    *at = skip_space(self, *at);
    if (*at >= self->size) return missing(value);
    size_t size = weir_json_skip(self->data + *at, self->size - *at);
    if (size == 0) return missing(value);
    weir_json_read(self->data + *at, size, value);
    *at = skip_space(self, *at + size);
    return true;
}

static bool next_json(const weir_value *self, weir_walk *walk, weir_value *key,
                      weir_value *child)
{
    // the offset is on the opening bracket, on a comma, or on the closing bracket
    size_t at = walk->offset;
    if (at + 1 >= self->size) return false;
    at = skip_space(self, at + 1);
    if (self->data[at] == ']' || self->data[at] == '}') return false;
    if (self->type == WEIR_MAP) {
        if (!next_json_value(self, &at, key)) return false;
        at++; // the colon
    }
    if (!next_json_value(self, &at, child)) return false;
    walk->offset = at;
    return true;
}

static bool next_packed(const weir_value *self, weir_walk *walk, weir_value *key,
                        weir_value *child)
{
    bool map = self->type == WEIR_MAP;
    weir_reader reader = {self->data + walk->offset, self->data + self->size};
    if (!walk->started) {
        weir_err err = map ? weir_read_map(&reader, &walk->left)
                           : weir_read_array(&reader, &walk->left);
        if (err) return false;
        walk->started = true;
    }
    if (walk->left == 0) return false;
    if (map && weir_read_nested(&reader, key, 0, true)) return false;
    if (weir_read_nested(&reader, child, 0, true)) return false;
    walk->left--;
    walk->offset = (size_t)(reader.at - self->data);
    return true;
}

bool weir_value_next(const weir_value *self, weir_walk *walk, weir_value *key,
                     weir_value *child)
{
    missing(key);
    bool more = false;
    if (self->type == WEIR_ARRAY || self->type == WEIR_MAP)
        more = self->format == WEIR_JSON ? next_json(self, walk, key, child)
                                         : next_packed(self, walk, key, child);
    if (more) return true;
    missing(key);
    return missing(child);
}

static bool child_by_index(const weir_value *self, uint32_t index, weir_value *child)
{
    weir_walk walk = {0};
    weir_value key;
    if (self->type != WEIR_ARRAY) return missing(child);
    for (uint32_t i = 0; weir_value_next(self, &walk, &key, child); i++)
        if (i == index) return true;
    return false;
}

static bool child_by_name(const weir_value *self, const weir_step *step,
                          weir_value *child)
{
    weir_walk walk = {0};
    weir_value key, value;
    bool found = false;
    missing(child);
    if (self->type != WEIR_MAP) return false;
    while (weir_value_next(self, &walk, &key, &value)) {
        if (key.type != WEIR_STR ||
            !weir_json_equal(key.data, key.size, key.escaped, step->name, step->size))
            continue;
        *child = value;
        found = true;
    }
    return found;
}

bool weir_value_child(const weir_value *self, const weir_step *step, weir_value *child)
{
    weir_value parent = *self; // child may be self
    if (step->name) return child_by_name(&parent, step, child);
    return child_by_index(&parent, step->index, child);
}

const char *weir_value_text(const weir_value *self, weir_buffer *scratch, size_t *size)
{
    if (!self->escaped) {
        *size = self->size;
        return (const char *)self->data;
    }
    scratch->size = 0;
    char *out = (char *)weir_buffer_reserve(scratch, self->size);
    *size = scratch->size = weir_json_unescape(self->data, self->size, out);
    return out;
}
