/*  The globals of a text against those that Lua's own compiler finds.         */
#include "tests/help_globals.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void compare(lua_State *L, const char *text, size_t size)
{
    help_globals lua = {0};
    if (!help_compile(&lua, L, text, size)) {
        print_error("%s in:\n%.*s\n", lua_tostring(L, -1), (int)size, text);
        fail();
    }
    weir_source *self = NULL;
    weir_report report = {0};
    if (weir_source_new(&self, "text", text, size, &report)) {
        print_error("%s: %s in:\n%.*s\n", report.where, report.text, (int)size, text);
        fail();
    }
    assert_false(lua.doubtful);
    if (!help_agrees(&lua, self)) {
        print_error("Lua reads:\n%.*swrites:\n%.*sin:\n%.*s\n", (int)lua.reads.size,
                    (char *)lua.reads.data, (int)lua.writes.size, (char *)lua.writes.data,
                    (int)size, text);
        fail();
    }
    weir_source_destroy(&self);
    help_fini(&lua);
}

static void snippets_have_the_globals_of_the_compiler(void **state)
{
    static const char *const snippets[] = {
        "",
        "print(x) x = y",
        "local x = x x = x",
        "local function f() return f() end f()",
        "local f = function() return f() end",
        "function f() return f() end",
        "function a.b.c:d(e) self.x = e return f end",
        "function a.b(e) self.x = e end",
        "function a:b(self) self = c end",
        "for i = i, j, k do i(l) end return i",
        "for k, v in pairs(v) do v = k w = v end return k, v",
        "repeat local x = y until x and z return x",
        "repeat local x do local y = 1 end until x(y)",
        "while a do local a = a a() end a()",
        "if a then local b = c b() elseif b then local c c() else b, c = c, b end",
        "do local a do local b = a end b = a end a = b",
        "local a <const> = 1 local b <close> = a return a + b + c",
        "local a <const> = b local function f() return a, c end",
        "local a, a = a, b return function() local a = a return a end, b",
        "return function(a, ...) local b, c = ... return a(b, c, d) end",
        "local t = { a = b, [c] = d, e, f(g), function(h) return h, i end }",
        "t.a.b, t[c], d = e.f, g[h].i, j:k(l)",
        "goto done local x x = y ::done::",
        "local x = a // b -- c // d\nreturn x, e",
        "return a.b.c 'd' { e = f, g }, [[h]], 'i', { [ [[j]] ] = k }",
        "return (a)[b](c):d(e){f}'g', -h, not i, #j, ~k",
        "return a and b or c, d .. e, f == g, h < i, j ^ k, l << m",
        "local x = 1 local function f() x = 2 y = x local x = 3 return x end",
        "return function(a) return function(b) return function() a(b, c) end end end",
        "if false then a() end while nil do b() end return true or c, nil and d",
        "local a; local b = a; do local a = b end; b = function() a = c end",
        "a.b = function() c = function() d = function() local e = f e = g end end end",
        "x = { x = x, [x] = x, x } x.x = x.x",
        "for x = 1, 2 do for y in x do for x = y, z do x(y) end x(y) end end",
        "source.file 'a' { path = p, framing = lines { begin = b } } bus 'b' (opts)",
    };
    for (size_t i = 0; i < sizeof snippets / sizeof *snippets; i++)
        compare(*state, snippets[i], strlen(snippets[i]));
}

/*  How often the opening can be repeated before the compiler refuses the text. */
static int deepest(lua_State *L, const char *const row[4])
{
    for (int depth = 1; depth < 220; depth++) {
        weir_buffer text = {0};
        weir_buffer_put_text(&text, row[0]);
        for (int i = 0; i < depth; i++)
            weir_buffer_put_text(&text, row[1]);
        weir_buffer_put_text(&text, row[2]);
        for (int i = 0; i < depth; i++)
            weir_buffer_put_text(&text, row[3]);
        const char *bytes = (const char *)text.data;
        bool accepted = luaL_loadbuffer(L, bytes, text.size, "text") == LUA_OK;
        lua_settop(L, 0);
        if (accepted) compare(L, bytes, text.size);
        weir_buffer_fini(&text);
        if (!accepted) return depth - 1;
    }
    return 220;
}

