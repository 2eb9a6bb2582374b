/*  options: one table a config struct, that serves the language, the checks,
    --help and the generated reference.

    Names may be nested with dots: "retry.first" is `retry = { first = .. }`.
    Values are read from text as the user writes it ("10ms", "64MB"), a bare
    number for a time or a size is refused, and words such as `forever` say what no
    number should.                                                             */
#pragma once
#include <float.h>
#include "runtime/buffer.h"
#include "runtime/err.h"

typedef enum {
    WEIR_OPTION_BOOL,     // bool
    WEIR_OPTION_INT,      // int64_t
    WEIR_OPTION_NUMBER,   // double
    WEIR_OPTION_SIZE,     // int64_t, bytes
    WEIR_OPTION_TIME,     // int64_t, microseconds
    WEIR_OPTION_TEXT,     // char *
    WEIR_OPTION_PATH,     // char *: a file or folder
    WEIR_OPTION_FIELD,    // char *: a field path, checked
    WEIR_OPTION_FILTER,   // char *: a `where` expression, checked
    WEIR_OPTION_REGEX,    // char *: a regular expression, checked
    WEIR_OPTION_WORD,     // int: index into words
    WEIR_OPTION_TEXTS,    // weir_texts: one text or a list
    WEIR_OPTION_RULES,    // weir_rules: { {where = "..", action = drop}, .. }
    WEIR_OPTION_OUTLETS,  // weir_rules: { name = "expression" | otherwise, .. }
    WEIR_OPTION_MAP,      // weir_rules: { name = "text", .. }: `name` and `where` of each
    WEIR_OPTION_FUNCTION, // bool: given or not; the language keeps the function
    WEIR_OPTION_TABLE,    // int64_t: whether the table of the options NAME.x is given: 0,
                          // WEIR_TABLE, or what a word instead of it stands for
} weir_option_type;

/*  Sentinels that words stand for in INT, NUMBER, SIZE and TIME options.      */
#define WEIR_FOREVER INT64_MAX // `forever`, `all`, `never`
#define WEIR_ALWAYS 0
#define WEIR_NONE (-1)
#define WEIR_AUTO (-2)
#define WEIR_TABLE 1    // of a TABLE option
#define WEIR_FUNCTION 2 // of one that has the word `function`

/*  Bounds that are not part of the range, or none.                            */
#define WEIR_ABOVE_0 DBL_MIN
#define WEIR_BELOW_1 (1 - DBL_EPSILON / 2)
#define WEIR_UNBOUNDED 9.1e18 // all that an int64_t can hold is below it

typedef struct {
    char **items; // owned texts
    size_t count;
} weir_texts;

typedef enum {
    WEIR_ACTION_DROP = 0,
    WEIR_ACTION_DEAD,
    WEIR_ACTION_OTHERWISE
} weir_action;

typedef struct {
    char *name;  // of an outlet; "" for a rule
    char *where; // expression; NULL for `otherwise`; of a map the text
    weir_action action;
    int line; // in the topology file, 0: unknown
} weir_rule;

typedef struct {
    weir_rule *items; // owned
    size_t count;
} weir_rules;

typedef struct {
    const char *name;
    weir_option_type type;
    size_t offset;   // in the config struct
    double min, max; // of INT, NUMBER, SIZE (bytes), TIME (us); max 0: no bound
    const char *const
        *words;    // WORD: its values; else: words such as "forever"; NULL-ended
    bool required; // a nested one: when what it is nested in was given
    const char *help;
} weir_option;

/*  The row of that name in a NULL-name-ended table; NULL: none.               */
const weir_option *weir_option_find(const weir_option *options, const char *name);

/*  Its value is a char *, owned by the config; NULL: none.                    */
bool weir_option_is_text(const weir_option *self);

/*  Sets one option from text (TEXT-like types, TIME, SIZE), a number, a bool or a
    word. Texts are copied; what was there is freed. WEIR_EINVAL fills report.text
    with a sentence without the option's name ("expected a time such as '10ms'"). */
weir_err weir_option_set_text(const weir_option *self, void *config, const char *text,
                              weir_report *report);
weir_err weir_option_set_number(const weir_option *self, void *config, double number,
                                bool is_integer, weir_report *report);
weir_err weir_option_set_bool(const weir_option *self, void *config, bool value,
                              weir_report *report);
weir_err weir_option_set_word(const weir_option *self, void *config, const char *word,
                              weir_report *report);
void weir_texts_add(weir_texts *self, const char *text);
void weir_rules_add(weir_rules *self, const char *name, const char *where,
                    weir_action action, int line);

/*  The present value as the user would write it ("10ms", "64MB", "none").     */
void weir_option_print(const weir_option *self, const void *config, weir_buffer *out);
/*  Its type in words ("time", "size", "drop | dead | stop"), and its range.   */
void weir_option_print_type(const weir_option *self, weir_buffer *out);
void weir_option_print_range(const weir_option *self, weir_buffer *out);

/*  Deep copy of defaults (owned texts duplicated), and its end.               */
void weir_options_copy(const weir_option *options, void *config, const void *from,
                       size_t size);
void weir_options_free(const weir_option *options, void *config);

/*  "10ms", "64MB", "30s" and back. Errors fill report.text.                   */
weir_err weir_parse_time(int64_t *us, const char *text, weir_report *report);
weir_err weir_parse_size(int64_t *bytes, const char *text, weir_report *report);
void weir_print_time(int64_t us, weir_buffer *out);
void weir_print_size(int64_t bytes, weir_buffer *out);
