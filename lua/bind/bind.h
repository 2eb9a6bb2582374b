/*  bind: the C modules of the sandbox. Each opener leaves its module on the
    stack, as luaL_requiref wants it; sandbox.c names them all.

    Misuse (a wrong argument) raises; a run-time failure (text that does not
    parse) returns nil and a sentence. No function blocks or touches files.    */
#pragma once
#include <lua.h>
#include "runtime/doc.h"

int weir_bind_string(lua_State *L);  // Lua's string, patterns bounded, no dump
int weir_bind_table(lua_State *L);   // Lua's table, long loops charged
int weir_bind_base(lua_State *L);    // Lua's basic functions, guarded
int weir_bind_require(lua_State *L); // require (name): the topology's own modules
int weir_bind_time(lua_State *L);    // time.parse, time.format, time.now
int weir_bind_json(lua_State *L);    // json.decode, json.encode
int weir_bind_re(lua_State *L);      // re.match, re.find, re.gmatch, re.gsub, re.test
int weir_bind_base64(lua_State *L);  // base64.encode, base64.decode
int weir_bind_url(lua_State *L);     // url.encode
int weir_bind_clf(lua_State *L);     // clf (line): combined log format -> fields

/*  Values that Lua cannot name: null, array {}, map {} (bind/values.c).
    weir_bind_values sets the three globals. null is a light userdata.         */
int weir_bind_values(lua_State *L);
void weir_push_null(lua_State *L);
bool weir_is_null(lua_State *L, int index);
/*  Marks the table at the index as array (true) or map (false) by its metatable;
    table_kind reads the mark: 'a', 'm', or 0 for an unmarked table.           */
void weir_mark_table(lua_State *L, int index, bool array);
int weir_table_kind(lua_State *L, int index);
/*  uint64 from 2^63 on: Lua has no such integer. It is a full userdata with
    comparison, equality, tostring and arithmetic that raises unless exact.
    push_uint pushes a plain integer for what fits one; to_uint is true only for
    the userdata.                                                              */
void weir_push_uint(lua_State *L, uint64_t value);
bool weir_to_uint(lua_State *L, int index, uint64_t *value);

/*  Where time.now reads the clock: ms since 1970. Set before any state runs; a
    test may put a clock of its own here.                                      */
extern int64_t (*weir_time_source_ms)(void);

/*  Lua value -> encoded bytes behind out, and back. encode raises nothing: it
    returns WEIR_EINVAL and *error (constant text) for what the format cannot say
    (functions, NaN in JSON, text that is not UTF-8, cycles or nesting above 64,
    mixed keys); out is then as before. Keys of a map are written in byte order, so
    that the same table always gives the same bytes; a table with elements 1..n and
    no other keys is an array, an empty unmarked table is a map. A Lua string is a
    JSON string; in MessagePack it is str when it is UTF-8, else bin, and integer
    keys are allowed where the table is no array. More than WEIR_ENCODE_MAX bytes
    are WEIR_ETOOBIG (a small table that holds itself twice, 60 deep, would fill
    any memory).                                                               */
#define WEIR_ENCODE_MAX (64u << 20)
weir_err weir_encode(lua_State *L, int index, weir_format format, weir_buffer *out,
                     const char **error);

/*  How a module teaches weir_encode its own userdata: set_encode stores the
    function in the metatable on the top of the stack. The function writes exactly
    one value behind out; it must not raise and leaves the Lua stack as it was; for
    what it cannot say it sets error and returns WEIR_EINVAL. It may write Lua
    values by weir_encode_value.                                               */
typedef struct {
    lua_State *L;
    weir_format format;
    weir_buffer *out;
    size_t limit;      // out->size may not pass it
    int depth;         // containers around the value
    const char *error; // constant text, set on failure
} weir_encoder;
typedef struct {
    weir_err (*encode)(weir_encoder *self, int index);
} weir_encode_class;
void weir_set_encode(lua_State *L, const weir_encode_class *class);
weir_err weir_encode_value(weir_encoder *self, int index);

/*  Pushes the value, whole (containers become tables, arrays and maps marked so
    that empty ones come out as they were; null inside is the null value). A map key
    that is neither str, bin nor int raises; an extension becomes an opaque userdata
    that MessagePack writes back as it was.                                    */
void weir_push_value(lua_State *L, const weir_value *value, weir_buffer *scratch);
