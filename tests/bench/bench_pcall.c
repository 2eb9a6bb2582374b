/*  The limit that a Lua function is measured against: empty protected calls a second
    in plain Lua, one thread. Prints one number.                               */
#include <lauxlib.h>
#include <stdio.h>
#include <time.h>

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(void)
{
    enum { CALLS = 20000000 };
    lua_State *L = luaL_newstate();
    if (!L || luaL_dostring(L, "return function (r) end")) return 1;
    double start = seconds();
    for (int i = 0; i < CALLS; i++) {
        lua_pushvalue(L, 1);
        if (lua_pcall(L, 0, 0, 0)) return 1;
    }
    printf("%.0f\n", CALLS / (seconds() - start));
    lua_close(L);
    return 0;
}
