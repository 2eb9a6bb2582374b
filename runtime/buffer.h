/*  buffer: a growable run of bytes with one owner.                           */
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    uint8_t *data;
    size_t size;     // bytes in use
    size_t capacity; // bytes allocated
} weir_buffer;

/*  Makes room for at least more bytes behind size; aborts when memory is out.
    Callers check sizes that come from outside against a limit first.          */
void weir_buffer_grow(weir_buffer *self, size_t more);

/*  Frees the bytes and zeroes the struct; a zeroed struct is an empty buffer. */
void weir_buffer_fini(weir_buffer *self);

static inline uint8_t *weir_buffer_reserve(weir_buffer *self, size_t more)
{
    if (self->capacity - self->size < more) weir_buffer_grow(self, more);
    return self->data + self->size;
}

static inline void weir_buffer_put(weir_buffer *self, const void *data, size_t size)
{
    if (size == 0) return;
    memcpy(weir_buffer_reserve(self, size), data, size);
    self->size += size;
}

static inline void weir_buffer_put_byte(weir_buffer *self, uint8_t byte)
{
    *weir_buffer_reserve(self, 1) = byte;
    self->size++;
}

static inline void weir_buffer_put_text(weir_buffer *self, const char *text)
{
    weir_buffer_put(self, text, strlen(text));
}

/*  printf behind what is there. The terminating NUL is not counted in size.   */
void weir_buffer_printf(weir_buffer *self, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
