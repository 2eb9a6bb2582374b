/*  screen: which records pass. `where` keeps what matches, `otherwise` decides the
    rest, a list of rules acts on what matches, `on_unknown` decides about records
    whose payload cannot be decoded. The same on every node that reads.        */
#pragma once
#include "runtime/block.h"
#include "runtime/book.h"
#include "runtime/filter.h"
#include "runtime/options.h"

/*  on_error and parse_error: what becomes of a record that is not usable.       */
typedef enum {
    WEIR_ON_ERROR_DROP = 0,
    WEIR_ON_ERROR_DEAD,
    WEIR_ON_ERROR_STOP
} weir_on_error;

extern const char *const weir_on_error_words[]; // drop dead stop

/*  on_unknown, and what it does with a record that no expression can judge.   */
typedef enum {
    WEIR_UNKNOWN_DROP = 0,
    WEIR_UNKNOWN_DEAD,
    WEIR_UNKNOWN_PASS
} weir_on_unknown;

typedef struct {
    char *where;    // NULL: keeps everything
    int otherwise;  // weir_action
    int on_unknown; // weir_on_unknown
} weir_screen_config;

#define WEIR_SCREEN_DEFAULTS                                                             \
    {                                                                                    \
        .otherwise = WEIR_ACTION_DROP, .on_unknown = WEIR_UNKNOWN_DEAD                   \
    }

extern const char *const weir_action_words[];  // drop, dead
extern const char *const weir_unknown_words[]; // drop, dead, pass

/*  Rows for an option table whose config struct has a weir_screen_config.     */
#define WEIR_SCREEN_OPTIONS(config, member)                                              \
    {"where",                                                                            \
     WEIR_OPTION_FILTER,                                                                 \
     offsetof(config, member.where),                                                     \
     0,                                                                                  \
     0,                                                                                  \
     NULL,                                                                               \
     false,                                                                              \
     "which records to keep; an expression (where.md)"},                                 \
        {"otherwise",                                                                    \
         WEIR_OPTION_WORD,                                                               \
         offsetof(config, member.otherwise),                                             \
         0,                                                                              \
         0,                                                                              \
         weir_action_words,                                                              \
         false,                                                                          \
         "for records that `where` does not keep"},                                      \
    {                                                                                    \
        "on_unknown", WEIR_OPTION_WORD, offsetof(config, member.on_unknown), 0, 0,       \
            weir_unknown_words, false,                                                   \
            "for records whose payload cannot be decoded and that an expression asks "   \
            "about"                                                                      \
    }

typedef enum {
    WEIR_PASS = 0,
    WEIR_FILTERED,      // left out, which is safe
    WEIR_DEAD_FILTERED, // to be a dead letter, reason filter
    WEIR_DEAD_UNKNOWN,  // to be a dead letter, reason parse
} weir_judgement;

typedef struct weir_screen weir_screen;

/*  rules may be NULL. The expressions were checked; a failure all the same fills
    the report. A screen serves one thread.                                    */
weir_err weir_screen_new(weir_screen **self_p, const weir_screen_config *config,
                         const weir_rules *rules, weir_report *report);
void weir_screen_destroy(weir_screen **self_p);

/*  True when nothing is screened: blocks may pass whole.                      */
bool weir_screen_is_open(const weir_screen *self);

/*  First `rules` (the first that matches acts), then `where`.                 */
weir_judgement weir_screen_judge(weir_screen *self, weir_subject *subject);

/*  A dead letter for a record that was judged so; names the expression, or the byte
    at which the payload cannot be decoded.                                    */
weir_dead *weir_screen_dead(weir_judgement judgement, const char *node,
                            const weir_subject *subject, const weir_run *origin);

/*  Judges subject->record, which came from origin, on behalf of an entry: true when it
    passes. Otherwise its fate is counted and its dead letter is the entry's, in the name
    of the node.                                                               */
bool weir_screen_admit(weir_screen *self, weir_subject *subject, const weir_run *origin,
                       const char *node, weir_entry *entry);
