#include "runtime/base64.h"

static const char alphabet[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t weir_base64_encode(char *out, const uint8_t *data, size_t size)
{
    char *at = out;
    size_t i = 0;
    for (; i + 3 <= size; i += 3) {
        uint32_t bits =
            (uint32_t)data[i] << 16 | (uint32_t)data[i + 1] << 8 | data[i + 2];
        *at++ = alphabet[bits >> 18];
        *at++ = alphabet[bits >> 12 & 63];
        *at++ = alphabet[bits >> 6 & 63];
        *at++ = alphabet[bits & 63];
    }
    if (i < size) {
        bool two = size - i == 2;
        uint32_t bits = (uint32_t)data[i] << 16 | (two ? (uint32_t)data[i + 1] << 8 : 0);
        *at++ = alphabet[bits >> 18];
        *at++ = alphabet[bits >> 12 & 63];
        *at++ = two ? alphabet[bits >> 6 & 63] : '=';
        *at++ = '=';
    }
    return (size_t)(at - out);
}

/*  The six bits of a character, or 64: it is none of the alphabet.            */
static uint32_t digit(char character)
{
    uint8_t c = (uint8_t)character;
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26u;
    if (c >= '0' && c <= '9') return c - '0' + 52u;
    if (c == '+') return 62;
    if (c == '/') return 63;
    return 64;
}

weir_err weir_base64_decode(uint8_t *out, size_t *out_size, const char *text, size_t size)
{
    *out_size = 0;
    if (size % 4 != 0) return WEIR_EMALFORMED;
    size_t padding = 0;
    if (size > 0 && text[size - 1] == '=') padding = text[size - 2] == '=' ? 2 : 1;
    uint8_t *at = out;
    for (size_t i = 0; i < size; i += 4) {
        size_t digits = i + 4 == size ? 4 - padding : 4;
        uint32_t bits = 0, wrong = 0;
        for (size_t j = 0; j < 4; j++) {
            uint32_t six = j < digits ? digit(text[i + j]) : 0;
            wrong |= six & 64;
            bits = bits << 6 | (six & 63);
        }
        uint32_t unused = digits == 2 ? 0xffff : digits == 3 ? 0xff : 0;
        if (wrong || bits & unused) return WEIR_EMALFORMED;
        *at++ = (uint8_t)(bits >> 16);
        if (digits > 2) *at++ = (uint8_t)(bits >> 8);
        if (digits > 3) *at++ = (uint8_t)bits;
    }
    *out_size = (size_t)(at - out);
    return WEIR_OK;
}
