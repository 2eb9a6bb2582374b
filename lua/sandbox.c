#include "lua/sandbox.h"
#include "lua/bind/bind.h"
#include "lua/heap.h"
#include <assert.h>
#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define TICK_NS 10000000

/*  What a tick counts at least. Code that allocates with every instruction still
    runs more of them in that time. It also stands for what ran before the hook was
    armed. With sanitizers all of this is slower.                              */
#ifdef WEIR_SANITIZED
#define TICK_STEPS 25000
#else
#define TICK_STEPS 140000
#endif

/*  Bytes of the memory limit for each frame of a recursion that counts as endless:
    a frame takes about 80.                                                    */
#define FRAME_SHARE 256

/*  Instructions between two calls of the hook.                                */
#define HOOK_STEPS 1000
#define HOOK_STEPS_UNTIMED 100 // while the hook looks at the clock itself

/*  ThreadSanitizer holds signals back until a call that it intercepts, of which the
    interpreter makes none: there the hook is armed from the first instruction on. */
#if defined(__SANITIZE_THREAD__)
#define NO_TIMER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define NO_TIMER 1
#endif
#endif
#ifndef NO_TIMER
#define NO_TIMER 0
#endif

/*  The handler of the timer's signal runs in the sandbox's own thread, between any
    two instructions of it: what both use is volatile. A call that is neither armed
    nor refused memory changes steps, serial and running alone.                */
struct weir_sandbox {
    lua_State *L;
    uint64_t steps;              // counted in the running call, by hook and charges
    volatile uint64_t ceiling;   // of steps: the limit, or 0 when it has been passed
    volatile uint64_t running;   // serial of the running call; 0: none
    uint64_t serial;             // of the running or the last call
    uint64_t limit;              // instructions of a call
    volatile sig_atomic_t armed; // the hook is set
    volatile sig_atomic_t stale; // some of this belongs to the last call, and is to be
                                 // made fresh for the next: ceiling and what follows
    weir_overrun overrun;        // of the running or the last call
    bool estimated;              // what ran before the hook was armed has been added
    bool deep;      // memory has run out by recursion, and the error is on its way
    char where[96]; // "web.lua:12: " of the overrun; empty: unknown

    timer_t timer;
    uint64_t timer_thread;    // number of the thread that the timer watches; 0: none
    bool untimed;             // there is no timer: the hook is always armed
    bool started;             // between start and stop
    int64_t untimed_start_ns; // CPU clock at the call's first hook, without timer
    uint64_t tick_serial;     // handler only: the call of the last tick
    uint64_t ticks;           // handler only: of that call, without the first
    uint64_t ticks_armed;     // handler only: ticks when the hook was last set

    char *module_root; // NULL: no modules
    weir_heap heap;
};

/*  The sandbox's modules. Each is a global; NULL: the opener sets globals itself. */
static const struct {
    const char *name;
    lua_CFunction open;
} modules[] = {
    {LUA_GNAME, weir_bind_base},
    {NULL, weir_bind_values},
    {"require", weir_bind_require},
    {LUA_STRLIBNAME, weir_bind_string},
    {LUA_TABLIBNAME, weir_bind_table},
    {LUA_MATHLIBNAME, luaopen_math},
    {LUA_UTF8LIBNAME, luaopen_utf8},
    {"time", weir_bind_time},
    {"json", weir_bind_json},
    {"re", weir_bind_re},
    {"base64", weir_bind_base64},
    {"url", weir_bind_url},
    {"clf", weir_bind_clf},
};

/*  Only the address matters: registry key of the error value that is on its way in
    an overrun; the call puts the real sentence in its place.                  */
static const char overrun_key;

static void on_count(lua_State *L, lua_Debug *record);

weir_sandbox *weir_sandbox_of(lua_State *L)
{
    return *(weir_sandbox **)lua_getextraspace(L);
}

/* --- Overruns ---------------------------------------------------------------------- */

/*  Notes the line of the innermost Lua function. Allocates nothing.           */
static void note_where(weir_sandbox *self)
{
    lua_Debug record;
    self->where[0] = 0;
    for (int level = 0; level < 16 && lua_getstack(self->L, level, &record); level++) {
        lua_getinfo(self->L, "Sl", &record);
        if (record.currentline <= 0) continue;
        snprintf(self->where, sizeof self->where, "%s:%d: ", record.short_src,
                 record.currentline);
        return;
    }
}

