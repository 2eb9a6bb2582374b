#include "actors/streams.h"
#include <sys/stat.h>

/* --- Progress ---------------------------------------------------------------------- */

uint64_t weir_stream_unread(const weir_stream *s)
{
    return s->end > s->offset ? s->end - s->offset : 0;
}

void weir_streams_note_extent(weir_streams *self, weir_stream *s, uint64_t offset,
                              uint64_t end, uint64_t read)
{
    uint64_t before = weir_stream_unread(s);
    s->offset = offset;
    s->end = end;
    self->vitals->size_hint += (int64_t)(read + weir_stream_unread(s) - before);
}

/* --- Queue ------------------------------------------------------------------------- */

void weir_streams_enqueue(weir_streams *self, weir_stream *s)
{
    if (s->queued) return;
    s->queued = true;
    s->next = NULL;
    if (self->last)
        self->last->next = s;
    else
        self->first = s;
    self->last = s;
}

void weir_streams_dequeue(weir_streams *self)
{
    weir_stream *s = self->first;
    self->first = s->next;
    if (!self->first) self->last = NULL;
    s->queued = false;
    self->visit_bytes = 0;
}

/*  Round robin; a stream whose framer is being emptied stays, since another stream may
    wait for the rest of its file.                                             */
void weir_streams_requeue(weir_streams *self)
{
    weir_stream *s = self->first;
    weir_streams_dequeue(self);
    weir_streams_enqueue(self, s);
}

/* --- Framers ----------------------------------------------------------------------- */

weir_err weir_streams_need_framer(weir_streams *self, weir_stream *s, uint64_t offset,
                                  weir_report *report)
{
    weir_err err = WEIR_OK;
    if (s->framer) return WEIR_OK;
    if (self->spare_count)
        s->framer = self->spares[--self->spare_count];
    else
        err = weir_intake_framer(self->intake, &s->framer, report);
    if (!err) weir_framer_reset(s->framer, offset);
    return err;
}

void weir_streams_spare_framer(weir_streams *self, weir_stream *s)
{
    if (!s->framer) return;
    if (self->spare_count < WEIR_STREAMS_SPARES)
        self->spares[self->spare_count++] = s->framer;
    else
        weir_framer_destroy(&s->framer);
    s->framer = NULL;
}

void weir_stream_end_framer(weir_stream *s)
{
    if (s->framer) weir_framer_end(s->framer);
    s->ending = true;
}

weir_err weir_streams_begin(weir_streams *self, weir_report *report)
{
    weir_err err = weir_intake_framer(self->intake, &self->spares[0], report);
    self->spare_count = err ? 0 : 1;
    return err;
}

/* --- Generations ------------------------------------------------------------------- */

static bool is_settled(const weir_generation *g)
{
    return !g->lane.first && !g->lane.ready;
}

/*  The generation of a slot that was left; those with nothing open end on the way. */
static weir_generation *find_left(weir_streams *self, int slot)
{
    weir_generation *found = NULL;
    for (weir_generation **at = &self->left; *at;) {
        weir_generation *g = *at;
        if (g->slot != slot && !is_settled(g)) {
            at = &g->next;
            continue;
        }
        *at = g->next;
        if (g->slot == slot)
            found = g;
        else
            free(g);
    }
    return found;
}

void weir_streams_forget_settled(weir_streams *self)
{
    find_left(self, -1);
}

static void leave_generation(weir_streams *self, weir_stream *s)
{
    weir_intake_flush(self->intake); // may hold pieces for this lane
    if (s->now) {
        s->now->next = self->left;
        self->left = s->now;
    }
    s->now = NULL;
}

void weir_streams_begin_file(weir_streams *self, weir_stream *s)
{
    int slot = weir_tail_slot(s->tail);
    uint64_t offset = weir_tail_offset(s->tail);
    leave_generation(self, s);
    s->now = find_left(self, slot);
    if (!s->now) {
        s->now = calloc(1, sizeof *s->now);
        if (!s->now) abort();
        s->now->lane.owner = s->now;
        s->now->slot = slot;
        s->now->committed = offset;
    }
    s->complained = false;
    weir_streams_note_extent(self, s, offset, offset + weir_tail_lag(s->tail), 0);
}

