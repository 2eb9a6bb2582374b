#include "lua/lexer.h"
#include "lua/source_parts.h"
#include <limits.h>
#include <stdio.h>

/*  Lua refuses more than 200 levels itself, and counts at least as many of them. */
static const int depth_max = 200;

/*  What the value of an expression is for.                                    */
typedef struct {
    enum {
        FOR_NOTHING, // its tables say nothing
        FOR_ITSELF,  // a statement's: it may be a declaration
        FOR_OPTION,  // its tables hold options
    } purpose;
    int parent;  // FOR_OPTION: as in weir_option
    bool direct; // FOR_OPTION: as in weir_option
} role;

static const role no_role = {FOR_NOTHING, -1, false};

typedef struct {
    weir_source *source; // what is found goes here
    weir_lexer lexer;
    weir_token token; // the one to judge
    weir_token ahead; // the one behind it, if it is known
    bool ahead_known;
    int last_line;        // of the token before
    weir_symbol **locals; // declared in the open functions, innermost last; those
                          // of a `local` before its `=` do not count as active yet
    int local_count, local_room;
    weir_symbol *environment; // the name _ENV
    weir_symbol *receiver;    // the name self
    weir_buffer word;         // of the call chain being read
    int functions;            // bodies around the token
    int tables;               // constructors seen
    int depth;                // of statements and expressions
    const char *name;         // of the text, for errors
    weir_report *report;
    weir_err err;
} parser;

/* --- Tokens ------------------------------------------------------------------------ */

/*  Notes the first failure and ends the text, so that every loop over tokens ends
    and no caller needs to look at a result.                                   */
static void fail(parser *self, const weir_token *at, const char *what)
{
    if (self->err) return;
    char where[sizeof self->report->where];
    snprintf(where, sizeof where, "%.100s:%d", self->name, at->line);
    bool shown =
        at->kind < 127 || at->kind == WEIR_TOKEN_NAME || at->kind > WEIR_TOKEN_STRING;
    int size = at->size < 40 ? (int)at->size : 40;
    self->err = weir_report_set(self->report, WEIR_EMALFORMED, where, "%s%s%.*s%s", what,
                                shown ? " near '" : "", shown ? size : 0, at->text,
                                shown ? "'" : "");
    weir_lexer_stop(&self->lexer);
    self->ahead_known = false;
    self->token.kind = WEIR_TOKEN_END;
}

static weir_token read_token(parser *self)
{
    weir_token token = weir_lexer_next(&self->lexer);
    if (token.kind == WEIR_TOKEN_BAD) {
        fail(self, &token, self->lexer.complaint);
        token.kind = WEIR_TOKEN_END;
    }
    return token;
}

static void advance(parser *self)
{
    self->last_line = self->token.line;
    if (self->ahead_known)
        self->token = self->ahead;
    else
        self->token = read_token(self);
    self->ahead_known = false;
}

/*  The kind of the token behind the current one. A string in the lexer is lost. */
static int look_ahead(parser *self)
{
    if (!self->ahead_known) {
        self->ahead = read_token(self);
        self->ahead_known = !self->err;
    }
    return self->ahead.kind;
}

static bool accept(parser *self, int kind)
{
    if (self->token.kind != kind) return false;
    advance(self);
    return true;
}

static void expect(parser *self, int kind, const char *complaint)
{
    if (!accept(self, kind)) fail(self, &self->token, complaint);
}

static weir_symbol *intern_token(parser *self)
{
    const weir_token *token = &self->token;
    if (token->kind == WEIR_TOKEN_STRING)
        return weir_symbols_intern(&self->source->symbols,
                                   (const char *)self->lexer.string.data,
                                   self->lexer.string.size);
    return weir_symbols_intern(&self->source->symbols, token->text, token->size);
}

static weir_symbol *expect_name(parser *self)
{
    if (self->token.kind != WEIR_TOKEN_NAME) fail(self, &self->token, "name expected");
    if (self->err) return self->receiver;
    weir_symbol *name = intern_token(self);
    advance(self);
    return name;
}

/*  Bounds the recursion; the caller takes the level back, also after a failure. */
static void enter(parser *self)
{
    if (++self->depth > depth_max) fail(self, &self->token, "nested too deeply");
}

/* --- Scopes ------------------------------------------------------------------------ */

