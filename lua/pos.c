/*  pos: `weir pos`: how far files are read, by the positions in a state folder, and how
    far groups have read buses, by asking a running weir.                      */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include "lua/ctl.h"
#include "lua/pos_groups.h"
#include "lua/remote.h"
#include "lua/state.h"
#include "runtime/nearest.h"
#include "runtime/positions.h"

const weir_flag weir_pos_ls_flags[] = {
    {"--json", NULL, "as JSON"},
    WEIR_SET_FLAG,
    {"--timeout", "TIME", "how long to wait for a running weir; 3s unless told"},
    {NULL, NULL, NULL},
};

const weir_flag weir_pos_flags[] = {
    {"--to", "POSITION",
     "of a group: start, end, a time (2027-01-31T12:00:00Z, or 10m ago), a cursor"},
    {"--node", "NODE", "of a file: the source.file, when there are several"},
    WEIR_SET_FLAG,
    {"--timeout", "TIME", "how long to wait for a running weir; 3s unless told"},
    {NULL, NULL, NULL},
};

const weir_flag weir_pos_rm_flags[] = {
    {"--node", "NODE", "of a file: the source.file, when there are several"},
    WEIR_SET_FLAG,
    {"--timeout", "TIME", "how long to wait for a running weir; 3s unless told"},
    {NULL, NULL, NULL},
};

static const char suffix[] = ".positions";

static int fail(const weir_report *report)
{
    return weir_remote_print(report);
}

/* --- Files of positions ------------------------------------------------------------ */

/*  The nodes that have one, sorted; to be freed by weir_remote_free_names.    */
static void find_nodes(const char *folder, weir_texts *nodes)
{
    DIR *list = opendir(folder);
    for (struct dirent *entry; list && (entry = readdir(list));) {
        char *end = strrchr(entry->d_name, '.');
        if (!end || end == entry->d_name || strcmp(end, suffix)) continue;
        *end = 0;
        weir_texts_add(nodes, entry->d_name);
    }
    if (list) closedir(list);
}

static weir_err no_positions(const char *folder, weir_report *report)
{
    return weir_report_set(report, WEIR_ENOTFOUND, folder,
                           "there are no positions: no source.file has run with this "
                           "state folder");
}

static void path_of(char path[PATH_MAX + 80], const char *folder, const char *node)
{
    snprintf(path, PATH_MAX + 80, "%s/%s%s", folder, node, suffix);
}

/* --- ls ---------------------------------------------------------------------------- */

/*  -1: the path is that of another file by now, or of none.                   */
static int64_t size_of(const char *name, const weir_file_id *id)
{
    struct stat st;
    if (stat(name, &st) || st.st_dev != id->device || st.st_ino != id->inode) return -1;
    return (int64_t)st.st_size;
}

static void print_position(const char *node, const char *name, uint64_t offset,
                           int64_t size)
{
    printf("%-20s %14" PRIu64, node, offset);
    if (size >= 0)
        printf(" of %-14" PRId64 " %s\n", size, name);
    else
        printf(" %-17s %s\n", "(moved or gone)", name);
}

static void print_json(const char *node, const char *name, uint64_t offset, int64_t size,
                       bool first)
{
    weir_buffer out = {0};
    weir_buffer_put_text(&out, first ? "{" : ",{");
    weir_json_put_member(&out, "node", node);
    weir_json_put_member(&out, "file", name);
    weir_buffer_printf(&out, ",\"offset\":%" PRIu64, offset);
    if (size >= 0) weir_buffer_printf(&out, ",\"size\":%" PRId64, size);
    weir_buffer_put_byte(&out, '}');
    fwrite(out.data, 1, out.size, stdout);
    weir_buffer_fini(&out);
}

static weir_err list_node(const char *folder, const char *node, bool json, bool *first,
                          weir_report *report)
{
    char path[PATH_MAX + 80];
    weir_positions *positions;
    weir_file_id id;
    const char *name;
    uint64_t offset;
    path_of(path, folder, node);
    weir_err err = weir_positions_read(&positions, path, report);
    if (err) return err;
    for (int slot = 0; weir_positions_next(positions, &slot, &id, &name, &offset);) {
        int64_t size = size_of(name, &id);
        if (json)
            print_json(node, name, offset, size, *first);
        else
            print_position(node, name, offset, size);
        *first = false;
    }
    weir_positions_close(&positions);
    return WEIR_OK;
}

