/*  utf8: well-formed UTF-8: no surrogates, no overlong forms, nothing above
    U+10FFFF.                                                                  */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*  True when the bytes are well-formed UTF-8.                                 */
bool weir_utf8_valid(const uint8_t *data, size_t size);

/*  Copies the bytes, and tells whether they are well-formed: cheaper than both alone. */
bool weir_utf8_copy(uint8_t *to, const uint8_t *data, size_t size);

/*  How many of the bytes, from the first on, are whole well-formed characters. */
size_t weir_utf8_span(const uint8_t *data, size_t size);

/*  The length of the character at data[0]: 1 to 4; 0 when the bytes are wrong;
    -1 when they are right as far as they go and end too early.                */
int weir_utf8_length(const uint8_t *data, size_t size);

/*  Writes the number as its scheme has it, 1 to 4 bytes, surrogates too, and
    returns the length. number is at most 0x10ffff.                            */
size_t weir_utf8_put(char *out, uint32_t number);
