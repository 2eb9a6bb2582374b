#include "lua/bind/pattern.h"
#include "lua/sandbox.h"
#include <lauxlib.h>
#include <string.h>

#define CHARGE_STEPS 1000 // steps that are charged together
#define BYTES_PER_STEP 16 // of what memcmp and memmem go through

/*  Choices that may be open at a time: Lua has the same bound.                */
#define CHOICES_MAX 200

/*  In this order: what leaves a choice lies between ONE and TEXT.             */
typedef enum {
    ITEM_END = 0,
    ITEM_ONE,      // one byte of the set
    ITEM_MOST,     // x*: as many as there are, then fewer
    ITEM_FEWEST,   // x-: none, then more
    ITEM_MAYBE,    // x?: one, then none
    ITEM_TEXT,     // these bytes
    ITEM_OPEN,     // (
    ITEM_HERE,     // ()
    ITEM_CLOSE,    // )
    ITEM_SAME,     // %1: what a capture holds
    ITEM_BALANCE,  // %bxy
    ITEM_FRONTIER, // %f[set]
    ITEM_LAST,     // $ at the end
    ITEM_FAULT,    // the pattern is wrong from here on
} item_kind;

/* --- Sets -------------------------------------------------------------------------- */

static inline bool set_has(const weir_byte_set *set, uint8_t byte)
{
    return set->bits[byte >> 6] >> (byte & 63) & 1;
}

static inline void set_add(weir_byte_set *set, uint8_t byte)
{
    set->bits[byte >> 6] |= 1ull << (byte & 63);
}

static const weir_byte_set set_any = {{~0ull, ~0ull, ~0ull, ~0ull}};

#define CLASS(low, high)                                                                 \
    {{low, high, 0, 0}},                                                                 \
    {                                                                                    \
        {                                                                                \
            ~low, ~high, ~0ull, ~0ull                                                    \
        }                                                                                \
    }

/*  For each letter of class_letters the class of the C locale, and what is not in
    it: the class of the capital letter.                                       */
static const char class_letters[] = "acdglpsuwxz";
static const weir_byte_set classes[] = {
    CLASS(0x0000000000000000ull, 0x07fffffe07fffffeull), // a: letters
    CLASS(0x00000000ffffffffull, 0x8000000000000000ull), // c: controls
    CLASS(0x03ff000000000000ull, 0x0000000000000000ull), // d: digits
    CLASS(0xfffffffe00000000ull, 0x7fffffffffffffffull), // g: printable, no space
    CLASS(0x0000000000000000ull, 0x07fffffe00000000ull), // l: small letters
    CLASS(0xfc00fffe00000000ull, 0x78000001f8000001ull), // p: punctuation
    CLASS(0x0000000100003e00ull, 0x0000000000000000ull), // s: white space
    CLASS(0x0000000000000000ull, 0x0000000007fffffeull), // u: capital letters
    CLASS(0x03ff000000000000ull, 0x07fffffe07fffffeull), // w: letters and digits
    CLASS(0x03ff000000000000ull, 0x0000007e0000007eull), // x: hexadecimal digits
    CLASS(0x0000000000000001ull, 0x0000000000000000ull), // z: the zero byte
};

/*  The class that stands behind a %; NULL: the byte itself is meant.          */
static const weir_byte_set *find_class(uint8_t letter)
{
    bool capital = letter >= 'A' && letter <= 'Z';
    const char *found = strchr(class_letters, capital ? letter | 0x20 : letter);
    return found && letter ? &classes[2 * (found - class_letters) + capital] : NULL;
}

static void set_add_class(weir_byte_set *set, uint8_t letter)
{
    const weir_byte_set *class = find_class(letter);
    if (!class) {
        set_add(set, letter);
        return;
    }
    for (int i = 0; i < 4; i++)
        set->bits[i] |= class->bits[i];
}

/* --- Compiling --------------------------------------------------------------------- */

typedef struct {
    weir_matcher *matcher;
    const uint8_t *at;
    const uint8_t *end;
    weir_pattern_item *item; // the next to write
    weir_byte_set *set;      // the next to use
} compiler;

size_t weir_pattern_bytes(size_t size)
{
    return (size + 2) * sizeof(weir_pattern_item) + size / 3 * sizeof(weir_byte_set);
}

static weir_pattern_item *add_item(compiler *self, item_kind kind)
{
    weir_pattern_item *item = self->item++;
    *item = (weir_pattern_item){.kind = (uint8_t)kind};
    return item;
}

