#include "lua/source.h"
#include "runtime/buffer.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static weir_source *analyse(const char *text)
{
    weir_source *self = NULL;
    weir_report report = {0};
    weir_err err = weir_source_new(&self, "web.lua", text, strlen(text), &report);
    if (err) print_error("%s: %s\n", report.where, report.text);
    assert_int_equal(err, WEIR_OK);
    return self;
}

/*  All globals as "name:line" with a ! behind writes, in one line.            */
static void assert_globals(const char *text, const char *expected)
{
    weir_source *self = analyse(text);
    weir_buffer list = {0};
    weir_source_global global;
    for (int i = 0; weir_source_global_at(self, i, &global); i++)
        weir_buffer_printf(&list, "%s%s:%d%s", i ? " " : "", global.name, global.line,
                           global.write ? "!" : "");
    weir_buffer_put_byte(&list, 0);
    assert_string_equal((char *)list.data, expected);
    weir_buffer_fini(&list);
    weir_source_destroy(&self);
}

/*  All declarations as "word 'name':line", in one line.                       */
static void assert_declarations(const char *text, const char *expected)
{
    weir_source *self = analyse(text);
    weir_buffer list = {0};
    for (int i = 0; i < weir_source_declarations(self); i++)
        weir_buffer_printf(&list, "%s%s '%s':%d", i ? " " : "", weir_source_word(self, i),
                           weir_source_name(self, i), weir_source_line(self, i));
    weir_buffer_put_byte(&list, 0);
    assert_string_equal((char *)list.data, expected);
    weir_buffer_fini(&list);
    weir_source_destroy(&self);
}

/*  The line of an option of the first declaration.                            */
static void assert_line(const char *text, const char *path, int line)
{
    weir_source *self = analyse(text);
    assert_int_equal(weir_source_option_line(self, 0, path), line);
    weir_source_destroy(&self);
}

/*  All duplicates as "declaration path:line<first", in one line.              */
static void assert_duplicates(const char *text, const char *expected)
{
    weir_source *self = analyse(text);
    weir_buffer list = {0};
    weir_source_duplicate dup;
    for (int i = 0; weir_source_duplicate_at(self, i, &dup); i++)
        weir_buffer_printf(&list, "%s%d %s:%d<%d", i ? " " : "", dup.declaration,
                           dup.path, dup.line, dup.first_line);
    weir_buffer_put_byte(&list, 0);
    assert_string_equal((char *)list.data, expected);
    weir_buffer_fini(&list);
    weir_source_destroy(&self);
}

static void refuse_bytes(const char *text, size_t size, const char *where)
{
    weir_source *self = (weir_source *)1;
    weir_report report = {0};
    assert_int_equal(weir_source_new(&self, "web.lua", text, size, &report),
                     WEIR_EMALFORMED);
    assert_null(self);
    assert_int_equal(report.err, WEIR_EMALFORMED);
    assert_string_equal(report.where, where);
    assert_true(report.text[0]);
}

static void refuse(const char *text, const char *where)
{
    refuse_bytes(text, strlen(text), where);
}

/* --- Declarations ------------------------------------------------------------------ */

static void declarations_are_words_with_tables(void **state)
{
    (void)state;
    assert_declarations("settings { name = 'web' }\n"
                        "source.file \"access\" { path = 'x' }\n\n"
                        "a.b.c [[n]] {}\n",
                        "settings '':1 source.file 'access':2 a.b.c 'n':4");
    assert_declarations("", "");
    assert_declarations("print 'x' print('x') f(1) local a = { b = 1 }", "");
}

static void blanks_and_comments_may_stand_anywhere(void **state)
{
    (void)state;
    assert_declarations(
        "source -- a { comment }\n.\nfile --[[ \"no\" { } ]]\n\"a\"\n\n{}",
        "source.file 'a':1");
}

static void declarations_may_be_returned_and_assigned(void **state)
{
    (void)state;
    assert_declarations("local x = source.file 'a' {}\n"
                        "y, z = bus 'b' {}, bus 'c' {}\n"
                        "t.u = bus 'd' {}\n"
                        "return topology { bus 'inner' {} }, bus 'e' {}",
                        "source.file 'a':1 bus 'b':2 bus 'c':2 bus 'd':3 topology '':4 "
                        "bus 'e':4");
}

