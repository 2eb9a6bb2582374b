/*  NAME[/NODE[.OUTLET]]: what it means.                                       */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "lua/remote.h"
#include "runtime/nearest.h"
#include "runtime/rundir.h"

void weir_remote_list_names(char *text, size_t size, const char *const *names,
                            size_t count)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < count && used < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%s", i ? ", " : "", names[i]);
}

/*  Where was looked, so that one who looks as the wrong user or in the wrong folder
    sees it.                                                                   */
static weir_err nobody(const char *name, weir_report *report)
{
    char folder[PATH_MAX], named[80] = "";
    weir_rundir_path(folder);
    if (name) snprintf(named, sizeof named, " named '%.63s'", name);
    if (access(folder, R_OK | X_OK) && errno != ENOENT)
        return weir_report_set(report, WEIR_ESYS, folder,
                               "%s: ask as the user whose weir it is", strerror(errno));
    return weir_report_set(report, WEIR_ENOTFOUND, NULL,
                           "no weir%s runs here%s (looked in %.200s; $WEIR_RUN names "
                           "another folder)",
                           named, name ? ", nor any other" : "", folder);
}

static weir_err unknown(const char *name, const char *const *names, size_t count,
                        weir_report *report)
{
    char list[200];
    const char *near = weir_nearest(name, names, count);
    weir_remote_list_names(list, sizeof list, names, count);
    if (count == 0) return nobody(name, report);
    return weir_report_set(report, WEIR_ENOTFOUND, NULL,
                           "no weir named '%.63s' runs here%s%s%s; these do: %s", name,
                           near ? " (did you mean '" : "", near ? near : "",
                           near ? "'?)" : "", list);
}

static weir_err take_only_name(weir_target *target, const char *const *names,
                               size_t count, weir_report *report)
{
    char list[200];
    weir_remote_list_names(list, sizeof list, names, count);
    if (count == 0) return nobody(NULL, report);
    if (count > 1)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "say which weir is meant, these run: %s", list);
    snprintf(target->name, sizeof target->name, "%s", names[0]);
    return WEIR_OK;
}

static bool is_one(const char *name, size_t size, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strlen(names[i]) == size && memcmp(names[i], name, size) == 0) return true;
    return false;
}

static weir_err take_node(weir_target *target, const char *text, weir_report *report)
{
    size_t size = strcspn(text, ".");
    if (size == 0 || size >= sizeof target->node || strchr(text, '/') ||
        strlen(text) >= sizeof target->outlet || strcmp(text + size, ".") == 0)
        return weir_report_set(report, WEIR_EINVAL, NULL,
                               "'%.150s' is no target: expected NAME[/NODE[.OUTLET]]",
                               text);
    snprintf(target->node, sizeof target->node, "%.*s", (int)size, text);
    if (text[size]) snprintf(target->outlet, sizeof target->outlet, "%s", text);
    return WEIR_OK;
}

weir_err weir_target_parse(weir_target *target, const char *text,
                           const char *const *names, size_t count, weir_report *report)
{
    *target = (weir_target){.name = ""};
    if (!text || !*text) return take_only_name(target, names, count, report);
    size_t size = strcspn(text, "/");
    bool slash = text[size] == '/';
    if (is_one(text, size, names, count)) {
        snprintf(target->name, sizeof target->name, "%.*s", (int)size, text);
        return slash ? take_node(target, text + size + 1, report) : WEIR_OK;
    }
    if (slash && size > 0) {
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)size, text);
        return unknown(name, names, count, report);
    }
    if (!slash && (count != 1 || weir_nearest(text, names, count)))
        return unknown(text, names, count, report);
    weir_err err = take_only_name(target, names, count, report);
    return err ? err : take_node(target, slash ? text + 1 : text, report);
}
