#include "runtime/screen.h"
#include <stdio.h>

typedef struct {
    weir_filter *filter;
    weir_action action;
} rule;

struct weir_screen {
    weir_filter *where; // NULL: keeps everything
    weir_action otherwise;
    weir_on_unknown on_unknown;
    rule *rules;
    size_t rule_count;
};

const char *const weir_on_error_words[] = {"drop", "dead", "stop", NULL};
const char *const weir_action_words[] = {"drop", "dead", NULL};
const char *const weir_unknown_words[] = {"drop", "dead", "pass", NULL};

static weir_err compile(weir_filter **filter, const char *text, weir_report *report)
{
    size_t column;
    weir_report cause = {0};
    weir_err err = weir_filter_new(filter, text, &column, &cause);
    if (err)
        weir_report_set(report, err, NULL, "'%s', column %zu: %s", text, column,
                        cause.text);
    return err;
}

weir_err weir_screen_new(weir_screen **self_p, const weir_screen_config *config,
                         const weir_rules *rules, weir_report *report)
{
    weir_screen *self = calloc(1, sizeof *self);
    if (!self) abort();
    self->otherwise = (weir_action)config->otherwise;
    self->on_unknown = (weir_on_unknown)config->on_unknown;
    weir_err err = config->where ? compile(&self->where, config->where, report) : WEIR_OK;
    if (rules && rules->count) {
        self->rules = calloc(rules->count, sizeof *self->rules);
        if (!self->rules) abort();
    }
    for (size_t i = 0; rules && i < rules->count && !err; i++) {
        err = compile(&self->rules[i].filter, rules->items[i].where, report);
        self->rules[i].action = rules->items[i].action;
        self->rule_count++;
    }
    if (err) weir_screen_destroy(&self);
    *self_p = self;
    return err;
}

void weir_screen_destroy(weir_screen **self_p)
{
    weir_screen *self = *self_p;
    *self_p = NULL;
    if (!self) return;
    weir_filter_destroy(&self->where);
    for (size_t i = 0; i < self->rule_count; i++)
        weir_filter_destroy(&self->rules[i].filter);
    free(self->rules);
    free(self);
}

bool weir_screen_is_open(const weir_screen *self)
{
    return !self->where && self->rule_count == 0;
}

static weir_judgement unknown(const weir_screen *self)
{
    if (self->on_unknown == WEIR_UNKNOWN_PASS) return WEIR_PASS;
    return self->on_unknown == WEIR_UNKNOWN_DROP ? WEIR_FILTERED : WEIR_DEAD_UNKNOWN;
}

static weir_judgement act(weir_action action)
{
    return action == WEIR_ACTION_DEAD ? WEIR_DEAD_FILTERED : WEIR_FILTERED;
}

weir_judgement weir_screen_judge(weir_screen *self, weir_subject *subject)
{
    for (size_t i = 0; i < self->rule_count; i++) {
        weir_verdict verdict = weir_filter_match(self->rules[i].filter, subject);
        if (verdict == WEIR_UNKNOWN) {
            weir_judgement judgement = unknown(self);
            if (judgement != WEIR_PASS) return judgement;
        }
        if (verdict == WEIR_TRUE) return act(self->rules[i].action);
    }
    if (!self->where) return WEIR_PASS;
    weir_verdict verdict = weir_filter_match(self->where, subject);
    if (verdict == WEIR_TRUE) return WEIR_PASS;
    return verdict == WEIR_UNKNOWN ? unknown(self) : act(self->otherwise);
}

weir_dead *weir_screen_dead(weir_judgement judgement, const char *node,
                            const weir_subject *subject, const weir_run *origin)
{
    char text[256];
    weir_dead_reason reason = WEIR_DEAD_FILTER;
    snprintf(text, sizeof text, "left out by a filter with action dead");
    if (judgement == WEIR_DEAD_UNKNOWN && subject->state == WEIR_UNDECODABLE) {
        reason = WEIR_DEAD_PARSE;
        snprintf(text, sizeof text, "byte %u: %s", subject->doc->index.error_at,
                 subject->doc->index.error);
    } else if (judgement == WEIR_DEAD_UNKNOWN) {
        snprintf(text, sizeof text, "a match reached its bound");
    }
    return weir_dead_new(node, reason, text, 0, &subject->record, origin->source,
                         origin->peer, origin->label);
}

bool weir_screen_admit(weir_screen *self, weir_subject *subject, const weir_run *origin,
                       const char *node, weir_entry *entry)
{
    weir_subject_begin(subject, origin);
    weir_judgement judgement = weir_screen_judge(self, subject);
    if (judgement == WEIR_PASS) return true;
    if (judgement == WEIR_FILTERED) {
        entry->fates.filtered++;
        return false;
    }
    weir_dead *dead = weir_screen_dead(judgement, node, subject, origin);
    weir_entry_add_dead(entry, &dead);
    entry->fates.dead++;
    return false;
}
