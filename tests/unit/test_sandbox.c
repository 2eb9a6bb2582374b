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

static int64_t cpu_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static weir_sandbox *open_with(size_t memory, uint64_t instructions, const char *root)
{
    weir_sandbox *self;
    weir_sandbox_config config = {
        .memory_limit = memory, .instruction_limit = instructions, .module_root = root};
    assert_int_equal(weir_sandbox_new(&self, &config, NULL), WEIR_OK);
    return self;
}

static weir_sandbox *open_default(void)
{
    return open_with(64 * MB, 10000000, NULL);
}

/*  Runs the chunk, named "t.lua"; its results or error are on the stack.      */
static int run(weir_sandbox *self, const char *chunk)
{
    lua_State *L = weir_sandbox_state(self);
    lua_settop(L, 0);
    if (luaL_loadbufferx(L, chunk, strlen(chunk), "@t.lua", "t") != LUA_OK)
        fail_msg("%s", lua_tostring(L, -1));
    return weir_sandbox_call(self, 0, LUA_MULTRET);
}

/*  The chunk must return true in a fresh sandbox.                             */
static void expect_true(weir_sandbox *self, const char *chunk)
{
    lua_State *L = weir_sandbox_state(self);
    if (run(self, chunk) != LUA_OK) fail_msg("%s\n%s", lua_tostring(L, -1), chunk);
    if (!lua_isboolean(L, 1) || !lua_toboolean(L, 1)) fail_msg("not true: %s", chunk);
}

/*  The chunk must end as the overrun, soon; NONE: as any.                     */
static void expect_overrun(const char *chunk, weir_overrun what)
{
    weir_sandbox *self = open_default();
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

/*  The chunk must fail as an ordinary error that holds the words, soon.       */
static void expect_error(const char *chunk, const char *words)
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

/* --- Time -------------------------------------------------------------------------- */

static void endless_code_ends_as_an_overrun(void **state)
{
    (void)state;
    static const char *const chunks[] = {
        "while true do end",
        "local n = 0 while true do n = n + 1 end",
        "repeat until false",
        "::a:: goto a",
        "local function f () return f () end f ()",
        "for i = 1, math.huge do end",
        "pcall (function () while true do end end) return 'caught'",
        "while true do pcall (function () while true do end end) end",
        "while true do pcall (pcall, pcall, function () while true do end end) end",
        "local function f () pcall (f) pcall (f) while true do end end f ()",
        "while true do pcall (error) end",
        "xpcall (function () while true do end end, function () while true do end end)",
        "xpcall (error, function () while true do end end)",
        "while true do xpcall (function () while true do end end, function () end) end",
        "xpcall (function () while true do end end, pcall, error)",
        "local c <close> = setmetatable ({}, {__close = function ()"
        " while true do end end})",
        "local m = {__close = function () while true do end end}\n"
        "while true do pcall (function () local c <close> = setmetatable ({}, m)"
        " while true do end end) end",
        "local function f () f () end while true do pcall (f) end",
        "local k = {} for i = 1, 7e5 do k[i] = {} end while true do local t = {{}} end",
        "for _ in function () return 1 end do end",
        "for _ in pcall, error do end",
        "while true do load ('while true do end') () end",
        "load (function () while true do end end)",
        "load (function () return ('x'):rep (1e5) end)",
        "while true do load (function () while true do end end) end",
    };
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        expect_overrun(chunks[i], WEIR_OVERRUN_INSTRUCTIONS);
}

static void endless_metamethods_end_as_an_overrun(void **state)
{
    (void)state;
    static const char *const uses[] = {
        "t.x",
        "t + 1",
        "t .. ''",
        "#t",
        "t < t",
        "t ()",
        "tostring (t)",
        "t == setmetatable ({}, getmetatable (t))",
        "-t",
        "pairs (t)",
        "rawset (t, 1, 1), t[2]",
        "string.format ('%s', t)",
        "table.concat (t)",
        "table.unpack (t)",
        "table.insert (t, 1)",
        "table.sort (t)",
        "('x'):gsub ('x', t)",
    };
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        char chunk[600];
        snprintf(chunk, sizeof chunk,
                 "local function f () while true do end end\n"
                 "local t = setmetatable ({}, {__index = f, __add = f, __concat = f,"
                 " __len = f, __lt = f, __call = f, __tostring = f, __eq = f, __unm = f,"
                 " __pairs = f})\n"
                 "while true do pcall (function () local x = %s end) end",
                 uses[i]);
        expect_overrun(chunk, WEIR_OVERRUN_INSTRUCTIONS);
    }
}

