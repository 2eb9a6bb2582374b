/*  pattern: Lua's patterns (reference manual, 6.4.1), bounded.

    A pattern is compiled into items, which a loop without recursion then matches.
    As in Lua, a fault in a pattern is raised only when matching comes to it. Steps
    are counted and charged to the running call (weir_charge), so that exponential
    backtracking ends as an overrun.                                           */
#pragma once
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEIR_CAPTURES_MAX 32
#define WEIR_CAPTURE_HERE SIZE_MAX // the size of a position capture

/*  A set of bytes.                                                            */
typedef struct {
    uint64_t bits[4];
} weir_byte_set;

typedef struct {
    uint8_t kind;
    uint8_t byte;  // of a single without set, opener of a balance; number of a capture
    uint8_t other; // closer of a balance
    size_t size;   // of the text
    union {
        const weir_byte_set *set; // NULL: the byte
        const char *text;         // literal bytes; of a fault, its sentence
    };
} weir_pattern_item;

/*  Room for patterns of up to WEIR_PATTERN_SMALL bytes on the C stack; longer ones
    need memory of their own.                                                  */
#define WEIR_PATTERN_SMALL 48

typedef struct {
    weir_pattern_item items[WEIR_PATTERN_SMALL + 2];
    weir_byte_set sets[WEIR_PATTERN_SMALL / 3];
} weir_pattern_room;

typedef struct {
    const char *start;
    size_t size;
} weir_capture;

typedef struct {
    lua_State *L;
    const weir_pattern_item *items;
    const char *text; // the subject; positions count from here
    const char *end;
    size_t steps;      // not yet charged
    int captures;      // of the pattern
    uint32_t unclosed; // bit i: capture i has no end, and may not be read
    weir_capture capture[WEIR_CAPTURES_MAX];
} weir_matcher;

/*  Bytes of memory that a pattern of that size may need.                      */
size_t weir_pattern_bytes(size_t size);

/*  Compiles into the memory, which stays the caller's; self->items points into it,
    the items into the pattern. The caller sets L, text and end. An anchor is the
    caller's: here ^ is a byte like others.                                    */
void weir_pattern_compile(weir_matcher *self, void *memory, const char *pattern,
                          size_t size);

/*  The end of the match that begins at `at`; NULL: there is none.             */
const char *weir_pattern_match(weir_matcher *self, const char *at);

/*  The first match at or behind `at`: its begin, and its end in *end; NULL: none. */
const char *weir_pattern_search(weir_matcher *self, const char *at, const char **end);

/*  Charges what is left of the steps.                                         */
void weir_pattern_settle(weir_matcher *self);
