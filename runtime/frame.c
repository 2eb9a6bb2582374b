#include "runtime/frame.h"
#include "runtime/codec.h"

/*  Elements of each message's array, type and stage included.                 */
static const uint8_t elements[] = {
    [WEIR_HELLO] = 7, [WEIR_WELCOME] = 6, [WEIR_BLOCK] = 6, [WEIR_CREDIT] = 4,
    [WEIR_ACK] = 3,   [WEIR_BARRIER] = 6, [WEIR_CLOSE] = 5, [WEIR_NACK] = 6,
    [WEIR_NEED] = 3,  [WEIR_TOKEN] = 5,
};

#define PLACE_NUMBERS 5

/* --- Writing ----------------------------------------------------------------------- */

static void put_text(weir_buffer *out, const char *text)
{
    if (text)
        weir_put_str(out, text, strlen(text));
    else
        weir_put_nil(out);
}

static void put_places(weir_buffer *out, const weir_run *runs, size_t count)
{
    put_text(out, "p");
    weir_put_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        const weir_place *place = &runs[i].place;
        weir_put_array(out, PLACE_NUMBERS);
        weir_put_uint(out, place->nonce);
        weir_put_uint(out, place->epoch);
        weir_put_uint(out, place->shard);
        weir_put_uint(out, place->sequence);
        weir_put_uint(out, place->offset);
    }
}