static void endless_library_calls_end_as_an_overrun(void **state)
{
    (void)state;
    static const char *const chunks[] = {
        "table.sort ({3, 2, 1}, function () while true do end end)",
        "local t = {} for i = 1, 1000 do t[i] = i end\n"
        "while true do pcall (table.sort, t, function () return true end) end",
        "local s = ('a'):rep (100) return s:find (('a-'):rep (50) .. 'b')",
        "local s = ('a'):rep (100) return pcall (s.find, s, ('a*'):rep (50) .. 'b')",
        "local s = ('a'):rep (100) while true do pcall (s.match, s, ('a?'):rep (99)"
        " .. ('a*'):rep (20) .. 'b') end",
        "local s = ('a'):rep (30000) return s:find ('.-.-.-b')",
        "local s = ('a'):rep (100000) return s:gsub ('a*b', '')",
        "local s = ('('):rep (300000) return s:find ('%b()')",
        "for _ in (('a'):rep (100)):gmatch (('a-'):rep (50) .. 'b') do end",
        "('x'):gsub ('x', function () while true do end end)",
        "(('x'):rep (1000000)):gsub ('', function () for i = 1, 1000 do end end)",
        "while true do pcall (string.gsub, 'x', 'x', function () while true do end end)"
        " end",
        "table.move ({}, 1, 1e15, 2)",
        "pcall (table.move, {}, 1, 1e15, 2)",
        "local t = setmetatable ({}, {__len = function () return 1e15 // 1 | 0 end})\n"
        "table.insert (t, 1, 'x')",
        "local t = setmetatable ({}, {__len = function () return 1e15 // 1 | 0 end})\n"
        "table.remove (t, 1)",
        "local t = setmetatable ({}, {__len = function () return 1e15 // 1 | 0 end,"
        " __index = function () return '' end}) table.concat (t)",
        "local t = setmetatable ({}, {__len = function () return 1e15 // 1 | 0 end,"
        " __index = function () return '' end}) while true do pcall (table.concat, t) "
        "end",
        "local t = setmetatable ({}, {__len = function () return 2e9 // 1 | 0 end})\n"
        "table.sort (t)",
        "while true do (('x'):rep (1e6)):upper () end",
        "while true do string.rep ('x', 1e6) end",
        "while true do ('%099d'):format (1) end",
        "while true do json.decode ('[1,2,3]') end",
        "while true do re.find (('a'):rep (100000), 'b') end",
        // few instructions, each of them slow
        "local s = ('x'):rep (3e7) while true do local t = s .. 'y' end",
        "local s = ('x'):rep (3e7) while true do local t = s:sub (2) end",
        "local s = ('x'):rep (3e7) while true do pcall (utf8.len, s) end",
        "local t = {} for i = 1, 2^20 do t[i] = i end for i = 1, 2^20 do t[i] = nil end\n"
        "while true do next (t) end",
    };
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        expect_overrun(chunks[i], WEIR_OVERRUN_INSTRUCTIONS);
}

static void nothing_runs_on_after_an_overrun(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    int status = run(self, "seen = 0\n"
                           "local m = {__close = function () seen = seen + 1 end}\n"
                           "local a <close> = setmetatable ({}, m)\n"
                           "xpcall (function () local b <close> = setmetatable ({}, m)\n"
                           " while true do end end, function () seen = seen + 1 end)\n"
                           "seen = seen + 1");
    lua_State *L = weir_sandbox_state(self);
    assert_int_equal(status, LUA_ERRRUN);
    assert_string_equal(lua_tostring(L, -1),
                        "t.lua:5: instruction limit of 10000000 exceeded");
    lua_getglobal(L, "seen");
    assert_int_equal(lua_tointeger(L, -1), 0);
    weir_sandbox_destroy(&self);
}

static void a_call_below_the_limit_is_left_alone(void **state)
{
    (void)state;
    weir_sandbox *self = open_with(64 * MB, 100000000, NULL);
    weir_sandbox_start(self);
    for (int i = 0; i < 3; i++)
        expect_true(self, "local n = 0 for i = 1, 1e7 do n = n + i end return n > 0");
    weir_sandbox_stop(self);
    weir_sandbox_destroy(&self);
}

static void many_short_calls_are_no_long_one(void **state)
{
    (void)state;
    weir_sandbox *self = open_with(64 * MB, 10000, NULL);
    lua_State *L = weir_sandbox_state(self);
    assert_int_equal(run(self, "function f () for i = 1, 100 do end end"), LUA_OK);
    weir_sandbox_start(self);
    int64_t start_ms = cpu_ms();
    while (cpu_ms() - start_ms < 200) {
        for (int i = 0; i < 1000; i++) {
            lua_getglobal(L, "f");
            assert_int_equal(weir_sandbox_call(self, 0, 0), LUA_OK);
        }
    }
    weir_sandbox_stop(self);
    weir_sandbox_destroy(&self);
}

static int charge_one(lua_State *L)
{
    weir_charge(L, (uint64_t)luaL_checkinteger(L, 1));
    return 0;
}

