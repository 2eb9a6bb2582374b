/*  Whole trees, and the way to a key.                                              */
#include <stdlib.h>
#include <string.h>
#include "actors/lmdb_page.h"

/* --- Once -------------------------------------------------------------------------- */

static bool reach(weir_lmdb_file *self, size_t number, size_t pages)
{
    for (size_t end = number + pages; number < end; number++) {
        uint8_t bit = (uint8_t)(1u << number % 8), *at = &self->seen[number / 8];
        if (*at & bit) return weir_lmdb_wrong(self, "page %zu is in two places", number);
        *at |= bit;
    }
    return true;
}

/* --- Whole trees ------------------------------------------------------------------- */

/*  Keys come in order; of what is walked next the keys are not below the last one, and
    above it unless that was only a branch's.                                       */
typedef struct {
    weir_lmdb_file *file;
    const weir_lmdb_tree *tree;
    weir_lmdb_kind kind;
    uint8_t key[512];
    MDB_val last; // of key; no data: there was none
    bool may_equal;
} walk;

static bool is_depth(weir_lmdb_file *self, const weir_lmdb_tree *tree)
{
    return (tree->depth && tree->depth <= WEIR_LMDB_DEPTH_MOST) ||
           weir_lmdb_wrong(self, "a tree has %u levels", tree->depth);
}

static bool walk_tree(weir_lmdb_file *file, const weir_lmdb_tree *tree,
                      weir_lmdb_kind kind);

static int compare(const walk *self, const MDB_val *a, const MDB_val *b)
{
    size_t x, y;
    if (self->kind != WEIR_LMDB_FREE) return weir_lmdb_compare(a, b);
    memcpy(&x, a->mv_data, sizeof x);
    memcpy(&y, b->mv_data, sizeof y);
    return (x > y) - (x < y);
}

static bool come_to(walk *self, const MDB_val *key, bool of_branch)
{
    if (self->kind == WEIR_LMDB_FREE && key->mv_size != sizeof(size_t)) return false;
    int order = self->last.mv_data ? compare(self, &self->last, key) : -1;
    if (order > 0 || (order == 0 && !self->may_equal)) return false;
    memcpy(self->key, key->mv_data, key->mv_size);
    self->last = (MDB_val){key->mv_size, self->key};
    self->may_equal = of_branch;
    return true;
}

static bool check_large(weir_lmdb_file *self, const weir_lmdb_node *node)
{
    weir_lmdb_head head;
    if (!weir_lmdb_read(self, node->number, 0, &head, sizeof head)) return false;
    if (head.number != node->number || head.flags != WEIR_LMDB_LARGE ||
        head.pages < weir_lmdb_pages_for(node->value.mv_size, self->page_bytes) ||
        head.pages > self->there - node->number)
        return weir_lmdb_wrong(self, "page %zu begins no value of %zu bytes",
                               node->number, node->value.mv_size);
    return reach(self, node->number, head.pages);
}

/*  Page numbers behind their count; there may be room behind them.                   */
static bool check_list(weir_lmdb_file *self, const size_t *list, size_t size)
{
    if (size < sizeof *list || list[0] > size / sizeof *list - 1)
        return weir_lmdb_wrong(self, "a list of free pages is damaged");
    for (size_t i = 1; i <= list[0]; i++) {
        if (list[i] < 2 || list[i] >= self->pages || (i > 1 && list[i] >= list[i - 1]))
            return weir_lmdb_wrong(self, "a list of free pages names page %zu", list[i]);
        if (!reach(self, list[i], 1)) return false;
    }
    return true;
}

static bool check_free(weir_lmdb_file *self, const weir_lmdb_node *node)
{
    size_t size = node->value.mv_size, transaction;
    memcpy(&transaction, node->key.mv_data, sizeof transaction);
    if (transaction < 1 || transaction > self->transaction)
        return weir_lmdb_wrong(self, "free pages are of transaction %zu", transaction);
    size_t *list = malloc(size + 1);
    if (!list) abort();
    bool good = true;
    if (node->flags & WEIR_LMDB_ELSEWHERE)
        good = weir_lmdb_read(self, node->number, sizeof(weir_lmdb_head), list, size);
    else
        memcpy(list, node->value.mv_data, size);
    good = good && check_list(self, list, size);
    free(list);
    return good;
}

