#include "runtime/intake.h"
#include "runtime/clock.h"
#include <inttypes.h>
#include <stdio.h>

/*  Records that were left out still move the position: after so many an entry
    without a block does.                                                      */
#define EMPTY_RECORDS_MAX 8192

static const int64_t ledger_wait_us = 10000;
static const int64_t calm_us = 1000000; // without waiting for so long it waits no more

struct weir_intake {
    weir_actor *kit;
    int port;
    const weir_intake_config *config; // the actor's
    weir_screen *screen;
    bool open;    // no screen
    bool limited; // by a rate
    weir_doc doc; // scratch of the screen
    weir_builder builder;
    weir_lane *lane; // of what has gathered
    int token;
    uint64_t position; // behind the last piece
    uint32_t records;  // gathered, those left out included
    weir_fates fates;
    weir_dead *dead, **dead_end;
    weir_run origin;
    const weir_envelope *envelope;   // lent; of the records that come
    char label[320];                 // "name@offset" of the block's first record
    double records_left, bytes_left; // token buckets
    int64_t filled_us;               // when the buckets were last filled
    bool waits;                      // noted in the vitals
    weir_wait_kind waits_for;
    int64_t waited_us; // when it last had to
};

const char *const weir_format_words[] = {"json", "msgpack", "text", "auto", NULL};
const char *const weir_framing_words[] = {"ndjson", "lines", "blob", "array", NULL};
const char *const weir_none_word[] = {"none", NULL};

weir_err weir_intake_new(weir_intake **self_p, weir_actor *kit, int port,
                         const weir_intake_config *config, weir_report *report)
{
    weir_intake *self = calloc(1, sizeof *self);
    if (!self) abort();
    const weir_node *node = weir_actor_node(kit);
    self->kit = kit;
    self->port = port;
    self->config = config;
    self->dead_end = &self->dead;
    self->origin = (weir_run){.source = node->name, .label = self->label};
    self->builder = (weir_builder){.ledger = node->ledger, .target = node->block_bytes};
    self->limited = config->rate_records >= 0 || config->rate_bytes >= 0;
    self->filled_us = weir_clock_now_us();
    double burst_s = (double)config->rate_burst / 1e6;
    self->records_left = config->rate_records * burst_s;
    self->bytes_left = (double)config->rate_bytes * burst_s;
    weir_err err = weir_screen_new(&self->screen, &config->screen, NULL, report);
    self->open = !err && weir_screen_is_open(self->screen);
    *self_p = self;
    return err;
}

void weir_intake_destroy(weir_intake **self_p)
{
    weir_intake *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_screen_destroy(&self->screen);
    weir_doc_fini(&self->doc);
    weir_builder_fini(&self->builder);
    weir_dead_destroy_list(&self->dead);
    free(self);
}

weir_err weir_intake_framer(const weir_intake *self, weir_framer **framer,
                            weir_report *report)
{
    return weir_framer_new(
        framer,
        &(weir_framing_config){.framing = (weir_framing)self->config->framing,
                               .begin = self->config->lines_begin,
                               .max_bytes = (size_t)self->config->lines_max,
                               .wait_us = self->config->lines_wait,
                               .record_max = weir_actor_node(self->kit)->record_max},
        report);
}

/*  At the begin of a page: the kernel copies at a third of the speed to an address that,
    within its page, lies a few bytes behind that of the source, as malloc's do. */
uint8_t *weir_intake_chunk(size_t size)
{
    static const size_t page = 4096;
    uint8_t *chunk = aligned_alloc(page, (size + page - 1) / page * page);
    if (!chunk) abort();
    return chunk;
}

/* --- Pace -------------------------------------------------------------------------- */

static double fill(double left, double rate, double elapsed_s, double burst_s)
{
    left += rate * elapsed_s;
    return left > rate * burst_s ? rate * burst_s : left;
}

/*  Microseconds until the bucket holds something again.                       */
static int64_t bucket_wait_us(double left, double rate)
{
    if (rate < 0 || left > 0) return 0;
    return (int64_t)(-left / rate * 1e6) + 1;
}

static int64_t rate_wait_us(weir_intake *self)
{
    const weir_intake_config *c = self->config;
    if (!self->limited) return 0;
    int64_t now = weir_clock_now_us();
    double elapsed_s = (double)(now - self->filled_us) / 1e6;
    double burst_s = (double)c->rate_burst / 1e6;
    self->filled_us = now;
    self->records_left = fill(self->records_left, c->rate_records, elapsed_s, burst_s);
    self->bytes_left = fill(self->bytes_left, (double)c->rate_bytes, elapsed_s, burst_s);
    int64_t records_us = bucket_wait_us(self->records_left, c->rate_records);
    int64_t bytes_us = bucket_wait_us(self->bytes_left, (double)c->rate_bytes);
    return records_us > bytes_us ? records_us : bytes_us;
}

