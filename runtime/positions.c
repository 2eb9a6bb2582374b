#include "runtime/positions.h"
#include "runtime/files.h"
#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/*  The state file. Integers are little endian.

        page 0    header, then zeros
        page 1    copies A of slots 0..7
        page 2    copies B of slots 0..7
        page 3    copies A of slots 8..15, and so on

    header: +-----------+---------+-----------+------------------------+
            | weirpos\n | version | copy size | XXH3-64 of bytes 0..15 |
            +-----------+---------+-----------+------------------------+
            0           8         12          16                       24

    copy:   +----------+------------+-------+------------------+
            | checksum | generation | state | fingerprint size |
            +----------+------------+-------+------------------+
            0          8            16      20                 24
            +--------+-------+-------------+--------+-----------+------+-------+
            | device | inode | fingerprint | offset | name size | name | zeros |
            +--------+-------+-------------+--------+-----------+------+-------+
            24       32      40            48       56          57             512

    The checksum is XXH3-64, seeded with the slot, of all bytes behind it. A copy is
    a sector, and the copies of a slot lie in different pages: neither a torn sector
    nor a torn page can take both. Of two good copies the higher generation counts.
    A slot whose copies are both zero has never been used. weir_positions_add writes
    both, so two bad copies are damage unless one of them is zero (then adding the
    slot was interrupted, and it holds no position).                           */
enum {
    page_size = 4096,
    copy_size = 512,
    page_slots = page_size / copy_size,
    group_size = 2 * page_size,
    header_size = 24,
    name_at = 57,
    name_max = 255,
    fingerprint_max = 1024,
    slot_bits = 18,
    slots_max = 1 << slot_bits,
    incarnations = 1 << (31 - slot_bits),
    version = 1,
};

static const char magic[8] = {'w', 'e', 'i', 'r', 'p', 'o', 's', '\n'};

typedef enum {
    SLOT_FREE = 0,
    SLOT_USED = 1,
    SLOT_FORGOTTEN = 2,
} slot_state;

typedef struct {
    slot_state state;
    weir_file_id id;
    uint64_t offset;      // committed position
    uint64_t generation;  // of the newest copy; 0: none
    uint64_t read_to;     // where the last reader of this process left off
    char *name;           // owned; NULL while free
    unsigned incarnation; // part of the slot's number, so that old numbers end
    uint8_t newest;       // the copy that counts: 0 or 1
    bool claimed;         // someone in this process is reading it
    bool left;            // read_to counts
} slot;

struct weir_positions {
    int fd;         // open, locked; -1 in a half-built object
    slot *slots;    // as many as the file holds
    size_t count;   // a multiple of page_slots
    size_t damaged; // slots with two bad copies at open
    bool look;      // opened for reading alone
    bool unsynced;  // something was written since the last sync
    int broken;     // errno of a failed sync: what it covered may be lost
};

static uint32_t get_u32(const uint8_t *from)
{
    uint32_t value;
    memcpy(&value, from, sizeof value);
    return le32toh(value);
}

static uint64_t get_u64(const uint8_t *from)
{
    uint64_t value;
    memcpy(&value, from, sizeof value);
    return le64toh(value);
}

static void put_u32(uint8_t *to, uint32_t value)
{
    value = htole32(value);
    memcpy(to, &value, sizeof value);
}

static void put_u64(uint8_t *to, uint64_t value)
{
    value = htole64(value);
    memcpy(to, &value, sizeof value);
}

/* --- Files ------------------------------------------------------------------------- */

/*  Reads until size bytes are there or the file ends; -1: errno.              */
static ssize_t read_at(int fd, uint8_t *data, size_t size, uint64_t offset)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, data + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return -1;
        if (got == 0) break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static weir_err write_at(int fd, const uint8_t *data, size_t size, uint64_t offset)
{
    while (size > 0) {
        ssize_t done = pwrite(fd, data, size, (off_t)offset);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return WEIR_ESYS;
        data += done;
        size -= (size_t)done;
        offset += (uint64_t)done;
    }
    return WEIR_OK;
}

