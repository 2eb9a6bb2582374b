#include "actors/groups_private.h"
#include "runtime/clock.h"
#include "runtime/log.h"
#include <inttypes.h>
#include <stdio.h>

/*  What nobody waits for (left out, removed unread) is stored after so long; after a
    failure it is tried again so.                                                   */
static const int64_t lazy_us = 1000000;

void weir_group_count_change(weir_group_shard *shard)
{
    shard->version++;
    shard->group->changes++;
}

void weir_group_changed(weir_group_shard *shard, int64_t now_us)
{
    const weir_group_window_state *state = weir_group_window_look(shard->window);
    if (!weir_position_order(state->commit, shard->noted) &&
        state->ruling == shard->ruling)
        return;
    shard->noted = state->commit;
    shard->ruling = state->ruling;
    weir_group_count_change(shard);
    shard->group->dirty_us = weir_earlier(shard->group->dirty_us, now_us + lazy_us);
}

/* --- Failures ---------------------------------------------------------------------- */

int64_t weir_group_due(const weir_groups *groups, const weir_group_shard *shard,
                       const weir_group_record *record, int64_t delay_us, int64_t now_us)
{
    if (delay_us < 0)
        delay_us = weir_retry_wait_us(&shard->group->config.retry,
                                      weir_bus_state_nonce(groups->config.state),
                                      shard->id, record->sequence, record->failures);
    return delay_us > INT64_MAX - now_us ? INT64_MAX : now_us + delay_us;
}

void weir_group_failed(weir_groups *groups, weir_group_shard *shard,
                       weir_group_record *record, int64_t delay_us, const char *why,
                       int64_t now_us)
{
    weir_group_window_fail(shard->window, record, now_us);
    record->due_us = weir_group_due(groups, shard, record, delay_us, now_us);
    if (record->failures >= shard->group->config.max_deliver)
        weir_group_doom(groups, shard, record, why, now_us);
    weir_group_changed(shard, now_us);
}

void weir_group_doom(weir_groups *groups, weir_group_shard *shard,
                     weir_group_record *record, const char *why, int64_t now_us)
{
    char label[128];
    weir_record whole;
    weir_reader reader = {record->data, record->data + record->size};
    if (weir_record_read(&whole, &reader, true)) return;
    snprintf(label, sizeof label, "%s/%u@%" PRIu64, groups->config.bus, shard->id,
             record->at.b ? record->at.b : record->at.a);
    weir_dead *dead = weir_dead_new(shard->group->name, WEIR_DEAD_MAX_DELIVER, why,
                                    record->failures, &whole, NULL, NULL, label);
    weir_group_send_letter(shard, record, &dead, now_us);
}

void weir_group_send_letter(weir_group_shard *shard, weir_group_record *record,
                            weir_dead **dead, int64_t now_us)
{
    weir_group_letter *letter = calloc(1, sizeof *letter);
    if (!letter) abort();
    weir_group_letter **end = &shard->group->letters;
    while (*end)
        end = &(*end)->next;
    letter->dead = *dead;
    letter->shard = shard;
    letter->at = record->at;
    letter->member = shard->owner;
    *end = letter;
    *dead = NULL;
    weir_group_window_doom(record);
    shard->group->dirty_us = weir_earlier(shard->group->dirty_us, now_us + lazy_us);
}

/* --- Dead letters ------------------------------------------------------------------ */

static weir_err append_letters(weir_groups *groups, weir_group *group,
                               const weir_group_letter *first)
{
    weir_err err = WEIR_OK;
    if (!groups->config.dead_path) {
        weir_log(WEIR_WARN,
                 "record is given up, there is no file of dead letters "
                 "group=%s",
                 group->name);
        return WEIR_OK;
    }
    if (!group->dead_file)
        err = weir_dead_file_open(&group->dead_file, groups->config.dead_path,
                                  &group->trouble);
    for (const weir_group_letter *letter = first; letter; letter = letter->next)
        letter->dead->next = letter->next ? letter->next->dead : NULL;
    if (!err) err = weir_dead_file_write(group->dead_file, first->dead, &group->trouble);
    for (const weir_group_letter *letter = first; letter; letter = letter->next)
        letter->dead->next = NULL;
    return err;
}

static void bury(weir_group_letter **first, int64_t now_us)
{
    while (*first) {
        weir_group_letter *letter = *first;
        *first = letter->next;
        weir_member_of *member = letter->member;
        weir_group_window_bury(letter->shard->window, letter->at);
        weir_group_changed(letter->shard, now_us);
        letter->shard->dead++;
        if (member && member->buried) member->buried(member->arg);
        if (letter->shard->owner) weir_member_wake(letter->shard->owner);
        weir_dead_destroy_list(&letter->dead);
        free(letter);
    }
}