/*  Also for the handler: lua_sethook is what Lua allows one to call.          */
static void arm(weir_sandbox *self, int instructions)
{
    self->armed = self->stale = 1;
    lua_sethook(self->L, on_count, LUA_MASKCOUNT, instructions);
}

/*  From now on every charge and every single instruction raises.              */
static void flag_overrun(weir_sandbox *self, weir_overrun what)
{
    if (self->overrun == WEIR_OVERRUN_NONE) {
        self->overrun = what;
        note_where(self);
    }
    self->ceiling = 0;
    if (lua_gethookcount(self->L) != 1) arm(self, 1);
}

_Noreturn void weir_sandbox_exceed(lua_State *L, weir_overrun what)
{
    flag_overrun(weir_sandbox_of(L), what);
    lua_checkstack(L, 1); // when that fails Lua's reserve of five slots is there
    lua_rawgetp(L, LUA_REGISTRYINDEX, &overrun_key);
    lua_error(L);
    abort();
}

/*  Whether a protected call has ended for want of memory, by its status.      */
static bool is_out_of_memory(const weir_sandbox *self, int status)
{
    return status == LUA_ERRMEM || (status != LUA_OK && self->heap.refused);
}

/*  Puts an ordinary error in the place of the one on the top.                 */
static void settle_deep(weir_sandbox *self)
{
    self->deep = false;
    self->heap.refused = false;
    lua_pushfstring(self->L, "%sstack overflow", self->where);
    lua_replace(self->L, -2);
}

void weir_sandbox_rethrow(lua_State *L, int status)
{
    weir_sandbox *self = weir_sandbox_of(L);
    if (!self) return;
    if (self->overrun != WEIR_OVERRUN_NONE) weir_sandbox_exceed(L, self->overrun);
    if (is_out_of_memory(self, status)) {
        if (!self->deep) weir_sandbox_exceed(L, WEIR_OVERRUN_MEMORY);
        settle_deep(self);
    }
    self->deep = false;
}

void weir_charge(lua_State *L, uint64_t steps)
{
    weir_sandbox *self = weir_sandbox_of(L);
    if (!self) return;
    uint64_t sum = self->steps + steps;
    self->steps = sum;
    if ((sum > self->ceiling || sum < steps) && self->running)
        weir_sandbox_exceed(L, WEIR_OVERRUN_INSTRUCTIONS);
}

/*  Called by the heap when memory has run out. An endless recursion is an ordinary
    error, whether Lua's own limit of the stack or this one comes first; while that
    error is on its way, what Lua cannot have to tidy up with it does without.  */
static void on_full(void *arg)
{
    weir_sandbox *self = arg;
    lua_Debug record;
    if (!self->L || self->deep) return;
    self->stale = 1;
    size_t depth = self->heap.limit / FRAME_SHARE;
    self->deep = self->overrun == WEIR_OVERRUN_NONE &&
                 lua_getstack(self->L, depth < INT_MAX ? (int)depth : INT_MAX, &record);
    if (self->deep)
        note_where(self);
    else
        flag_overrun(self, WEIR_OVERRUN_MEMORY);
}

/* --- Time -------------------------------------------------------------------------- */

static int64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/*  Without a timer the hook looks at the clock itself.                        */
static uint64_t untimed_steps(weir_sandbox *self)
{
    int64_t now_ns = cpu_ns();
    if (self->untimed_start_ns == 0) self->untimed_start_ns = now_ns;
    return (uint64_t)((now_ns - self->untimed_start_ns) / TICK_NS) * TICK_STEPS;
}

static void on_count(lua_State *L, lua_Debug *record)
{
    (void)record;
    weir_sandbox *self = weir_sandbox_of(L);
    uint64_t steps = self->untimed ? HOOK_STEPS_UNTIMED : HOOK_STEPS;
    if (!self->estimated && !self->untimed) steps += TICK_STEPS;
    self->estimated = true;
    weir_charge(L, steps);
    if (self->untimed && untimed_steps(self) > self->limit)
        weir_sandbox_exceed(L, WEIR_OVERRUN_INSTRUCTIONS);
}

/*  Setting the hook goes over all frames of the call, which in a deep recursion takes
    as long as a tick; but the interpreter may just have been about to forget it. So
    it is set anew each time the ticks have doubled.                           */
