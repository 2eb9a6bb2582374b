#include "tests/unit/help_lua.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_re(void **state)
{
    *state = help_open("re", weir_bind_re);
    return 0;
}

static int close_re(void **state)
{
    lua_close(*state);
    return 0;
}

static void test_says_whether_it_matches(void **state)
{
    assert_true(help_run(*state, "assert(re.test('GET /a', '^GET') == true)\n"
                                 "assert(re.test('get /a', '^GET') == false)\n"
                                 "assert(re.test('get /a', '(?i)^GET'))\n"
                                 "assert(re.test('', ''))\n"
                                 "assert(re.test('a\\0b', '\\\\x00b'))\n"
                                 "assert(re.test(123, 2))"));
}

static void match_gives_captures_or_the_match(void **state)
{
    assert_true(help_run(
        *state, "assert(re.match('key=val', '[a-z]+') == 'key')\n"
                "local k, v = re.match('key=val', '(\\\\w+)=(\\\\w+)')\n"
                "assert(k == 'key' and v == 'val')\n"
                "assert(re.match('abc', 'x') == nil)\n"
                "local a, b = re.match('b', '(a)|(b)')\n"
                "assert(a == false and b == 'b')\n"
                "assert(re.match('aXbX', '.X', 2) == 'bX')\n"
                "assert(re.match('aXbX', '^b', 3) == nil)\n"
                "assert(re.match('abc', '.', -1) == 'c')\n"
                "assert(re.match('abc', '.', -9) == 'a')\n"
                "assert(re.match('abc', '', 4) == '' and re.match('abc', '', 5) == nil)\n"
                "assert(re.match('abc', '', math.maxinteger) == nil)\n"
                "assert(re.match('abc', '.', math.mininteger) == 'a')"));
}

static void find_gives_positions(void **state)
{
    assert_true(help_run(*state, "local from, to, a = re.find('xxabyy', '(a)b')\n"
                                 "assert(from == 3 and to == 4 and a == 'a')\n"
                                 "from, to, a = re.find('abc', '')\n"
                                 "assert(from == 1 and to == 0 and a == nil)\n"
                                 "assert(re.find('abab', 'ab', 2) == 3)\n"
                                 "assert(select('#', re.find('abc', 'b')) == 2)\n"
                                 "assert(re.find('abc', 'x') == nil)"));
}

static void groups_gives_named_captures(void **state)
{
    assert_true(help_run(
        *state,
        "local g = re.groups('user=ann id=7',\n"
        "  'user=(?<user>\\\\w+)(?: id=(?<id>\\\\d+))?(?<none>!)?(x)?')\n"
        "assert(g.user == 'ann' and g.id == '7' and g.none == nil and g[4] == nil)\n"
        "assert(re.groups('x', '(?<user>y)') == nil)\n"
        "assert(next(re.groups('x', 'x')) == nil)"));
}

static void gmatch_walks_all_matches(void **state)
{
    assert_true(help_run(
        *state, "local all = {}\n"
                "for k, v in re.gmatch('a=1, b=2', '(\\\\w)=(\\\\w)') do\n"
                "  all[#all + 1] = k .. v\n"
                "end\n"
                "assert(table.concat(all, ' ') == 'a1 b2')\n"
                "local n = 0\n"
                "for m in re.gmatch('abc', 'x*') do n = n + 1 assert(m == '') end\n"
                "assert(n == 4)\n"
                "n = 0\n"
                "for a, b in re.gmatch('abab', '(a)|(b)') do n = n + 1 end\n"
                "assert(n == 4)\n"
                "local each = re.gmatch('a', 'a')\n"
                "assert(each() == 'a' and each() == nil and each() == nil)\n"
                "assert(re.gmatch('abc', '.', 3)() == 'c')\n"
                "assert(re.gmatch('abc', '.', 9)() == nil)"));
}

