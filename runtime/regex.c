/*  The match limit alone bounds neither time nor work: PCRE2 grants it anew at every
    start offset, and the loops over single characters do not count at all. So there
    are two programs of one pattern:

    - plain, for texts up to PLAIN_MAX. Its match limit shrinks as the text grows,
      which keeps (starts x steps) near PLAIN_WORK;
    - watched, for longer texts and for searches that met the limit above. It calls
      back before every item of the pattern, and the callback spends a budget: a fixed
      price a call, and more for the bytes that the search has moved. A unit is about
      a nanosecond. The budget grows with the text, so that a search takes bounded time
      a byte: 60 ms for 1MB, and a third more where a unit takes longer. CPU time is
      looked at now and then, for the few items whose work the position does not show
      (a{60000}, \1).

    Both hold the match limit of 10^6. The watched program is made at its first use.  */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "runtime/regex.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define COMPILED_MAX (1 << 20) // bytes of a compiled pattern, and of its source
#define STEPS_MAX 1000000      // match limit
#define DEPTH_MAX 1000000      // nested backtracking points, without JIT
#define HEAP_MAX_KB (16 << 10) // backtracking memory, without JIT
#define STACK_MIN (32 << 10)   // backtracking memory of JIT code
#define STACK_MAX (1 << 20)
#define PLAIN_MAX 768       // longest text for the plain program, bytes
#define PLAIN_WORK 40000000 // starts x steps of a plain search
#define WATCH_BASE 30000000 // budget of a watched search: units
#define WATCH_PER_BYTE 30   // and so many for each byte of text
#define WATCH_CALL 8        // price of a callback
#define WATCH_BYTES 4       // bytes that the search may move for a unit
#define CLOCK_EVERY 128     // callbacks between two looks at the CPU time

/*  How much longer than a nanosecond a unit may take; with sanitizers all is slower. */
#ifdef WEIR_SANITIZED
#define SLOWNESS 10.0
#else
#define SLOWNESS 1.35
#endif

typedef struct {
    pcre2_code *code; // owned
    bool jit;         // code has been translated to machine code
} program;

struct weir_regex {
    program plain;
    program watched;              // code NULL: not needed yet, or too large
    bool watched_made;            // making it has been tried
    char *pattern;                // owned: source of the watched program
    size_t pattern_size;          // bytes
    pcre2_match_data *match;      // owned: spans of the last search
    pcre2_match_context *context; // owned: limits, callback
    pcre2_jit_stack *stack;       // owned, NULL without JIT
    size_t groups;                // capturing groups
    size_t at;                    // watched search: position at the last callback
    uint64_t left;                // watched search: units left
    uint64_t cpu_until_ns;        // watched search: CPU time of this thread at its end
    unsigned until_clock;         // watched search: callbacks before the next look
};

static uint64_t cpu_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int watch(pcre2_callout_block *block, void *arg)
{
    weir_regex *self = arg;
    size_t at = block->current_position;
    size_t moved = at > self->at ? at - self->at : self->at - at;
    uint64_t price = WATCH_CALL + (uint64_t)moved / WATCH_BYTES;
    self->at = at;
    if (price > self->left) return PCRE2_ERROR_MATCHLIMIT;
    self->left -= price;
    if (--self->until_clock > 0) return 0;
    self->until_clock = CLOCK_EVERY;
    return cpu_now_ns() > self->cpu_until_ns ? PCRE2_ERROR_MATCHLIMIT : 0;
}

static void watch_begin(weir_regex *self, size_t size, size_t start)
{
    uint64_t budget = WATCH_BASE + (uint64_t)size * WATCH_PER_BYTE;
    self->at = start;
    self->left = budget;
    self->until_clock = CLOCK_EVERY;
    self->cpu_until_ns = cpu_now_ns() + (uint64_t)((double)budget * SLOWNESS);
}

/*  --- compiling ---------------------------------------------------------------  */

static weir_err refuse(weir_report *report, size_t *error_at, size_t at, const char *text)
{
    *error_at = at;
    return weir_report_set(report, WEIR_EINVAL, NULL, "%s", text);
}

/*  Settings such as (*LIMIT_MATCH=9), (*UTF) and (*NO_JIT) stand at the start, in
    capitals; they would undo our bounds. (*atomic: and its like are no settings.  */