static bool check_inner(weir_lmdb_file *self, const weir_lmdb_node *node)
{
    weir_lmdb_page inner;
    if (!weir_lmdb_load_inner(self, &inner, node))
        return weir_lmdb_wrong(self, "several values of a key are damaged");
    for (unsigned i = 0; i < inner.count; i++) {
        weir_lmdb_node is = weir_lmdb_node_of(&inner, i), before = is;
        if (i) before = weir_lmdb_node_of(&inner, i - 1);
        if (is.flags || (i && weir_lmdb_compare(&before.key, &is.key) >= 0))
            return weir_lmdb_wrong(self, "several values of a key are damaged");
    }
    return true;
}

static bool check_subtree(weir_lmdb_file *self, const weir_lmdb_node *node, bool walks)
{
    weir_lmdb_tree tree;
    if (node->value.mv_size != sizeof tree)
        return weir_lmdb_wrong(self, "a tree in a tree is damaged");
    memcpy(&tree, node->value.mv_data, sizeof tree);
    return !walks || walk_tree(self, &tree, WEIR_LMDB_VALUES);
}

static bool check_node(walk *self, const weir_lmdb_node *node)
{
    const unsigned subtree = WEIR_LMDB_IS_TREE | WEIR_LMDB_HAS_SEVERAL;
    if (self->kind == WEIR_LMDB_TREES && node->flags == WEIR_LMDB_IS_TREE)
        return check_subtree(self->file, node, false);
    if (self->kind == WEIR_LMDB_SEVERAL && node->flags == WEIR_LMDB_HAS_SEVERAL)
        return check_inner(self->file, node);
    if (self->kind == WEIR_LMDB_SEVERAL && node->flags == subtree)
        return check_subtree(self->file, node, true);
    if (self->kind == WEIR_LMDB_TREES || node->flags & ~WEIR_LMDB_ELSEWHERE)
        return weir_lmdb_wrong(self->file, "a node has flags %u", node->flags);
    if (node->flags && !check_large(self->file, node)) return false;
    return self->kind != WEIR_LMDB_FREE || check_free(self->file, node);
}

static bool walk_page(walk *self, size_t number, unsigned level);

static bool walk_nodes(walk *self, const weir_lmdb_page *page, unsigned level)
{
    bool is_branch = level < self->tree->depth;
    for (unsigned i = 0; i < page->count; i++) {
        weir_lmdb_node node = weir_lmdb_node_of(page, i);
        if (!(is_branch && i == 0) && !come_to(self, &node.key, is_branch))
            return weir_lmdb_wrong(self->file, "the keys of page %zu are damaged",
                                   page->head.number);
        if (is_branch ? !walk_page(self, node.number, level + 1)
                      : !check_node(self, &node))
            return false;
    }
    return true;
}

/*  The first key of a branch stands for whatever is below its second.               */
static bool walk_page(walk *self, size_t number, unsigned level)
{
    weir_lmdb_page page;
    bool is_branch = level < self->tree->depth;
    uint8_t *bytes = malloc(self->file->page_bytes);
    if (!bytes) abort();
    bool good = weir_lmdb_load(self->file, &page, number,
                               is_branch ? WEIR_LMDB_BRANCH : WEIR_LMDB_LEAF, bytes) &&
                reach(self->file, number, 1) && walk_nodes(self, &page, level);
    free(bytes);
    return good;
}

static bool walk_tree(weir_lmdb_file *file, const weir_lmdb_tree *tree,
                      weir_lmdb_kind kind)
{
    walk self = {.file = file, .tree = tree, .kind = kind};
    if (tree->root == SIZE_MAX) return true;
    if (!is_depth(file, tree)) return false;
    return walk_page(&self, tree->root, 1);
}