/*  Puts a name on the stack without bringing it into scope.                   */
static void push_local(parser *self, weir_symbol *name)
{
    self->locals = weir_source_room(self->locals, self->local_count, &self->local_room,
                                    sizeof *self->locals);
    self->locals[self->local_count++] = name;
}

static void activate_from(parser *self, int mark)
{
    for (int i = mark; i < self->local_count; i++)
        self->locals[i]->active++;
}

static void declare(parser *self, weir_symbol *name)
{
    push_local(self, name);
    name->active++;
}

/*  Ends the scope of all locals above the mark.                               */
static void close_scope(parser *self, int mark)
{
    while (self->local_count > mark)
        self->locals[--self->local_count]->active--;
}

/*  Notes the use of a variable; returns its number when it is a global, else -1.
    Below a local _ENV a free name is a field of that local.                   */
static int use_name(parser *self, weir_symbol *name, int line)
{
    if (self->err || name->active || self->environment->active) return -1;
    if (name == self->environment) return -1;
    return weir_source_add_use(self->source, name, line);
}

static void mark_write(parser *self, int number)
{
    if (number >= 0) self->source->uses[number].write = true;
}

/* --- Expressions ------------------------------------------------------------------- */

static void read_expression(parser *self, role value);
static void read_body(parser *self, bool method);
static void read_statements(parser *self);

static int read_expressions(parser *self, role value)
{
    int count = 0;
    do {
        read_expression(self, value);
        count++;
    } while (accept(self, ','));
    return count;
}

/*  Reads `[key] =` from its bracket. found gets a literal key; false: the key is
    another expression.                                                        */
static bool read_bracket_key(parser *self, weir_option *found)
{
    advance(self);
    weir_token token = self->token;
    weir_symbol *text = token.kind == WEIR_TOKEN_STRING ? intern_token(self) : NULL;
    bool literal = (text || token.kind == WEIR_TOKEN_INTEGER) && look_ahead(self) == ']';
    if (literal) {
        advance(self);
        found->key = text;
        found->number = token.integer;
    } else {
        read_expression(self, no_role);
    }
    expect(self, ']', "']' expected");
    expect(self, '=', "'=' expected");
    return literal;
}

static void read_field(parser *self, role value, int table, int64_t *position)
{
    weir_option found = {.table = table,
                         .parent = value.parent,
                         .line = self->token.line,
                         .direct = value.direct};
    bool known = true;
    if (self->token.kind == WEIR_TOKEN_NAME && look_ahead(self) == '=') {
        found.key = expect_name(self);
        advance(self);
    } else if (self->token.kind == '[') {
        known = read_bracket_key(self, &found);
    } else {
        found.number = ++*position;
    }
    if (value.purpose == FOR_OPTION && !self->err) {
        if (!known) {
            found.key = weir_symbols_intern(&self->source->symbols, "?", 1);
            found.direct = false;
        }
        value.parent = weir_source_add_option(self->source, &found, known);
        value.direct = found.direct;
    }
    read_expression(self, value);
}

/*  Reads a table constructor from its opening brace.                          */
static void read_table(parser *self, role value)
{
    int table = self->tables++;
    int64_t position = 0;
    if (value.purpose != FOR_OPTION) value = no_role;
    advance(self);
    while (self->token.kind != '}' && self->token.kind != WEIR_TOKEN_END) {
        read_field(self, value, table, &position);
        if (!accept(self, ',') && !accept(self, ';')) break;
    }
    expect(self, '}', "'}' expected");
}

/*  A name with what follows it, watched for the form of a declaration: a word, at
    most one name, a table.                                                    */
typedef struct {
    enum { AT_WORD, AT_NAME, OVER } state;
    role value; // of the whole chain
    weir_declaration found;
} chain;

/*  The word is complete: an argument follows.                                 */
static void end_word(parser *self, chain *call)
{
    if (call->state != AT_WORD) return;
    call->found.word = weir_symbols_intern(
        &self->source->symbols, (const char *)self->word.data, self->word.size);
}

static void read_table_argument(parser *self, chain *call)
{
    if (call->state == OVER) {
        read_table(self, call->value.purpose == FOR_OPTION ? call->value : no_role);
        return;
    }
    end_word(self, call);
    call->state = OVER;
    int number = weir_source_add_declaration(self->source, &call->found);
    read_table(self, (role){FOR_OPTION, -1, true});
    weir_declaration *added = &self->source->declarations[number];
    added->last_line = self->last_line;
    added->option_end = self->source->option_count;
}