static void a_literal_in_parentheses_is_a_name_too(void **state)
{
    (void)state;
    assert_declarations("bus ('a') {} bus (\"b\") { x = 1 }", "bus 'a':1 bus 'b':1");
}

static void names_from_expressions_are_empty(void **state)
{
    (void)state;
    assert_declarations("bus (n) {} bus ('a' .. n) {} bus ('a', 'b') {} bus () {}",
                        "bus '':1 bus '':1 bus '':1 bus '':1");
}

static void names_are_decoded(void **state)
{
    (void)state;
    assert_declarations("bus 'a\\65\\x42\\u{e9}\\z \n  c\\\nd' {}", "bus 'aAB\xc3\xa9"
                                                                    "c\nd':1");
    assert_declarations("bus [==[\n]]a]=]]==] {}", "bus ']]a]=]':1");
}

static void a_name_without_table_has_no_options(void **state)
{
    (void)state;
    const char *text = "source.file 'a' (opts)\nsource.file 'b' {x = 1}\nbus 'c' 'd'";
    assert_declarations(text, "source.file 'a':1 source.file 'b':2 bus 'c':3");
    weir_source *self = analyse(text);
    assert_int_equal(weir_source_option_line(self, 0, "x"), 0);
    assert_int_equal(weir_source_option_line(self, 1, "x"), 2);
    weir_source_destroy(&self);
    assert_declarations("bus(n)(opts) f(opts)", "");
}

static void other_chains_are_no_declarations(void **state)
{
    (void)state;
    assert_declarations("a:b {} a['b'] 'c' {} (a) 'c' {} a().b {} a.b:c 'd' {}", "");
    assert_declarations("local x = not f 'a' {} local y = 1 + f 'b' {}", "");
    assert_declarations("if f 'a' {} then end while f {} do break end g(f {})", "");
    assert_declarations("bus 'a' {} {} 'b' {}", "bus 'a':1");
}

static void bodies_of_functions_declare_nothing(void **state)
{
    (void)state;
    assert_declarations("local function f() bus 'a' {} return bus 'b' {} end\n"
                        "function g() local x = bus 'c' {} end\n"
                        "bus 'd' { each = function() emit { a = 1 } end }\n"
                        "bus 'e' {}",
                        "bus 'd':3 bus 'e':4");
}

static void blocks_outside_of_functions_declare(void **state)
{
    (void)state;
    assert_declarations("for i = 1, 2 do bus ('b' .. i) {} end\n"
                        "if x then bus 'c' {} else bus 'd' {} end\n"
                        "do bus 'e' {} end repeat bus 'f' {} until true",
                        "bus '':1 bus 'c':2 bus 'd':2 bus 'e':3 bus 'f':3");
}

static void numbers_out_of_range_are_nobody(void **state)
{
    (void)state;
    weir_source *self = analyse("bus 'a' { x = 1 }");
    for (int i = -1; i < 2; i += 2) {
        assert_string_equal(weir_source_word(self, i), "");
        assert_string_equal(weir_source_name(self, i), "");
        assert_int_equal(weir_source_line(self, i), 0);
        assert_int_equal(weir_source_option_line(self, i, "x"), 0);
    }
    weir_source_duplicate dup;
    weir_source_global global;
    assert_false(weir_source_duplicate_at(self, -1, &dup));
    assert_false(weir_source_duplicate_at(self, 0, &dup));
    assert_false(weir_source_global_at(self, -1, &global));
    assert_true(weir_source_global_at(self, 0, &global));
    assert_false(weir_source_global_at(self, 1, &global));
    weir_source_destroy(&self);
    assert_null(self);
    weir_source_destroy(&self);
}

