/*  The string library of the sandbox against Lua's own: same results, and same
    errors, for seeded random patterns and subjects.                           */
#include "lua/sandbox.h"
#include "tests/unit/help_pattern.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#define CASES 40000

static weir_sandbox *sandbox;
static lua_State *ours, *theirs;

static int open_both(void **state)
{
    (void)state;
    weir_sandbox_config config = {.memory_limit = 64 << 20,
                                  .instruction_limit = 1000000000};
    assert_int_equal(weir_sandbox_new(&sandbox, &config, NULL), WEIR_OK);
    ours = weir_sandbox_state(sandbox);
    theirs = luaL_newstate();
    memset(lua_getextraspace(theirs), 0, LUA_EXTRASPACE);
    luaL_openlibs(theirs);
    return 0;
}

static int close_both(void **state)
{
    (void)state;
    weir_sandbox_destroy(&sandbox);
    lua_close(theirs);
    return 0;
}

static void push_probe(lua_State *L, const char *s, size_t s_size, const char *p,
                       size_t p_size, const char *r, int i)
{
    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "probe");
    lua_pushlstring(L, s, s_size);
    lua_pushlstring(L, p, p_size);
    lua_pushstring(L, r);
    lua_pushinteger(L, i);
}

static void compare(const char *s, size_t s_size, const char *p, size_t p_size,
                    const char *r, int i)
{
    push_probe(ours, s, s_size, p, p_size, r, i);
    push_probe(theirs, s, s_size, p, p_size, r, i);
    int status = weir_sandbox_call(sandbox, 4, 1);
    if (status != LUA_OK) fail_msg("'%s' on '%s': %s", p, s, lua_tostring(ours, -1));
    assert_int_equal(lua_pcall(theirs, 4, 1, 0), LUA_OK);
    size_t size, expected_size;
    const char *text = lua_tolstring(ours, -1, &size);
    const char *expected = lua_tolstring(theirs, -1, &expected_size);
    if (size != expected_size || memcmp(text, expected, size) != 0)
        fail_msg("pattern '%s' (%zu) subject '%s' (%zu) replacement '%s' init %d:\n%s\n"
                 "not:\n%s",
                 p, p_size, s, s_size, r, i, text, expected);
}

static uint64_t seed;

static unsigned random_below(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return (unsigned)(seed >> 20) % n;
}

/*  Appends one of the words, by chance.                                       */
static size_t add_word(char *out, size_t at, const char *const words[], unsigned count)
{
    const char *word = words[random_below(count)];
    memcpy(out + at, word, strlen(word));
    return at + strlen(word);
}

#define WORDS(list) (list), sizeof(list) / sizeof *(list)

static const char *const singles[] = {
    "a",     "b",     "c",     ".",     "%a",     "%d",    "%s",    "%w",   "%p",
    "%A",    "%S",    "%x",    "%l",    "%u",     "%c",    "%g",    "%.",   "%%",
    "[ab]",  "[^a]",  "[a-c]", "[%d-]", "[]]",    "[^]a]", "[a-]",  "[%a]", "[^%s]",
    "[a-%]", "[%w_]", "[--/]", "1",     "-",      "[%]x]", "[b-a]", "%W",   "[^%W]",
    "(",     ")",     "^",     "$",     "[a%-c]", "[.-]",  "%z",    " ",    "[$^]",
};
static const char *const suffixes[] = {"", "", "", "*", "+", "-", "?"};
static const char *const specials[] = {
    "()",
    "(a)",
    "(%w+)",
    "(.-)",
    "%b()",
    "%bab",
    "%baa",
    "%f[%w]",
    "%f[%W]",
    "%f[^a]",
    "%1",
    "%2",
    "$",
    "^",
    "(()",
    ")",
    "(b*)",
    "((a)b)",
    "%f",
    "%b(",
    "%",
    "[",
    "[a",
    "[^",
    "%0",
    "[a-",
    "%9",
    "[%",
    "(a*(.)%w(%s*))",
};
static const char *const pieces[] = {
    "a", "b", "c", "ab", "ba", "aa", " ", "1", "23", "(", ")",
    "-", ".", "%", "_",  "A",  "]",  "^", "$", "\n", "/", "x",
};
static const char *const replacements[] = {
    "", "x", "%0", "%1", "<%1>", "%2%1", "%%", "%", "%a", "a%0b%0", "%3", "%1%1", "[%0",
};

static size_t make_pattern(char *out)
{
    size_t at = 0;
    if (random_below(6) == 0) out[at++] = '^';
    for (unsigned n = random_below(6); n > 0; n--) {
        if (random_below(4) == 0) {
            at = add_word(out, at, WORDS(specials));
        } else {
            at = add_word(out, at, WORDS(singles));
            at = add_word(out, at, WORDS(suffixes));
        }
    }
    if (random_below(6) == 0) out[at++] = '$';
    return at;
}

static void random_patterns_give_what_lua_gives(void **state)
{
    (void)state;
    char pattern[200], subject[200];
    seed = 88172645463325252ull;
    for (int i = 0; i < CASES; i++) {
        size_t p_size = make_pattern(pattern), s_size = 0;
        for (unsigned n = random_below(14); n > 0; n--)
            s_size = add_word(subject, s_size, WORDS(pieces));
        pattern[p_size] = subject[s_size] = 0;
        const char *replacement =
            replacements[random_below(sizeof replacements / sizeof *replacements)];
        compare(subject, s_size, pattern, p_size, replacement, (int)random_below(16) - 6);
    }
}

