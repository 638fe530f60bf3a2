/* include/akin/watch.h over src/watch. */
#include "akin/watch.h"

#include "compute/backend.h"
#include "engine/engine.h"
#include "events/source.h"
#include "watch/scorer.h"
#include "watch/live.h"
#include "watch/verdict_json.h"
#include "watch/watch.h"

void akin_watch_settings_default(struct akin_watch_settings *settings)
{
    scorer_settings_default(settings);
}

void akin_watch_source_default(enum akin_source_kind kind, struct akin_watch_source *source)
{
    source_settings_default(kind, source);
}

void akin_watch_input_default(struct akin_watch_input *input)
{
    *input = (struct akin_watch_input){ .path = "-", .session_field = "session", .batch = 256 };
}

static struct model *go_on(void *cookie, enum akin_status status, const struct akin_error *why)
{
    return engine_model_spare(cookie, status, why);
}

/* A watch is its own handle: there is nothing that the engine would add. */
enum akin_status akin_watch_open(struct akin_engine *engine, struct akin_model *model,
                                 const struct akin_watch_settings *settings,
                                 struct akin_watch **watch, struct akin_error *error)
{
    const struct scorer_tools tools = {
        .kernels = cpu_kernels(engine->backend), .pool = engine->pool,
        .model = model ? model->model : NULL, .instead = model ? go_on : NULL, .cookie = model,
    };
    return watch_open(&tools, settings, (struct watch **)watch, error);
}

void akin_watch_close(struct akin_watch **watch)
{
    watch_close((struct watch **)watch);
}

const char *akin_watch_event_part(size_t part)
{
    return watch_event_part(part);
}

const char *akin_watch_session_part(size_t part)
{
    return watch_session_part(part);
}

enum akin_status akin_watch_run(struct akin_watch *watch, const struct akin_watch_input *input,
                                const struct akin_watch_sink *sink,
                                struct akin_watch_report *report, struct akin_error *error)
{
    return watch_run((struct watch *)watch, input, sink, report, error);
}

void akin_watch_live_default(struct akin_watch_live *live)
{
    live_watch_default(live);
}

enum akin_status akin_watch_live(struct akin_watch *watch, const struct akin_watch_live *live,
                                 struct akin_watch_live_report *report, struct akin_error *error)
{
    return watch_live((struct watch *)watch, live, report, error);
}
