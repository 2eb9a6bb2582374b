/*  What a shard's stream is, and how much of what was sent it has, before more is sent.

        STREAM.INFO --none--> STREAM.CREATE --.
             '--bounds differ--> STREAM.UPDATE --.
             '--fits-----------------------------+--> the last message, at the first time
                                                 '--> each record that is not proven

    Messages are got from the stream's leader (STREAM.MSG.GET): any replica answers a
    direct get, and one that lags behind would call a stored record trimmed.         */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "actors/jetstream_private.h"
#include "runtime/clock.h"

enum {
    asked_max = 64,    // at once
    alone_us = 500000, // how late a server, once it answers, may process what it had
};

static weir_js_writer *writer_of(weir_js_line *line)
{
    return (weir_js_writer *)line;
}

/* --- Asking ------------------------------------------------------------------------ */

static void ask(weir_js_writer *self, weir_js_shard *shard, const char *what,
                weir_js_answered *answered)
{
    char subject[2 * WEIR_JS_NAME];
    weir_js_ask(subject, what, shard->names.stream, "");
    weir_js_line_call(&self->line, subject, &self->scratch, answered, shard);
}

static uint64_t ask_for(weir_js_writer *self, weir_js_shard *shard, uint64_t sequence,
                        weir_js_answered *answered)
{
    self->stats.lookups++;
    self->scratch.size = 0;
    weir_js_put_get(&self->scratch, sequence);
    ask(self, shard, "STREAM.MSG.GET", answered);
    return self->line.last_token;
}

/*  There is no answer. When the connection was lost it is made again at once, and then
    the shard is opened anew.                                                       */
static void give_up(weir_js_writer *self, weir_js_shard *shard,
                    const weir_js_answer *answer)
{
    if (self->line.state == WEIR_LINE_DOWN && weir_js_line_is_open(&self->line))
        shard->state = WEIR_JS_CLOSED;
    else
        weir_js_fail(self, shard, answer->denied ? WEIR_STORE_FATAL : WEIR_STORE_RETRY,
                     false, "%s: %.150s", shard->names.stream, answer->text);
}

/*  Reads the answer; false: it does not count, or the shard has failed. What `spared` is
    the code of is no failure.                                                      */
static bool read_answer(weir_js_writer *self, weir_js_shard *shard, uint64_t token,
                        const weir_js_answer *answer, int spared)
{
    weir_js_response *is = &self->response;
    if (shard->state != WEIR_JS_OPENING || token < shard->first_token) return false;
    if (!answer->msg) {
        give_up(self, shard, answer);
        return false;
    }
    weir_js_response_read(is, answer->msg);
    if (!is->failed || (spared && is->err_code == spared)) return true;
    bool fatal = weir_js_error_is_fatal(is->err_code);
    weir_js_fail(self, shard, fatal ? WEIR_STORE_FATAL : WEIR_STORE_RETRY, false,
                 "%s: %s", shard->names.stream, is->text);
    return false;
}

/* --- Comparing --------------------------------------------------------------------- */

static void ready(weir_js_writer *self, weir_js_shard *shard)
{
    shard->known = true;
    shard->state = WEIR_JS_READY;
    weir_js_rewind(shard);
    weir_js_settle(self, shard);
    weir_js_line_wake(&self->line);
}

static void fail_other_writer(weir_js_writer *self, weir_js_shard *shard,
                              uint64_t position, const char *id)
{
    weir_js_fail(self, shard, WEIR_STORE_FATAL, true,
                 "other_writer: shard %" PRIu32 ": %s has at %" PRIu64
                 " %s%.80s; does another bus have this prefix and name?",
                 shard->id, shard->names.stream, position,
                 *id ? "the record " : "a message without id", id);
}

/*  Whatever lies where our next record belongs is not ours.                         */
static void on_other(weir_js_line *line, void *arg, uint64_t token,
                     const weir_js_answer *answer)
{
    weir_js_writer *self = writer_of(line);
    weir_js_shard *shard = arg;
    char id[WEIR_ID_TEXT] = "";
    if (!read_answer(self, shard, token, answer, WEIR_JS_NO_MESSAGE)) return;
    if (!self->response.failed) weir_js_message_id(&self->response.root, id, sizeof id);
    fail_other_writer(self, shard, shard->position, id);
}

