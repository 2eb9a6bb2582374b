#include "runtime/gate.h"
#include <emmintrin.h>
#include <time.h>

static const int looks = 200;
static const struct timespec nap = {.tv_nsec = 20000};

void weir_gate_wait(weir_gate *self)
{
    for (int i = 0; i < looks; i++) {
        if (!atomic_load_explicit(&self->closed, memory_order_relaxed)) return;
        _mm_pause();
    }
    nanosleep(&nap, NULL);
}
