#include "tests/unit/help_lua.h"
#include "tests/unit/clf_cases.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_clf(void **state)
{
    *state = help_open("clf", weir_bind_clf);
    return 0;
}

static int close_clf(void **state)
{
    lua_close(*state);
    return 0;
}

static void assert_field(lua_State *L, const char *name, const char *expected)
{
    lua_getfield(L, -1, name);
    if (expected)
        assert_string_equal(lua_tostring(L, -1), expected);
    else
        assert_true(lua_isnil(L, -1));
    lua_pop(L, 1);
}

static void assert_number(lua_State *L, const char *name, int64_t expected)
{
    lua_getfield(L, -1, name);
    if (expected >= 0) {
        assert_true(lua_isinteger(L, -1));
        assert_int_equal(lua_tointeger(L, -1), expected);
    } else {
        assert_true(lua_isnil(L, -1));
    }
    lua_pop(L, 1);
}

static void reads_real_lines(void **state)
{
    lua_State *L = *state;
    for (size_t i = 0; i < sizeof clf_cases / sizeof *clf_cases; i++) {
        const clf_case *c = &clf_cases[i];
        lua_getglobal(L, "clf");
        lua_pushstring(L, c->line);
        lua_call(L, 1, 1);
        if (!lua_istable(L, -1)) fail_msg("%s", c->line);
        assert_number(L, "ts", c->ts_ms);
        assert_field(L, "ip", c->ip);
        assert_field(L, "ident", NULL);
        assert_field(L, "user", NULL);
        assert_field(L, "method", c->method);
        assert_field(L, "path", c->path);
        assert_field(L, "protocol", "HTTP/1.1");
        assert_field(L, "request", NULL);
        assert_number(L, "status", c->status);
        assert_number(L, "bytes", c->bytes);
        assert_field(L, "referrer", c->referrer);
        assert_field(L, "agent", c->agent);
        lua_settop(L, 0);
    }
}

/*  Beginning and end of lines whose middle is of interest.                    */
#define PRELUDE                                                                          \
    "local function with(request, rest)\n"                                               \
    "  return clf('::1 - - [17/May/2015:10:05:03 +0000] \"' .. request .. '\" '"         \
    "    .. (rest or '200 5'))\n"                                                        \
    "end\n"

static void reads_the_common_format(void **state)
{
    assert_true(help_run(
        *state,
        "local f = clf [[host.example id1 ann [17/May/2015:12:05:03 +0200] "
        "\"GET /a?b=c HTTP/1.0\" 404 17]]\n"
        "assert(f.ip == 'host.example' and f.ident == 'id1' and f.user == 'ann')\n"
        "assert(f.ts == 1431857103000 and f.protocol == 'HTTP/1.0')\n"
        "assert(f.status == 404 and f.bytes == 17 and f.agent == nil)\n"
        "local n = 0 for _ in pairs(f) do n = n + 1 end assert(n == 9)\n" PRELUDE
        "assert(with('GET / HTTP/1.1', '- -').status == nil)\n"
        "assert(with('GET / HTTP/1.1', '200 5\\r\\n').bytes == 5)"));
}

static void users_may_hold_spaces(void **state)
{
    assert_true(help_run(
        *state,
        "local function user(name)\n"
        "  return clf('1.2.3.4 - ' .. name .. ' [01/Jan/1970:00:00:01 -0000] \"-\" 400 "
        "0').user\n"
        "end\n"
        "assert(user 'ann b' == 'ann b' and user 'a[b' == 'a[b' and user '\"\"' == '')\n"
        "assert(user 'a\\\\\"b' == 'a\"b' and user '-' == nil and user '--' == '--')"));
}

static void escapes_are_undone(void **state)
{
    assert_true(help_run(
        *state, PRELUDE
        "local function agent(text)\n"
        "  return with('GET / HTTP/1.1', '200 5 \"-\" \"' .. text .. '\"').agent\n"
        "end\n"
        "assert(agent [[a\\\"b\\\\c]] == [[a\"b\\c]])\n"
        "assert(agent [[\\xC3\\xa9\\x22]] == '\\u{e9}\"')\n"
        "assert(agent [[\\n\\r\\t\\b\\v]] == '\\n\\r\\t\\b\\v')\n"
        "assert(agent [[\\q\\x4\\xzz]] == [[\\q\\x4\\xzz]])\n"
        "assert(agent [[\\\\]] == [[\\]] and agent [[\\x41]] == 'A')\n"
        "assert(agent [[\\xe4\\xe5\\x22]] == [[\\xe4\\xe5\\x22]])\n"
        "assert(agent '' == '' and agent '-' == nil and agent [[\\x2d]] == '-')\n"
        "assert(with([[GET /\\x22\\\\ HTTP/1.1]]).path == [[/\"\\]])"));
}