static void a_declaration_is_found_by_any_of_its_lines(void **state)
{
    (void)state;
    weir_source *self = analyse("bus 'a' {\n\n}\nbus 'a' {}\nbus 'b' {\n}\nbus {}");
    assert_int_equal(weir_source_find(self, 1, "bus", "a"), 0);
    assert_int_equal(weir_source_find(self, 3, "bus", "a"), 0);
    assert_int_equal(weir_source_find(self, 4, "bus", "a"), 1);
    assert_int_equal(weir_source_find(self, 6, "bus", "b"), 2);
    assert_int_equal(weir_source_find(self, 7, "bus", ""), 3);
    assert_int_equal(weir_source_find(self, 7, "bus", "b"), -1);
    assert_int_equal(weir_source_find(self, 1, "bus", "b"), -1);
    assert_int_equal(weir_source_find(self, 1, "sink", "a"), -1);
    assert_int_equal(weir_source_find(self, 8, "bus", ""), -1);
    weir_source_destroy(&self);
}

static void a_computed_name_answers_to_every_name(void **state)
{
    (void)state;
    weir_source *self = analyse("bus (n) { x = 1 } bus 'a' {} bus {}");
    assert_int_equal(weir_source_find(self, 1, "bus", "a"), 1);
    assert_int_equal(weir_source_find(self, 1, "bus", "b"), 0);
    assert_int_equal(weir_source_find(self, 1, "bus", ""), 2);
    weir_source_destroy(&self);
}

static void the_line_of_the_word_is_nearer_than_the_lines_around(void **state)
{
    (void)state;
    weir_source *self = analyse("bus 'a' {\n} bus 'a' {\n}");
    assert_int_equal(weir_source_find(self, 1, "bus", "a"), 0);
    assert_int_equal(weir_source_find(self, 2, "bus", "a"), 1);
    assert_int_equal(weir_source_find(self, 3, "bus", "a"), 1);
    weir_source_destroy(&self);
}

/* --- Lines of options -------------------------------------------------------------- */

static const char web[] = "settings { name = 'web' } -- 1\n"
                          "process 'parse' {\n"
                          "  from = 'events', -- { not = 'this' }\n"
                          "  workers =\n"
                          "    2; where = \"a } b\",\n"
                          "  --[==[ where = 'no',\n"
                          "  ]] ]==]\n"
                          "  store = disk { keep = {\n"
                          "    age = '7d', [ 'size' ] = 1\n"
                          "  } },\n"
                          "  framing = lines { begin = [[\n"
                          "^}x]], [\"max.size\"] = 3 },\n"
                          "  each = function (r)\n"
                          "    local t = { inner = 1 }\n"
                          "    return t, other { begin = 3 }\n"
                          "  end,\n"
                          "  [\n"
                          "   'last' ] = 9,\n"
                          "}\n"
                          "sink.file 'b' { inbound = {\n"
                          "  { where = 1 },\n"
                          "  x { where = 2 }; [7] = { 'seven' },\n"
                          "  named = 1, 'third', [3] = 0x10,\n"
                          "} }\n";

static void options_have_lines(void **state)
{
    (void)state;
    static const struct {
        int declaration;
        const char *path;
        int line;
    } rows[] = {
        {0, "name", 1},
        {1, "from", 3},
        {1, "workers", 4},
        {1, "where", 5},
        {1, "store", 8},
        {1, "store.keep", 8},
        {1, "store.keep.age", 9},
        {1, "store.keep.size", 9},
        {1, "framing", 11},
        {1, "framing.begin", 11},
        {1, "framing.max.size", 12},
        {1, "each", 13},
        {1, "last", 17},
        {2, "inbound", 20},
        {2, "inbound.1", 21},
        {2, "inbound.1.where", 21},
        {2, "inbound.2", 22},
        {2, "inbound.2.where", 22},
        {2, "inbound.7.1", 22},
        {2, "inbound.named", 23},
        {2, "inbound.3", 23},
        {1, "not", 0},
        {1, "inner", 0},
        {1, "each.inner", 0},
        {1, "begin", 0},
        {1, "keep.age", 0},
        {1, "store.", 0},
        {1, ".store", 0},
        {1, "", 0},
        {1, "name", 0},
        {0, "from", 0},
        {2, "inbound.4", 0},
        {2, "inbound.", 0},
    };
    weir_source *self = analyse(web);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int line = weir_source_option_line(self, rows[i].declaration, rows[i].path);
        if (line != rows[i].line) print_error("%s\n", rows[i].path);
        assert_int_equal(line, rows[i].line);
    }
    weir_source_destroy(&self);
}