static weir_err store_letters(weir_groups *groups, weir_group *group)
{
    weir_group_letter *first = group->letters;
    group->letters = NULL;
    if (!first) return WEIR_OK;
    weir_groups_exit(groups);
    weir_err err = append_letters(groups, group, first);
    weir_groups_enter(groups);
    if (!err) {
        bury(&first, weir_clock_now_us());
    } else {
        weir_group_letter **end = &first;
        while (*end)
            end = &(*end)->next;
        *end = group->letters;
        group->letters = first;
    }
    return err;
}

/* --- Rows -------------------------------------------------------------------------- */

/*  What a round stores.                                                            */
typedef struct {
    weir_group_row *rows;
    weir_group_shard **shards;
    uint64_t *versions;
    size_t count;
} round_rows;

static void gather(const weir_group *group, round_rows *self)
{
    self->rows = calloc(group->shard_count + 1, sizeof *self->rows);
    self->shards = calloc(group->shard_count + 1, sizeof *self->shards);
    self->versions = calloc(group->shard_count + 1, sizeof *self->versions);
    if (!self->rows || !self->shards || !self->versions) abort();
    for (size_t i = 0; i < group->shard_count; i++) {
        weir_group_shard *shard = group->shards[i];
        if (shard->version == shard->durable) continue;
        self->rows[self->count].shard = shard->id;
        weir_group_window_row(shard->window, &self->rows[self->count]);
        self->shards[self->count] = shard;
        self->versions[self->count++] = shard->version;
    }
}

static void round_rows_fini(round_rows *self)
{
    for (size_t i = 0; i < self->count; i++)
        free(self->rows[i].failed);
    free(self->rows);
    free(self->shards);
    free(self->versions);
}

/*  A shard behind a fence may go on.                                               */
static void wake_fenced(const weir_group *group)
{
    for (size_t i = 0; i < group->shard_count; i++)
        if (group->shards[i]->fenced && group->shards[i]->owner)
            weir_member_wake(group->shards[i]->owner);
}

static weir_err store_rows(weir_groups *groups, weir_group *group)
{
    round_rows round = {0};
    weir_store *store = groups->config.store;
    uint64_t changes = group->changes;
    gather(group, &round);
    weir_groups_exit(groups);
    weir_err err =
        round.count == 0
            ? WEIR_OK
            : weir_bus_state_store_group(groups->config.state, group->name, round.rows,
                                         round.count, &group->trouble);
    for (size_t i = 0; i < round.count && !err; i++)
        store->class->commit(store, group->name, round.rows[i].shard,
                             round.rows[i].commit.a);
    weir_groups_enter(groups);
    for (size_t i = 0; i < round.count && !err; i++) {
        round.shards[i]->durable = round.versions[i];
        round.shards[i]->stored = round.rows[i].commit;
    }
    if (!err) group->kept = changes;
    if (round.count && !err) wake_fenced(group);
    round_rows_fini(&round);
    return err;
}

/* --- Rounds ------------------------------------------------------------------------ */

/*  Stores what has changed until now, for all that wait. `trouble` is the round's while
    it runs.                                                                        */
static void store_round(weir_groups *groups, weir_group *group)
{
    group->storing = true;
    group->dirty_us = -1;
    weir_err err = store_letters(groups, group);
    if (!err) err = store_rows(groups, group);
    group->rounds++;
    group->storing = false;
    if (err) {
        group->failed_rounds = group->rounds;
        group->dirty_us = weir_earlier(group->dirty_us, weir_clock_now_us() + lazy_us);
        weir_log(WEIR_WARN, "commit failed group=%s error=\"%s\"", group->name,
                 group->trouble.text);
    }
    pthread_cond_broadcast(&group->stored);
}

/*  A round that runs already may not have seen the change: only a later one counts, for
    success by the changes that it had, for failure by its number.                  */
weir_err weir_group_store(weir_groups *groups, weir_group *group, weir_report *report)
{
    uint64_t wanted = group->changes;
    uint64_t begun = group->rounds + group->storing;
    while (group->kept < wanted || group->letters) {
        if (group->failed_rounds > begun) {
            if (report) *report = group->trouble;
            return WEIR_ESYS;
        }
        if (group->storing)
            pthread_cond_wait(&group->stored, &groups->lock);
        else
            store_round(groups, group);
    }
    return WEIR_OK;
}

/*  A round has taken the letters off the list while it writes them.                */
void weir_group_part_with(weir_groups *groups, weir_group *group, weir_member_of *member)
{
    while (group->storing)
        pthread_cond_wait(&group->stored, &groups->lock);
    weir_group_store_due(groups, group, INT64_MAX);
    for (weir_group_letter *letter = group->letters; letter; letter = letter->next)
        if (letter->member == member) letter->member = NULL;
}

void weir_group_store_due(weir_groups *groups, weir_group *group, int64_t now_us)
{
    if (group->dirty_us < 0 || group->dirty_us > now_us) return;
    if (group->storing || group->removed) return;
    store_round(groups, group);
}
