/*  The grammar, as recursive descent:

    or   = and {"or" and}
    and  = not {"and" not}
    not  = "not" not | "(" or ")" | test
    test = val op val | val ["not"] "in" "(" lit {"," lit} ")" | "has" path | path

    Every rule leaves a `part`: tests that lie side by side, with two lists of exits
    that do not lead anywhere yet. A list is threaded through the exits themselves:
    each holds the reference of the next one, NONE ends it.                           */
#include "runtime/filter_private.h"
#include <stdio.h>

#define NONE 0xffff // no exit: ends a list

typedef struct {
    uint16_t open[2]; // [0]: exits taken when the part is false, [1]: when true
} part;

static const char *const words[] = {"and",  "or",     "not",    "in",
                                    "has",  "prefix", "suffix", "contains",
                                    "true", "false",  "null",   NULL};

static const struct {
    const char *text;
    filter_op op;
} operators[] = {
    {"==", FILTER_EQ},         {"!=", FILTER_NE},
    {"<", FILTER_LT},          {"<=", FILTER_LE},
    {">", FILTER_GT},          {">=", FILTER_GE},
    {"~", FILTER_MATCH},       {"prefix", FILTER_PREFIX},
    {"suffix", FILTER_SUFFIX}, {"contains", FILTER_CONTAINS},
    {NULL, FILTER_EQ},
};

static const char *const operator_names[] = {"prefix", "suffix", "contains", "in",
                                             "not",    "and",    "or",       NULL};

/*  Words that other languages use for an operator.                                   */
static const struct {
    const char *wrong;
    const char *right;
} foreign[] = {
    {"eq", "=="},
    {"ne", "!="},
    {"lt", "<"},
    {"le", "<="},
    {"gt", ">"},
    {"ge", ">="},
    {"is", "=="},
    {"equals", "=="},
    {"like", "~"},
    {"match", "~"},
    {"matches", "~"},
    {"regex", "~"},
    {"startswith", "prefix"},
    {"starts_with", "prefix"},
    {"endswith", "suffix"},
    {"ends_with", "suffix"},
    {"includes", "contains"},
    {NULL, NULL},
};

static const char *const metas[] = {"$headers", "$raw",   "$source", "$peer", "$key",
                                    "$ts",      "$shard", "$offset", NULL};

static const operand_kind meta_kinds[] = {
    OPERAND_HEADER, OPERAND_RAW, OPERAND_SOURCE, OPERAND_PEER,
    OPERAND_KEY,    OPERAND_TS,  OPERAND_SHARD,  OPERAND_OFFSET,
};

static bool word_in(const filter_parser *self, const char *const *names)
{
    for (; *names; names++) {
        if (filter_at(self, *names)) return true;
    }
    return false;
}

static int token_size(const filter_parser *self)
{
    return self->token.size > 80 ? 80 : (int)self->token.size;
}

static const char *token_text(const filter_parser *self)
{
    return self->text + self->token.from;
}

/*  --- tests and their exits -------------------------------------------------------  */

static filter_test *new_test(filter_parser *self)
{
    weir_filter *filter = self->filter;
    if (filter->count == filter->capacity) {
        filter->capacity = filter->capacity ? filter->capacity * 2 : 4;
        filter->tests = realloc(filter->tests, filter->capacity * sizeof *filter->tests);
        if (!filter->tests) abort();
    }
    filter_test *test = &filter->tests[filter->count++];
    *test = (filter_test){0};
    return test;
}

/*  The exit that a reference stands for: twice the test's index, plus which.         */
static uint16_t *exit_at(weir_filter *filter, uint16_t reference)
{
    return &filter->tests[reference / 2].next[reference & 1];
}

/*  Lets all exits of the list lead to the target.                                    */
static void close_exits(weir_filter *filter, uint16_t list, uint16_t target)
{
    while (list != NONE) {
        uint16_t *at = exit_at(filter, list);
        list = *at;
        *at = target;
    }
}