/*  Ends the pattern with what luaL_error will say.                            */
static void add_fault(compiler *self, const char *text, int number)
{
    weir_pattern_item *item = add_item(self, ITEM_FAULT);
    item->text = text;
    item->byte = (uint8_t)number;
    self->at = self->end;
}

/*  The ] that ends the set whose first byte is at `at`; NULL: none. The first byte
    never ends it, nor does one behind a %.                                    */
static const uint8_t *set_end(const uint8_t *at, const uint8_t *end)
{
    for (const uint8_t *first = at; at < end; at++) {
        if (*at == ']' && at > first) return at;
        if (*at == '%') at++;
    }
    return NULL;
}

/*  Reads the set behind a [ and goes behind its ]. False: it has no end.      */
static bool read_set(compiler *self, const weir_byte_set **set_p)
{
    const uint8_t *at = self->at;
    bool complement = at < self->end && *at == '^';
    if (complement) at++;
    const uint8_t *end = set_end(at, self->end);
    if (!end) return false;
    weir_byte_set *set = self->set++;
    *set = (weir_byte_set){0};
    while (at < end) {
        if (*at == '%') {
            set_add_class(set, at[1]);
            at += 2;
        } else if (end - at > 2 && at[1] == '-') {
            for (int byte = at[0]; byte <= at[2]; byte++)
                set_add(set, (uint8_t)byte);
            at += 3;
        } else {
            set_add(set, *at++);
        }
    }
    for (int i = 0; complement && i < 4; i++)
        set->bits[i] = ~set->bits[i];
    self->at = end + 1;
    *set_p = set;
    return true;
}

/*  Reads what stands for one byte. False: it was a fault.                     */
static bool read_single(compiler *self, weir_pattern_item *single)
{
    *single = (weir_pattern_item){.kind = ITEM_ONE, .byte = *self->at++};
    if (single->byte == '.') {
        single->set = &set_any;
    } else if (single->byte == '%') {
        if (self->at == self->end) {
            add_fault(self, "malformed pattern (ends with '%%')", 0);
            return false;
        }
        single->byte = *self->at++;
        single->set = find_class(single->byte);
    } else if (single->byte == '[') {
        if (!read_set(self, &single->set)) {
            add_fault(self, "malformed pattern (missing ']')", 0);
            return false;
        }
    }
    return true;
}

static bool is_plain(uint8_t byte)
{
    return !memchr("().%[$", byte, 6);
}

static bool is_suffix(uint8_t byte)
{
    return memchr("*+-?", byte, 4) != NULL;
}

/*  Reads bytes that stand for themselves and have no suffix. False: none.     */
static bool read_text(compiler *self)
{
    const uint8_t *start = self->at, *at = start;
    while (at < self->end && is_plain(*at) && !(at + 1 < self->end && is_suffix(at[1])))
        at++;
    if (at == start) return false;
    weir_pattern_item *item = add_item(self, ITEM_TEXT);
    item->text = (const char *)start;
    item->size = (size_t)(at - start);
    self->at = at;
    return true;
}

static void add_single(compiler *self)
{
    weir_pattern_item single;
    if (!read_single(self, &single)) return;
    uint8_t suffix = self->at < self->end && is_suffix(*self->at) ? *self->at++ : 0;
    if (suffix == 0 || suffix == '+') *add_item(self, ITEM_ONE) = single;
    if (suffix == 0) return;
    single.kind = suffix == '-' ? ITEM_FEWEST : suffix == '?' ? ITEM_MAYBE : ITEM_MOST;
    *add_item(self, ITEM_ONE) = single;
}

static void add_open(compiler *self)
{
    weir_matcher *matcher = self->matcher;
    self->at++;
    if (matcher->captures == WEIR_CAPTURES_MAX) {
        add_fault(self, "too many captures", 0);
        return;
    }
    bool here = self->at < self->end && *self->at == ')';
    if (here)
        self->at++;
    else
        matcher->unclosed |= 1u << matcher->captures;
    add_item(self, here ? ITEM_HERE : ITEM_OPEN)->byte = (uint8_t)matcher->captures++;
}

static void add_close(compiler *self)
{
    weir_matcher *matcher = self->matcher;
    self->at++;
    if (!matcher->unclosed) {
        add_fault(self, "invalid pattern capture", 0);
        return;
    }
    int innermost = 31 - __builtin_clz(matcher->unclosed);
    matcher->unclosed &= ~(1u << innermost);
    add_item(self, ITEM_CLOSE)->byte = (uint8_t)innermost;
}