static void every_kind_of_newline_counts_once(void **state)
{
    (void)state;
    assert_line("bus {\r\n\r\n x = 1 }", "x", 3);
    assert_line("bus {\n\r\n\r x = 1 }", "x", 3);
    assert_line("bus {\r\r x = 1 }", "x", 3);
    assert_line("bus { [[\r\n\r\n]], 'a\\\r\nb',\n x = 1 }", "x", 5);
    assert_line("--[[\n\n]] bus { x = 1 }", "x", 3);
    assert_line("#!/usr/bin/weir\nbus { x = 1 }", "x", 2);
    assert_line("\xef\xbb\xbf# x\nbus { x = 1 }", "x", 2);
    assert_line("bus { 'a\\z\n\n b', x = 1 }", "x", 3);
}

static void nested_calls_may_bear_names(void **state)
{
    (void)state;
    assert_line("bus { from = group 'b' {\n of = 'e' } }", "from.of", 2);
    assert_line("bus { from = a.b.c {\n of = 'e' } }", "from.of", 2);
    assert_line("bus { from = a:b {\n of = 'e' } }", "from.of", 2);
}

static void tables_that_are_not_the_value_have_no_lines(void **state)
{
    (void)state;
    assert_line("bus { x = f({ y = 1 }) }", "x.y", 0);
    assert_line("bus { x = a and { y = 1 } }", "x.y", 0);
    assert_line("bus { x = { y = { z = 1 } } or b }", "x.y.z", 0);
    assert_line("bus { x = #{ y = 1 } }", "x.y", 0);
    assert_line("bus { [k] = { y = 1 } }", "?.y", 0);
    assert_line("bus { x = a[{ y = 1 }] }", "x.y", 0);
    assert_line("bus { x = a and 1,\n y = 1 }", "y", 2);
    assert_line("bus { x = { y = 1 } or b, z = {\n q = 1 } }", "z.q", 2);
}

static void of_a_repeated_option_the_last_counts(void **state)
{
    (void)state;
    assert_line("bus { x = 1,\nx = 2 }", "x", 2);
}

static void keys_that_are_expressions_are_unknown(void **state)
{
    (void)state;
    const char *text =
        "bus { ['a' .. b] = 1, [1 + 1] = 2, [a] = 3, [-1] = 4, [2.0] = 5 }";
    assert_line(text, "a", 0);
    assert_line(text, "1", 0);
    assert_line(text, "2", 0);
    assert_duplicates("bus { [a] = 1, [a] = 2, [1 + 1] = 1, [1 + 1] = 1 }", "");
}

/* --- Duplicates -------------------------------------------------------------------- */

static void duplicates_are_found_at_every_depth(void **state)
{
    (void)state;
    assert_duplicates("bus 'a' { x = 1 }\n"
                      "bus 'none' (o)\n"
                      "bus 'b' { x = 1,\n  y = 2, ['x'] = 3,\n"
                      "  retry = { first = 1, max = 2,\n    first = 3 },\n"
                      "  store = disk { keep = { age = 1; age = 2 } },\n}\n"
                      "local z = bus 'c' { l = { { a = 1,\n a = 2 } }, l = 3 }",
                      "2 x:4<3 2 retry.first:6<5 2 store.keep.age:7<7 3 l.1.a:10<9 "
                      "3 l:10<9");
}

static void a_third_time_is_reported_against_the_first(void **state)
{
    (void)state;
    assert_duplicates("bus { x = 1,\nx = 2,\nx = 3 }", "0 x:2<1 0 x:3<1");
}

static void numbers_repeat_positions_but_not_strings(void **state)
{
    (void)state;
    assert_duplicates("bus { 'a',\n[1] = 2, ['1'] = 3, [0x1] = 4 }", "0 1:2<1 0 1:2<1");
}