/* --- Streams ----------------------------------------------------------------------- */

static int compare_streams(const void *a, const void *b)
{
    const weir_stream *const *left = a, *const *right = b;
    return strcmp((*left)->path, (*right)->path);
}

static int compare_path(const void *path, const void *at)
{
    const weir_stream *const *s = at;
    return strcmp(path, (*s)->path);
}

weir_stream *weir_streams_find(const weir_streams *self, const char *path)
{
    weir_stream **found = NULL;
    if (self->count)
        found = bsearch(path, self->list, self->count, sizeof *found, compare_path);
    return found ? *found : NULL;
}

static void add_stream(weir_streams *self, const char *path, bool from_end)
{
    if (self->count == self->capacity) {
        self->capacity = self->capacity ? 2 * self->capacity : 16;
        self->list = realloc(self->list, self->capacity * sizeof *self->list);
        if (!self->list) abort();
    }
    weir_stream *s = calloc(1, sizeof *s);
    if (!s) abort();
    s->tail = weir_tail_new(&(weir_tail_config){.path = path,
                                                .from_end = from_end,
                                                .linger_us = self->linger_us},
                            self->positions);
    s->path = strdup(path);
    if (!s->path) abort();
    s->gone_at_us = -1;
    self->list[self->count++] = s;
    self->open++;
    struct stat info;
    if (stat(path, &info) == 0)
        weir_streams_note_extent(self, s, 0, (uint64_t)info.st_size, 0);
    weir_streams_enqueue(self, s);
}

void weir_streams_add(weir_streams *self, const weir_paths *paths, bool from_end)
{
    size_t known = self->count;
    for (size_t i = 0; i < weir_paths_files(paths); i++) {
        const char *path = weir_paths_file(paths, i);
        size_t all = self->count;
        self->count = known;
        bool is_new = !weir_streams_find(self, path);
        self->count = all;
        if (is_new) add_stream(self, path, from_end);
    }
    if (self->count > known)
        qsort(self->list, self->count, sizeof *self->list, compare_streams);
}

static void free_stream(weir_streams *self, weir_stream *s)
{
    if (s->now) {
        s->now->next = self->left;
        self->left = s->now;
    }
    weir_framer_destroy(&s->framer);
    weir_tail_destroy(&s->tail);
    free(s->path);
    free(s);
}

void weir_streams_sweep(weir_streams *self)
{
    size_t kept = 0;
    for (size_t i = 0; i < self->count; i++) {
        weir_stream *s = self->list[i];
        if (s->tail)
            self->list[kept++] = s;
        else
            free_stream(self, s);
    }
    self->count = kept;
}

/*  The queue's first stream has nothing more to give. Another path of the same file
    goes on where this one was; a deleted file needs no position any more.      */
static void end_stream(weir_streams *self)
{
    weir_stream *s = self->first;
    int slot = weir_tail_slot(s->tail);
    uint64_t offset = weir_tail_offset(s->tail);
    bool deleted = weir_tail_deleted(s->tail);
    weir_streams_note_extent(self, s, 0, 0, 0);
    weir_tail_destroy(&s->tail);
    if (deleted)
        weir_positions_forget(self->positions, slot);
    else
        weir_positions_release(self->positions, slot, &offset);
    weir_streams_dequeue(self);
    self->open--;
}

void weir_streams_finish_file(weir_streams *self)
{
    weir_stream *s = self->first;
    weir_streams_spare_framer(self, s);
    leave_generation(self, s);
    s->ending = false;
    if (s->leaving)
        end_stream(self);
    else if (weir_tail_slot(s->tail) >= 0)
        weir_streams_begin_file(self, s);
}

/* --- Ending ------------------------------------------------------------------------ */

void weir_streams_fini(weir_streams *self, weir_actor *kit)
{
    for (size_t i = 0; i < self->count; i++)
        free_stream(self, self->list[i]);
    free(self->list);
    while (self->left) {
        weir_generation *g = self->left;
        self->left = g->next;
        weir_actor_lane_fini(kit, &g->lane);
        free(g);
    }
    while (self->spare_count)
        weir_framer_destroy(&self->spares[--self->spare_count]);
}
