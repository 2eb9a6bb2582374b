/*  read_box: reads of a store, asked by one thread and answered in any. The one who asks
    may go at any time: what is answered later is freed as it comes.

        ask ----> store ----done (any thread)----> box ----> next                   */
#pragma once
#include "actors/store.h"

typedef struct weir_read_box weir_read_box;

/*  NULL: the process has no descriptor left; errno says why.                       */
weir_read_box *weir_read_box_new(void);
/*  Waits for nobody. */
void weir_read_box_destroy(weir_read_box **self_p);

/*  Hands a copy of the question (shard, after, since, bounds) to the store. The tag comes
    back with the answer.                                                           */
void weir_read_box_ask(weir_read_box *self, weir_store *store, const weir_read *question,
                       uint64_t tag);

/*  The next answer, which the caller owns; NULL: none now. Does not block.         */
weir_read *weir_read_box_next(weir_read_box *self, uint64_t *tag);
void weir_read_destroy(weir_read **self_p); // of what next gave

/*  An eventfd, readable when there may be an answer that next has not given. Whoever
    wants the box's thread to look may write to it.                                 */
int weir_read_box_fd(const weir_read_box *self);
