#include "runtime/framing.h"
#include "runtime/buffer.h"
#include "runtime/regex.h"
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

/*  What a piece shows of a record that is too large, or of bad input.         */
static const size_t sample_max = 64 * 1024;

/*  An idle framer gives larger buffers back.                                  */
static const size_t idle_max = 256 * 1024;

/*  A line or an element that has been found. Its bytes are complete as long as
    size <= record_max; of a larger one only the first `held` are there.       */
typedef struct {
    const uint8_t *data;
    size_t held;    // bytes at data
    uint64_t size;  // bytes of the record
    uint64_t start; // stream offset of its first byte
    uint64_t end;   // stream offset behind it and its line end
} span;

/*  The record whose end has not been fed yet. raw == 0: there is none.        */
typedef struct {
    weir_buffer carry; // its first bytes; all of them unless it is oversize
    uint64_t raw;      // bytes seen, from the first that is not trimmed
    uint64_t solid;    // of these, up to the last that NDJSON does not trim
    uint64_t start;    // stream offset of its first byte
    uint8_t last;      // the last byte seen
    bool given;        // it has been handed out and goes with the next call
} partial;

/*  A record of several lines.                                                 */
typedef struct {
    weir_regex *begin; // NULL: lines are not joined
    size_t max_bytes;  // of a joined record, never above record_max
    weir_buffer text;  // the lines so far
    uint64_t start;    // stream offset of the first line
    uint64_t end;      // stream offset behind the last line
    int64_t last_us;   // when the last line came
    bool open;         // text is a record, maybe an empty one
    bool given;        // text has been handed out and goes with the next call
    bool waiting;      // `line` has been found and begins the next record
    span line;
} joiner;

typedef enum {
    ARRAY_START = 0, // before [
    ARRAY_FIRST,     // behind [
    ARRAY_VALUE,     // behind a comma
    ARRAY_SCALAR,    // in a number or a word
    ARRAY_NESTED,    // in a string or a container
    ARRAY_AFTER,     // behind an element
    ARRAY_DONE,      // behind ]
    ARRAY_BAD,       // behind an error: the rest is being collected
    ARRAY_OVER,      // the error has been handed out
} array_state;

typedef struct {
    array_state state;
    size_t depth;   // open brackets of the element
    bool in_string; // of the element
    bool escaped;   // the last byte was a backslash of a string
    bool resumed;   // nothing has been seen since a reset to an element's end
    int64_t bad_us; // when the error was found
    char error[160];
} array;

struct weir_framer {
    weir_framing framing;
    size_t record_max;    // a larger record is OVERSIZE
    size_t keep_max;      // most bytes of an unfinished record that are kept
    int64_t wait_us;      // longest wait for a further line
    const uint8_t *chunk; // lent by feed
    size_t chunk_size;    // bytes of the chunk
    size_t at;            // bytes of the chunk that are done
    uint64_t base;        // stream offset of the chunk's first byte
    bool ended;           // no further chunk will come
    partial partial;
    joiner joiner;
    array array;
};

static size_t least(uint64_t a, size_t b)
{
    return a < b ? (size_t)a : b;
}

static void empty_buffer(weir_buffer *buffer)
{
    if (buffer->capacity > idle_max) weir_buffer_fini(buffer);
    buffer->size = 0;
}

/* --- The unfinished record --------------------------------------------------------- */

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\r' || byte == '\t';
}

static size_t count_leading(const uint8_t *data, size_t size)
{
    size_t n = 0;
    while (n < size && is_blank(data[n]))
        n++;
    return n;
}

static size_t without_trailing(const uint8_t *data, size_t size)
{
    while (size > 0 && is_blank(data[size - 1]))
        size--;
    return size;
}

static void partial_clear(weir_framer *self)
{
    partial *part = &self->partial;
    empty_buffer(&part->carry);
    part->raw = part->solid = 0;
    part->given = false;
}

/*  Grows by doubling, but never above what may be kept.                       */
static void carry_put(weir_framer *self, const uint8_t *data, size_t size)
{
    weir_buffer *carry = &self->partial.carry;
    size_t need = carry->size + size;
    if (need > carry->capacity) {
        size_t capacity = least(2 * (uint64_t)carry->capacity, self->keep_max);
        if (capacity < need) capacity = need;
        carry->data = realloc(carry->data, capacity);
        if (!carry->data) abort();
        carry->capacity = capacity;
    }
    memcpy(carry->data + carry->size, data, size);
    carry->size = need;
}

/*  True once no further byte can make the record fit. A last CR of LINES may still
    turn out to be half of a line end.                                         */
