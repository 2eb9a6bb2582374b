#include "lua/policy.h"
#include <lauxlib.h>
#include <stdlib.h>
#include "lua/program.h"
#include "lua/script.h"

/*  It is called once a window: little is enough.                                */
static const size_t memory_limit = 16 << 20;
static const uint64_t instruction_limit = 10000000;

static weir_err open_policy(void **self_p, const void *source, weir_ledger *ledger,
                            weir_report *report)
{
    const weir_function *function = source;
    weir_script *self = calloc(1, sizeof *self);
    if (!self) abort();
    *self_p = self;
    self->topology = function->topology;
    self->word = "bus";
    self->node = function->node;
    self->option = "scale";
    weir_err err =
        weir_script_open(self, memory_limit, instruction_limit, ledger, report);
    if (err || !lua_istable(self->L, 1)) return err;
    lua_getfield(self->L, 1, "want"); // scale = { want = function .. }
    lua_replace(self->L, 1);
    return WEIR_OK;
}

static void close_policy(void **self_p)
{
    weir_script *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_script_close(self);
    free(self);
}

static void set_number(lua_State *L, const char *name, double number)
{
    lua_pushnumber(L, number);
    lua_setfield(L, -2, name);
}

static void set_integer(lua_State *L, const char *name, lua_Integer number)
{
    lua_pushinteger(L, number);
    lua_setfield(L, -2, name);
}

static void push_figures(lua_State *L, const weir_scale_figures *figures)
{
    lua_createtable(L, 0, 7);
    set_integer(L, "shards", figures->shards);
    set_integer(L, "hot", figures->hot);
    set_integer(L, "cold", figures->cold);
    set_number(L, "load", figures->load);
    set_number(L, "fill", figures->fill);
    set_number(L, "wait_ms", (double)figures->wait_us / 1000);
    set_number(L, "rate", figures->rate);
}

static weir_err want(void *arg, const weir_scale_figures *figures, int64_t *shards,
                     weir_report *report)
{
    weir_script *self = arg;
    lua_State *L = self->L;
    int is_integer;
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    push_figures(L, figures);
    if (weir_sandbox_call(self->sandbox, 1, 1))
        return weir_report_set(report, WEIR_EINVAL, NULL, "%s", lua_tostring(L, -1));
    *shards = lua_tointegerx(L, -1, &is_integer);
    if (is_integer) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, NULL,
                           "scale: the function returned a %s: return a whole number of "
                           "shards",
                           luaL_typename(L, -1));
}

const weir_policy_class weir_lua_policy = {
    .open = open_policy,
    .want = want,
    .close = close_policy,
};
