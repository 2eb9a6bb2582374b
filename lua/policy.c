#include "lua/policy.h"
#include <lauxlib.h>
#include <stdlib.h>
#include "lua/program.h"
#include "lua/script.h"

/*  It is called once a window: little is enough.                                */
static const size_t memory_limit = 16 << 20;
static const uint64_t instruction_limit = 10000000;

typedef struct {
    weir_script script; // without a sandbox: it could not be opened again
    weir_ledger *ledger;
} policy;

static weir_err open_script(policy *self, weir_report *report)
{
    weir_script *script = &self->script;
    weir_err err =
        weir_script_open(script, memory_limit, instruction_limit, self->ledger, report);
    if (err) {
        weir_script_close(script);
        return err;
    }
    if (!lua_istable(script->L, 1)) return WEIR_OK;
    lua_getfield(script->L, 1, "want"); // scale = { want = function .. }
    lua_replace(script->L, 1);
    return WEIR_OK;
}

static weir_err open_policy(void **self_p, const void *source, weir_ledger *ledger,
                            weir_report *report)
{
    const weir_function *function = source;
    policy *self = calloc(1, sizeof *self);
    if (!self) abort();
    *self_p = self;
    self->ledger = ledger;
    self->script = (weir_script){.topology = function->topology,
                                 .word = "bus",
                                 .node = function->node,
                                 .option = "scale"};
    return open_script(self, report);
}

static void close_policy(void **self_p)
{
    policy *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_script_close(&self->script);
    free(self);
}

/*  A state that has passed a limit is of no use any more.                       */
static weir_err renew(policy *self, weir_report *report)
{
    weir_sandbox *sandbox = self->script.sandbox;
    if (sandbox && weir_sandbox_overrun(sandbox) == WEIR_OVERRUN_NONE) return WEIR_OK;
    weir_script_close(&self->script);
    return open_script(self, report);
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
    policy *self = arg;
    int is_integer;
    weir_err err = renew(self, report);
    if (err) return err;
    lua_State *L = self->script.L;
    lua_settop(L, 1);
    lua_pushvalue(L, 1);
    push_figures(L, figures);
    if (weir_sandbox_call(self->script.sandbox, 1, 1))
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
