#include "lua/state.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "lua/remote.h"
#include "lua/topology.h"

bool weir_state_is_file(const char *operand)
{
    struct stat st;
    size_t size = operand ? strlen(operand) : 0;
    return size && (stat(operand, &st) == 0 || *operand == '/' || *operand == '.' ||
                    (size > 4 && strcmp(operand + size - 4, ".lua") == 0));
}

bool weir_state_of_file(const weir_command_line *line, const char *operand,
                        char folder[PATH_MAX])
{
    struct stat st;
    if (stat(operand, &st) == 0 && S_ISDIR(st.st_mode)) {
        snprintf(folder, PATH_MAX, "%s", operand);
        return true;
    }
    weir_reports reports = {0};
    weir_topology topology;
    weir_param *params;
    size_t count;
    weir_line_params(line, &params, &count);
    bool good = weir_topology_look(&topology, operand, params, count, &reports);
    weir_print_reports(&reports, false);
    if (good) snprintf(folder, PATH_MAX, "%s", topology.settings.state);
    weir_topology_close(&topology);
    weir_reports_fini(&reports);
    free(params);
    return good;
}

static bool ask(const weir_command_line *line, const char *operand, char folder[PATH_MAX])
{
    weir_remote *remote = NULL;
    weir_target target;
    weir_value body;
    weir_report report = {0};
    weir_err err = weir_remote_open(&remote, line, operand, &target, &report);
    if (!err) err = weir_remote_ask(remote, &body, &report, "version", NULL);
    if (!err) weir_look_text(&body, "state_dir", folder, PATH_MAX);
    weir_remote_close(&remote);
    if (err) weir_remote_print(&report);
    return !err;
}

bool weir_state_find(const weir_command_line *line, const char *operand,
                     char folder[PATH_MAX])
{
    if (weir_state_is_file(operand)) return weir_state_of_file(line, operand, folder);
    return ask(line, operand, folder);
}
