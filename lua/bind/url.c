/*  url: texts as parts of a url (RFC 3986).                                  */
#include "lua/bind/bind.h"
#include "lua/blank.h"
#include "lua/sandbox.h"
#include <lauxlib.h>
#include <string.h>

/*  Bytes that cost as much as one Lua instruction.                            */
#define BYTES_PER_STEP 8

static bool is_plain(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("-._~", c));
}

/*  url.encode (bytes) -> text: %XX for all but letters, digits, - . _ ~        */
static int url_encode(lua_State *L)
{
    static const char digits[] = "0123456789ABCDEF";
    size_t size;
    luaL_Buffer out;
    if (weir_blank_is(L, 1)) return lua_settop(L, 1), 1;
    const char *bytes = luaL_checklstring(L, 1, &size);
    weir_charge(L, size / BYTES_PER_STEP);
    luaL_buffinitsize(L, &out, size);
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)bytes[i];
        if (is_plain(bytes[i])) {
            luaL_addchar(&out, bytes[i]);
            continue;
        }
        luaL_addchar(&out, '%');
        luaL_addchar(&out, digits[byte >> 4]);
        luaL_addchar(&out, digits[byte & 15]);
    }
    luaL_pushresult(&out);
    return 1;
}

static const luaL_Reg functions[] = {
    {"encode", url_encode},
    {NULL, NULL},
};

int weir_bind_url(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
