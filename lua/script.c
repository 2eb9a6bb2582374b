#include "lua/script.h"
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

static const char function_key;

/*  While the file runs.                                                         */
static void declare(void *arg, lua_State *L, const char *word, const char *name,
                    int table, int line)
{
    weir_script *self = arg;
    (void)line;
    if (strcmp(word, self->word) || strcmp(name, self->node)) return;
    lua_getfield(L, table, self->option);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &function_key);
    self->found = true;
}

/*  What the plan has read.                                                      */
static void push_secret(void *arg, lua_State *L, const char *name, const char *file,
                        int line)
{
    weir_script *self = arg;
    (void)file, (void)line;
    const weir_secret *secret = weir_secrets_find(&self->topology->secrets, name);
    if (!secret) luaL_error(L, "secret \"%s\": it is asked for in a worker only", name);
    lua_pushlstring(L, secret->text, secret->size);
}

static weir_err load(weir_script *self, weir_report *report)
{
    const weir_topology *t = self->topology;
    lua_State *L = self->L;
    char name[4096];
    weir_language language = {t->params, t->param_count, declare, self, push_secret};
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
    lua_rawgetp(L, LUA_REGISTRYINDEX, &function_key);
    return WEIR_OK;
}

weir_err weir_script_open(weir_script *self, size_t memory_limit,
                          uint64_t instruction_limit, weir_ledger *ledger,
                          weir_report *report)
{
    weir_err err =
        weir_sandbox_new(&self->sandbox,
                         &(weir_sandbox_config){.memory_limit = memory_limit,
                                                .instruction_limit = instruction_limit,
                                                .ledger = ledger,
                                                .module_root = self->topology->folder},
                         report);
    if (err) return err;
    self->L = weir_sandbox_state(self->sandbox);
    weir_sandbox_start(self->sandbox);
    err = load(self, report);
    weir_sandbox_stop(self->sandbox);
    return err;
}

void weir_script_close(weir_script *self)
{
    weir_sandbox_destroy(&self->sandbox);
}