weir_err weir_file_identify(weir_file_id *id, int fd)
{
    struct stat info;
    uint8_t head[fingerprint_max];
    if (fstat(fd, &info) < 0) return WEIR_ESYS;
    ssize_t size = read_at(fd, head, sizeof head, 0);
    if (size < 0) return WEIR_ESYS;
    *id = (weir_file_id){.device = info.st_dev,
                         .inode = info.st_ino,
                         .fingerprint = XXH3_64bits(head, (size_t)size),
                         .fingerprint_size = (uint32_t)size};
    return WEIR_OK;
}

/* --- Copies ------------------------------------------------------------------------ */

static uint64_t copy_offset(size_t index, unsigned copy)
{
    return page_size + (uint64_t)(index / page_slots) * group_size +
           (uint64_t)copy * page_size + (index % page_slots) * copy_size;
}

static void encode_copy(uint8_t *copy, const slot *from, size_t index)
{
    size_t size = strlen(from->name);
    memset(copy, 0, copy_size);
    put_u64(copy + 8, from->generation);
    put_u32(copy + 16, from->state);
    put_u32(copy + 20, from->id.fingerprint_size);
    put_u64(copy + 24, from->id.device);
    put_u64(copy + 32, from->id.inode);
    put_u64(copy + 40, from->id.fingerprint);
    put_u64(copy + 48, from->offset);
    copy[56] = (uint8_t)size;
    memcpy(copy + name_at, from->name, size);
    put_u64(copy, XXH3_64bits_withSeed(copy + 8, copy_size - 8, index));
}

static bool is_good(const uint8_t *copy, size_t index)
{
    if (get_u64(copy) != XXH3_64bits_withSeed(copy + 8, copy_size - 8, index))
        return false;
    uint32_t state = get_u32(copy + 16);
    return (state == SLOT_USED || state == SLOT_FORGOTTEN) && get_u64(copy + 8) > 0 &&
           get_u32(copy + 20) <= fingerprint_max;
}

static bool is_zero(const uint8_t *copy)
{
    return copy[0] == 0 && !memcmp(copy, copy + 1, copy_size - 1);
}

static void decode_copy(slot *into, const uint8_t *copy)
{
    into->state = (slot_state)get_u32(copy + 16);
    into->generation = get_u64(copy + 8);
    into->id = (weir_file_id){.device = get_u64(copy + 24),
                              .inode = get_u64(copy + 32),
                              .fingerprint = get_u64(copy + 40),
                              .fingerprint_size = get_u32(copy + 20)};
    into->offset = get_u64(copy + 48);
    into->name = strndup((const char *)copy + name_at, copy[56]);
    if (!into->name) abort();
}

/*  Takes what the two copies hold. False: both are bad, and neither is zero.  */
static bool decode_slot(slot *into, const uint8_t *a, const uint8_t *b, size_t index)
{
    bool good_a = is_good(a, index), good_b = is_good(b, index);
    if (!good_a && !good_b) return is_zero(a) || is_zero(b);
    into->newest = good_b && (!good_a || get_u64(b + 8) > get_u64(a + 8));
    decode_copy(into, into->newest ? b : a);
    return true;
}

/*  Writes the slot over its older copy. The slot changes only if that succeeds. */
static weir_err write_slot(weir_positions *self, size_t index, const slot *changed)
{
    uint8_t copy[copy_size];
    slot next = *changed;
    next.generation++;
    next.newest = !changed->newest;
    encode_copy(copy, &next, index);
    weir_err err = write_at(self->fd, copy, copy_size, copy_offset(index, next.newest));
    if (err) return err;
    self->unsynced = true;
    self->slots[index] = next;
    return WEIR_OK;
}

/* --- Opening ----------------------------------------------------------------------- */

static void encode_header(uint8_t *page)
{
    memset(page, 0, page_size);
    memcpy(page, magic, sizeof magic);
    put_u32(page + 8, version);
    put_u32(page + 12, copy_size);
    put_u64(page + 16, XXH3_64bits(page, 16));
}

/*  True for what an interrupted creation leaves behind: a page at most, of zeros or
    of the header's first bytes. A part of the magic number alone is not ours to
    write over.                                                                */