static void end_wait(weir_intake *self)
{
    if (self->waits) weir_vitals_flow(weir_actor_vitals(self->kit), self->waits_for, "");
    self->waits = false;
}

/*  A limit that is reached again and again is one long wait.                   */
static void note_wait(weir_intake *self, weir_wait_kind kind)
{
    self->waited_us = weir_clock_now_us();
    if (self->waits && self->waits_for == kind) return;
    end_wait(self);
    self->waits = true;
    self->waits_for = kind;
    weir_vitals_wait(weir_actor_vitals(self->kit), kind, "", "%s", "");
}

bool weir_intake_ready(weir_intake *self, int64_t *wait_us)
{
    *wait_us = 0;
    if (self->records && !self->limited) return true; // the block is open
    if (self->records == 0 && !weir_actor_has_room(self->kit)) {
        end_wait(self); // its reader's turn
        return false;
    }
    *wait_us = rate_wait_us(self);
    if (*wait_us) {
        note_wait(self, WEIR_WAIT_RATE);
    } else if (weir_builder_open(&self->builder)) {
        *wait_us = ledger_wait_us;
        note_wait(self, WEIR_WAIT_LEDGER);
    } else if (self->waits && weir_clock_now_us() - self->waited_us > calm_us) {
        end_wait(self);
    }
    return *wait_us == 0;
}

/* --- Pieces ------------------------------------------------------------------------ */

static weir_format payload_format(const weir_intake *self, const uint8_t *data,
                                  size_t size)
{
    if (self->envelope && self->envelope->whole) return self->envelope->format;
    switch ((weir_intake_format)self->config->format) {
    case WEIR_INTAKE_JSON:
        return WEIR_JSON;
    case WEIR_INTAKE_MSGPACK:
        return WEIR_MSGPACK;
    case WEIR_INTAKE_TEXT:
        return WEIR_TEXT;
    default:
        break;
    }
    if (self->config->framing == WEIR_FRAMING_LINES) return WEIR_TEXT;
    uint8_t first = size ? data[0] : 0;
    bool map = (first >= 0x80 && first <= 0x9f) || (first >= 0xdc && first <= 0xdf);
    return map ? WEIR_MSGPACK : WEIR_JSON;
}

static void add_dead(weir_intake *self, weir_dead *dead)
{
    *self->dead_end = dead;
    self->dead_end = &dead->next;
    self->fates.dead++;
}

/*  The record that the payload and the envelope make.                          */
static weir_record record_of(const weir_intake *self, weir_format format,
                             const uint8_t *data, size_t size)
{
    weir_record record = {.format = format, .data = data, .size = size};
    if (!self->envelope) return record;
    record.key = self->envelope->key;
    record.headers = self->envelope->headers;
    record.headers_size = self->envelope->headers_size;
    record.has_ts = self->envelope->has_ts;
    record.ts_ms = self->envelope->ts_ms;
    return record;
}

static void add_dead_bytes(weir_intake *self, weir_dead_reason reason, const char *error,
                           const uint8_t *data, size_t size)
{
    weir_record record = record_of(self, WEIR_TEXT, data, size);
    add_dead(self, weir_dead_new(self->origin.source, reason, error, 0, &record,
                                 self->origin.source, self->origin.peer, self->label));
}

/*  What came before the piece was read, and the piece, too: an entry that stays open. */
static void fail(weir_intake *self, const char *error)
{
    self->records--;
    weir_intake_flush(self);
    weir_actor_open(self->kit, self->lane, 1, self->position, self->token);
    weir_actor_fail(self->kit, WEIR_EMALFORMED, self->label, "%s", error);
}

static void add_bad(weir_intake *self, const char *error, const uint8_t *data,
                    size_t size)
{
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_PARSE_ERRORS, 1);
    switch ((weir_on_error)self->config->parse_error) {
    case WEIR_ON_ERROR_DROP:
        self->fates.skipped++;
        break;
    case WEIR_ON_ERROR_DEAD:
        add_dead_bytes(self, WEIR_DEAD_PARSE, error, data, size);
        break;
    case WEIR_ON_ERROR_STOP:
        fail(self, error);
        break;
    }
}