/*  Of a weir that was named by its name, since only such a one is asked.      */
static weir_err list_groups(const weir_command_line *line, bool json, bool *first,
                            weir_report *report)
{
    weir_remote *remote = NULL;
    weir_target target;
    const char *operand = weir_line_operand(line, 0);
    if (weir_state_is_file(operand)) return WEIR_OK;
    weir_err err = weir_remote_open(&remote, line, operand, &target, report);
    if (!err) err = weir_pos_groups_list(remote, json, first, report);
    weir_remote_close(&remote);
    return err;
}

int weir_cmd_pos_ls(const weir_command_line *line)
{
    char folder[PATH_MAX];
    weir_texts nodes = {0};
    weir_report report = {0};
    weir_err err = WEIR_OK;
    bool json = weir_line_flag(line, "--json"), first = true;
    if (!weir_state_find(line, weir_line_operand(line, 0), folder))
        return WEIR_EXIT_CHECK;
    find_nodes(folder, &nodes);
    if (json) printf("[");
    for (size_t i = 0; i < nodes.count && !err; i++)
        err = list_node(folder, nodes.items[i], json, &first, &report);
    if (!err) err = list_groups(line, json, &first, &report);
    if (json) printf("]\n");
    if (!err && nodes.count == 0 && first && !json) err = no_positions(folder, &report);
    weir_remote_free_names(&nodes);
    return err ? fail(&report) : WEIR_EXIT_OK;
}

/* --- set and rm -------------------------------------------------------------------- */

typedef struct {
    char folder[PATH_MAX];
    const char *file;
    int lock_fd;
    char node[64];
    weir_positions *positions;
    int slot; // of the file; -1: it has none
    uint64_t offset;
} change;

/*  Also while its sources do not run, as between two attempts to start, a weir owns its
    state folder.                                                              */
static weir_err lock_folder(change *self, weir_report *report)
{
    char path[PATH_MAX + 80];
    snprintf(path, sizeof path, "%s/lock", self->folder);
    self->lock_fd = open(path, O_RDWR | O_CLOEXEC);
    if (self->lock_fd < 0) return WEIR_OK;
    if (flock(self->lock_fd, LOCK_EX | LOCK_NB) == 0) return WEIR_OK;
    return weir_report_set(report, WEIR_EREFUSED, self->folder,
                           "a weir runs with this state folder: stop it first, then "
                           "change its positions");
}

static weir_err choose_node(change *self, const char *wanted, weir_report *report)
{
    char list[200];
    weir_texts nodes = {0};
    find_nodes(self->folder, &nodes);
    const char *const *names = (const char *const *)nodes.items;
    weir_err err = WEIR_OK;
    size_t i = 0;
    while (wanted && i < nodes.count && strcmp(nodes.items[i], wanted))
        i++;
    weir_remote_list_names(list, sizeof list, names, nodes.count);
    if (nodes.count == 0)
        err = no_positions(self->folder, report);
    else if (i == nodes.count)
        err = weir_report_set(report, WEIR_ENOTFOUND, "--node",
                              "no source.file '%s' has positions here; these have: %s",
                              wanted, list);
    else if (!wanted && nodes.count > 1)
        err = weir_report_set(report, WEIR_EINVAL, "--node",
                              "say which source.file is meant: %s", list);
    else
        snprintf(self->node, sizeof self->node, "%s", nodes.items[i]);
    weir_remote_free_names(&nodes);
    return err;
}