static void integers_out_of_range_repeat_nothing(void **state)
{
    (void)state;
    assert_duplicates("bus { [18446744073709551617] = 1, 'a' }", ""); // 2^64 + 1
    assert_duplicates("bus { [0x10000000000000001] = 1, 'a' }", "0 1:1<1");
    assert_line("bus {\n [9223372036854775807] = 1 }", "9223372036854775807", 2);
    assert_line("bus {\n [9223372036854775808] = 1 }", "9223372036854775808", 0);
}

static void equal_keys_of_different_tables_are_no_duplicates(void **state)
{
    (void)state;
    assert_duplicates("bus { x = { x = { x = 1 } }, y = { x = 1 }, { x = 1 }, { x = 1 },"
                      " z = a and { x = 1 } or { x = 2 } } bus { x = 1 }",
                      "");
}

static void duplicates_are_found_below_expressions(void **state)
{
    (void)state;
    assert_duplicates("bus { x = a and { y = 1, y = 2 }, z = f({ q = 1, q = 2 }) }",
                      "0 x.y:1<1 0 z.q:1<1");
}

static void tables_outside_of_declarations_may_repeat(void **state)
{
    (void)state;
    assert_duplicates("local t = { a = 1, a = 2 }", "");
    assert_duplicates("bus { each = function() return { a = 1, a = 2 } end }", "");
    assert_duplicates("f(bus { a = 1, a = 2 })", "");
}

static void the_value_of_a_duplicate_keeps_its_own_place(void **state)
{
    (void)state;
    weir_source *self = analyse("bus { x = { a = 1 },\nx = { b = 1 } }");
    assert_int_equal(weir_source_option_line(self, 0, "x.a"), 1);
    assert_int_equal(weir_source_option_line(self, 0, "x.b"), 2);
    weir_source_destroy(&self);
}

/* --- Globals ----------------------------------------------------------------------- */

static void globals_are_reads_and_writes(void **state)
{
    (void)state;
    assert_globals("x = y\nz.a, b = 1", "x:1! y:1 z:2 b:2!");
    assert_globals("function f() end function g.h() end function g.i:j() end",
                   "f:1! g:1 g:1");
    assert_globals("a\n.b\n(c)", "a:1 c:3");
    assert_globals("x, y[z] = 1", "x:1! y:1 z:1");
}

static void fields_and_keys_are_no_globals(void **state)
{
    (void)state;
    assert_globals("local t = { a = 1, ['b'] = 2, [c] = d, e }", "c:1 d:1 e:1");
    assert_globals("local t t.a.b = t.c:d(t['e'], t[f])", "f:1");
    assert_globals("goto out ::out::", "");
}

static void locals_begin_behind_their_statement(void **state)
{
    (void)state;
    assert_globals("local x = x local y = x", "x:1");
    assert_globals("local f = function() return f end", "f:1");
    assert_globals("local function f() return f end", "");
    assert_globals("local a <const>, b <close> = a, b return a, b", "a:1 b:1");
    assert_globals("local a = function() local b, c = a end, b", "a:1 b:1");
}

static void locals_end_with_their_block(void **state)
{
    (void)state;
    assert_globals("do local x end return x", "x:1");
    assert_globals("if a then local x\nelseif x then local y\nelse y() end",
                   "a:1 x:2 y:3");
    assert_globals("while x do local x x() end", "x:1");
    assert_globals("local x do local x end return x", "");
    assert_globals("local x, x do local x end x() x = 1", "");
}

static void an_until_sees_the_body(void **state)
{
    (void)state;
    assert_globals("repeat local x until x\nreturn x", "x:2");
    assert_globals("repeat do local x end until x", "x:1");
}

static void loop_variables_live_in_the_body(void **state)
{
    (void)state;
    assert_globals("for i = i, 2 do i() end\nreturn i", "i:1 i:2");
    assert_globals("for k, v in k, v do k(v) end\nk = v", "k:1 v:1 k:2! v:2");
}

static void parameters_live_in_the_function(void **state)
{
    (void)state;
    assert_globals("local f = function(a, b, ...) return a, b, c, ... end\nreturn a",
                   "c:1 a:2");
    assert_globals(
        "function t.m(a) return self, a end\nfunction t:m(a) return self, a end"
        "\nreturn self",
        "t:1 self:1 t:2 self:3");
    assert_globals("local a function f(b) return function(c) return a, b, c, d end end",
                   "f:1! d:1");
}

