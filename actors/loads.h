/*  loads: the blocks of a sink that sends their records one by one and hears later what
    became of each: their records in order, and the entry of a block done when all of its
    records are.

        add --> walked record by record: next .. hold .. settle --> done

    Belongs to the actor's thread.                                                  */
#pragma once
#include "runtime/actor.h"

/*  A block whose records are on their way.                                          */
typedef struct weir_load {
    struct weir_load *next; // it came later
    weir_entry *entry;
    weir_block *block; // an own reference
    uint32_t held;     // of its records: not settled
    bool walked;       // next has gone through all of them
} weir_load;

typedef struct {
    weir_actor *kit;
    weir_load *first, **last;
    weir_load *current; // that next goes through; NULL: there is nothing left
    weir_iterator walk; // of current
    weir_iterator at;   // before the record that next gave
} weir_loads;

void weir_loads_init(weir_loads *self, weir_actor *kit);
void weir_loads_fini(weir_loads *self); // zeroed ones, too; nothing is done by this

void weir_loads_add(weir_loads *self, weir_entry *entry, weir_block *block);

/*  The next record; it is of `current`, and done unless it is held. False: there is
    none, or the actor has failed.                                                  */
bool weir_loads_next(weir_loads *self, weir_record *record, const weir_run **origin);

/*  The record that next gave, of `current`, is not done until it is settled.         */
static inline void weir_loads_hold(weir_loads *self)
{
    self->current->held++;
}

/*  One of its records is done; with the last one the load is, too, and gone.         */
void weir_loads_settle(weir_loads *self, weir_load *load);
