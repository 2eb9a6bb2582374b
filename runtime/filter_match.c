/*  How a verdict comes about.

    The tests run from left to right and stop as soon as the rest cannot change the
    verdict: the right side of `and` runs only when the left is true, that of `or` only
    when the left is false. A test that runs and cannot be decided (it needs a field of
    a payload that cannot be decoded, or its match reached the bound) makes the whole
    expression unknown, whatever stands around it. So `$raw ~ 'x' or status == 5` is
    true for a broken payload that matches, and unknown for one that does not; with the
    sides exchanged it is unknown for both.

    A value that is missing makes its test false, `!=` and `not in` too. str and bin are
    both text here. Numbers and texts have an order; true, false and null can only be
    equal; arrays, maps and extensions equal nothing, themselves included.             */
#include "runtime/filter_private.h"

static void natural(weir_value *value, uint64_t number)
{
    if (number > INT64_MAX) {
        *value = (weir_value){.type = WEIR_UINT, .natural = number};
    } else {
        *value = (weir_value){.type = WEIR_INT, .integer = (int64_t)number};
    }
}

static void text_value(weir_value *value, const void *data, size_t size)
{
    *value = (weir_value){
        .type = WEIR_STR, .format = WEIR_MSGPACK, .data = data, .size = size};
}

static void name_value(weir_value *value, const char *name)
{
    if (name) text_value(value, name, strlen(name));
}

static void read_field(const weir_doc *doc, const weir_path *path, weir_value *value)
{
    if (path->count > 1) {
        weir_doc_get(doc, path, value);
        return;
    }
    long i = weir_doc_find(doc, path->steps[0].name, path->steps[0].size);
    if (i >= 0) weir_doc_value(doc, (uint32_t)i, value);
}

static void read_place(operand_kind kind, const weir_subject *subject, weir_value *value)
{
    weir_place place;
    if (weir_subject_place(subject, &place))
        natural(value, kind == OPERAND_SHARD ? place.shard : place.offset);
}

static void read_record(const filter_operand *operand, const weir_subject *subject,
                        weir_value *value)
{
    const weir_record *record = &subject->record;
    switch (operand->kind) {
    case OPERAND_HEADER:
        weir_record_header(record, operand->header.name, operand->header.size, value);
        break;
    case OPERAND_RAW:
        if (record->format != WEIR_MSGPACK) text_value(value, record->data, record->size);
        break;
    case OPERAND_SOURCE:
        name_value(value, subject->source);
        break;
    case OPERAND_PEER:
        name_value(value, subject->peer);
        break;
    case OPERAND_KEY:
        *value = record->key;
        break;
    case OPERAND_TS:
        if (record->has_ts) {
            *value = (weir_value){.type = WEIR_INT, .integer = record->ts_ms};
        }
        break;
    case OPERAND_SHARD:
    case OPERAND_OFFSET:
        read_place(operand->kind, subject, value);
        break;
    default:
        break;
    }
}

/*  The operand's value, MISSING when there is none; a literal's own, or the one read
    into room. NULL: unknown.                                                          */
static const weir_value *read_operand(const filter_operand *operand,
                                      weir_subject *subject, weir_value *room)
{
    if (operand->kind == OPERAND_LITERAL) return &operand->literal;
    *room = (weir_value){.type = WEIR_MISSING};
    if (operand->kind != OPERAND_FIELD) {
        read_record(operand, subject, room);
    } else if (weir_subject_parse(subject)) {
        read_field(subject->doc, &operand->path, room);
    } else {
        return NULL;
    }
    return room;
}

/*  --- values ----------------------------------------------------------------------  */

static bool is_number(const weir_value *value)
{
    return value->type == WEIR_INT || value->type == WEIR_UINT ||
           value->type == WEIR_FLOAT;
}

static bool is_text(const weir_value *value)
{
    return value->type == WEIR_STR || value->type == WEIR_BIN;
}

/*  The bytes of a text, unescaped into the scratch buffer if need be.                 */
static const char *text_of(const weir_value *value, weir_buffer *scratch, size_t *size)
{
    if (value->escaped) return weir_value_text(value, scratch, size);
    *size = value->size;
    return value->size ? (const char *)value->data : "";
}

static int compare_texts(weir_filter *self, const weir_value *a, const weir_value *b)
{
    size_t a_size, b_size;
    const char *a_text = text_of(a, &self->scratch[0], &a_size);
    const char *b_text = text_of(b, &self->scratch[1], &b_size);
    int order = memcmp(a_text, b_text, a_size < b_size ? a_size : b_size);
    if (order) return order < 0 ? -1 : 1;
    return (a_size > b_size) - (a_size < b_size);
}

