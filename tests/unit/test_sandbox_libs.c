/*  The sandbox's own `table` and `require`.                                    */
#include "tests/unit/help_sandbox.h"

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
        cmocka_unit_test(table_functions_do_as_lua_does),
        cmocka_unit_test(sort_orders_and_is_stable),
        cmocka_unit_test(modules_are_found_beneath_the_root),
        cmocka_unit_test(without_a_root_nothing_is_required),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