static void a_local_environment_hides_all_globals(void **state)
{
    (void)state;
    assert_globals("x() local _ENV = {} y()", "x:1");
    assert_globals("local function f(_ENV) return x end\nreturn x, _ENV.y", "x:2");
}

static void globals_of_declarations_and_their_functions_count(void **state)
{
    (void)state;
    assert_globals("local top = 1\n"
                   "process 'p' {\n"
                   "  from = base,\n"
                   "  each = function (r)\n"
                   "    local f = clf (raw (r))\n"
                   "    f.kib = (f.bytes or 0) // 1024 -- not // this\n"
                   "    count = top\n"
                   "    return f\n"
                   "  end,\n"
                   "  outlets = { rest = otherwise },\n"
                   "}",
                   "process:2 base:3 clf:5 raw:5 count:7! otherwise:10");
}

/* --- Tokens and grammar ------------------------------------------------------------ */

static void lua_text_parses(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        ";;; ;",
        "return",
        "return;",
        "return 1, 2;",
        "local a = 3 local b = 0xff local c = 3. local d = .5 local e = 3e-2 local f = "
        "3E+2",
        "local a = 0x.8p1 local b = 0xA.p-2 local c = 0Xffffffffffffffffff local d = "
        "0x1P+3",
        "local a = 99999999999999999999 local b = 0x7e-1 local c = 1e5 - 2",
        "local a = 'a\\a\\b\\f\\n\\r\\t\\v\\\\\\\"\\'\\0\\10\\255\\x7F\\u{7FFFFFFF}\\z "
        "\n b'",
        "local a = \"\\\n\\\r\n\" local b = [[]] local c = [=[]]]=] local d = "
        "[==[]=]]==]",
        "--[==[ ]] ]=] \n ]==] --[ short\n --[= short\n --",
        "local a = 1 + 2 - 3 * 4 / 5 // 6 % 7 ^ 8 .. 9 & 1 | 2 ~ 3 << 4 >> 5",
        "local a = not -#~b == c ~= d < e <= f > g >= h and i or j",
        "local a = ((b)) (c)() () '' {} :d '' :e {} :f (...) .g [h] .i",
        "goto x do goto x ::x:: end ::x:: break",
        "for i = 1, 2, 3 do end for a in b do break end",
        "if a then elseif b then elseif c then else end",
        "while true do local x <close> = nil end repeat until nil",
        "function a.b.c:d(...) end function a(b, ...) end local function c() end",
        "local function f() return end",
        "a.b, c[1], d = 1, 2 (e).f = 1 (g)() ; (h or i).j()",
        "f{} f'' f[[x]] f{a}{b} f{a;b,c;}",
        "local t = { f'x', [1] = 2, a = 3; 4, function() end }",
        "a = - - - 1 a = not not b",
        "a = 1--[[x]]+2 a = 4 --2\n",
        "local s = '\\z' local u = '\\u{0}\\u{7f}\\u{80}\\u{7ff}\\u{800}\\u{ffff}'",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        weir_source *self = analyse(texts[i]);
        weir_source_destroy(&self);
    }
}

