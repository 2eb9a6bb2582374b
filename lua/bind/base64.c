/*  base64: RFC 4648 for Lua strings. "url" as the second argument is the alphabet
    of section 5 (- and _), written without padding and read with or without.  */
#include "lua/bind/bind.h"
#include "lua/sandbox.h"
#include "runtime/base64.h"
#include <lauxlib.h>

/*  Bytes of base64 that cost as much as one Lua instruction.                  */
#define BYTES_PER_STEP 8

static bool check_url(lua_State *L, int argument)
{
    static const char *const alphabets[] = {"standard", "url", NULL};
    return luaL_checkoption(L, argument, "standard", alphabets) == 1;
}

/*  base64.encode (bytes [, "url"]) -> text                                    */
static int base64_encode(lua_State *L)
{
    size_t size;
    luaL_Buffer out;
    const char *bytes = luaL_checklstring(L, 1, &size);
    bool url = check_url(L, 2);
    weir_charge(L, size / BYTES_PER_STEP);
    char *text = luaL_buffinitsize(L, &out, weir_base64_size(size));
    size_t length = weir_base64_encode(text, (const uint8_t *)bytes, size);
    for (size_t i = 0; url && i < length; i++) {
        if (text[i] == '=')
            length = i;
        else if (text[i] == '+')
            text[i] = '-';
        else if (text[i] == '/')
            text[i] = '_';
    }
    luaL_pushresultsize(&out, length);
    return 1;
}

/*  Puts a copy in the standard alphabet, padded, on the stack.                */
static const char *push_standard(lua_State *L, const char *text, size_t *size)
{
    size_t length = *size;
    char *copy = lua_newuserdatauv(L, length + 3, 0);
    for (size_t i = 0; i < length; i++) {
        char byte = text[i];
        if (byte == '+' || byte == '/') byte = ' '; // not of this alphabet: refused below
        copy[i] = byte == '-' ? '+' : byte == '_' ? '/' : byte;
    }
    bool padded = length > 0 && text[length - 1] == '=';
    while (!padded && length % 4 != 0 && length < *size + 2)
        copy[length++] = '=';
    *size = length;
    return copy;
}

/*  base64.decode (text [, "url"]) -> bytes | nil, sentence                    */
static int base64_decode(lua_State *L)
{
    size_t size, length;
    luaL_Buffer out;
    const char *text = luaL_checklstring(L, 1, &size);
    bool url = check_url(L, 2);
    weir_charge(L, size / BYTES_PER_STEP);
    if (url) text = push_standard(L, text, &size);
    uint8_t *bytes = (uint8_t *)luaL_buffinitsize(L, &out, size / 4 * 3);
    if (weir_base64_decode(bytes, &length, text, size)) {
        luaL_pushfail(L);
        lua_pushstring(L, url ? "the text is not base64 of the alphabet for URLs"
                              : "the text is not base64");
        return 2;
    }
    luaL_pushresultsize(&out, length);
    return 1;
}

static const luaL_Reg functions[] = {
    {"encode", base64_encode},
    {"decode", base64_decode},
    {NULL, NULL},
};

int weir_bind_base64(lua_State *L)
{
    luaL_newlib(L, functions);
    return 1;
}
