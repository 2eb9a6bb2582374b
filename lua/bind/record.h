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

/*  Makes the state ready: metatables, and the globals meta, raw, keep, record and
    emit. To be called once, with the sandbox's globals in place.              */
void weir_bind_record(lua_State *L);

/*  A new call begins: pushes the view of this record (the same userdata each time).
    subject and out are lent until weir_record_end.                            */
void weir_record_begin(lua_State *L, weir_subject *subject, weir_emitter *out);
void weir_record_end(lua_State *L);

/*  True when the call has found that the payload cannot be decoded; has emitted.  */
bool weir_record_undecodable(lua_State *L);
bool weir_record_emitted(lua_State *L);

/*  Emits one result of the function: a view, a table, a record (). WEIR_EINVAL: it
    is none of these, or cannot be encoded, *error says why (lent until the next
    call). WEIR_ETOOBIG: an output limit is passed.                            */
weir_err weir_record_result(lua_State *L, int index, const char **error);