static bool is_beyond(const weir_framer *self)
{
    uint64_t slack = self->framing == WEIR_FRAMING_LINES ? 1 : 0;
    return self->array.state == ARRAY_BAD ||
           self->partial.solid > self->record_max + slack;
}

/*  Takes the next bytes of the unfinished record out of the chunk.            */
static void partial_add(weir_framer *self, size_t size)
{
    partial *part = &self->partial;
    const uint8_t *data = self->chunk + self->at;
    uint64_t offset = self->base + self->at;
    self->at += size;
    bool trimmed = self->framing == WEIR_FRAMING_NDJSON;
    if (part->raw == 0) {
        size_t skip = trimmed ? count_leading(data, size) : 0;
        part->start = offset + skip;
        data += skip;
        size -= skip;
    }
    if (size == 0) return;
    size_t solid = trimmed ? without_trailing(data, size) : size;
    if (solid > 0) part->solid = part->raw + solid;
    part->raw += size;
    part->last = data[size - 1];
    size_t limit = is_beyond(self) ? sample_max : self->keep_max;
    if (part->carry.size < limit)
        carry_put(self, data, least(size, limit - part->carry.size));
    else if (part->carry.capacity > idle_max && limit == sample_max) {
        part->carry.size = sample_max;
        uint8_t *shrunk = realloc(part->carry.data, sample_max);
        if (!shrunk) abort();
        part->carry.data = shrunk;
        part->carry.capacity = sample_max;
    }
}

/*  The unfinished record is complete: its size is now known.                  */
static void partial_finish(weir_framer *self, uint64_t size, span *found)
{
    partial *part = &self->partial;
    *found = (span){.data = part->carry.data,
                    .held = least(size, part->carry.size),
                    .size = size,
                    .start = part->start,
                    .end = self->base + self->at};
    part->given = true;
}

/*  The next size bytes of the chunk are, or complete, a record that is not trimmed. */
static void take(weir_framer *self, size_t size, span *found)
{
    if (self->partial.raw > 0) {
        partial_add(self, size);
        partial_finish(self, self->partial.raw, found);
        return;
    }
    uint64_t start = self->base + self->at;
    *found = (span){self->chunk + self->at, size, size, start, start + size};
    self->at += size;
}

static inline bool give(const weir_framer *self, const span *found, weir_framed *piece)
{
    bool fits = found->size <= self->record_max;
    piece->kind = fits ? WEIR_PIECE_RECORD : WEIR_PIECE_OVERSIZE;
    piece->data = found->data;
    piece->size = fits ? found->held : least(found->held, sample_max);
    piece->whole_size = found->size;
    piece->start = found->start;
    piece->end = found->end;
    piece->error[0] = 0;
    return true;
}

/* --- Lines ------------------------------------------------------------------------- */

/*  The next line, when it lies in the chunk from its first byte to its newline, as nearly
    all do. Else false: the cursor stays.                                      */
static inline bool whole_line(weir_framer *self, span *line)
{
    size_t left = self->chunk_size - self->at;
    if (self->partial.raw > 0 || left == 0) return false;
    const uint8_t *data = self->chunk + self->at;
    const uint8_t *newline = memchr(data, '\n', left);
    if (!newline) return false;
    size_t size = (size_t)(newline - data);
    uint64_t start = self->base + self->at;
    self->at += size + 1;
    line->end = start + size + 1;
    if (self->framing == WEIR_FRAMING_NDJSON) {
        size = without_trailing(data, size);
        size_t skip = count_leading(data, size);
        data += skip;
        start += skip;
        size -= skip;
    } else if (size > 0 && data[size - 1] == '\r')
        size--;
    line->data = data;
    line->held = line->size = size;
    line->start = start;
    return true;
}

/*  The unfinished line gets its last size bytes; newline: and its line end.   */
static void carried_line(weir_framer *self, size_t size, bool newline, span *line)
{
    partial *part = &self->partial;
    partial_add(self, size);
    self->at += newline;
    uint64_t whole = part->raw;
    if (self->framing == WEIR_FRAMING_NDJSON)
        whole = part->solid;
    else if (newline && part->last == '\r')
        whole--;
    partial_finish(self, whole, line);
}

/*  A line that began in an earlier chunk, or that goes on in the next one. At the end of
    input the rest is a line.                                                  */
