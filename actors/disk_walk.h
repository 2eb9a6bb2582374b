/*  disk_walk: reads all that is in a disk store that nobody writes, be it damaged as it
    may: a child process reads and checks, and tells through a pipe; when it crashes (a
    file that was cut raises SIGBUS, a corrupt one leads LMDB astray), that is damage, and
    the next child goes on behind it.

        child: LMDB --> checks --pipe--> parent: blocks and gaps in order, what is lost

    Private to the tools of the disk store. One thread; must not be used once a ZeroMQ
    context exists, since it forks.                                                 */
#pragma once
#include "actors/disk_private.h"

#define WEIR_DISK_NO_SHARD 0xffffffff // damage of the environment itself

/*  Called in the order of shards and offsets. Each may fail, which ends the walk.  */
typedef struct {
    /*  A good block; the value is NULL unless values are wanted.                   */
    weir_err (*block)(void *arg, weir_disk_key key, const weir_disk_head *head,
                      const void *value, size_t size);
    /*  A range that was known to be missing.                                       */
    weir_err (*gap)(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                    bool damaged);
    /*  Damage: a range that is there and bad, or should be there, or is there twice; or,
        with WEIR_DISK_NO_SHARD, what else is wrong.                                */
    weir_err (*lost)(void *arg, uint32_t shard, uint64_t first, uint64_t last,
                     const char *text);
    /*  A fence, as it is stored; before all blocks.                                */
    weir_err (*fence)(void *arg, const uint8_t key[WEIR_DISK_KEY_SIZE],
                      const uint8_t value[WEIR_DISK_KEY_SIZE]);
    void *arg;
    bool values;
    /*  What a shard has, as the store has counted it; before all blocks. NULL: unwanted.
     */
    weir_err (*counts)(void *arg, uint32_t shard, const weir_disk_counts *counts);
} weir_disk_visitor;

/*  folder: of the environment. Errors: the visitor's, or WEIR_ESYS with a report: there
    is no pipe or process. Damage is none.                                             */
weir_err weir_disk_walk(const char *folder, const weir_disk_visitor *visitor,
                        weir_report *report);

/* --- Children ---------------------------------------------------------------------- */

/*  A process that does work (arg, fd), where fd is the pipe to us, and ends with 0, or
    dies without a word and without a core.                                         */
typedef struct {
    int fd; // to read from
    int pid;
} weir_disk_child;

weir_err weir_disk_child_start(weir_disk_child *self, void (*work)(void *arg, int fd),
                               void *arg, weir_report *report);

/*  Reads exactly so many bytes; false: it has ended before.                        */
bool weir_disk_child_read(weir_disk_child *self, void *to, size_t size);

/*  Waits for its end, of which text says what it was: "" when it was meant. Kills it when
    it has not ended by itself and `kill` is set.                                   */
void weir_disk_child_end(weir_disk_child *self, bool kill, char text[64]);

/*  For the child: all of it, or the end.                                           */
void weir_disk_child_tell(int fd, const void *data, size_t size);