/*  -1, 0, 1; 2: the two have no order.                                                */
static int compare(weir_filter *self, const weir_value *a, const weir_value *b)
{
    if (a->type == WEIR_INT && b->type == WEIR_INT) {
        return (a->integer > b->integer) - (a->integer < b->integer);
    }
    if (is_number(a) && is_number(b)) return weir_value_compare_numbers(a, b);
    if (is_text(a) && is_text(b)) return compare_texts(self, a, b);
    return 2;
}

static bool equal(weir_filter *self, const weir_value *a, const weir_value *b)
{
    if (a->type == WEIR_BOOL && b->type == WEIR_BOOL) return a->boolean == b->boolean;
    if (a->type == WEIR_NULL) return b->type == WEIR_NULL;
    if (is_text(a) && is_text(b) && !a->escaped && !b->escaped && a->size != b->size) {
        return false;
    }
    return compare(self, a, b) == 0;
}

/*  --- tests ------------------------------------------------------------------------- */

static bool test_text(weir_filter *self, filter_op op, const weir_value *a,
                      const weir_value *b)
{
    size_t size, part_size;
    const char *text = text_of(a, &self->scratch[0], &size);
    const char *part = text_of(b, &self->scratch[1], &part_size);
    if (part_size > size) return false;
    if (op == FILTER_PREFIX) return memcmp(text, part, part_size) == 0;
    if (op == FILTER_SUFFIX) return memcmp(text + size - part_size, part, part_size) == 0;
    return memmem(text, size, part, part_size) != NULL;
}

static bool test_element(weir_filter *self, const weir_value *array,
                         const weir_value *wanted)
{
    weir_walk walk = {0};
    weir_value key, child;
    while (weir_value_next(array, &walk, &key, &child)) {
        if (equal(self, &child, wanted)) return true;
    }
    return false;
}

static bool test_pair(weir_filter *self, filter_op op, const weir_value *a,
                      const weir_value *b)
{
    int order;
    switch (op) {
    case FILTER_EQ:
        return equal(self, a, b);
    case FILTER_NE:
        return !equal(self, a, b);
    case FILTER_LT:
        return compare(self, a, b) == -1;
    case FILTER_LE:
        order = compare(self, a, b);
        return order == -1 || order == 0;
    case FILTER_GT:
        return compare(self, a, b) == 1;
    case FILTER_GE:
        order = compare(self, a, b);
        return order == 1 || order == 0;
    case FILTER_CONTAINS:
        if (a->type == WEIR_ARRAY) return test_element(self, a, b);
        return is_text(a) && is_text(b) && test_text(self, op, a, b);
    default:
        return is_text(a) && is_text(b) && test_text(self, op, a, b);
    }
}

static bool test_in(weir_filter *self, const filter_test *test, const weir_value *value)
{
    for (size_t i = 0; i < test->set_count; i++) {
        if (equal(self, value, &test->set[i])) return true;
    }
    return false;
}

static weir_verdict test_match(weir_filter *self, const filter_test *test,
                               const weir_value *value)
{
    if (!is_text(value)) return WEIR_FALSE;
    size_t size;
    const char *text = text_of(value, &self->scratch[0], &size);
    switch (weir_regex_search(test->regex, text, size, 0, NULL, 0, NULL)) {
    case WEIR_MATCH_YES:
        return WEIR_TRUE;
    case WEIR_MATCH_NO:
        return WEIR_FALSE;
    default:
        return WEIR_UNKNOWN;
    }
}

static weir_verdict run_test(weir_filter *self, const filter_test *test,
                             weir_subject *subject)
{
    weir_value left_room, right_room;
    const weir_value *left = read_operand(&test->left, subject, &left_room);
    if (!left) return WEIR_UNKNOWN;
    bool there = left->type != WEIR_MISSING;
    switch (test->op) {
    case FILTER_HAS:
        return there;
    case FILTER_IS_TRUE:
        return left->type == WEIR_BOOL && left->boolean;
    case FILTER_IN:
        return there && test_in(self, test, left);
    case FILTER_NOT_IN:
        return there && !test_in(self, test, left);
    case FILTER_MATCH:
        return test_match(self, test, left);
    default:
        break;
    }
    const weir_value *right = read_operand(&test->right, subject, &right_room);
    if (!right) return WEIR_UNKNOWN;
    if (!there || right->type == WEIR_MISSING) return WEIR_FALSE;
    return test_pair(self, test->op, left, right);
}

weir_verdict weir_filter_match(weir_filter *self, weir_subject *subject)
{
    uint16_t at = 0;
    do {
        const filter_test *test = &self->tests[at];
        weir_verdict verdict = run_test(self, test, subject);
        if (verdict == WEIR_UNKNOWN) return WEIR_UNKNOWN;
        at = test->next[verdict == WEIR_TRUE];
    } while (at < FILTER_REJECT);
    return at == FILTER_ACCEPT ? WEIR_TRUE : WEIR_FALSE;
}
