/*  lexer: the tokens of a Lua 5.4 text.

    Any bytes may be given: what is no token becomes WEIR_TOKEN_BAD with a
    complaint, and the text ends there. A first line that begins with '#' is a
    comment, and a byte order mark before it is skipped, as when Lua reads a file. */
#pragma once
#include "runtime/buffer.h"
#include <stdbool.h>

/*  A token of one character is that character; the others are these.          */
typedef enum {
    WEIR_TOKEN_END = 256, // of the text
    WEIR_TOKEN_BAD,       // no token; the lexer's complaint says why
    WEIR_TOKEN_NAME,
    WEIR_TOKEN_STRING,  // its content is in the lexer's string
    WEIR_TOKEN_INTEGER, // its value is in the token
    WEIR_TOKEN_FLOAT,
    WEIR_TOKEN_CONCAT, // ..
    WEIR_TOKEN_DOTS,   // ...
    WEIR_TOKEN_IDIV,   // //
    WEIR_TOKEN_EQ,     // ==
    WEIR_TOKEN_GE,     // >=
    WEIR_TOKEN_LE,     // <=
    WEIR_TOKEN_NE,     // ~=
    WEIR_TOKEN_SHL,    // <<
    WEIR_TOKEN_SHR,    // >>
    WEIR_TOKEN_LABEL,  // ::
    WEIR_TOKEN_AND,    // from here on the keywords
    WEIR_TOKEN_BREAK,
    WEIR_TOKEN_DO,
    WEIR_TOKEN_ELSE,
    WEIR_TOKEN_ELSEIF,
    WEIR_TOKEN_END_WORD, // the keyword `end`
    WEIR_TOKEN_FALSE,
    WEIR_TOKEN_FOR,
    WEIR_TOKEN_FUNCTION,
    WEIR_TOKEN_GOTO,
    WEIR_TOKEN_IF,
    WEIR_TOKEN_IN,
    WEIR_TOKEN_LOCAL,
    WEIR_TOKEN_NIL,
    WEIR_TOKEN_NOT,
    WEIR_TOKEN_OR,
    WEIR_TOKEN_REPEAT,
    WEIR_TOKEN_RETURN,
    WEIR_TOKEN_THEN,
    WEIR_TOKEN_TRUE,
    WEIR_TOKEN_UNTIL,
    WEIR_TOKEN_WHILE,
} weir_token_kind;

typedef struct {
    int kind;         // a character or a weir_token_kind
    int line;         // of its first character, from 1
    const char *text; // in the source
    size_t size;      // bytes of it
    int64_t integer;  // of WEIR_TOKEN_INTEGER; hexadecimal ones wrap around
} weir_token;

typedef struct {
    const char *at;        // the next byte
    const char *end;       // behind the last byte
    int line;              // of the next byte
    weir_buffer string;    // content of the last WEIR_TOKEN_STRING, decoded
    const char *complaint; // why the last token is WEIR_TOKEN_BAD
} weir_lexer;

/*  Borrows the text until fini. The size is below 2^31.                       */
void weir_lexer_init(weir_lexer *self, const char *text, size_t size);
void weir_lexer_fini(weir_lexer *self);

/*  The next token; behind the last one WEIR_TOKEN_END, as often as asked.     */
weir_token weir_lexer_next(weir_lexer *self);

/*  Ends the text here: all that follows is WEIR_TOKEN_END.                    */
void weir_lexer_stop(weir_lexer *self);