static void charges_count_without_the_timer(void **state)
{
    (void)state;
    weir_sandbox *self = open_with(64 * MB, 10000, NULL);
    lua_State *L = weir_sandbox_state(self);
    lua_register(L, "charge", charge_one);
    for (int i = 0; i < 3; i++)
        assert_int_equal(run(self, "charge (5000) charge (5000)"), LUA_OK);
    assert_int_equal(run(self, "\npcall (charge, 10000)\ncharge (1)"), LUA_ERRRUN);
    assert_int_equal(weir_sandbox_overrun(self), WEIR_OVERRUN_INSTRUCTIONS);
    assert_string_equal(lua_tostring(L, -1),
                        "t.lua:3: instruction limit of 10000 exceeded");
    assert_int_equal(run(self, "charge (1) charge (math.mininteger)"), LUA_ERRRUN);
    assert_int_equal(run(self, "charge (-1)"), LUA_ERRRUN);
    weir_charge(L, 1000000); // outside of calls nothing is limited
    weir_sandbox_destroy(&self);
}

static int exceed_output(lua_State *L)
{
    weir_sandbox_exceed(L, WEIR_OVERRUN_OUTPUT);
}

static void the_program_can_raise_an_overrun(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    lua_register(weir_sandbox_state(self), "exceed", exceed_output);
    assert_int_equal(run(self, "pcall (exceed) return 1"), LUA_ERRRUN);
    assert_int_equal(weir_sandbox_overrun(self), WEIR_OVERRUN_OUTPUT);
    assert_string_equal(lua_tostring(weir_sandbox_state(self), -1),
                        "t.lua:1: output limit exceeded");
    weir_sandbox_destroy(&self);
}

static void *run_in_thread(void *arg)
{
    weir_sandbox *self = arg;
    static char failed[] = "failed";
    int64_t start_ms = cpu_ms();
    int status = run(self, "while true do end");
    bool good = status == LUA_ERRRUN && cpu_ms() - start_ms < SOON_MS;
    weir_sandbox_destroy(&self);
    return good ? NULL : failed;
}

