#include "lua/source_parts.h"
#include <limits.h>
#include <xxhash.h>

void *weir_source_room(void *array, int count, int *room, size_t size)
{
    if (count < *room) return array;
    *room = *room > INT_MAX / 2 ? INT_MAX : *room ? *room * 2 : 16;
    array = realloc(array, (size_t)*room * size);
    if (!array) abort();
    return array;
}

int weir_source_add_declaration(weir_source *self, const weir_declaration *found)
{
    self->declarations =
        weir_source_room(self->declarations, self->declaration_count,
                         &self->declaration_room, sizeof *self->declarations);
    weir_declaration *added = &self->declarations[self->declaration_count];
    *added = *found;
    added->first_option = added->option_end = self->option_count;
    return self->declaration_count++;
}

static uint64_t hash_option(const weir_option *entry)
{
    uint64_t parts[] = {(uintptr_t)entry->key, (uint64_t)entry->number,
                        (uint64_t)entry->table};
    return XXH3_64bits(parts, sizeof parts);
}

/*  The slot of the option with that table and key, or the free one for it.    */
static int *find_slot(weir_source *self, const weir_option *entry)
{
    uint64_t slot = hash_option(entry);
    for (;; slot++) {
        int *number = &self->slots[slot & (uint64_t)(self->slot_count - 1)];
        if (!*number) return number;
        const weir_option *other = &self->options[*number - 1];
        if (other->table == entry->table && other->key == entry->key &&
            other->number == entry->number)
            return number;
    }
}

/*  Keeps the hash at most half full.                                          */
static void widen_slots(weir_source *self)
{
    if (self->slots_used < self->slot_count / 2) return;
    int *old = self->slots, count = self->slot_count;
    self->slot_count = count ? count * 2 : 64;
    self->slots = calloc((size_t)self->slot_count, sizeof *self->slots);
    if (!self->slots) abort();
    for (int i = 0; i < count; i++)
        if (old[i]) *find_slot(self, &self->options[old[i] - 1]) = old[i];
    free(old);
}

int weir_source_add_option(weir_source *self, const weir_option *found, bool known)
{
    self->options = weir_source_room(self->options, self->option_count,
                                     &self->option_room, sizeof *self->options);
    int number = self->option_count++;
    self->options[number] = *found;
    if (!known) return number;
    widen_slots(self);
    int *slot = find_slot(self, found);
    if (*slot) {
        self->repetitions =
            weir_source_room(self->repetitions, self->repetition_count,
                             &self->repetition_room, sizeof *self->repetitions);
        self->repetitions[self->repetition_count++] =
            (weir_repetition){number, *slot - 1};
    } else {
        *slot = number + 1;
        self->slots_used++;
    }
    return number;
}

int weir_source_add_use(weir_source *self, const weir_symbol *name, int line)
{
    self->uses = weir_source_room(self->uses, self->use_count, &self->use_room,
                                  sizeof *self->uses);
    self->uses[self->use_count] = (weir_use){name, line, false};
    return self->use_count++;
}