/*  Behind a name that is a literal an argument without table is a declaration, too. */
static void end_without_table(parser *self, chain *call)
{
    if (call->state == AT_NAME && call->found.name) {
        call->found.last_line = self->last_line;
        weir_source_add_declaration(self->source, &call->found);
    }
    call->state = OVER;
}

static void take_name(parser *self, chain *call, const weir_symbol *name)
{
    if (call->state == AT_WORD) {
        call->found.name = name;
        call->found.computed = !name;
        call->state = AT_NAME;
    } else {
        end_without_table(self, call);
    }
}

static void read_string_argument(parser *self, chain *call)
{
    weir_symbol *name = call->state == AT_WORD ? intern_token(self) : NULL;
    end_word(self, call);
    advance(self);
    take_name(self, call, name);
}

/*  Reads `(...)`; one string literal in it is as good as the literal alone.   */
static void read_arguments(parser *self, chain *call)
{
    weir_symbol *name = NULL;
    end_word(self, call);
    advance(self);
    if (call->state == AT_WORD && self->token.kind == WEIR_TOKEN_STRING) {
        name = intern_token(self);
        if (look_ahead(self) != ')') name = NULL;
    }
    role value = call->value.purpose == FOR_OPTION ? call->value : no_role;
    value.direct = false;
    if (self->token.kind != ')') read_expressions(self, value);
    expect(self, ')', "')' expected");
    take_name(self, call, name);
}

static bool is_argument(int kind)
{
    return kind == '(' || kind == '{' || kind == WEIR_TOKEN_STRING;
}

static void read_argument(parser *self, chain *call)
{
    if (self->token.kind == '{')
        read_table_argument(self, call);
    else if (self->token.kind == '(')
        read_arguments(self, call);
    else if (self->token.kind == WEIR_TOKEN_STRING)
        read_string_argument(self, call);
    else
        fail(self, &self->token, "function arguments expected");
}

/*  What an expression was, for a statement that begins with it.               */
typedef struct {
    enum { IS_NAME, IS_FIELD, IS_CALL, IS_VALUE } kind;
    int use; // IS_NAME: the global's use; -1: a local
} target;

/*  Reads the name or parenthesis that a chain begins with.                    */
static target read_primary(parser *self, chain *call)
{
    if (accept(self, '(')) {
        role value = call->value.purpose == FOR_OPTION ? call->value : no_role;
        value.direct = false;
        call->state = OVER;
        read_expression(self, value);
        expect(self, ')', "')' expected");
        return (target){IS_VALUE, -1};
    }
    int line = self->token.line;
    if (self->token.kind != WEIR_TOKEN_NAME) fail(self, &self->token, "unexpected token");
    weir_symbol *name = expect_name(self);
    if (call->state == AT_WORD) {
        self->word.size = 0;
        weir_buffer_put(&self->word, name->text, name->size);
        call->found.line = line;
    }
    return (target){IS_NAME, use_name(self, name, line)};
}

static void read_dot(parser *self, chain *call)
{
    advance(self);
    weir_symbol *name = expect_name(self);
    if (call->state != AT_WORD) {
        call->state = OVER;
        return;
    }
    weir_buffer_put_byte(&self->word, '.');
    weir_buffer_put(&self->word, name->text, name->size);
}

/*  Reads a name or parenthesis and all of `.name [key] :name args` behind it. */
static target read_chain(parser *self, role value)
{
    chain call = {.value = value};
    if (value.purpose != FOR_ITSELF) call.state = OVER;
    target result = read_primary(self, &call);
    for (;;) {
        if (self->token.kind == '.') {
            read_dot(self, &call);
            result.kind = IS_FIELD;
        } else if (self->token.kind == '[') {
            call.state = OVER;
            advance(self);
            read_expression(self, no_role);
            expect(self, ']', "']' expected");
            result.kind = IS_FIELD;
        } else if (self->token.kind == ':') {
            call.state = OVER;
            advance(self);
            expect_name(self);
            read_argument(self, &call);
            result.kind = IS_CALL;
        } else if (is_argument(self->token.kind)) {
            read_argument(self, &call);
            result.kind = IS_CALL;
        } else {
            return result;
        }
    }
}

