/* What is strange about a filter for the rows of a collection. */
#include "index/collection_parts.h"
#include "index/filter_hint.h"

static void see_columns(const struct columns *columns, struct filter_hint *hint)
{
    for (size_t i = 0; i < columns_field_count(columns); i++) {
        struct columns_field_info field = columns_field(columns, i);
        filter_hint_field(hint, field.name, field.name_bytes, field.texts, field.numbers);
    }
}

static void see_tail(void *context, const struct columns_field_info *field)
{
    filter_hint_field(context, field->name, field->name_bytes, field->texts, field->numbers);
}

enum akin_status collection_hint(const struct collection *c, const char *text, char *hint,
                                 size_t bytes, struct akin_error *error)
{
    struct filter *filter = NULL;
    ASSERT(bytes > 0);
    TRY(filter_compile(NULL, 0, text, &filter, error));
    struct snapshot *s = snapshot_take(c);
    bool said = false;
    hint[0] = 0;
    for (size_t n = 0; n < filter->node_count && !said; n++) {
        struct filter_hint found = { .node = &filter->nodes[n] };
        if (found.node->op <= FILTER_NOT)
            continue;
        for (size_t i = 0; i < s->count; i++) {
            const struct part *part = s->views[i].part;
            if (part->own_columns)
                columns_tail_fields(part->own_columns, s->views[i].rows, see_tail, &found);
            else
                see_columns(&part->columns, &found);
        }
        said = filter_hint_say(&found, filter, hint, bytes);
    }
    snapshot_release(s);
    filter_destroy(&filter);
    return AKIN_OK;
}
