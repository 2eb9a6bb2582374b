/*  block: an immutable, counted batch of records in one contiguous buffer.

        builder (one owner, writable)  --seal-->  block (const, shared)

    The body is a sequence of encoded records (record.h); beside it a block knows
    how many they are and where they came from (runs). Only sealed blocks leave
    an actor, one reference a send; the last reference frees the body and gives
    its bytes back to the ledger. Blocks may be shared between threads.        */
#pragma once
#include "runtime/ledger.h"
#include "runtime/record.h"
#include "runtime/spares.h"

/*  Consecutive records with one origin. A block copies the texts, as UTF-8: in one that
    is none, as a file's name may be, other bytes than ASCII become '?'.       */
typedef struct {
    uint32_t records;
    const char *source; // name of the source node; NULL: none
    const char *peer;   // authenticated name; NULL: none
    const char *label;  // for people: "a.ndjson@1048576"; NULL: none
    weir_place place; // of the first; the others lie behind it without a gap. Of a block
                      // all runs have one or none has
} weir_run;

/*  A block travels with its runs in a frame of bounded size: so many, and so many bytes
    of them, each 16 and its texts, and its place. A longer text is cut.       */
#define WEIR_RUNS_MAX 256
#define WEIR_RUN_BYTES_MAX (60 << 10)
#define WEIR_RUN_TEXT_MAX 1024
#define WEIR_PLACE_BYTES 48

typedef struct weir_block weir_block;

/*  A reference more; gives the same block.                                    */
weir_block *weir_block_dup(weir_block *self);

/*  A reference less. *self_p becomes NULL; NULL is accepted.                  */
void weir_block_destroy(weir_block **self_p);

const uint8_t *weir_block_body(const weir_block *self);
size_t weir_block_size(const weir_block *self);      // bytes of the body
uint32_t weir_block_records(const weir_block *self); // number of records
/*  True: no record has a key, as is known without a look at them; a payload may.   */
bool weir_block_is_keyless(const weir_block *self);
const weir_run *weir_block_runs(const weir_block *self, size_t *count);
size_t weir_block_run_bytes(const weir_block *self); // as WEIR_RUN_BYTES_MAX counts them

/*  The place of the block's first record; NULL: they have none.               */
const weir_place *weir_block_place(const weir_block *self);

/*  Wraps a body that someone else owns: free_body (hint) is called with the last
    reference. The runs are copied, their texts too; none: the origin is not known. */
weir_block *weir_block_wrap(const uint8_t *body, size_t size, uint32_t records,
                            const weir_run *runs, size_t run_count,
                            void (*free_body)(void *hint), void *hint);

/*  A block with the same records, body and labels, whose origin is this source and
    peer (NULL: none), and which has no places. Holds a reference to the first one. Labels
    that would be too much beside the new names are left out.                  */
weir_block *weir_block_stamp(weir_block *self, const char *source, const char *peer);

/*  Other runs for the same records, with places, within the bounds of runs. Copies them.
    For a block with one owner.                                                */
void weir_block_set_places(weir_block *self, const weir_run *runs, size_t count);

/*  Takes the block and gives one without places: itself, or one that shares its body. */
void weir_block_forget_places(weir_block **self_p);

/*  Counts the body in the ledger, which is never refused, until the last reference
    goes. For a block that is not counted yet and has one owner.               */
void weir_block_charge(weir_block *self, weir_ledger *ledger);

/*  Where its body is counted, be it as that of the block it is a part of; NULL: nowhere.
    Lives as the block does.                                                   */
weir_ledger *weir_block_ledger(const weir_block *self);

/*  A block with the same records and runs, and a body of its own that is counted in the
    ledger (NULL: nowhere), which is never refused.                            */
weir_block *weir_block_copy(const weir_block *self, weir_ledger *ledger);

/*  Walks the body of a block from another process: every record well-formed and
    as many as stated, no byte left over. Errors as weir_record_read.          */
weir_err weir_block_check(const weir_block *self);

/*  An open block. Zeroed but for ledger and capacity it is ready for use; the
    body is allocated with the first record.                                   */
typedef struct {
    weir_ledger *ledger; // charged with the capacity; may be NULL
    size_t target;       // bytes that one body should hold
    weir_spares *spares; // lent; bodies come from there and go back; NULL: malloc
    weir_buffer body;
    uint32_t records;
    bool keyed;     // a record may have a key
    weir_run *runs; // owned array, texts lent until seal
    size_t run_count, run_capacity;
    size_t run_bytes; // as WEIR_RUN_BYTES_MAX counts them
    size_t charged;
} weir_builder;