static void other_text_is_refused_with_its_line(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "end",
        "x",
        "x =",
        "= 1",
        "x y",
        "local",
        "local 1",
        "local x <const",
        "f(",
        "f(1",
        "f(1,)",
        "f{",
        "f{a=}",
        "f{[1]}",
        "f{[1}",
        "f{a b}",
        "if x",
        "if x then",
        "for",
        "for i",
        "for i = 1 do end",
        "for i = 1, 2, 3, 4 do end",
        "for a, b do end",
        "while x",
        "while x do",
        "repeat",
        "repeat until",
        "function",
        "function f",
        "function f(",
        "function f(a",
        "function f(..., a) end",
        "function a.b:c.d() end",
        "local function a.b() end",
        "return return",
        "return 1 x()",
        "goto",
        "goto 1",
        "::a",
        "f() = 1",
        "(f) = 1",
        "f(), g = 1",
        "a, b",
        "a.b",
        "a:b",
        "a.1()",
        "x = 1 +",
        "x = + 1",
        "x = 3x",
        "x = 3..2",
        "x = 0x",
        "x = 0xg",
        "x = 1e",
        "x = 0x1p",
        "x = 1e+",
        "x = 1.2.3",
        "x = .e1",
        "x = 0x.p1",
        "x = 'a",
        "x = 'a\\",
        "x = '\\q'",
        "x = '\\300'",
        "x = '\\xg0'",
        "x = '\\x1'",
        "x = '\\u41'",
        "x = '\\u{}'",
        "x = '\\u{80000000}'",
        "x = '\\u{41'",
        "x = [[a",
        "x = [=[a]]",
        "x = [=a",
        "--[[",
        "--[==[ ]]",
        "x = a ! b",
        "x = $y",
        "x = @",
        "x = `a`",
        "x = \\",
        "x = ~",
        "x = a = b",
        "{}",
        "'a' 'b'",
        "'a':b()",
        "\x01",
        "\xff",
        "x = a ~= ",
        "a = function end",
        "else",
        "until x",
        "in",
        "if x then else elseif y then end",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        refuse(texts[i], "web.lua:1");
    refuse("x = 1\n\ny = 'a\nb'", "web.lua:3");
    refuse("x = 1\n\n\ny == 2", "web.lua:4");
    refuse("f {\n a = 1\n b = 2 }", "web.lua:3");
    refuse_bytes("x = 1 \0", 7, "web.lua:1");
    refuse_bytes("x\0 = 1", 6, "web.lua:1");
}

static void zero_bytes_may_stand_in_strings_and_comments(void **state)
{
    (void)state;
    static const char text[] = "bus 'a\0b' { ['x\0y'] = 1, ['x\0z'] = 2 } --\0\n--[[\0]]";
    weir_source *self = NULL;
    assert_int_equal(weir_source_new(&self, "", text, sizeof text - 1, NULL), WEIR_OK);
    weir_source_duplicate dup;
    assert_false(weir_source_duplicate_at(self, 0, &dup));
    weir_source_destroy(&self);
}

/*  count times before, core, count times after.                               */
static weir_buffer nest(const char *before, const char *core, const char *after,
                        int count)
{
    weir_buffer text = {0};
    for (int i = 0; i < count; i++)
        weir_buffer_put_text(&text, before);
    weir_buffer_put_text(&text, core);
    for (int i = 0; i < count; i++)
        weir_buffer_put_text(&text, after);
    return text;
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"x = {", "", "}"},
        {"f(", "", ")"},
        {"x = function() ", "", " end"},
        {"do ", "", " end"},
        {"if x then ", "", " end"},
        {"repeat ", "", " until x"},
        {"bus { x = {", "", "} }"},
        {"x = (", "1", ")"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        weir_buffer text = nest(rows[i][0], rows[i][1], rows[i][2], 100000);
        refuse_bytes((char *)text.data, text.size, "web.lua:1");
        weir_buffer_fini(&text);
    }
    weir_buffer text = nest("{", "", "}", 180);
    weir_buffer whole = {0};
    weir_buffer_printf(&whole, "bus %.*s", (int)text.size, (char *)text.data);
    weir_buffer_put_byte(&whole, 0);
    weir_source *self = analyse((char *)whole.data);
    weir_source_destroy(&self);
    weir_buffer_fini(&whole);
    weir_buffer_fini(&text);
}

