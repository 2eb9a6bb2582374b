#include "runtime/book.h"
#include <assert.h>

weir_entry *weir_book_open(weir_book *self, weir_lane *lane, uint64_t sequence,
                           uint32_t records)
{
    weir_entry *entry = calloc(1, sizeof *entry);
    if (!entry) abort();
    entry->lane = lane;
    entry->sequence = sequence;
    entry->records = records;
    entry->holds = 1;
    entry->dead_end = &entry->dead;
    if (lane->last)
        lane->last->next = entry;
    else
        lane->first = entry;
    lane->last = entry;
    self->open++;
    return entry;
}

void weir_book_release(weir_book *self, weir_entry *entry)
{
    assert(entry->holds > 0);
    weir_lane *lane = entry->lane;
    if (--entry->holds) return;
    if (!lane) {
        entry->released(entry);
        return;
    }
    if (lane->first != entry || lane->ready) return;
    lane->ready = true;
    lane->next_ready = self->ready;
    self->ready = lane;
}

void weir_book_cancel(weir_book *self, weir_entry *entry)
{
    weir_lane *lane = entry->lane;
    weir_entry *before = NULL;
    assert(lane->last == entry && entry->holds == 1);
    for (weir_entry *e = lane->first; e != entry; e = e->next)
        before = e;
    lane->last = before;
    if (before)
        before->next = NULL;
    else
        lane->first = NULL;
    weir_book_close(self, &entry);
}

void weir_entry_add_dead(weir_entry *self, weir_dead **list_p)
{
    *self->dead_end = *list_p;
    while (*self->dead_end)
        self->dead_end = &(*self->dead_end)->next;
    *list_p = NULL;
}

weir_lane *weir_book_next_ready(weir_book *self)
{
    weir_lane *lane = self->ready;
    if (!lane) return NULL;
    self->ready = lane->next_ready;
    lane->next_ready = NULL;
    lane->ready = false;
    return lane;
}

weir_entry *weir_lane_pop_done(weir_lane *self)
{
    weir_entry *entry = self->first;
    if (!entry || entry->holds) return NULL;
    self->first = entry->next;
    if (!self->first) self->last = NULL;
    entry->next = NULL;
    return entry;
}

void weir_book_close(weir_book *self, weir_entry **entry_p)
{
    weir_dead_destroy_list(&(*entry_p)->dead);
    free(*entry_p);
    *entry_p = NULL;
    self->open--;
}

static void forget_ready(weir_book *self, weir_lane *lane)
{
    for (weir_lane **at = &self->ready; *at; at = &(*at)->next_ready) {
        if (*at != lane) continue;
        *at = lane->next_ready;
        break;
    }
    lane->next_ready = NULL;
    lane->ready = false;
}

void weir_lane_fini(weir_lane *self, weir_book *book)
{
    if (self->ready) forget_ready(book, self);
    while (self->first) {
        weir_entry *entry = self->first;
        self->first = entry->next;
        weir_book_close(book, &entry);
    }
    self->last = NULL;
}
