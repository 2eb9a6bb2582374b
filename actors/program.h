/*  program: what an engine runs. The engine knows threads, blocks, filters and
    outlets; a program knows a language. lua/ supplies one.                    */
#pragma once
#include "runtime/block.h"

/*  Collects the results of one call; they count only if the call succeeds.    */
typedef struct weir_emitter weir_emitter;

/*  Adds a record; its bytes are copied. WEIR_ETOOBIG: output_limit or record_max is
    passed, and the call must end as an overrun.                               */
weir_err weir_emit(weir_emitter *self, const weir_record *record);

/*  Adds the input record itself, unchanged.                                   */
void weir_emit_input(weir_emitter *self);

typedef enum {
    WEIR_CALL_DONE = 0, // the results count; with none of them: done all the same
    WEIR_CALL_DROP,     // the function dropped the record
    WEIR_CALL_DEAD,     // the function wants a dead letter, error is its text
    WEIR_CALL_PARSE,    // the payload could not be decoded
    WEIR_CALL_FAILED,   // the function failed, error says where and why
    WEIR_CALL_MEMORY,   // limits: the program must be opened afresh
    WEIR_CALL_INSTRUCTIONS,
    WEIR_CALL_OUTPUT,
} weir_call_result;

typedef struct {
    const char *node;           // for errors and logs
    size_t memory_limit;        // bytes
    uint64_t instruction_limit; // of a call
    weir_ledger *ledger;
} weir_program_setup;

typedef struct {
    /*  All in the worker's thread. source is what the plan was given.         */
    weir_err (*open)(void **self_p, const void *source, const weir_program_setup *setup,
                     weir_report *report);
    /*  Around the calls of a slice.                                           */
    void (*begin)(void *self);
    void (*end)(void *self);
    /*  One record. *error lives until the next call.                          */
    weir_call_result (*call)(void *self, weir_subject *subject, weir_emitter *out,
                             const char **error);
    void (*close)(void **self_p);
} weir_program_class;

typedef struct {
    const weir_program_class *class; // NULL: no function, records pass
    const void *source;              // lent
} weir_program;
