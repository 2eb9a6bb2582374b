#include "actors/loads.h"
#include <stdlib.h>

void weir_loads_init(weir_loads *self, weir_actor *kit)
{
    *self = (weir_loads){.kit = kit};
    self->last = &self->first;
}

void weir_loads_fini(weir_loads *self)
{
    for (weir_load *load; (load = self->first); free(load)) {
        self->first = load->next;
        weir_block_destroy(&load->block);
    }
}

static void begin(weir_loads *self, weir_load *load)
{
    self->current = load;
    if (load) self->walk = (weir_iterator){.block = load->block};
}

void weir_loads_add(weir_loads *self, weir_entry *entry, weir_block *block)
{
    weir_load *load = calloc(1, sizeof *load);
    if (!load) abort();
    load->entry = entry;
    load->block = weir_block_dup(block);
    *self->last = load;
    self->last = &load->next;
    if (!self->current) begin(self, load);
}

static void end_if_done(weir_loads *self, weir_load *load)
{
    weir_load **at = &self->first;
    if (!load->walked || load->held) return;
    weir_actor_done(self->kit, load->entry);
    while (*at != load)
        at = &(*at)->next;
    *at = load->next;
    if (!load->next) self->last = at;
    weir_block_destroy(&load->block);
    free(load);
}

bool weir_loads_next(weir_loads *self, weir_record *record, const weir_run **origin)
{
    while (self->current && !weir_actor_failed(self->kit)) {
        weir_load *load = self->current;
        self->at = self->walk;
        if (weir_iterator_next(&self->walk, record, origin)) return true;
        begin(self, load->next);
        load->walked = true;
        end_if_done(self, load);
    }
    return false;
}

void weir_loads_settle(weir_loads *self, weir_load *load)
{
    load->held--;
    end_if_done(self, load);
}