/*  By the file's identity where it is there, else by the name that it had.    */
static void find_slot(change *self)
{
    weir_file_id id;
    const char *name;
    int fd = open(self->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    self->slot = -1;
    if (fd >= 0 && weir_file_identify(&id, fd) == WEIR_OK)
        self->slot = weir_positions_find(self->positions, fd, &id, &self->offset);
    if (fd >= 0) close(fd);
    for (int i = 0; self->slot < 0 && fd < 0 &&
                    weir_positions_next(self->positions, &i, &id, &name, &self->offset);)
        if (strcmp(name, self->file) == 0) self->slot = i - 1;
}

static weir_err begin(change *self, const weir_command_line *line, weir_report *report)
{
    char path[PATH_MAX + 80];
    self->file = weir_line_operand(line, 1);
    self->lock_fd = -1;
    weir_err err = lock_folder(self, report);
    if (!err) err = choose_node(self, weir_line_flag(line, "--node"), report);
    if (err) return err;
    path_of(path, self->folder, self->node);
    err = weir_positions_open(&self->positions, path, report);
    if (!err) find_slot(self);
    return err;
}

static int end(change *self, weir_err err, weir_report *report)
{
    if (self->positions && weir_positions_sync(self->positions) && !err)
        err = weir_report_set(report, WEIR_ESYS, self->folder, "cannot write: %s",
                              strerror(errno));
    weir_positions_close(&self->positions);
    if (self->lock_fd >= 0) close(self->lock_fd);
    return err ? fail(report) : WEIR_EXIT_OK;
}

/*  A number of bytes, or start, or end. The file's own end bounds it.         */
static weir_err read_offset(const char *text, int64_t size, uint64_t *offset,
                            weir_report *report)
{
    char *behind;
    *offset = strtoull(text, &behind, 10);
    if (strcmp(text, "start") == 0) return *offset = 0, WEIR_OK;
    if (strcmp(text, "end") == 0) return *offset = (uint64_t)size, WEIR_OK;
    if (*behind || *text < '0' || *text > '9')
        return weir_report_set(report, WEIR_EINVAL, "OFFSET",
                               "'%s' is none: expected bytes, start or end", text);
    if (*offset <= (uint64_t)size) return WEIR_OK;
    return weir_report_set(report, WEIR_EINVAL, "OFFSET",
                           "the file has only %" PRId64 " bytes", size);
}

/*  It may be meant, with another framing than lines.                          */
static void warn_of_half_line(int fd, uint64_t offset)
{
    char before;
    if (offset > 0 && pread(fd, &before, 1, (off_t)offset - 1) == 1 && before != '\n')
        fprintf(stderr,
                "weir: the byte before %" PRIu64 " ends no line: the first record "
                "will be the rest of one\n",
                offset);
}

static weir_err set_position(change *self, const char *text, weir_report *report)
{
    struct stat st;
    weir_file_id id;
    uint64_t offset;
    int fd = open(self->file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st) || weir_file_identify(&id, fd)) {
        if (fd >= 0) close(fd);
        return weir_report_set(report, WEIR_ENOTFOUND, self->file, "cannot read: %s",
                               strerror(errno));
    }
    weir_err err = read_offset(text, st.st_size, &offset, report);
    if (!err) {
        warn_of_half_line(fd, offset);
        err = self->slot >= 0 ? weir_positions_commit(self->positions, self->slot, offset)
                              : weir_positions_add(self->positions, &id, self->file,
                                                   offset, &self->slot);
        if (err) weir_report_set(report, err, self->folder, "cannot write the position");
    }
    if (!err)
        printf("%s: %s is read from byte %" PRIu64 " on\n", self->node, self->file,
               offset);
    close(fd);
    return err;
}

/*  Too few operands for a file.                                               */
static int ask_for_path(const char *what)
{
    weir_report report = {0};
    weir_report_set(&report, WEIR_EINVAL, NULL,
                    "%s is missing: for a file say FILE PATH%s, for a group NAME/NODE%s",
                    what, strcmp(what, "PATH") ? " OFFSET" : "",
                    strcmp(what, "PATH") ? " --to POSITION" : "");
    return fail(&report);
}

int weir_cmd_pos_set(const weir_command_line *line)
{
    change self = {.slot = -1};
    weir_report report = {0};
    const char *to = weir_line_flag(line, "--to");
    if (to && !weir_line_operand(line, 1)) return weir_pos_groups_set(line, to);
    if (to || !weir_line_operand(line, 2)) return ask_for_path("OFFSET");
    if (!weir_state_find(line, weir_line_operand(line, 0), self.folder))
        return WEIR_EXIT_CHECK;
    weir_err err = begin(&self, line, &report);
    if (!err) err = set_position(&self, weir_line_operand(line, 2), &report);
    return end(&self, err, &report);
}

int weir_cmd_pos_rm(const weir_command_line *line)
{
    change self = {.slot = -1};
    weir_report report = {0};
    bool file = weir_state_is_file(weir_line_operand(line, 0));
    if (!weir_line_operand(line, 1))
        return file ? ask_for_path("PATH") : weir_pos_groups_rm(line);
    if (!weir_state_find(line, weir_line_operand(line, 0), self.folder))
        return WEIR_EXIT_CHECK;
    weir_err err = begin(&self, line, &report);
    if (!err && self.slot < 0)
        err =
            weir_report_set(&report, WEIR_ENOTFOUND, self.file,
                            "%s has no position of this file: `weir pos ls` tells those "
                            "it has",
                            self.node);
    if (!err) err = weir_positions_forget(self.positions, self.slot);
    if (!err)
        printf("%s: %s is forgotten, and read as a new file\n", self.node, self.file);
    return end(&self, err, &report);
}