static bool begins_with_setting(const char *pattern, size_t size)
{
    return size > 2 && pattern[0] == '(' && pattern[1] == '*' && pattern[2] >= 'A' &&
           pattern[2] <= 'Z';
}

static int note_callout(pcre2_callout_enumerate_block *block, void *arg)
{
    size_t *position = arg;
    *position = block->pattern_position;
    return 1;
}

static pcre2_code *compile(const char *pattern, size_t size, uint32_t options, int *code,
                           size_t *error_at)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) abort();
    pcre2_set_max_pattern_length(context, COMPILED_MAX);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_set_bsr(context, PCRE2_BSR_UNICODE);
    options |= PCRE2_NEVER_UTF | PCRE2_NEVER_UCP | PCRE2_NEVER_BACKSLASH_C;
    pcre2_code *made =
        pcre2_compile((PCRE2_SPTR)pattern, size, options, code, error_at, context);
    pcre2_compile_context_free(context);
    return made;
}

/*  Takes the code; false, and nothing is kept, when it is too large.             */
static bool program_take(program *self, pcre2_code *code)
{
    size_t size = 0;
    pcre2_pattern_info(code, PCRE2_INFO_SIZE, &size);
    bool jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
    size_t jit_size = 0;
    if (jit) pcre2_pattern_info(code, PCRE2_INFO_JITSIZE, &jit_size);
    if (size + jit_size > COMPILED_MAX) {
        pcre2_code_free(code);
        return false;
    }
    *self = (program){.code = code, .jit = jit};
    return true;
}

static weir_err compile_plain(weir_regex *self, size_t *error_at, weir_report *report)
{
    if (begins_with_setting(self->pattern, self->pattern_size)) {
        return refuse(report, error_at, 0,
                      "a pattern must not begin with a setting '(*'");
    }
    int code = 0;
    size_t at = 0;
    pcre2_code *made = compile(self->pattern, self->pattern_size, 0, &code, &at);
    if (!made) {
        PCRE2_UCHAR text[256];
        if (pcre2_get_error_message(code, text, sizeof text) < 0) text[0] = 0;
        return refuse(report, error_at, at < self->pattern_size ? at : self->pattern_size,
                      (const char *)text);
    }
    size_t position = 0;
    if (pcre2_callout_enumerate(made, note_callout, &position)) {
        pcre2_code_free(made);
        return refuse(report, error_at, position, "callouts '(?C)' are not allowed");
    }
    if (!program_take(&self->plain, made)) {
        return refuse(report, error_at, 0, "the compiled pattern is larger than 1MB");
    }
    return WEIR_OK;
}

static void make_context(weir_regex *self)
{
    self->match = pcre2_match_data_create_from_pattern(self->plain.code, NULL);
    self->context = pcre2_match_context_create(NULL);
    if (!self->match || !self->context) abort();
    pcre2_set_heap_limit(self->context, HEAP_MAX_KB);
    pcre2_set_depth_limit(self->context, DEPTH_MAX);
    pcre2_set_callout(self->context, watch, self);
    if (!self->plain.jit) return;
    self->stack = pcre2_jit_stack_create(STACK_MIN, STACK_MAX, NULL);
    if (self->stack) pcre2_jit_stack_assign(self->context, NULL, self->stack);
}

weir_err weir_regex_new(weir_regex **self_p, const char *pattern, size_t size,
                        size_t *error_at, weir_report *report)
{
    *self_p = NULL;
    if (size > COMPILED_MAX) {
        return refuse(report, error_at, COMPILED_MAX, "the pattern is larger than 1MB");
    }
    weir_regex *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->pattern = malloc(size + 1);
    if (!self->pattern) abort();
    if (size) memcpy(self->pattern, pattern, size);
    self->pattern_size = size;
    weir_err err = compile_plain(self, error_at, report);
    if (err) {
        weir_regex_destroy(&self);
        return err;
    }
    uint32_t groups = 0;
    pcre2_pattern_info(self->plain.code, PCRE2_INFO_CAPTURECOUNT, &groups);
    self->groups = groups;
    make_context(self);
    *self_p = self;
    return WEIR_OK;
}

