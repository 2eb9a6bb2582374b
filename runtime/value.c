#include "runtime/value.h"

static const char *const names[] = {
    [WEIR_MISSING] = "missing", [WEIR_NULL] = "null", [WEIR_BOOL] = "bool",
    [WEIR_INT] = "int",         [WEIR_UINT] = "uint", [WEIR_FLOAT] = "float",
    [WEIR_STR] = "str",         [WEIR_BIN] = "bin",   [WEIR_ARRAY] = "array",
    [WEIR_MAP] = "map",         [WEIR_EXT] = "ext",
};

const char *weir_type_name(weir_type type)
{
    if ((size_t)type >= sizeof names / sizeof *names) return "unknown";
    return names[type];
}

static int order_ints(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int order_naturals(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int order_reals(double a, double b)
{
    if (a != a || b != b) return 2;
    return (a > b) - (a < b);
}

/*  Truncation of a double inside the integer's range is exact, and only an equal
    integral part leaves the decision to the fraction.                         */
static int order_int_real(int64_t a, double b)
{
    if (b != b) return 2;
    if (b >= 0x1p63) return -1;
    if (b < -0x1p63) return 1;
    int64_t whole = (int64_t)b;
    if (a != whole) return order_ints(a, whole);
    return order_reals(0, b - (double)whole);
}

static int order_natural_real(uint64_t a, double b)
{
    if (b != b) return 2;
    if (b >= 0x1p64) return -1;
    if (b < 0) return 1;
    uint64_t whole = (uint64_t)b;
    if (a != whole) return order_naturals(a, whole);
    return order_reals(0, b - (double)whole);
}

/*  Order when a's type does not come behind b's: INT < UINT < FLOAT.          */
static int order(const weir_value *a, const weir_value *b)
{
    if (a->type == WEIR_FLOAT) return order_reals(a->real, b->real);
    if (a->type == WEIR_UINT)
        return b->type == WEIR_UINT ? order_naturals(a->natural, b->natural)
                                    : order_natural_real(a->natural, b->real);
    if (b->type == WEIR_INT) return order_ints(a->integer, b->integer);
    if (b->type == WEIR_FLOAT) return order_int_real(a->integer, b->real);
    return a->integer < 0 ? -1 : order_naturals((uint64_t)a->integer, b->natural);
}

int weir_value_compare_numbers(const weir_value *a, const weir_value *b)
{
    if (a->type <= b->type) return order(a, b);
    int reversed = order(b, a);
    return reversed == 2 ? 2 : -reversed;
}
