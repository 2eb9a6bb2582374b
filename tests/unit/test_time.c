#include "tests/unit/help_lua.h"
#include "tests/unit/time_cases.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int open_time(void **state)
{
    *state = help_open("time", weir_bind_time);
    return 0;
}

static int close_time(void **state)
{
    lua_close(*state);
    return 0;
}

static void formats_as_python_does(void **state)
{
    lua_State *L = *state;
    for (size_t i = 0; i < sizeof time_cases / sizeof *time_cases; i++) {
        const time_case *c = &time_cases[i];
        lua_getglobal(L, "time");
        lua_getfield(L, -1, "format");
        lua_pushinteger(L, c->ms);
        lua_pushstring(L, c->format);
        lua_pushstring(L, c->offset);
        lua_call(L, 3, 1);
        assert_string_equal(lua_tostring(L, -1), c->text);
        lua_settop(L, 0);
    }
}

static void parses_what_python_wrote(void **state)
{
    lua_State *L = *state;
    for (size_t i = 0; i < sizeof time_cases / sizeof *time_cases; i++) {
        const time_case *c = &time_cases[i];
        lua_getglobal(L, "time");
        lua_getfield(L, -1, "parse");
        lua_pushstring(L, c->text);
        lua_pushstring(L, c->format);
        lua_call(L, 2, 1);
        assert_true(lua_isinteger(L, -1));
        assert_int_equal(lua_tointeger(L, -1), c->read_ms);
        lua_settop(L, 0);
    }
}

static void default_form_is_rfc3339(void **state)
{
    assert_true(help_run(*state,
                         "local t = 1431857103000\n"
                         "assert(time.format(t) == '2015-05-17T10:05:03.000Z')\n"
                         "assert(time.format(t + 7, nil, '+02:00') =="
                         " '2015-05-17T12:05:03.007+02:00')\n"
                         "assert(time.format(t, nil, '-0330') =="
                         " '2015-05-17T06:35:03.000-03:30')\n"
                         "assert(time.format(-1) == '1969-12-31T23:59:59.999Z')\n"
                         "assert(time.format(t, nil, 'Z') == time.format(t))\n"
                         "assert(time.format(t, '%F', '+02:00') == '2015-05-17')"));
}

static void default_reading_takes_what_logs_write(void **state)
{
    assert_true(help_run(*state, "local t = 1431857103000\n"
                                 "for text, ms in pairs {\n"
                                 "  ['2015-05-17T10:05:03Z'] = t,\n"
                                 "  ['2015-05-17t10:05:03z'] = t,\n"
                                 "  ['2015-05-17 10:05:03'] = t,\n"
                                 "  ['2015-05-17T10:05:03'] = t,\n"
                                 "  ['2015-05-17 10:05:03 +0000'] = t,\n"
                                 "  ['2015-05-17 12:05:03.5+02:00'] = t + 500,\n"
                                 "  ['2015-05-17T10:05:03.123456789Z'] = t + 123,\n"
                                 "  ['2015-05-17T10:05:03.999999999Z'] = t + 999,\n"
                                 "  ['2015-05-17T00:05:03-10:00'] = t,\n"
                                 "  ['2016-12-31T23:59:60Z'] = 1483228800000,\n"
                                 "  ['0000-01-01T00:00:00Z'] = -62167219200000,\n"
                                 "  ['9999-12-31T23:59:59.999Z'] = 253402300799999,\n"
                                 "} do assert(time.parse(text) == ms, text) end"));
}

static void text_that_is_no_time_gives_nil_and_a_sentence(void **state)
{
    assert_true(help_run(
        *state,
        "for _, text in ipairs {'', '2015', '2015-05-17', '2015-5-17T10:05:03Z',\n"
        "  '2015-05-17T10:05Z', '2015-13-17T10:05:03Z', '2015-00-17T10:05:03Z',\n"
        "  '2015-02-29T10:05:03Z', '1900-02-29T00:00:00Z', '2015-04-31T10:05:03Z',\n"
        "  '2015-05-00T10:05:03Z', '2015-05-17T24:05:03Z', '2015-05-17T10:60:03Z',\n"
        "  '2015-05-17T10:05:61Z', '2015-05-17T10:05:03.Z',\n"
        "  '2015-05-17T10:05:03.1234567890Z', '2015-05-17T10:05:03Z ',\n"
        "  '2015-05-17T10:05:03 ', '2015-05-17T10:05:03+24:00',\n"
        "  '2015-05-17T10:05:03+02', '2015-05-17T10:05:03+02:60', ' "
        "2015-05-17T10:05:03Z',\n"
        "  '2015-05-17_10:05:03Z', '0000-01-01T00:00:00+00:01',\n"
        "  '9999-12-31T23:59:60Z', '-001-01-01T00:00:00Z'} do\n"
        "  local ms, what = time.parse(text)\n"
        "  assert(ms == nil and type(what) == 'string' and #what > 10, text)\n"
        "end\n"
        "assert(time.parse('2000-02-29T00:00:00Z'))\n"
        "local _, what = time.parse('17/Mai/2015', '%d/%b/%Y')\n"
        "assert(what == \"a month's name expected at byte 4\", what)\n"
        "local _, what = time.parse('17/', '%d/%b')\n"
        "assert(what == \"the text ends where a month's name should be\", what)"));
}

