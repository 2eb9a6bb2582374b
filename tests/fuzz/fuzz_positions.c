/*  positions: a state file of any bytes is refused and left as it is, or opens and
    works; a good one with flipped bytes never yields a position that was not
    committed.                                                                 */
#include "runtime/positions.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { slots = 3, step = 1000, page_size = 4096 };

static char path[64];

static void require(bool holds)
{
    if (!holds) abort();
}

static void remove_file(void)
{
    unlink(path);
}

static void choose_path(void)
{
    if (path[0]) return;
    const char *root = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, sizeof path, "%s/fuzz_positions.%d", root, (int)getpid());
    atexit(remove_file);
}

static void write_bytes(const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    require(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static size_t read_bytes(uint8_t *data, size_t size)
{
    int fd = open(path, O_RDONLY);
    require(fd >= 0);
    ssize_t got = read(fd, data, size);
    require(got >= 0);
    close(fd);
    return (size_t)got;
}

static size_t count_slots(weir_positions *positions)
{
    weir_file_id id;
    const char *name;
    uint64_t offset;
    size_t count = 0;
    for (int cursor = 0; weir_positions_next(positions, &cursor, &id, &name, &offset);)
        count++;
    return count;
}

static void try_bytes(const uint8_t *data, size_t size)
{
    weir_positions *positions;
    weir_report report = {0};
    write_bytes(data, size);
    weir_err err = weir_positions_open(&positions, path, &report);
    if (err) {
        uint8_t *seen = malloc(size + 1);
        require(!positions && report.text[0]);
        require(read_bytes(seen, size + 1) == size && !memcmp(seen, data, size));
        free(seen);
        return;
    }
    size_t before = count_slots(positions);
    weir_file_id id = {.device = 77, .inode = 78, .fingerprint = 79};
    int slot;
    require(weir_positions_add(positions, &id, "x", 1, &slot) == WEIR_OK);
    require(weir_positions_commit(positions, slot, 2) == WEIR_OK);
    size_t behind = count_slots(positions);
    require(behind == before + 1 || behind == before);
    weir_positions_close(&positions);
    require(weir_positions_open(&positions, path, NULL) == WEIR_OK);
    uint64_t offset;
    require(weir_positions_find(positions, -1, &id, &offset) >= 0 && offset == 2);
    require(count_slots(positions) == behind);
    weir_positions_close(&positions);
}

/*  The same bytes where the slots should be, behind a header that is right.   */
static void try_slots(const uint8_t *data, size_t size)
{
    weir_positions *positions;
    unlink(path);
    require(weir_positions_open(&positions, path, NULL) == WEIR_OK);
    weir_positions_close(&positions);
    uint8_t *bytes = malloc(page_size + size);
    require(read_bytes(bytes, page_size) == page_size);
    memcpy(bytes + page_size, data, size);
    try_bytes(bytes, page_size + size);
    free(bytes);
}

/*  Each byte of the plan commits one of the slots a step further.             */
static void build(const uint8_t *plan, size_t size, uint64_t *last)
{
    weir_positions *positions;
    int numbers[slots];
    unlink(path);
    require(weir_positions_open(&positions, path, NULL) == WEIR_OK);
    for (unsigned i = 0; i < slots; i++) {
        weir_file_id id = {.device = 1, .inode = i};
        last[i] = i * step;
        require(weir_positions_add(positions, &id, "log", last[i], &numbers[i]) ==
                WEIR_OK);
    }
    for (size_t i = 0; i < size; i++) {
        unsigned slot = plan[i] % slots;
        require(weir_positions_commit(positions, numbers[slot], ++last[slot]) == WEIR_OK);
    }
    weir_positions_close(&positions);
}

static void try_flips(const uint8_t *data, size_t size)
{
    uint64_t last[slots];
    uint8_t bytes[12288];
    size_t plan = size < 20 ? size : 20;
    build(data, plan, last);
    size_t whole = read_bytes(bytes, sizeof bytes);
    require(whole == sizeof bytes);
    for (data += plan, size -= plan; size >= 3; data += 3, size -= 3)
        bytes[((unsigned)data[0] << 8 | data[1]) % sizeof bytes] ^= data[2];
    write_bytes(bytes, whole);
    weir_positions *positions;
    if (weir_positions_open(&positions, path, NULL)) return;
    weir_file_id id;
    const char *name;
    uint64_t offset;
    for (int cursor = 0; weir_positions_next(positions, &cursor, &id, &name, &offset);) {
        require(id.device == 1 && id.inode < slots && !strcmp(name, "log"));
        require(offset >= id.inode * step && offset <= last[id.inode]);
        require(offset + 1 >= last[id.inode]);
    }
    weir_positions_close(&positions);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    choose_path();
    if (data[0] % 2)
        try_flips(data + 1, size - 1);
    else if (data[0] % 4)
        try_slots(data + 1, size - 1);
    else
        try_bytes(data + 1, size - 1);
    return 0;
}
