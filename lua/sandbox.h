/*  sandbox: one Lua state in which foreign code can do no harm.

    Memory is bounded by the allocator, time by instructions: a per-thread CPU
    timer looks every 10 ms whether the same call still runs and only then arms
    Lua's count hook, so a short call pays nothing; C functions that can run long
    charge the same count with weir_charge. What exceeds a limit raises an error
    that pcall, xpcall and metamethods cannot stop.

    A sandbox belongs to the thread that calls it.                             */
#pragma once
#include <lua.h>
#include "runtime/err.h"
#include "runtime/ledger.h"

typedef enum {
    WEIR_OVERRUN_NONE = 0,
    WEIR_OVERRUN_MEMORY,
    WEIR_OVERRUN_INSTRUCTIONS,
    WEIR_OVERRUN_OUTPUT, // set by the program, not by the sandbox
} weir_overrun;

typedef struct {
    size_t memory_limit;        // bytes of Lua heap
    uint64_t instruction_limit; // of one call
    weir_ledger *ledger;        // charged in steps of 64KB (account lua); may be NULL
    const char *module_root;    // real path of the folder that `require` may read
                                // beneath, links resolved; NULL: no require
} weir_sandbox_config;

typedef struct weir_sandbox weir_sandbox;

/*  A state with the sandbox libraries (docs/language.md lists them) and nothing
    else. Errors: WEIR_EFULL when the limit is too small for them.             */
weir_err weir_sandbox_new(weir_sandbox **self_p, const weir_sandbox_config *config,
                          weir_report *report);
void weir_sandbox_destroy(weir_sandbox **self_p);

lua_State *weir_sandbox_state(weir_sandbox *self);

/*  The sandbox of a state (from the state's extra space).                     */
weir_sandbox *weir_sandbox_of(lua_State *L);

/*  The module_root of the config; NULL: none.                                 */
const char *weir_sandbox_module_root(const weir_sandbox *self);

/*  Between start and stop the CPU timer runs. A worker starts it once for many
    calls (one system call each); a call outside of them does so for itself. The
    first start in a thread lets SIGRTMIN+1 through to it.                     */
void weir_sandbox_start(weir_sandbox *self);
void weir_sandbox_stop(weir_sandbox *self);

/*  lua_pcall with fresh budgets and no message handler. Returns lua_pcall's status;
    the error is on the stack as text "file:line: what" (any other error value is
    turned into text; an error object that is a table keeps its identity). The
    limits hold inside a call only: outside, the program may push what it likes. A
    call within a call is not possible.

    The instruction limit is enforced from the second tick within the call on, that
    is once it has used 10 to 20 ms of CPU: a shorter call is stopped by what it
    charges alone. Each further tick counts as 140,000 instructions at least, so
    that few but slow ones (joining long strings) end too.                     */
int weir_sandbox_call(weir_sandbox *self, int arguments, int results);

/*  What the last call exceeded. After MEMORY or INSTRUCTIONS the state is not to
    be used for further calls: destroy it and make a fresh one.                */
weir_overrun weir_sandbox_overrun(const weir_sandbox *self);

/*  Flags the overrun of the running call and raises it; for OUTPUT.           */
_Noreturn void weir_sandbox_exceed(lua_State *L, weir_overrun what);

/*  For C functions that catch errors: called right behind a lua_pcall or lua_load
    with its status, raises again what must not be caught. Otherwise an error, as it
    is to be seen, stays on the top.                                           */
void weir_sandbox_rethrow(lua_State *L, int status);

/*  Bytes of Lua heap in use.                                                  */
size_t weir_sandbox_memory(const weir_sandbox *self);

/*  Adds to the instruction count of the running call, from a C function that has
    done (or is about to do) that many steps; raises the overrun when the limit is
    passed. Costs an addition and a comparison.                                */
void weir_charge(lua_State *L, uint64_t steps);
