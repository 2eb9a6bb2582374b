/*  First pages, and one page.                                                      */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "actors/lmdb_page.h"

enum { page_least = 512, page_most = 32768, key_most = 511 };

static const uint32_t magic = 0xBEEFC0DE, format = 1;
static const size_t map_most = sizeof(size_t) < 8 ? SIZE_MAX : (size_t)1 << 46;
static const uint16_t no_folder =
    MDB_NOSUBDIR; // of an environment's flags a file keeps it

typedef struct {
    weir_lmdb_head head;
    uint32_t magic, format;
    void *address;
    size_t map_bytes;
    weir_lmdb_tree free, names;
    size_t last_page, transaction;
} first_page;

typedef struct {
    uint16_t low, high, flags, key_bytes;
} node_head;

bool weir_lmdb_wrong(weir_lmdb_file *self, const char *text, ...)
{
    va_list args;
    va_start(args, text);
    vsnprintf(self->why, sizeof self->why, text, args);
    va_end(args);
    return false;
}

bool weir_lmdb_read(weir_lmdb_file *self, size_t page, size_t at, void *to, size_t size)
{
    uint8_t *bytes = to;
    off_t from = (off_t)(page * self->page_bytes + at);
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(self->fd, bytes + done, size - done, from + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) return weir_lmdb_wrong(self, "it was cut at page %zu", page);
        if (n < 0)
            return weir_lmdb_wrong(self, "page %zu cannot be read: %s", page,
                                   strerror(errno));
        done += (size_t)n;
    }
    return true;
}

/* --- First pages ------------------------------------------------------------------- */

static bool check_root(weir_lmdb_file *self, const weir_lmdb_tree *tree)
{
    if (tree->root == SIZE_MAX) return true;
    if (tree->root >= 2 && tree->root < self->there && tree->depth &&
        tree->depth <= WEIR_LMDB_DEPTH_MOST)
        return true;
    return weir_lmdb_wrong(self, "a tree of %u levels begins at page %zu", tree->depth,
                           tree->root);
}

static bool is_first(weir_lmdb_file *self, const first_page *page, size_t number)
{
    if (page->head.number == number && page->head.flags == WEIR_LMDB_FIRST &&
        page->magic == magic && page->format == format &&
        page->free.pad == self->page_bytes &&
        (page->free.flags & ~no_folder) == MDB_INTEGERKEY && !page->names.flags)
        return true;
    return weir_lmdb_wrong(self, "page %zu is not what a file of LMDB begins with",
                           number);
}

/*  What the file has as of that first page.                                         */
static bool take_first(weir_lmdb_file *self, const first_page *page, size_t bytes)
{
    self->transaction = page->transaction;
    self->free = page->free;
    self->names = page->names;
    self->pages = page->last_page + 1;
    self->there = bytes / self->page_bytes;
    if (self->there > self->pages) self->there = self->pages;
    if (self->there < 2 || self->pages > page->map_bytes / self->page_bytes ||
        page->map_bytes > map_most)
        return weir_lmdb_wrong(self, "it has %zu pages of %zu in a map of %zu bytes",
                               self->there, self->pages, page->map_bytes);
    return check_root(self, &self->free) && check_root(self, &self->names);
}

/*  A file that was just made has two of transaction 0.                              */
static bool take_newer(weir_lmdb_file *self, const first_page pages[2], size_t bytes)
{
    size_t a = pages[0].transaction, b = pages[1].transaction;
    if (!is_first(self, &pages[0], 0) || !is_first(self, &pages[1], 1)) return false;
    if ((a || b) && (a % 2 != 0 || b % 2 != 1 || (a > b ? a - b : b - a) != 1))
        return weir_lmdb_wrong(self, "its first pages are of transactions %zu and %zu", a,
                               b);
    return take_first(self, &pages[b > a], bytes);
}

static int read_first(weir_lmdb_file *self, size_t bytes)
{
    first_page pages[2];
    if (!weir_lmdb_read(self, 0, 0, &pages[0], sizeof pages[0])) return MDB_INVALID;
    if (pages[0].magic == magic && pages[0].format != format) return MDB_VERSION_MISMATCH;
    size_t size = self->page_bytes = pages[0].free.pad;
    if (pages[0].magic != magic || size < page_least || size > page_most ||
        (size & (size - 1))) {
        weir_lmdb_wrong(self, "it does not begin as a file of LMDB does");
        return MDB_INVALID;
    }
    if (!weir_lmdb_read(self, 1, 0, &pages[1], sizeof pages[1])) return MDB_INVALID;
    return take_newer(self, pages, bytes) ? 0 : MDB_INVALID;
}