/*  Each of these takes minutes when the work grows with the square of the text. */
static void long_texts_take_linear_time(void **state)
{
    (void)state;
    static const char *const rows[][3] = {
        {"x = 1 ", "", ""},
        {"", "local x = y ", "local a "},
        {"", "bus { 1", ", {a=1} }"},
        {"", "bus { x = 1", " + {1}"},
        {"", "x = 1", " .. 2"},
        {"", "--[===[", "]=="},
        {"", "x = a", ".b"},
        {"", "--", "[="},
        {"", "x = ", "- "},
        {"bus {} ", "", ""},
        {"", "x", ", x"},
        {"a.b.c 'x' 'y' ", "", ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        weir_buffer text = nest(rows[i][0], rows[i][1], rows[i][2], 200000);
        weir_source *self = NULL;
        weir_source_new(&self, "", (char *)text.data, text.size, NULL);
        weir_source_destroy(&self);
        weir_buffer_fini(&text);
    }
}

static void many_options_keep_their_lines(void **state)
{
    (void)state;
    weir_buffer text = {0};
    weir_buffer_put_text(&text, "bus {");
    for (int i = 0; i < 5000; i++)
        weir_buffer_printf(&text, "k%d = { %d },\n", i % 4000, i);
    weir_buffer_put_text(&text, "}");
    weir_buffer_put_byte(&text, 0);
    weir_source *self = analyse((char *)text.data);
    assert_int_equal(weir_source_option_line(self, 0, "k0"), 4001);
    assert_int_equal(weir_source_option_line(self, 0, "k3999.1"), 4000);
    weir_source_duplicate dup;
    for (int i = 0; i < 1000; i++) {
        assert_true(weir_source_duplicate_at(self, i, &dup));
        assert_int_equal(dup.first_line, i + 1);
        assert_int_equal(dup.line, i + 4001);
    }
    assert_false(weir_source_duplicate_at(self, 1000, &dup));
    weir_source_destroy(&self);
    weir_buffer_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(declarations_are_words_with_tables),
        cmocka_unit_test(blanks_and_comments_may_stand_anywhere),
        cmocka_unit_test(declarations_may_be_returned_and_assigned),
        cmocka_unit_test(a_literal_in_parentheses_is_a_name_too),
        cmocka_unit_test(names_from_expressions_are_empty),
        cmocka_unit_test(names_are_decoded),
        cmocka_unit_test(a_name_without_table_has_no_options),
        cmocka_unit_test(other_chains_are_no_declarations),
        cmocka_unit_test(bodies_of_functions_declare_nothing),
        cmocka_unit_test(blocks_outside_of_functions_declare),
        cmocka_unit_test(numbers_out_of_range_are_nobody),
        cmocka_unit_test(a_declaration_is_found_by_any_of_its_lines),
        cmocka_unit_test(a_computed_name_answers_to_every_name),
        cmocka_unit_test(the_line_of_the_word_is_nearer_than_the_lines_around),
        cmocka_unit_test(options_have_lines),
        cmocka_unit_test(every_kind_of_newline_counts_once),
        cmocka_unit_test(nested_calls_may_bear_names),
        cmocka_unit_test(tables_that_are_not_the_value_have_no_lines),
        cmocka_unit_test(of_a_repeated_option_the_last_counts),
        cmocka_unit_test(keys_that_are_expressions_are_unknown),
        cmocka_unit_test(duplicates_are_found_at_every_depth),
        cmocka_unit_test(a_third_time_is_reported_against_the_first),
        cmocka_unit_test(numbers_repeat_positions_but_not_strings),
        cmocka_unit_test(integers_out_of_range_repeat_nothing),
        cmocka_unit_test(equal_keys_of_different_tables_are_no_duplicates),
        cmocka_unit_test(duplicates_are_found_below_expressions),
        cmocka_unit_test(tables_outside_of_declarations_may_repeat),
        cmocka_unit_test(the_value_of_a_duplicate_keeps_its_own_place),
        cmocka_unit_test(globals_are_reads_and_writes),
        cmocka_unit_test(fields_and_keys_are_no_globals),
        cmocka_unit_test(locals_begin_behind_their_statement),
        cmocka_unit_test(locals_end_with_their_block),
        cmocka_unit_test(an_until_sees_the_body),
        cmocka_unit_test(loop_variables_live_in_the_body),
        cmocka_unit_test(parameters_live_in_the_function),
        cmocka_unit_test(a_local_environment_hides_all_globals),
        cmocka_unit_test(globals_of_declarations_and_their_functions_count),
        cmocka_unit_test(lua_text_parses),
        cmocka_unit_test(other_text_is_refused_with_its_line),
        cmocka_unit_test(zero_bytes_may_stand_in_strings_and_comments),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(long_texts_take_linear_time),
        cmocka_unit_test(many_options_keep_their_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
