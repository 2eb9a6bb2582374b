/*  time: what a format writes it reads back; what it reads from any text it can
    write, and that reads back as the same.                                    */
#include "tests/unit/help_lua.h"

static lua_State *L;

static const char check[] =
    "local ms, format, offset, text = ...\n"
    "local lossless = {'%Y-%m-%dT%H:%M:%S.%f%z', '%j/%Y %I:%M:%S %p.%f %z', '%s.%f',\n"
    "  '%A %e %B %Y %T,%f %z', '%a%F%T%f%z'}\n"
    "local written = time.format(ms, nil, offset)\n"
    "if written then\n"
    "  assert(time.parse(written) == ms, written)\n"
    "  for _, f in ipairs(lossless) do\n"
    "    local t = time.format(ms, f, offset)\n"
    "    if f ~= '%s.%f' or ms >= 0 or ms % 1000 == 0 then\n"
    "      assert(time.parse(t, f) == ms, t)\n"
    "    end\n"
    "  end\n"
    "end\n"
    "local any = time.parse(text)\n"
    "if any then assert(time.parse(time.format(any)) == any) end\n"
    "local good, read = pcall(time.parse, text, format)\n"
    "if good and read then\n"
    "  local again = time.format(read, format)\n"
    "  local reread = time.parse(again, format)\n"
    "  if not format:find '%%z' and not format:find '%%s' and not format:find '%%S'\n"
    "    and not format:find '%%T' and not format:find '%%f' then\n"
    "    assert(reread == read, again)\n"
    "  end\n"
    "end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const offsets[] = {"Z", "+02:00", "-11:30", "+23:59", "-2359"};
    int64_t ms = 0;
    if (!L) {
        L = help_open("time", weir_bind_time);
        if (luaL_loadstring(L, check)) abort();
    }
    if (size < 11) return 0;
    memcpy(&ms, data, 8);
    if (data[8] & 1) ms %= INT64_C(253402300800000);
    size_t format = data[9] % (size - 10);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, ms);
    lua_pushlstring(L, (const char *)data + 10, format);
    lua_pushstring(L, offsets[data[8] / 2 % 5]);
    lua_pushlstring(L, (const char *)data + 10 + format, size - 10 - format);
    if (lua_pcall(L, 4, 0, 0)) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    return 0;
}