static void requests_that_are_none_stay_whole(void **state)
{
    assert_true(help_run(
        *state, PRELUDE
        "for _, text in ipairs {'-', '', 'GET', 'GET /', 'GET  HTTP/1.1',\n"
        "  [[\\x16\\x03\\x01\\x02]], 'GET /a b HTTP/1.1', 'get / HTTP/1.1',\n"
        "  'GET / HTTP', 'GET / HTTP/', 'GET / /1.1', 'GET / HTTP/1.1x', ' / HTTP/1.1',\n"
        "  'GET / ', [[quit\\n]], '\\xff'} do\n"
        "  local f = with(text)\n"
        "  assert(f.request == text and not f.method and not f.path and not f.protocol, "
        "text)\n"
        "  assert(f.status == 200 and f.bytes == 5)\n"
        "end\n"
        "assert(with('M-SEARCH * HTTP/1.1').method == 'M-SEARCH')\n"
        "assert(with('OPTIONS / RTSP/1.0').protocol == 'RTSP/1.0')"));
}

static void other_lines_give_nil_and_a_sentence(void **state)
{
    assert_true(help_run(
        *state,
        "local good = '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "
        "\"GET / HTTP/1.1\" 200 5 \"-\" \"x\"'\n"
        "assert(clf(good))\n"
        "local function no(line)\n"
        "  local f, what = clf(line)\n"
        "  assert(f == nil and what:find 'expected at byte %d+$', line)\n"
        "end\n"
        "for size = 0, #good - 1 do\n"
        "  if size ~= good:find(' \"-\" \"x\"', 1, true) - 1 then no(good:sub(1, size)) "
        "end\n"
        "end\n"
        "for _, change in ipairs {{'17/', '32/'}, {'17/', '00/'}, {'May', 'Mai'},\n"
        "  {'17/May', '31/Apr'}, {'17/May', '29/Feb'}, {'10:05', '24:05'},\n"
        "  {':03 ', ':61 '}, {':05', ':60'}, {'%+0000', '+2400'}, {'%+0000', '+0060'},\n"
        "  {'%+0000', 'Z0000'}, {'2015', '2x15'}, {' 200 ', ' 20 '}, {' 200 ', ' 2000 "
        "'},\n"
        "  {' 5 ', ' 5x '}, {' 5 ', '  '}, {' 5 ', ' 1234567890123456789 '},\n"
        "  {'\"x\"', '\"x\" 1'}, {'\"x\"', '\"x\\\\\"'}, {'\" 200', '\"200'},\n"
        "  {'%]', ' '}, {'^1.2.3.4', ''}, {' %[', '['}} do\n"
        "  local line, n = good:gsub(change[1], change[2], 1)\n"
        "  assert(n == 1)\n"
        "  no(line)\n"
        "end\n"
        "assert(not pcall(clf))\n"
        "local f, what = clf(string.rep('x', 300000))\n"
        "assert(f == nil and what:find 'longer')\n"
        "assert(clf(good:gsub('GET /', 'GET /' .. string.rep('x', 100000), 1)))"));
}

static void leap_second_and_leap_day(void **state)
{
    assert_true(help_run(*state,
                         "local function ts(date)\n"
                         "  return clf('h - - [' .. date .. '] \"-\" 400 0').ts\n"
                         "end\n"
                         "assert(ts '31/Dec/2016:23:59:60 +0000' == 1483228800000)\n"
                         "assert(ts '29/Feb/2016:00:00:00 -0130' == 1456709400000)"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_real_lines),
        cmocka_unit_test(reads_the_common_format),
        cmocka_unit_test(users_may_hold_spaces),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(requests_that_are_none_stay_whole),
        cmocka_unit_test(other_lines_give_nil_and_a_sentence),
        cmocka_unit_test(leap_second_and_leap_day),
    };
    return cmocka_run_group_tests(tests, open_clf, close_clf);
}