static void directives_have_their_ranges(void **state)
{
    assert_true(help_run(
        *state,
        "local function no(text, format) assert(time.parse(text, format) == nil, text) "
        "end\n"
        "no('0', '%m') no('13', '%m') no('32', '%d') no('0', '%d') no('24', '%H')\n"
        "no('60', '%M') no('61', '%S') no('366 2015', '%j %Y') no('0', '%j')\n"
        "no('0 AM', '%I %p') no('13 PM', '%I %p') no('12 XM', '%I %p') no('123', '%Y')\n"
        "no('12345', '%Y') no('Mo', '%a') no('', '%f') no('x', '%s') no('-', '%s')\n"
        "no('29 2 2015', '%d %m %Y') no('5', '%z') no('a%', 'a%%b')\n"
        "assert(time.parse('366 2016', '%j %Y') == time.parse('2016-12-31', '%F'))\n"
        "assert(time.parse('12:30 AM', '%I:%M %p') == 30 * 60000)\n"
        "assert(time.parse('12:30 pm', '%I:%M %p') == 750 * 60000)\n"
        "assert(time.parse('68', '%y') == time.parse('2068', '%Y'))\n"
        "assert(time.parse('69', '%y') == time.parse('1969', '%Y'))\n"
        "assert(time.parse('may  7', '%b %e') == time.parse('MAY 07', '%B %d'))\n"
        "assert(time.parse('Tuesday 1', '%a %d') == 0)\n"
        "assert(time.parse('-1', '%s') == -1000)\n"
        "assert(time.parse('5.25', '%s.%f') == 5250)"));
}

static void bad_formats_raise(void **state)
{
    assert_true(help_run(
        *state, "for _, format in ipairs {'%', '%Q', '%\\0', 'a%', '%\\200', '%Y %y',\n"
                "  '%T %H', '%s %Y', '%I', '%p', '%H %I %p', '%j %d', '%b %m'} do\n"
                "  assert(not pcall(time.parse, '1', format), format)\n"
                "end\n"
                "assert(not pcall(time.format, 0, '%Q'))\n"
                "assert(pcall(time.format, 0, '%Y %y'))\n"
                "assert(not pcall(time.format, 0, nil, '+2'))\n"
                "assert(not pcall(time.format, 1.5))\n"
                "assert(not pcall(time.parse))"));
}

static void instants_outside_of_the_years_give_nil(void **state)
{
    assert_true(help_run(*state,
                         "for _, ms in ipairs {math.maxinteger, math.mininteger,\n"
                         "  253402300800000, -62167219200001} do\n"
                         "  local text, what = time.format(ms)\n"
                         "  assert(text == nil and what)\n"
                         "end\n"
                         "assert(time.format(253402300799999, nil, '+00:01') == nil)\n"
                         "assert(time.format(-62167219200000, nil, '-00:01') == nil)\n"
                         "assert(time.parse('999999999999', '%s') == nil)"));
}

static int64_t noon(void)
{
    return 43200000;
}

static void now_reads_the_clock_that_was_put_in(void **state)
{
    int64_t (*system)(void) = weir_time_source_ms;
    assert_true(help_run(*state, "assert(time.now() > 1700000000000)"));
    weir_time_source_ms = noon;
    bool good = help_run(*state, "assert(time.now() == 43200000)");
    weir_time_source_ms = system;
    assert_true(good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(formats_as_python_does),
        cmocka_unit_test(parses_what_python_wrote),
        cmocka_unit_test(default_form_is_rfc3339),
        cmocka_unit_test(default_reading_takes_what_logs_write),
        cmocka_unit_test(text_that_is_no_time_gives_nil_and_a_sentence),
        cmocka_unit_test(directives_have_their_ranges),
        cmocka_unit_test(bad_formats_raise),
        cmocka_unit_test(instants_outside_of_the_years_give_nil),
        cmocka_unit_test(now_reads_the_clock_that_was_put_in),
    };
    return cmocka_run_group_tests(tests, open_time, close_time);
}
