#include "runtime/buffer.h"
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

void weir_buffer_grow(weir_buffer *self, size_t more)
{
    size_t need = self->size + more;
    size_t capacity = self->capacity ? self->capacity : 64;
    while (capacity < need)
        capacity *= 2;
    self->data = realloc(self->data, capacity);
    if (!self->data) abort();
    self->capacity = capacity;
}

void weir_buffer_fini(weir_buffer *self)
{
    free(self->data);
    *self = (weir_buffer){0};
}

void weir_buffer_printf(weir_buffer *self, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    assert(size >= 0);
    weir_buffer_reserve(self, (size_t)size + 1);
    vsnprintf((char *)self->data + self->size, (size_t)size + 1, format, again);
    va_end(again);
    self->size += (size_t)size;
}
