/*  gate: a lock around a few instructions that nobody else wants at most times: one
    atomic exchange to enter and a store to leave, where a mutex takes two exchanges and
    two calls. Who finds it closed looks again for a moment and then sleeps between looks,
    so that nobody depends on when the scheduler lets the one inside go on.            */
#pragma once
#include <stdatomic.h>
#include <stdbool.h>

typedef struct {
    atomic_bool closed;
} weir_gate; // zeroed it is open

void weir_gate_wait(weir_gate *self); // until it has been seen open, or for a while

static inline void weir_gate_enter(weir_gate *self)
{
    while (atomic_exchange_explicit(&self->closed, true, memory_order_acquire))
        weir_gate_wait(self);
}

static inline void weir_gate_leave(weir_gate *self)
{
    atomic_store_explicit(&self->closed, false, memory_order_release);
}
