/*  help_damage: what tests share that change one byte of a file of LMDB's and use it in a
    child process: what becomes of that, and where the bytes are.

    Include it in one test program each; everything is static.                      */
#pragma once
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "runtime/files.h"

/* --- What becomes of it ------------------------------------------------------------ */

typedef enum {
    ALL_THERE, // and nothing was told
    TOLD,      // what is missing is a gap or an error that says why
    REFUSED,   // the start failed with a sentence
    KILLED,    // by a signal, after a sentence
    CRASHED,   // by a signal, without a word
    HUNG,      // no end
    SILENT,    // something else was read than was written, and nobody said so
    verdicts,
} verdict;

static const char *const verdict_names[verdicts] = {
    "all there", "told", "refused", "killed", "crashed", "no end", "silent"};

static char reason[256]; // of the last verdict

static inline verdict worse(verdict a, verdict b)
{
    return a > b ? a : b;
}

/*  An error that has a text is told.                                               */
static inline verdict fault(const char *text)
{
    snprintf(reason, sizeof reason, "%.255s", text);
    return text[0] ? TOLD : SILENT;
}

/* --- Chance ------------------------------------------------------------------------ */

static unsigned seed;

static inline uint32_t draw(uint32_t below)
{
    return (uint32_t)rand_r(&seed) % below;
}

static inline void read_seed(void)
{
    const char *text = getenv("WEIR_SEED");
    seed = text ? (unsigned)strtoul(text, NULL, 10) : 1;
    printf("WEIR_SEED=%u\n", seed);
}

/* --- The file ---------------------------------------------------------------------- */

enum { page_bytes = 4096 };

static char whole_path[128], *whole;
static size_t whole_size, used_size;
static uint32_t *tree_pages; // all but the inner ones of large values
static size_t tree_count;

/*  Keeps it as it is; `used` bytes of it are pages. A large value's pages have one
    header: flags at 10, their number at 12.                                        */
static inline void read_whole(const char *path, size_t used)
{
    enum { overflow = 4 };
    unsigned mode;
    snprintf(whole_path, sizeof whole_path, "%s", path);
    assert_int_equal(weir_read_file(path, 1 << 28, &whole, &whole_size, &mode), WEIR_OK);
    used_size = used;
    tree_pages = calloc(used / page_bytes + 1, sizeof *tree_pages);
    tree_count = 0;
    for (size_t i = 0; i < used / page_bytes;) {
        uint16_t flags;
        uint32_t pages = 1;
        memcpy(&flags, whole + i * page_bytes + 10, 2);
        if (flags & overflow) memcpy(&pages, whole + i * page_bytes + 12, 4);
        tree_pages[tree_count++] = (uint32_t)i;
        i += pages;
    }
}

static inline void forget_whole(void)
{
    free(whole);
    free(tree_pages);
}

static inline void write_changed(size_t at, uint8_t with)
{
    int fd = open(whole_path, O_WRONLY | O_TRUNC);
    whole[at] = (char)(whole[at] ^ with);
    assert_int_equal(write(fd, whole, whole_size), whole_size);
    whole[at] = (char)(whole[at] ^ with);
    close(fd);
}

/*  In turn anywhere, in a page of the tree, near its beginning, where its header and the
    places of its nodes are, and in LMDB's two first pages.                         */
static inline size_t draw_place(unsigned round)
{
    if (round % 4 == 0) return draw((uint32_t)used_size);
    if (round % 4 == 3) return draw(2) * page_bytes + draw(160);
    size_t page = (size_t)tree_pages[draw((uint32_t)tree_count)] * page_bytes;
    return page + draw(round % 4 == 1 ? page_bytes : 64);
}

/* --- Using it ---------------------------------------------------------------------- */

/*  cmocka would catch signals; the alarm's is HUNG.                                */
static inline void be_plain(void)
{
    static const int signals[] = {SIGBUS, SIGSEGV, SIGABRT, SIGFPE, SIGILL};
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        signal(signals[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    alarm(20);
}

static inline verdict judge(int status, const char *said)
{
    if (WIFEXITED(status)) return (verdict)WEXITSTATUS(status);
    if (WTERMSIG(status) == SIGALRM) return HUNG;
    return strstr(said, "weir bus verify") ? KILLED : CRASHED;
}

/*  In a process of its own, which tells its reason and may crash.                  */
static inline verdict use_in_child(verdict (*use)(void))
{
    int ends[2], status;
    static char said[8192];
    assert_int_equal(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (!child) {
        be_plain();
        dup2(ends[1], STDERR_FILENO);
        reason[0] = 0;
        verdict is = use();
        dprintf(ends[1], "%s", reason);
        _exit((int)is);
    }
    close(ends[1]);
    size_t size = 0;
    for (ssize_t n; (n = read(ends[0], said + size, sizeof said - 1 - size)) > 0;)
        size += (size_t)n;
    said[size] = 0;
    close(ends[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    snprintf(reason, sizeof reason, "%.255s", said + (size > 255 ? size - 255 : 0));
    return judge(status, said);
}

/*  So many times a changed byte: none may crash, have no end, or be silent. WEIR_VERBOSE
    tells what became of each.                                                      */
static inline void change_bytes(unsigned rounds, verdict (*use)(void))
{
    unsigned counts[verdicts] = {0};
    const char *text = getenv("WEIR_ROUNDS");
    if (text) rounds = (unsigned)atoi(text);
    write_changed(0, 0);
    assert_int_equal(use_in_child(use), ALL_THERE);
    for (unsigned i = 0; i < rounds; i++) {
        size_t at = draw_place(i);
        uint8_t with = (uint8_t)(1 + draw(255));
        write_changed(at, with);
        verdict is = use_in_child(use);
        counts[is]++;
        if (is > REFUSED || getenv("WEIR_VERBOSE"))
            printf("byte %zu (page %zu, %zu) ^ %u: %s: %s\n", at, at / page_bytes,
                   at % page_bytes, with, verdict_names[is], reason);
    }
    for (int i = 0; i < verdicts; i++)
        printf("%s%s %u", i ? ", " : "", verdict_names[i], counts[i]);
    printf("\n");
    assert_int_equal(counts[KILLED] + counts[CRASHED] + counts[HUNG] + counts[SILENT], 0);
}