static bool is_unborn(const uint8_t *page, size_t size, uint64_t file_size)
{
    uint8_t header[page_size], zeros[page_size] = {0};
    if (file_size > page_size) return false;
    encode_header(header);
    size_t same = 0;
    while (same < size && page[same] == header[same])
        same++;
    if (same == page_size) return false;
    if (same < sizeof magic) same = 0;
    return !memcmp(page + same, zeros, size - same);
}

static weir_err fail(weir_report *report, const char *path, const char *what)
{
    return weir_report_set(report, WEIR_ESYS, path, "cannot %s the state file: %s", what,
                           strerror(errno));
}

static weir_err create(weir_positions *self, const char *path, weir_report *report)
{
    uint8_t page[page_size];
    encode_header(page);
    weir_err err = write_at(self->fd, page, page_size, 0);
    if (!err && fsync(self->fd) < 0) err = WEIR_ESYS;
    if (!err) err = weir_sync_folder(path);
    return err ? fail(report, path, "create") : WEIR_OK;
}

static weir_err check_header(const uint8_t *page, size_t size, const char *path,
                             weir_report *report)
{
    static const char *const advice =
        "move it away, and every file is read from its start";
    if (size < sizeof magic || memcmp(page, magic, sizeof magic))
        return weir_report_set(
            report, WEIR_EMALFORMED, path,
            "this is no state file of Weir and was left untouched; name "
            "another path or move it away");
    if (size >= header_size && get_u32(page + 8) != version)
        return weir_report_set(
            report, WEIR_EMALFORMED, path,
            "the state file has version %u, this program reads version "
            "%d; run the program that wrote it, or %s",
            get_u32(page + 8), version, advice);
    if (size < page_size || get_u32(page + 12) != copy_size ||
        get_u64(page + 16) != XXH3_64bits(page, 16))
        return weir_report_set(report, WEIR_EMALFORMED, path,
                               "the header of the state file is damaged; put a backup in "
                               "its place, or %s",
                               advice);
    return WEIR_OK;
}

static void add_group(weir_positions *self)
{
    size_t count = self->count + page_slots;
    self->slots = realloc(self->slots, count * sizeof *self->slots);
    if (!self->slots) abort();
    memset(self->slots + self->count, 0, page_slots * sizeof *self->slots);
    self->count = count;
}

/*  A last group that is cut short was being added: what is missing is zero.   */
static weir_err read_slots(weir_positions *self, uint64_t file_size, const char *path,
                           weir_report *report)
{
    uint8_t group[group_size];
    for (uint64_t at = page_size; at < file_size; at += group_size) {
        memset(group, 0, sizeof group);
        if (read_at(self->fd, group, sizeof group, at) < 0)
            return fail(report, path, "read");
        add_group(self);
        for (size_t i = 0; i < page_slots; i++) {
            const uint8_t *a = group + i * copy_size;
            size_t index = self->count - page_slots + i;
            if (!decode_slot(&self->slots[index], a, a + page_size, index))
                self->damaged++;
        }
    }
    return WEIR_OK;
}

static weir_err load(weir_positions *self, const char *path, weir_report *report)
{
    uint8_t page[page_size] = {0};
    struct stat info;
    if (fstat(self->fd, &info) < 0) return fail(report, path, "read");
    if (!S_ISREG(info.st_mode)) return check_header(page, 0, path, report);
    ssize_t size = read_at(self->fd, page, page_size, 0);
    if (size < 0) return fail(report, path, "read");
    uint64_t file_size = (uint64_t)info.st_size;
    if (is_unborn(page, (size_t)size, file_size))
        return self->look ? WEIR_OK : create(self, path, report);
    weir_err err = check_header(page, (size_t)size, path, report);
    if (err) return err;
    if (file_size > page_size + (uint64_t)(slots_max / page_slots) * group_size)
        return weir_report_set(report, WEIR_EMALFORMED, path,
                               "the state file is larger than %d slots; move it away",
                               slots_max);
    err = read_slots(self, file_size, path, report);
    if (!err && self->damaged > 0)
        weir_report_set(report, WEIR_EMALFORMED, path,
                        "the state file is damaged: %zu positions are lost; their files "
                        "are read from the start",
                        self->damaged);
    return err;
}