static void on_record(weir_js_line *line, void *arg, uint64_t token,
                      const weir_js_answer *answer);

static void ask_for_more(weir_js_writer *self, weir_js_shard *shard)
{
    while (shard->asked < shard->to_ask && shard->asked - shard->right < asked_max) {
        uint64_t sequence = shard->position + shard->asked - shard->right;
        shard->tokens[shard->asked++] = ask_for(self, shard, sequence, on_record);
    }
}

static void begin_comparing(weir_js_writer *self, weir_js_shard *shard)
{
    uint64_t others = shard->found.last - shard->position + 1;
    shard->asked = shard->right = 0;
    shard->to_ask = others < shard->maybe ? (uint32_t)others : shard->maybe;
    shard->tokens = realloc(shard->tokens, shard->to_ask * sizeof *shard->tokens);
    if (!shard->tokens) abort();
    ask_for_more(self, shard);
}

/*  The stream has less than was acknowledged. A replica that has become its leader may
    only be catching up; so with replicas this must last.                            */
static void fall_behind(weir_js_writer *self, weir_js_shard *shard)
{
    int64_t now_us = weir_clock_now_us(),
            patience_us = 6 * self->store->config.timeout_us;
    if (!shard->behind_us) shard->behind_us = now_us;
    bool lasts =
        self->store->config.replicas == 1 || now_us - shard->behind_us >= patience_us;
    weir_js_fail(self, shard, lasts ? WEIR_STORE_FATAL : WEIR_STORE_RETRY, lasts,
                 "%s: shard %" PRIu32 ": %s ends at %" PRIu64
                 ", and had stored up to %" PRIu64,
                 lasts ? "damage" : "a replica is behind", shard->id, shard->names.stream,
                 shard->found.last, shard->position - 1);
}

/*  Of what was sent the stream has a part from its beginning.                       */
static void compare(weir_js_writer *self, weir_js_shard *shard)
{
    uint64_t last = shard->found.last;
    if (last + 1 < shard->position) {
        fall_behind(self, shard);
        return;
    }
    shard->behind_us = 0;
    if (last + 1 == shard->position)
        ready(self, shard);
    else if (shard->maybe)
        begin_comparing(self, shard);
    else
        ask_for(self, shard, shard->position, on_other);
}

/*  Whether the answer is for the record that was sent as number i. Of one that is gone,
    the stream has had it: its successors are there.                                 */
static bool is_ours(weir_js_writer *self, const weir_js_shard *shard, uint32_t i,
                    char text[WEIR_ID_TEXT])
{
    weir_id id;
    text[0] = '\0';
    if (self->response.failed) return true;
    weir_js_message_id(&self->response.root, text, WEIR_ID_TEXT);
    return weir_id_parse(&id, text) && id.nonce == self->store->config.nonce &&
           id.epoch == shard->epoch && id.shard == shard->id &&
           id.sequence == shard->next + i - shard->right;
}

/*  What an earlier start of the bus had under way, or was given up since, has arrived
    before the one record that was sent: that goes behind it.                        */
static bool is_our_past(const weir_js_writer *self, const weir_js_shard *shard,
                        const char *text)
{
    weir_id id;
    return shard->maybe == 1 && weir_id_parse(&id, text) &&
           id.nonce == self->store->config.nonce && id.shard == shard->id &&
           (id.epoch < shard->epoch ||
            (id.epoch == shard->epoch && id.sequence < shard->next));
}

static void go_behind_our_past(weir_js_writer *self, weir_js_shard *shard)
{
    shard->position = shard->found.last + 1;
    shard->maybe = 0;
    shard->alone_us = weir_clock_now_us() + alone_us;
    ready(self, shard);
}

static void on_record(weir_js_line *line, void *arg, uint64_t token,
                      const weir_js_answer *answer)
{
    weir_js_writer *self = writer_of(line);
    weir_js_shard *shard = arg;
    char text[WEIR_ID_TEXT];
    if (!read_answer(self, shard, token, answer, WEIR_JS_NO_MESSAGE)) return;
    uint32_t i = shard->right;
    while (i < shard->asked && shard->tokens[i] != token)
        i++;
    if (i == shard->asked) return;
    if (!is_ours(self, shard, i, text)) {
        if (is_our_past(self, shard, text))
            go_behind_our_past(self, shard);
        else
            fail_other_writer(self, shard, shard->position + i - shard->right, text);
        return;
    }
    shard->tokens[i] = 0;
    while (shard->right < shard->asked && !shard->tokens[shard->right]) {
        weir_js_prove(self, shard);
        shard->right++;
    }
    if (shard->right == shard->to_ask)
        compare(self, shard);
    else
        ask_for_more(self, shard);
}

