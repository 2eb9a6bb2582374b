/*  watchers: who wants to hear of new records of a store: eventfds, which are lent. Under
    a mutex of the store's.                                                         */
#pragma once
#include <stddef.h>

/*  Zeroed: nobody.                                                                 */
typedef struct {
    int *fds;
    size_t count;
} weir_watchers;

void weir_watchers_add(weir_watchers *self, int fd);
void weir_watchers_remove(weir_watchers *self, int fd); // it may not be there
void weir_watchers_tell(const weir_watchers *self);
void weir_watchers_fini(weir_watchers *self);
