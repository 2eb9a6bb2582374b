/*  help_sandbox: chunks of Lua in a fresh sandbox, and how they must end.

    Include it in one test program each; everything is static.                 */
#pragma once
#include "lua/sandbox.h"
#include "lua/heap.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MB (1024 * 1024)

/*  CPU that any single case may take.                                         */
#ifdef WEIR_SANITIZED
#define SOON_MS 30000
#else
#define SOON_MS 1500 // the black-box tests hold what a user is promised: a second
#endif

/*  Instructions that endless code is given. With sanitizers each takes many times as
    long, and the time that all of them take is bounded without.                */
#ifdef WEIR_SANITIZED
#define ENDLESS_LIMIT 4000000
#else
#define ENDLESS_LIMIT 10000000 // the default
#endif

static inline int64_t cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline weir_sandbox *open_with(size_t memory, uint64_t instructions,
                                      const char *root)
{
    weir_sandbox *self;
    weir_sandbox_config config = {
        .memory_limit = memory, .instruction_limit = instructions, .module_root = root};
    assert_int_equal(weir_sandbox_new(&self, &config, NULL), WEIR_OK);
    return self;
}

static inline weir_sandbox *open_default(void)
{
    return open_with(64 * MB, 10000000, NULL);
}

/*  Runs the chunk, named "t.lua"; its results or error are on the stack.      */
static inline int run(weir_sandbox *self, const char *chunk)
{
    lua_State *L = weir_sandbox_state(self);
    lua_settop(L, 0);
    if (luaL_loadbufferx(L, chunk, strlen(chunk), "@t.lua", "t") != LUA_OK)
        fail_msg("%s", lua_tostring(L, -1));
    return weir_sandbox_call(self, 0, LUA_MULTRET);
}

/*  The chunk must return true in a fresh sandbox.                             */
static inline void expect_true(weir_sandbox *self, const char *chunk)
{
    lua_State *L = weir_sandbox_state(self);
    if (run(self, chunk) != LUA_OK) fail_msg("%s\n%s", lua_tostring(L, -1), chunk);
    if (!lua_isboolean(L, 1) || !lua_toboolean(L, 1)) fail_msg("not true: %s", chunk);
}

/*  Within so many instructions the chunk must end as the overrun, soon; NONE: as any. */
static inline void expect_overrun_within(uint64_t limit, const char *chunk,
                                         weir_overrun what)
{
    weir_sandbox *self = open_with(64 * MB, limit, NULL);
    int64_t start_ms = cpu_ms();
    int status = run(self, chunk);
    int64_t took_ms = cpu_ms() - start_ms;
    if (took_ms >= SOON_MS) fail_msg("%d ms: %s", (int)took_ms, chunk);
    if (status == LUA_OK) fail_msg("ended well: %s", chunk);
    const char *text = lua_tostring(weir_sandbox_state(self), -1);
    weir_overrun was = weir_sandbox_overrun(self);
    if (what ? was != what : !was) fail_msg("overrun %d, %s: %s", was, text, chunk);
    assert_int_equal(status, was == WEIR_OVERRUN_MEMORY ? LUA_ERRMEM : LUA_ERRRUN);
    if (!strstr(text, "limit of")) fail_msg("'%s': %s", text, chunk);
    weir_sandbox_destroy(&self);
}

static inline void expect_overrun(const char *chunk, weir_overrun what)
{
    expect_overrun_within(10000000, chunk, what);
}

static inline void expect_endless(const char *chunk)
{
    expect_overrun_within(ENDLESS_LIMIT, chunk, WEIR_OVERRUN_INSTRUCTIONS);
}

/*  The chunk must fail as an ordinary error that holds the words, soon.       */
static inline void expect_error(const char *chunk, const char *words)
{
    weir_sandbox *self = open_default();
    int64_t start_ms = cpu_ms();
    int status = run(self, chunk);
    int64_t took_ms = cpu_ms() - start_ms;
    if (took_ms >= SOON_MS) fail_msg("%d ms: %s", (int)took_ms, chunk);
    const char *text = lua_tostring(weir_sandbox_state(self), -1);
    if (status == LUA_OK) fail_msg("ended well: %s", chunk);
    if (!text || !strstr(text, words)) fail_msg("'%s': %s", text, chunk);
    assert_int_equal(weir_sandbox_overrun(self), WEIR_OVERRUN_NONE);
    expect_true(self, "return 1 + 1 == 2");
    weir_sandbox_destroy(&self);
}
