/*  Empty calls a second through the sandbox, limits on, against raw lua_pcall in a
    plain state; and some library functions against Lua's own.                 */
#include "lua/sandbox.h"
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CALLS 200000
#define ROUNDS 25

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/*  Seconds for the calls of the function on the top of the stack.             */
static double time_plain(lua_State *L, int calls)
{
    double start_s = now_s();
    for (int i = 0; i < calls; i++) {
        lua_pushvalue(L, -1);
        if (lua_pcall(L, 0, 0, 0) != LUA_OK) abort();
    }
    return now_s() - start_s;
}

static double time_sandbox(weir_sandbox *sandbox, int calls)
{
    lua_State *L = weir_sandbox_state(sandbox);
    weir_sandbox_start(sandbox);
    double start_s = now_s();
    for (int i = 0; i < calls; i++) {
        lua_pushvalue(L, -1);
        if (weir_sandbox_call(sandbox, 0, 0) != LUA_OK) abort();
    }
    double took_s = now_s() - start_s;
    weir_sandbox_stop(sandbox);
    return took_s;
}

/*  Best of the rounds of each, taken in turns.                                */
static void compare(const char *name, const char *chunk, int calls)
{
    weir_sandbox *sandbox;
    weir_ledger *ledger = weir_ledger_new(1ull << 40);
    weir_sandbox_config config = {
        .memory_limit = 64 << 20, .instruction_limit = 10000000, .ledger = ledger};
    if (weir_sandbox_new(&sandbox, &config, NULL)) abort();
    lua_State *plain = luaL_newstate(), *L = weir_sandbox_state(sandbox);
    luaL_openlibs(plain);
    if (luaL_dostring(plain, chunk) != LUA_OK || luaL_dostring(L, chunk) != LUA_OK) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    double best_plain_s = 1e9, best_sandbox_s = 1e9;
    for (int i = 0; i < ROUNDS; i++) {
        double plain_s = time_plain(plain, calls);
        double sandbox_s = time_sandbox(sandbox, calls);
        if (plain_s < best_plain_s) best_plain_s = plain_s;
        if (sandbox_s < best_sandbox_s) best_sandbox_s = sandbox_s;
    }
    printf("%-28s %12.0f a second  plain %12.0f  ratio %.2f\n", name,
           calls / best_sandbox_s, calls / best_plain_s, best_plain_s / best_sandbox_s);
    weir_sandbox_destroy(&sandbox);
    weir_ledger_destroy(&ledger);
    lua_close(plain);
}

int main(void)
{
    compare("empty call", "return function () end", CALLS);
    compare(
        "tables and strings",
        "return function () local t = {} for i = 1, 20 do t[i] = {i, 'x' .. i} end end",
        CALLS / 20);
    compare("pcall", "return function () pcall (type, 1) end", CALLS);
    compare(
        "string.match",
        "local s = '127.0.0.1 - bob [x] \"GET /a HTTP/1.1\" 200 17'\n"
        "return function () return (s:match ('\"(%u+) ([^ ]+) ([^\"]*)\" (%d+)')) end",
        CALLS / 4);
    compare("string.find, short",
            "return function () return ('key=v'):find ('=', 1, true)"
            " end",
            CALLS);
    compare("string.gsub", "return function () return ('a-b-c-d'):gsub ('%-', '+') end",
            CALLS / 4);
    compare("string.gmatch",
            "return function () for k, v in ('a=1,b=2,c=3'):gmatch ('(%w+)=(%w+)') do end"
            " end",
            CALLS / 4);
    compare("string.format", "return function () return ('%d-%s'):format (7, 'x') end",
            CALLS / 4);
    compare("table.insert",
            "return function () local t = {} for i = 1, 10 do"
            " table.insert (t, i) end end",
            CALLS / 10);
    compare("table.concat",
            "local t = {} for i = 1, 20 do t[i] = 'item' .. i end\n"
            "return function () return table.concat (t, ', ') end",
            CALLS / 10);
    compare(
        "table.sort, numbers",
        "local r = {} for i = 1, 1000 do r[i] = (i * 7919) % 1009 end\n"
        "return function () local t = table.move (r, 1, #r, 1, {}) table.sort (t) end",
        100);
    compare("table.sort, comparator",
            "local r = {} for i = 1, 1000 do r[i] = (i * 7919) % 1009 end\n"
            "return function () local t = table.move (r, 1, #r, 1, {})\n"
            " table.sort (t, function (a, b) return a > b end) end",
            100);
    return 0;
}
