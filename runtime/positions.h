/*  positions: committed read positions of files, in a versioned state file that
    survives kill -9 at any instant.

    A file is known by device, inode and a fingerprint of its first bytes, so that
    a rotated file keeps its position and a new file in its place starts anew. The
    fingerprint covers the first min (size, 1024) bytes as seen when the slot was
    made, and its length is kept: a file that has grown still matches.

    Each slot lies twice in the state file (a checksum and a generation each) and
    the two are written in turn, so one torn write loses nothing. A commit is one
    pwrite; sync makes commits durable against power loss.

    A state file belongs to one source, and its positions serve one thread. Slot
    numbers hold until the slot is used for another file: from then on an old
    number is WEIR_ENOTFOUND, so that a late commit cannot move the new file.  */
#pragma once
#include "runtime/err.h"

typedef struct {
    uint64_t device;
    uint64_t inode;
    uint64_t fingerprint;      // XXH3-64 of the first fingerprint_size bytes
    uint32_t fingerprint_size; // <= 1024
} weir_file_id;

typedef struct weir_positions weir_positions;

/*  Reads identity and fingerprint of an open file; blocks on disk.            */
weir_err weir_file_identify(weir_file_id *id, int fd);

/*  Opens or creates the state file and locks it (a second process is refused:
    WEIR_EREFUSED). A file of another version, or no state file of ours, is
    WEIR_EMALFORMED and is left untouched. All failures fill the report. It is also
    filled beside WEIR_OK, when slots were lost (weir_positions_damaged): the caller
    logs that.                                                                 */
weir_err weir_positions_open(weir_positions **self_p, const char *path,
                             weir_report *report);

/*  Reads the state file as it is at this moment, for looking alone: nothing is locked or
    written, and no commit may follow. It must be there.                       */
weir_err weir_positions_read(weir_positions **self_p, const char *path,
                             weir_report *report);

/*  Finds the slot of the open file fd, whose identity now is `id`: same device and
    inode, and the stored fingerprint matches the same number of first bytes of fd.
    -1: unknown. *offset is the committed position, or where the last reader of this
    process has left off (weir_positions_release).                             */
int weir_positions_find(weir_positions *self, int fd, const weir_file_id *id,
                        uint64_t *offset);

/*  Makes a slot with position `offset` (a forgotten slot is used again, as is one of
    the same device and inode: its file is no more); name is for people, at most 255
    bytes are kept. WEIR_EFULL: 2^18 slots are in use.                         */
weir_err weir_positions_add(weir_positions *self, const weir_file_id *id,
                            const char *name, uint64_t offset, int *slot);

/*  Sets the position of a slot. One pwrite, no sync.                          */
weir_err weir_positions_commit(weir_positions *self, int slot, uint64_t offset);

/*  Marks the slot's file as gone for good; the slot may be used again.        */
weir_err weir_positions_forget(weir_positions *self, int slot);

/*  The file has grown: takes a longer fingerprint, up to 1024 bytes. WEIR_EMALFORMED:
    its first bytes are others than they were; nothing is changed.             */
weir_err weir_positions_refresh(weir_positions *self, int slot, int fd);

/*  Keeps two readers of this process off one file (a rotated file that a pattern
    still matches): false when the slot is claimed already. Release says how far the
    slot has been read, committed or not, so that the next reader goes on there;
    read_to NULL: it goes on at the committed position.                        */
bool weir_positions_claim(weir_positions *self, int slot);
void weir_positions_release(weir_positions *self, int slot, const uint64_t *read_to);

/*  True when a file with this name has, or has had, a slot here.              */
bool weir_positions_knows(const weir_positions *self, const char *name);

/*  Slots of which both copies were unreadable at open: no interrupted write does
    that, so the file was damaged. Their files are read from the start again.  */
size_t weir_positions_damaged(const weir_positions *self);

/*  fdatasync, if anything was written since the last one. Blocks.             */
weir_err weir_positions_sync(weir_positions *self);

/*  Lists the slots in use, for tools: false behind the last. *slot starts at 0 and
    is only a cursor.                                                          */
bool weir_positions_next(weir_positions *self, int *slot, weir_file_id *id,
                         const char **name, uint64_t *offset);

/*  Syncs and closes.                                                          */
void weir_positions_close(weir_positions **self_p);