static weir_err lock(weir_positions *self, const char *path, weir_report *report)
{
    struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(self->fd, F_OFD_SETLK, &whole) == 0) return WEIR_OK;
    if (errno != EAGAIN && errno != EACCES) return fail(report, path, "lock");
    return weir_report_set(
        report, WEIR_EREFUSED, path,
        "the state file is in use: end the other program that runs this "
        "topology, or give this one a state folder of its own");
}

static weir_err open_state(weir_positions **self_p, const char *path, bool look,
                           weir_report *report)
{
    *self_p = NULL;
    int flags = look ? O_RDONLY : O_RDWR | O_CREAT;
    int fd = open(path, flags | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0) return fail(report, path, "open");
    weir_positions *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->fd = fd;
    self->look = look;
    weir_err err = look ? WEIR_OK : lock(self, path, report);
    if (!err) err = load(self, path, report);
    if (err) {
        int saved = errno;
        weir_positions_close(&self);
        errno = saved;
    }
    *self_p = self;
    return err;
}

weir_err weir_positions_open(weir_positions **self_p, const char *path,
                             weir_report *report)
{
    return open_state(self_p, path, false, report);
}

weir_err weir_positions_read(weir_positions **self_p, const char *path,
                             weir_report *report)
{
    return open_state(self_p, path, true, report);
}

void weir_positions_close(weir_positions **self_p)
{
    weir_positions *self = *self_p;
    if (!self) return;
    weir_positions_sync(self);
    close(self->fd);
    for (size_t i = 0; i < self->count; i++)
        free(self->slots[i].name);
    free(self->slots);
    free(self);
    *self_p = NULL;
}

/* --- Slots ------------------------------------------------------------------------- */

static int slot_number(const weir_positions *self, size_t index)
{
    return (int)(index | (size_t)self->slots[index].incarnation << slot_bits);
}

/*  The slot of a number; NULL once it is used for another file or forgotten.  */
static slot *slot_of(const weir_positions *self, int number)
{
    if (number < 0) return NULL;
    size_t index = (size_t)number & (slots_max - 1);
    if (index >= self->count) return NULL;
    slot *found = &self->slots[index];
    bool same = found->incarnation == (unsigned)number >> slot_bits;
    return same && found->state == SLOT_USED ? found : NULL;
}

static bool is_inode(const slot *known, const weir_file_id *id)
{
    return known->state == SLOT_USED && known->id.device == id->device &&
           known->id.inode == id->inode;
}

static bool is_file(const slot *known, int fd, const weir_file_id *id)
{
    uint8_t head[fingerprint_max];
    size_t size = known->id.fingerprint_size;
    if (size == id->fingerprint_size) return known->id.fingerprint == id->fingerprint;
    if (size > id->fingerprint_size) return false;
    if (read_at(fd, head, size, 0) != (ssize_t)size) return false;
    return XXH3_64bits(head, size) == known->id.fingerprint;
}

int weir_positions_find(weir_positions *self, int fd, const weir_file_id *id,
                        uint64_t *offset)
{
    for (size_t i = 0; i < self->count; i++) {
        const slot *known = &self->slots[i];
        if (!is_inode(known, id) || !is_file(known, fd, id)) continue;
        *offset = known->left && known->read_to > known->offset ? known->read_to
                                                                : known->offset;
        return slot_number(self, i);
    }
    return -1;
}

/*  The slot of the same inode, else an unused one, else a new one.            */
static weir_err choose_slot(weir_positions *self, const weir_file_id *id, size_t *index)
{
    size_t unused = self->count;
    for (*index = 0; *index < self->count; ++*index) {
        if (is_inode(&self->slots[*index], id)) return WEIR_OK;
        if (unused == self->count && self->slots[*index].state != SLOT_USED)
            unused = *index;
    }
    *index = unused;
    if (unused < self->count) return WEIR_OK;
    if (self->count >= slots_max) return WEIR_EFULL;
    static const uint8_t zeros[group_size];
    weir_err err = write_at(self->fd, zeros, group_size, copy_offset(unused, 0));
    if (!err) add_group(self);
    return err;
}

