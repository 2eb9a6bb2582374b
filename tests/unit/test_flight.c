/*  Blocks on their way within a process, found by their bodies.                     */
#include "runtime/flight.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static weir_block *make_block(const weir_run *origin)
{
    weir_builder builder = {.target = 4096};
    for (int i = 0; i < 10; i++)
        weir_builder_add_payload(&builder, WEIR_JSON, (const uint8_t *)"{}", 2, origin);
    weir_block *block = weir_builder_seal(&builder);
    weir_builder_fini(&builder);
    return block;
}

static weir_block *find(const weir_block *block)
{
    return weir_flight_find(weir_block_body(block), weir_block_size(block));
}

static void a_block_is_found_while_it_is_on_its_way(void **state)
{
    (void)state;
    weir_block *block = make_block(&(weir_run){.label = "a@1"}), *found;
    assert_null(find(block));
    weir_flight *one = weir_flight_begin(block), *two = weir_flight_begin(block);
    found = find(block);
    assert_ptr_equal(found, block);
    weir_block_destroy(&found);
    weir_flight_end(&one);
    assert_null(one);
    found = find(block);
    assert_ptr_equal(found, block);
    weir_block_destroy(&found);
    weir_flight_end(&two);
    assert_null(find(block));
    weir_block_destroy(&block);
}

static void a_part_with_the_same_first_byte_is_another_block(void **state)
{
    (void)state;
    weir_block *block = make_block(NULL);
    weir_iterator walk = {.block = block};
    weir_block *part = weir_iterator_cut(&walk, 5, SIZE_MAX);
    assert_ptr_equal(weir_block_body(part), weir_block_body(block));
    weir_flight *whole = weir_flight_begin(block);
    assert_null(find(part));
    weir_flight *half = weir_flight_begin(part);
    weir_block *found = find(part);
    assert_ptr_equal(found, part);
    weir_block_destroy(&found);
    weir_flight_end(&whole);
    weir_flight_end(&half);
    weir_block_destroy(&part);
    weir_block_destroy(&block);
}

/*  Which of them it is, the body does not tell.                                     */
static void of_two_blocks_with_one_body_none_is_found(void **state)
{
    (void)state;
    weir_block *block = make_block(NULL);
    weir_block *stamped = weir_block_stamp(block, "source", "peer");
    weir_flight *one = weir_flight_begin(block), *two = weir_flight_begin(stamped);
    assert_null(find(block));
    weir_flight_end(&one);
    weir_block *found = find(stamped);
    assert_ptr_equal(found, stamped);
    weir_block_destroy(&found);
    weir_flight_end(&two);
    weir_block_destroy(&stamped);
    weir_block_destroy(&block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_block_is_found_while_it_is_on_its_way),
        cmocka_unit_test(a_part_with_the_same_first_byte_is_another_block),
        cmocka_unit_test(of_two_blocks_with_one_body_none_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
