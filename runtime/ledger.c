#include "runtime/ledger.h"
#include <stdatomic.h>
#include <stdlib.h>

struct weir_ledger {
    uint64_t limit;                  // L, constant
    _Atomic uint64_t references;     // owner and blocks
    _Atomic uint64_t used;           // U
    _Atomic uint64_t peak;           // highest U
    _Atomic uint64_t release_errors; // releases of more than was there
    _Atomic uint64_t accounts[WEIR_ACCOUNTS];
};

static const char *const names[WEIR_ACCOUNTS] = {
    [WEIR_ACCOUNT_BLOCKS] = "blocks", [WEIR_ACCOUNT_QUEUES] = "queues",
    [WEIR_ACCOUNT_LINKS] = "links",   [WEIR_ACCOUNT_LUA] = "lua",
    [WEIR_ACCOUNT_STORES] = "stores", [WEIR_ACCOUNT_CACHES] = "caches",
    [WEIR_ACCOUNT_DEAD] = "dead",     [WEIR_ACCOUNT_SPOOL] = "spool",
    [WEIR_ACCOUNT_HTTP] = "http",
};

/*  The most that one reservation may ask for; keeps every sum below 2^63.     */
static const uint64_t reserve_max = 1ull << 47;

weir_ledger *weir_ledger_new(uint64_t limit)
{
    weir_ledger *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->limit = limit;
    self->references = 1;
    return self;
}

weir_ledger *weir_ledger_dup(weir_ledger *self)
{
    if (self) atomic_fetch_add_explicit(&self->references, 1, memory_order_relaxed);
    return self;
}

void weir_ledger_destroy(weir_ledger **self_p)
{
    weir_ledger *self = *self_p;
    *self_p = NULL;
    if (self && atomic_fetch_sub(&self->references, 1) == 1) free(self);
}

static void note_peak(weir_ledger *self, uint64_t used)
{
    uint64_t peak = atomic_load_explicit(&self->peak, memory_order_relaxed);
    while (used > peak && !atomic_compare_exchange_weak(&self->peak, &peak, used))
        continue;
}

weir_err weir_ledger_reserve(weir_ledger *self, weir_account account, uint64_t bytes)
{
    if (bytes > reserve_max) return WEIR_EFULL;
    uint64_t used = atomic_load(&self->used);
    do {
        if (used + bytes > self->limit) return WEIR_EFULL;
    } while (!atomic_compare_exchange_weak(&self->used, &used, used + bytes));
    atomic_fetch_add(&self->accounts[account], bytes);
    note_peak(self, used + bytes);
    return WEIR_OK;
}

void weir_ledger_charge(weir_ledger *self, weir_account account, uint64_t bytes)
{
    uint64_t used = atomic_fetch_add(&self->used, bytes) + bytes;
    atomic_fetch_add(&self->accounts[account], bytes);
    note_peak(self, used);
}

/*  Takes at most what the account holds and returns how much that was.        */
static uint64_t take(weir_ledger *self, weir_account account, uint64_t bytes)
{
    uint64_t held = atomic_load(&self->accounts[account]);
    uint64_t taken;
    do {
        taken = bytes < held ? bytes : held;
    } while (
        !atomic_compare_exchange_weak(&self->accounts[account], &held, held - taken));
    if (taken < bytes) atomic_fetch_add(&self->release_errors, 1);
    return taken;
}

void weir_ledger_release(weir_ledger *self, weir_account account, uint64_t bytes)
{
    atomic_fetch_sub(&self->used, take(self, account, bytes));
}

void weir_ledger_transfer(weir_ledger *self, weir_account from, weir_account to,
                          uint64_t bytes)
{
    atomic_fetch_add(&self->accounts[to], take(self, from, bytes));
}

uint64_t weir_ledger_used(const weir_ledger *self)
{
    return atomic_load(&self->used);
}

uint64_t weir_ledger_peak(const weir_ledger *self)
{
    return atomic_load(&self->peak);
}

uint64_t weir_ledger_limit(const weir_ledger *self)
{
    return self->limit;
}

uint64_t weir_ledger_account(const weir_ledger *self, weir_account account)
{
    return atomic_load(&self->accounts[account]);
}

uint64_t weir_ledger_release_errors(const weir_ledger *self)
{
    return atomic_load(&self->release_errors);
}

const char *weir_account_name(weir_account account)
{
    return account < WEIR_ACCOUNTS ? names[account] : "unknown";
}