bool weir_lmdb_check_tree(weir_lmdb_file *self, const weir_lmdb_tree *tree,
                          weir_lmdb_kind kind)
{
    return walk_tree(self, tree, kind);
}

bool weir_lmdb_is_cut(const weir_lmdb_file *self)
{
    for (size_t i = self->there; i < self->pages; i++)
        if (!(self->seen[i / 8] & 1u << i % 8)) return true;
    return false;
}

/* --- What is left ------------------------------------------------------------------ */

typedef struct {
    weir_lmdb_file *file;
    weir_lmdb_visit *visit;
    void *arg;
    bool whole;
} gleaning;

static void give_large(gleaning *self, const weir_lmdb_node *node)
{
    MDB_val value = node->value;
    value.mv_data = malloc(value.mv_size + 1);
    if (!value.mv_data) abort();
    if (weir_lmdb_read(self->file, node->number, sizeof(weir_lmdb_head), value.mv_data,
                       value.mv_size))
        self->visit(self->arg, &node->key, &value);
    else
        self->whole = false;
    free(value.mv_data);
}

static void glean_page(gleaning *self, size_t number, unsigned level);

static void glean_nodes(gleaning *self, const weir_lmdb_page *page, unsigned level)
{
    for (unsigned i = 0; i < page->count; i++) {
        weir_lmdb_node node = weir_lmdb_node_of(page, i);
        if (page->head.flags == WEIR_LMDB_BRANCH)
            glean_page(self, node.number, level + 1);
        else if (node.flags & WEIR_LMDB_ELSEWHERE)
            give_large(self, &node);
        else
            self->visit(self->arg, &node.key, &node.value);
    }
}

/*  Its own flags say what it is; one that was reached before leads in a circle.      */
static void glean_page(gleaning *self, size_t number, unsigned level)
{
    weir_lmdb_page page;
    uint8_t *bytes = malloc(self->file->page_bytes);
    if (!bytes) abort();
    bool good = level <= WEIR_LMDB_DEPTH_MOST &&
                (weir_lmdb_load(self->file, &page, number, WEIR_LMDB_LEAF, bytes) ||
                 weir_lmdb_load(self->file, &page, number, WEIR_LMDB_BRANCH, bytes)) &&
                reach(self->file, number, 1);
    if (good)
        glean_nodes(self, &page, level);
    else
        self->whole = false;
    free(bytes);
}

bool weir_lmdb_each(weir_lmdb_file *self, const weir_lmdb_tree *tree,
                    weir_lmdb_visit *visit, void *arg)
{
    gleaning is = {self, visit, arg, true};
    if (tree->root != SIZE_MAX) glean_page(&is, tree->root, 1);
    return is.whole;
}

/* --- The way to a key -------------------------------------------------------------- */

/*  Pages of one level: the one on the way, and those beside it.                     */
typedef struct {
    size_t left[2], middle, right[2];
    unsigned lefts, rights;
} row;

typedef struct {
    weir_lmdb_file *file;
    const MDB_val *key;
    unsigned beside;
    weir_lmdb_way *way;
    weir_lmdb_key low; // bound of the leaf
    uint8_t *bytes;    // of one page
} descent;

static void add_left(const descent *self, row *at, size_t number)
{
    if (!self->beside) return;
    if (at->lefts == self->beside) at->left[0] = at->left[--at->lefts];
    at->left[at->lefts++] = number;
}

static void add_right(const descent *self, row *at, size_t number)
{
    if (at->rights < self->beside) at->right[at->rights++] = number;
}

static size_t child(const weir_lmdb_page *page, unsigned i)
{
    return weir_lmdb_node_of(page, i).number;
}

/*  Halves as LMDB does, so that it finds the same one in whatever order they are.    */
static unsigned find_child(const weir_lmdb_page *page, const MDB_val *key)
{
    int low = 1, high = (int)page->count - 1, at = 0, order = 0;
    while (low <= high) {
        at = (low + high) / 2;
        weir_lmdb_node node = weir_lmdb_node_of(page, (unsigned)at);
        order = weir_lmdb_compare(key, &node.key);
        if (order == 0) break;
        if (order > 0)
            low = at + 1;
        else
            high = at - 1;
    }
    return (unsigned)(order < 0 ? at - 1 : at);
}

