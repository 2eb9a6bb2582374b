/*  groups: the consumer groups of one bus: who reads which shard, what is acknowledged,
    what comes again. One object a bus and process, called from the threads of all
    members; it has a lock of its own and never waits for a store in it.

        member --fetch--> records of its shards, at most `window` not acknowledged
               --ack----> the commit: end of the unbroken run, durable before it returns
               --nack---> comes again after a wait, before later ones of its vnode

    A delivery fails by nack, error, or no ack in ack_timeout; after max_deliver of them
    the record is a dead letter, which counts as its ack. Until a failed record is done
    with, its vnode delivers nothing new; others go on.                             */
#pragma once
#include "actors/batcher.h"
#include "actors/bus_state.h"
#include "runtime/dead.h"
#include "runtime/screen.h"

typedef struct {
    int64_t ack_timeout_us;    // of this member; WEIR_NONE: none
    int64_t member_timeout_us; // so long silent, it is gone; WEIR_NONE: never
    /*  Told of each record that became a durable dead letter since this member could not
        deal with it: from any thread, which may wait for nothing here. NULL: nobody. */
    void (*buried)(void *arg);
    void *arg;
    /*  What follows is the group's, as its first member has it.                    */
    weir_retry_wait retry;
    int64_t max_deliver; // WEIR_FOREVER
    int64_t window;      // records not acknowledged of a member
    /*  Where a new group begins.                                                   */
    enum { WEIR_GROUP_START, WEIR_GROUP_END, WEIR_GROUP_TIME, WEIR_GROUP_CURSOR } start;
    int64_t start_ms;         // TIME
    const char *start_cursor; // CURSOR, lent
} weir_group_config;

/*  start, 30 s, 100 ms to 5 s, 10 s, 5, 10000.                                     */
extern const weir_group_config weir_group_defaults;

typedef struct weir_groups weir_groups;
typedef struct weir_member_of weir_member_of; // a member of one group

typedef struct {
    weir_store *store;     // lent
    weir_bus_state *state; // lent
    uint32_t vnodes;
    const char *dead_path; // file of dead letters, lent; NULL: none
    const char *bus;       // name, lent; for dead letters and logs
    weir_ledger *ledger;   // counts what is read from the store until it is acknowledged;
                           // lent, may be NULL
} weir_groups_config;

weir_err weir_groups_new(weir_groups **self_p, const weir_groups_config *config,
                         weir_report *report);
void weir_groups_destroy(weir_groups **self_p);

/*  A delivery: records of one shard, in order, in one block.                       */
typedef struct {
    weir_block *block; // owned by who fetched it; with places; counted in the ledger
    uint32_t shard;
    weir_position *at;  // of each record, owned
    uint64_t *sequence; // of each, owned; epoch beside
    uint64_t epoch;
    uint32_t records;
    bool failing; // records of its shards have failed before and are not done with: more
                  // comes, though none does now
    bool starved; // the ledger is full: nothing more is read before an ack
    /*  There may be more though nothing comes: one shard each whose first read since the
        member has it was not answered yet, and that cannot be read (trouble: why). */
    bool is_late, has_failed;
    uint32_t late_shard, failed_shard;
    char trouble[256];
    bool pending; // its shards may have more that cannot be given now: the store has not
                  // answered, or cannot, or records stand behind a fence
} weir_delivered;

/*  Joins, and makes the group with this config when it is new. What the screen (may be
    NULL; lent until it leaves) leaves out counts as acknowledged. wake_fd (eventfd; -1:
    none) becomes readable when a fetch may find more; so it does by the store's watch.
    Blocks on disk; for a new group the store has to say where it begins: an error that
    weir_store_is_away when it cannot now. Other errors: WEIR_EINVAL (cursor), WEIR_ESYS.
 */
weir_err weir_groups_join(weir_groups *self, const char *group, const char *member,
                          const weir_group_config *config, weir_screen *screen,
                          int wake_fd, weir_member_of **member_p, weir_report *report);
