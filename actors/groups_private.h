/*  groups_private: the parts of groups.c and its neighbours.

        groups.c           members and their calls
        groups_share.c     which member has which shard
        groups_fetch.c     reading, screening, fences, delivering
        groups_commit.c    failures, dead letters, what is made durable
        groups_position.c  groups made, moved, looked at, removed

    One lock guards all groups of a bus. It is given up around everything that takes time:
    reads, screens, dead letters, the state. A group is freed only under `changing`, when
    it has no members and nothing of it is being stored; so a member that has given up the
    lock finds its group and shards again, though maybe not as their owner.         */
#pragma once
#include "actors/group_window.h"
#include "actors/groups.h"
#include <pthread.h>

typedef struct weir_group weir_group;
typedef struct weir_group_shard weir_group_shard;

/*  What stands between a read and the window: a record that passes, what is left out (a
    gap, too), or a dead letter.                                                    */
typedef struct {
    weir_group_record record; // bytes lent by the reading; only at when left out
    bool passes;
    uint64_t removed; // left out because they were: so many offsets
    weir_dead *dead;  // owned; NULL: none
} weir_group_item;

/*  A read, from its start until all that it gave is in the window. Owned by the store
    until it is answered, then by its shard; by who prepares it while busy.         */
typedef struct {
    weir_read read;
    weir_groups *groups;     // a reference
    weir_group_shard *shard; // NULL: nobody waits for it any more
    bool answered, busy;
    weir_position end;   // of the shard, as it was known when the read began
    bool asked_again;    // a fetch came meanwhile: an empty answer may be too old
    uint32_t chunk, gap; // the next ones
    uint32_t index;      // of the next record in the chunk
    weir_iterator walk;
    weir_group_bytes **blocks; // of the chunks that were not begun, references, owned
    weir_group_bytes *bytes;   // of the present chunk, a reference
    weir_position reached;     // prepared up to there
    weir_group_item *items;    // prepared and not in the window
    size_t item_next, item_count, item_capacity;
    bool has_fences;
    weir_fence *fences; // of this shard
    size_t fence_count;
} weir_group_reading;

struct weir_group_shard {
    weir_group *group;
    uint32_t id;
    weir_group_window *window;
    weir_member_of *owner;       // NULL: nobody
    weir_group_reading *reading; // NULL: none
    int64_t retry_us;            // it could not be read: not before then
    char trouble[256];           // why it could not, until it can; "": it can
    bool fenced;                 // it waits for another shard's commit
    weir_position end;           // as the store told it last
    bool dry;                    // the last read found nothing, and knew this end:
    weir_position dry_end;
    uint64_t version, durable; // changes of the row, and how many are stored
    weir_position noted;       // commit, and
    uint64_t ruling;           // failures, of the window when version rose last
    weir_position stored;      // commit that is durable
    weir_position loaded;      // commit as the state had it; none: the store has it
    uint64_t dead;             // letters that are durable
};

/*  A dead letter on its way.                                                       */
typedef struct weir_group_letter {
    struct weir_group_letter *next;
    weir_dead *dead; // owned
    weir_group_shard *shard;
    weir_position at;
    weir_member_of *member; // that could not deal with it; NULL: it has left
} weir_group_letter;

struct weir_member_of {
    weir_member_of *next; // in the order of joining
    weir_group *group;    // NULL: it was removed meanwhile
    char *name;
    weir_screen *screen;                       // lent; NULL: none
    int wake_fd;                               // -1: none
    int64_t ack_timeout_us, member_timeout_us; // WEIR_NONE
    void (*buried)(void *arg);                 // NULL: nobody is told
    void *arg;
    int64_t seen_us;
    bool gone;    // silent for too long: has no shards until it fetches again
    bool idle;    // its last fetch found nothing
    bool busy;    // in a call
    size_t owned; // shards
    size_t turn;
    weir_subject subject; // scratch of its thread
    weir_doc doc;
    weir_buffer scratch;
};

struct weir_group {
    weir_group *next;
    char *name;
    weir_group_config config;  // of its first member
    weir_group_shard **shards; // by id, owned
    size_t shard_count;
    weir_member_of *members;
    int64_t next_us;      // nothing is due before: silence, late answers; -1: nothing
    int64_t refreshed_us; // when the store was last asked for its shards
    /*  Storing: one thread at a time does it for all that wait.                    */
    bool storing;
    bool refreshing;                // a thread asks the store for shards
    bool unsure;                    // the store did not tell them
    bool removed;                   // nothing of it is to be stored again
    uint64_t changes, kept;         // of all rows, and how many are durable
    uint64_t rounds, failed_rounds; // ended; the last that failed
    pthread_cond_t stored;          // a round or a refresh has ended
    weir_report trouble;            // of the last that failed
    int64_t dirty_us;               // when what nobody waits for is stored; -1: nothing
    weir_group_letter *letters;
    weir_dead_file *dead_file; // of the round; NULL: not opened yet
};