static void take_key(weir_lmdb_key *self, const weir_lmdb_page *page, unsigned i)
{
    MDB_val key = weir_lmdb_node_of(page, i).key;
    self->size = key.mv_size <= sizeof self->bytes ? key.mv_size : 0;
    memcpy(self->bytes, key.mv_data, self->size);
}

static int compare_keys(const weir_lmdb_key *a, const weir_lmdb_key *b)
{
    MDB_val x = {a->size, (void *)a->bytes}, y = {b->size, (void *)b->bytes};
    return weir_lmdb_compare(&x, &y);
}

static bool bad_keys(descent *self, const weir_lmdb_page *page)
{
    return weir_lmdb_wrong(self->file, "the keys of page %zu are damaged",
                           page->head.number);
}

static bool is_ordered(const weir_lmdb_page *page, bool is_branch)
{
    unsigned i = is_branch ? 1 : 0;
    weir_lmdb_node before = weir_lmdb_node_of(page, i);
    while (++i < page->count) {
        weir_lmdb_node is = weir_lmdb_node_of(page, i);
        if (weir_lmdb_compare(&before.key, &is.key) >= 0) return false;
        before = is;
    }
    return true;
}

static bool load(descent *self, size_t number, bool is_branch, weir_lmdb_page *page)
{
    if (!weir_lmdb_load(self->file, page, number,
                        is_branch ? WEIR_LMDB_BRANCH : WEIR_LMDB_LEAF, self->bytes))
        return false;
    for (unsigned i = 0; !is_branch && i < page->count; i++)
        if (weir_lmdb_node_of(page, i).flags & ~WEIR_LMDB_ELSEWHERE)
            return weir_lmdb_wrong(self->file, "page %zu is damaged", number);
    if ((is_branch && page->count < 2) || !is_ordered(page, is_branch))
        return bad_keys(self, page);
    return true;
}

/*  The page on the way, of a level: where the way goes on, and what is beside that.  */
static void step_down(descent *self, const weir_lmdb_page *page, row *below)
{
    unsigned at = find_child(page, self->key);
    if (at > 0) take_key(&self->low, page, at);
    if (at + 1 < page->count) take_key(&self->way->next, page, at + 1);
    for (unsigned i = at > 2 ? at - 2 : 0; i < at; i++)
        add_left(self, below, child(page, i));
    below->middle = child(page, at);
    for (unsigned i = at + 1; i < page->count && i <= at + 2; i++)
        add_right(self, below, child(page, i));
}

static bool step_branch(descent *self, unsigned level, size_t number, row *below)
{
    enum { known_most = sizeof self->way->branches / sizeof *self->way->branches };
    weir_lmdb_page page;
    size_t *known = level < known_most ? &self->way->branches[level] : NULL;
    bool good = known && *known == number &&
                weir_lmdb_load_known(self->file, &page, number, self->bytes);
    if (!good && !load(self, number, true, &page)) return false;
    if (known) *known = number;
    step_down(self, &page, below);
    return true;
}

/*  Keys too long to be kept bound nothing.                                          */
static bool end_in(descent *self, size_t number)
{
    weir_lmdb_way *way = self->way;
    weir_lmdb_page page;
    if (!load(self, number, false, &page)) return false;
    take_key(&way->first, &page, 0);
    take_key(&way->last, &page, page.count - 1);
    if ((self->low.size && way->first.size &&
         compare_keys(&self->low, &way->first) > 0) ||
        (way->next.size && way->last.size && compare_keys(&way->last, &way->next) >= 0))
        return bad_keys(self, &page);
    return true;
}