static void read_operand(parser *self, role value)
{
    switch (self->token.kind) {
    case WEIR_TOKEN_STRING:
    case WEIR_TOKEN_INTEGER:
    case WEIR_TOKEN_FLOAT:
    case WEIR_TOKEN_NIL:
    case WEIR_TOKEN_TRUE:
    case WEIR_TOKEN_FALSE:
    case WEIR_TOKEN_DOTS:
        advance(self);
        return;
    case '{':
        read_table(self, value);
        return;
    case WEIR_TOKEN_FUNCTION:
        advance(self);
        read_body(self, false);
        return;
    default:
        read_chain(self, value);
    }
}

static bool is_unary(int kind)
{
    return kind == '-' || kind == '~' || kind == '#' || kind == WEIR_TOKEN_NOT;
}

static bool is_binary(int kind)
{
    if (kind < 127) return strchr("+-*/%^&|~<>", kind);
    if (kind == WEIR_TOKEN_AND || kind == WEIR_TOKEN_OR) return true;
    return kind >= WEIR_TOKEN_CONCAT && kind <= WEIR_TOKEN_SHR && kind != WEIR_TOKEN_DOTS;
}

/*  The tables of an expression with operators are not the option's value.     */
static void doubt_options(parser *self, int from)
{
    for (int i = from; i < self->source->option_count; i++)
        self->source->options[i].direct = false;
}

/*  The order of operations does not matter here: operands and operators alternate. */
static void read_expression(parser *self, role value)
{
    enter(self);
    int from = self->source->option_count;
    for (;;) {
        while (is_unary(self->token.kind)) {
            advance(self);
            if (value.purpose == FOR_ITSELF) value = no_role;
            value.direct = false;
        }
        read_operand(self, value);
        if (!is_binary(self->token.kind)) break;
        if (value.direct) doubt_options(self, from);
        if (value.purpose == FOR_ITSELF) value = no_role;
        value.direct = false;
        advance(self);
    }
    self->depth--;
}

/* --- Functions and statements ------------------------------------------------------ */

static void read_block(parser *self)
{
    int mark = self->local_count;
    read_statements(self);
    close_scope(self, mark);
}

static void read_closed_block(parser *self)
{
    read_block(self);
    expect(self, WEIR_TOKEN_END_WORD, "'end' expected");
}

/*  Reads a function from its parameters to its `end`.                         */
static void read_body(parser *self, bool method)
{
    int mark = self->local_count;
    self->functions++;
    if (method) declare(self, self->receiver);
    expect(self, '(', "'(' expected");
    if (self->token.kind != ')') {
        do {
            if (accept(self, WEIR_TOKEN_DOTS)) break;
            declare(self, expect_name(self));
        } while (accept(self, ','));
    }
    expect(self, ')', "')' expected");
    read_closed_block(self);
    close_scope(self, mark);
    self->functions--;
}

/*  Outside of functions a statement's expressions may be declarations.        */
static role statement_role(const parser *self)
{
    return self->functions ? no_role : (role){FOR_ITSELF, -1, false};
}

static void read_if(parser *self)
{
    do {
        advance(self);
        read_expression(self, no_role);
        expect(self, WEIR_TOKEN_THEN, "'then' expected");
        read_block(self);
    } while (self->token.kind == WEIR_TOKEN_ELSEIF);
    accept(self, WEIR_TOKEN_ELSE);
    read_closed_block(self);
}

static void read_do(parser *self)
{
    expect(self, WEIR_TOKEN_DO, "'do' expected");
    read_closed_block(self);
}

static void read_while(parser *self)
{
    advance(self);
    read_expression(self, no_role);
    read_do(self);
}

/*  The condition still sees the locals of the body.                           */
static void read_repeat(parser *self)
{
    int mark = self->local_count;
    advance(self);
    read_statements(self);
    expect(self, WEIR_TOKEN_UNTIL, "'until' expected");
    read_expression(self, no_role);
    close_scope(self, mark);
}

/*  The variables are in scope behind `do`, not in the expressions before it.  */
static void read_for(parser *self)
{
    int mark = self->local_count;
    advance(self);
    push_local(self, expect_name(self));
    if (accept(self, '=')) {
        int count = read_expressions(self, no_role);
        if (count < 2 || count > 3) fail(self, &self->token, "'for' with 2 or 3 values");
    } else {
        while (accept(self, ','))
            push_local(self, expect_name(self));
        expect(self, WEIR_TOKEN_IN, "'=' or 'in' expected");
        read_expressions(self, no_role);
    }
    activate_from(self, mark);
    read_do(self);
    close_scope(self, mark);
}

