#include "runtime/redact.h"
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const size_t beginning_min = 8;

typedef struct form {
    struct form *next; // constant once it is in the list
    size_t size;
    char text[];
} form;

static _Atomic(form *) first; // grows in front, and loses nothing
static pthread_mutex_t adding = PTHREAD_MUTEX_INITIALIZER;

/* --- Adding ------------------------------------------------------------------------ */

static bool is_known(const char *text, size_t size)
{
    for (const form *f = atomic_load(&first); f; f = f->next)
        if (f->size == size && memcmp(f->text, text, size) == 0) return true;
    return false;
}

static void add_form(const char *text, size_t size)
{
    pthread_mutex_lock(&adding);
    if (!is_known(text, size)) {
        form *f = malloc(sizeof *f + size);
        if (!f) abort();
        memcpy(f->text, text, size);
        f->size = size;
        f->next = atomic_load(&first);
        atomic_store(&first, f);
    }
    pthread_mutex_unlock(&adding);
}

bool weir_redact_add(const char *text, size_t size)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789-._~";
    if (size < WEIR_REDACT_MIN) return false;
    char *encoded = malloc(3 * size + 1), *end = encoded;
    if (!encoded) abort();
    for (size_t i = 0; i < size; i++)
        if (strchr(plain, text[i]))
            *end++ = text[i];
        else
            end += sprintf(end, "%%%02X", (unsigned char)text[i]);
    add_form(text, size);
    add_form(encoded, (size_t)(end - encoded));
    explicit_bzero(encoded, 3 * size + 1);
    free(encoded);
    return true;
}

/* --- Replacing --------------------------------------------------------------------- */

static size_t common_size(const form *f, const char *text)
{
    size_t size = 0;
    while (size < f->size && text[size] == f->text[size])
        size++;
    return size;
}

/*  How many bytes of a secret stand here: the most that one of them has.        */
static size_t hidden_size(const form *list, const char *text)
{
    size_t most = 0;
    for (const form *f = list; f; f = f->next) {
        size_t size = common_size(f, text);
        if ((size == f->size || size >= beginning_min) && size > most) most = size;
    }
    return most;
}

char *weir_redact(const char *text)
{
    const form *list = atomic_load(&first);
    const char *at = text;
    while (list && *at && !hidden_size(list, at))
        at++;
    if (!list || !*at) return NULL;
    char *copy = malloc(strlen(text) + 1), *end; // a secret is longer than ***
    if (!copy) abort();
    end = mempcpy(copy, text, (size_t)(at - text));
    while (*at) {
        size_t hidden = hidden_size(list, at);
        if (hidden)
            end = mempcpy(end, "***", 3);
        else
            *end++ = *at;
        at += hidden ? hidden : 1;
    }
    *end = '\0';
    return copy;
}

int weir_redact_printf(char *to, size_t size, const char *format, va_list arguments)
{
    char *whole;
    int saved = errno;
    if (!atomic_load(&first)) return vsnprintf(to, size, format, arguments);
    if (vasprintf(&whole, format, arguments) < 0) abort();
    char *told = weir_redact(whole);
    int length = snprintf(to, size, "%s", told ? told : whole);
    if (told) explicit_bzero(whole, strlen(whole));
    free(whole);
    free(told);
    errno = saved;
    return length;
}