struct weir_groups {
    weir_groups_config config; // texts owned
    pthread_mutex_t lock;      // of all that follows
    uint32_t references;       // the owner, and each reading
    weir_group *groups;
    pthread_mutex_t changing; // taken before lock: groups come, move and go
};

/*  All of these, and all below, with the lock held; those that say so give it up
    meanwhile.                                                                      */
void weir_groups_enter(weir_groups *self);
void weir_groups_exit(weir_groups *self);
void weir_groups_unref(weir_groups *self); // gives up the lock for good

weir_group *weir_groups_find(weir_groups *self, const char *name);
weir_group_shard *weir_group_find_shard(const weir_group *self, uint32_t id);

/* --- groups_share.c ---------------------------------------------------------------- */

/*  Deals out the shards: evenly, and each stays where it is while that is even.    */
void weir_group_share(weir_group *self);
void weir_member_wake(weir_member_of *self);
void weir_group_wake(weir_group *self); // all members
/*  A call of the member.                                                           */
void weir_member_touch(weir_member_of *self, int64_t now_us);
void weir_member_gone(weir_member_of *self); // its shards go to the others
/*  Without members that are there nothing is kept in memory, unless it is being stored.
 */
void weir_group_rest(weir_group *self);
/*  Silent members and late answers.                                                */
void weir_group_turn(weir_groups *groups, weir_group *self, int64_t now_us);

/* --- groups_fetch.c ---------------------------------------------------------------- */

/*  What was read and is not in the window is forgotten.                            */
void weir_group_reading_reset(weir_group_shard *shard);

/* --- groups_commit.c --------------------------------------------------------------- */

/*  The shard's row has changed; it is stored with the next round.                  */
void weir_group_count_change(weir_group_shard *shard);
/*  The same, if it has; some time a round comes.                                   */
void weir_group_changed(weir_group_shard *shard, int64_t now_us);
/*  A delivery has failed. delay_us < 0: as retry has it.                           */
void weir_group_failed(weir_groups *groups, weir_group_shard *shard,
                       weir_group_record *record, int64_t delay_us, const char *why,
                       int64_t now_us);
/*  When it comes again.                                                            */
int64_t weir_group_due(const weir_groups *groups, const weir_group_shard *shard,
                       const weir_group_record *record, int64_t delay_us, int64_t now_us);
/*  It has failed too often: a dead letter with this last error.                    */
void weir_group_doom(weir_groups *groups, weir_group_shard *shard,
                     weir_group_record *record, const char *why, int64_t now_us);
/*  The record, which waits, is to be this dead letter. Takes it.                   */
void weir_group_send_letter(weir_group_shard *shard, weir_group_record *record,
                            weir_dead **dead, int64_t now_us);
/*  Stores what is due, and then no letter names the member any more. Gives up the lock.
 */
void weir_group_part_with(weir_groups *groups, weir_group *self, weir_member_of *member);
/*  Returns when all rows are durable as they are now. Gives up the lock.           */
weir_err weir_group_store(weir_groups *groups, weir_group *self, weir_report *report);
/*  Stores what is due by then; INT64_MAX: everything. Gives up the lock.           */
void weir_group_store_due(weir_groups *groups, weir_group *self, int64_t now_us);

/* --- groups_position.c ------------------------------------------------------------- */

/*  Groups that have read more than there is go back, durably. Before anything is written;
    nothing happens while the store is away.                                        */
weir_err weir_groups_go_back(weir_groups *self, weir_report *report);

/*  Adds shards that the store has and the group has not, unless another thread does so
    just now; what was removed of the others is shed. Gives up the lock.            */
weir_err weir_group_refresh(weir_groups *groups, weir_group *self, bool *more,
                            weir_report *report);
weir_group_shard *weir_group_add_shard(weir_groups *groups, weir_group *self,
                                       const weir_group_row *row);
/*  A new group as config has it, durable; with `changing` held. Gives up the lock. */
weir_err weir_group_make(weir_groups *groups, const char *name,
                         const weir_group_config *config, weir_group **self_p,
                         weir_report *report);
weir_group *weir_group_new(weir_groups *groups, const char *name);
void weir_group_destroy(weir_group **self_p);
