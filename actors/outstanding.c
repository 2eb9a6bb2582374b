#include "actors/outstanding.h"
#include "actors/group_window.h"

typedef struct sent {
    struct sent *next;
    weir_entry *entry;
    weir_position *at; // of each record, owned
    uint32_t records;
    bool refused; // given back
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
        weir_position next = s->refused ? at : s->at[s->records - 1];
        if (weir_position_order(next, at) < 0) err = ack(arg, l->shard, at, report);
        at = next;
        drop_first(l);
    }
    return err || !at.a ? err : ack(arg, l->shard, at, report);
}

weir_err weir_outstanding_refuse(weir_actor *kit, weir_entry *entry, const char *code,
                                 const char *text, weir_outstanding_nack *nack, void *arg)
{
    lane *l = entry->lane->owner;
    char why[400];
    weir_err err = WEIR_OK;
    sent *s = l->first;
    while (s->entry != entry)
        s = s->next;
    snprintf(why, sizeof why, "%s: %s", code, text);
    s->refused = true;
    for (uint32_t i = 0; i < s->records && !err; i++)
        err = nack(arg, l->shard, s->at[i], why);
    if (err) return err;
    entry->fates.done = 0;
    weir_actor_recall(kit, entry);
    return WEIR_OK;
}
