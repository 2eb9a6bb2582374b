/*  help_members: members of groups on one bench, which are few words in a test; whom a
    test that fails has left behind leaves at its end.

    Include it in one test program each; everything is static.                      */
#pragma once
#include "tests/unit/help_groups.h"
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNUSED_FUNCTION __attribute__((unused))

static help_groups bench;
static weir_group_config config;

UNUSED_FUNCTION static int begin(void **state)
{
    (void)state;
    help_groups_begin(&bench, false);
    config = weir_group_defaults;
    config.member_timeout_us = WEIR_NONE;
    return 0;
}

/*  After a failure members may be left.                                            */
static weir_member_of *joined[16];

UNUSED_FUNCTION static int end(void **state)
{
    (void)state;
    for (size_t i = 0; i < 16; i++)
        weir_groups_leave(bench.groups, &joined[i]);
    help_groups_end(&bench);
    return 0;
}

UNUSED_FUNCTION static weir_member_of *keep(weir_member_of *member)
{
    size_t i = 0;
    while (joined[i])
        i++;
    return joined[i] = member;
}

UNUSED_FUNCTION static weir_member_of *join_with(weir_screen *screen, int wake_fd)
{
    weir_member_of *member;
    weir_err err =
        weir_groups_join(bench.groups, "g", "m", &config, screen, wake_fd, &member, NULL);
    assert_int_equal(err, WEIR_OK);
    return keep(member);
}

UNUSED_FUNCTION static weir_member_of *join(const char *group)
{
    return keep(help_groups_join(&bench, group, &config));
}

UNUSED_FUNCTION static void leave(weir_member_of **member)
{
    for (size_t i = 0; i < 16; i++)
        if (joined[i] == *member) joined[i] = NULL;
    weir_groups_leave(bench.groups, member);
    assert_null(*member);
}

UNUSED_FUNCTION static void
put(const char *keys) // one record a letter; '-': without a key
{
    for (; *keys; keys++)
        help_groups_put(&bench, 0, *keys == '-' ? NULL : (char[]){*keys, 0}, 1);
}

UNUSED_FUNCTION static void ack(weir_member_of *member, uint64_t offset)
{
    assert_int_equal(help_groups_ack(&bench, member, 0, offset), WEIR_OK);
}

UNUSED_FUNCTION static void nack(weir_member_of *member, uint64_t offset)
{
    assert_int_equal(help_groups_nack(&bench, member, 0, offset), WEIR_OK);
}

UNUSED_FUNCTION static uint64_t commit(const char *group)
{
    return help_groups_look(&bench, group, 0).commit.a;
}

/*  All that comes now: how many, and where they lie.                               */
UNUSED_FUNCTION static size_t drain(weir_member_of *member, uint64_t *offsets,
                                    uint32_t *shards)
{
    size_t count = 0;
    for (;;) {
        uint32_t shard = 0;
        const uint64_t *got = help_groups_fetch(&bench, member, 1000, &shard);
        if (!*got) return count;
        for (; *got; got++) {
            shards[count] = shard;
            offsets[count++] = *got;
        }
    }
}

UNUSED_FUNCTION static bool is_readable(int fd)
{
    eventfd_t value;
    return eventfd_read(fd, &value) == 0;
}

#define test(name) cmocka_unit_test_setup_teardown(name, begin, end)