void weir_regex_destroy(weir_regex **self_p)
{
    weir_regex *self = *self_p;
    if (!self) return;
    pcre2_code_free(self->plain.code);
    pcre2_code_free(self->watched.code);
    pcre2_match_data_free(self->match);
    pcre2_match_context_free(self->context);
    pcre2_jit_stack_free(self->stack);
    free(self->pattern);
    free(self);
    *self_p = NULL;
}

/*  --- searching ---------------------------------------------------------------  */

static int run(weir_regex *self, const program *form, uint32_t steps, const char *text,
               size_t size, size_t start)
{
    pcre2_set_match_limit(self->context, steps);
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    return form->jit ? pcre2_jit_match(form->code, subject, size, start, 0, self->match,
                                       self->context)
                     : pcre2_match(form->code, subject, size, start, 0, self->match,
                                   self->context);
}

static int run_watched(weir_regex *self, const char *text, size_t size, size_t start)
{
    if (!self->watched_made) {
        int code;
        size_t at;
        pcre2_code *made =
            compile(self->pattern, self->pattern_size, PCRE2_AUTO_CALLOUT, &code, &at);
        if (made) program_take(&self->watched, made);
        self->watched_made = true;
    }
    if (!self->watched.code) return PCRE2_ERROR_MATCHLIMIT;
    watch_begin(self, size, start);
    return run(self, &self->watched, STEPS_MAX, text, size, start);
}

static int search(weir_regex *self, const char *text, size_t size, size_t start)
{
    if (size - start > PLAIN_MAX) return run_watched(self, text, size, start);
    uint32_t steps = (uint32_t)(PLAIN_WORK / (size - start + 1));
    if (steps > STEPS_MAX) steps = STEPS_MAX;
    int found = run(self, &self->plain, steps, text, size, start);
    if (found != PCRE2_ERROR_MATCHLIMIT || steps == STEPS_MAX) return found;
    return run_watched(self, text, size, start);
}

static void copy_spans(const weir_regex *self, size_t (*spans)[2], size_t count)
{
    const PCRE2_SIZE *offsets = pcre2_get_ovector_pointer(self->match);
    for (size_t i = 0; i < count; i++) {
        spans[i][0] = offsets[2 * i];
        spans[i][1] = offsets[2 * i + 1];
    }
}

weir_match weir_regex_search(weir_regex *self, const char *text, size_t size,
                             size_t start, size_t (*spans)[2], size_t max_spans,
                             size_t *count)
{
    if (count) *count = 0;
    if (start > size) return WEIR_MATCH_NO;
    int found = search(self, size ? text : "", size, start);
    if (found == PCRE2_ERROR_NOMATCH) return WEIR_MATCH_NO;
    if (found < 0) return WEIR_MATCH_BOUND;
    if (spans) {
        size_t wanted = self->groups + 1 < max_spans ? self->groups + 1 : max_spans;
        copy_spans(self, spans, wanted);
        if (count) *count = wanted;
    }
    return WEIR_MATCH_YES;
}

size_t weir_regex_groups(const weir_regex *self)
{
    return self->groups;
}

/*  Each entry of PCRE2's name table is the group's number in two bytes, high byte
    first, and the name with its NUL.                                             */
const char *weir_regex_group_name(const weir_regex *self, size_t i)
{
    uint32_t count = 0;
    uint32_t entry = 0;
    PCRE2_SPTR table = NULL;
    pcre2_pattern_info(self->plain.code, PCRE2_INFO_NAMECOUNT, &count);
    pcre2_pattern_info(self->plain.code, PCRE2_INFO_NAMEENTRYSIZE, &entry);
    pcre2_pattern_info(self->plain.code, PCRE2_INFO_NAMETABLE, &table);
    for (uint32_t n = 0; n < count; n++) {
        PCRE2_SPTR row = table + (size_t)n * entry;
        if (((size_t)row[0] << 8 | row[1]) == i) return (const char *)(row + 2);
    }
    return NULL;
}

/*  The watched program has a callback before every item: twice the plain one.   */
size_t weir_regex_memory(const weir_regex *self)
{
    size_t code = 0, jit = 0;
    pcre2_pattern_info(self->plain.code, PCRE2_INFO_SIZE, &code);
    pcre2_pattern_info(self->plain.code, PCRE2_INFO_JITSIZE, &jit);
    return sizeof *self + self->pattern_size + 3 * (code + jit) + (4 << 10);
}
