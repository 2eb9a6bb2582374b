#include "lua/nearest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

static const char *const names[] = {"path",  "framing", "from",       "retry", "workers",
                                    "where", "outlets", "checkpoint", "key",   "k"};

static const char *near(const char *word)
{
    return weir_nearest(word, names, sizeof names / sizeof *names);
}

static void one_edit_is_near(void **state)
{
    (void)state;
    assert_string_equal(near("pth"), "path");
    assert_string_equal(near("paths"), "path");
    assert_string_equal(near("bath"), "path");
    assert_string_equal(near("ky"), "key");
}

static void a_transposition_counts_one(void **state)
{
    (void)state;
    assert_string_equal(near("form"), "from");
    assert_string_equal(near("apth"), "path");
    assert_string_equal(near("wehre"), "where");
}

static void edits_may_fall_between_transposed_bytes(void **state)
{
    (void)state;
    const char *const one[] = {"abcdexyzghi"}; // from "bacdexzqyghi": 1 + 2 edits
    assert_non_null(weir_nearest("bacdexzqyghi", one, 1));
    const char *const two[] = {"abcdefgh"};             // "acbdefgh" 1, and one more
    assert_non_null(weir_nearest("acxbdefgh", two, 1)); // 2 of 3, restricted: 3
    assert_non_null(weir_nearest("acxbdefhg", two, 1)); // 3 of 3, restricted: 4
}

static void a_third_of_the_length_is_the_limit(void **state)
{
    (void)state;
    assert_string_equal(near("frammimg"), "framing"); // 2 of 2
    assert_null(near("frxmmxmg"));                    // 3 of 2
    assert_string_equal(near("chekpont"), "checkpoint");
    assert_null(near("pxxh")); // 2 of 1
    assert_null(near("zebra"));
}

static void the_length_is_that_of_the_word(void **state)
{
    (void)state;
    const char *const one[] = {"abcdef"};
    assert_null(weir_nearest("abcd", one, 1));         // 2 of 1
    assert_non_null(weir_nearest("abcdefgh", one, 1)); // 2 of 2
}

static void two_bytes_allow_one_edit_and_one_byte_none(void **state)
{
    (void)state;
    const char *const short_names[] = {"as", "q"};
    assert_string_equal(weir_nearest("at", short_names, 2), "as");
    assert_string_equal(weir_nearest("sa", short_names, 2), "as");
    assert_string_equal(weir_nearest("q", short_names, 2), "q");
    assert_null(weir_nearest("x", short_names, 2));
    assert_null(weir_nearest("", short_names, 2));
}

static void the_nearest_wins_and_the_first_of_equals(void **state)
{
    (void)state;
    const char *const some[] = {"cart", "card", "care", "carts"};
    assert_string_equal(weir_nearest("cars", some, 4), "cart");
    assert_string_equal(weir_nearest("carts", some, 4), "carts");
    assert_string_equal(weir_nearest("cares", some, 4), "care");
}

static void nothing_is_near_to_no_names_or_long_ones(void **state)
{
    (void)state;
    char word[201];
    memset(word, 'a', 200);
    word[200] = 0;
    const char *const some[] = {word, word + 136, word + 137};
    assert_null(weir_nearest("path", NULL, 0));
    assert_null(weir_nearest(word, some, 1));
    assert_ptr_equal(weir_nearest(word + 136, some, 3), word + 136);
    assert_ptr_equal(weir_nearest(word + 137, some, 1), NULL);
    assert_ptr_equal(weir_nearest(word + 138, some, 2), word + 136);
}

static void bytes_above_127_are_like_any_other(void **state)
{
    (void)state;
    const char *const some[] = {"gr\xc3\xb6\xc3\x9f\x65"};
    assert_ptr_equal(weir_nearest("gr\xc3\xb6\xc3\x9e\x65", some, 1), some[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_edit_is_near),
        cmocka_unit_test(a_transposition_counts_one),
        cmocka_unit_test(edits_may_fall_between_transposed_bytes),
        cmocka_unit_test(a_third_of_the_length_is_the_limit),
        cmocka_unit_test(the_length_is_that_of_the_word),
        cmocka_unit_test(two_bytes_allow_one_edit_and_one_byte_none),
        cmocka_unit_test(the_nearest_wins_and_the_first_of_equals),
        cmocka_unit_test(nothing_is_near_to_no_names_or_long_ones),
        cmocka_unit_test(bytes_above_127_are_like_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
