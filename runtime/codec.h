/*  codec: MessagePack, read from bytes that nobody vouches for, and written
    into a buffer. https://github.com/msgpack/msgpack/blob/master/spec.md

    The reader never allocates, never recurses deeper than WEIR_DEPTH_MAX and
    never trusts a claimed count or size: an array that claims four billion
    elements in five bytes is WEIR_ESHORT.                                     */
#pragma once
#include "runtime/buffer.h"
#include "runtime/value.h"

typedef struct {
    const uint8_t *at;
    const uint8_t *end;
} weir_reader;

/*  Reads one value and steps behind it. For an array or a map `value` spans the
    whole container (see weir_read_enter to go inside).
    Errors: WEIR_ESHORT, WEIR_EMALFORMED (0xc1, or a str that is not UTF-8),
    WEIR_EDEEP; the reader then stays where it was.                            */
weir_err weir_read_value(weir_reader *self, weir_value *value);

/*  The same for a value that lies inside `depth` containers, which count against
    WEIR_DEPTH_MAX. `trusted` bytes were written by this process: sizes and depth
    are checked still, UTF-8 is not.                                           */
weir_err weir_read_nested(weir_reader *self, weir_value *value, unsigned depth,
                          bool trusted);

/*  Reads the head of an array (or map) and stops before its first element.
    *count is the number of elements (pairs). A count that cannot fit the bytes
    left is WEIR_ESHORT; another type is WEIR_EMALFORMED.                      */
weir_err weir_read_array(weir_reader *self, uint32_t *count);
weir_err weir_read_map(weir_reader *self, uint32_t *count);

/*  Steps over one value, checking it whole. Errors as weir_read_value.        */
weir_err weir_read_skip(weir_reader *self);

/*  Typed reads for headers: the next value must be of that kind, else
    WEIR_EMALFORMED. weir_read_uint takes any non-negative integer.            */
weir_err weir_read_uint(weir_reader *self, uint64_t *value);
weir_err weir_read_int(weir_reader *self, int64_t *value);
weir_err weir_read_str(weir_reader *self, const char **text, size_t *size);
weir_err weir_read_bool(weir_reader *self, bool *value);
weir_err weir_read_nil(weir_reader *self);

/*  Writers: the shortest form that MessagePack has for the value (a float that
    float 32 holds exactly is one). Sizes are below 2^32.                      */
void weir_put_nil(weir_buffer *out);
void weir_put_bool(weir_buffer *out, bool value);
void weir_put_int(weir_buffer *out, int64_t value);
void weir_put_uint(weir_buffer *out, uint64_t value);
void weir_put_float(weir_buffer *out, double value);
void weir_put_str(weir_buffer *out, const void *text, size_t size);
void weir_put_bin(weir_buffer *out, const void *data, size_t size);
void weir_put_array(weir_buffer *out, uint32_t count);
void weir_put_map(weir_buffer *out, uint32_t count);

/*  Writes the head alone of a str or bin of `size` bytes at `out`, which has
    room for 5 bytes, and returns its length (1, 2, 3 or 5).                   */
size_t weir_put_str_head(uint8_t *out, size_t size);
size_t weir_put_bin_head(uint8_t *out, size_t size);