static void each_thread_has_its_own_timer(void **state)
{
    (void)state;
    pthread_t threads[2];
    void *failed;
    for (int i = 0; i < 2; i++) {
        weir_sandbox *self = open_default();
        expect_true(self, "return true"); // its timer is this thread's so far
        pthread_create(&threads[i], NULL, run_in_thread, self);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
}

/* --- Memory ------------------------------------------------------------------------ */

static void memory_is_bounded(void **state)
{
    (void)state;
    static const char *const chunks[] = {
        "local t = {} for i = 1, 65 do t[i] = ('x'):rep (1024 * 1024 - 64) .. i end",
        "local t = {} for i = 1, 1e7 do t[i] = i end",
        "local t = {} for i = 1, 1e7 do t[i] = {} end",
        "local s = 'x' while true do s = s .. s end",
        "pcall (function () local s = 'x' while true do s = s .. s end end) return 1",
        "while true do pcall (function () local t = {} for i = 1, 1e8 do t[i] = i end"
        " end) end",
        "xpcall (string.rep, function () end, 'x', 1e9)",
        "local m = {__close = function () error 'other' end}\n"
        "pcall (function () local c <close> = setmetatable ({}, m)\n"
        " string.rep ('x', 1e9) end) return 1",
        "string.rep ('x', 1e9)",
        "string.rep ('', 5e8, 'abc')",
        "table.concat ({('x'):rep (2e7), ('x'):rep (2e7), ('x'):rep (2e7)}, 'y')",
        "('x'):rep (1e6):gsub ('x', ('y'):rep (1000))",
        "local t = {} for i = 1, 4e6 do t[i] = i end table.sort (t)",
    };
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        expect_overrun(chunks[i], WEIR_OVERRUN_MEMORY);
    /*  How fast the machine is decides which limit comes first.                */
    expect_overrun("table.concat (setmetatable ({}, {__index = type}), '', 1, 1e8)",
                   WEIR_OVERRUN_NONE);
}

static void garbage_is_no_overrun(void **state)
{
    (void)state;
    weir_sandbox *self = open_with(4 * MB, 1000000000, NULL);
    for (int i = 0; i < 5; i++)
        expect_true(self, "for i = 1, 2e5 do local t = {i, {i}, 'x' .. i} end\n"
                          "for i = 1, 500 do local s = ('x'):rep (100000 + i) end\n"
                          "return collectgarbage ('count') < 4096");
    assert_true(weir_sandbox_memory(self) <= 4 * MB);
    weir_sandbox_destroy(&self);
}

static void the_program_itself_is_not_refused_memory(void **state)
{
    (void)state;
    weir_sandbox *self = open_with(1 * MB, 1000000, NULL);
    lua_State *L = weir_sandbox_state(self);
    lua_newuserdatauv(L, 2 * MB, 0);
    assert_true(weir_sandbox_memory(self) > 2 * MB);
    assert_int_equal(luaL_loadstring(L, "local t = {} for i = 1, 1000 do t[i] = {} end"),
                     LUA_OK);
    assert_int_equal(weir_sandbox_call(self, 0, 0), LUA_ERRMEM);
    assert_int_equal(weir_sandbox_overrun(self), WEIR_OVERRUN_MEMORY);
    weir_sandbox_destroy(&self);
}

static void the_ledger_is_told_in_steps(void **state)
{
    (void)state;
    weir_ledger *ledger = weir_ledger_new(1ull << 40);
    weir_sandbox *self;
    weir_sandbox_config config = {
        .memory_limit = 64 * MB, .instruction_limit = 100000000, .ledger = ledger};
    assert_int_equal(weir_sandbox_new(&self, &config, NULL), WEIR_OK);
    uint64_t first = weir_ledger_account(ledger, WEIR_ACCOUNT_LUA);
    assert_true(first >= weir_sandbox_memory(self) && first % 65536 == 0);
    assert_true(first <= 512 * 1024);
    expect_true(self, "t = {} for i = 1, 1e5 do t[i] = {i} end s = ('x'):rep (5e6)"
                      " return true");
    uint64_t full = weir_ledger_account(ledger, WEIR_ACCOUNT_LUA);
    assert_true(full >= weir_sandbox_memory(self) && full % 65536 == 0);
    assert_true(full <= weir_sandbox_memory(self) * 5 / 4 + 512 * 1024);
    expect_true(self, "t, s = nil return true");
    lua_gc(weir_sandbox_state(self), LUA_GCCOLLECT);
    assert_true(weir_ledger_account(ledger, WEIR_ACCOUNT_LUA) <= first + 256 * 1024);
    weir_sandbox_destroy(&self);
    assert_int_equal(weir_ledger_used(ledger), 0);
    assert_int_equal(weir_ledger_release_errors(ledger), 0);
    weir_ledger_destroy(&ledger);
}

static void a_limit_too_small_for_the_libraries_is_refused(void **state)
{
    (void)state;
    for (size_t limit = 0; limit < 20000; limit += 500) {
        weir_sandbox *self;
        weir_report report = {0};
        weir_sandbox_config config = {.memory_limit = limit, .instruction_limit = 10000};
        assert_int_equal(weir_sandbox_new(&self, &config, &report), WEIR_EFULL);
        assert_null(self);
        assert_non_null(strstr(report.text, "too small"));
    }
}

/*  Blocks of random sizes, resized and freed at random, keep what was written.  */
static void the_heap_keeps_blocks_apart(void **state)
{
    (void)state;
    enum { BLOCKS = 2000 };
    static struct {
        unsigned char *at;
        size_t size;
    } blocks[BLOCKS];
    weir_ledger *ledger = weir_ledger_new(1ull << 40);
    weir_heap heap;
    weir_heap_init(&heap, 64 * MB, ledger);
    unsigned seed = 7;
    for (int round = 0; round < 200000; round++) {
        seed = seed * 1103515245 + 12345;
        int i = (int)(seed >> 8) % BLOCKS;
        seed = seed * 1103515245 + 12345;
        size_t size = (seed >> 8) % ((seed >> 28) == 0 ? 100000 : 700);
        for (size_t k = 0; k < blocks[i].size; k += 13)
            assert_int_equal(blocks[i].at[k], (unsigned char)i);
        if (blocks[i].at && round % 3 == 0) size = 0;
        blocks[i].at = weir_heap_alloc(&heap, blocks[i].at, blocks[i].size, size);
        size_t kept = size < blocks[i].size ? size : blocks[i].size;
        for (size_t k = 0; k < kept; k += 13)
            assert_int_equal(blocks[i].at[k], (unsigned char)i);
        blocks[i].size = size;
        if (size > 0) memset(blocks[i].at, i, size);
        assert_int_equal((uintptr_t)blocks[i].at % 16, 0);
        assert_true(heap.charged >= heap.footprint && heap.footprint >= heap.used);
    }
    for (int i = 0; i < BLOCKS; i++)
        weir_heap_alloc(&heap, blocks[i].at, blocks[i].size, 0);
    assert_int_equal(heap.used, 0);
    assert_true(heap.footprint <= WEIR_HEAP_CLASSES * 65536);
    weir_heap_fini(&heap);
    assert_int_equal(weir_ledger_used(ledger), 0);
    weir_ledger_destroy(&ledger);
}

/* --- What is there ----------------------------------------------------------------- */

static void dangerous_names_are_absent(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    expect_true(self, "for _, name in ipairs {'io', 'os', 'debug', 'package',"
                      " 'coroutine', 'dofile', 'loadfile', 'print', 'warn',"
                      " 'loadstring', 'getfenv'} do\n"
                      " if _G[name] ~= nil then return name end end\n"
                      "return string.dump == nil");
    weir_sandbox_destroy(&self);
}

static void the_names_of_the_language_are_present(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    expect_true(self,
                "for name in ([[assert error getmetatable ipairs load next pairs pcall"
                " rawequal rawget rawlen rawset select setmetatable tonumber tostring"
                " type xpcall collectgarbage require clf array map]]):gmatch '%w+' do\n"
                " if type (_G[name]) ~= 'function' then return name end end\n"
                "for name in ([[string table math utf8 time json re base64 _G]])"
                ":gmatch '[%w_]+' do\n"
                " if type (_G[name]) ~= 'table' then return name end end\n"
                "return null ~= nil and _VERSION == 'Lua 5.4'");
    expect_true(self, "local count = 0 for _ in pairs (_G) do count = count + 1 end\n"
                      "return count == 34 or tostring (count)");
    expect_true(self, "return math.maxinteger and math.tointeger (3.0) == 3 and"
                      " utf8.char (228) == '\\u{e4}' and utf8.charpattern ~= nil");
    weir_sandbox_destroy(&self);
}

static void metatables_are_guarded(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    expect_true(self, "return getmetatable ('') == 'string'");
    expect_true(self, "return getmetatable ('').__index == nil");
    expect_true(self, "return ('x').rep == string.rep");
    expect_true(self, "return not pcall (setmetatable, setmetatable ({},"
                      " {__metatable = false}), {})");
    expect_true(self, "return not pcall (setmetatable, {}, {__gc = function () end})");
    expect_true(self, "return not pcall (setmetatable, {}, {__gc = false})");
    expect_true(self, "return not pcall (setmetatable, '', {})");
    expect_true(self, "return not pcall (setmetatable, null, {})");
    expect_true(self, "return getmetatable (setmetatable ({}, nil)) == nil");
    expect_true(self, "called = false\n"
                      "local m = {} local t = setmetatable ({}, m)\n"
                      "m.__gc = function () called = true end t = nil return true");
    lua_gc(weir_sandbox_state(self), LUA_GCCOLLECT);
    expect_true(self, "return called == false");
    weir_sandbox_destroy(&self);
}

static void only_text_is_loaded(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    expect_true(self, "return load ('return ...') (5) == 5");
    expect_true(self, "return load ('return x', 'n', 'bt', {x = 3}) () == 3");
    expect_true(self, "local f, e = load ('x =', '=n') return f == nil and"
                      " e == \"n:1: unexpected symbol near <eof>\"");
    expect_true(self, "for _, mode in ipairs {'b', 'bt', 't'} do\n"
                      " local f, e = load ('\\27Lua', 'n', mode)\n"
                      " if f or not e:find 'binary' then return e end end return true");
    expect_true(self, "local f, e = load (function () return '\\27LuaS' end)\n"
                      "return f == nil and e:find 'binary' ~= nil");
    expect_true(self, "local parts, i = {'return', ' 4', ''}, 0\n"
                      "return load (function () i = i + 1 return parts[i] end) () == 4");
    expect_true(self, "local f, e = load (function () error 'mine' end)\n"
                      "return f == nil and e:find 'mine' ~= nil");
    weir_sandbox_destroy(&self);
}

static void the_collector_is_out_of_reach(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    expect_true(self, "return collectgarbage ('count') > 1");
    expect_true(self, "for _, what in ipairs {'collect', 'stop', 'restart', 'step',"
                      " 'incremental', 'generational', 'isrunning', 'setpause'} do\n"
                      " if pcall (collectgarbage, what) then return what end end\n"
                      "return not pcall (collectgarbage)");
    weir_sandbox_destroy(&self);
}

/* --- Errors ------------------------------------------------------------------------ */

static void ordinary_errors_name_their_line(void **state)
{
    (void)state;
    expect_error("\n\nerror 'mine'", "t.lua:3: mine");
    expect_error("local x = nil + 1", "t.lua:1: attempt to perform arithmetic");
    expect_error("error ('bare', 0)", "bare");
    expect_error("error (42)", "42");
    expect_error("error ()", "error with a nil value");
    expect_error("error (true)", "error with a boolean value");
    expect_error("error (null)", "error with a userdata value");
    expect_error("local function f () return 1 + f () end f ()", "stack overflow");
    expect_error("local function f () f () end f ()", "t.lua:1: stack overflow");
    expect_error("local function f () f () end\n"
                 "for i = 1, 2 do local good, e = pcall (f)\n"
                 " assert (not good and e:find 'stack overflow', e) end error 'done'",
                 "done");
    expect_error("local function f () return pcall (f) end assert (f ())\n"
                 "string.rep ('x', -1, error ('end'))",
                 "");
    expect_error("local t = setmetatable ({}, {}) getmetatable (t).__index = t"
                 " return t.x",
                 "loop");
    expect_error("local s = 'x' local function f () return (s:gsub ('x', f)) end f ()",
                 "");
    expect_error("string.rep ('x', 1 << 62)", "resulting string too large");
    expect_error("table.unpack ({}, 1, 1e8)", "too many results");
    expect_error("table.sort (setmetatable ({}, {__len = function () return 1e15 // 1 | 0"
                 " end}))",
                 "array too big");
    expect_error("('x'):find (('('):rep (40))", "too many captures");
    expect_error("local s = ('a'):rep (300) s:find (('a?'):rep (300))",
                 "pattern too complex");
}

static void caught_errors_are_no_overrun(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    expect_true(self, "local good, e = pcall (error, 'x') return not good and e == 'x'");
    expect_true(self, "local good, a, b = pcall (function (...) return ... end, 1, 2)\n"
                      "return good and a == 1 and b == 2");
    expect_true(self, "local good, e = xpcall (error, function (e) return e .. '!' end,"
                      " 'x') return not good and e == 'x!'");
    expect_true(self, "local good, a, b = xpcall (function (...) return ... end, error,"
                      " 1, 2) return good and a == 1 and b == 2");
    expect_true(self, "local function f () return 1 + f () end\n"
                      "local good, e = pcall (f) return not good and"
                      " e:find 'stack overflow' ~= nil");
    expect_true(self, "local t = {} local good, e = pcall (error, t)\n"
                      "return not good and e == t");
    expect_true(self, "local good, e = pcall (error) return not good and e == nil");
    expect_true(self, "return not pcall (pcall) and not pcall (xpcall, error)");
    expect_true(self, "local good = xpcall (error, function () error 'again' end)\n"
                      "return not good");
    expect_true(self,
                "return ('').rep ('', 1e15) == '' and ('x'):rep (3, '-') == 'x-x-x'");
    weir_sandbox_destroy(&self);
}

static void an_error_that_is_a_table_keeps_its_identity(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    lua_State *L = weir_sandbox_state(self);
    assert_int_equal(run(self, "e = setmetatable ({}, {__tostring = error}) error (e)"),
                     LUA_ERRRUN);
    lua_getglobal(L, "e");
    assert_true(lua_istable(L, -1) && lua_rawequal(L, -1, -2));
    weir_sandbox_destroy(&self);
}

static void arguments_and_results_pass_through(void **state)
{
    (void)state;
    weir_sandbox *self = open_default();
    lua_State *L = weir_sandbox_state(self);
    lua_pushliteral(L, "below");
    assert_int_equal(luaL_loadstring(L, "local a, b = ... return a + b, a - b"), LUA_OK);
    lua_pushinteger(L, 7);
    lua_pushinteger(L, 4);
    assert_int_equal(weir_sandbox_call(self, 2, LUA_MULTRET), LUA_OK);
    assert_int_equal(lua_gettop(L), 3);
    assert_int_equal(lua_tointeger(L, 2), 11);
    assert_int_equal(lua_tointeger(L, 3), 3);
    assert_int_equal(luaL_loadstring(L, "while true do end"), LUA_OK);
    lua_pushinteger(L, 7);
    assert_int_equal(weir_sandbox_call(self, 1, 5), LUA_ERRRUN);
    assert_int_equal(lua_gettop(L), 4);
    assert_string_equal(lua_tostring(L, 1), "below");
    weir_sandbox_destroy(&self);
}

/* --- Table ------------------------------------------------------------------------- */

static void table_functions_do_as_lua_does(void **state)
{
    (void)state;
    static const char program[] =
        "local out = {}\n"
        "local function say (...) local t = table.pack (...)\n"
        " for i = 1, t.n do\n"
        "  local v = t[i] if type (v) == 'string' then\n"
        "   v = v:gsub ('table%.', ''):gsub (\"#1 to 'remove' %(pos\", \"#2 to 'remove' "
        "(pos\")\n"
        "  end\n"
        "  out[#out + 1] = type (v) == 'table' and 'table' or tostring (v) end\n"
        " out[#out + 1] = ';' end\n"
        "local function try (f, ...) say (pcall (f, ...)) end\n"
        "local lists = {{}, {1}, {1, 2, 3}, {3, 1, 2, 5, 4}, {'b', 'a'}, {1, 'x'},"
        " {1, {}}, {1.5, 2}, {n = 1}}\n"
        "local ints = {-1, 0, 1, 2, 3, 4, 5, 6, math.maxinteger, math.mininteger}\n"
        "local function copy (t) local c = {} for k, v in pairs (t) do c[k] = v end"
        " return c end\n"
        "local function show (t) for i = 0, 8 do say (t[i]) end end\n"
        "for _, l in ipairs (lists) do\n"
        " local c = copy (l) try (table.sort, c) if pcall (table.sort, copy (l)) then"
        " show (c) end\n"
        " c = copy (l) if pcall (table.sort, c, function (a, b) return a > b end) then"
        " show (c) end\n"
        " try (table.unpack, l) try (table.concat, l) try (table.concat, l, ', ')\n"
        " c = copy (l) try (table.remove, c) show (c)\n"
        " c = copy (l) try (table.insert, c, 'new') show (c)\n"
        " try (table.insert, c) try (table.insert, c, 1, 2, 3)\n"
        " for _, i in ipairs (ints) do\n"
        "  c = copy (l) try (table.insert, c, i, 'new') show (c)\n"
        "  c = copy (l) try (table.remove, c, i) show (c)\n"
        "  for _, j in ipairs (ints) do\n"
        "   if not (i < 0 and j > 9) and not (i < -9 and j > -9) then\n"
        "   if j < 9 then try (table.unpack, l, i, j) end\n"
        "   try (table.concat, l, '-', i, j) end\n"
        "   if j < 9 and i > -9 then for _, k in ipairs (ints) do\n"
        "    if i > -9 or j < -9 then\n"
        "    c = copy (l) try (table.move, c, i, j, k) show (c)\n"
        "    local d = {} try (table.move, l, i, j, k, d) show (d) end end end\n"
        "  end end end\n"
        "try (table.move, {}, 0, math.maxinteger, 1)\n"
        "try (table.move, {}, 1, math.maxinteger, 2)\n"
        "try (table.insert, 1, 2) try (table.remove, 's') try (table.concat, nil)\n"
        "try (table.sort, {2, 1}, 1) try (table.sort, 5) try (table.unpack)\n"
        "local p = table.pack (nil, 2, nil) say (p.n, p[1], p[2], p[3])\n"
        "local m = setmetatable ({}, {__len = function () return 3 end, __index ="
        " function (_, k) return 'v' .. k end})\n"
        "say (table.unpack (m)) say (table.concat (m, '+')) say (table.remove (m))\n"
        "return table.concat (out, ' ')\n";
    weir_sandbox *self = open_with(64 * MB, 1000000000, NULL);
    if (run(self, program) != LUA_OK)
        fail_msg("%s", lua_tostring(weir_sandbox_state(self), -1));
    lua_State *plain = luaL_newstate();
    memset(lua_getextraspace(plain), 0, LUA_EXTRASPACE);
    luaL_openlibs(plain);
    if (luaL_loadbufferx(plain, program, strlen(program), "@t.lua", "t") != LUA_OK ||
        lua_pcall(plain, 0, 1, 0) != LUA_OK)
        fail_msg("%s", lua_tostring(plain, -1));
    size_t size, plain_size;
    const char *ours = lua_tolstring(weir_sandbox_state(self), -1, &size);
    const char *theirs = lua_tolstring(plain, -1, &plain_size);
    assert_true(plain_size > 10000);
    for (size_t i = 0; i < size && i < plain_size; i++)
        if (ours[i] != theirs[i])
            fail_msg("at %zu: '%.60s', not '%.60s'", i, ours + (i > 30 ? i - 30 : 0),
                     theirs + (i > 30 ? i - 30 : 0));
    assert_int_equal(size, plain_size);
    lua_close(plain);
    weir_sandbox_destroy(&self);
}

static void sort_orders_and_is_stable(void **state)
{
    (void)state;
    weir_sandbox *self = open_with(64 * MB, 1000000000, NULL);
    expect_true(self, "math.randomseed (5)\n"
                      "for n = 0, 70 do\n"
                      " local t = {} for i = 1, n do t[i] = math.random (20) end\n"
                      " table.sort (t)\n"
                      " for i = 2, n do if t[i - 1] > t[i] then return n end end end\n"
                      "return true");
    expect_true(self, "local t = {} for i = 1, 3000 do t[i] = {math.random (9), i} end\n"
                      "table.sort (t, function (a, b) return a[1] < b[1] end)\n"
                      "for i = 2, #t do local a, b = t[i - 1], t[i]\n"
                      " if a[1] > b[1] or a[1] == b[1] and a[2] > b[2] then return i end"
                      " end return true");
    expect_true(self, "local t = {3, 2, 1, 'x'} pcall (table.sort, t)\n"
                      "return t[1] == 3 and t[2] == 2 and t[3] == 1 and t[4] == 'x'");
    weir_sandbox_destroy(&self);
}

/* --- Require ----------------------------------------------------------------------- */

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void make_folder(const char *folder, const char *name)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void make_link(const char *folder, const char *name, const char *target)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    assert_int_equal(symlink(target, path), 0);
}