/*  Allocates the body ahead of the first record, as intake: WEIR_EFULL, and nothing
    has changed, when the ledger refuses. Without it the body is charged as drain,
    which is never refused.                                                    */
weir_err weir_builder_open(weir_builder *self);

/*  Appends one record whose payload has the format; key and headers come from
    the record. Places are not kept: what is written anew is another record. An origin
    beyond the bounds of runs is forgotten, and that of the records before it: who seals
    what is full loses none. JSON payloads without key, timestamp and headers have a
   faster way in. The body grows beyond target for a record that is larger.
 */
void weir_builder_add(weir_builder *self, const weir_record *record,
                      const weir_run *origin);
void weir_builder_add_payload(weir_builder *self, weir_format format, const uint8_t *data,
                              size_t size, const weir_run *origin);

/*  The same for a JSON payload that may not be UTF-8. False: it is not, and nothing has
    changed.                                                                        */
bool weir_builder_add_json(weir_builder *self, const uint8_t *data, size_t size,
                           const weir_run *origin);

/*  Appends `records` records that are encoded already, one behind the other.   */
void weir_builder_add_encoded(weir_builder *self, const uint8_t *data, size_t size,
                              uint32_t records, const weir_run *origin);

/*  True when the body has its size, or another run may not fit.                */
static inline bool weir_builder_full(const weir_builder *self)
{
    static const size_t run_max = 16 + 3 * WEIR_RUN_TEXT_MAX;
    return self->body.size >= self->target || self->run_count == WEIR_RUNS_MAX ||
           self->run_bytes + run_max > WEIR_RUN_BYTES_MAX;
}

/*  Gives the block, and leaves the builder ready for the next one; NULL when no
    record was added.                                                          */
weir_block *weir_builder_seal(weir_builder *self);
void weir_builder_fini(weir_builder *self);

/*  Walks the records of a block without decoding payloads: zeroed but for block. */
typedef struct {
    const weir_block *block;
    size_t offset;     // of the next record in the body
    uint32_t record;   // its index
    size_t run;        // index of the run of the record before it
    uint32_t run_left; // records left in that run
} weir_iterator;

/*  False behind the last record. *origin (may be NULL) lives as the block does.
    Bodies are trusted: they were built here, or checked at their inlet.       */
bool weir_iterator_next(weir_iterator *self, weir_record *record,
                        const weir_run **origin);

/*  Steps over the next record and gives its size; 0: none is left. Much cheaper than
    reading it.                                                                */
size_t weir_iterator_skip(weir_iterator *self);

/*  The next records, at most so many and so many bytes of them, as a block that shares
    the body and holds a reference to the iterator's block; all of them are that block
    itself. The iterator steps behind them. NULL, and nothing has changed: none is left,
    or already the first is too much. The whole rest is cut without looking at it. */
weir_block *weir_iterator_cut(weir_iterator *self, uint32_t records, size_t bytes);

/*  A record that was just set comes from there, and is not parsed yet.        */
static inline void weir_subject_begin(weir_subject *self, const weir_run *origin)
{
    self->source = origin->source;
    self->peer = origin->peer;
    self->place = &origin->place;
    self->state = WEIR_UNPARSED;
}

/*  A record of a block.                                                       */
typedef struct {
    uint32_t offset; // in the body
    uint32_t run;    // index of its run
    uint32_t in_run; // its index there
} weir_pick;

/*  Part of a block's records, in order, without copying. The selection holds a reference
    to its block.                                                              */
typedef struct {
    weir_block *block;
    weir_pick *picks;
    uint32_t count, capacity;
} weir_selection;

void weir_selection_add(weir_selection *self, weir_pick pick);
void weir_selection_get(const weir_selection *self, uint32_t i, weir_record *record,
                        const weir_run **origin);
void weir_selection_fini(weir_selection *self);

/*  Deals the records of a block out to `parts` selections: a keyed record goes to
    part (vnode mod parts), so each key keeps its order; keyless ones go to part
    `keyless`, in their order. key (may be NULL) is the field whose value wins over
    the record's own key; doc is scratch for it. The selections are zeroed before
    and hold references afterwards where they are not empty.                   */
void weir_block_deal(weir_block *self, const weir_path *key, weir_doc *doc,
                     uint32_t vnodes, weir_selection *selections, uint32_t parts,
                     uint32_t keyless);
