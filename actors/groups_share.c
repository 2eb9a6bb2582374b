#include "actors/groups_private.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <stdio.h>
#include <unistd.h>

/* --- Waking ------------------------------------------------------------------------ */

void weir_member_wake(weir_member_of *self)
{
    uint64_t one = 1;
    if (self->wake_fd < 0) return;
    ssize_t written = write(self->wake_fd, &one, sizeof one);
    (void)written; // it fails when it is readable beyond measure
}

void weir_group_wake(weir_group *self)
{
    for (weir_member_of *member = self->members; member; member = member->next)
        if (!member->gone) weir_member_wake(member);
}

/* --- Who has what ------------------------------------------------------------------ */

/*  What its member holds waits for the next owner.                                 */
static void release(weir_group_shard *shard)
{
    shard->owner->owned--;
    shard->owner = NULL;
    shard->fenced = shard->answered = shard->dry = false;
    *shard->trouble = 0;
    weir_group_reading_reset(shard);
    weir_group_window_release(shard->window);
}

static void release_surplus(weir_group *self, const weir_member_of *member, size_t keeps)
{
    for (size_t i = self->shard_count; i-- > 0 && member->owned > keeps;)
        if (self->shards[i]->owner == member) release(self->shards[i]);
}

static weir_member_of *poorest(const weir_group *self)
{
    weir_member_of *best = NULL;
    for (weir_member_of *member = self->members; member; member = member->next)
        if (!member->gone && (!best || member->owned < best->owned)) best = member;
    return best;
}

/*  Of n shards each of m members keeps n / m, and n % m of those that have more keep one
    more; what that sets free goes where the fewest are.                            */
void weir_group_share(weir_group *self)
{
    size_t members = 0;
    for (weir_member_of *member = self->members; member; member = member->next)
        members += !member->gone;
    if (!members) return;
    size_t share = self->shard_count / members, extra = self->shard_count % members;
    for (weir_member_of *member = self->members; member; member = member->next) {
        bool more = !member->gone && extra && member->owned > share;
        if (!member->gone) release_surplus(self, member, share + more);
        extra -= more;
    }
    for (size_t i = 0; i < self->shard_count; i++) {
        if (self->shards[i]->owner) continue;
        weir_member_of *member = poorest(self);
        self->shards[i]->owner = member;
        member->owned++;
        weir_member_wake(member);
    }
}

/* --- Silence ----------------------------------------------------------------------- */

void weir_member_touch(weir_member_of *self, int64_t now_us)
{
    self->seen_us = now_us;
    if (!self->gone) return;
    self->gone = false;
    self->group->next_us = 0;
    weir_group_share(self->group);
}

void weir_member_gone(weir_member_of *self)
{
    weir_group *group = self->group;
    self->gone = true;
    for (size_t i = 0; i < group->shard_count; i++)
        if (group->shards[i]->owner == self) release(group->shards[i]);
    weir_group_share(group);
}

/*  A letter that could not be written is made anew when its record is read again.  */
static void drop_letters(weir_group *self)
{
    while (self->letters) {
        weir_group_letter *letter = self->letters;
        self->letters = letter->next;
        weir_dead_destroy_list(&letter->dead);
        free(letter);
    }
}

void weir_group_rest(weir_group *self)
{
    for (const weir_member_of *member = self->members; member; member = member->next)
        if (!member->gone) return;
    if (self->storing) return;
    drop_letters(self);
    for (size_t i = 0; i < self->shard_count; i++)
        weir_group_window_forget(self->shards[i]->window);
}

static void judge_silence(weir_group *self, int64_t now_us)
{
    for (weir_member_of *member = self->members; member; member = member->next) {
        int64_t timeout_us = member->member_timeout_us;
        if (member->gone || timeout_us == WEIR_NONE) continue;
        if (now_us - member->seen_us < timeout_us) {
            self->next_us = weir_earlier(self->next_us, member->seen_us + timeout_us);
            continue;
        }
        weir_log(WEIR_WARN, "member is silent group=%s member=%s", self->name,
                 member->name);
        weir_member_gone(member);
    }
}

static void judge_late(weir_groups *groups, weir_group_shard *shard, int64_t now_us)
{
    weir_group_record *record;
    weir_group *group = shard->group;
    size_t walk = 0;
    while ((record = weir_group_window_late(shard->window, now_us, &walk))) {
        weir_buffer why = {0};
        weir_buffer_put_text(&why, "no ack within ");
        weir_print_time(shard->owner->ack_timeout_us, &why);
        weir_buffer_put_byte(&why, 0);
        record->late = true;
        weir_group_failed(groups, shard, record, 0, (const char *)why.data, now_us);
        weir_buffer_fini(&why);
        weir_member_wake(shard->owner);
    }
    group->next_us =
        weir_earlier(group->next_us, weir_group_window_next_late(shard->window));
}

void weir_group_turn(weir_groups *groups, weir_group *self, int64_t now_us)
{
    if (self->next_us < 0 || now_us < self->next_us) return;
    self->next_us = -1;
    judge_silence(self, now_us);
    for (size_t i = 0; i < self->shard_count; i++)
        if (self->shards[i]->owner) judge_late(groups, self->shards[i], now_us);
}
