#include "lua/symbols.h"
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static void widen(weir_symbols *self)
{
    size_t slot_count = self->slot_count ? self->slot_count * 2 : 64;
    weir_symbol **slots = calloc(slot_count, sizeof *slots);
    if (!slots) abort();
    for (size_t i = 0; i < self->slot_count; i++) {
        weir_symbol *symbol = self->slots[i];
        while (symbol) {
            weir_symbol *next = symbol->next;
            weir_symbol **slot = &slots[symbol->hash & (slot_count - 1)];
            symbol->next = *slot;
            *slot = symbol;
            symbol = next;
        }
    }
    free(self->slots);
    self->slots = slots;
    self->slot_count = slot_count;
}

weir_symbol *weir_symbols_intern(weir_symbols *self, const char *text, size_t size)
{
    if (size == 0) text = "";
    uint64_t hash = XXH3_64bits(text, size);
    if (self->count == self->slot_count) widen(self);
    weir_symbol **slot = &self->slots[hash & (self->slot_count - 1)];
    for (weir_symbol *symbol = *slot; symbol; symbol = symbol->next)
        if (symbol->hash == hash && symbol->size == size &&
            memcmp(symbol->text, text, size) == 0)
            return symbol;
    weir_symbol *symbol = malloc(sizeof *symbol + size + 1);
    if (!symbol) abort();
    *symbol = (weir_symbol){.next = *slot, .hash = hash, .size = size};
    memcpy(symbol->text, text, size);
    symbol->text[size] = 0;
    *slot = symbol;
    self->count++;
    return symbol;
}

void weir_symbols_fini(weir_symbols *self)
{
    for (size_t i = 0; i < self->slot_count; i++)
        while (self->slots[i]) {
            weir_symbol *symbol = self->slots[i];
            self->slots[i] = symbol->next;
            free(symbol);
        }
    free(self->slots);
    *self = (weir_symbols){0};
}
