/*  help_groups: a bus of one store in memory and a state in a folder of its own, and its
    consumer groups, in virtual time. For the tests of groups, each a thread's.     */
#pragma once
#include "actors/groups.h"
#include "runtime/clock.h"
#include "tests/unit/help_store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { help_vnodes = 64, help_ms = 1000, help_s = 1000000 };

typedef struct {
    char folder[64], state_path[96], dead_path[96];
    weir_store *store;
    weir_bus_state *state;
    weir_groups *groups;
    weir_ledger *ledger; // of 1 GB
} help_groups;

/*  The store answers at once, or from its own thread.                              */
void help_groups_begin(help_groups *self, bool threaded);
/*  Fails unless the ledger is empty, since no group has a member any more.         */
void help_groups_end(help_groups *self);
/*  Opens state and groups again, as after a stop. No member is in them.            */
void help_groups_restart(help_groups *self);

/*  The commit that the store was told of last; UINT64_MAX: none.                   */
uint64_t help_groups_told(const char *group, uint32_t shard);

/*  While it is shut nobody comes past telling the store of a commit; gives how often that
    was told.                                                                       */
unsigned help_groups_gate(bool shut);

/*  Is called once, when the store has been asked so many times for its shards, before it
    answers; in the thread that asks.                                               */
void help_groups_meanwhile(unsigned times, void (*act)(void));

weir_member_of *help_groups_join(help_groups *self, const char *group,
                                 const weir_group_config *config);
/*  Adds n records with this key (NULL: none), each a batch.                        */
void help_groups_put(help_groups *self, uint32_t shard, const char *key, int n);

/*  Fetches at most so many; the offsets, 0-ended, in a buffer that the next call reuses.
    shard (may be NULL) is set when there are any.                                  */
const uint64_t *help_groups_fetch(help_groups *self, weir_member_of *member,
                                  uint32_t max_records, uint32_t *shard);
weir_err help_groups_ack(help_groups *self, weir_member_of *member, uint32_t shard,
                         uint64_t offset);
weir_err help_groups_ack_up_to(help_groups *self, weir_member_of *member, uint32_t shard,
                               uint64_t offset);
weir_err help_groups_nack(help_groups *self, weir_member_of *member, uint32_t shard,
                          uint64_t offset);

/*  What is known of a group's shard, all 0 when that is not known yet; fails when the
    equation of one does not hold.                                                  */
weir_group_look help_groups_look(help_groups *self, const char *group, uint32_t shard);

/*  The next delivery is exactly these.                                             */
#define help_expect(bench, member, ...)                                                  \
    help_groups_expect(bench, member, (const uint64_t[]){__VA_ARGS__, 0}, __FILE__,      \
                       __LINE__)
#define help_expect_none(bench, member)                                                  \
    help_groups_expect(bench, member, (const uint64_t[]){0}, __FILE__, __LINE__)
void help_groups_expect(help_groups *self, weir_member_of *member,
                        const uint64_t *offsets, const char *file, int line);

/*  Lines in the file of dead letters with this text.                               */
int help_groups_letters(const help_groups *self, const char *text);