/*  The later list in front, so that a chain of `or` takes linear time.               */
static uint16_t join_exits(weir_filter *filter, uint16_t earlier, uint16_t later)
{
    if (later == NONE) return earlier;
    uint16_t last = later;
    while (*exit_at(filter, last) != NONE)
        last = *exit_at(filter, last);
    *exit_at(filter, last) = earlier;
    return later;
}

static part part_of_last_test(weir_filter *filter)
{
    uint16_t index = (uint16_t)(filter->count - 1);
    filter->tests[index].next[0] = NONE;
    filter->tests[index].next[1] = NONE;
    return (part){{(uint16_t)(2 * index), (uint16_t)(2 * index + 1)}};
}

/*  --- operands --------------------------------------------------------------------  */

static weir_err expect_value(filter_parser *self)
{
    size_t at = self->token.from;
    if (self->token.kind == TOKEN_END) {
        return filter_fail(self, at, "the expression ends where a value is expected");
    }
    if (word_in(self, words)) {
        return filter_fail(
            self, at,
            "'%.*s' is a word of the language; a field of that name stands "
            "in backquotes",
            token_size(self), token_text(self));
    }
    return filter_fail(self, at,
                       "a field, a number, a text, true, false or null is expected, not "
                       "'%.*s'",
                       token_size(self), token_text(self));
}

static bool at_literal(const filter_parser *self)
{
    return self->token.kind == TOKEN_NUMBER || self->token.kind == TOKEN_TEXT ||
           filter_at(self, "true") || filter_at(self, "false") || filter_at(self, "null");
}

static weir_err parse_literal(filter_parser *self, weir_value *value)
{
    weir_err err = WEIR_OK;
    if (self->token.kind == TOKEN_NUMBER) {
        err = filter_number(self, value);
    } else if (self->token.kind == TOKEN_TEXT) {
        err = filter_text(self, value);
    } else if (filter_at(self, "null")) {
        *value = (weir_value){.type = WEIR_NULL};
    } else {
        *value = (weir_value){.type = WEIR_BOOL, .boolean = filter_at(self, "true")};
    }
    return err ? err : filter_next(self);
}

/*  The current name; behind a point the words of the language are names too.         */
static weir_err parse_name(filter_parser *self, weir_step *step)
{
    size_t from = self->token.from;
    size_t size = self->token.size;
    if (self->token.kind == TOKEN_QUOTED) {
        from++;
        size -= 2;
    } else if (self->token.kind != TOKEN_NAME) {
        return filter_fail(self, from,
                           "a name must follow the point; an element of an array is "
                           "written a[0]");
    }
    *step = (weir_step){.name = filter_keep(self, self->text + from, size), .size = size};
    return filter_next(self);
}

static weir_err parse_index(filter_parser *self, weir_step *step)
{
    size_t from = self->token.from;
    uint64_t index = 0;
    bool whole = self->token.kind == TOKEN_NUMBER && self->token.size <= 10;
    for (size_t i = 0; whole && i < self->token.size; i++) {
        char c = self->text[from + i];
        whole = c >= '0' && c <= '9';
        index = index * 10 + (uint64_t)(c - '0');
    }
    if (!whole || index > UINT32_MAX) {
        return filter_fail(self, from, "an index is a whole number from 0 to 2^32-1");
    }
    *step = (weir_step){.index = (uint32_t)index};
    weir_err err = filter_next(self);
    if (err) return err;
    if (!filter_at(self, "]")) {
        return filter_fail(self, self->token.from, "']' is missing behind the index");
    }
    return filter_next(self);
}

static weir_step *new_step(weir_path *path)
{
    if ((path->count & (path->count - 1)) == 0) {
        size_t capacity = path->count ? path->count * 2 : 1;
        path->steps = realloc(path->steps, capacity * sizeof *path->steps);
        if (!path->steps) abort();
    }
    path->steps[path->count] = (weir_step){0};
    return &path->steps[path->count++];
}

static weir_err parse_field(filter_parser *self, filter_operand *operand)
{
    *operand = (filter_operand){.kind = OPERAND_FIELD};
    weir_err err = parse_name(self, new_step(&operand->path));
    while (!err && (filter_at(self, ".") || filter_at(self, "["))) {
        bool name = filter_at(self, ".");
        weir_step *step = new_step(&operand->path);
        err = filter_next(self);
        if (err) return err;
        err = name ? parse_name(self, step) : parse_index(self, step);
    }
    return err;
}

