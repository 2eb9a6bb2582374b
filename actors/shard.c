#include "actors/shard.h"
#include "runtime/clock.h"
#include "runtime/handover.h"
#include "runtime/log.h"

typedef struct {
    weir_actor *kit;
    const weir_shard_config *config;
    weir_ring *ring;
    weir_batcher *batcher;
    weir_dispatch *dispatch; // NULL: no store
    int port;                // of the readers; -1: there is a store
    weir_entry *offered;     // whose block the ring is taking in now
    weir_fence *fences;      // for the first batch behind a release
    uint32_t fence_count;
    bool fences_due;   // the bus's node is to be woken when none is left to be stored
    struct sent *sent; // list of the batches that readers have not acknowledged
    uint64_t safe, dead, under_way, batches;
    bool closed;
    char failing[64], holder[64]; // told as waits: the store, a group; "": none
} shard;

/*  A batch that readers have to acknowledge.                                       */
typedef struct sent {
    weir_entry entry; // stands alone
    struct sent *next, **at;
    shard *owner;
    weir_batch *batch;
} sent;

/*  What the store has not answered is looked at so often; so late is a wait.       */
static const int64_t notable_us = 300000, long_us = 1000000;

/* --- What becomes of records ------------------------------------------------------- */

/*  The fate of so many records of the entry is known. While its block is being taken in
    the others are looked at afterwards.                                            */
static void decide(shard *self, weir_entry *entry, uint32_t records)
{
    entry->pending -= records;
    if (!entry->pending && entry != self->offered) weir_actor_done(self->kit, entry);
}

static void ring_shed(void *arg, weir_entry *entry, uint32_t records)
{
    entry->fates.shed += records;
    decide(arg, entry, records);
}

/*  Credit goes back when the block is out of the ring.                             */
static void ring_left(void *arg, weir_entry *entry, uint32_t records)
{
    shard *self = arg;
    entry->inside -= records;
    if (!entry->inside) weir_actor_grant(self->kit, entry);
}

static void bury(shard *self, const weir_piece *piece, uint32_t first, uint32_t count,
                 const weir_dispatch_loss *loss)
{
    weir_iterator walk = {.block = piece->block};
    weir_record record;
    const weir_run *origin;
    for (uint32_t i = 0; weir_iterator_next(&walk, &record, &origin); i++) {
        if (i < first || i >= first + count) continue;
        weir_dead *dead = weir_dead_new(weir_actor_node(self->kit)->name, loss->reason,
                                        loss->text, loss->attempts, &record,
                                        origin->source, origin->peer, origin->label);
        weir_entry_add_dead(piece->entry, &dead);
    }
}

/*  Readers of a store read what is in it; those of a bus without one are shown what they
    are sent, by the kit.                                                           */
static void show_stored(shard *self, const weir_piece *piece, uint32_t first,
                        uint32_t count)
{
    const weir_node *node = weir_actor_node(self->kit);
    weir_iterator walk = {.block = piece->block};
    if (count == weir_block_records(piece->block)) {
        weir_tap_look(node->tap, node->name, piece->block);
        return;
    }
    while (first--)
        weir_iterator_skip(&walk);
    weir_block *part = weir_iterator_cut(&walk, count, SIZE_MAX);
    weir_tap_look(node->tap, node->name, part);
    weir_block_destroy(&part);
}

static void settle_piece(shard *self, const weir_piece *piece, uint32_t first,
                         uint32_t count, const weir_dispatch_loss *loss)
{
    self->under_way -= count;
    if (loss) {
        self->dead += count;
        piece->entry->fates.dead += count;
        bury(self, piece, first, count, loss);
    } else {
        if (self->dispatch) show_stored(self, piece, first, count);
        self->safe += count;
        piece->entry->fates.done += count;
    }
    decide(self, piece->entry, count);
}

/*  Records first .. first + count - 1 of the batch, piece by piece.                */
static void settled(void *arg, const weir_batch *batch, uint32_t first, uint32_t count,
                    const weir_dispatch_loss *loss)
{
    for (uint32_t i = 0; i < batch->piece_count && count; i++) {
        const weir_piece *piece = &batch->pieces[i];
        uint32_t records = weir_block_records(piece->block);
        if (first >= records) {
            first -= records;
            continue;
        }
        uint32_t here = records - first < count ? records - first : count;
        settle_piece(arg, piece, first, here, loss);
        count -= here;
        first = 0;
    }
}

