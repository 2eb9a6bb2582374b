/*  clf on any line: fields or a sentence. What is read is in the line, and a line
    made anew from the fields reads the same.                                  */
#include "tests/unit/help_lua.h"

static lua_State *L;

/*  Writes the fields as Apache would and reads them again.                    */
static const char check[] =
    "local line = ...\n"
    "local f, what = clf(line)\n"
    "if not f then return assert(type(what) == 'string') end\n"
    "local function quote(s)\n"
    "  if s == nil then return '-' end\n"
    "  if s == '-' then return [[\\x2d]] end\n"
    "  return (s:gsub('[%c \"\\\\\\x7f-\\xff]', function (c)\n"
    "    return ('\\\\x%02x'):format(c:byte()) end))\n"
    "end\n"
    "for _, s in pairs(f) do\n"
    "  if utf8.len(line) and type(s) == 'string' then assert(utf8.len(s)) end\n"
    "end\n"
    "assert((f.request ~= nil) ~= (f.path ~= nil))\n"
    "assert(f.ts % 1000 == 0)\n"
    "if not utf8.len(line) then return end\n"
    "local request = f.request or f.method .. ' ' .. quote(f.path) .. ' ' .. f.protocol\n"
    "local d = os.date('!*t', f.ts // 1000)\n"
    "if d.year < 0 or d.year > 9999 then return end\n"
    "local date = ('%02d/%s/%04d:%02d:%02d:%02d +0000'):format(d.day,\n"
    "  ('JanFebMarAprMayJunJulAugSepOctNovDec'):sub(3 * d.month - 2, 3 * d.month),\n"
    "  d.year, d.hour, d.min, d.sec)\n"
    "local user = f.user == '' and '\"\"' or quote(f.user)\n"
    "local again = ('%s %s %s [%s] \"%s\" %s %s \"%s\" \"%s\"'):format(quote(f.ip),\n"
    "  quote(f.ident), user, date,\n"
    "  request, f.status and ('%03d'):format(f.status) or '-', f.bytes or '-',\n"
    "  quote(f.referrer), quote(f.agent))\n"
    "local g = assert(clf(again))\n"
    "for k, v in pairs(f) do assert(g[k] == v, k) end\n"
    "for k in pairs(g) do assert(f[k] ~= nil, k) end\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!L) {
        L = help_open("clf", weir_bind_clf);
        if (luaL_loadstring(L, check)) abort();
    }
    lua_pushvalue(L, 1);
    lua_pushlstring(L, (const char *)data, size);
    if (lua_pcall(L, 1, 0, 0)) {
        fprintf(stderr, "%s\n", lua_tostring(L, -1));
        abort();
    }
    return 0;
}
