#include "runtime/tap.h"
#include "runtime/block.h"
#include "runtime/dead.h"
#include "runtime/json.h"
#include <inttypes.h>
#include <stdio.h>

/* --- Rendering --------------------------------------------------------------------- */

static void put_value(weir_buffer *out, const char *name, const weir_value *value)
{
    weir_buffer_printf(out, ",\"%s\":", name);
    if (value->type == WEIR_MISSING || weir_json_put_value(out, value))
        weir_buffer_put_text(out, "null");
}

static void put_optional(weir_buffer *out, const char *name, const char *text)
{
    if (text)
        weir_json_put_member(out, name, text);
    else
        weir_buffer_printf(out, ",\"%s\":null", name);
}

/*  A document is readable as JSON unless it holds what JSON cannot say.          */
static bool put_document(weir_buffer *out, const weir_record *record)
{
    weir_reader reader = {record->data, record->data + record->size};
    weir_value value;
    size_t before = out->size;
    if (record->format != WEIR_MSGPACK || weir_read_value(&reader, &value)) return false;
    weir_buffer_put_text(out, ",\"payload\":");
    if (!weir_json_put_value(out, &value)) return true;
    out->size = before;
    return false;
}

void weir_tap_put_payload(weir_buffer *out, const weir_record *record)
{
    if (!put_document(out, record)) weir_dead_put_payload(out, record);
}

void weir_tap_put_record(weir_buffer *out, const char *outlet, const weir_record *record,
                         const weir_run *origin)
{
    weir_buffer_put_byte(out, '{');
    if (outlet) weir_json_put_member(out, "outlet", outlet);
    weir_buffer_put_text(out, outlet ? ",\"ts\":" : "\"ts\":");
    if (record->has_ts)
        weir_buffer_printf(out, "%" PRId64, record->ts_ms);
    else
        weir_buffer_put_text(out, "null");
    put_value(out, "key", &record->key);
    put_optional(out, "source", origin ? origin->source : NULL);
    put_optional(out, "peer", origin ? origin->peer : NULL);
    weir_tap_put_payload(out, record);
    weir_buffer_put_byte(out, '}');
}

static void put_sample(weir_buffer *out, const char *outlet, const weir_record *record,
                       const weir_run *origin)
{
    weir_buffer_put(out, outlet, strlen(outlet) + 1);
    weir_tap_put_record(out, outlet, record, origin);
    weir_buffer_put_byte(out, 0);
}

/* --- The node's side --------------------------------------------------------------- */

/*  False: it was skipped.                                                       */
static bool add_sample(weir_tap *self, const char *outlet, const weir_record *record,
                       const weir_run *origin)
{
    size_t before = self->lines.size;
    if (record->size > WEIR_TAP_RECORD_MAX) return false;
    put_sample(&self->lines, outlet, record, origin);
    if (self->lines.size <= WEIR_TAP_MAX) return true;
    self->lines.size = before;
    return false;
}

void weir_tap_sample(weir_tap *self, const char *outlet, weir_block *block)
{
    uint64_t taken = 0;
    weir_iterator walk = {.block = block};
    weir_record record;
    const weir_run *origin;
    if (pthread_mutex_trylock(&self->lock)) {
        atomic_fetch_add(&self->skipped, weir_block_records(block));
        return;
    }
    bool meant = !*self->outlet || strcmp(self->outlet, outlet) == 0;
    while (meant && self->share > 0 && weir_iterator_next(&walk, &record, &origin)) {
        taken += add_sample(self, outlet, &record, origin);
        self->share--;
    }
    pthread_mutex_unlock(&self->lock);
    if (meant) atomic_fetch_add(&self->skipped, weir_block_records(block) - taken);
}

/* --- The supervisor's side --------------------------------------------------------- */

void weir_tap_open(weir_tap *self, const char *outlet)
{
    pthread_mutex_lock(&self->lock);
    snprintf(self->outlet, sizeof self->outlet, "%s", outlet);
    if (!self->on) {
        self->share = WEIR_TAP_SHARE;
        self->skipped = 0;
        self->on = true;
    }
    pthread_mutex_unlock(&self->lock);
}

void weir_tap_close(weir_tap *self)
{
    pthread_mutex_lock(&self->lock);
    self->on = false;
    self->share = 0;
    weir_buffer_fini(&self->lines);
    pthread_mutex_unlock(&self->lock);
}

void weir_tap_drain(weir_tap *self, weir_buffer *lines, uint64_t *skipped)
{
    lines->size = 0;
    pthread_mutex_lock(&self->lock);
    weir_buffer empty = *lines;
    *lines = self->lines;
    self->lines = empty;
    self->share = WEIR_TAP_SHARE;
    *skipped = atomic_exchange(&self->skipped, 0);
    pthread_mutex_unlock(&self->lock);
}

bool weir_tap_next(const weir_buffer *lines, size_t *at, const char **outlet,
                   const char **line)
{
    if (*at >= lines->size) return false;
    *outlet = (const char *)lines->data + *at;
    *line = *outlet + strlen(*outlet) + 1;
    *at += (size_t)(*line - *outlet) + strlen(*line) + 1;
    return true;
}
