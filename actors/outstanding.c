#include "actors/outstanding.h"
#include "actors/group_window.h"

typedef struct sent {
    struct sent *next;
    weir_entry *entry;
    weir_position *at; // of each record, owned
    uint32_t records;
    bool *given_back; // of each record, owned; NULL: none
} sent;

typedef struct weir_sent_lane {
    struct weir_sent_lane *next;
    uint32_t shard;
    weir_lane lane; // its owner is this struct
    sent *first, **end;
} lane;

static lane *lane_of(weir_outstanding *self, uint32_t shard)
{
    lane *l = self->lanes;
    while (l && l->shard != shard)
        l = l->next;
    if (l) return l;
    l = calloc(1, sizeof *l);
    if (!l) abort();
    l->shard = shard;
    l->lane.owner = l;
    l->end = &l->first;
    l->next = self->lanes;
    return self->lanes = l;
}

static void drop_first(lane *l)
{
    sent *s = l->first;
    l->first = s->next;
    if (!l->first) l->end = &l->first;
    free(s->at);
    free(s->given_back);
    free(s);
}

void weir_outstanding_fini(weir_outstanding *self, weir_actor *kit)
{
    while (self->lanes) {
        lane *l = self->lanes;
        self->lanes = l->next;
        weir_actor_lane_fini(kit, &l->lane);
        while (l->first)
            drop_first(l);
        free(l);
    }
}

void weir_outstanding_send(weir_outstanding *self, weir_actor *kit, int port,
                           uint32_t shard, weir_block **block_p, weir_position **at_p)
{
    lane *l = lane_of(self, shard);
    uint32_t records = weir_block_records(*block_p);
    sent *s = calloc(1, sizeof *s);
    if (!s) abort();
    s->records = records;
    s->at = *at_p;
    *at_p = NULL;
    s->entry = weir_actor_open(kit, &l->lane, records, s->at[records - 1].a, 0);
    s->entry->fates.done = records;
    *l->end = s;
    l->end = &s->next;
    weir_entry *entry = s->entry; // what is sent may be settled at once
    weir_actor_send(kit, port, block_p, entry);
    weir_actor_done(kit, entry);
}

/*  Its last record that was not given back; NULL: there is none.                    */
static const weir_position *last_taken(const sent *s)
{
    uint32_t i = s->records;
    while (i > 0 && s->given_back && s->given_back[i - 1])
        i--;
    return i ? &s->at[i - 1] : NULL;
}

/*  What came again lies before what was sent ahead of it, so one acknowledgement may not
    stand for both.                                                                 */
weir_err weir_outstanding_commit(const weir_entry *entry, weir_outstanding_ack *ack,
                                 void *arg, weir_report *report)
{
    lane *l = entry->lane->owner;
    weir_position at = {0};
    weir_err err = WEIR_OK;
    bool last = false;
    while (l->first && !last && !err) {
        sent *s = l->first;
        last = s->entry == entry;
        const weir_position *next = last_taken(s);
        if (next && weir_position_order(*next, at) < 0)
            err = ack(arg, l->shard, at, report);
        if (next) at = *next;
        drop_first(l);
    }
    return err || !at.a ? err : ack(arg, l->shard, at, report);
}

/*  Gives back those that were not yet; how many they are.                           */
static weir_err give_back(lane *l, sent *s, const weir_refused *refusal,
                          weir_outstanding_nack *nack, void *arg, uint32_t *count)
{
    char why[400];
    weir_err err = WEIR_OK;
    uint32_t refused = refusal->which ? weir_block_records(refusal->block) : s->records;
    snprintf(why, sizeof why, "%s: %s", refusal->code, refusal->text);
    if (!s->given_back) s->given_back = calloc(s->records, sizeof *s->given_back);
    if (!s->given_back) abort();
    for (uint32_t i = 0; i < refused && !err; i++) {
        uint32_t index = refusal->which ? refusal->which[i] : i;
        if (s->given_back[index]) continue;
        s->given_back[index] = true;
        ++*count;
        err = nack(arg, l->shard, s->at[index], why);
    }
    return err;
}

weir_err weir_outstanding_refuse(weir_actor *kit, weir_entry *entry,
                                 const weir_refused *refusal, weir_outstanding_nack *nack,
                                 void *arg)
{
    lane *l = entry->lane->owner;
    sent *s = l->first;
    uint32_t count = 0;
    while (s->entry != entry)
        s = s->next;
    weir_err err = give_back(l, s, refusal, nack, arg, &count);
    if (err) return err;
    entry->fates.done -= count;
    weir_actor_recall(kit, entry, count);
    return WEIR_OK;
}
