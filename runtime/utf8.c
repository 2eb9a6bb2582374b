#include "runtime/utf8.h"
#include <emmintrin.h>
#include <string.h>

int weir_utf8_length(const uint8_t *data, size_t size)
{
    if (size == 0) return -1;
    uint8_t first = data[0];
    if (first < 0x80) return 1;
    if (first < 0xc2 || first > 0xf4) return 0;
    int length = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    // the second byte's range excludes overlong forms, surrogates, and what lies
    // above U+10FFFF
    uint8_t low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    for (int i = 1; i < length; i++) {
        if ((size_t)i >= size) return -1;
        if (data[i] < low || data[i] > high) return 0;
        low = 0x80;
        high = 0xbf;
    }
    return length;
}

size_t weir_utf8_span(const uint8_t *data, size_t size)
{
    size_t at = 0;
    while (at < size) {
        if (data[at] < 0x80) {
            while (at + 64 <= size) {
                const __m128i *from = (const __m128i *)(data + at);
                __m128i low =
                    _mm_or_si128(_mm_loadu_si128(from), _mm_loadu_si128(from + 1));
                __m128i high =
                    _mm_or_si128(_mm_loadu_si128(from + 2), _mm_loadu_si128(from + 3));
                if (_mm_movemask_epi8(_mm_or_si128(low, high))) break;
                at += 64;
            }
            while (at + 16 <= size) {
                __m128i bytes = _mm_loadu_si128((const __m128i *)(data + at));
                int high = _mm_movemask_epi8(bytes);
                if (high) {
                    at += (size_t)__builtin_ctz((unsigned)high);
                    break;
                }
                at += 16;
            }
            while (at < size && data[at] < 0x80)
                at++;
        } else {
            int length = weir_utf8_length(data + at, size - at);
            if (length <= 0) break;
            at += (size_t)length;
        }
    }
    return at;
}

bool weir_utf8_valid(const uint8_t *data, size_t size)
{
    return weir_utf8_span(data, size) == size;
}

/*  ASCII is copied and looked at in one go, its end as the last 16 bytes once more.  */
bool weir_utf8_copy(uint8_t *to, const uint8_t *data, size_t size)
{
    if (size < 16) {
        memcpy(to, data, size);
        return weir_utf8_valid(data, size);
    }
    __m128i bytes = _mm_setzero_si128(), seen = bytes;
    for (size_t at = 0; at + 16 <= size; at += 16) {
        bytes = _mm_loadu_si128((const __m128i *)(data + at));
        _mm_storeu_si128((__m128i *)(to + at), bytes);
        seen = _mm_or_si128(seen, bytes);
    }
    bytes = _mm_loadu_si128((const __m128i *)(data + size - 16));
    _mm_storeu_si128((__m128i *)(to + size - 16), bytes);
    seen = _mm_or_si128(seen, bytes);
    return _mm_movemask_epi8(seen) == 0 || weir_utf8_valid(data, size);
}

size_t weir_utf8_put(char *out, uint32_t number)
{
    if (number < 0x80) {
        out[0] = (char)number;
        return 1;
    }
    size_t length = number < 0x800 ? 2 : number < 0x10000 ? 3 : 4;
    uint32_t lead = length == 2 ? 0xc0 : length == 3 ? 0xe0 : 0xf0;
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (number & 0x3f));
        number >>= 6;
    }
    out[0] = (char)(lead | number);
    return length;
}
