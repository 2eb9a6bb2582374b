#include "lua/audit_bus.h"
#include <inttypes.h>
#include <stdio.h>

/*  sum = parts, always. */
typedef struct {
    const char *title, *sum;
    const char *parts[7]; // ends with a NULL
} law;

static const law accepted_law = {
    "offered",
    "offered",
    {"accepted", "full", "sampled", "too_large", "invalid", "closed"}};
static const law safe_law = {
    "accepted", "accepted", {"safe", "evicted", "dead", "resident"}};
static const law stored_law = {"stored", "stored", {"present", "trimmed", "damaged"}};
static const law group_law = {"group", "last", {"start", "done", "shed", "lag"}};

/*  Where a store does not number its records, a group cannot be audited.              */
static bool is_audited(const law *l, const weir_value *counts)
{
    weir_value start;
    return l != &group_law || weir_look(counts, "start", &start);
}

static int64_t imbalance(const law *l, const weir_value *counts)
{
    if (!is_audited(l, counts)) return 0;
    int64_t left = (int64_t)weir_look_number(counts, l->sum);
    for (int i = 0; l->parts[i]; i++)
        left -= (int64_t)weir_look_number(counts, l->parts[i]);
    return left;
}

/* --- For people -------------------------------------------------------------------- */

/*  "offered 100 = accepted 90 + full 10"; parts that are 0 are left out but the first. */
static void print_law(const law *l, const weir_value *counts)
{
    uint64_t dead = l == &group_law ? weir_look_number(counts, "dead") : 0;
    int64_t left = imbalance(l, counts);
    if (!is_audited(l, counts)) {
        printf("lag %" PRIu64 "\n", weir_look_number(counts, "lag"));
        return;
    }
    printf("%s %" PRIu64 " = %s %" PRIu64, l->sum, weir_look_number(counts, l->sum),
           l->parts[0], weir_look_number(counts, l->parts[0]));
    for (int i = 1; l->parts[i]; i++)
        if (weir_look_number(counts, l->parts[i]))
            printf(" + %s %" PRIu64, l->parts[i], weir_look_number(counts, l->parts[i]));
    if (dead) printf("; %" PRIu64 " dead letters since the start", dead);
    if (left) printf("   DIFFERS BY %" PRId64, left);
    printf("\n");
}

/* --- For programs ------------------------------------------------------------------ */

/*  What is accepted is a part of the law before.                              */
static void print_counts(const law *l, const weir_value *counts)
{
    if (l != &safe_law)
        printf(",\"%s\":%" PRIu64, l->sum, weir_look_number(counts, l->sum));
    for (int i = 0; l->parts[i]; i++)
        printf(",\"%s\":%" PRIu64, l->parts[i], weir_look_number(counts, l->parts[i]));
    if (l == &group_law) printf(",\"dead\":%" PRIu64, weir_look_number(counts, "dead"));
    printf(",\"%s_imbalance\":%" PRId64, l->title, imbalance(l, counts));
}

/* --- Lists ------------------------------------------------------------------------- */

/*  The laws of each element of a list: of a shard two, of what is stored one, of a
    group's shards one.                                                                */
typedef struct {
    const char *list;
    const law *laws[2];
} part;

static const part shard_part = {"shards", {&accepted_law, &safe_law}};
static const part stored_part = {"stored", {&stored_law, NULL}};
static const part group_part = {"shards", {&group_law, NULL}};

static unsigned count_wrong(const part *p, const weir_value *counts)
{
    unsigned wrong = imbalance(p->laws[0], counts) != 0;
    return wrong + (p->laws[1] && imbalance(p->laws[1], counts) != 0);
}

static void print_element(const part *p, const weir_value *element, bool first)
{
    printf("%s{\"shard\":%" PRIu64, first ? "" : ",", weir_look_number(element, "shard"));
    for (int i = 0; i < 2 && p->laws[i]; i++)
        print_counts(p->laws[i], element);
    printf("}");
}

/*  Elements that do not balance are told to people too.                       */
static unsigned audit_list(const part *p, const weir_value *of, const char *name,
                           bool json)
{
    weir_value list, key, element;
    weir_walk walk = {0};
    unsigned wrong = 0;
    bool first = true;
    if (json) printf(",\"%s\":[", p->list);
    if (weir_look(of, p->list, &list))
        for (; weir_value_next(&list, &walk, &key, &element); first = false) {
            unsigned here = count_wrong(p, &element);
            wrong += here;
            if (json) print_element(p, &element, first);
            for (int i = 0; i < 2 && p->laws[i] && here && !json; i++) {
                printf("%-20s shard %" PRIu64 ": ", name,
                       weir_look_number(&element, "shard"));
                print_law(p->laws[i], &element);
            }
        }
    if (json) printf("]");
    return wrong;
}

/* --- Groups ------------------------------------------------------------------------ */

static unsigned audit_group(const weir_value *group, const char *bus, bool json,
                            bool first)
{
    char name[512];
    weir_buffer quoted = {0};
    unsigned wrong = imbalance(&group_law, group) != 0;
    weir_look_text(group, "group", name, sizeof name);
    if (json) {
        weir_json_put_string(&quoted, name, strlen(name));
        printf("%s{\"group\":%.*s", first ? "" : ",", (int)quoted.size,
               (char *)quoted.data);
        print_counts(&group_law, group);
    } else {
        printf("%-20s group %s: ", bus, name);
        print_law(&group_law, group);
    }
    wrong += audit_list(&group_part, group, name, json);
    if (json) printf("}");
    weir_buffer_fini(&quoted);
    return wrong;
}

static unsigned audit_groups(const weir_value *bus, const char *name, bool json)
{
    weir_value groups, key, group;
    weir_walk walk = {0};
    unsigned wrong = 0;
    bool first = true;
    if (json) printf(",\"groups\":[");
    if (weir_look(bus, "groups", &groups))
        for (; weir_value_next(&groups, &walk, &key, &group); first = false)
            wrong += audit_group(&group, name, json, first);
    if (json) printf("]");
    return wrong;
}

/* --- All of it --------------------------------------------------------------------- */

static void print_stored(const weir_value *bus, const char *name)
{
    weir_value list, key, shard;
    weir_walk walk = {0};
    uint64_t stored = 0, present = 0, trimmed = 0, damaged = 0;
    if (!weir_look(bus, "stored", &list)) return;
    while (weir_value_next(&list, &walk, &key, &shard)) {
        stored += weir_look_number(&shard, "stored");
        present += weir_look_number(&shard, "present");
        trimmed += weir_look_number(&shard, "trimmed");
        damaged += weir_look_number(&shard, "damaged");
    }
    printf("%-20s stored %" PRIu64 " = present %" PRIu64 " + trimmed %" PRIu64, name,
           stored, present, trimmed);
    if (damaged) printf(" + damaged %" PRIu64, damaged);
    printf("\n");
}

unsigned weir_audit_bus(const weir_value *bus, const char *name, bool json, bool first)
{
    unsigned wrong = count_wrong(&shard_part, bus);
    if (json) {
        printf("%s{\"name\":\"%s\"", first ? "" : ",", name);
        print_counts(&accepted_law, bus);
        print_counts(&safe_law, bus);
    } else {
        printf("%s%-20s ", first ? "\n" : "", name);
        print_law(&accepted_law, bus);
        printf("%-20s ", name);
        print_law(&safe_law, bus);
    }
    wrong += audit_list(&shard_part, bus, name, json);
    if (!json) print_stored(bus, name);
    wrong += audit_list(&stored_part, bus, name, json);
    wrong += audit_groups(bus, name, json);
    if (json) printf("}");
    return wrong;
}
