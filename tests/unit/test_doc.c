#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "runtime/codec.h"
#include "runtime/doc.h"

static const char nested[] =
    "{\"a\": {\"b\": [10, {\"any text\": {\"c\": \"x\\n\"}}, [ ] ]}, \"s\": \"str\", "
    "\"a\\u0062\": 7, \"d\": {\"k\": 1, \"k\": [ 2 ]}, \"n\": null, \"e\" : {}}";

/*  The same as nested, in MessagePack, with two keys that are no str.         */
static void pack_nested(weir_buffer *out)
{
    weir_put_map(out, 5);
    weir_put_int(out, 1);
    weir_put_str(out, "one", 3);
    weir_put_bin(out, "s", 1);
    weir_put_nil(out);
    weir_put_str(out, "a", 1);
    weir_put_map(out, 1);
    weir_put_str(out, "b", 1);
    weir_put_array(out, 2);
    weir_put_int(out, 10);
    weir_put_map(out, 1);
    weir_put_str(out, "any text", 8);
    weir_put_map(out, 1);
    weir_put_str(out, "c", 1);
    weir_put_str(out, "x\n", 2);
    weir_put_str(out, "k", 1);
    weir_put_int(out, 1);
    weir_put_str(out, "k", 1);
    weir_put_float(out, 2.5);
}

static weir_type get(const weir_doc *doc, const char *text, weir_value *value)
{
    weir_path path;
    size_t at;
    assert_int_equal(weir_path_parse(&path, text, &at), WEIR_OK);
    bool found = weir_doc_get(doc, &path, value);
    assert_int_equal(found, value->type != WEIR_MISSING);
    weir_path_fini(&path);
    return value->type;
}

static void paths_are_names_and_indices(void **state)
{
    (void)state;
    weir_path path;
    size_t at;
    assert_int_equal(weir_path_parse(&path, "a_1.b[2].`any. text`[0].``", &at), WEIR_OK);
    assert_int_equal(path.count, 6);
    assert_string_equal(path.steps[0].name, "a_1");
    assert_string_equal(path.steps[1].name, "b");
    assert_null(path.steps[2].name);
    assert_int_equal(path.steps[2].index, 2);
    assert_string_equal(path.steps[3].name, "any. text");
    assert_int_equal(path.steps[3].size, 9);
    assert_int_equal(path.steps[4].index, 0);
    assert_int_equal(path.steps[5].size, 0);
    weir_path_fini(&path);
}

static void wrong_paths_say_where(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t at;
    } wrong[] = {
        {"", 0},    {"1a", 0},  {"a.", 2},    {"a..b", 2},  {"a[", 2},
        {"a[]", 2}, {"a[1", 3}, {"a[-1]", 2}, {"a b", 1},   {"a[4294967296]", 11},
        {"`ab", 3}, {"a]", 1},  {"[0]", 0},   {"a.[0]", 2}, {"`a`b", 3},
        {"a-b", 1},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        weir_path path;
        size_t at = 99;
        assert_int_equal(weir_path_parse(&path, wrong[i].text, &at), WEIR_EINVAL);
        assert_int_equal(at, wrong[i].at);
        assert_null(path.steps);
    }
}

static void paths_reach_into_json(void **state)
{
    (void)state;
    weir_doc doc = {0};
    weir_value value;
    weir_buffer scratch = {0};
    size_t size;
    assert_int_equal(
        weir_doc_parse(&doc, WEIR_JSON, (const uint8_t *)nested, sizeof nested - 1),
        WEIR_OK);
    assert_int_equal(get(&doc, "a.b[0]", &value), WEIR_INT);
    assert_int_equal(value.integer, 10);
    assert_int_equal(get(&doc, "a.b[1].`any text`.c", &value), WEIR_STR);
    assert_memory_equal(weir_value_text(&value, &scratch, &size), "x\n", 2);
    assert_int_equal(size, 2);
    assert_int_equal(get(&doc, "a.b[2]", &value), WEIR_ARRAY);
    assert_int_equal(get(&doc, "ab", &value), WEIR_INT);
    assert_int_equal(get(&doc, "d.k[0]", &value), WEIR_INT);
    assert_int_equal(value.integer, 2);
    assert_int_equal(get(&doc, "n", &value), WEIR_NULL);
    assert_int_equal(get(&doc, "s", &value), WEIR_STR);
    assert_ptr_equal(weir_value_text(&value, &scratch, &size), value.data);
    static const char *const missing[] = {"x",   "a.x", "a.b[3]", "a.b.c",    "a[0]",
                                          "s.x", "n.x", "e.x",    "a.b[2][0]"};
    for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
        assert_int_equal(get(&doc, missing[i], &value), WEIR_MISSING);
    assert_int_equal(doc.parses, 1);
    weir_buffer_fini(&scratch);
    weir_doc_fini(&doc);
}