/*  The newest of the pages that may be one, of whatever size they are.              */
static int read_any(weir_lmdb_file *self, size_t bytes)
{
    first_page page, best = {.transaction = 0};
    size_t best_size = 0;
    for (size_t size = page_least; size <= page_most; size *= 2)
        for (size_t i = 0; i < 2; i++) {
            self->page_bytes = size;
            if (!weir_lmdb_read(self, i, 0, &page, sizeof page) ||
                !is_first(self, &page, i) || !take_first(self, &page, bytes) ||
                (best_size && page.transaction <= best.transaction))
                continue;
            best = page;
            best_size = size;
        }
    if (!best_size) return MDB_INVALID;
    self->page_bytes = best_size;
    return take_first(self, &best, bytes) ? 0 : MDB_INVALID;
}

static void *allocate(size_t count, size_t size)
{
    void *room = calloc(count, size);
    if (!room) abort();
    return room;
}

static int open_by(weir_lmdb_file *self, const char *path,
                   int (*read)(weir_lmdb_file *self, size_t bytes))
{
    struct stat st;
    *self = (weir_lmdb_file){.owned = true};
    self->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (self->fd < 0 || fstat(self->fd, &st)) return errno;
    if (!S_ISREG(st.st_mode)) {
        weir_lmdb_wrong(self, "it is no file");
        return MDB_INVALID;
    }
    int rc = read(self, (size_t)st.st_size);
    if (rc) return rc;
    self->sizes = allocate(self->page_bytes / 2, sizeof *self->sizes);
    self->seen = allocate(self->pages / 8 + 1, 1);
    return 0;
}

int weir_lmdb_open(weir_lmdb_file *self, const char *path)
{
    return open_by(self, path, read_first);
}

int weir_lmdb_open_any(weir_lmdb_file *self, const char *path)
{
    return open_by(self, path, read_any);
}

void weir_lmdb_borrow(weir_lmdb_file *self, MDB_txn *txn)
{
    MDB_env *env = mdb_txn_env(txn);
    MDB_envinfo info;
    MDB_stat stat;
    struct stat st;
    *self = (weir_lmdb_file){.fd = -1};
    mdb_env_get_fd(env, &self->fd);
    mdb_env_info(env, &info);
    mdb_env_stat(env, &stat);
    self->page_bytes = stat.ms_psize;
    self->pages = info.me_last_pgno + 1;
    self->there = fstat(self->fd, &st) ? 0 : (size_t)st.st_size / self->page_bytes;
    if (self->there > self->pages) self->there = self->pages;
    self->sizes = allocate(self->page_bytes / 2, sizeof *self->sizes);
}

void weir_lmdb_close(weir_lmdb_file *self)
{
    if (self->owned && self->fd >= 0) close(self->fd);
    free(self->seen);
    free(self->sizes);
    *self = (weir_lmdb_file){.fd = -1};
}

/* --- Nodes ------------------------------------------------------------------------- */

int weir_lmdb_compare(const MDB_val *a, const MDB_val *b)
{
    size_t size = a->mv_size < b->mv_size ? a->mv_size : b->mv_size;
    int order = memcmp(a->mv_data, b->mv_data, size);
    return order ? order : (a->mv_size > b->mv_size) - (a->mv_size < b->mv_size);
}

/*  A node with its key and value, which may end outside of its page.                */
static weir_lmdb_node parse_node(const weir_lmdb_page *page, size_t at)
{
    node_head head;
    weir_lmdb_node is = {.at = at};
    memcpy(&head, page->bytes + at, sizeof head);
    size_t low = (size_t)head.high << 16 | head.low, value = low;
    uint8_t *key = (uint8_t *)page->bytes + at + sizeof head;
    is.key = (MDB_val){head.key_bytes, key};
    if (page->head.flags == WEIR_LMDB_BRANCH) {
        is.number = (size_t)head.flags << 16 << 16 | low;
        value = 0;
    } else {
        is.flags = head.flags;
        is.value = (MDB_val){low, key + head.key_bytes};
    }
    if (is.flags & WEIR_LMDB_ELSEWHERE) value = sizeof is.number;
    is.size = (sizeof head + head.key_bytes + value + 1) & ~(size_t)1;
    return is;
}