void weir_groups_leave(weir_groups *self, weir_member_of **member_p);

/*  Gives the next records of one of its shards, with their timestamps filled in. One that
    has failed before comes alone. NULL block: none now; wake_fd, or the deadline (-1:
    none), says when to ask again. Waits for no store; now and then it stores what nobody
    has waited for. A member that was silent for too long joins again with it;
    WEIR_ENOTFOUND when its group was removed meanwhile. */
weir_err weir_groups_fetch(weir_groups *self, weir_member_of *member,
                           uint32_t max_records, size_t max_bytes,
                           weir_delivered *delivered, int64_t *deadline_us);
void weir_delivered_fini(weir_delivered *self);

/*  Acknowledges one record, or with up_to all that this member holds up to it and had
    before it or with it: what was delivered again since does not count. When it returns
    the commit is durable; acks of several threads share that. Blocks on disk.
    Errors: WEIR_EREFUSED (not its owner: "not_owner"); WEIR_ESYS (it is acknowledged, but
    not durably: the same ack tries again).                                         */
weir_err weir_groups_ack(weir_groups *self, weir_member_of *member, uint32_t shard,
                         weir_position at, bool up_to, weir_report *report);

/*  A failed delivery. delay_us < 0: as retry has it. As ack for errors. why (may be NULL)
    is for the dead letter.                                                         */
weir_err weir_groups_nack(weir_groups *self, weir_member_of *member, uint32_t shard,
                          weir_position at, int64_t delay_us, const char *why,
                          weir_report *report);

/*  The same, but at once: durable is that when weir_groups_settle has returned, which so
    makes one commit of what its group's members have answered. WEIR_EREFUSED as above; of
    settle WEIR_ESYS.                                                               */
weir_err weir_groups_ack_soon(weir_groups *self, weir_member_of *member, uint32_t shard,
                              weir_position at, bool up_to, weir_report *report);
weir_err weir_groups_nack_soon(weir_groups *self, weir_member_of *member, uint32_t shard,
                               weir_position at, int64_t delay_us, const char *why,
                               weir_report *report);
weir_err weir_groups_settle(weir_groups *self, weir_member_of *member,
                            weir_report *report);

/*  Timeouts of acks and of members, and what is stored without haste. Gives the next time
    to call it, -1: none. While a member fetches by its deadlines its group needs no other
    calls. Blocks on disk.                                                          */
int64_t weir_groups_tick(weir_groups *self, int64_t now_us);

typedef struct {
    char *group; // owned
    uint32_t shard;
    weir_position start, commit, last;
    uint64_t done, shed, lag; // last = start + done + shed + lag, of offsets
    uint64_t dead;            // of done, since this process began: dead letters
    uint32_t held;            // delivered and not acknowledged
    uint64_t stored;          // records that the shard ever stored, of which lag are left
    bool counted;             // positions are numbers, else done is 0 and lag is what is
                              // left of the last start
    char member[64];          // that owns it; "": none
} weir_group_look;

weir_err weir_groups_look(weir_groups *self, weir_group_look **list, size_t *count,
                          weir_report *report);
void weir_group_looks_free(weir_group_look **list, size_t count);

/*  Moves the commits of all shards (of those that the cursor names); what members hold is
    void. END undoes no commit that was made meanwhile; a record that the group had
    committed and that is removed is behind no other position, and never shed. Blocks on
    disk. Errors: WEIR_ENOTFOUND, WEIR_EINVAL (cursor), WEIR_ESYS.                  */
weir_err weir_groups_set(weir_groups *self, const char *group,
                         const weir_group_config *where_to, weir_report *report);
/*  Forgets a group without members: WEIR_EREFUSED when it has some.                */
weir_err weir_groups_remove(weir_groups *self, const char *group, weir_report *report);
