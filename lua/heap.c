#include "lua/heap.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_BYTES 4096
#define CHUNK_BYTES 65536
#define CHUNK_PAGES (CHUNK_BYTES / PAGE_BYTES)
#define CHUNK_EMPTY ((uint16_t)~0)
#define LEDGER_STEP 65536

/*  Free blocks are linked through their first bytes.                          */
typedef struct block {
    struct block *next;
} block;

struct weir_heap_page {
    block *free;            // blocks to hand out
    weir_heap_page *next;   // in the list of its class
    weir_heap_page *prev;   // NULL: the first
    weir_heap_chunk *chunk; // where it lies
    uint16_t class;         // size of its blocks / WEIR_HEAP_STEP
    uint16_t live;          // blocks handed out
    bool listed;            // is in the list of its class
};

/*  Blocks begin behind the head of the page.                                  */
#define PAGE_HEAD ((sizeof(weir_heap_page) + 15) / 16 * 16)

struct weir_heap_chunk {
    weir_heap_chunk *next, *prev;             // all chunks
    weir_heap_chunk *next_roomy, *prev_roomy; // those with free pages
    char *base;                               // CHUNK_PAGES pages
    uint16_t free_pages;                      // bit i: page i is free
};

_Static_assert(CHUNK_PAGES == 16, "a chunk has a bit for each of its pages");

/* --- Accounting -------------------------------------------------------------------- */

/*  Keeps what the ledger knows at or above the footprint. One step of slack keeps
    a state that goes up and down at a border from telling it every time.      */
static void tell_ledger(weir_heap *self)
{
    if (self->footprint > self->charged) {
        size_t more = (self->footprint - self->charged + LEDGER_STEP - 1) / LEDGER_STEP *
                      LEDGER_STEP;
        if (self->ledger) weir_ledger_charge(self->ledger, WEIR_ACCOUNT_LUA, more);
        self->charged += more;
    } else if (self->charged - self->footprint >= 2 * LEDGER_STEP) {
        size_t less = ((self->charged - self->footprint) / LEDGER_STEP - 1) * LEDGER_STEP;
        if (self->ledger) weir_ledger_release(self->ledger, WEIR_ACCOUNT_LUA, less);
        self->charged -= less;
    }
}

static void add_footprint(weir_heap *self, size_t more, size_t less)
{
    self->footprint = self->footprint + more - less;
    tell_ledger(self);
}

static void *refuse(weir_heap *self, const void *pointer, size_t size)
{
    bool final = self->refused;
    self->refused = !final;
    self->refused_block = pointer;
    self->refused_size = size;
    if (final && self->full) self->full(self->arg);
    return NULL;
}

/*  After a refusal something has been granted: if it is not what was refused, that
    has been given up.                                                         */
static void grant(weir_heap *self, const void *pointer, size_t size)
{
    bool again = self->refused_block == pointer && self->refused_size == size;
    self->refused = false;
    if (!again && self->full) self->full(self->arg);
}

static bool is_enforced(const weir_heap *self)
{
    return self->enforced && *self->enforced;
}

/*  Whether the system may be asked for that much more.                        */
static bool has_room(const weir_heap *self, size_t more)
{
    return (self->footprint <= self->footprint_limit &&
            more <= self->footprint_limit - self->footprint) ||
           !is_enforced(self);
}

#ifndef WEIR_SANITIZED

/* --- Chunks ------------------------------------------------------------------------ */

static void link_roomy(weir_heap *self, weir_heap_chunk *chunk)
{
    chunk->prev_roomy = NULL;
    chunk->next_roomy = self->roomy;
    if (self->roomy) self->roomy->prev_roomy = chunk;
    self->roomy = chunk;
}

static void unlink_roomy(weir_heap *self, weir_heap_chunk *chunk)
{
    if (chunk->next_roomy) chunk->next_roomy->prev_roomy = chunk->prev_roomy;
    if (chunk->prev_roomy)
        chunk->prev_roomy->next_roomy = chunk->next_roomy;
    else
        self->roomy = chunk->next_roomy;
}