static void on_tick(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    weir_sandbox *self = info->si_value.sival_ptr;
    if (info->si_code != SI_TIMER || !self->running) return;
    if (self->tick_serial != self->running) {
        self->tick_serial = self->running;
        self->ticks = self->ticks_armed = 0;
        return;
    }
    self->ticks += 1 + (uint64_t)info->si_overrun;
    bool late = self->ceiling && self->ticks * TICK_STEPS > self->limit;
    if (late) self->ceiling = 0;
    if (!late && self->ticks < 2 * self->ticks_armed) return;
    self->ticks_armed = self->ticks;
    arm(self, self->ceiling ? HOOK_STEPS : 1);
}

static int tick_signal(void)
{
    return SIGRTMIN + 1;
}

static void install_handler(void)
{
    struct sigaction action = {.sa_sigaction = on_tick,
                               .sa_flags = SA_SIGINFO | SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(tick_signal(), &action, NULL);
}

/*  Numbers threads from 1, and never one twice, as the system does.           */
static uint64_t thread_number(void)
{
    static _Atomic uint64_t last;
    static __thread uint64_t number;
    if (number == 0) number = atomic_fetch_add(&last, 1) + 1;
    return number;
}

static void drop_timer(weir_sandbox *self)
{
    if (self->timer_thread) timer_delete(self->timer);
    self->timer_thread = 0;
}

/*  A timer on this thread's CPU clock that signals this thread.               */
static void make_timer(weir_sandbox *self)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    drop_timer(self);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID,
                             .sigev_signo = tick_signal(),
                             .sigev_value.sival_ptr = self};
    event.sigev_notify_thread_id = gettid();
    pthread_once(&once, install_handler);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, tick_signal());
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    self->untimed =
        NO_TIMER || timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &self->timer);
    if (!self->untimed) self->timer_thread = thread_number();
}

void weir_sandbox_start(weir_sandbox *self)
{
    static const struct itimerspec interval = {.it_interval.tv_nsec = TICK_NS,
                                               .it_value.tv_nsec = TICK_NS};
    self->started = true;
    if (!self->untimed && self->timer_thread != thread_number()) make_timer(self);
    if (!self->untimed) timer_settime(self->timer, 0, &interval, NULL);
}

void weir_sandbox_stop(weir_sandbox *self)
{
    static const struct itimerspec never = {0};
    if (self->started && self->timer_thread) timer_settime(self->timer, 0, &never, NULL);
    self->started = false;
}

/* --- Calls ------------------------------------------------------------------------- */

static void make_fresh(weir_sandbox *self)
{
    self->overrun = WEIR_OVERRUN_NONE;
    self->ceiling = self->limit;
    self->estimated = self->deep = self->heap.refused = false;
    self->untimed_start_ns = 0;
    self->stale = 0;
    if (self->untimed) arm(self, HOOK_STEPS_UNTIMED);
}

static void disarm(weir_sandbox *self)
{
    lua_sethook(self->L, NULL, 0, 0);
    self->armed = 0;
}

/*  Pushes the sentence of the overrun.                                        */
static void push_overrun(const weir_sandbox *self)
{
    if (self->overrun == WEIR_OVERRUN_MEMORY)
        lua_pushfstring(self->L, "%smemory limit of %I bytes exceeded", self->where,
                        (LUAI_UACINT)self->heap.limit);
    else if (self->overrun == WEIR_OVERRUN_INSTRUCTIONS)
        lua_pushfstring(self->L, "%sinstruction limit of %I exceeded", self->where,
                        (LUAI_UACINT)self->limit);
    else
        lua_pushfstring(self->L, "%soutput limit exceeded", self->where);
}

/*  Puts what the caller is to see in the place of the error on the top.       */
static void settle_error(lua_State *L)
{
    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
    case LUA_TTABLE:
        return;
    case LUA_TNUMBER:
        lua_tolstring(L, -1, NULL);
        return;
    default:
        lua_pushfstring(L, "error with a %s value", luaL_typename(L, -1));
        lua_replace(L, -2);
    }
}

/*  The status of a call that has not simply ended well. Apart, to keep the way of one
    that has short. A call may end well and yet have passed a limit with its last
    step; if the number of its results is open, they stay below the error.     */
