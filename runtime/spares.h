/*  spares: bodies of blocks that are over, kept for blocks to come. What is freed in one
    thread and allocated in another goes back to the system in between, and each page of
    it would be cleared and mapped anew. Any thread.                                */
#pragma once
#include <stddef.h>
#include <stdint.h>

typedef struct weir_spares weir_spares;

/*  Keeps at most so many bodies, each of so many bytes. It is there until its last
    reference goes: each block whose body came from it has one.                     */
weir_spares *weir_spares_new(size_t bytes, size_t most);
weir_spares *weir_spares_dup(weir_spares *self);
void weir_spares_destroy(weir_spares **self_p);

size_t weir_spares_bytes(const weir_spares *self); // of a body

/*  A body, of malloc; and back with it.                                            */
uint8_t *weir_spares_take(weir_spares *self);
void weir_spares_give(weir_spares *self, uint8_t *body);
