/*  heap: the memory of one Lua state, bounded and told to the ledger.

    Blocks of up to 512 bytes come from pages of 4KB, one size class a page, which
    are carved from chunks of 64KB; larger ones come from malloc. A page without
    blocks serves any class again, and a chunk without pages goes back to the
    system. Built for sanitizers, every block comes from malloc.

    A heap belongs to one thread.                                              */
#pragma once
#include "runtime/ledger.h"

#define WEIR_HEAP_SMALL 512
#define WEIR_HEAP_STEP 16 // bytes between two size classes
#define WEIR_HEAP_CLASSES (WEIR_HEAP_SMALL / WEIR_HEAP_STEP + 1)

typedef struct weir_heap_page weir_heap_page;
typedef struct weir_heap_chunk weir_heap_chunk;

typedef struct {
    size_t limit;           // bytes that Lua may hold
    size_t footprint_limit; // bytes that may be taken from the system
    size_t used;            // bytes that Lua holds
    size_t footprint;       // bytes taken from the system: chunks and large blocks
    size_t charged;         // bytes told to the ledger, in steps of 64KB
    bool refused;           // a request for more has been refused once, this one:
    const void *refused_block;
    size_t refused_size;
    weir_ledger *ledger;               // may be NULL
    const volatile uint64_t *enforced; // the limits hold while this is not 0
    void (*full)(void *arg); // called when memory has run out; must not allocate from
                             // the heap, nor raise
    void *arg;
    weir_heap_page *open[WEIR_HEAP_CLASSES]; // pages of the class that had room when
                                             // last looked at
    weir_heap_chunk *roomy;                  // chunks with free pages
    weir_heap_chunk *chunks;                 // all chunks
} weir_heap;

/*  The limits are not enforced until the owner sets `enforced`: so the program may
    use the state outside of protected calls.                                  */
void weir_heap_init(weir_heap *self, size_t limit, weir_ledger *ledger);

/*  Frees all chunks; the state has been closed.                               */
void weir_heap_fini(weir_heap *self);

/*  A lua_Alloc; heap is a weir_heap. A request for less is never refused. Lua
    answers a refusal with a collection and asks for the same once more; if that is
    refused too, or the next request is another one, memory has run out and `full`
    is told.                                                                   */
void *weir_heap_alloc(void *heap, void *block, size_t old_size, size_t new_size);
