/*  Which shards there are, and what they have: the streams of the server with our names.
    Who asks gets the last list at once, and has the server asked again when it is old;
    only the first one waits.                                                       */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "actors/jetstream_private.h"
#include "runtime/clock.h"

enum { fresh_us = 1000000, wait_us = 1000000 };

static void on_list(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer);

/*  Streams come in pages, in the order of their names.                              */
static void ask(weir_js_reader *self)
{
    const weir_jetstream_config *config = &self->store->config;
    self->scratch.size = 0;
    weir_buffer_printf(&self->scratch, "{\"offset\":%zu,\"subject\":\"%s.%s.*\"}",
                       self->list_seen, config->prefix, config->bus);
    weir_js_line_call(&self->line, "$JS.API.STREAM.LIST", &self->scratch, on_list, self);
}

static void end(weir_js_reader *self, const char *error)
{
    self->listing = false;
    self->list_number++;
    snprintf(self->list_error, sizeof self->list_error, "%s", error);
    if (!*error) {
        free(self->list);
        self->list = self->next_list;
        self->list_count = self->next_count;
        self->next_list = NULL;
        memcpy(self->foreign, self->next_foreign, sizeof self->foreign);
        self->has_list = true;
        self->listed_us = weir_clock_now_us();
    }
    pthread_cond_broadcast(&self->listed);
}

/*  The first one that this bus could not write to is remembered.                     */
static void judge(weir_js_reader *self, uint32_t shard, const weir_value *stream)
{
    char why[200];
    weir_js_names names;
    if (self->next_foreign[0]) return;
    weir_js_names_make(&names, &self->store->config, shard);
    self->scratch.size = 0;
    if (weir_js_judge_stream(stream, &self->store->config, &names, &self->scratch, why) ==
        WEIR_JS_FOREIGN)
        snprintf(self->next_foreign, sizeof self->next_foreign,
                 "the stream %.140s is not this bus's: %.80s", names.stream, why);
}

static void add(weir_js_reader *self, const weir_value *stream)
{
    char name[WEIR_JS_NAME];
    weir_value config;
    weir_js_state state;
    uint32_t shard;
    weir_js_member(stream, "config", &config);
    weir_js_text(&config, "name", name, sizeof name);
    weir_js_state_read(&state, stream);
    if (!weir_js_names_shard(&self->store->config, name, strlen(name), &shard)) return;
    judge(self, shard, stream);
    if (!state.last) return;
    self->next_list =
        realloc(self->next_list, (self->next_count + 1) * sizeof *self->next_list);
    if (!self->next_list) abort();
    self->next_list[self->next_count++] = (weir_store_shard){
        .shard = shard,
        .first = state.first,
        .last = state.last,
        .begin.a = state.first ? state.first - 1 : 0,
        .end.a = state.last,
        .records = state.messages,
        .bytes = state.bytes,
        .trimmed = state.last - state.messages,
        .oldest_ms = state.first_ms,
        .newest_ms = state.last_ms,
    };
}

static void on_list(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer)
{
    (void)line, (void)token;
    weir_js_reader *self = arg;
    weir_value streams, missing, key, stream;
    weir_walk walk = {0}, first = {0};
    size_t before = self->list_seen;
    if (answer->msg) weir_js_response_read(&self->response, answer->msg);
    if (!answer->msg || self->response.failed) {
        end(self, answer->msg ? self->response.text : answer->text);
        return;
    }
    weir_js_member(&self->response.root, "streams", &streams);
    if (weir_js_member(&self->response.root, "missing", &missing) &&
        weir_value_next(&missing, &first, &key, &stream)) {
        end(self, "the leaders of some of them do not answer");
        return;
    }
    while (weir_value_next(&streams, &walk, &key, &stream)) {
        add(self, &stream);
        self->list_seen++;
    }
    if (self->list_seen > before &&
        self->list_seen < weir_js_number(&self->response.root, "total"))
        ask(self);
    else
        end(self, "");
}

static void begin(weir_js_reader *self)
{
    self->listing = true;
    self->next_count = self->list_seen = 0;
    self->next_foreign[0] = '\0';
    free(self->next_list);
    self->next_list = NULL;
    weir_js_line_want(&self->line);
    ask(self);
}

/*  Until there is an answer. 0, or why there is none.                               */
static const char *wait_for_list(weir_js_reader *self)
{
    struct timespec end_at;
    uint64_t number = self->list_number;
    int64_t timeout_us = self->store->config.timeout_us;
    if (timeout_us > wait_us) timeout_us = wait_us; // actors wait with it
    int rc = 0;
    clock_gettime(CLOCK_MONOTONIC, &end_at);
    int64_t ns = end_at.tv_nsec + timeout_us % 1000000 * 1000;
    end_at.tv_sec += timeout_us / 1000000 + ns / 1000000000;
    end_at.tv_nsec = ns % 1000000000;
    while (!self->has_list && self->list_number == number && !rc)
        rc = pthread_cond_timedwait(&self->listed, &self->line.mutex, &end_at);
    if (self->has_list) return NULL;
    return rc ? "no answer in time" : self->list_error;
}

static int by_shard(const void *a, const void *b)
{
    const weir_store_shard *x = a, *y = b;
    return (x->shard > y->shard) - (x->shard < y->shard);
}

weir_err weir_js_shards(weir_store *store, weir_store_shard **list, size_t *count,
                        weir_report *report)
{
    weir_js_store *self = (weir_js_store *)store;
    weir_js_reader *reader = &self->reader;
    weir_js_line *line = &reader->line;
    const char *why = NULL;
    weir_err err = WEIR_OK;
    pthread_mutex_lock(&line->mutex);
    bool fresh = reader->has_list && weir_clock_now_us() - reader->listed_us < fresh_us;
    if (!fresh && !reader->listing && weir_js_line_is_open(line)) begin(reader);
    if (!reader->has_list)
        why = reader->listing
                  ? wait_for_list(reader)
                  : (line->closing ? "the store is being closed" : line->error);
    *count = why ? 0 : reader->list_count;
    *list = why ? NULL : calloc(*count + 1, sizeof **list);
    if (!why && !*list) abort();
    if (*count) memcpy(*list, reader->list, *count * sizeof **list);
    if (why)
        err = weir_report_set(report, line->fatal ? WEIR_EREFUSED : WEIR_ECLOSED,
                              line->config.shown, "cannot list its streams: %s", why);
    pthread_mutex_unlock(&line->mutex);
    if (err) return err;
    weir_js_writer_add_rows(&self->writer, list, count);
    qsort(*list, *count, sizeof **list, by_shard);
    return WEIR_OK;
}

void weir_jetstream_foreign(weir_store *store, char why[256])
{
    weir_js_reader *reader = &((weir_js_store *)store)->reader;
    pthread_mutex_lock(&reader->line.mutex);
    memcpy(why, reader->foreign, sizeof reader->foreign);
    pthread_mutex_unlock(&reader->line.mutex);
}
