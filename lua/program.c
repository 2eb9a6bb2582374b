#include "lua/program.h"
#include <lauxlib.h>
#include <stdlib.h>
#include "lua/script.h"

/*  The stack of a program's state, between calls: the function, then the last error's
    home. Arguments and results come behind.                                   */
enum { FUNCTION = 1, LAST_ERROR = 2, BASE = 2 };

static void close_program(void **self_p)
{
    weir_script *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_script_close(self);
    free(self);
}

static weir_err open_program(void **self_p, const void *source,
                             const weir_program_setup *setup, weir_report *report)
{
    const weir_function *function = source;
    weir_script *self = calloc(1, sizeof *self);
    if (!self) abort();
    *self_p = self;
    self->topology = function->topology;
    self->word = "process";
    self->node = function->node;
    self->option = "each";
    weir_err err = weir_script_open(self, setup->memory_limit, setup->instruction_limit,
                                    setup->ledger, report);
    if (err)
        close_program(self_p);
    else
        lua_pushnil(self->L);
    return err;
}

static void begin(void *arg)
{
    weir_script *self = arg;
    weir_sandbox_start(self->sandbox);
}

static void end(void *arg)
{
    weir_script *self = arg;
    weir_sandbox_stop(self->sandbox);
}

/*  Keeps the text alive until the next call.                                  */
static const char *keep_error(weir_script *self, int index)
{
    const char *text = luaL_tolstring(self->L, index, NULL);
    lua_replace(self->L, LAST_ERROR);
    return text;
}

static weir_call_result failed(weir_script *self, const char **error)
{
    weir_overrun overrun = weir_sandbox_overrun(self->sandbox);
    if (overrun != WEIR_OVERRUN_NONE) {
        *error = keep_error(self, -1); // the sandbox's sentence, with file and line
        return overrun == WEIR_OVERRUN_MEMORY   ? WEIR_CALL_MEMORY
               : overrun == WEIR_OVERRUN_OUTPUT ? WEIR_CALL_OUTPUT
                                                : WEIR_CALL_INSTRUCTIONS;
    }
    if (weir_records_undecodable(self->records)) return WEIR_CALL_PARSE;
    *error = keep_error(self, -1);
    return WEIR_CALL_FAILED;
}

static weir_call_result bad_result(weir_script *self, weir_err err, const char *text,
                                   const char **error)
{
    if (err == WEIR_ETOOBIG) {
        *error = "output_limit or record_max exceeded";
        return WEIR_CALL_OUTPUT;
    }
    lua_pushstring(self->L, text);
    *error = keep_error(self, -1);
    return WEIR_CALL_FAILED;
}

/*  Takes the function's results, which lie above BASE.                        */
static weir_call_result take_results(weir_script *self, const char **error)
{
    lua_State *L = self->L;
    int top = lua_gettop(L), emitted = 0;
    bool has_emitted = weir_records_emitted(self->records);
    if (top == BASE && !has_emitted)
        return bad_result(self, WEIR_EINVAL,
                          "the function returned nothing: return a record, or drop",
                          error);
    if (top == BASE + 1 && weir_records_is_input(self->records, top)) {
        weir_err err = weir_records_result(self->records, top, error);
        return err ? bad_result(self, err, *error, error) : WEIR_CALL_DONE;
    }
    for (int i = BASE + 1; i <= top; i++) {
        if (lua_isnil(L, i) || weir_language_is_drop(L, i)) continue;
        const char *dead = weir_language_dead(L, i), *text = "";
        if (dead && top == BASE + 1 && !has_emitted) {
            lua_rawgeti(L, i, 2);
            *error = keep_error(self, -1);
            return WEIR_CALL_DEAD;
        }
        if (dead)
            return bad_result(self, WEIR_EINVAL, "dead \"..\" must be the only result",
                              error);
        weir_err err = weir_records_result(self->records, i, &text);
        if (err) return bad_result(self, err, text, error);
        emitted++;
    }
    return emitted || has_emitted ? WEIR_CALL_DONE : WEIR_CALL_DROP;
}

static weir_call_result call(void *arg, weir_subject *subject, weir_emitter *out,
                             const char **error)
{
    weir_script *self = arg;
    lua_State *L = self->L;
    weir_call_result result;
    lua_settop(L, BASE);
    lua_pushvalue(L, FUNCTION);
    weir_records_begin(self->records, subject, out);
    if (weir_sandbox_call(self->sandbox, 1, LUA_MULTRET))
        result = failed(self, error);
    else
        result = take_results(self, error);
    weir_records_end(self->records);
    return result;
}

const weir_program_class weir_lua_program = {
    .open = open_program,
    .begin = begin,
    .end = end,
    .call = call,
    .close = close_program,
};
