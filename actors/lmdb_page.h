/*  lmdb_page: one page of an LMDB file, for lmdb_pages alone. Its format is drawn there.
 */
#pragma once
#include "actors/lmdb_pages.h"

enum {
    WEIR_LMDB_BRANCH = 0x01, // flags of a page
    WEIR_LMDB_LEAF = 0x02,
    WEIR_LMDB_LARGE = 0x04,
    WEIR_LMDB_FIRST = 0x08,
    WEIR_LMDB_DIRTY = 0x10,
    WEIR_LMDB_INNER = 0x40, // it lies in a node and holds the values of its key
};

enum {
    WEIR_LMDB_ELSEWHERE = 1, // flags of a node: its value is a large one
    WEIR_LMDB_IS_TREE = 2,
    WEIR_LMDB_HAS_SEVERAL = 4,
};

typedef struct {
    size_t number;
    uint16_t pad, flags;
    union {
        struct {
            uint16_t lower, upper;
        };
        uint32_t pages; // of a large value
    };
} weir_lmdb_head;

typedef struct {
    weir_lmdb_head head;
    const uint8_t *bytes; // lent
    size_t size;
    unsigned count; // of nodes
} weir_lmdb_page;

typedef struct {
    size_t at, size; // place and bytes in the page, even
    unsigned flags;
    MDB_val key, value;
    size_t number; // of its child, or of its value's first page
} weir_lmdb_node;

enum { WEIR_LMDB_DEPTH_MOST = 32 };

bool weir_lmdb_wrong(weir_lmdb_file *self, const char *text, ...)
    __attribute__((format(printf, 2, 3)));

/*  Reads bytes of the file. */
bool weir_lmdb_read(weir_lmdb_file *self, size_t page, size_t at, void *to, size_t size);

/*  Reads a page of a tree and checks it; bytes: room for one.                       */
bool weir_lmdb_load(weir_lmdb_file *self, weir_lmdb_page *page, size_t number,
                    uint16_t flags, uint8_t *bytes);
/*  The same of a branch whose nodes were checked before; false also when the page has
    become another one since.                                                       */
bool weir_lmdb_load_known(weir_lmdb_file *self, weir_lmdb_page *page, size_t number,
                          uint8_t *bytes);
/*  The same for one that lies in a node.                                           */
bool weir_lmdb_load_inner(weir_lmdb_file *self, weir_lmdb_page *page,
                          const weir_lmdb_node *node);

/*  Node i of a page that was loaded.                                               */
weir_lmdb_node weir_lmdb_node_of(const weir_lmdb_page *page, unsigned i);

/*  Pages of a large value. */
static inline size_t weir_lmdb_pages_for(size_t bytes, size_t page_bytes)
{
    return (sizeof(weir_lmdb_head) - 1 + bytes) / page_bytes + 1;
}