static bool add_chunk(weir_heap *self)
{
    weir_heap_chunk *chunk = malloc(sizeof *chunk);
    char *base = aligned_alloc(PAGE_BYTES, CHUNK_BYTES);
    if (!chunk || !base) {
        free(chunk);
        free(base);
        return false;
    }
    *chunk = (weir_heap_chunk){.base = base, .free_pages = CHUNK_EMPTY};
    chunk->next = self->chunks;
    if (self->chunks) self->chunks->prev = chunk;
    self->chunks = chunk;
    link_roomy(self, chunk);
    add_footprint(self, CHUNK_BYTES, 0);
    return true;
}

static void drop_chunk(weir_heap *self, weir_heap_chunk *chunk)
{
    if (chunk->next) chunk->next->prev = chunk->prev;
    if (chunk->prev)
        chunk->prev->next = chunk->next;
    else
        self->chunks = chunk->next;
    free(chunk->base);
    free(chunk);
    add_footprint(self, 0, CHUNK_BYTES);
}

/* --- Pages ------------------------------------------------------------------------- */

static void link_page(weir_heap *self, weir_heap_page *page)
{
    weir_heap_page **head = &self->open[page->class];
    page->prev = NULL;
    page->next = *head;
    if (*head) (*head)->prev = page;
    *head = page;
    page->listed = true;
}

static void unlink_page(weir_heap *self, weir_heap_page *page)
{
    if (page->next) page->next->prev = page->prev;
    if (page->prev)
        page->prev->next = page->next;
    else
        self->open[page->class] = page->next;
    page->listed = false;
}

/*  A fresh page of the class at the head of its list; NULL: refused.          */
static weir_heap_page *add_page(weir_heap *self, unsigned class, bool forced)
{
    if (!self->roomy) {
        if (!forced && !has_room(self, CHUNK_BYTES)) return NULL;
        if (!add_chunk(self)) return NULL;
    }
    weir_heap_chunk *chunk = self->roomy;
    int index = __builtin_ctz(chunk->free_pages);
    chunk->free_pages &= (uint16_t)(chunk->free_pages - 1);
    if (!chunk->free_pages) unlink_roomy(self, chunk);
    weir_heap_page *page = (weir_heap_page *)(chunk->base + (size_t)index * PAGE_BYTES);
    *page = (weir_heap_page){.chunk = chunk, .class = (uint16_t) class};
    size_t size = (size_t) class * WEIR_HEAP_STEP;
    char *first = (char *)page + PAGE_HEAD;
    for (size_t i = (PAGE_BYTES - PAGE_HEAD) / size; i-- > 0;) {
        block *one = (block *)(first + i * size);
        one->next = page->free;
        page->free = one;
    }
    link_page(self, page);
    return page;
}

/*  A page without blocks goes back to its chunk. One empty chunk stays.       */
static void drop_page(weir_heap *self, weir_heap_page *page)
{
    weir_heap_chunk *chunk = page->chunk;
    unlink_page(self, page);
    if (!chunk->free_pages) link_roomy(self, chunk);
    chunk->free_pages |= (uint16_t)(1u << (((char *)page - chunk->base) / PAGE_BYTES));
    if (chunk->free_pages == CHUNK_EMPTY && (chunk->next_roomy || chunk->prev_roomy)) {
        unlink_roomy(self, chunk);
        drop_chunk(self, chunk);
    }
}

/* --- Blocks ------------------------------------------------------------------------ */

static unsigned class_of(size_t size)
{
    return (unsigned)((size + WEIR_HEAP_STEP - 1) / WEIR_HEAP_STEP);
}

static void *take_slowly(weir_heap *self, unsigned class, bool forced)
{
    weir_heap_page *page = self->open[class];
    while (page && !page->free) {
        unlink_page(self, page);
        page = self->open[class];
    }
    if (!page) page = add_page(self, class, forced);
    if (!page) return NULL;
    block *one = page->free;
    page->free = one->next;
    page->live++;
    return one;
}

static inline void *take_small(weir_heap *self, size_t size, bool forced)
{
    unsigned class = class_of(size);
    weir_heap_page *page = self->open[class];
    if (!page || !page->free) return take_slowly(self, class, forced);
    block *one = page->free;
    page->free = one->next;
    page->live++;
    return one;
}

