#include "runtime/book.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/*  Sequences that are settled now, as digits: "123".                          */
static const char *settled(weir_book *book)
{
    static char text[64];
    size_t size = 0;
    weir_lane *lane;
    while ((lane = weir_book_next_ready(book)))
        for (weir_entry *e; (e = weir_lane_pop_done(lane));) {
            text[size++] = (char)('0' + e->sequence);
            weir_book_close(book, &e);
            assert_null(e);
        }
    text[size] = 0;
    return text;
}

static void only_the_unbroken_run_is_acknowledged(void **state)
{
    (void)state;
    weir_book book = {0};
    weir_lane lane = {0};
    weir_entry *e[5];
    for (uint64_t i = 0; i < 5; i++)
        e[i] = weir_book_open(&book, &lane, i + 1, 10);
    assert_int_equal(book.open, 5);
    weir_book_release(&book, e[1]);
    weir_book_release(&book, e[2]);
    weir_book_release(&book, e[4]);
    assert_string_equal(settled(&book), "");
    weir_book_release(&book, e[0]);
    assert_string_equal(settled(&book), "123");
    assert_int_equal(book.open, 2);
    weir_book_release(&book, e[3]);
    assert_string_equal(settled(&book), "45");
    assert_int_equal(book.open, 0);
    assert_null(lane.first);
    assert_null(lane.last);
    weir_book_release(&book, weir_book_open(&book, &lane, 6, 1));
    assert_string_equal(settled(&book), "6");
}

static void an_entry_waits_for_every_output(void **state)
{
    (void)state;
    weir_book book = {0};
    weir_lane lane = {0};
    weir_entry *first = weir_book_open(&book, &lane, 1, 5);
    weir_entry *second = weir_book_open(&book, &lane, 2, 5);
    for (int i = 0; i < 3; i++)
        weir_entry_hold(first);
    weir_book_release(&book, first);  // the work is over
    weir_book_release(&book, second); // wholly filtered
    weir_book_release(&book, first);
    weir_book_release(&book, first);
    assert_string_equal(settled(&book), "");
    weir_book_release(&book, first);
    assert_string_equal(settled(&book), "12");
}

static void lanes_do_not_wait_for_each_other(void **state)
{
    (void)state;
    weir_book book = {0};
    weir_lane a = {0}, b = {0};
    weir_entry *a1 = weir_book_open(&book, &a, 1, 1);
    weir_entry *b2 = weir_book_open(&book, &b, 2, 1);
    weir_entry *b3 = weir_book_open(&book, &b, 3, 1);
    weir_book_release(&book, b3);
    weir_book_release(&book, b2);
    assert_string_equal(settled(&book), "23");
    weir_book_release(&book, a1);
    assert_string_equal(settled(&book), "1");
}

static weir_dead *letter(const char *error)
{
    weir_record record = {.format = WEIR_TEXT, .data = (const uint8_t *)"x", .size = 1};
    return weir_dead_new("n", WEIR_DEAD_FUNCTION, error, 1, &record, NULL, NULL, NULL);
}

static void dead_letters_stay_with_their_entry_in_order(void **state)
{
    (void)state;
    weir_book book = {0};
    weir_lane lane = {0};
    weir_entry *e = weir_book_open(&book, &lane, 1, 3);
    weir_dead *list = letter("one");
    list->next = letter("two");
    weir_entry_add_dead(e, &list);
    assert_null(list);
    weir_entry_add_dead(e, &list); // an empty list adds nothing
    list = letter("three");
    weir_entry_add_dead(e, &list);
    assert_null(weir_book_next_ready(&book)); // not settled: not to be written
    weir_book_release(&book, e);
    weir_lane *ready = weir_book_next_ready(&book);
    assert_ptr_equal(ready, &lane);
    assert_ptr_equal(weir_lane_pop_done(ready), e);
    static const char *const errors[] = {"one", "two", "three"};
    weir_dead *d = e->dead;
    for (int i = 0; i < 3; i++, d = d->next) {
        weir_buffer_put_byte(&d->line, 0);
        assert_non_null(strstr((char *)d->line.data, errors[i]));
    }
    assert_null(d);
    weir_book_close(&book, &e);
}

static void a_lane_may_end_with_entries_open_or_done(void **state)
{
    (void)state;
    weir_book book = {0};
    weir_lane *a = calloc(1, sizeof *a), *b = calloc(1, sizeof *b),
              *c = calloc(1, sizeof *c);
    weir_book_release(&book, weir_book_open(&book, a, 1, 1));
    weir_book_release(&book, weir_book_open(&book, b, 2, 1));
    weir_book_release(&book, weir_book_open(&book, c, 3, 1));
    weir_dead *list = letter("x");
    weir_entry_add_dead(weir_book_open(&book, b, 4, 1), &list);
    weir_lane_fini(b, &book);
    free(b); // the book must not come back to it
    assert_int_equal(book.open, 2);
    const char *rest = settled(&book);
    assert_int_equal(strlen(rest), 2);
    weir_lane_fini(a, &book);
    weir_lane_fini(c, &book);
    free(a);
    free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_unbroken_run_is_acknowledged),
        cmocka_unit_test(an_entry_waits_for_every_output),
        cmocka_unit_test(lanes_do_not_wait_for_each_other),
        cmocka_unit_test(dead_letters_stay_with_their_entry_in_order),
        cmocka_unit_test(a_lane_may_end_with_entries_open_or_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