static void put_headers(weir_buffer *out, const weir_run *runs, size_t count)
{
    bool places = count && runs[0].place.nonce;
    weir_put_map(out, places ? 2 : 1);
    put_text(out, "o");
    weir_put_array(out, (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        weir_put_array(out, 4);
        weir_put_uint(out, runs[i].records);
        put_text(out, runs[i].source);
        put_text(out, runs[i].peer);
        put_text(out, runs[i].label);
    }
    if (places) put_places(out, runs, count);
}

static void put_refusal(const weir_frame *self, weir_buffer *out)
{
    put_text(out, self->code);
    put_text(out, self->text);
    weir_put_bool(out, self->retryable);
}

static void put_hello(const weir_frame *self, weir_buffer *out)
{
    weir_put_uint(out, self->version);
    put_text(out, self->node);
    put_text(out, self->outlet);
    weir_put_uint(out, self->session);
    weir_put_map(out, 1);
    put_text(out, "base");
    weir_put_uint(out, self->base);
}

void weir_frame_put(const weir_frame *self, weir_buffer *out)
{
    weir_put_array(out, elements[self->type]);
    weir_put_uint(out, self->type);
    switch (self->type) {
    case WEIR_HELLO:
        put_hello(self, out);
        break;
    case WEIR_WELCOME:
        weir_put_uint(out, self->version);
        weir_put_uint(out, self->bytes);
        weir_put_uint(out, self->sequence);
        weir_put_uint(out, self->barrier);
        break;
    case WEIR_BLOCK:
        weir_put_uint(out, self->sequence);
        weir_put_uint(out, self->records);
        weir_put_nil(out);
        put_headers(out, self->runs, self->run_count);
        break;
    case WEIR_CREDIT:
        weir_put_uint(out, self->bytes);
        weir_put_uint(out, self->barrier);
        break;
    case WEIR_ACK:
        weir_put_uint(out, self->sequence);
        break;
    case WEIR_BARRIER:
        weir_put_uint(out, self->barrier);
        weir_put_uint(out, self->epoch);
        weir_put_uint(out, self->flags);
        weir_put_uint(out, self->sequence);
        break;
    case WEIR_CLOSE:
        put_refusal(self, out);
        break;
    case WEIR_NACK:
        weir_put_uint(out, self->sequence);
        put_refusal(self, out);
        break;
    case WEIR_NEED:
        weir_put_uint(out, self->bytes);
        break;
    case WEIR_TOKEN:
        weir_put_uint(out, self->sequence);
        weir_put_uint(out, self->kind);
        weir_put_uint(out, self->argument);
        break;
    }
    weir_put_uint(out, self->stage);
}

/* --- Reading ----------------------------------------------------------------------- */

/*  A reader that remembers its first error, so that the fields of a message read
    as one list.                                                               */
typedef struct {
    weir_reader in;
    weir_err err;
} fields;

static uint64_t get_uint(fields *f)
{
    uint64_t value = 0;
    if (!f->err) f->err = weir_read_uint(&f->in, &value);
    return value;
}

static uint32_t get_u32(fields *f)
{
    uint64_t value = get_uint(f);
    if (value > UINT32_MAX && !f->err) f->err = WEIR_EMALFORMED;
    return (uint32_t)value;
}

static bool get_bool(fields *f)
{
    bool value = false;
    if (!f->err) f->err = weir_read_bool(&f->in, &value);
    return value;
}

static void get_text(fields *f, char *text, size_t room)
{
    const char *data;
    size_t size;
    text[0] = 0;
    if (!f->err) f->err = weir_read_str(&f->in, &data, &size);
    if (f->err) return;
    if (size >= room || memchr(data, 0, size)) {
        f->err = WEIR_ETOOBIG;
        return;
    }
    memcpy(text, data, size);
    text[size] = 0;
}

static void get_options(fields *f, weir_frame *frame)
{
    uint32_t count = 0;
    frame->base = 1;
    if (!f->err) f->err = weir_read_map(&f->in, &count);
    for (uint32_t i = 0; i < count && !f->err; i++) {
        weir_value name;
        f->err = weir_read_value(&f->in, &name);
        if (f->err) return;
        if (name.type == WEIR_STR && name.size == 4 && !memcmp(name.data, "base", 4))
            frame->base = get_uint(f);
        else
            f->err = weir_read_skip(&f->in);
    }
}

/*  Origin texts become C strings behind the runs in scratch; offsets first, since
    scratch may move while it grows.                                           */
static size_t get_origin_text(fields *f, weir_buffer *scratch)
{
    weir_value value;
    if (!f->err) f->err = weir_read_value(&f->in, &value);
    if (f->err || value.type == WEIR_NULL) return 0;
    if (value.type != WEIR_STR || memchr(value.data, 0, value.size)) {
        f->err = WEIR_EMALFORMED;
        return 0;
    }
    if (value.size > WEIR_RUN_TEXT_MAX) {
        f->err = WEIR_ETOOBIG;
        return 0;
    }
    size_t offset = scratch->size;
    weir_buffer_put(scratch, value.data, value.size);
    weir_buffer_put_byte(scratch, 0);
    return offset;
}

static const char *text_at(const weir_buffer *scratch, size_t offset)
{
    return offset ? (const char *)scratch->data + offset : NULL;
}

static void get_runs(fields *f, weir_frame *frame, weir_buffer *scratch)
{
    size_t texts[WEIR_RUNS_MAX][3];
    uint32_t count = 0, four;
    uint64_t total = 0;
    if (!f->err) f->err = weir_read_array(&f->in, &count);
    if (!f->err && count > WEIR_RUNS_MAX) f->err = WEIR_ETOOBIG;
    if (f->err) return;
    scratch->size = 0;
    weir_buffer_reserve(scratch, count * sizeof(weir_run) + 1);
    scratch->size = count * sizeof(weir_run) + 1;
    for (uint32_t i = 0; i < count && !f->err; i++) {
        f->err = weir_read_array(&f->in, &four);
        if (!f->err && four != 4) f->err = WEIR_EMALFORMED;
        uint32_t records = get_u32(f);
        for (int t = 0; t < 3; t++)
            texts[i][t] = get_origin_text(f, scratch);
        ((weir_run *)scratch->data)[i] = (weir_run){.records = records};
        total += records;
        if (!f->err && records == 0) f->err = WEIR_EMALFORMED;
    }
    if (!f->err && total != frame->records) f->err = WEIR_EMALFORMED;
    if (f->err) return;
    weir_run *runs = (weir_run *)scratch->data;
    for (uint32_t i = 0; i < count; i++) {
        runs[i].source = text_at(scratch, texts[i][0]);
        runs[i].peer = text_at(scratch, texts[i][1]);
        runs[i].label = text_at(scratch, texts[i][2]);
    }
    frame->runs = runs;
    frame->run_count = count;
}

/*  Records of which nothing is said.                                          */
static void put_one_run(weir_frame *frame, weir_buffer *scratch)
{
    weir_run run = {.records = frame->records};
    scratch->size = 0;
    weir_buffer_put(scratch, &run, sizeof run);
    frame->runs = (weir_run *)scratch->data;
    frame->run_count = 1;
}

static weir_place get_place(fields *f)
{
    weir_place place = {0};
    uint32_t numbers = 0;
    if (!f->err) f->err = weir_read_array(&f->in, &numbers);
    if (!f->err && numbers != PLACE_NUMBERS) f->err = WEIR_EMALFORMED;
    place.nonce = get_uint(f);
    place.epoch = get_uint(f);
    place.shard = get_u32(f);
    place.sequence = get_uint(f);
    place.offset = get_uint(f);
    if (!f->err && place.nonce == 0) f->err = WEIR_EMALFORMED;
    return place;
}

/*  The header comes from within the process, or it is passed over as any that is not
    known: what it holds is nobody's mistake.                                  */
static void get_places(fields f, weir_run *runs, size_t count)
{
    uint32_t places = 0;
    f.err = weir_read_array(&f.in, &places);
    bool good = !f.err && places == count;
    for (size_t i = 0; i < count && good; i++) {
        runs[i].place = get_place(&f);
        good = !f.err;
    }
    for (size_t i = 0; i < count && !good; i++)
        runs[i].place = (weir_place){0};
}

static bool is_key(const weir_value *name, char key)
{
    return name->type == WEIR_STR && name->size == 1 && name->data[0] == key;
}

static void get_block(fields *f, weir_frame *frame, weir_buffer *scratch)
{
    uint32_t count = 0;
    fields places = {.err = WEIR_ENOTFOUND};
    frame->sequence = get_uint(f);
    frame->records = get_u32(f);
    if (!f->err) f->err = weir_read_skip(&f->in);
    if (!f->err) f->err = weir_read_map(&f->in, &count);
    for (uint32_t i = 0; i < count && !f->err; i++) {
        weir_value name;
        f->err = weir_read_value(&f->in, &name);
        if (f->err) return;
        if (is_key(&name, 'p')) places = *f;
        if (is_key(&name, 'o') && scratch)
            get_runs(f, frame, scratch);
        else
            f->err = weir_read_skip(&f->in);
    }
    if (!f->err && frame->records == 0) f->err = WEIR_EMALFORMED;
    if (f->err || !scratch) return;
    if (frame->run_count == 0) put_one_run(frame, scratch);
    if (!places.err) get_places(places, (weir_run *)scratch->data, frame->run_count);
}

static void get_refusal(fields *f, weir_frame *frame)
{
    get_text(f, frame->code, sizeof frame->code);
    get_text(f, frame->text, sizeof frame->text);
    frame->retryable = get_bool(f);
}

static void get_fields(fields *f, weir_frame *frame, weir_buffer *scratch)
{
    switch (frame->type) {
    case WEIR_HELLO:
        frame->version = get_u32(f);
        get_text(f, frame->node, sizeof frame->node);
        get_text(f, frame->outlet, sizeof frame->outlet);
        frame->session = get_uint(f);
        get_options(f, frame);
        break;
    case WEIR_WELCOME:
        frame->version = get_u32(f);
        frame->bytes = get_uint(f);
        frame->sequence = get_uint(f);
        frame->barrier = get_uint(f);
        break;
    case WEIR_BLOCK:
        get_block(f, frame, scratch);
        break;
    case WEIR_CREDIT:
        frame->bytes = get_uint(f);
        frame->barrier = get_uint(f);
        break;
    case WEIR_ACK:
        frame->sequence = get_uint(f);
        break;
    case WEIR_BARRIER:
        frame->barrier = get_uint(f);
        frame->epoch = get_uint(f);
        frame->flags = get_uint(f);
        frame->sequence = get_uint(f);
        break;
    case WEIR_CLOSE:
        get_refusal(f, frame);
        break;
    case WEIR_NACK:
        frame->sequence = get_uint(f);
        get_refusal(f, frame);
        break;
    case WEIR_NEED:
        frame->bytes = get_uint(f);
        break;
    case WEIR_TOKEN:
        frame->sequence = get_uint(f);
        frame->kind = (weir_token_kind)get_u32(f);
        frame->argument = get_uint(f);
        break;
    }
}

/*  A HELLO says its version first, and of another one nothing else is known: it can be
    answered.                                                                  */
static bool is_of_another_version(weir_frame *self, fields f)
{
    uint32_t version = get_u32(&f);
    if (f.err || version == WEIR_WIRE_VERSION) return false;
    self->type = WEIR_HELLO;
    self->version = version;
    return true;
}

weir_err weir_frame_read(weir_frame *self, const uint8_t *data, size_t size,
                         weir_buffer *scratch)
{
    memset(self, 0, sizeof *self);
    if (size > WEIR_FRAME_MAX) return WEIR_ETOOBIG;
    fields f = {.in = {data, data + size}};
    uint32_t count = 0;
    f.err = weir_read_array(&f.in, &count);
    uint64_t type = get_uint(&f);
    if (f.err) return f.err;
    if (type == WEIR_HELLO && is_of_another_version(self, f)) return WEIR_OK;
    if (type < WEIR_HELLO || type > WEIR_TOKEN || count != elements[type])
        return WEIR_EMALFORMED;
    self->type = (weir_frame_type)type;
    get_fields(&f, self, scratch);
    self->stage = get_u32(&f);
    if (!f.err && f.in.at != f.in.end) f.err = WEIR_EMALFORMED;
    return f.err;
}

/*  The header is counted at its largest common size rather than encoded twice: both sides
    must come to the same figure, so it is derived from what both know, the runs.   */
size_t weir_block_cost(const weir_block *block)
{
    static const size_t block_bytes = 512, header_bytes = 32;
    return block_bytes + header_bytes + weir_block_run_bytes(block) +
           weir_block_size(block);
}
