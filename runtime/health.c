#include "runtime/health.h"
#include "runtime/clock.h"
#include "runtime/json.h"

static const char *const health_names[] = {"ok", "degraded", "failed"};
static const char *const phase_names[] = {"starting", "running", "draining"};

const char *weir_health_name(weir_health health)
{
    return health_names[health];
}

const char *weir_phase_name(weir_phase phase)
{
    return phase_names[phase];
}

/* --- Judging ----------------------------------------------------------------------- */

weir_health weir_health_of(weir_vitals *vitals)
{
    weir_wait waits[WEIR_WAITS_MAX];
    if (vitals->state == WEIR_STATE_FAILED) return WEIR_HEALTH_FAILED;
    size_t count = weir_vitals_waits(vitals, waits);
    for (size_t i = 0; i < count; i++)
        if (weir_wait_infos[waits[i].kind].degrades) return WEIR_HEALTH_DEGRADED;
    return WEIR_HEALTH_OK;
}

weir_health weir_health_worst(const weir_view *view)
{
    weir_health worst = WEIR_HEALTH_OK;
    for (size_t i = 0; i < view->plan->node_count; i++) {
        weir_health health = weir_health_of(view->vitals[i]);
        if (health > worst) worst = health;
    }
    return worst;
}

static bool is_ready(const weir_view *view, weir_health worst)
{
    return view->phase == WEIR_PHASE_RUNNING && worst != WEIR_HEALTH_FAILED;
}

bool weir_health_is_ready(const weir_view *view)
{
    return is_ready(view, weir_health_worst(view));
}

/* --- Telling ----------------------------------------------------------------------- */

/*  Paths get here, and they need not be UTF-8.                                */
static void put_string(weir_buffer *out, const char *text)
{
    if (weir_json_put_string(out, text, strlen(text)) == WEIR_OK) return;
    char ascii[1024];
    snprintf(ascii, sizeof ascii, "%s", text);
    for (char *at = ascii; *at; at++)
        if ((unsigned char)*at >= 0x80) *at = '?';
    weir_json_put_string(out, ascii, strlen(ascii));
}

static void put_failure(weir_buffer *out, weir_vitals *vitals)
{
    char text[1024];
    weir_report reason;
    weir_vitals_reason(vitals, &reason);
    snprintf(text, sizeof text, "%s%s%s", reason.where, *reason.where ? ": " : "",
             reason.text);
    put_string(out, text);
}

static void put_wait(weir_buffer *out, const weir_wait *wait)
{
    char text[1024];
    double seconds = (double)(weir_clock_now_us() - wait->since_us) / 1e6;
    const char *cause = *wait->text ? wait->text : weir_wait_infos[wait->kind].help;
    snprintf(text, sizeof text, "waits for %.0f s: %s", seconds, cause);
    put_string(out, text);
}

static void put_reasons(weir_buffer *out, weir_vitals *vitals)
{
    weir_wait waits[WEIR_WAITS_MAX];
    size_t count = weir_vitals_waits(vitals, waits);
    bool some = vitals->state == WEIR_STATE_FAILED;
    if (some) put_failure(out, vitals);
    for (size_t i = 0; i < count; i++) {
        if (some) weir_buffer_put_byte(out, ',');
        put_wait(out, &waits[i]);
        some = true;
    }
}

static weir_health put_node(weir_buffer *out, const weir_plan_node *node,
                            weir_vitals *vitals)
{
    weir_health health = weir_health_of(vitals);
    weir_buffer_put_text(out, "{\"name\":");
    put_string(out, node->name);
    weir_buffer_put_text(out, ",\"actor\":");
    put_string(out, node->class->name);
    weir_buffer_printf(out, ",\"health\":\"%s\",\"reasons\":[", weir_health_name(health));
    put_reasons(out, vitals);
    weir_buffer_put_text(out, "]}");
    return health;
}

void weir_health_put(const weir_view *view, weir_buffer *out)
{
    weir_health worst = WEIR_HEALTH_OK;
    weir_buffer_put_text(out, "{\"name\":");
    put_string(out, view->name);
    weir_buffer_put_text(out, ",\"nodes\":[");
    for (size_t i = 0; i < view->plan->node_count; i++) {
        if (i) weir_buffer_put_byte(out, ',');
        weir_health health = put_node(out, &view->plan->nodes[i], view->vitals[i]);
        if (health > worst) worst = health;
    }
    weir_buffer_printf(out, "],\"status\":\"%s\",\"ready\":%s,\"phase\":\"%s\"}\n",
                       weir_health_name(worst), is_ready(view, worst) ? "true" : "false",
                       weir_phase_name(view->phase));
}
