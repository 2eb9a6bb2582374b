#include "runtime/once.h"
#include "runtime/clock.h"
#include <string.h>
#include <xxhash.h>

static const int64_t again_us = 60000000;

bool weir_once_says(weir_once *self, const char *who, const char *what)
{
    uint64_t hash =
        XXH3_64bits_withSeed(what, strlen(what), XXH3_64bits(who, strlen(who)));
    size_t i = hash % WEIR_ONCE_SLOTS;
    int64_t now = weir_clock_now_us();
    if (self->said[i].hash == hash && now - self->said[i].us < again_us) return false;
    self->said[i].hash = hash;
    self->said[i].us = now;
    return true;
}