static void batch_ended(void *arg)
{
    shard *self = arg;
    weir_batcher_settled(self->batcher);
}

static void store_failed(void *arg, const char *text)
{
    shard *self = arg;
    weir_actor_fail(self->kit, WEIR_ESTOP, NULL, "shard %" PRIu32 ": %s",
                    self->config->id, text);
}

/* --- Dispatching ------------------------------------------------------------------- */

static void free_sent(sent *s)
{
    *s->at = s->next;
    if (s->next) s->next->at = s->at;
    weir_batch_destroy(&s->batch);
    free(s);
}

static void batch_acknowledged(weir_entry *entry)
{
    sent *s = (sent *)entry;
    shard *self = s->owner;
    settled(self, s->batch, 0, s->batch->records, NULL);
    weir_batcher_settled(self->batcher);
    free_sent(s);
}

/*  Small pieces, as they come from outlets with many shards, are put together: a copy
    costs less than a block on a link.                                              */
static bool is_small(const shard *self, const weir_block *block)
{
    size_t runs;
    weir_block_runs(block, &runs);
    return runs == 1 &&
           weir_block_size(block) < weir_actor_node(self->kit)->block_bytes / 4;
}

static void send_gathered(shard *self, weir_builder *builder, weir_entry *entry)
{
    weir_block *block = weir_builder_seal(builder);
    if (block) weir_actor_send(self->kit, self->port, &block, entry);
}

static void send_piece(shard *self, weir_builder *builder, weir_block *block,
                       weir_entry *entry)
{
    size_t runs;
    if (is_small(self, block)) {
        weir_builder_add_encoded(builder, weir_block_body(block), weir_block_size(block),
                                 weir_block_records(block),
                                 weir_block_runs(block, &runs));
        if (weir_builder_full(builder)) send_gathered(self, builder, entry);
        return;
    }
    send_gathered(self, builder, entry);
    weir_block *whole = weir_block_dup(block);
    weir_actor_send(self->kit, self->port, &whole, entry);
}

static void send_to_readers(shard *self, weir_batch *batch)
{
    const weir_node *node = weir_actor_node(self->kit);
    weir_builder builder = {.ledger = node->ledger, .target = node->block_bytes};
    sent *s = calloc(1, sizeof *s);
    if (!s) abort();
    s->owner = self;
    s->batch = batch;
    s->entry.holds = 1;
    s->entry.released = batch_acknowledged;
    s->next = self->sent;
    s->at = &self->sent;
    if (s->next) s->next->at = &s->next;
    self->sent = s;
    for (uint32_t i = 0; i < batch->piece_count; i++)
        send_piece(self, &builder, batch->pieces[i].block, &s->entry);
    send_gathered(self, &builder, &s->entry);
    weir_builder_fini(&builder);
    if (--s->entry.holds == 0) batch_acknowledged(&s->entry);
}

static void dispatch(shard *self, weir_batch *batch, int64_t now_us)
{
    self->batches++;
    self->under_way += batch->records;
    if (!self->dispatch) {
        send_to_readers(self, batch);
        return;
    }
    batch->fences = self->fences;
    batch->fence_count = self->fence_count;
    self->fences = NULL;
    self->fence_count = 0;
    weir_dispatch_send(self->dispatch, &batch, now_us);
}

static bool has_fences(const shard *self)
{
    return self->fence_count ||
           (self->dispatch && weir_dispatch_has_fences(self->dispatch));
}

static void tell_fences(shard *self)
{
    if (!self->fences_due || has_fences(self)) return;
    self->fences_due = false;
    weir_vitals_wake(weir_actor_vitals(self->kit));
}

/*  All that came before it is in a batch: it is answered when that is settled.     */
static void token_passed(void *arg, weir_entry *entry)
{
    shard *self = arg;
    weir_actor_done(self->kit, entry);
}

static void dispatch_what_is_due(shard *self, int64_t now_us)
{
    weir_batch *batch;
    while (!weir_actor_failed(self->kit) &&
           (self->dispatch || weir_actor_has_room(self->kit)) &&
           (batch =
                weir_batcher_next(self->batcher, self->ring, now_us, token_passed, self)))
        dispatch(self, batch, now_us);
}

/* --- Telling ----------------------------------------------------------------------- */

/*  Notes a wait for this subject ("": for nothing) instead of the one that was told.
    Gives whether it begins. */
