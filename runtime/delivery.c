#include "runtime/delivery.h"

struct weir_delivery {
    weir_actor *kit;
    const weir_delivery_config *config; // the actor's
    weir_screen *screen;
    bool open; // no screen
    weir_doc doc;
    weir_buffer output;
    weir_entry **waiting; // entries that weir_delivery_safe will end
    size_t count, capacity;
    size_t written; // of them: their output has been written
};

const char *const weir_delivery_framing_words[] = {"lines", "blob", NULL};

/*  A buffer that one large record has blown up is not kept.                   */
static const size_t output_keep_max = 4 << 20;

weir_err weir_delivery_new(weir_delivery **self_p, weir_actor *kit,
                           const weir_delivery_config *config, weir_report *report)
{
    weir_delivery *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->kit = kit;
    self->config = config;
    weir_err err = weir_screen_new(&self->screen, &config->screen, NULL, report);
    self->open = !err && weir_screen_is_open(self->screen);
    *self_p = self;
    return err;
}

void weir_delivery_destroy(weir_delivery **self_p)
{
    weir_delivery *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_screen_destroy(&self->screen);
    weir_doc_fini(&self->doc);
    weir_buffer_fini(&self->output);
    free(self->waiting);
    free(self);
}

/* --- Rendering --------------------------------------------------------------------- */

/*  A JSON document of several lines becomes one line, if it is a document.    */
static const char *render_document(weir_buffer *out, weir_doc *doc,
                                   const weir_record *record)
{
    weir_value value = {.type = WEIR_MAP,
                        .format = WEIR_MSGPACK,
                        .data = record->data,
                        .size = record->size};
    if (record->format == WEIR_JSON) {
        if (weir_doc_parse(doc, WEIR_JSON, record->data, record->size))
            return "a payload with line breaks is no JSON document";
        weir_json_read(record->data + doc->index.root, doc->index.root_size, &value);
    }
    if (weir_json_put_value(out, &value))
        return "the MessagePack payload holds what JSON cannot say";
    return NULL;
}

const char *weir_delivery_put_line(weir_buffer *out, weir_doc *doc,
                                   const weir_record *record)
{
    const char *error = NULL;
    bool broken = memchr(record->data, '\n', record->size) != NULL;
    if (record->format == WEIR_TEXT && broken)
        return "a text with a line break is no line";
    if (record->format == WEIR_MSGPACK || broken) {
        error = render_document(out, doc, record);
    } else {
        weir_buffer_reserve(out, record->size + 1);
        weir_buffer_put(out, record->data, record->size);
    }
    if (!error) weir_buffer_put_byte(out, '\n');
    return error;
}

/*  NULL, or why the record cannot be written.                                 */
static const char *render(weir_delivery *self, const weir_record *record)
{
    if (self->config->framing == WEIR_DELIVERY_LINES)
        return weir_delivery_put_line(&self->output, &self->doc, record);
    weir_buffer_put(&self->output, record->data, record->size);
    return NULL;
}

/* --- Taking ------------------------------------------------------------------------ */

static void add_dead(weir_entry *entry, weir_dead *dead)
{
    weir_entry_add_dead(entry, &dead);
    entry->fates.dead++;
}

void weir_delivery_refuse(weir_delivery *self, weir_entry *entry,
                          const weir_subject *subject, const weir_run *origin,
                          const char *error)
{
    const char *node = weir_actor_node(self->kit)->name;
    switch ((weir_on_error)self->config->on_error) {
    case WEIR_ON_ERROR_DROP:
        entry->fates.skipped++;
        break;
    case WEIR_ON_ERROR_DEAD:
        add_dead(entry, weir_dead_new(node, WEIR_DEAD_SINK, error, 1, &subject->record,
                                      origin->source, origin->peer, origin->label));
        break;
    case WEIR_ON_ERROR_STOP:
        weir_actor_fail(self->kit, WEIR_EREFUSED, origin->label, "%s", error);
        break;
    }
}

bool weir_delivery_wants(weir_delivery *self, weir_entry *entry, weir_subject *subject,
                         const weir_run *origin)
{
    weir_subject_begin(subject, origin);
    return self->open || weir_screen_admit(self->screen, subject, origin,
                                           weir_actor_node(self->kit)->name, entry);
}

static void take_record(weir_delivery *self, weir_entry *entry, weir_subject *subject,
                        const weir_run *origin)
{
    if (!weir_delivery_wants(self, entry, subject, origin)) return;
    const char *error = render(self, &subject->record);
    if (error)
        weir_delivery_refuse(self, entry, subject, origin, error);
    else
        entry->fates.done++;
}

static void keep_waiting(weir_delivery *self, weir_entry *entry)
{
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 64;
        self->waiting = realloc(self->waiting, self->capacity * sizeof *self->waiting);
        if (!self->waiting) abort();
    }
    self->waiting[self->count++] = entry;
}

void weir_delivery_take(weir_delivery *self, weir_entry *entry, weir_block *block)
{
    weir_iterator walk = {.block = block};
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin;
    while (!weir_actor_failed(self->kit) &&
           weir_iterator_next(&walk, &subject.record, &origin))
        take_record(self, entry, &subject, origin);
    keep_waiting(self, entry);
}

const weir_buffer *weir_delivery_output(const weir_delivery *self)
{
    return &self->output;
}

void weir_delivery_written(weir_delivery *self)
{
    weir_count_add(weir_actor_vitals(self->kit), WEIR_COUNT_BYTES_OUT, self->output.size);
    self->output.size = 0;
    self->written = self->count;
    if (self->output.capacity > output_keep_max) weir_buffer_fini(&self->output);
}

void weir_delivery_safe(weir_delivery *self)
{
    size_t written = self->written;
    if (written == 0) return;
    for (size_t i = 0; i < written; i++)
        weir_actor_done(self->kit, self->waiting[i]);
    self->count -= written;
    self->written = 0;
    memmove(self->waiting, self->waiting + written, self->count * sizeof *self->waiting);
}

bool weir_delivery_waiting(const weir_delivery *self)
{
    return self->count > self->written;
}
