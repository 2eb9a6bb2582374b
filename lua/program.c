#include "lua/program.h"
#include <lauxlib.h>
#include <stdlib.h>
#include "lua/bind/record.h"
#include "lua/sandbox.h"

/*  The stack of a program's state, between calls: the function, then the last error's
    home. Arguments and results come behind.                                   */
enum { FUNCTION = 1, LAST_ERROR = 2, BASE = 2 };

typedef struct {
    const weir_function *source;
    weir_sandbox *sandbox;
    lua_State *L;
    weir_records *records;
    bool found; // the declaration of our node has been met
} program;

/*  While the file runs: of all declarations only ours counts.                 */
static void declare(void *arg, lua_State *L, const char *word, const char *name,
                    int table, int line)
{
    program *self = arg;
    (void)line;
    if (strcmp(word, "process") || strcmp(name, self->source->node)) return;
    lua_getfield(L, table, "each");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &weir_lua_program);
    self->found = true;
}

static weir_err load(program *self, weir_report *report)
{
    const weir_topology *t = self->source->topology;
    lua_State *L = self->L;
    char name[4096];
    weir_language language = {t->params, t->param_count, declare, self};
    self->records = weir_bind_record(L);
    weir_language_open(L, &language);
    snprintf(name, sizeof name, "@%s", t->path);
    bool good = luaL_loadbufferx(L, t->text, t->size, name, "t") == LUA_OK &&
                weir_sandbox_call(self->sandbox, 0, 0) == LUA_OK;
    const char *word;
    if (good) weir_language_close(L, &word);
    if (!good || !self->found)
        return weir_report_set(report, WEIR_EINVAL, t->path, "%s",
                               good ? "the file declares something else in a worker"
                                    : lua_tostring(L, -1));
    lua_settop(L, 0);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &weir_lua_program);
    lua_pushnil(L);
    return WEIR_OK;
}

static void close_program(void **self_p)
{
    program *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_sandbox_destroy(&self->sandbox);
    free(self);
}

static weir_err open_program(void **self_p, const void *source,
                             const weir_program_setup *setup, weir_report *report)
{
    program *self = calloc(1, sizeof *self);
    if (!self) abort();
    *self_p = self;
    self->source = source;
    weir_err err = weir_sandbox_new(
        &self->sandbox,
        &(weir_sandbox_config){.memory_limit = setup->memory_limit,
                               .instruction_limit = setup->instruction_limit,
                               .ledger = setup->ledger,
                               .module_root = self->source->topology->folder},
        report);
    if (!err) {
        self->L = weir_sandbox_state(self->sandbox);
        weir_sandbox_start(self->sandbox);
        err = load(self, report);
        weir_sandbox_stop(self->sandbox);
    }
    if (err) close_program(self_p);
    return err;
}

static void begin(void *arg)
{
    program *self = arg;
    weir_sandbox_start(self->sandbox);
}

static void end(void *arg)
{
    program *self = arg;
    weir_sandbox_stop(self->sandbox);
}

/*  Keeps the text alive until the next call.                                  */
static const char *keep_error(program *self, int index)
{
    const char *text = luaL_tolstring(self->L, index, NULL);
    lua_replace(self->L, LAST_ERROR);
    return text;
}

static weir_call_result failed(program *self, const char **error)
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

static weir_call_result bad_result(program *self, weir_err err, const char *text,
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
static weir_call_result take_results(program *self, const char **error)
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
    program *self = arg;
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
