#include "runtime/relay.h"

/*  A block that waits for room.                                               */
typedef struct waiting {
    struct waiting *next;
    weir_entry *entry;
    weir_block *block; // owned reference
} waiting;

struct weir_relay {
    weir_actor *kit;
    int port;
    weir_screen *screen;
    weir_doc doc; // scratch of the screen
    waiting *first, **end;
};

weir_err weir_relay_new(weir_relay **self_p, weir_actor *kit, int port,
                        const weir_screen_config *screen, weir_report *report)
{
    weir_relay *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->kit = kit;
    self->port = port;
    self->end = &self->first;
    *self_p = self;
    return weir_screen_new(&self->screen, screen, NULL, report);
}

static waiting *pop(weir_relay *self)
{
    waiting *first = self->first;
    self->first = first->next;
    if (!self->first) self->end = &self->first;
    return first;
}

void weir_relay_destroy(weir_relay **self_p)
{
    weir_relay *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    while (self->first) {
        waiting *w = pop(self);
        weir_block_destroy(&w->block);
        free(w);
    }
    weir_screen_destroy(&self->screen);
    weir_doc_fini(&self->doc);
    free(self);
}

/*  The records that pass: the same block when all do, NULL when none does.    */
static weir_block *sift(weir_relay *self, weir_entry *entry, weir_block *block)
{
    const weir_node *node = weir_actor_node(self->kit);
    if (weir_screen_is_open(self->screen)) {
        entry->fates.done = entry->records;
        return weir_block_dup(block);
    }
    weir_builder builder = {.ledger = node->ledger, .target = weir_block_size(block)};
    weir_iterator walk = {.block = block};
    weir_subject subject = {.doc = &self->doc};
    const weir_run *origin;
    while (weir_iterator_next(&walk, &subject.record, &origin)) {
        if (!weir_screen_admit(self->screen, &subject, origin, node->name, entry))
            continue;
        weir_builder_add_encoded(&builder, subject.record.encoded,
                                 subject.record.encoded_size, 1, origin);
        entry->fates.done++;
    }
    bool all = entry->fates.done == entry->records;
    weir_block *passed = all ? weir_block_dup(block) : weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return passed;
}

static void hand_on(weir_relay *self, weir_entry *entry, weir_block *block)
{
    weir_block *passed = sift(self, entry, block);
    if (passed) weir_actor_send(self->kit, self->port, &passed, entry);
    weir_actor_done(self->kit, entry);
}

void weir_relay_take(weir_relay *self, weir_entry *entry, weir_block *block)
{
    if (!self->first && weir_actor_has_room(self->kit)) {
        hand_on(self, entry, block);
        return;
    }
    waiting *w = malloc(sizeof *w);
    if (!w) abort();
    *w = (waiting){NULL, entry, weir_block_dup(block)};
    *self->end = w;
    self->end = &w->next;
}

void weir_relay_room(weir_relay *self)
{
    while (self->first && weir_actor_has_room(self->kit)) {
        waiting *w = pop(self);
        hand_on(self, w->entry, w->block);
        weir_block_destroy(&w->block);
        free(w);
    }
}