static weir_err unknown_meta(filter_parser *self)
{
    const char *near = filter_nearest(metas, token_text(self), self->token.size);
    if (near) {
        return filter_fail(self, self->token.from,
                           "unknown name '%.*s' (did you mean '%s'?)", token_size(self),
                           token_text(self), near);
    }
    return filter_fail(self, self->token.from,
                       "unknown name '%.*s': there are $headers.name, $raw, $source, "
                       "$peer, $key, $ts, $shard and $offset",
                       token_size(self), token_text(self));
}

static weir_err parse_header(filter_parser *self, filter_operand *operand)
{
    if (!filter_at(self, ".")) {
        return filter_fail(self, self->token.from,
                           "$headers is no value: write $headers.name");
    }
    weir_err err = filter_next(self);
    return err ? err : parse_name(self, &operand->header);
}

static weir_err parse_meta(filter_parser *self, filter_operand *operand)
{
    size_t i = 0;
    while (metas[i] && (strlen(metas[i]) != self->token.size ||
                        memcmp(metas[i], token_text(self), self->token.size) != 0))
        i++;
    if (!metas[i]) return unknown_meta(self);
    *operand = (filter_operand){.kind = meta_kinds[i]};
    if (operand->kind == OPERAND_SHARD || operand->kind == OPERAND_OFFSET) {
        self->filter->needs_store = true;
    }
    weir_err err = filter_next(self);
    if (!err && operand->kind == OPERAND_HEADER) err = parse_header(self, operand);
    if (!err && (filter_at(self, ".") || filter_at(self, "["))) {
        return filter_fail(self, self->token.from, "%s has no fields",
                           operand->kind == OPERAND_HEADER ? "a header" : metas[i]);
    }
    return err;
}

static weir_err parse_path(filter_parser *self, filter_operand *operand)
{
    if (self->token.kind == TOKEN_META) return parse_meta(self, operand);
    bool name = self->token.kind == TOKEN_QUOTED ||
                (self->token.kind == TOKEN_NAME && !word_in(self, words));
    return name ? parse_field(self, operand) : expect_value(self);
}

static weir_err parse_operand(filter_parser *self, filter_operand *operand)
{
    if (!at_literal(self)) return parse_path(self, operand);
    *operand = (filter_operand){.kind = OPERAND_LITERAL};
    return parse_literal(self, &operand->literal);
}

/*  --- tests -----------------------------------------------------------------------  */

static weir_err parse_regex(filter_parser *self, filter_test *test)
{
    size_t from = self->token.from;
    if (self->token.kind != TOKEN_TEXT) {
        return filter_fail(self, from, "'~' wants its pattern as a text, such as '^a+$'");
    }
    weir_value pattern;
    weir_err err = filter_text(self, &pattern);
    if (err) return err;
    size_t at = 0;
    weir_report report = {0};
    err = weir_regex_new(&test->regex, (const char *)pattern.data, pattern.size, &at,
                         &report);
    if (err) {
        return filter_fail(self, from, "the pattern has a mistake at its byte %zu: %s",
                           at + 1, report.text);
    }
    return filter_next(self);
}

static weir_err parse_set(filter_parser *self, filter_test *test)
{
    weir_err err = filter_next(self);
    if (err) return err;
    size_t opened = self->token.from;
    if (!filter_at(self, "(")) {
        return filter_fail(self, opened, "'in' wants a list, such as in (1, 2, 'a')");
    }
    do {
        err = filter_next(self);
        if (err) return err;
        if (!at_literal(self)) {
            return filter_fail(self, self->token.from,
                               "the list of 'in' holds numbers, texts, true, false and "
                               "null, at least one");
        }
        if ((test->set_count & (test->set_count - 1)) == 0) {
            size_t capacity = test->set_count ? test->set_count * 2 : 1;
            test->set = realloc(test->set, capacity * sizeof *test->set);
            if (!test->set) abort();
        }
        err = parse_literal(self, &test->set[test->set_count]);
        if (err) return err;
        test->set_count++;
    } while (filter_at(self, ","));
    if (!filter_at(self, ")")) {
        return filter_fail(self, self->token.from,
                           "',' or ')' is expected in the list that opens at column %zu",
                           opened + 1);
    }
    return filter_next(self);
}