__attribute__((noinline)) static int settle(weir_sandbox *self, int status, int results)
{
    lua_State *L = self->L;
    if (is_out_of_memory(self, status) && self->overrun == WEIR_OVERRUN_NONE) {
        if (self->deep) {
            settle_deep(self);
            return LUA_ERRRUN;
        }
        self->overrun = WEIR_OVERRUN_MEMORY;
    }
    self->stale = 1;
    if (self->overrun != WEIR_OVERRUN_NONE) {
        lua_pop(L, status != LUA_OK ? 1 : results == LUA_MULTRET ? 0 : results);
        push_overrun(self);
        return self->overrun == WEIR_OVERRUN_MEMORY ? LUA_ERRMEM : LUA_ERRRUN;
    }
    if (status != LUA_OK) settle_error(L);
    return status;
}

static int call_alone(weir_sandbox *self, int arguments, int results)
{
    weir_sandbox_start(self);
    int status = weir_sandbox_call(self, arguments, results);
    weir_sandbox_stop(self);
    return status;
}

int weir_sandbox_call(weir_sandbox *self, int arguments, int results)
{
    assert(!self->running);
    if (!self->started) return call_alone(self, arguments, results);
    if (self->stale) make_fresh(self);
    self->steps = 0;
    self->running = ++self->serial;
    int status = lua_pcall(self->L, arguments, results, 0);
    self->running = 0;
    if (self->armed) disarm(self);
    if (status == LUA_OK && !self->stale && !self->heap.refused) return LUA_OK;
    return settle(self, status, results);
}

/* --- Lifecycle --------------------------------------------------------------------- */

static int open_modules(lua_State *L)
{
    lua_pushliteral(L, "overrun");
    lua_rawsetp(L, LUA_REGISTRYINDEX, &overrun_key);
    for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
        if (modules[i].name) {
            luaL_requiref(L, modules[i].name, modules[i].open, 1);
        } else {
            lua_pushcfunction(L, modules[i].open);
            lua_call(L, 0, 0);
        }
        lua_settop(L, 0);
    }
    return 0;
}

/*  Makes the state. The memory limit holds, but no time is measured: the modules are
    ours.                                                                      */
static weir_err open_state(weir_sandbox *self, weir_report *report)
{
    int status = LUA_ERRMEM;
    self->running = ++self->serial;
    self->L = lua_newstate(weir_heap_alloc, &self->heap);
    if (self->L) {
        *(weir_sandbox **)lua_getextraspace(self->L) = self;
        lua_pushcfunction(self->L, open_modules);
        status = lua_pcall(self->L, 0, 0, 0);
    }
    self->running = 0;
    if (self->armed) disarm(self);
    if (status == LUA_ERRMEM)
        return weir_report_set(report, WEIR_EFULL, NULL,
                               "a memory limit of %zu bytes is too small for the "
                               "libraries of Lua",
                               self->heap.limit);
    if (status != LUA_OK)
        return weir_report_set(report, WEIR_EINVAL, NULL, "cannot open a module: %s",
                               lua_tostring(self->L, -1));
    return WEIR_OK;
}

weir_err weir_sandbox_new(weir_sandbox **self_p, const weir_sandbox_config *config,
                          weir_report *report)
{
    weir_sandbox *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->limit = config->instruction_limit;
    self->ceiling = self->limit;
    self->stale = 1;
    if (config->module_root) {
        self->module_root = strdup(config->module_root);
        if (!self->module_root) abort();
    }
    weir_heap_init(&self->heap, config->memory_limit, config->ledger);
    self->heap.enforced = &self->running;
    self->heap.full = on_full;
    self->heap.arg = self;
    weir_err err = open_state(self, report);
    if (err) weir_sandbox_destroy(&self);
    *self_p = self;
    return err;
}

void weir_sandbox_destroy(weir_sandbox **self_p)
{
    weir_sandbox *self = *self_p;
    if (!self) return;
    weir_sandbox_stop(self);
    drop_timer(self);
    if (self->L) lua_close(self->L);
    weir_heap_fini(&self->heap);
    free(self->module_root);
    free(self);
    *self_p = NULL;
}

lua_State *weir_sandbox_state(weir_sandbox *self)
{
    return self->L;
}

const char *weir_sandbox_module_root(const weir_sandbox *self)
{
    return self ? self->module_root : NULL;
}

weir_overrun weir_sandbox_overrun(const weir_sandbox *self)
{
    return self->overrun;
}

size_t weir_sandbox_memory(const weir_sandbox *self)
{
    return self->heap.used;
}
