/*  help_globals: the global names of a text as Lua's own compiler sees them, read
    from the dump of its bytecode. For Lua 5.4.                                */
#pragma once
#include "lua/source.h"
#include "runtime/buffer.h"
#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdio.h>

typedef struct {
    const uint8_t *at; // the next byte of the dump
    weir_buffer reads; // names with a newline behind each
    weir_buffer writes;
    bool doubtful; // the table of globals is also used as a value
} help_globals;

static inline uint64_t help_number(help_globals *self)
{
    uint64_t value = 0;
    uint8_t byte;
    do {
        byte = *self->at++;
        value = value << 7 | (byte & 0x7f);
    } while (!(byte & 0x80));
    return value;
}

/*  The string's bytes; size 0 for none.                                       */
static inline const char *help_string(help_globals *self, size_t *size)
{
    uint64_t length = help_number(self);
    const char *text = (const char *)self->at;
    *size = length ? (size_t)length - 1 : 0;
    self->at += *size;
    return text;
}

typedef struct {
    const char *text;
    size_t size;
} help_constant;

static inline help_constant *help_constants(help_globals *self)
{
    uint64_t count = help_number(self);
    help_constant *constants = calloc(count + 1, sizeof *constants);
    for (uint64_t i = 0; i < count; i++) {
        int tag = *self->at++;
        if (tag == 3 || tag == 19) self->at += 8; // integer, float
        if (tag == 4 || tag == 20)
            constants[i].text = help_string(self, &constants[i].size);
    }
    return constants;
}

static inline void help_note(weir_buffer *names, const help_constant *name)
{
    weir_buffer_put(names, name->text, name->size);
    weir_buffer_put_byte(names, '\n');
}

static inline void help_code(help_globals *self, const uint8_t *code, uint64_t count,
                             const help_constant *constants, const bool *globals)
{
    for (uint64_t i = 0; i < count; i++, code += 4) {
        uint32_t instruction;
        memcpy(&instruction, code, 4);
        unsigned a = instruction >> 7 & 0xff, b = instruction >> 16 & 0xff;
        switch (instruction & 0x7f) {
        case 9: // GETUPVAL
            self->doubtful |= globals[b];
            break;
        case 11: // GETTABUP
            if (globals[b]) help_note(&self->reads, &constants[instruction >> 24]);
            break;
        case 15: // SETTABUP
            if (globals[a]) help_note(&self->writes, &constants[b]);
            break;
        }
    }
}

static inline void help_skip_debug(help_globals *self)
{
    size_t size;
    uint64_t lines = help_number(self);
    self->at += lines;
    for (uint64_t count = help_number(self); count > 0; count--) {
        help_number(self);
        help_number(self);
    }
    for (uint64_t count = help_number(self); count > 0; count--) {
        help_string(self, &size);
        help_number(self);
        help_number(self);
    }
    for (uint64_t count = help_number(self); count > 0; count--)
        help_string(self, &size);
}

/*  outer: which upvalues of the function around are the table of globals; NULL for
    the main function, whose only upvalue is that table.                       */
static inline void help_function(help_globals *self, const bool *outer)
{
    size_t size;
    help_string(self, &size);
    help_number(self);
    help_number(self);
    self->at += 3;
    uint64_t code_count = help_number(self);
    const uint8_t *code = self->at;
    self->at += code_count * 4;
    help_constant *constants = help_constants(self);
    bool globals[256] = {false};
    uint64_t upvalues = help_number(self);
    for (uint64_t i = 0; i < upvalues; i++, self->at += 3)
        globals[i] = outer ? !self->at[0] && outer[self->at[1]] : true;
    help_code(self, code, code_count, constants, globals);
    for (uint64_t count = help_number(self); count > 0; count--)
        help_function(self, globals);
    help_skip_debug(self);
    free(constants);
}

static inline int help_write(lua_State *L, const void *data, size_t size, void *arg)
{
    (void)L;
    weir_buffer_put(arg, data, size);
    return 0;
}

/*  Fills a zeroed struct. false: Lua refuses the text, whose error is on the stack;
    otherwise the stack is as before.                                          */
static inline bool help_compile(help_globals *self, lua_State *L, const char *text,
                                size_t size)
{
    if (luaL_loadbufferx(L, text, size, "text", "t") != LUA_OK) return false;
    weir_buffer dump = {0};
    lua_dump(L, help_write, &dump, 0);
    lua_pop(L, 1);
    self->at = dump.data + 32; // header, and the number of upvalues
    help_function(self, NULL);
    weir_buffer_fini(&dump);
    return true;
}

static inline bool help_has(const weir_buffer *names, const char *name)
{
    if (names->size == 0) return false;
    size_t size = strlen(name);
    const char *at = (const char *)names->data, *end = at + names->size;
    for (; at < end; at = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1)
        if ((size_t)(end - at) > size && memcmp(at, name, size) == 0 && at[size] == '\n')
            return true;
    return false;
}

/*  Whether every name of the second list is in the first.                     */
static inline bool help_covers(const weir_buffer *names, const weir_buffer *others)
{
    if (others->size == 0) return true;
    const char *at = (const char *)others->data, *end = at + others->size;
    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(stop - at), at);
        if (!help_has(names, name)) return false;
        at = stop + 1;
    }
    return true;
}

/*  Whether a source found the same names, read and written. Names above 40 bytes are
    used by other instructions and make the dump doubtful.                     */
static inline bool help_agrees(const help_globals *self, const weir_source *source)
{
    weir_buffer reads = {0}, writes = {0};
    weir_source_global global;
    bool good = true;
    for (int i = 0; weir_source_global_at(source, i, &global); i++) {
        good &= help_has(global.write ? &self->writes : &self->reads, global.name);
        weir_buffer_printf(global.write ? &writes : &reads, "%s\n", global.name);
    }
    good &= help_covers(&reads, &self->reads) && help_covers(&writes, &self->writes);
    weir_buffer_fini(&reads);
    weir_buffer_fini(&writes);
    return good;
}

static inline void help_fini(help_globals *self)
{
    weir_buffer_fini(&self->reads);
    weir_buffer_fini(&self->writes);
}
