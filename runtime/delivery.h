/*  delivery: what all sinks share before their writing: blocks are screened and
    rendered into one buffer, and the inputs of what has gathered are kept until the
    sink says that it is safe.                                                 */
#pragma once
#include "runtime/actor.h"
#include "runtime/screen.h"

typedef enum {
    WEIR_DELIVERY_LINES = 0, // one record a line
    WEIR_DELIVERY_BLOB,      // payloads as they are, nothing between
} weir_delivery_framing;

typedef struct {
    int framing;  // weir_delivery_framing
    int on_error; // weir_on_error
    weir_screen_config screen;
} weir_delivery_config;

#define WEIR_DELIVERY_DEFAULTS                                                           \
    {                                                                                    \
        .framing = WEIR_DELIVERY_LINES, .on_error = WEIR_ON_ERROR_DEAD,                  \
        .screen = WEIR_SCREEN_DEFAULTS                                                   \
    }

extern const char *const weir_delivery_framing_words[]; // lines blob

#define WEIR_DELIVERY_OPTIONS(config, member)                                            \
    {"framing",                                                                          \
     WEIR_OPTION_WORD,                                                                   \
     offsetof(config, member.framing),                                                   \
     0,                                                                                  \
     0,                                                                                  \
     weir_delivery_framing_words,                                                        \
     false,                                                                              \
     "lines: one record a line, MessagePack as JSON; blob: payloads as they are"},       \
        {"on_error",                                                                     \
         WEIR_OPTION_WORD,                                                               \
         offsetof(config, member.on_error),                                              \
         0,                                                                              \
         0,                                                                              \
         weir_on_error_words,                                                            \
         false,                                                                          \
         "for a record that cannot be written as framing asks"},                         \
        WEIR_SCREEN_OPTIONS(config, member.screen)

typedef struct weir_delivery weir_delivery;

weir_err weir_delivery_new(weir_delivery **self_p, weir_actor *kit,
                           const weir_delivery_config *config, weir_report *report);
void weir_delivery_destroy(weir_delivery **self_p);

/*  Takes a block that came in: its records are rendered behind the output.    */
void weir_delivery_take(weir_delivery *self, weir_entry *entry, weir_block *block);

/*  What has been rendered and not been taken off; the sink writes it and says that
    all of it, even if that is nothing, is written.                            */
const weir_buffer *weir_delivery_output(const weir_delivery *self);
void weir_delivery_written(weir_delivery *self);

/*  Every input whose output was written before is safe. Inputs taken since then, or
    whose output could not be written yet, go on waiting.                      */
void weir_delivery_safe(weir_delivery *self);

/*  True when inputs wait for weir_delivery_written.                           */
bool weir_delivery_waiting(const weir_delivery *self);

/*  For a sink that sends record by record instead of rendering blocks: whether the
    record is to be sent, and what becomes of one that cannot be. If it is not sent the
    entry knows its fate, or the actor has failed. The subject is made ready, too.  */
bool weir_delivery_wants(weir_delivery *self, weir_entry *entry, weir_subject *subject,
                         const weir_run *origin);
void weir_delivery_refuse(weir_delivery *self, weir_entry *entry,
                          const weir_subject *subject, const weir_run *origin,
                          const char *error);

/*  Appends the payload as a line, MessagePack as JSON; NULL, or why it can be none: then
    nothing is appended. doc is scratch.                                       */
const char *weir_delivery_put_line(weir_buffer *out, weir_doc *doc,
                                   const weir_record *record);