static bool split_line(weir_framer *self, span *line)
{
    size_t left = self->chunk_size - self->at;
    const uint8_t *from = self->chunk + self->at;
    const uint8_t *newline = left ? memchr(from, '\n', left) : NULL;
    if (!newline && left > 0) partial_add(self, left);
    if (!newline && (!self->ended || self->partial.raw == 0)) return false;
    carried_line(self, newline ? (size_t)(newline - from) : 0, newline, line);
    return true;
}

/*  Finds the next line; NDJSON skips blank ones.                              */
static inline bool next_line(weir_framer *self, span *line)
{
    if (self->partial.given) partial_clear(self);
    do {
        if (!whole_line(self, line) && !split_line(self, line)) return false;
    } while (line->size == 0 && self->framing == WEIR_FRAMING_NDJSON);
    return true;
}

/* --- Joined lines ------------------------------------------------------------------ */

/*  A line of which nobody can tell whether it begins a record does so: then the
    harm is confined to that record.                                           */
static bool belongs_to_open(const weir_framer *self, const span *line)
{
    const joiner *join = &self->joiner;
    if (line->size > self->record_max) return false;
    if (join->text.size + 1 + line->size > join->max_bytes) return false;
    return weir_regex_search(join->begin, (const char *)line->data, (size_t)line->size, 0,
                             NULL, 0, NULL) == WEIR_MATCH_NO;
}

static void join_line(joiner *join, const span *line, int64_t now_us)
{
    if (join->open)
        weir_buffer_put_byte(&join->text, '\n');
    else
        join->start = line->start;
    weir_buffer_put(&join->text, line->data, (size_t)line->size);
    join->end = line->end;
    join->last_us = now_us;
    join->open = true;
}

static bool give_joined(weir_framer *self, weir_framed *piece)
{
    joiner *join = &self->joiner;
    join->given = true;
    join->open = false;
    const void *data = join->text.data ? (const void *)join->text.data : "";
    size_t size = join->text.size;
    return give(self, &(span){data, size, size, join->start, join->end}, piece);
}

static bool next_joined(weir_framer *self, int64_t now_us, weir_framed *piece)
{
    joiner *join = &self->joiner;
    if (join->given) empty_buffer(&join->text);
    join->given = false;
    while (join->waiting || next_line(self, &join->line)) {
        if (join->open && !belongs_to_open(self, &join->line)) {
            join->waiting = true;
            return give_joined(self, piece);
        }
        join->waiting = false;
        if (join->line.size > self->record_max) return give(self, &join->line, piece);
        join_line(join, &join->line, now_us);
    }
    if (!join->open) return false;
    if (!self->ended && now_us - join->last_us < self->wait_us) return false;
    return give_joined(self, piece);
}

/* --- JSON array -------------------------------------------------------------------- */

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

/*  Numbers and words; what they mean is the parser's business.                */
static bool is_scalar(uint8_t byte)
{
    uint8_t letter = byte | 0x20;
    return (byte >= '0' && byte <= '9') || (letter >= 'a' && letter <= 'z') ||
           byte == '-' || byte == '+' || byte == '.';
}

/*  The rest of the input, from the unfinished element on, goes into one piece.  */
static void array_fail(weir_framer *self, int64_t now_us, const char *text)
{
    array *arr = &self->array;
    uint64_t offset = self->base + self->at;
    snprintf(arr->error, sizeof arr->error, "byte %" PRIu64 ": %s", offset, text);
    if (self->partial.raw == 0) self->partial.start = offset;
    arr->state = ARRAY_BAD;
    arr->bad_us = now_us;
}

/*  Moves behind the string that the cursor is in; false: it goes on in the next
    chunk.                                                                     */
static bool skip_string(weir_framer *self)
{
    array *arr = &self->array;
    const uint8_t *data = self->chunk;
    size_t at = self->at, size = self->chunk_size;
    if (arr->escaped && at < size) {
        arr->escaped = false;
        at++;
    }
    while (at < size && data[at] != '"') {
        size_t step = data[at] == '\\' ? 2 : 1;
        arr->escaped = step > size - at;
        at += arr->escaped ? 1 : step;
    }
    arr->in_string = at == size;
    self->at = at + !arr->in_string;
    return !arr->in_string;
}

/*  Moves behind the element that the cursor is in; false: it goes on in the next
    chunk. Brackets are counted, not matched in kind.                          */