weir_err weir_positions_add(weir_positions *self, const weir_file_id *id,
                            const char *name, uint64_t offset, int *number)
{
    size_t index;
    weir_err err = choose_slot(self, id, &index);
    if (err) return err;
    slot *old = &self->slots[index];
    char *old_name = old->name;
    slot made = {.state = SLOT_USED,
                 .id = *id,
                 .offset = offset,
                 .generation = old->generation,
                 .newest = old->newest,
                 .incarnation = (old->incarnation + 1) % incarnations,
                 .name = strndup(name, name_max)};
    if (!made.name) abort();
    err = write_slot(self, index, &made);
    if (err) {
        free(made.name);
        return err;
    }
    free(old_name);
    *number = slot_number(self, index);
    return write_slot(self, index, &self->slots[index]);
}

weir_err weir_positions_commit(weir_positions *self, int number, uint64_t offset)
{
    slot *known = slot_of(self, number);
    if (!known) return WEIR_ENOTFOUND;
    if (known->offset == offset) return WEIR_OK;
    slot changed = *known;
    changed.offset = offset;
    return write_slot(self, (size_t)(known - self->slots), &changed);
}

weir_err weir_positions_forget(weir_positions *self, int number)
{
    slot *known = slot_of(self, number);
    if (!known) return WEIR_ENOTFOUND;
    slot changed = *known;
    changed.state = SLOT_FORGOTTEN;
    changed.claimed = changed.left = false;
    return write_slot(self, (size_t)(known - self->slots), &changed);
}

weir_err weir_positions_refresh(weir_positions *self, int number, int fd)
{
    slot *known = slot_of(self, number);
    if (!known) return WEIR_ENOTFOUND;
    uint8_t head[fingerprint_max];
    ssize_t size = read_at(fd, head, sizeof head, 0);
    if (size < 0) return WEIR_ESYS;
    size_t old_size = known->id.fingerprint_size;
    if ((size_t)size < old_size || XXH3_64bits(head, old_size) != known->id.fingerprint)
        return WEIR_EMALFORMED;
    if ((size_t)size == old_size) return WEIR_OK;
    slot changed = *known;
    changed.id.fingerprint = XXH3_64bits(head, (size_t)size);
    changed.id.fingerprint_size = (uint32_t)size;
    return write_slot(self, (size_t)(known - self->slots), &changed);
}

bool weir_positions_claim(weir_positions *self, int number)
{
    slot *known = slot_of(self, number);
    if (!known || known->claimed) return false;
    known->claimed = true;
    return true;
}

void weir_positions_release(weir_positions *self, int number, const uint64_t *read_to)
{
    slot *known = slot_of(self, number);
    if (!known) return;
    known->claimed = false;
    known->left = read_to != NULL;
    if (read_to) known->read_to = *read_to;
}

bool weir_positions_knows(const weir_positions *self, const char *name)
{
    for (size_t i = 0; i < self->count; i++)
        if (self->slots[i].name && !strncmp(self->slots[i].name, name, name_max))
            return true;
    return false;
}

size_t weir_positions_damaged(const weir_positions *self)
{
    return self->damaged;
}

weir_err weir_positions_sync(weir_positions *self)
{
    if (!self->broken && self->unsynced && fdatasync(self->fd) < 0) self->broken = errno;
    if (self->broken) {
        errno = self->broken;
        return WEIR_ESYS;
    }
    self->unsynced = false;
    return WEIR_OK;
}

bool weir_positions_next(weir_positions *self, int *cursor, weir_file_id *id,
                         const char **name, uint64_t *offset)
{
    assert(*cursor >= 0);
    while ((size_t)*cursor < self->count) {
        const slot *known = &self->slots[(*cursor)++];
        if (known->state != SLOT_USED) continue;
        *id = known->id;
        *name = known->name;
        *offset = known->offset;
        return true;
    }
    return false;
}