static void make_modules(const char *top)
{
    make_folder(top, "root");
    make_folder(top, "root/a");
    make_folder(top, "root/c");
    make_folder(top, "root-not");
    write_file(top, "root-not/x.lua", "return 'outside'");
    write_file(top, "outside.lua", "return 'outside'");
    write_file(top, "root/plain.lua", "loads = (loads or 0) + 1 return {n = loads, ...}");
    write_file(top, "root/a/b.lua", "return 'a.b'");
    write_file(top, "root/c/init.lua", "return 'init of c'");
    write_file(top, "root/nothing.lua", "touched = true");
    write_file(top, "root/wrong.lua", "\nreturn return");
    write_file(top, "root/fails.lua", "\ntries = (tries or 0) + 1 error 'mine'");
    write_file(top, "root/loop1.lua", "return require 'loop2'");
    write_file(top, "root/loop2.lua", "return require 'loop1'");
    write_file(top, "root/endless.lua", "while true do end");
    write_file(top, "root/binary.lua", "\033Lua");
    make_link(top, "root/inside.lua", "a/b.lua");
    make_link(top, "root/leads_out.lua", "../outside.lua");
    make_link(top, "root/out", "../root-not");
    make_link(top, "root/nowhere.lua", "none.lua");
    make_folder(top, "root/folder.lua");
    char path[300];
    snprintf(path, sizeof path, "%s/root/pipe.lua", top);
    assert_int_equal(mkfifo(path, 0600), 0);
}