static void read_number(weir_lmdb_node *self)
{
    if (self->flags & WEIR_LMDB_ELSEWHERE)
        memcpy(&self->number, self->value.mv_data, sizeof self->number);
}

weir_lmdb_node weir_lmdb_node_of(const weir_lmdb_page *page, unsigned i)
{
    uint16_t at;
    memcpy(&at, page->bytes + sizeof page->head + i * sizeof at, sizeof at);
    weir_lmdb_node is = parse_node(page, at);
    read_number(&is);
    return is;
}

/*  Whether it and what it points to lie where they may.                             */
static bool take_node(weir_lmdb_file *self, const weir_lmdb_page *page, unsigned i)
{
    uint16_t at;
    memcpy(&at, page->bytes + sizeof page->head + i * sizeof at, sizeof at);
    if (at % 2 || at < page->head.upper || at + sizeof(node_head) > page->size)
        return false;
    weir_lmdb_node is = parse_node(page, at);
    if (is.key.mv_size > key_most || is.size > page->size - at) return false;
    read_number(&is);
    size_t pages = 0;
    if (page->head.flags == WEIR_LMDB_BRANCH) pages = 1;
    if (is.flags & WEIR_LMDB_ELSEWHERE)
        pages = weir_lmdb_pages_for(is.value.mv_size, self->page_bytes);
    if (pages &&
        (is.number < 2 || is.number >= self->pages || pages > self->pages - is.number))
        return false;
    if (self->sizes[at / 2]) return false;
    self->sizes[at / 2] = (uint16_t)is.size;
    return true;
}

/*  From its upper bound to its end a page is nodes and nothing else.                */
static bool is_tiled(weir_lmdb_file *self, const weir_lmdb_page *page)
{
    unsigned tiles = 0;
    size_t at = page->head.upper;
    memset(self->sizes, 0, page->size / 2 * sizeof *self->sizes);
    for (unsigned i = 0; i < page->count; i++)
        if (!take_node(self, page, i)) return false;
    for (; at < page->size && self->sizes[at / 2]; tiles++)
        at += self->sizes[at / 2];
    return at == page->size && tiles == page->count;
}

/* --- Pages ------------------------------------------------------------------------- */

/*  Of what bytes and size are set of.                                               */
static bool look_at(weir_lmdb_page *page)
{
    if (page->size < sizeof page->head || page->size % 2) return false;
    memcpy(&page->head, page->bytes, sizeof page->head);
    size_t lower = page->head.lower, upper = page->head.upper;
    if (lower <= sizeof page->head || lower % 2 || lower > upper || upper > page->size)
        return false;
    page->count = (unsigned)(lower - sizeof page->head) / 2;
    return true;
}

static bool read_page(weir_lmdb_file *self, weir_lmdb_page *page, size_t number,
                      uint8_t *bytes)
{
    *page = (weir_lmdb_page){.bytes = bytes, .size = self->page_bytes};
    if (number < 2 || number >= self->there)
        return weir_lmdb_wrong(self, "a tree leads to page %zu of %zu", number,
                               self->there);
    if (!weir_lmdb_read(self, number, 0, bytes, self->page_bytes)) return false;
    return (look_at(page) && page->head.number == number) ||
           weir_lmdb_wrong(self, "page %zu is damaged", number);
}

bool weir_lmdb_load(weir_lmdb_file *self, weir_lmdb_page *page, size_t number,
                    uint16_t flags, uint8_t *bytes)
{
    if (!read_page(self, page, number, bytes)) return false;
    if (page->head.flags == flags && is_tiled(self, page)) return true;
    return weir_lmdb_wrong(self, "page %zu is damaged", number);
}

bool weir_lmdb_load_known(weir_lmdb_file *self, weir_lmdb_page *page, size_t number,
                          uint8_t *bytes)
{
    return read_page(self, page, number, bytes) && page->head.flags == WEIR_LMDB_BRANCH;
}

bool weir_lmdb_load_inner(weir_lmdb_file *self, weir_lmdb_page *page,
                          const weir_lmdb_node *node)
{
    *page = (weir_lmdb_page){.bytes = node->value.mv_data, .size = node->value.mv_size};
    return look_at(page) &&
           (page->head.flags & ~WEIR_LMDB_DIRTY) == (WEIR_LMDB_LEAF | WEIR_LMDB_INNER) &&
           is_tiled(self, page);
}