static bool tell_wait(shard *self, weir_wait_kind kind, char told[64],
                      const char *subject, const char *text)
{
    weir_vitals *vitals = weir_actor_vitals(self->kit);
    bool changed = strcmp(told, subject) != 0;
    if (changed && *told) weir_vitals_flow(vitals, kind, told);
    if (*subject) weir_vitals_wait(vitals, kind, subject, "%s", text);
    snprintf(told, 64, "%s", subject);
    return changed && *subject;
}

static void tell_hold(shard *self, bool held)
{
    weir_store *store = self->config->store;
    weir_store_hold hold = {.lag = 0};
    char text[192] = "";
    if (held && store->class->hold && store->class->hold(store, self->config->id, &hold))
        snprintf(text, sizeof text,
                 "the group %s has not read %" PRIu64 " records of shard %" PRIu32,
                 hold.group, hold.lag, self->config->id);
    tell_wait(self, WEIR_WAIT_HELD, self->holder, hold.group, text);
}

static void tell_store(shard *self, const weir_dispatch_stats *stats, int64_t now_us)
{
    tell_hold(self, stats->held);
    bool failing = stats->failing_since_us && !stats->held;
    bool silent =
        !failing && !stats->held && stats->since_us && now_us - stats->since_us > long_us;
    char text[320] = "";
    if (failing)
        snprintf(text, sizeof text, "cannot store shard %" PRIu32 ": %s",
                 self->config->id, stats->error);
    else if (silent)
        snprintf(text, sizeof text,
                 "waits for its store, which does not answer, with shard %" PRIu32,
                 self->config->id);
    if (tell_wait(self, WEIR_WAIT_WRITE, self->failing, *text ? "store" : "", text))
        weir_log(WEIR_WARN, "store does not take it shard=%" PRIu32 " cause=\"%s\"",
                 self->config->id, failing ? stats->error : "no answer");
}

/*  Of what readers have not acknowledged.                                          */
static int64_t oldest_sent(const shard *self)
{
    const sent *s = self->sent;
    while (s && s->next)
        s = s->next;
    return s ? weir_batch_oldest_us(s->batch) : 0;
}

/*  Records leave in the order in which they came, but for parked ones, so what is
    furthest on is the oldest. */
static int64_t oldest(const shard *self, const weir_shard_stats *stats)
{
    int64_t ahead = self->dispatch ? stats->dispatch.oldest_us : oldest_sent(self);
    if (!ahead) ahead = weir_batcher_opened_us(self->batcher);
    int64_t waits = stats->ring.oldest_us;
    return ahead && (!waits || ahead < waits) ? ahead : waits;
}

static void look(shard *self, weir_shard_stats *stats, int64_t now_us)
{
    *stats = (weir_shard_stats){.at_us = now_us,
                                .safe = self->safe,
                                .dead = self->dead,
                                .open = weir_batcher_open_records(self->batcher),
                                .under_way = self->under_way,
                                .batches = self->batches,
                                .target = weir_batcher_target(self->batcher, now_us)};
    weir_ring_look(self->ring, now_us, &stats->ring);
    if (self->dispatch) weir_dispatch_look(self->dispatch, &stats->dispatch);
    stats->oldest_us = oldest(self, stats);
}

