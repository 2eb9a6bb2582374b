#include "lua/source_parts.h"
#include <limits.h>
#include <stdio.h>

/*  Keeps every count and hash of the reading below INT_MAX.                   */
static const size_t text_max = INT_MAX / 4;

weir_err weir_source_new(weir_source **self_p, const char *name, const char *text,
                         size_t size, weir_report *report)
{
    *self_p = NULL;
    if (size > text_max)
        return weir_report_set(report, WEIR_ETOOBIG, name, "the file is too big");
    weir_source *self = calloc(1, sizeof *self);
    weir_buffer *path = calloc(1, sizeof *path);
    if (!self || !path) abort();
    self->path = path;
    weir_err err = weir_source_read(self, name, text, size, report);
    if (err)
        weir_source_destroy(&self);
    else
        *self_p = self;
    return err;
}

void weir_source_destroy(weir_source **self_p)
{
    weir_source *self = *self_p;
    if (!self) return;
    *self_p = NULL;
    weir_symbols_fini(&self->symbols);
    weir_buffer_fini(self->path);
    free(self->path);
    free(self->declarations);
    free(self->options);
    free(self->repetitions);
    free(self->uses);
    free(self->slots);
    free(self);
}

/* --- Questions --------------------------------------------------------------------- */

static const weir_declaration *get(const weir_source *self, int number)
{
    bool known = number >= 0 && number < self->declaration_count;
    return known ? &self->declarations[number] : NULL;
}

/*  The last component of an option's path. number: room for its text.         */
static const char *component(const weir_option *self, char number[24], size_t *size)
{
    if (self->key) {
        *size = self->key->size;
        return self->key->text;
    }
    *size = (size_t)snprintf(number, 24, "%lld", (long long)self->number);
    return number;
}

/*  Compares from the last component to the first, since keys may hold dots.   */
static bool has_path(const weir_source *self, const weir_option *entry, const char *path)
{
    size_t left = strlen(path), size;
    char number[24];
    for (;;) {
        const char *text = component(entry, number, &size);
        if (left < size || memcmp(path + left - size, text, size) != 0) return false;
        left -= size;
        if (entry->parent < 0) return left == 0;
        if (left == 0 || path[left - 1] != '.') return false;
        left--;
        entry = &self->options[entry->parent];
    }
}

int weir_source_option_line(const weir_source *self, int number, const char *path)
{
    const weir_declaration *of = get(self, number);
    if (!of) return 0;
    for (int i = of->option_end - 1; i >= of->first_option; i--) {
        const weir_option *entry = &self->options[i];
        if (entry->direct && has_path(self, entry, path)) return entry->line;
    }
    return 0;
}

int weir_source_declarations(const weir_source *self)
{
    return self->declaration_count;
}

const char *weir_source_word(const weir_source *self, int number)
{
    const weir_declaration *of = get(self, number);
    return of ? of->word->text : "";
}

const char *weir_source_name(const weir_source *self, int number)
{
    const weir_declaration *of = get(self, number);
    return of && of->name ? of->name->text : "";
}

int weir_source_line(const weir_source *self, int number)
{
    const weir_declaration *of = get(self, number);
    return of ? of->line : 0;
}

/*  How well a declaration answers to a line and a name; 0: not at all.        */
static int rate(const weir_declaration *self, int line, const char *name)
{
    if (line < self->line || line > self->last_line) return 0;
    bool named = strcmp(self->name ? self->name->text : "", name) == 0;
    if (!named && !self->computed) return 0;
    bool exact = named && !self->computed;
    return 1 + (line == self->line) + 2 * exact;
}

int weir_source_find(const weir_source *self, int line, const char *word,
                     const char *name)
{
    int best = -1, best_rate = 0;
    for (int i = 0; i < self->declaration_count; i++) {
        const weir_declaration *found = &self->declarations[i];
        int rating = rate(found, line, name);
        if (rating <= best_rate || strcmp(found->word->text, word) != 0) continue;
        best = i;
        best_rate = rating;
    }
    return best;
}

static int declaration_of(const weir_source *self, int number)
{
    int low = 0, high = self->declaration_count;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (self->declarations[middle].first_option <= number)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/*  Writes the path of an option, from its last component to its first.        */
static const char *write_path(const weir_source *self, const weir_option *entry)
{
    weir_buffer *path = self->path;
    size_t need = 1, size;
    char number[24];
    for (const weir_option *at = entry;; at = &self->options[at->parent]) {
        component(at, number, &size);
        need += size + 1;
        if (at->parent < 0) break;
    }
    path->size = 0;
    char *end = (char *)weir_buffer_reserve(path, need) + need;
    *--end = 0;
    for (const weir_option *at = entry;; at = &self->options[at->parent]) {
        const char *text = component(at, number, &size);
        memcpy(end -= size, text, size);
        if (at->parent < 0) return end;
        *--end = '.';
    }
}

bool weir_source_duplicate_at(const weir_source *self, int i, weir_source_duplicate *dup)
{
    if (i < 0 || i >= self->repetition_count) return false;
    const weir_repetition *found = &self->repetitions[i];
    const weir_option *second = &self->options[found->option];
    *dup = (weir_source_duplicate){
        .declaration = declaration_of(self, found->option),
        .path = write_path(self, second),
        .line = second->line,
        .first_line = self->options[found->first].line,
    };
    return true;
}

bool weir_source_global_at(const weir_source *self, int i, weir_source_global *global)
{
    if (i < 0 || i >= self->use_count) return false;
    const weir_use *found = &self->uses[i];
    *global = (weir_source_global){found->name->text, found->line, found->write};
    return true;
}
