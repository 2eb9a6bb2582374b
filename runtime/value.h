/*  value: one value of a payload, typed exactly, in place.

    A value points into the bytes it was read from (JSON text or MessagePack)
    and owns nothing. null, false, empty array, empty map, int64, uint64, float,
    bin and str are all distinct.                                              */
#pragma once
#include "runtime/err.h"

typedef enum {
    WEIR_MISSING = 0, // not there at all; not the same as null
    WEIR_NULL,
    WEIR_BOOL,
    WEIR_INT,  // fits int64
    WEIR_UINT, // 2^63 .. 2^64-1
    WEIR_FLOAT,
    WEIR_STR, // UTF-8 text
    WEIR_BIN,
    WEIR_ARRAY,
    WEIR_MAP,
    WEIR_EXT, // MessagePack extension: carried, never interpreted
} weir_type;

/*  How a payload is encoded. It is the payload's own MessagePack type in a
    record: str is JSON, bin is raw text, map is MessagePack.                  */
typedef enum {
    WEIR_JSON = 0,
    WEIR_TEXT, // raw bytes: no fields, every field is missing
    WEIR_MSGPACK,
} weir_format;

typedef struct {
    weir_type type;
    weir_format format; // of data, WEIR_JSON or WEIR_MSGPACK
    bool escaped;       // JSON STR only: data still holds backslash escapes
    union {
        bool boolean;     // WEIR_BOOL
        int64_t integer;  // WEIR_INT
        uint64_t natural; // WEIR_UINT
        double real;      // WEIR_FLOAT
    };
    const uint8_t *data; // STR, BIN: the contents; all others: the encoded value
    size_t size;         // bytes at data
} weir_value;

/*  The deepest nesting that is read, in JSON and in MessagePack: 64 containers
    inside one another parse, 65 do not.                                       */
#define WEIR_DEPTH_MAX 64

/*  A constant English name: "missing", "null", "bool", "int", ...             */
const char *weir_type_name(weir_type type);

/*  Order of two numbers (INT, UINT, FLOAT in any mix) by exact value, without
    rounding an integer to a double: -1, 0, 1; 2 when either is NaN.           */
int weir_value_compare_numbers(const weir_value *a, const weir_value *b);
