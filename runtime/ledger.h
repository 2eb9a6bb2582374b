/*  ledger: every byte that data occupies, counted where it lies.

    U, the sum of all accounts, never passes the limit L through
    weir_ledger_reserve; drains may pass it, so that what is inside can leave.
    All functions are lock-free and may be called from any thread.             */
#pragma once
#include "runtime/err.h"

typedef enum {
    WEIR_ACCOUNT_BLOCKS = 0, // bodies of blocks
    WEIR_ACCOUNT_QUEUES,
    WEIR_ACCOUNT_LINKS,
    WEIR_ACCOUNT_LUA,
    WEIR_ACCOUNT_STORES,
    WEIR_ACCOUNT_CACHES,
    WEIR_ACCOUNT_DEAD,
    WEIR_ACCOUNT_SPOOL,
    WEIR_ACCOUNT_HTTP,
    WEIR_ACCOUNTS, // their number
} weir_account;

typedef struct weir_ledger weir_ledger;

/*  A ledger with limit L in bytes. It is there until its last reference goes: each
    block has one, since libzmq frees what was under way when it likes.        */
weir_ledger *weir_ledger_new(uint64_t limit);
weir_ledger *weir_ledger_dup(weir_ledger *self);
void weir_ledger_destroy(weir_ledger **self_p);

/*  Intake: refused without any change (WEIR_EFULL) if U + bytes > L or
    bytes > 2^47.                                                              */
weir_err weir_ledger_reserve(weir_ledger *self, weir_account account, uint64_t bytes);

/*  Drain: never refused.                                                      */
void weir_ledger_charge(weir_ledger *self, weir_account account, uint64_t bytes);

/*  Takes min (bytes, account) and counts an error if bytes was larger.        */
void weir_ledger_release(weir_ledger *self, weir_account account, uint64_t bytes);

/*  Moves bytes between accounts; U stays.                                     */
void weir_ledger_transfer(weir_ledger *self, weir_account from, weir_account to,
                          uint64_t bytes);

uint64_t weir_ledger_used(const weir_ledger *self);
uint64_t weir_ledger_peak(const weir_ledger *self); // highest U so far
uint64_t weir_ledger_limit(const weir_ledger *self);
uint64_t weir_ledger_account(const weir_ledger *self, weir_account account);
uint64_t weir_ledger_release_errors(const weir_ledger *self);

/*  A constant name: "blocks", "queues", ...                                   */
const char *weir_account_name(weir_account account);
