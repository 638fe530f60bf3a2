#include "watch/labels.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "watch/warm.h"

/* In the trail, labels are records of this source; its cursor is the digest of them all, which
 * tells after a start whether some were given meanwhile. */
static const char labels_source[] = "akin.labels";
static const uint64_t look_anyway_ns = 60000000000u;    /* a label may have been changed */

struct labelling {
    struct labels *labels;
    struct feedback_label *items;   /* [2 * LABELS_MAX] */
    uint64_t *numbers;              /* [2 * LABELS_MAX] */
    size_t count, count_max;
    uint64_t digest;
    enum akin_status status;
    struct akin_error *error;
};

/* The kind is found anew: it may have been joined with others since. */
static bool take_label(void *cookie, const struct stored_event *stored)
{
    struct labelling *l = cookie;
    struct event event = stored_event_view(stored);
    struct feedback_label *label = &l->items[l->count];
    const uint64_t key[2] = {stored->number, (uint64_t)(stored->label + 1)};
    *label = (struct feedback_label){ .surprise = (double)stored->score * log(10),
                                      .anomaly = stored->label > 0 };
    l->numbers[l->count++] = stored->number;
    l->digest ^= hash_bytes(key, sizeof key);
    l->status = scorer_kind_of(l->labels->scorer, &event, &label->kind, l->error);
    return l->status == AKIN_OK && l->count < l->count_max;
}

static enum akin_status trail_label(struct labelling *l, size_t i, bool anomaly)
{
    char json[128], cursor[20];
    struct akin_audit_record record = {.data = json, .source = labels_source, .cursor = cursor};
    uint64_t known, number = l->numbers[i], value = anomaly ? 2 : 0;
    if (number_map_get(&l->labels->known, number, &known) && known == value)
        return AKIN_OK;
    snprintf(cursor, sizeof cursor, "%016" PRIx64, l->digest);
    snprintf(json, sizeof json, "{\"watch\":\"label\",\"number\":%" PRIu64 ",\"label\":\"%s\"}",
             number, anomaly ? "anomaly" : "normal");
    record.bytes = strlen(json);
    TRY(keeper_records(l->labels->keeper, &record, 1, l->error));
    return number_map_set(&l->labels->known, number, value) ? AKIN_OK : error_memory(l->error);
}

/* Those that the trail has by its cursor are only noted. */
static enum akin_status trail_labels(struct labelling *l)
{
    char cursor[AKIN_AUDIT_CURSOR_BYTES_MAX + 1] = "", digest[20];
    snprintf(digest, sizeof digest, "%016" PRIx64, l->digest);
    if (!l->labels->keeper->audit)
        return AKIN_OK;
    TRY(akin_audit_cursor(l->labels->keeper->audit, labels_source, cursor, sizeof cursor,
                          l->error));
    bool known = !strcmp(cursor, digest);
    for (size_t i = 0; i < l->count; i++) {
        if (!known)
            TRY(trail_label(l, i, l->items[i].anomaly));
        else if (!number_map_set(&l->labels->known, l->numbers[i], l->items[i].anomaly ? 2 : 0))
            return error_memory(l->error);
    }
    return AKIN_OK;
}

static enum akin_status read_labels(struct labelling *l)
{
    struct event_store *store = l->labels->keeper->store;
    for (int label = -1; label <= 1; label += 2) {
        const struct event_filter filter = {.label = label};
        l->count_max = l->count + LABELS_MAX;
        TRY(event_store_read(store, 0, true, &filter, take_label, l, l->error));
        TRY(l->status);
    }
    return AKIN_OK;
}

enum akin_status labels_look(struct labels *labels, bool thorough, struct akin_error *error)
{
    struct event_store_info info;
    struct labelling l = {.labels = labels, .error = error};
    uint64_t now = clock_monotonic_ns();
    if (!labels->keeper->store)
        return AKIN_OK;
    TRY(event_store_refresh(labels->keeper->store, error));
    event_store_info(labels->keeper->store, &info);
    bool due = info.labels && now - labels->looked_ns > look_anyway_ns;
    if (!thorough && !due && info.labels == labels->count)
        return AKIN_OK;
    labels->looked_ns = now;
    labels->count = info.labels;
    l.items = memory_alloc(2 * LABELS_MAX, sizeof *l.items);
    l.numbers = memory_alloc(2 * LABELS_MAX, sizeof *l.numbers);
    enum akin_status status = l.items && l.numbers ? read_labels(&l) : error_memory(error);
    if (status == AKIN_OK && (l.digest != labels->digest || thorough)) {
        labels->digest = l.digest;
        status = trail_labels(&l);
        if (status == AKIN_OK) /* sorts them, so it comes last */
            status = scorer_feedback(labels->scorer, l.items, l.count, error);
    }
    memory_free(l.items);
    memory_free(l.numbers);
    return status;
}

void labels_deinit(struct labels *labels)
{
    number_map_deinit(&labels->known);
}