static void paths_reach_into_messagepack(void **state)
{
    (void)state;
    weir_doc doc = {0};
    weir_value value;
    weir_buffer packed = {0};
    pack_nested(&packed);
    assert_int_equal(weir_doc_parse(&doc, WEIR_MSGPACK, packed.data, packed.size),
                     WEIR_OK);
    assert_int_equal(doc.index.count, 5);
    assert_int_equal(get(&doc, "a.b[0]", &value), WEIR_INT);
    assert_int_equal(value.integer, 10);
    assert_int_equal(get(&doc, "a.b[1].`any text`.c", &value), WEIR_STR);
    assert_int_equal(value.size, 2);
    assert_int_equal(get(&doc, "k", &value), WEIR_FLOAT);
    assert_true(value.real == 2.5);
    assert_int_equal(get(&doc, "a.b[2]", &value), WEIR_MISSING);
    assert_int_equal(get(&doc, "a.x", &value), WEIR_MISSING);
    weir_buffer_fini(&packed);
    weir_doc_fini(&doc);
}

static void keys_that_are_no_str_have_no_name(void **state)
{
    (void)state;
    weir_doc doc = {0};
    weir_buffer packed = {0};
    pack_nested(&packed);
    assert_int_equal(weir_doc_parse(&doc, WEIR_MSGPACK, packed.data, packed.size),
                     WEIR_OK);
    assert_true(doc.index.fields[0].nameless && doc.index.fields[1].nameless);
    assert_false(doc.index.fields[2].nameless);
    assert_int_equal(weir_doc_find(&doc, "\x01", 1), -1);
    assert_int_equal(weir_doc_find(&doc, "s", 1), -1);
    assert_int_equal(weir_doc_find(&doc, "\xc4\x01s", 3), -1);
    assert_int_equal(weir_doc_find(&doc, "", 0), -1);
    weir_buffer_fini(&packed);
    weir_doc_fini(&doc);
}

static weir_err parse_packed(weir_doc *doc, const char *bytes, size_t size)
{
    return weir_doc_parse(doc, WEIR_MSGPACK, (const uint8_t *)bytes, size);
}

static void broken_messagepack_has_no_fields(void **state)
{
    (void)state;
    weir_doc doc = {0};
    assert_int_equal(parse_packed(&doc, "", 0), WEIR_ESHORT);
    assert_int_equal(parse_packed(&doc, "\xdf\xff\xff\xff\xff", 5), WEIR_ESHORT);
    assert_int_equal(parse_packed(&doc, "\x82\xa1x\x01\xa1y", 6), WEIR_ESHORT);
    assert_int_equal(doc.index.count, 0);
    assert_int_equal(parse_packed(&doc, "\x80\x80", 2), WEIR_EMALFORMED);
    assert_int_equal(doc.index.error_at, 1);
    assert_int_equal(parse_packed(&doc, "\x82\xa1x\x01\xa1\xff\x01", 7), WEIR_EMALFORMED);
    assert_int_equal(doc.index.error_at, 4);
    assert_non_null(doc.index.error);
    weir_doc_fini(&doc);
}

static void depth_counts_the_root(void **state)
{
    (void)state;
    weir_doc doc = {0};
    char deep[66];
    memset(deep, '\x91', sizeof deep);
    deep[64] = '\xc0';
    assert_int_equal(parse_packed(&doc, deep, 65), WEIR_OK);
    deep[64] = '\x91';
    deep[65] = '\xc0';
    assert_int_equal(parse_packed(&doc, deep, 66), WEIR_EDEEP);
    weir_doc_fini(&doc);
}