static inline void give_small(weir_heap *self, void *pointer)
{
    weir_heap_page *page = (weir_heap_page *)((uintptr_t)pointer & ~(PAGE_BYTES - 1ul));
    block *one = pointer;
    one->next = page->free;
    page->free = one;
    page->live--;
    if (!page->listed)
        link_page(self, page);
    else if (page->live == 0 && (page->next || page->prev))
        drop_page(self, page);
}

static void *take_large(weir_heap *self, size_t size)
{
    if (!has_room(self, size)) return NULL;
    void *pointer = malloc(size);
    if (pointer) add_footprint(self, size, 0);
    return pointer;
}

static void *resize_large(weir_heap *self, void *pointer, size_t old_size,
                          size_t new_size)
{
    if (new_size > old_size && !has_room(self, new_size - old_size)) return NULL;
    void *moved = realloc(pointer, new_size);
    if (moved) add_footprint(self, new_size, old_size);
    return moved;
}

static void *take(weir_heap *self, size_t size, bool forced)
{
    return size <= WEIR_HEAP_SMALL ? take_small(self, size, forced)
                                   : take_large(self, size);
}

static void give(weir_heap *self, void *pointer, size_t size)
{
    if (size <= WEIR_HEAP_SMALL) {
        give_small(self, pointer);
    } else {
        free(pointer);
        add_footprint(self, 0, size);
    }
}

static void *resize(weir_heap *self, void *pointer, size_t old_size, size_t new_size)
{
    bool large = old_size > WEIR_HEAP_SMALL && new_size > WEIR_HEAP_SMALL;
    if (large) return resize_large(self, pointer, old_size, new_size);
    if (old_size <= WEIR_HEAP_SMALL && class_of(old_size) == class_of(new_size))
        return pointer;
    bool forced = new_size < old_size;
    void *moved = take(self, new_size, forced);
    if (!moved) return NULL;
    memcpy(moved, pointer, forced ? new_size : old_size);
    give(self, pointer, old_size);
    return moved;
}

#else

static void *take(weir_heap *self, size_t size, bool forced)
{
    (void)forced;
    if (!has_room(self, size)) return NULL;
    void *pointer = malloc(size);
    if (pointer) add_footprint(self, size, 0);
    return pointer;
}

static void give(weir_heap *self, void *pointer, size_t size)
{
    free(pointer);
    add_footprint(self, 0, size);
}

static void *resize(weir_heap *self, void *pointer, size_t old_size, size_t new_size)
{
    if (new_size > old_size && !has_room(self, new_size - old_size)) return NULL;
    void *moved = realloc(pointer, new_size);
    if (moved) add_footprint(self, new_size, old_size);
    return moved;
}

#endif

void *weir_heap_alloc(void *heap, void *pointer, size_t old_size, size_t new_size)
{
    weir_heap *self = heap;
    if (!pointer) old_size = 0; // Lua passes the kind of object instead
    if (new_size == 0) {
        if (pointer) give(self, pointer, old_size);
        self->used -= old_size;
        return NULL;
    }
    if (new_size > old_size && self->used + (new_size - old_size) > self->limit &&
        is_enforced(self))
        return refuse(self, pointer, new_size);
    void *result =
        pointer ? resize(self, pointer, old_size, new_size) : take(self, new_size, false);
    if (!result) {
        if (new_size <= old_size) abort(); // Lua relies on it
        return refuse(self, pointer, new_size);
    }
    if (self->refused && new_size > old_size) grant(self, pointer, new_size);
    self->used = self->used + new_size - old_size;
    return result;
}

/* --- Lifecycle --------------------------------------------------------------------- */

void weir_heap_init(weir_heap *self, size_t limit, weir_ledger *ledger)
{
    *self = (weir_heap){
        .limit = limit,
        .footprint_limit = limit + limit / 4 + (1u << 20),
        .ledger = ledger,
    };
}

void weir_heap_fini(weir_heap *self)
{
    assert(self->used == 0);
#ifndef WEIR_SANITIZED
    while (self->chunks)
        drop_chunk(self, self->chunks);
#endif
    if (self->ledger && self->charged)
        weir_ledger_release(self->ledger, WEIR_ACCOUNT_LUA, self->charged);
    *self = (weir_heap){0};
}
