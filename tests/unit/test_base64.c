#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "runtime/base64.h"

static const struct {
    const char *plain;
    const char *text;
} pairs[] = {
    {"", ""},
    {"f", "Zg=="},
    {"fo", "Zm8="},
    {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="},
    {"fooba", "Zm9vYmE="},
    {"foobar", "Zm9vYmFy"},
    {"\xfb\xff\xbf", "+/+/"},
};

static void the_vectors_of_the_rfc_hold(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char text[16];
        uint8_t plain[16];
        size_t plain_size = strlen(pairs[i].plain), size;
        size = weir_base64_encode(text, (const uint8_t *)pairs[i].plain, plain_size);
        assert_int_equal(size, strlen(pairs[i].text));
        assert_int_equal(size, weir_base64_size(plain_size));
        assert_memory_equal(text, pairs[i].text, size);
        assert_int_equal(weir_base64_decode(plain, &size, text, size), WEIR_OK);
        assert_int_equal(size, plain_size);
        assert_memory_equal(plain, pairs[i].plain, size);
    }
}

static void what_is_not_canonical_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {
        "Z",    "Zg",     "Zg=",   "Zh==", "Zm9=",     "====",       "=Zg=",
        "Z===", "Zg==\n", "Zm 9v", "Zm-_", "Zg==Zg==", "Z\xc3\xa9g",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        uint8_t plain[16];
        size_t size = 99;
        assert_int_equal(weir_base64_decode(plain, &size, wrong[i], strlen(wrong[i])),
                         WEIR_EMALFORMED);
        assert_int_equal(size, 0);
    }
}

static void every_byte_survives(void **state)
{
    (void)state;
    uint8_t all[256], back[258];
    char text[344];
    for (size_t i = 0; i < sizeof all; i++)
        all[i] = (uint8_t)(i * 167);
    for (size_t n = 0; n <= sizeof all; n++) {
        size_t size = weir_base64_encode(text, all, n);
        assert_int_equal(weir_base64_decode(back, &size, text, size), WEIR_OK);
        assert_int_equal(size, n);
        assert_memory_equal(back, all, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_vectors_of_the_rfc_hold),
        cmocka_unit_test(what_is_not_canonical_is_refused),
        cmocka_unit_test(every_byte_survives),
    };
    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