static void publish(shard *self, int64_t now_us)
{
    weir_shard_window *window = self->config->window;
    weir_shard_stats stats;
    look(self, &stats, now_us);
    if (self->dispatch) tell_store(self, &stats.dispatch, now_us);
    if (!window) return;
    pthread_mutex_lock(&window->lock);
    window->stats = stats;
    pthread_mutex_unlock(&window->lock);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static void store_answered(void *arg)
{
    shard *self = arg;
    weir_dispatch_read(self->dispatch, weir_clock_now_us());
}

static weir_err open_dispatch(shard *self, weir_report *report)
{
    const weir_shard_config *c = self->config;
    weir_err err = weir_dispatch_new(&self->dispatch, &(weir_dispatch_config){
                                                          .store = c->store,
                                                          .shard = c->id,
                                                          .nonce = c->nonce,
                                                          .retry = c->retry,
                                                          .settled = settled,
                                                          .ended = batch_ended,
                                                          .failed = store_failed,
                                                          .arg = self,
                                                      });
    if (!err)
        err =
            weir_actor_watch(self->kit, weir_dispatch_fd(self->dispatch), store_answered);
    return err ? weir_report_set(report, err, NULL, "no descriptors left") : WEIR_OK;
}

static weir_err init(void *arg, weir_actor *kit, const void *config, weir_report *report)
{
    shard *self = arg;
    self->kit = kit;
    self->config = config;
    weir_ring_config ring = self->config->ring;
    ring.shed = ring_shed;
    ring.left = ring_left;
    ring.arg = self;
    self->ring = weir_ring_new(&ring);
    self->batcher =
        weir_batcher_new(&self->config->batch, self->config->id, self->config->epoch);
    self->port = -1;
    if (self->config->store) return open_dispatch(self, report);
    self->port = weir_actor_port(kit, weir_actor_node(kit)->name);
    return WEIR_OK;
}

/*  The links, which end later, tell nobody of what was not acknowledged. What was settled
    since the last turn is published: after a failure there is none.                */
static void fini(void *arg)
{
    shard *self = arg;
    if (self->ring) publish(self, weir_clock_now_us());
    while (self->sent)
        free_sent(self->sent);
    weir_dispatch_destroy(&self->dispatch);
    weir_batcher_destroy(&self->batcher);
    weir_ring_destroy(&self->ring);
    free(self->fences);
}

static void nothing(void *arg)
{
    (void)arg;
}

/*  That the store holds something back is told by no event.                        */
static int64_t when_to_look(const shard *self, int64_t now_us)
{
    int64_t due = weir_dispatch_deadline(self->dispatch);
    return self->under_way ? weir_earlier(due, now_us + notable_us) : due;
}

/*  A timer makes the next turn come.                                               */
static bool turn(void *arg)
{
    shard *self = arg;
    int64_t now = weir_clock_now_us();
    if (self->dispatch) weir_dispatch_run_due(self->dispatch, now);
    dispatch_what_is_due(self, now);
    tell_fences(self);
    bool blocks = self->config->ring.overflow == WEIR_OVERFLOW_BLOCK;
    weir_actor_hold(self->kit, blocks && weir_ring_is_full(self->ring));
    bool may_send = self->dispatch || weir_actor_has_room(self->kit);
    int64_t due = may_send ? weir_batcher_deadline(self->batcher) : -1;
    if (self->dispatch) due = weir_earlier(due, when_to_look(self, now));
    weir_actor_timer(self->kit, nothing, due < 0 ? -1 : due > now ? due - now : 0);
    publish(self, now);
    return false;
}

/* --- Messages ---------------------------------------------------------------------- */

static size_t largest_record(const weir_block *block)
{
    weir_iterator walk = {.block = block};
    size_t largest = 0;
    for (size_t size; (size = weir_iterator_skip(&walk));)
        if (size > largest) largest = size;
    return largest;
}

static void refuse(shard *self, weir_entry *entry, const weir_block *block, weir_err err)
{
    char text[160];
    if (err == WEIR_EFULL) {
        weir_actor_refuse(self->kit, entry, "full", "the bus is full", true);
        return;
    }
    snprintf(text, sizeof text,
             "a record of %zu bytes is larger than half of ring_bytes, %" PRId64 " bytes",
             largest_record(block), self->config->ring.bytes / 2);
    weir_actor_refuse(self->kit, entry, "too_large", text, false);
}

static void recv_block(void *arg, weir_entry *entry, weir_block *block)
{
    shard *self = arg;
    int64_t now = weir_clock_now_us();
    if (self->closed) {
        weir_ring_reject(self->ring, WEIR_REJECT_CLOSED, entry->records);
        weir_actor_refuse(self->kit, entry, "closed", "the bus is closed", false);
        return;
    }
    entry->pending = entry->inside = entry->records;
    self->offered = entry;
    weir_err err = weir_ring_offer(self->ring, block, entry, now);
    self->offered = NULL;
    if (err) {
        refuse(self, entry, block, err);
        return;
    }
    weir_batcher_arrived(self->batcher, entry->records, now);
    if (self->config->ring.overflow != WEIR_OVERFLOW_BLOCK)
        weir_actor_grant(self->kit, entry);
    if (!entry->pending) weir_actor_done(self->kit, entry);
}

/*  What is open must not wait for more, so the token takes its place in the ring.  */
static void recv_token(void *arg, weir_entry *entry, weir_token_kind kind,
                       uint64_t argument)
{
    shard *self = arg;
    (void)kind;
    (void)argument;
    weir_ring_put_token(self->ring, entry, weir_clock_now_us());
}

/* --- Commands ---------------------------------------------------------------------- */

static weir_err cmd_park(void *arg, zmsg_t *args, zmsg_t *reply)
{
    shard *self = arg;
    (void)reply;
    char *text = zmsg_popstr(args);
    void *address = NULL;
    bool good = text && sscanf(text, "%p", &address) == 1;
    zstr_free(&text);
    if (!good) return WEIR_EINVAL;
    const weir_park_set *set = address;
    weir_handover_take(set);
    weir_ring_park(self->ring, set->bits, set->vnodes);
    weir_handover_give(set);
    return WEIR_OK;
}

static weir_err add_fence(shard *self, const char *text)
{
    weir_fence fence = {.to = self->config->id};
    if (sscanf(text, "%" SCNu32 ":%" SCNu64, &fence.from, &fence.last.a) != 2)
        return WEIR_EINVAL;
    for (uint32_t i = 0; i < self->fence_count; i++) {
        if (self->fences[i].from != fence.from) continue;
        self->fences[i].last = fence.last; // it only grows
        return WEIR_OK;
    }
    self->fences = realloc(self->fences, (self->fence_count + 1) * sizeof *self->fences);
    if (!self->fences) abort();
    self->fences[self->fence_count++] = fence;
    return WEIR_OK;
}

static weir_err cmd_release(void *arg, zmsg_t *args, zmsg_t *reply)
{
    shard *self = arg;
    weir_err err = WEIR_OK;
    for (char *text; !err && (text = zmsg_popstr(args)); zstr_free(&text))
        err = add_fence(self, text);
    self->fences_due = self->fences_due || self->fence_count;
    if (!err) zmsg_addstrf(reply, "%" PRIu64, weir_ring_release(self->ring));
    return err;
}

static weir_err cmd_fenced(void *arg, zmsg_t *args, zmsg_t *reply)
{
    shard *self = arg;
    (void)args;
    zmsg_addstr(reply, has_fences(self) ? "0" : "1");
    return WEIR_OK;
}

static weir_err cmd_retire(void *arg, zmsg_t *args, zmsg_t *reply)
{
    shard *self = arg;
    (void)args;
    (void)reply;
    weir_batcher_hurry(self->batcher);
    weir_actor_end(self->kit);
    return WEIR_OK;
}

static weir_err cmd_hurry(void *arg, zmsg_t *args, zmsg_t *reply)
{
    shard *self = arg;
    (void)args;
    (void)reply;
    weir_batcher_hurry(self->batcher);
    return WEIR_OK;
}

static weir_err cmd_close(void *arg, zmsg_t *args, zmsg_t *reply)
{
    shard *self = arg;
    (void)args;
    (void)reply;
    self->closed = true;
    return WEIR_OK;
}

/* --- Tables ------------------------------------------------------------------------ */

static const weir_shard_config defaults = {
    .ring = {.records = 262144, .bytes = 64 << 20, .one_in = 1},
    .batch = WEIR_BATCH_DEFAULTS,
    .retry = WEIR_RETRY_DEFAULTS,
};

static const weir_option options[] = {{.name = NULL}};

static const weir_command commands[] = {
    {"PARK", cmd_park, "address -> ; records of the vnodes of this set are parked"},
    {"RELEASE", cmd_release,
     "[from:last_offset]... -> records ; parked records go on, their first batch with "
     "these fences"},
    {"FENCED", cmd_fenced, "-> 1 | 0 ; whether all fences are stored"},
    {"RETIRE", cmd_retire, "-> ; ends when all that it has is safe"},
    {"HURRY", cmd_hurry, "-> ; no record waits for others any more"},
    {"CLOSE", cmd_close, "-> ; blocks are refused as closed"},
    {NULL, NULL, NULL},
};

const weir_class weir_shard_class = {
    .name = "shard",
    .help = "a shard of a bus",
    .actor = weir_shard,
    .size = sizeof(shard),
    .config_size = sizeof(weir_shard_config),
    .defaults = &defaults,
    .options = options,
    .commands = commands,
    .inlet = true,
    .init = init,
    .fini = fini,
    .recv_block = recv_block,
    .recv_token = recv_token,
    .turn = turn,
};

void weir_shard(zsock_t *pipe, void *config)
{
    weir_actor_run(&weir_shard_class, pipe, config);
}