static void add_oversize(weir_intake *self, const weir_framed *piece)
{
    char text[128];
    snprintf(text, sizeof text,
             "a record of %" PRIu64 " bytes is above record_max; these are its first",
             piece->whole_size);
    add_dead_bytes(self, WEIR_DEAD_OVERSIZE, text, piece->data, piece->size);
}

/*  A MessagePack payload is walked here, since a block's body must be well-formed. */
static bool is_document(const uint8_t *data, size_t size)
{
    weir_reader reader = {data, data + size};
    weir_value value;
    return !weir_read_value(&reader, &value) && value.type == WEIR_MAP &&
           reader.at == reader.end;
}

static void add_screened(weir_intake *self, weir_format format, const uint8_t *data,
                         size_t size)
{
    weir_subject subject = {
        .record = record_of(self, format, data, size),
        .source = self->origin.source,
        .peer = self->origin.peer,
        .doc = &self->doc,
    };
    weir_judgement judgement = weir_screen_judge(self->screen, &subject);
    if (judgement == WEIR_FILTERED) {
        self->fates.filtered++;
    } else if (judgement != WEIR_PASS) {
        add_dead(self, weir_screen_dead(judgement, self->origin.source, &subject,
                                        &self->origin));
    } else {
        weir_builder_add(&self->builder, &subject.record, &self->origin);
        self->fates.done++;
    }
}

static inline void add_record(weir_intake *self, const uint8_t *data, size_t size)
{
    weir_format format = payload_format(self, data, size);
    if (format == WEIR_MSGPACK && !is_document(data, size)) {
        add_bad(self, "the payload is no MessagePack map", data, size);
    } else if (self->open && format != WEIR_MSGPACK && !self->envelope) {
        weir_builder_add_payload(&self->builder, format, data, size, &self->origin);
        self->fates.done++;
    } else {
        add_screened(self, format, data, size);
    }
}

void weir_intake_envelope(weir_intake *self, const weir_envelope *envelope)
{
    self->envelope = envelope;
    self->origin.peer = envelope ? envelope->peer : NULL;
}

void weir_intake_mark(weir_intake *self, weir_lane *lane, int token, uint64_t position)
{
    if (self->records && self->lane == lane && self->token == token) {
        self->position = position; // with the block that is open
        return;
    }
    weir_intake_flush(self);
    weir_actor_done(self->kit, weir_actor_open(self->kit, lane, 0, position, token));
}

static bool is_full(const weir_intake *self)
{
    return weir_builder_full(&self->builder) || self->records >= EMPTY_RECORDS_MAX;
}

void weir_intake_piece(weir_intake *self, weir_lane *lane, int token, const char *label,
                       const weir_framed *piece)
{
    if (self->records && (self->lane != lane || self->token != token))
        weir_intake_flush(self);
    if (self->records == 0)
        snprintf(self->label, sizeof self->label, "%s@%" PRIu64, label, piece->start);
    self->lane = lane;
    self->token = token;
    self->position = piece->end;
    self->records++;
    self->records_left -= 1;
    self->bytes_left -= (double)piece->whole_size;
    switch (piece->kind) {
    case WEIR_PIECE_RECORD:
        add_record(self, piece->data, piece->size);
        break;
    case WEIR_PIECE_OVERSIZE:
        add_oversize(self, piece);
        break;
    case WEIR_PIECE_BAD:
        add_bad(self, piece->error, piece->data, piece->size);
        break;
    }
    if (is_full(self)) weir_intake_flush(self);
}

/*  While a block is open nothing else than a rate says wait, and no record fails but one
    that ends the block.                                                       */
uint32_t weir_intake_lines(weir_intake *self, weir_framer *framer)
{
    weir_line line;
    uint32_t count = 0;
    if (self->limited) return 0;
    while (self->records && !is_full(self) && weir_framer_line(framer, &line)) {
        self->position = line.end;
        self->records++;
        count++;
        add_record(self, line.data, line.size);
    }
    if (is_full(self)) weir_intake_flush(self);
    return count;
}

void weir_intake_flush(weir_intake *self)
{
    if (self->records == 0 || weir_actor_failed(self->kit)) return;
    weir_entry *entry = weir_actor_open(self->kit, self->lane, self->records,
                                        self->position, self->token);
    entry->fates = self->fates;
    if (self->dead) weir_entry_add_dead(entry, &self->dead);
    weir_block *block = weir_builder_seal(&self->builder);
    if (block) weir_actor_send(self->kit, self->port, &block, entry);
    weir_actor_done(self->kit, entry);
    self->records = 0;
    self->fates = (weir_fates){0};
    self->dead_end = &self->dead;
}