static void modules_are_found_beneath_the_root(void **state)
{
    (void)state;
    char top[] = "/tmp/test_sandbox_XXXXXX", made[200], command[300];
    assert_non_null(mkdtemp(top));
    make_modules(top);
    snprintf(made, sizeof made, "%s/root", top);
    char *root = realpath(made, NULL);
    weir_sandbox *self = open_with(64 * MB, 10000000, root);
    expect_true(self, "return require 'a.b' == 'a.b' and require 'c' == 'init of c'");
    expect_true(self, "local p = require 'plain'\n"
                      "return p == require 'plain' and p.n == 1 and p[1] == 'plain'");
    expect_true(self, "return require 'nothing' == true and touched");
    expect_true(self, "return require 'inside' == 'a.b'");
    static const char *const refused[][2] = {
        {"../outside", "module names"},
        {"..outside", "module names"},
        {"a..b", "module names"},
        {"/etc/passwd", "module names"},
        {"a/b", "module names"},
        {".a", "module names"},
        {"a.", "module names"},
        {"", "module names"},
        {"a\\0b", "module names"},
        {"leads_out", "not beneath"},
        {"out.x", "not beneath"},
        {"nowhere", "there is no module"},
        {"missing.module", "there is no module"},
        {"folder", "no readable file"},
        {"pipe", "no readable file"},
        {"wrong", "wrong.lua:2: "},
        {"fails", "fails.lua:2: mine"},
        {"binary", "binary chunk"},
        {"loop1", "in a circle"},
    };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char chunk[300];
        for (int again = 0; again < 2; again++) {
            snprintf(chunk, sizeof chunk,
                     "local good, e = pcall (require, '%s')\n"
                     "return not good and e:find ('%s', 1, true) ~= nil or e",
                     refused[i][0], refused[i][1]);
            expect_true(self, chunk);
        }
    }
    expect_true(self, "return tries == 2");
    assert_int_equal(run(self, "pcall (require, 'endless')"), LUA_ERRRUN);
    assert_int_equal(weir_sandbox_overrun(self), WEIR_OVERRUN_INSTRUCTIONS);
    assert_string_equal(lua_tostring(weir_sandbox_state(self), -1),
                        "endless.lua:1: instruction limit of 10000000 exceeded");
    weir_sandbox_destroy(&self);
    free(root);
    snprintf(command, sizeof command, "rm -r %s", top);
    assert_int_equal(system(command), 0);
}