static void every_depth_of_the_compiler_parses(void **state)
{
    static const char *const rows[][4] = {
        {"x = ", "{", "", "}"},
        {"x = ", "f(", "", ")"},
        {"x = ", "(1+", "1", ")"},
        {"x = ", "a[1+", "1", "]"},
        {"x = ", "- ", "1", ""},
        {"x = 1", " .. 2", "", ""},
        {"", "do ", "", "end "},
        {"", "if x then ", "", "end "},
        {"", "repeat ", "", "until x "},
        {"", "while x do ", "", "end "},
        {"x = ", "function() return ", "1", " end"},
        {"", "function f() ", "", "end "},
        {"bus ", "{ x = a ", "{}", "}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_true(deepest(*state, rows[i]) > 80);
}

/* --- Texts by chance --------------------------------------------------------------- */

/*  Writes a text that the compiler accepts, from few names, so that locals hide
    each other and globals.                                                    */
typedef struct {
    weir_buffer text;
    uint32_t chance;
    int depth;
} writer;

static unsigned roll(writer *self, unsigned sides)
{
    self->chance = self->chance * 1664525 + 1013904223;
    return (self->chance >> 16) % sides;
}

static void put(writer *self, const char *text)
{
    static const char *const blanks[] = {" ", "\n", " --[[ x = y ]] ", " -- z()\n"};
    weir_buffer_put_text(&self->text, text);
    weir_buffer_put_text(&self->text, blanks[roll(self, 8) ? 0 : roll(self, 4)]);
}

static void put_name(writer *self)
{
    static const char *const names[] = {"a", "b", "c", "d", "self", "f", "x1", "_"};
    put(self, names[roll(self, sizeof names / sizeof *names)]);
}

/*  Writes a pattern: n a name, e an expression, b a block, anything else itself, up
    to the blank.                                                              */
static void put_pattern(writer *self, const char *pattern);

/*  Deep inside only the first patterns, the simple ones, so that texts end.    */
static void put_one(writer *self, const char *const *patterns, unsigned count,
                    unsigned simple)
{
    self->depth++;
    put_pattern(self, patterns[roll(self, self->depth > 7 ? simple : count)]);
    self->depth--;
}

static void put_expression(writer *self)
{
    static const char *const patterns[] = {
        "n",
        "n",
        "n",
        "1",
        "'n'",
        "nil",
        "[[n\"]]",
        "0x1p4",
        "k",
        "n . n",
        "e + e",
        "e // e",
        "not e",
        "- e",
        "e and e",
        "( e )",
        "( e ) . n",
        "n [ e ]",
        "n ( e , e )",
        "n { n = e , [ e ] = e ; e }",
        "n : n ( e )",
        "n 'x' { n = e }",
        "function ( n , n ) b end",
        "function ( n , ... ) b return e , ... end",
        "function ( ) return e end",
        "{ e , n = e , n = function ( n ) b end }",
    };
    put_one(self, patterns, sizeof patterns / sizeof *patterns, 10);
}

static void put_statement(writer *self)
{
    static const char *const patterns[] = {
        "n = e ;",
        "local n = e ;",
        "local n ;",
        "n ( e ) ;",
        "n . n = e ;",
        "local n , n = e , e ;",
        "n , n = e , n ;",
        "n [ e ] , n = e ;",
        "local function n ( n , n ) b end",
        "function n ( n ) b end",
        "function n . n : n ( n ) b end",
        "function n . n ( ) b end",
        "do b end",
        "if e then b elseif e then b else b end",
        "while e do b end",
        "repeat b until e",
        "repeat local n = e b until n == e",
        "for n = e , e do b end",
        "for n , n in e , e do b end",
        "local k <const> = e ;",
        "local k <close> = nil ;",
        "do b return e , e end",
        "n 'name' { n = e , n = n { n = e } }",
    };
    put_one(self, patterns, sizeof patterns / sizeof *patterns, 5);
}

static void put_block(writer *self)
{
    for (unsigned count = 1 + roll(self, 3); count > 0; count--)
        put_statement(self);
}

static void put_pattern(writer *self, const char *pattern)
{
    while (*pattern) {
        size_t size = strcspn(pattern, " ");
        char word[16];
        snprintf(word, sizeof word, "%.*s", (int)size, pattern);
        if (strcmp(word, "n") == 0)
            put_name(self);
        else if (strcmp(word, "e") == 0)
            put_expression(self);
        else if (strcmp(word, "b") == 0)
            put_block(self);
        else
            put(self, word);
        pattern += size + (pattern[size] == ' ');
    }
}

/*  What the compiler refuses (too many variables, say) is not compared.       */
static void random_texts_have_the_globals_of_the_compiler(void **state)
{
    int compared = 0;
    for (uint32_t seed = 1; seed <= 3000; seed++) {
        writer self = {.chance = seed * 2654435761u};
        put_block(&self);
        put_block(&self);
        if (luaL_loadbuffer(*state, (char *)self.text.data, self.text.size, "text") ==
            LUA_OK) {
            compare(*state, (char *)self.text.data, self.text.size);
            compared++;
        }
        lua_settop(*state, 0);
        weir_buffer_fini(&self.text);
    }
    assert_true(compared > 2000);
}

static int open_state(void **state)
{
    *state = luaL_newstate();
    return *state ? 0 : -1;
}

static int close_state(void **state)
{
    lua_close(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(snippets_have_the_globals_of_the_compiler),
        cmocka_unit_test(every_depth_of_the_compiler_parses),
        cmocka_unit_test(random_texts_have_the_globals_of_the_compiler),
    };
    return cmocka_run_group_tests(tests, open_state, close_state);
}