static void text_and_scalars_have_no_fields(void **state)
{
    (void)state;
    weir_doc doc = {0};
    static const uint8_t text[] = "{\"a\":1}";
    assert_int_equal(weir_doc_parse(&doc, WEIR_JSON, text, 7), WEIR_OK);
    assert_int_equal(doc.index.count, 1);
    assert_int_equal(weir_doc_parse(&doc, WEIR_TEXT, text, 7), WEIR_OK);
    assert_int_equal(doc.index.count, 0);
    assert_int_equal(weir_doc_find(&doc, "a", 1), -1);
    assert_int_equal(weir_doc_parse(&doc, WEIR_JSON, text + 5, 1), WEIR_OK);
    assert_int_equal(weir_doc_find(&doc, "a", 1), -1);
    assert_int_equal(weir_doc_parse(&doc, WEIR_JSON, (const uint8_t *)"[1]", 3), WEIR_OK);
    assert_int_equal(weir_doc_find(&doc, "", 0), -1);
    assert_int_equal(parse_packed(&doc, "\x2a", 1), WEIR_OK);
    assert_int_equal(doc.index.type, WEIR_INT);
    assert_int_equal(weir_doc_find(&doc, "a", 1), -1);
    weir_doc_fini(&doc);
}

static void reparse_reads_a_nested_container(void **state)
{
    (void)state;
    weir_doc doc = {0}, inner = {0};
    weir_value value;
    assert_int_equal(
        weir_doc_parse(&doc, WEIR_JSON, (const uint8_t *)nested, sizeof nested - 1),
        WEIR_OK);
    assert_int_equal(get(&doc, "d", &value), WEIR_MAP);
    weir_doc_reparse(&inner, value.format, value.data, value.size);
    assert_int_equal(inner.index.count, 2);
    assert_int_equal(weir_doc_find(&inner, "k", 1), 1);
    weir_doc_value(&inner, 1, &value);
    assert_int_equal(value.type, WEIR_ARRAY);
    weir_doc_fini(&doc);
    weir_doc_fini(&inner);
}

static void check_walk(const weir_doc *doc, const char *container, const char *types)
{
    weir_value value, key, child;
    weir_walk walk = {0};
    get(doc, container, &value);
    for (size_t i = 0; types[i]; i++) {
        assert_true(weir_value_next(&value, &walk, &key, &child));
        assert_int_equal(weir_type_name(child.type)[0], types[i]);
        assert_int_equal(key.type, value.type == WEIR_MAP ? WEIR_STR : WEIR_MISSING);
    }
    assert_false(weir_value_next(&value, &walk, &key, &child));
    assert_int_equal(child.type, WEIR_MISSING);
    assert_false(weir_value_next(&value, &walk, &key, &child));
}

static void walks_meet_every_child_once(void **state)
{
    (void)state;
    weir_doc doc = {0};
    weir_buffer packed = {0};
    assert_int_equal(
        weir_doc_parse(&doc, WEIR_JSON, (const uint8_t *)nested, sizeof nested - 1),
        WEIR_OK);
    check_walk(&doc, "a.b", "ima");
    check_walk(&doc, "d", "ia");
    check_walk(&doc, "a.b[2]", "");
    check_walk(&doc, "e", "");
    check_walk(&doc, "s", "");
    pack_nested(&packed);
    assert_int_equal(weir_doc_parse(&doc, WEIR_MSGPACK, packed.data, packed.size),
                     WEIR_OK);
    check_walk(&doc, "a.b", "im");
    check_walk(&doc, "a", "a");
    weir_buffer_fini(&packed);
    weir_doc_fini(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_are_names_and_indices),
        cmocka_unit_test(wrong_paths_say_where),
        cmocka_unit_test(paths_reach_into_json),
        cmocka_unit_test(paths_reach_into_messagepack),
        cmocka_unit_test(keys_that_are_no_str_have_no_name),
        cmocka_unit_test(broken_messagepack_has_no_fields),
        cmocka_unit_test(depth_counts_the_root),
        cmocka_unit_test(text_and_scalars_have_no_fields),
        cmocka_unit_test(reparse_reads_a_nested_container),
        cmocka_unit_test(walks_meet_every_child_once),
    };
    return cmocka_run_group_tests_name("doc", tests, NULL, NULL);
}
