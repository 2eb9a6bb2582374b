/*  lmdb_pages: looks at the pages of an LMDB file before LMDB does, which trusts them: a
    damaged one leads it out of its map, in circles, or into an assertion. What LMDB
    follows or counts on is checked here; the file is read with pread, so that a disk that
    fails is an error and no SIGBUS. It is LMDB 0.9's format 1, in native byte order:

        file    | first page | first page | pages: of trees, of large values, free |
                0            1            2

        first   | head | magic, format | address, map size | tree of free pages |
        page    | tree of values | last page | transaction |       the newer one counts

        page    | number | pad | flags | lower | upper | places of nodes  ..   nodes |
                0        8     10      12      14      16           lower upper

        node    | child, or size of value | flags | size of key | key | value, or the page
   | 0                         4       6             8     | of a large value   |

    Transaction n writes first page n mod 2, so both are one apart. Every other page is in
    one place: a tree, a large value, or the list of free pages. That is a tree, too, from
    transactions to page numbers, which fall and follow their count.

    One thread. Nothing that is read is trusted. Functions give false when something is
    wrong, and `why` says what.                                                     */
#pragma once
#include <lmdb.h>
#include <stdbool.h>
#include <stdint.h>

/*  What LMDB keeps of a tree.                                                      */
typedef struct {
    uint32_t pad; // of that of free pages: bytes of a page
    uint16_t flags, depth;
    size_t branch_pages, leaf_pages, large_pages, entries;
    size_t root; // SIZE_MAX: the tree is empty
} weir_lmdb_tree;

typedef struct {
    int fd;
    bool owned;                 // fd
    size_t page_bytes, pages;   // of a page; in use or free
    size_t there;               // pages in the file: free ones at its end may be missing
    size_t transaction;         // that was committed last
    weir_lmdb_tree free, names; // as it left them
    uint8_t *seen;              // a bit for each page that was reached; NULL: not kept
    uint16_t *sizes;            // of the nodes of one page, by their places
    char why[200];
} weir_lmdb_file;

/*  Opens one that nobody writes, and checks its first pages. ENOENT and other errno,
    MDB_INVALID (it is none, or damaged), MDB_VERSION_MISMATCH. To be closed in any case.
 */
int weir_lmdb_open(weir_lmdb_file *self, const char *path);
/*  The same when one of its first pages is damaged: what the other one leads to, which
    may be the last transaction but one.                                                */
int weir_lmdb_open_any(weir_lmdb_file *self, const char *path);
/*  Borrows the file of a transaction's environment; for check_way.                 */
void weir_lmdb_borrow(weir_lmdb_file *self, MDB_txn *txn);
void weir_lmdb_close(weir_lmdb_file *self);

/*  What the leaves of a tree hold.                                                 */
typedef enum {
    WEIR_LMDB_VALUES,
    WEIR_LMDB_SEVERAL, // of one key (MDB_DUPSORT)
    WEIR_LMDB_TREES,   // named ones
    WEIR_LMDB_FREE,    // lists of free pages
} weir_lmdb_kind;

/*  Walks a whole tree: its pages, the order of its keys, its lists, the pages of large
    values. A page that is reached twice, by this tree or another one, is wrong.     */
bool weir_lmdb_check_tree(weir_lmdb_file *self, const weir_lmdb_tree *tree,
                          weir_lmdb_kind kind);

/*  Gives what can be reached of a tree of VALUES. False: not all of it; the rest is given
    all the same. Values are lent, and may be anything.                              */
typedef void(weir_lmdb_visit)(void *arg, const MDB_val *key, const MDB_val *value);
bool weir_lmdb_each(weir_lmdb_file *self, const weir_lmdb_tree *tree,
                    weir_lmdb_visit *visit, void *arg);

/*  Whether pages are missing at the file's end that are not free; after FREE was checked.
 */
bool weir_lmdb_is_cut(const weir_lmdb_file *self);

/*  Finds a named tree, which has these flags, after the tree of names was checked.  */
bool weir_lmdb_find_tree(weir_lmdb_file *self, const char *name, uint16_t flags,
                         weir_lmdb_tree *tree);

/*  As LMDB compares keys.                                                          */
int weir_lmdb_compare(const MDB_val *a, const MDB_val *b);

/*  A key of at most 16 bytes; none: a longer one, too.                             */
typedef struct {
    uint8_t bytes[16];
    size_t size; // 0: none
} weir_lmdb_key;

/*  The way to a leaf. Zeroed it is none; given again, what is known is not checked again,
    as long as nobody else writes the file.                                         */
typedef struct {
    weir_lmdb_key first, last; // of the leaf
    weir_lmdb_key next;        // lower bound of the leaf behind it; none: it is the last
    size_t branches[6];        // pages of its branches that were checked
} weir_lmdb_way;

/*  Checks the pages by which LMDB comes to a key in a tree of VALUES: their nodes, and
    that their keys rise; and at each level `beside` pages (at most 2) on either side,
    where a cursor may step and a deletion may look. Of large values it checks only that
    they lie in the file.                                                           */
bool weir_lmdb_check_way(weir_lmdb_file *self, const weir_lmdb_tree *tree,
                         const MDB_val *key, unsigned beside, weir_lmdb_way *way);

/*  Whether a value that LMDB has found under a key of that size has the pages that it
    must: they are freed with it.                                                   */
bool weir_lmdb_check_value(MDB_txn *txn, size_t key_bytes, const MDB_val *value);