static void read_function(parser *self)
{
    advance(self);
    int line = self->token.line;
    bool method = false;
    int number = use_name(self, expect_name(self), line);
    if (self->token.kind != '.' && self->token.kind != ':') mark_write(self, number);
    while (accept(self, '.'))
        expect_name(self);
    if (accept(self, ':')) {
        expect_name(self);
        method = true;
    }
    read_body(self, method);
}

/*  The names come into scope behind the values.                               */
static void read_local(parser *self)
{
    int mark = self->local_count;
    do {
        push_local(self, expect_name(self));
        if (accept(self, '<')) {
            expect_name(self);
            expect(self, '>', "'>' expected");
        }
    } while (accept(self, ','));
    if (accept(self, '=')) read_expressions(self, statement_role(self));
    activate_from(self, mark);
}

static void read_local_statement(parser *self)
{
    advance(self);
    if (!accept(self, WEIR_TOKEN_FUNCTION)) {
        read_local(self);
        return;
    }
    declare(self, expect_name(self));
    read_body(self, false);
}

static bool ends_block(int kind)
{
    return kind == WEIR_TOKEN_END || kind == WEIR_TOKEN_END_WORD ||
           kind == WEIR_TOKEN_ELSE || kind == WEIR_TOKEN_ELSEIF ||
           kind == WEIR_TOKEN_UNTIL;
}

static void read_return(parser *self)
{
    advance(self);
    if (!ends_block(self->token.kind) && self->token.kind != ';')
        read_expressions(self, statement_role(self));
    accept(self, ';');
    if (!ends_block(self->token.kind)) fail(self, &self->token, "'end' expected");
}

/*  A call, or an assignment to names and fields.                              */
static void read_simple_statement(parser *self)
{
    target left = read_chain(self, statement_role(self));
    if (self->token.kind != '=' && self->token.kind != ',') {
        if (left.kind != IS_CALL) fail(self, &self->token, "syntax error");
        return;
    }
    for (;;) {
        if (left.kind == IS_NAME) mark_write(self, left.use);
        if (left.kind == IS_CALL || left.kind == IS_VALUE)
            fail(self, &self->token, "syntax error");
        if (!accept(self, ',')) break;
        left = read_chain(self, no_role);
    }
    expect(self, '=', "'=' expected");
    read_expressions(self, statement_role(self));
}

static void read_goto(parser *self)
{
    advance(self);
    expect_name(self);
}

static void read_label(parser *self)
{
    advance(self);
    expect_name(self);
    expect(self, WEIR_TOKEN_LABEL, "'::' expected");
}

static const struct {
    int kind; // the token that such a statement begins with
    void (*read)(parser *self);
} statements[] = {
    {';', advance},
    {WEIR_TOKEN_BREAK, advance},
    {WEIR_TOKEN_DO, read_do},
    {WEIR_TOKEN_FOR, read_for},
    {WEIR_TOKEN_FUNCTION, read_function},
    {WEIR_TOKEN_GOTO, read_goto},
    {WEIR_TOKEN_IF, read_if},
    {WEIR_TOKEN_LABEL, read_label},
    {WEIR_TOKEN_LOCAL, read_local_statement},
    {WEIR_TOKEN_REPEAT, read_repeat},
    {WEIR_TOKEN_RETURN, read_return},
    {WEIR_TOKEN_WHILE, read_while},
    {0, read_simple_statement},
};

static void read_statement(parser *self)
{
    int i = 0;
    while (statements[i].kind && statements[i].kind != self->token.kind)
        i++;
    statements[i].read(self);
}

/*  Reads up to a token that ends a block, in the scope around.                */
static void read_statements(parser *self)
{
    while (!ends_block(self->token.kind)) {
        enter(self);
        read_statement(self);
        self->depth--;
    }
}

weir_err weir_source_read(weir_source *self, const char *name, const char *text,
                          size_t size, weir_report *report)
{
    parser reader = {.source = self, .name = name, .report = report};
    reader.environment = weir_symbols_intern(&self->symbols, "_ENV", 4);
    reader.receiver = weir_symbols_intern(&self->symbols, "self", 4);
    weir_lexer_init(&reader.lexer, text, size);
    reader.token = read_token(&reader);
    read_block(&reader);
    if (reader.token.kind != WEIR_TOKEN_END)
        fail(&reader, &reader.token, "unexpected token");
    weir_lexer_fini(&reader.lexer);
    weir_buffer_fini(&reader.word);
    free(reader.locals);
    return reader.err;
}