/*  All pages of a level, from left to right; *below is the next one, of branches.    */
static bool step(descent *self, const row *at, unsigned level, bool is_branch, row *below)
{
    weir_lmdb_page page;
    *below = (row){.lefts = 0};
    for (unsigned i = 0; i < at->lefts; i++) {
        if (!load(self, at->left[i], is_branch, &page)) return false;
        if (!is_branch) continue;
        add_left(self, below, child(&page, page.count - 2));
        add_left(self, below, child(&page, page.count - 1));
    }
    if (is_branch ? !step_branch(self, level, at->middle, below)
                  : !end_in(self, at->middle))
        return false;
    for (unsigned i = 0; i < at->rights; i++) {
        if (!load(self, at->right[i], is_branch, &page)) return false;
        if (!is_branch) continue;
        add_right(self, below, child(&page, 0));
        add_right(self, below, child(&page, 1));
    }
    return true;
}

bool weir_lmdb_check_way(weir_lmdb_file *self, const weir_lmdb_tree *tree,
                         const MDB_val *key, unsigned beside, weir_lmdb_way *way)
{
    descent is = {.file = self, .key = key, .beside = beside, .way = way};
    row at = {.middle = tree->root}, below;
    bool good = true;
    way->first.size = way->last.size = way->next.size = 0;
    if (tree->root == SIZE_MAX) return true;
    if (!is_depth(self, tree)) return false;
    is.bytes = malloc(self->page_bytes);
    if (!is.bytes) abort();
    for (unsigned i = 0; i < tree->depth && good; i++, at = below)
        good = step(&is, &at, i, i + 1u < tree->depth, &below);
    free(is.bytes);
    return good;
}

/* --- Names ------------------------------------------------------------------------- */

static bool take_tree(weir_lmdb_file *self, const weir_lmdb_page *page,
                      const MDB_val *name, weir_lmdb_tree *tree)
{
    for (unsigned i = 0; i < page->count; i++) {
        weir_lmdb_node node = weir_lmdb_node_of(page, i);
        if (weir_lmdb_compare(&node.key, name)) continue;
        memcpy(tree, node.value.mv_data, sizeof *tree);
        return true;
    }
    return weir_lmdb_wrong(self, "it has no table %s", (const char *)name->mv_data);
}

bool weir_lmdb_find_tree(weir_lmdb_file *self, const char *name, uint16_t flags,
                         weir_lmdb_tree *tree)
{
    MDB_val key = {strlen(name), (void *)name};
    weir_lmdb_page page = {.count = 0};
    size_t number = self->names.root;
    uint8_t *bytes = malloc(self->page_bytes);
    if (!bytes) abort();
    bool good = number != SIZE_MAX || weir_lmdb_wrong(self, "it has no table %s", name);
    for (unsigned i = 1; i <= self->names.depth && good; i++) {
        bool is_branch = i < self->names.depth;
        good = weir_lmdb_load(self, &page, number,
                              is_branch ? WEIR_LMDB_BRANCH : WEIR_LMDB_LEAF, bytes);
        if (good && is_branch) number = child(&page, find_child(&page, &key));
    }
    good = good && take_tree(self, &page, &key, tree);
    free(bytes);
    if (!good || tree->flags == flags) return good;
    return weir_lmdb_wrong(self, "its table %s has flags %u", name, tree->flags);
}

/* --- Values ------------------------------------------------------------------------ */

bool weir_lmdb_check_value(MDB_txn *txn, size_t key_bytes, const MDB_val *value)
{
    enum { node_bytes = 8 };
    MDB_stat stat;
    weir_lmdb_head head;
    mdb_env_stat(mdb_txn_env(txn), &stat);
    size_t most = ((stat.ms_psize - sizeof head) / 2 & ~(size_t)1) - sizeof(uint16_t);
    if (node_bytes + key_bytes + value->mv_size <= most) return true;
    memcpy(&head, (const uint8_t *)value->mv_data - sizeof head, sizeof head);
    return (head.flags & ~WEIR_LMDB_DIRTY) == WEIR_LMDB_LARGE &&
           head.pages == weir_lmdb_pages_for(value->mv_size, stat.ms_psize);
}
