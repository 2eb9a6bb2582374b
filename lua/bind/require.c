/*  require: the topology's own modules, Lua text beneath module_root. A name has
    parts of letters, digits, _ and - with dots between them; "a.b" is a/b.lua or
    a/b/init.lua. Upvalue 1 is the table of what has been loaded.              */
#include "lua/bind/bind.h"
#include "lua/sandbox.h"
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_BYTES 200
#define FILE_MAX_BYTES (8 << 20)

/*  Its address, as light userdata, stands for a module that is being loaded.  */
static const char loading;

typedef struct {
    int fd;
    bool failed;
    char piece[4096];
} reader;

static bool is_name(const char *name, size_t size)
{
    bool in_part = false;
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!plain && (c != '.' || !in_part)) return false;
        in_part = plain;
    }
    return in_part && size <= NAME_MAX_BYTES;
}

/*  Opens root/path for reading if, links resolved, it is a regular file beneath the
    root. -1: it is not, and errno says why: ENOENT when there is none.        */
static int open_beneath(const char *root, const char *path)
{
    char joined[PATH_MAX], real[PATH_MAX];
    size_t root_size = strlen(root);
    while (root_size > 0 && root[root_size - 1] == '/')
        root_size--;
    int size = snprintf(joined, sizeof joined, "%.*s/%s", (int)root_size, root, path);
    if (size >= (int)sizeof joined) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (!realpath(joined, real)) return -1;
    if (strncmp(real, root, root_size) != 0 || real[root_size] != '/') {
        errno = EACCES;
        return -1;
    }
    int fd = open(real, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) return -1;
    struct stat info;
    if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size <= FILE_MAX_BYTES)
        return fd;
    close(fd);
    errno = EINVAL;
    return -1;
}

static const char *read_file(lua_State *L, void *arg, size_t *size)
{
    (void)L;
    reader *self = arg;
    ssize_t got;
    do {
        got = read(self->fd, self->piece, sizeof self->piece);
    } while (got < 0 && errno == EINTR);
    self->failed = got < 0;
    *size = got > 0 ? (size_t)got : 0;
    return got > 0 ? self->piece : NULL;
}

/*  Compiles root/path and leaves the function, or the error, on the stack.    */
static int load_file(lua_State *L, int fd, const char *path)
{
    reader self = {.fd = fd};
    char name[NAME_MAX_BYTES + 16];
    snprintf(name, sizeof name, "@%s", path);
    int status = lua_load(L, read_file, &self, name, "t");
    close(fd);
    if (status == LUA_OK && self.failed) {
        lua_pop(L, 1);
        lua_pushfstring(L, "%s: cannot be read", path);
        status = LUA_ERRRUN;
    }
    return status;
}

/*  Finds the module's file and compiles it.                                   */
static int load_module(lua_State *L, const char *name)
{
    static const char *const endings[] = {".lua", "/init.lua"};
    const char *root = weir_sandbox_module_root(weir_sandbox_of(L));
    if (!root) luaL_error(L, "there is no folder of modules for '%s'", name);
    for (int i = 0; i < 2; i++) {
        char path[NAME_MAX_BYTES + 16];
        snprintf(path, sizeof path, "%s%s", name, endings[i]);
        for (char *dot = path; dot < path + strlen(name); dot++)
            if (*dot == '.') *dot = '/';
        int fd = open_beneath(root, path);
        if (fd >= 0) return load_file(L, fd, path);
        if (errno == EACCES)
            luaL_error(L, "module '%s' is not beneath the topology's folder", name);
        if (errno != ENOENT && errno != ENOTDIR)
            luaL_error(L, "module '%s': %s is no readable file of up to 8MB", name, path);
    }
    return luaL_error(L, "there is no module '%s' (%s.lua, %s/init.lua)", name, name,
                      name);
}

static void set_loaded(lua_State *L, const void *marker)
{
    lua_pushvalue(L, 1);
    if (marker)
        lua_pushlightuserdata(L, (void *)marker);
    else
        lua_pushnil(L);
    lua_rawset(L, lua_upvalueindex(1));
}

/*  Runs the module, in a call of its own so that one that fails may be asked for
    again.                                                                     */
static int run_module(lua_State *L)
{
    const char *name = lua_tostring(L, 1);
    int status = load_module(L, name);
    weir_sandbox_rethrow(L, status);
    if (status != LUA_OK) return lua_error(L);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/*  require (name) -> what the module returned; true for nothing               */
static int require(lua_State *L)
{
    size_t size;
    const char *name = luaL_checklstring(L, 1, &size);
    lua_settop(L, 1);
    luaL_argcheck(L, is_name(name, size), 1, "module names are such as \"a.b\"");
    lua_pushvalue(L, 1);
    if (lua_rawget(L, lua_upvalueindex(1)) != LUA_TNIL) {
        if (lua_touserdata(L, -1) == &loading)
            return luaL_error(L, "module '%s' requires itself, in a circle", name);
        return 1;
    }
    set_loaded(L, &loading);
    lua_pushcfunction(L, run_module);
    lua_pushvalue(L, 1);
    int status = lua_pcall(L, 1, 1, 0);
    weir_sandbox_rethrow(L, status);
    if (status != LUA_OK) {
        set_loaded(L, NULL);
        if (lua_type(L, -1) == LUA_TSTRING) {
            luaL_where(L, 1); // of the file that asked for the module
            lua_insert(L, -2);
            lua_concat(L, 2);
        }
        return lua_error(L);
    }
    if (lua_isnil(L, -1)) lua_pushboolean(L, true);
    lua_pushvalue(L, 1);
    lua_pushvalue(L, -2);
    lua_rawset(L, lua_upvalueindex(1));
    return 1;
}

int weir_bind_require(lua_State *L)
{
    lua_newtable(L);
    lua_pushcclosure(L, require, 1);
    return 1;
}
