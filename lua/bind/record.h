/*  record: records as Lua functions see them: `r` with its fields, lazily read and
    written in place, and the free functions meta, raw, keep, record and emit.

    A view is a userdata over one container of the payload. Reading a field costs a
    look into the container's index; nested containers become views when they are
    asked for. What is written is kept beside, and when the record is encoded again
    every byte that did not change is copied as it was.

    A view belongs to the call it was made in and raises afterwards; keep (r) makes
    one that owns its bytes.                                                   */
#pragma once
#include <lua.h>
#include "actors/program.h"

typedef struct weir_records weir_records; // of one state, which owns it

/*  Makes the state ready: metatables, and the globals meta, raw, keep, record and
    emit. To be called once, with the sandbox's globals in place.              */
weir_records *weir_bind_record(lua_State *L);

/*  A new call begins: pushes the record. subject and out are lent until
    weir_records_end.                                                          */
void weir_records_begin(weir_records *self, weir_subject *subject, weir_emitter *out);
/*  True when the value at the index is the call's own record.                  */
bool weir_records_is_input(const weir_records *self, int index);
void weir_records_end(weir_records *self);

/*  True when the call has found that the payload cannot be decoded; has emitted.  */
bool weir_records_undecodable(const weir_records *self);
bool weir_records_emitted(const weir_records *self);

/*  Emits one result of the function: a view, a table, a record (). WEIR_EINVAL: it
    is none of these, or cannot be encoded, *error says why (lent until the next
    call). WEIR_ETOOBIG: an output limit is passed.                            */
weir_err weir_records_result(weir_records *self, int index, const char **error);
