/*  Any pattern and subject: the matcher ends within the budget of the call, and when
    it does so without an overrun it gives what Lua's own gives.

    input: a byte for the init, the pattern's length, the pattern, the subject   */
#include "lua/sandbox.h"
#include "tests/unit/help_pattern.h"
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*  Lua's own bound on recursion is out of reach of shorter ones.              */
#define PATTERN_MAX 100

static weir_sandbox *sandbox;
static lua_State *plain;

static void load_probe(lua_State *L)
{
    if (luaL_loadstring(L, help_pattern_probe) != LUA_OK) abort();
    lua_setfield(L, LUA_REGISTRYINDEX, "probe");
}

static void open_both(void)
{
    weir_sandbox_config config = {.memory_limit = 16 << 20, .instruction_limit = 100000};
    if (weir_sandbox_new(&sandbox, &config, NULL)) abort();
    load_probe(weir_sandbox_state(sandbox));
    if (plain) return;
    plain = luaL_newstate();
    luaL_openlibs(plain);
    load_probe(plain);
}

static void push_probe(lua_State *L, const uint8_t *data, size_t size, size_t pattern)
{
    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "probe");
    lua_pushlstring(L, (const char *)data + 2 + pattern, size - 2 - pattern);
    lua_pushlstring(L, (const char *)data + 2, pattern);
    lua_pushliteral(L, "<%0%1>");
    lua_pushinteger(L, (int8_t)data[0] % 16);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    if (!sandbox) open_both();
    size_t pattern = data[1] % (size - 2) % PATTERN_MAX;
    lua_State *L = weir_sandbox_state(sandbox);
    push_probe(L, data, size, pattern);
    if (weir_sandbox_call(sandbox, 4, 1) != LUA_OK) {
        if (weir_sandbox_overrun(sandbox) == WEIR_OVERRUN_NONE) abort();
        weir_sandbox_destroy(&sandbox);
        return 0;
    }
    push_probe(plain, data, size, pattern);
    if (lua_pcall(plain, 4, 1, 0) != LUA_OK) abort();
    size_t ours_size, theirs_size;
    const char *ours = lua_tolstring(L, -1, &ours_size);
    const char *theirs = lua_tolstring(plain, -1, &theirs_size);
    if (ours_size != theirs_size || memcmp(ours, theirs, ours_size) != 0) {
        fprintf(stderr, "ours:\n%s\nLua's:\n%s\n", ours, theirs);
        abort();
    }
    return 0;
}
