/*  base64: RFC 4648, section 4: the standard alphabet, always padded.         */
#pragma once
#include "runtime/err.h"

/*  Bytes of the text that stands for `size` bytes.                            */
static inline size_t weir_base64_size(size_t size)
{
    return (size + 2) / 3 * 4;
}

/*  Writes the text, without a NUL, at `out`, which has room for
    weir_base64_size (size) bytes; returns its length.                         */
size_t weir_base64_encode(char *out, const uint8_t *data, size_t size);

/*  Writes the bytes at `out`, which has room for size / 4 * 3.
    WEIR_EMALFORMED: other characters, white space among them; padding that is
    missing or out of place; bits set that stand for nothing. *out_size is then 0. */
weir_err weir_base64_decode(uint8_t *out, size_t *out_size, const char *text,
                            size_t size);