static void add_balance(compiler *self)
{
    self->at += 2;
    if (self->end - self->at < 2) {
        add_fault(self, "malformed pattern (missing arguments to '%%b')", 0);
        return;
    }
    weir_pattern_item *item = add_item(self, ITEM_BALANCE);
    item->byte = self->at[0];
    item->other = self->at[1];
    self->at += 2;
}

static void add_frontier(compiler *self)
{
    const weir_byte_set *set;
    self->at += 2;
    if (self->at == self->end || *self->at != '[') {
        add_fault(self, "missing '[' after '%%f' in pattern", 0);
        return;
    }
    self->at++;
    if (read_set(self, &set))
        add_item(self, ITEM_FRONTIER)->set = set;
    else
        add_fault(self, "malformed pattern (missing ']')", 0);
}

static void add_same(compiler *self, int number)
{
    const weir_matcher *matcher = self->matcher;
    self->at += 2;
    bool closed = number >= 1 && number <= matcher->captures &&
                  !(matcher->unclosed >> (number - 1) & 1);
    if (closed)
        add_item(self, ITEM_SAME)->byte = (uint8_t)(number - 1);
    else
        add_fault(self, "invalid capture index %%%d", number);
}

static void add_last(compiler *self)
{
    self->at++;
    add_item(self, ITEM_LAST);
}

static void add_next(compiler *self)
{
    uint8_t byte = *self->at;
    uint8_t escaped = byte == '%' && self->end - self->at > 1 ? self->at[1] : 0;
    if (byte == '(')
        add_open(self);
    else if (byte == ')')
        add_close(self);
    else if (byte == '$' && self->at + 1 == self->end)
        add_last(self);
    else if (escaped == 'b')
        add_balance(self);
    else if (escaped == 'f')
        add_frontier(self);
    else if (escaped >= '0' && escaped <= '9')
        add_same(self, escaped - '0');
    else
        add_single(self);
}

void weir_pattern_compile(weir_matcher *self, void *memory, const char *pattern,
                          size_t size)
{
    weir_pattern_item *items = memory;
    compiler all = {
        .matcher = self,
        .at = (const uint8_t *)pattern,
        .end = (const uint8_t *)pattern + size,
        .item = items,
        .set = (weir_byte_set *)(items + size + 2),
    };
    self->items = items;
    self->steps = 0;
    self->captures = 0;
    self->unclosed = 0;
    while (all.at < all.end)
        if (!read_text(&all)) add_next(&all);
    add_item(&all, ITEM_END);
}

/* --- Matching ---------------------------------------------------------------------- */

/*  A place to which matching returns when it fails further on: it goes on with the
    item behind `item`, at the next end of what the item has taken.            */
typedef struct {
    const weir_pattern_item *item;
    const char *least; // the fewest that the item may take ends here
    const char *taken; // what it takes now ends here
} choice;

void weir_pattern_settle(weir_matcher *self)
{
    weir_charge(self->L, self->steps);
    self->steps = 0;
}

static inline void charge(weir_matcher *self, size_t steps)
{
    self->steps += steps;
    if (self->steps >= CHARGE_STEPS) weir_pattern_settle(self);
}

static inline bool fits(const weir_pattern_item *item, const char *at)
{
    return item->set ? set_has(item->set, (uint8_t)*at) : item->byte == (uint8_t)*at;
}

/*  The end of the longest run of bytes that fit.                              */
static const char *run_end(weir_matcher *self, const weir_pattern_item *item,
                           const char *at)
{
    const char *start = at;
    if (item->set == &set_any) return self->end;
    while (at < self->end && fits(item, at))
        at++;
    charge(self, (size_t)(at - start));
    return at;
}

static bool has_text(weir_matcher *self, const char *at, const char *text, size_t size)
{
    charge(self, size / BYTES_PER_STEP);
    return (size_t)(self->end - at) >= size && memcmp(at, text, size) == 0;
}

/*  Behind the closer that balances the opener at `at`; NULL: none.            */
static const char *balanced(weir_matcher *self, const weir_pattern_item *item,
                            const char *at)
{
    const char *start = at;
    size_t depth = 1;
    if (at == self->end || (uint8_t)*at != item->byte) return NULL;
    while (++at < self->end) {
        if ((uint8_t)*at == item->other) {
            if (--depth == 0) break;
        } else if ((uint8_t)*at == item->byte) {
            depth++;
        }
    }
    charge(self, (size_t)(at - start));
    return at < self->end ? at + 1 : NULL;
}