static weir_err unknown_operator(filter_parser *self)
{
    const char *text = token_text(self);
    const char *right = NULL;
    for (size_t i = 0; foreign[i].wrong && !right; i++) {
        if (filter_at(self, foreign[i].wrong)) right = foreign[i].right;
    }
    if (!right) right = filter_nearest(operator_names, text, self->token.size);
    if (right) {
        return filter_fail(self, self->token.from,
                           "unknown operator '%.*s' (did you mean '%s'?)",
                           token_size(self), text, right);
    }
    return filter_fail(
        self, self->token.from,
        "unknown operator '%.*s': there are == != < <= > >= ~ prefix suffix "
        "contains in, 'not in', and, or",
        token_size(self), text);
}

/*  What stands behind a value that no operator follows.                              */
static weir_err parse_lone(filter_parser *self, filter_test *test, size_t from)
{
    if (self->token.kind == TOKEN_NAME && !word_in(self, words)) {
        return unknown_operator(self);
    }
    if (test->left.kind == OPERAND_LITERAL) {
        return filter_fail(self, from,
                           "a literal alone is no test: compare it with something");
    }
    test->op = FILTER_IS_TRUE;
    return WEIR_OK;
}

static weir_err parse_comparison(filter_parser *self, filter_test *test)
{
    size_t from = self->token.from;
    weir_err err = parse_operand(self, &test->left);
    if (err) return err;
    bool negated = filter_at(self, "not");
    if (negated) {
        err = filter_next(self);
        if (err) return err;
        if (!filter_at(self, "in")) {
            return filter_fail(self, self->token.from,
                               "behind a value 'not' is followed by 'in'");
        }
    }
    if (filter_at(self, "in")) {
        test->op = negated ? FILTER_NOT_IN : FILTER_IN;
        return parse_set(self, test);
    }
    size_t i = 0;
    while (operators[i].text && !filter_at(self, operators[i].text))
        i++;
    if (!operators[i].text) return parse_lone(self, test, from);
    test->op = operators[i].op;
    err = filter_next(self);
    if (err) return err;
    return test->op == FILTER_MATCH ? parse_regex(self, test)
                                    : parse_operand(self, &test->right);
}

static weir_err parse_test(filter_parser *self, part *made)
{
    filter_test *test = new_test(self);
    weir_err err;
    if (filter_at(self, "has")) {
        test->op = FILTER_HAS;
        err = filter_next(self);
        if (err) return err;
        err = parse_path(self, &test->left);
    } else {
        err = parse_comparison(self, test);
    }
    if (err) return err;
    if (self->token.kind == TOKEN_OPERATOR) {
        return filter_fail(self, self->token.from,
                           "a test ends here: 'and' or 'or' joins it with another");
    }
    *made = part_of_last_test(self->filter);
    return WEIR_OK;
}

/*  --- and, or, not ------------------------------------------------------------------ */

static weir_err parse_or(filter_parser *self, part *made);

static weir_err parse_not(filter_parser *self, part *made);

static weir_err parse_parentheses(filter_parser *self, part *made)
{
    size_t opened = self->token.from;
    weir_err err = filter_next(self);
    if (!err) err = parse_or(self, made);
    if (err) return err;
    if (filter_at(self, ")")) return filter_next(self);
    if (self->token.kind == TOKEN_END) {
        return filter_fail(self, self->token.from,
                           "')' is missing for the '(' at column %zu", opened + 1);
    }
    return filter_fail(self, self->token.from,
                       "'and', 'or' or ')' is expected, not '%.*s'", token_size(self),
                       token_text(self));
}

static weir_err parse_inverted(filter_parser *self, part *made)
{
    part inner;
    weir_err err = filter_next(self);
    if (!err) err = parse_not(self, &inner);
    if (err) return err;
    *made = (part){{inner.open[1], inner.open[0]}};
    return WEIR_OK;
}

