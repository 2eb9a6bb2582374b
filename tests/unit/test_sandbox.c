#include "tests/unit/help_sandbox.h"

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
        "for _ in function () return 1 end do end",
        "for _ in pcall, error do end",
        "while true do load ('while true do end') () end",
        "load (function () while true do end end)",
        "load (function () return ('x'):rep (1e5) end)",
        "while true do load (function () while true do end end) end",
    };
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        expect_endless(chunks[i]);
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
        expect_endless(chunk);
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
    };
    for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
        expect_endless(chunks[i]);
}

/*  What comes before the loop takes millions of instructions.                      */
static void endless_code_amid_much_data_ends_as_an_overrun(void **state)
{
    (void)state;
    expect_overrun(
        "local k = {} for i = 1, 7e5 do k[i] = {} end while true do local t = {{}} end",
        WEIR_OVERRUN_INSTRUCTIONS);
    expect_overrun("local t = {} for i = 1, 2^20 do t[i] = i end\n"
                   "for i = 1, 2^20 do t[i] = nil end while true do next (t) end",
                   WEIR_OVERRUN_INSTRUCTIONS);
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
                "for name in ([[string table math utf8 time json re base64 url _G]])"
                ":gmatch '[%w_]+' do\n"
                " if type (_G[name]) ~= 'table' then return name end end\n"
                "return null ~= nil and _VERSION == 'Lua 5.4'");
    expect_true(self, "local count = 0 for _ in pairs (_G) do count = count + 1 end\n"
                      "return count == 35 or tostring (count)");
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(endless_code_ends_as_an_overrun),
        cmocka_unit_test(endless_metamethods_end_as_an_overrun),
        cmocka_unit_test(endless_library_calls_end_as_an_overrun),
        cmocka_unit_test(endless_code_amid_much_data_ends_as_an_overrun),
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
