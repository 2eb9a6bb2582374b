#include "actors/read_box.h"
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

/*  Its owner and every read that is out hold a reference each. */
struct weir_read_box {
    pthread_mutex_t lock; // of all but fd
    uint32_t references;
    bool left; // the owner has gone
    weir_read *first, **end;
    int fd; // readable while the list may hold something
};

typedef struct {
    weir_read read; // first: what the store and the owner know
    uint64_t tag;
} asked;

weir_read_box *weir_read_box_new(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) return NULL;
    weir_read_box *self = calloc(1, sizeof *self);
    if (!self) abort();
    pthread_mutex_init(&self->lock, NULL);
    self->references = 1;
    self->end = &self->first;
    self->fd = fd;
    return self;
}

/*  Gives the lock and a reference back. */
static void leave(weir_read_box *self)
{
    bool last = --self->references == 0;
    pthread_mutex_unlock(&self->lock);
    if (!last) return;
    pthread_mutex_destroy(&self->lock);
    close(self->fd);
    free(self);
}

static weir_read *pop(weir_read_box *self)
{
    weir_read *read = self->first;
    if (!read) return NULL;
    self->first = read->next;
    if (!self->first) self->end = &self->first;
    return read;
}

void weir_read_box_destroy(weir_read_box **self_p)
{
    weir_read_box *self = *self_p;
    if (!self) return;
    *self_p = NULL;
    pthread_mutex_lock(&self->lock);
    self->left = true;
    for (weir_read *read; (read = pop(self));)
        weir_read_destroy(&read);
    leave(self);
}

static void answered(weir_read *read)
{
    weir_read_box *self = read->owner;
    pthread_mutex_lock(&self->lock);
    if (self->left) {
        weir_read_destroy(&read);
    } else {
        read->next = NULL;
        *self->end = read;
        self->end = &read->next;
        eventfd_write(self->fd, 1);
    }
    leave(self);
}

void weir_read_box_ask(weir_read_box *self, weir_store *store, const weir_read *question,
                       uint64_t tag)
{
    asked *one = calloc(1, sizeof *one);
    if (!one) abort();
    one->tag = tag;
    one->read = (weir_read){.shard = question->shard,
                            .after = question->after,
                            .since_ms = question->since_ms,
                            .max_records = question->max_records,
                            .max_bytes = question->max_bytes,
                            .done = answered,
                            .owner = self};
    pthread_mutex_lock(&self->lock);
    self->references++;
    pthread_mutex_unlock(&self->lock);
    store->class->read(store, &one->read);
}

weir_read *weir_read_box_next(weir_read_box *self, uint64_t *tag)
{
    eventfd_t count;
    pthread_mutex_lock(&self->lock);
    weir_read *read = pop(self);
    if (!read) eventfd_read(self->fd, &count);
    pthread_mutex_unlock(&self->lock);
    if (read) *tag = ((asked *)read)->tag;
    return read;
}

void weir_read_destroy(weir_read **self_p)
{
    weir_read *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_read_fini(self);
    free(self);
}

int weir_read_box_fd(const weir_read_box *self)
{
    return self->fd;
}