/* --- The first time ---------------------------------------------------------------- */

/*  The stream may end with records of this start of the bus, when the store is opened
    anew: they are not stored again.                                                */
static void on_last(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer)
{
    weir_js_writer *self = writer_of(line);
    weir_js_shard *shard = arg;
    char text[WEIR_ID_TEXT] = "";
    weir_id id;
    if (!read_answer(self, shard, token, answer, WEIR_JS_NO_MESSAGE)) return;
    if (!self->response.failed)
        weir_js_message_id(&self->response.root, text, sizeof text);
    bool ours = weir_id_parse(&id, text) && id.nonce == self->store->config.nonce &&
                id.shard == shard->id;
    shard->alone_us = weir_clock_now_us() + alone_us;
    shard->position = shard->found.last + 1;
    shard->epoch = ours ? id.epoch : 0;
    shard->next = ours ? id.sequence + 1 : 0;
    if (shard->first && shard->first->epoch < shard->epoch)
        weir_js_fail(self, shard, WEIR_STORE_FATAL, false,
                     "other_writer: shard %" PRIu32
                     ": %s ends with a later epoch, %" PRIu64,
                     shard->id, shard->names.stream, shard->epoch);
    else
        ready(self, shard);
}

static void go_on(weir_js_writer *self, weir_js_shard *shard)
{
    weir_js_state_read(&shard->found, &self->response.root);
    if (!shard->known) shard->was = shard->found.last;
    if (shard->known) {
        compare(self, shard);
    } else if (shard->found.last) {
        ask_for(self, shard, shard->found.last, on_last);
    } else {
        shard->position = 1;
        ready(self, shard);
    }
}

/* --- The stream -------------------------------------------------------------------- */

/*  Made, or changed to our bounds.                                                 */
static void on_made(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer)
{
    weir_js_writer *self = writer_of(line);
    if (read_answer(self, arg, token, answer, 0)) go_on(self, arg);
}

static void make_stream(weir_js_writer *self, weir_js_shard *shard)
{
    if (shard->known && (shard->position > 1 || shard->maybe)) {
        weir_js_fail(self, shard, WEIR_STORE_FATAL, true,
                     "damage: shard %" PRIu32
                     ": %s is gone, and had stored up to %" PRIu64,
                     shard->id, shard->names.stream, shard->position - 1);
        return;
    }
    self->scratch.size = 0;
    weir_js_put_stream(&self->scratch, &self->store->config, &shard->names);
    ask(self, shard, "STREAM.CREATE", on_made);
}

static void on_info(weir_js_line *line, void *arg, uint64_t token,
                    const weir_js_answer *answer)
{
    weir_js_writer *self = writer_of(line);
    weir_js_shard *shard = arg;
    char why[200];
    if (!read_answer(self, shard, token, answer, WEIR_JS_NO_STREAM)) return;
    if (self->response.failed) {
        make_stream(self, shard);
        return;
    }
    self->scratch.size = 0;
    switch (weir_js_judge_stream(&self->response.root, &self->store->config,
                                 &shard->names, &self->scratch, why)) {
    case WEIR_JS_FITS:
        go_on(self, shard);
        return;
    case WEIR_JS_OUTDATED:
        ask(self, shard, "STREAM.UPDATE", on_made);
        return;
    case WEIR_JS_FOREIGN:
        weir_js_fail(self, shard, WEIR_STORE_FATAL, false,
                     "shard %" PRIu32 ": the stream %s is not this bus's: %s", shard->id,
                     shard->names.stream, why);
    }
}

void weir_js_open(weir_js_writer *self, weir_js_shard *shard)
{
    shard->state = WEIR_JS_OPENING;
    weir_js_rewind(shard);
    shard->first_token = self->line.last_token + 1;
    self->scratch.size = 0;
    ask(self, shard, "STREAM.INFO", on_info);
}