static bool is_frontier(const weir_matcher *self, const weir_byte_set *set,
                        const char *at)
{
    uint8_t before = at > self->text ? (uint8_t)at[-1] : 0;
    uint8_t behind = at < self->end ? (uint8_t)*at : 0;
    return !set_has(set, before) && set_has(set, behind);
}

/*  What the capture holds, if it stands at `at`. A position is never the same. */
static const char *same(weir_matcher *self, const weir_capture *capture, const char *at)
{
    if (capture->size == WEIR_CAPTURE_HERE) return NULL;
    return has_text(self, at, capture->start, capture->size) ? at + capture->size : NULL;
}

/*  Whether the choice has another end to offer; it is then in taken.          */
static bool choose_again(const weir_matcher *self, choice *last)
{
    if (last->item->kind == ITEM_FEWEST) {
        if (last->taken == self->end || !fits(last->item, last->taken)) return false;
        last->taken++;
        return true;
    }
    if (last->taken == last->least) return false;
    last->taken--;
    return true;
}

/*  Goes over one item that offers no choice: where it ends, or NULL.          */
static const char *match_fixed(weir_matcher *self, const weir_pattern_item *item,
                               const char *at)
{
    weir_capture *capture = &self->capture[item->byte % WEIR_CAPTURES_MAX];
    switch ((item_kind)item->kind) {
    case ITEM_TEXT:
        return has_text(self, at, item->text, item->size) ? at + item->size : NULL;
    case ITEM_OPEN:
        *capture = (weir_capture){at, 0};
        return at;
    case ITEM_HERE:
        *capture = (weir_capture){at, WEIR_CAPTURE_HERE};
        return at;
    case ITEM_CLOSE:
        capture->size = (size_t)(at - capture->start);
        return at;
    case ITEM_SAME:
        return same(self, capture, at);
    case ITEM_BALANCE:
        return balanced(self, item, at);
    case ITEM_FRONTIER:
        return is_frontier(self, item->set, at) ? at : NULL;
    case ITEM_LAST:
        return at == self->end ? at : NULL;
    default:
        luaL_error(self->L, item->text, item->byte);
        return NULL;
    }
}

/*  Goes over one item that leaves a choice, and fills it.                     */
static const char *match_choice(weir_matcher *self, const weir_pattern_item *item,
                                const char *at, choice *made)
{
    const char *taken = at;
    if (item->kind == ITEM_MOST)
        taken = run_end(self, item, at);
    else if (item->kind == ITEM_MAYBE && at < self->end && fits(item, at))
        taken++;
    *made = (choice){item, at, taken};
    return taken;
}

/*  An item runs in the order of the pattern only, so a capture that is opened behind
    a choice is written again when matching returns to the choice: only the choices
    need remembering.                                                          */
const char *weir_pattern_match(weir_matcher *self, const char *at)
{
    choice choices[CHOICES_MAX];
    int open = 0;
    for (const weir_pattern_item *item = self->items; item->kind != ITEM_END; item++) {
        charge(self, 1);
        if (item->kind == ITEM_ONE) {
            at = at < self->end && fits(item, at) ? at + 1 : NULL;
        } else if (item->kind <= ITEM_MAYBE) {
            if (open == CHOICES_MAX) luaL_error(self->L, "pattern too complex");
            choice *made = &choices[open];
            at = match_choice(self, item, at, made);
            if (item->kind == ITEM_FEWEST || made->taken > made->least) open++;
        } else {
            at = match_fixed(self, item, at);
        }
        while (!at) {
            if (open == 0) return NULL;
            choice *last = &choices[open - 1];
            if (choose_again(self, last)) {
                at = last->taken;
                item = last->item;
            } else {
                open--;
            }
        }
    }
    return at;
}

const char *weir_pattern_search(weir_matcher *self, const char *at, const char **end)
{
    const weir_pattern_item *first = self->items;
    for (;; at++) {
        if (first->kind == ITEM_TEXT) {
            const char *from = at;
            at = memmem(at, (size_t)(self->end - at), first->text, first->size);
            size_t seen = (size_t)((at ? at : self->end) - from) + first->size;
            charge(self, seen / BYTES_PER_STEP);
            if (!at) return NULL;
        }
        *end = weir_pattern_match(self, at);
        if (*end) return at;
        if (at == self->end) return NULL;
    }
}