static weir_err parse_not(filter_parser *self, part *made)
{
    bool inverted = filter_at(self, "not");
    if (!inverted && !filter_at(self, "(")) return parse_test(self, made);
    if (self->level == FILTER_LEVELS_MAX) {
        return filter_fail(self, self->token.from,
                           "more than %d levels of parentheses and 'not'",
                           FILTER_LEVELS_MAX);
    }
    self->level++;
    weir_err err = inverted ? parse_inverted(self, made) : parse_parentheses(self, made);
    self->level--;
    return err;
}

static weir_err parse_and(filter_parser *self, part *made)
{
    weir_err err = parse_not(self, made);
    while (!err && filter_at(self, "and")) {
        weir_filter *filter = self->filter;
        part next;
        close_exits(filter, made->open[1], (uint16_t)filter->count);
        err = filter_next(self);
        if (!err) err = parse_not(self, &next);
        if (err) return err;
        made->open[0] = join_exits(filter, made->open[0], next.open[0]);
        made->open[1] = next.open[1];
    }
    return err;
}

static weir_err parse_or(filter_parser *self, part *made)
{
    weir_err err = parse_and(self, made);
    while (!err && filter_at(self, "or")) {
        weir_filter *filter = self->filter;
        part next;
        close_exits(filter, made->open[0], (uint16_t)filter->count);
        err = filter_next(self);
        if (!err) err = parse_and(self, &next);
        if (err) return err;
        made->open[1] = join_exits(filter, made->open[1], next.open[1]);
        made->open[0] = next.open[0];
    }
    return err;
}

static weir_err parse_all(filter_parser *self)
{
    part whole;
    if (self->size > FILTER_SIZE_MAX) {
        return filter_fail(self, FILTER_SIZE_MAX, "the expression has more than %d bytes",
                           FILTER_SIZE_MAX);
    }
    weir_err err = filter_next(self);
    if (err) return err;
    if (self->token.kind == TOKEN_END) {
        return filter_fail(self, 0, "the expression is empty");
    }
    err = parse_or(self, &whole);
    if (err) return err;
    if (filter_at(self, ")")) {
        return filter_fail(self, self->token.from, "no '(' is open for this ')'");
    }
    if (self->token.kind != TOKEN_END) {
        return filter_fail(self, self->token.from,
                           "'and' or 'or' is expected, not '%.*s'", token_size(self),
                           token_text(self));
    }
    close_exits(self->filter, whole.open[0], FILTER_REJECT);
    close_exits(self->filter, whole.open[1], FILTER_ACCEPT);
    return WEIR_OK;
}

/*  --- the filter -------------------------------------------------------------------- */

weir_err weir_filter_new(weir_filter **self_p, const char *text, size_t *column,
                         weir_report *report)
{
    *self_p = NULL;
    weir_filter *self = calloc(1, sizeof *self);
    if (!self) abort();
    size_t size = strnlen(text, FILTER_SIZE_MAX + 1);
    self->arena = malloc(size + 1);
    if (!self->arena) abort();
    filter_parser parser = {
        .text = text, .size = size, .filter = self, .column = column, .report = report};
    weir_err err = parse_all(&parser);
    if (err) {
        weir_filter_destroy(&self);
        return err;
    }
    *self_p = self;
    return WEIR_OK;
}

static void operand_fini(filter_operand *self)
{
    if (self->kind == OPERAND_FIELD) free(self->path.steps);
}

void weir_filter_destroy(weir_filter **self_p)
{
    weir_filter *self = *self_p;
    if (!self) return;
    for (size_t i = 0; i < self->count; i++) {
        filter_test *test = &self->tests[i];
        operand_fini(&test->left);
        operand_fini(&test->right);
        weir_regex_destroy(&test->regex);
        free(test->set);
    }
    free(self->tests);
    free(self->arena);
    weir_buffer_fini(&self->scratch[0]);
    weir_buffer_fini(&self->scratch[1]);
    free(self);
    *self_p = NULL;
}

bool weir_filter_needs_store(const weir_filter *self)
{
    return self->needs_store;
}