static bool skip_element(weir_framer *self)
{
    array *arr = &self->array;
    const uint8_t *data = self->chunk;
    if (arr->state == ARRAY_SCALAR) {
        while (self->at < self->chunk_size && is_scalar(data[self->at]))
            self->at++;
        return self->at < self->chunk_size;
    }
    if (arr->in_string) {
        if (!skip_string(self)) return false;
        if (arr->depth == 0) return true;
    }
    while (self->at < self->chunk_size) {
        uint8_t byte = data[self->at++];
        if (byte == '"') {
            if (!skip_string(self)) return false;
            if (arr->depth == 0) return true;
        } else if (byte == '{' || byte == '[')
            arr->depth++;
        else if ((byte == '}' || byte == ']') && --arr->depth == 0)
            return true;
    }
    return false;
}

/*  The byte at the cursor lies between elements. Returns what it should have been,
    or NULL if it is right; then it is consumed, unless an element begins there. */
static const char *array_step(weir_framer *self, uint8_t byte)
{
    array *arr = &self->array;
    bool opens = byte == '"' || byte == '{' || byte == '[';
    arr->resumed = false;
    switch (arr->state) {
    case ARRAY_START:
        if (byte != '[') return "expected '['";
        arr->state = ARRAY_FIRST;
        break;
    case ARRAY_FIRST:
    case ARRAY_VALUE:
        if (opens || is_scalar(byte)) {
            arr->state = opens ? ARRAY_NESTED : ARRAY_SCALAR;
            return NULL;
        }
        if (arr->state == ARRAY_VALUE) return "expected a value";
        if (byte != ']') return "expected a value or ']'";
        arr->state = ARRAY_DONE;
        break;
    case ARRAY_AFTER:
        if (byte != ',' && byte != ']') return "expected ',' or ']'";
        arr->state = byte == ',' ? ARRAY_VALUE : ARRAY_DONE;
        break;
    default:
        return "expected nothing behind the array";
    }
    self->at++;
    return NULL;
}

/*  What is missing when the input ends here; NULL: nothing.                   */
static const char *array_missing(const array *arr)
{
    if (arr->state == ARRAY_SCALAR || arr->state == ARRAY_NESTED)
        return "the input ends in an element";
    if (arr->state == ARRAY_START || arr->state == ARRAY_DONE || arr->resumed)
        return NULL;
    return "the input ends before ']'";
}

/*  Goes to the next element or behind the chunk, whatever comes first.        */
static void array_walk(weir_framer *self, int64_t now_us)
{
    array *arr = &self->array;
    const char *error = NULL;
    while (!error && self->at < self->chunk_size && arr->state != ARRAY_SCALAR &&
           arr->state != ARRAY_NESTED) {
        uint8_t byte = self->chunk[self->at];
        if (is_space(byte))
            self->at++;
        else
            error = array_step(self, byte);
    }
    if (error) array_fail(self, now_us, error);
}

static bool array_rest(weir_framer *self, int64_t now_us, weir_framed *piece)
{
    array *arr = &self->array;
    if (arr->state == ARRAY_OVER) {
        self->at = self->chunk_size;
        return false;
    }
    if (self->at < self->chunk_size) partial_add(self, self->chunk_size - self->at);
    if (!self->ended && now_us - arr->bad_us < self->wait_us) return false;
    span rest;
    partial_finish(self, self->partial.raw, &rest);
    if (!rest.data) rest.data = (const uint8_t *)"";
    give(self, &rest, piece);
    piece->kind = WEIR_PIECE_BAD;
    piece->size = least(rest.held, sample_max);
    memcpy(piece->error, arr->error, sizeof piece->error);
    arr->state = ARRAY_OVER;
    return true;
}

static bool next_element(weir_framer *self, int64_t now_us, weir_framed *piece)
{
    array *arr = &self->array;
    if (self->partial.given) partial_clear(self);
    if (arr->state < ARRAY_BAD) array_walk(self, now_us);
    if (arr->state == ARRAY_SCALAR || arr->state == ARRAY_NESTED) {
        size_t from = self->at;
        bool complete = skip_element(self);
        size_t size = self->at - from;
        self->at = from;
        if (complete) {
            span element;
            take(self, size, &element);
            arr->state = ARRAY_AFTER;
            return give(self, &element, piece);
        }
        partial_add(self, size);
    }
    if (arr->state < ARRAY_BAD && self->ended) {
        const char *missing = array_missing(arr);
        if (missing) array_fail(self, now_us, missing);
    }
    return arr->state >= ARRAY_BAD && array_rest(self, now_us, piece);
}

/* --- Blob -------------------------------------------------------------------------- */