static void gsub_replaces(void **state)
{
    assert_true(help_run(
        *state, "local function is(expected, n, ...)\n"
                "  local text, count = re.gsub(...)\n"
                "  assert(text == expected and count == n, text)\n"
                "end\n"
                "is('x-b-c', 1, 'a-b-c', 'a', 'x')\n"
                "is('[a][b]', 2, 'ab', '.', '[%0]') is('[a][b]', 2, 'ab', '.', '[%1]')\n"
                "is('ba', 1, 'ab', '(a)(b)', '%2%1') is('%', 1, 'a', 'a', '%%')\n"
                "is('-b', 1, 'b', '(a)?b', '-%1b')\n"
                "is('xaxcx', 3, 'abc', 'b*', 'x') is('x', 1, '', '', 'x')\n"
                "is('xxa', 2, 'aaa', 'a', 'x', 2) is('aaa', 0, 'aaa', 'a', 'x', 0)\n"
                "is('aaa', 0, 'aaa', 'a', 'x', -1) is('7', 1, 'a', 'a', 7)\n"
                "is('1-b', 2, 'a-b', '\\\\w', {a = 1, b = false})\n"
                "is('AB', 2, 'ab', '.', string.upper)\n"
                "is('ba', 1, 'ab', '(.)(.)', function (a, b) return b .. a end)\n"
                "is('ab', 2, 'ab', '.', function () end)\n"
                "is(string.rep('yy', 5000), 5000, string.rep('x', 5000), 'x', 'yy')"));
}

static void gsub_may_nest_with_the_same_pattern(void **state)
{
    assert_true(help_run(*state,
                         "local text = re.gsub('a1b22', '[0-9]+', function (n)\n"
                         "  for i = 1, 200 do re.test('x', 'x' .. i) end\n"
                         "  collectgarbage()\n"
                         "  return '<' .. re.gsub(n .. 'z9', '[0-9]+', 'd') .. '>'\n"
                         "end)\n"
                         "assert(text == 'a<dzd>b<dzd>', text)"));
}

static void misuse_raises(void **state)
{
    assert_true(help_run(
        *state,
        "local good, what = pcall(re.test, 'x', 'a(b')\n"
        "assert(not good and what:find('bad pattern at byte 4', 1, true), what)\n"
        "assert(not pcall(re.match, 'x', '[') and not pcall(re.gmatch, 'x', '*'))\n"
        "assert(not pcall(re.test, 'x', string.rep('(a)', 64)))\n"
        "assert(re.test('', string.rep('(a)?', 63)))\n"
        "assert(not pcall(re.gsub, 'x', 'x', '%2') and not pcall(re.gsub, 'x', 'x', "
        "'%'))\n"
        "assert(not pcall(re.gsub, 'x', 'x', '%a') and not pcall(re.gsub, 'x', 'x'))\n"
        "assert(not pcall(re.gsub, 'x', 'x', true))\n"
        "assert(not pcall(re.gsub, 'x', 'x', function () return {} end))\n"
        "assert(not pcall(re.gsub, 'x', 'x', function () error 'no' end))\n"
        "assert(not pcall(re.test, 'x') and not pcall(re.test, {}, 'x'))"));
}

static void a_pattern_without_end_reaches_the_limit(void **state)
{
    assert_true(help_run(*state, "local good, what = pcall(re.test,\n"
                                 "  string.rep('a', 200) .. 'c', '^(a|aa|a+)+$')\n"
                                 "assert(not good and what:find 'match limit reached')"));
}

static void the_cache_keeps_only_some_patterns(void **state)
{
    assert_true(help_run(*state, "for round = 1, 3 do\n"
                                 "  for i = 1, 150 do\n"
                                 "    assert(re.match('a' .. i, '^a(' .. i .. ')$'))\n"
                                 "  end\n"
                                 "end"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_whether_it_matches),
        cmocka_unit_test(match_gives_captures_or_the_match),
        cmocka_unit_test(find_gives_positions),
        cmocka_unit_test(groups_gives_named_captures),
        cmocka_unit_test(gmatch_walks_all_matches),
        cmocka_unit_test(gsub_replaces),
        cmocka_unit_test(gsub_may_nest_with_the_same_pattern),
        cmocka_unit_test(misuse_raises),
        cmocka_unit_test(a_pattern_without_end_reaches_the_limit),
        cmocka_unit_test(the_cache_keeps_only_some_patterns),
    };
    return cmocka_run_group_tests(tests, open_re, close_re);
}