static void without_a_root_nothing_is_required(void **state)
{
    (void)state;
    expect_error("require 'a'", "there is no folder of modules");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_code_ends_as_an_overrun),
        cmocka_unit_test(endless_metamethods_end_as_an_overrun),
        cmocka_unit_test(endless_library_calls_end_as_an_overrun),
        cmocka_unit_test(nothing_runs_on_after_an_overrun),
        cmocka_unit_test(a_call_below_the_limit_is_left_alone),
        cmocka_unit_test(many_short_calls_are_no_long_one),
        cmocka_unit_test(charges_count_without_the_timer),
        cmocka_unit_test(the_program_can_raise_an_overrun),
        cmocka_unit_test(each_thread_has_its_own_timer),
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(garbage_is_no_overrun),
        cmocka_unit_test(the_program_itself_is_not_refused_memory),
        cmocka_unit_test(the_ledger_is_told_in_steps),
        cmocka_unit_test(a_limit_too_small_for_the_libraries_is_refused),
        cmocka_unit_test(the_heap_keeps_blocks_apart),
        cmocka_unit_test(dangerous_names_are_absent),
        cmocka_unit_test(the_names_of_the_language_are_present),
        cmocka_unit_test(metatables_are_guarded),
        cmocka_unit_test(only_text_is_loaded),
        cmocka_unit_test(the_collector_is_out_of_reach),
        cmocka_unit_test(ordinary_errors_name_their_line),
        cmocka_unit_test(caught_errors_are_no_overrun),
        cmocka_unit_test(an_error_that_is_a_table_keeps_its_identity),
        cmocka_unit_test(arguments_and_results_pass_through),
        cmocka_unit_test(table_functions_do_as_lua_does),
        cmocka_unit_test(sort_orders_and_is_stable),
        cmocka_unit_test(modules_are_found_beneath_the_root),
        cmocka_unit_test(without_a_root_nothing_is_required),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