static bool next_blob(weir_framer *self, weir_framed *piece)
{
    if (self->partial.given) partial_clear(self);
    size_t left = self->chunk_size - self->at;
    if (!self->ended) {
        if (left > 0) partial_add(self, left);
        return false;
    }
    if (left == 0 && self->partial.raw == 0) return false;
    span blob;
    take(self, left, &blob);
    return give(self, &blob, piece);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static weir_err check_config(const weir_framing_config *config, weir_report *report)
{
    if ((unsigned)config->framing > WEIR_FRAMING_ARRAY)
        return weir_report_set(report, WEIR_EINVAL, NULL, "no such framing: %d",
                               (int)config->framing);
    if (config->record_max == 0)
        return weir_report_set(report, WEIR_EINVAL, NULL, "record_max is 0");
    if (config->begin && config->framing != WEIR_FRAMING_LINES)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "begin is for lines; other framings join nothing");
    if (config->begin && config->max_bytes == 0)
        return weir_report_set(report, WEIR_EINVAL, NULL, "lines.max is 0");
    return WEIR_OK;
}

weir_err weir_framer_new(weir_framer **self_p, const weir_framing_config *config,
                         weir_report *report)
{
    *self_p = NULL;
    weir_err err = check_config(config, report);
    if (err) return err;
    weir_framer *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->framing = config->framing;
    self->record_max = config->record_max;
    self->keep_max = config->record_max > sample_max ? config->record_max : sample_max;
    self->wait_us = config->wait_us;
    self->joiner.max_bytes = least(config->max_bytes, config->record_max);
    if (config->begin) {
        size_t error_at = 0;
        err = weir_regex_new(&self->joiner.begin, config->begin, strlen(config->begin),
                             &error_at, report);
    }
    if (err)
        weir_framer_destroy(&self);
    else
        weir_framer_reset(self, 0);
    *self_p = self;
    return err;
}

void weir_framer_destroy(weir_framer **self_p)
{
    weir_framer *self = *self_p;
    if (!self) return;
    weir_buffer_fini(&self->partial.carry);
    weir_buffer_fini(&self->joiner.text);
    weir_regex_destroy(&self->joiner.begin);
    free(self);
    *self_p = NULL;
}

void weir_framer_reset(weir_framer *self, uint64_t offset)
{
    partial_clear(self);
    joiner *join = &self->joiner;
    empty_buffer(&join->text);
    join->open = join->given = join->waiting = false;
    self->array =
        (array){.state = offset ? ARRAY_AFTER : ARRAY_START, .resumed = offset > 0};
    self->chunk = (const uint8_t *)"";
    self->chunk_size = self->at = 0;
    self->base = offset;
    self->ended = false;
}

void weir_framer_feed(weir_framer *self, const uint8_t *data, size_t size)
{
    assert(self->at == self->chunk_size && !self->ended);
    self->base += self->chunk_size;
    self->chunk = size ? data : (const uint8_t *)"";
    self->chunk_size = size;
    self->at = 0;
}

bool weir_framer_next(weir_framer *self, int64_t now_us, weir_framed *piece)
{
    span line;
    switch (self->framing) {
    case WEIR_FRAMING_BLOB:
        return next_blob(self, piece);
    case WEIR_FRAMING_ARRAY:
        return next_element(self, now_us, piece);
    case WEIR_FRAMING_NDJSON:
    case WEIR_FRAMING_LINES:
        break;
    }
    if (self->joiner.begin) return next_joined(self, now_us, piece);
    return next_line(self, &line) && give(self, &line, piece);
}

bool weir_framer_line(weir_framer *self, weir_line *line)
{
    bool blanks_count = self->framing == WEIR_FRAMING_LINES;
    size_t at = self->at;
    span found;
    if (self->framing > WEIR_FRAMING_LINES || self->joiner.begin) return false;
    if (!whole_line(self, &found)) return false;
    if (found.size > self->record_max || (found.size == 0 && !blanks_count)) {
        self->at = at;
        return false;
    }
    *line = (weir_line){found.data, found.held, found.end};
    return true;
}

void weir_framer_end(weir_framer *self)
{
    self->ended = true;
}

int64_t weir_framer_deadline(const weir_framer *self)
{
    int64_t since;
    if (self->joiner.open)
        since = self->joiner.last_us;
    else if (self->array.state == ARRAY_BAD)
        since = self->array.bad_us;
    else
        return -1;
    return since > INT64_MAX - self->wait_us ? INT64_MAX : since + self->wait_us;
}

size_t weir_framer_pending(const weir_framer *self)
{
    const joiner *join = &self->joiner;
    size_t size = self->chunk_size - self->at;
    if (!self->partial.given || join->waiting) size += self->partial.carry.size;
    if (join->open) size += join->text.size;
    return size;
}
