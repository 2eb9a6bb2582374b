#include "runtime/nearest.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
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

static void what_only_looks_like_a_transposition_counts_two(void **state)
{
    (void)state;
    const char *const one[] = {"ya"};
    assert_null(weir_nearest("ax", one, 1));
    const char *const two[] = {"cyab"};
    assert_null(weir_nearest("caxb", two, 1));
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

/*  Whether that many edits, each tried in every place, lead from the word to the
    name; both are of a and b.                                                 */
static bool reachable(const char *word, const char *name, int edits)
{
    size_t size = strlen(word), target = strlen(name);
    if (strcmp(word, name) == 0) return true;
    if (edits == 0 || target > size + (size_t)edits || size > target + (size_t)edits)
        return false;
    char next[16];
    for (size_t i = 0; i <= size; i++) {
        for (char letter = 'a'; letter <= 'b'; letter++) {
            snprintf(next, sizeof next, "%.*s%c%s", (int)i, word, letter, word + i);
            if (reachable(next, name, edits - 1)) return true;
            if (i == size) continue;
            next[i + 1] = 0;
            strcat(next, word + i + 1);
            if (reachable(next, name, edits - 1)) return true;
        }
        if (i == size) break;
        snprintf(next, sizeof next, "%.*s%s", (int)i, word, word + i + 1);
        if (reachable(next, name, edits - 1)) return true;
        if (i + 1 == size) continue;
        snprintf(next, sizeof next, "%.*s%c%c%s", (int)i, word, word[i + 1], word[i],
                 word + i + 2);
        if (reachable(next, name, edits - 1)) return true;
    }
    return false;
}

/*  The number's bits below its highest one as letters.                        */
static void spell(unsigned number, char *text)
{
    for (int bit = 31 - __builtin_clz(number); bit > 0; bit--)
        *text++ = number >> (bit - 1) & 1 ? 'b' : 'a';
    *text = 0;
}

static void every_short_word_agrees_with_trying_all_edits(void **state)
{
    (void)state;
    char word[16], name[16];
    const char *const one[] = {name};
    for (unsigned i = 4; i < 128; i += 1 + (i >= 64))
        for (unsigned j = 1; j < 512; j++) {
            spell(i, word);
            spell(j, name);
            int edits = strlen(word) < 6 ? 1 : 2;
            assert_int_equal(weir_nearest(word, one, 1) != NULL,
                             reachable(word, name, edits));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_edit_is_near),
        cmocka_unit_test(a_transposition_counts_one),
        cmocka_unit_test(what_only_looks_like_a_transposition_counts_two),
        cmocka_unit_test(edits_may_fall_between_transposed_bytes),
        cmocka_unit_test(a_third_of_the_length_is_the_limit),
        cmocka_unit_test(the_length_is_that_of_the_word),
        cmocka_unit_test(two_bytes_allow_one_edit_and_one_byte_none),
        cmocka_unit_test(the_nearest_wins_and_the_first_of_equals),
        cmocka_unit_test(nothing_is_near_to_no_names_or_long_ones),
        cmocka_unit_test(every_short_word_agrees_with_trying_all_edits),
        cmocka_unit_test(bytes_above_127_are_like_any_other),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
