/*  filter_private: a compiled filter, shared by its parser and its evaluator.

    A filter is a row of tests in source order. Each names the test that follows when
    it is true and the one when it is false; `and`, `or`, `not` and parentheses have
    become these two exits, which lead forward only:

        a == 1 and (b == 2 or not c)

        0: a == 1    true 1         false REJECT
        1: b == 2    true ACCEPT    false 2
        2: c         true REJECT    false ACCEPT                                   */
#pragma once
#include "runtime/filter.h"
#include "runtime/regex.h"

#define FILTER_SIZE_MAX 4096 // bytes of an expression
#define FILTER_LEVELS_MAX 64 // parentheses and `not` inside one another

/*  Exits that are no test. An expression of FILTER_SIZE_MAX bytes has fewer tests.  */
#define FILTER_ACCEPT 0xffff
#define FILTER_REJECT 0xfffe

typedef enum {
    FILTER_EQ,
    FILTER_NE,
    FILTER_LT,
    FILTER_LE,
    FILTER_GT,
    FILTER_GE,
    FILTER_MATCH,
    FILTER_PREFIX,
    FILTER_SUFFIX,
    FILTER_CONTAINS,
    FILTER_IN,
    FILTER_NOT_IN,
    FILTER_HAS,
    FILTER_IS_TRUE, // a lone path
} filter_op;

typedef enum {
    OPERAND_NONE,
    OPERAND_LITERAL,
    OPERAND_FIELD, // the only one that needs the payload parsed
    OPERAND_HEADER,
    OPERAND_RAW,
    OPERAND_SOURCE,
    OPERAND_PEER,
    OPERAND_KEY,
    OPERAND_TS,
    OPERAND_SHARD,
    OPERAND_OFFSET,
} operand_kind;

typedef struct {
    operand_kind kind;
    union {
        weir_value literal; // text lies in the filter's arena
        weir_path path;     // FIELD: steps owned by the test, names in the arena
        weir_step header;   // name in the arena
    };
} filter_operand;

typedef struct {
    filter_op op;
    uint16_t next[2]; // the exits: [0] false, [1] true
    filter_operand left;
    filter_operand right; // of two-sided operators, MATCH excepted
    weir_regex *regex;    // MATCH: owned
    weir_value *set;      // IN, NOT_IN: owned literals
    size_t set_count;
} filter_test;

struct weir_filter {
    filter_test *tests; // owned, at least one
    size_t count;
    size_t capacity;
    char *arena;            // owned: unescaped texts and names; never grows, as no text
    size_t used;            // outgrows its source
    weir_buffer scratch[2]; // unescaped texts of the left and the right value
    bool needs_store;       // names $shard or $offset
};

/*  --- tokens: runtime/filter_lex.c -----------------------------------------------  */

typedef enum {
    TOKEN_END,
    TOKEN_NAME,   // identifier or word of the language
    TOKEN_QUOTED, // name in backquotes
    TOKEN_META,   // $name
    TOKEN_NUMBER,
    TOKEN_TEXT,
    TOKEN_OPERATOR, // one that is made of signs
    TOKEN_SIGN,     // ( ) [ ] . ,
} token_kind;

typedef struct {
    token_kind kind;
    size_t from; // first byte
    size_t size; // bytes in the source
} filter_token;

typedef struct {
    const char *text; // borrowed: the expression
    size_t size;
    size_t at;           // behind the token
    filter_token token;  // the current one
    weir_filter *filter; // being built
    unsigned level;      // parentheses and `not` around the current token
    size_t *column;      // where the mistake is noted
    weir_report *report;
} filter_parser;

/*  Notes the mistake at the byte; returns WEIR_EINVAL.                               */
weir_err filter_fail(filter_parser *self, size_t at, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*  Steps to the next token.                                                          */
weir_err filter_next(filter_parser *self);

/*  True when the current token is that sign, operator or word.                       */
bool filter_at(const filter_parser *self, const char *text);

/*  The literal value of the current TEXT or NUMBER; the text goes to the arena.      */
weir_err filter_text(filter_parser *self, weir_value *value);
weir_err filter_number(filter_parser *self, weir_value *value);

/*  Copies the bytes into the arena.                                                  */
char *filter_keep(filter_parser *self, const char *text, size_t size);

/*  The name of the NULL-ended table that the text was meant to be, or NULL.          */
const char *filter_nearest(const char *const *names, const char *text, size_t size);
