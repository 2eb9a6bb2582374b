/*  Any bytes: no crash. What Lua's compiler accepts is accepted, with the same global
    names; and the answers of a source agree with each other.                  */
#include "lua/source.h"
#include "tests/help_globals.h"

static void require(bool good)
{
    if (!good) abort();
}

static void check_declarations(const weir_source *self)
{
    int before = 1;
    for (int i = 0; i < weir_source_declarations(self); i++) {
        const char *word = weir_source_word(self, i), *name = weir_source_name(self, i);
        int line = weir_source_line(self, i);
        require(word[0] && line >= before);
        before = line;
        int found = weir_source_find(self, line, word, name);
        require(found >= 0 && weir_source_line(self, found) == line);
        require(strcmp(weir_source_word(self, found), word) == 0);
    }
}

static void check_duplicates(const weir_source *self)
{
    weir_source_duplicate dup;
    for (int i = 0; weir_source_duplicate_at(self, i, &dup); i++) {
        require(dup.declaration >= 0 && dup.declaration < weir_source_declarations(self));
        require(dup.line >= dup.first_line);
        require(dup.first_line >= weir_source_line(self, dup.declaration));
        int line = weir_source_option_line(self, dup.declaration, dup.path);
        require(line == 0 || line >= weir_source_line(self, dup.declaration));
    }
}

static void compare(const weir_source *self, lua_State *L, const char *text, size_t size)
{
    help_globals lua = {0};
    bool accepted = help_compile(&lua, L, text, size);
    if (accepted) {
        require(self != NULL);
        // _ENV.x is the same instruction as x
        bool comparable = !lua.doubtful && !memmem(text, size, "_ENV", 4);
        require(!comparable || help_agrees(&lua, self));
    }
    help_fini(&lua);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    weir_source *self = NULL;
    weir_report report = {0};
    weir_err err = weir_source_new(&self, "fuzz", (const char *)data, size, &report);
    require(err ? !self && report.err == err && report.text[0] : self != NULL);
    if (self) {
        check_declarations(self);
        check_duplicates(self);
    }
    lua_State *L = luaL_newstate();
    require(L != NULL);
    compare(self, L, (const char *)data, size);
    lua_close(L);
    weir_source_destroy(&self);
    return 0;
}