/*  Any bytes at all, zeros too.                                               */
static void random_bytes_give_what_lua_gives(void **state)
{
    (void)state;
    static const char bytes[] = "ab(1)%.[]^$-*+?\0\xff f";
    char pattern[80], subject[40];
    seed = 362436069ull;
    for (int i = 0; i < CASES; i++) {
        size_t p_size = random_below(i % 50 == 0 ? 78 : 9), s_size = random_below(20);
        for (size_t k = 0; k < p_size; k++)
            pattern[k] = bytes[random_below(sizeof bytes - 1)];
        for (size_t k = 0; k < s_size; k++)
            subject[k] = bytes[random_below(sizeof bytes - 1)];
        pattern[p_size] = subject[s_size] = 0;
        compare(subject, s_size, pattern, p_size, "<%0%1>", (int)random_below(16) - 6);
    }
}

static void every_class_holds_the_bytes_that_lua_says(void **state)
{
    (void)state;
    char subject[256], pattern[8];
    for (int i = 0; i < 256; i++)
        subject[i] = (char)i;
    for (int letter = 1; letter < 256; letter++) {
        size_t size = (size_t)snprintf(pattern, sizeof pattern, "%%%c", letter);
        compare(subject, 256, pattern, size, "<%0>", 1);
        size = (size_t)snprintf(pattern, sizeof pattern, "[%%%c]+", letter);
        compare(subject, 256, pattern, size, "<%0>", 1);
        size = (size_t)snprintf(pattern, sizeof pattern, "[^%c-f]", letter);
        compare(subject, 256, pattern, size, "<%0>", 1);
    }
}

static void long_patterns_and_subjects_work(void **state)
{
    (void)state;
    static char pattern[4000], subject[20000];
    memset(pattern, 'a', sizeof pattern);
    memset(subject, 'a', sizeof subject);
    compare(subject, 5000, pattern, 3999, "x", 1);
    for (int i = 0; i < 3990; i += 5)
        memcpy(pattern + i, i % 2 ? "[a-c]" : "%la+a", 5);
    compare(subject, 100, pattern, 100, "x", 1);
    compare(subject, 5000, "(a+)%1", 6, "%1", 1);
    compare(subject, sizeof subject, "a*$", 3, "<%0>", 2);
    subject[sizeof subject - 1] = 'b';
    compare(subject, sizeof subject, "aaab", 4, "%0%0", -5);
}

/*  The other functions of the library, and what is done to arguments.         */
static void the_rest_of_the_library_is_lua_s(void **state)
{
    (void)state;
    static const char program[] =
        "local out = {}\n"
        "local function try (name, ...)\n"
        " local r = table.pack (pcall (string[name], ...))\n"
        " for k = 1, r.n do out[#out + 1] = tostring (r[k]) end out[#out + 1] = ';' end\n"
        "local args = {'', 'abc', 'a\\0b', 5, -1, 0, 2.5, 'ABC', '%d', '%5.2f', 'i4',"
        " '<s1', true, ''}\n"
        "for _, name in ipairs {'byte', 'char', 'format', 'len', 'lower', 'upper', "
        "'pack',"
        " 'packsize', 'rep', 'reverse', 'sub', 'unpack', 'find', 'match', 'gmatch',"
        " 'gsub'} do\n"
        " try (name)\n"
        " for _, a in ipairs (args) do\n"
        "  if name ~= 'gmatch' then try (name, a) end\n"
        "  for _, b in ipairs (args) do\n"
        "   if name ~= 'gmatch' then try (name, a, b) end\n"
        "   for _, c in ipairs (args) do\n"
        "    if name ~= 'gmatch' or type (c) == 'boolean' then try (name, a, b, c)\n"
        "   end end end end end\n"
        "try ('rep', 'x', 5, ',') try ('rep', '', 5, ',') try ('rep', '', 1e6)\n"
        "try ('byte', ('x'):rep (300), 1, -1) try ('format', '%q %s', 'a\\n', 'b')\n"
        "try ('gsub', 'abc', '%w', '%0', -1) try ('gsub', 'abc', '%w', '%0', 0)\n"
        "try ('gsub', 'abc', 'b', 5) try ('gsub', 'hello', '', '-')\n"
        "out[#out + 1] = ('x'):upper () .. ('%d'):format (3) .. ('7' + 1)\n"
        "return table.concat (out, ' ')\n";
    lua_settop(ours, 0);
    lua_settop(theirs, 0);
    assert_int_equal(luaL_loadstring(ours, program), LUA_OK);
    assert_int_equal(luaL_loadstring(theirs, program), LUA_OK);
    if (weir_sandbox_call(sandbox, 0, 1) != LUA_OK)
        fail_msg("%s", lua_tostring(ours, -1));
    assert_int_equal(lua_pcall(theirs, 0, 1, 0), LUA_OK);
    const char *text = lua_tostring(ours, -1), *expected = lua_tostring(theirs, -1);
    assert_true(strlen(expected) > 100000);
    for (size_t i = 0; text[i] || expected[i]; i++)
        if (text[i] != expected[i])
            fail_msg("at %zu: '%.80s', not '%.80s'", i, text + i - (i > 40 ? 40 : i),
                     expected + i - (i > 40 ? 40 : i));
}

static int load_probes(void **state)
{
    open_both(state);
    lua_State *const both[] = {ours, theirs};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(luaL_loadstring(both[i], help_pattern_probe), LUA_OK);
        lua_setfield(both[i], LUA_REGISTRYINDEX, "probe");
    }
    weir_sandbox_start(sandbox);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_patterns_give_what_lua_gives),
        cmocka_unit_test(random_bytes_give_what_lua_gives),
        cmocka_unit_test(every_class_holds_the_bytes_that_lua_says),
        cmocka_unit_test(long_patterns_and_subjects_work),
        cmocka_unit_test(the_rest_of_the_library_is_lua_s),
    };
    return cmocka_run_group_tests(tests, load_probes, close_both);
}
