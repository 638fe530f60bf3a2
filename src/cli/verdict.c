/* See verdict.h. */
#include "cli/verdict.h"

#include "base/file.h"

static const struct akin_precision_figures *figures_of(const struct akin_verdict *verdict,
                                                       enum akin_precision precision)
{
    for (size_t i = 0; i < verdict->count; i++)
        if (verdict->figures[i].precision == precision)
            return &verdict->figures[i];
    return NULL;
}

enum akin_status verdict_decide(struct cli *cli, const char *path, enum akin_precision *precision)
{
    struct akin_verdict *v = memory_alloc(1, sizeof *v);
    if (!v)
        return error_memory(&cli->error);
    enum akin_status status =
        akin_model_verdict(cli->engine, path, AKIN_VERDICT_KEPT, v, &cli->error);
    if (status == AKIN_NOT_FOUND && path_exists(path)) {
        print_note(cli, "precision auto: measuring this model on this CPU, once (about 2 s)");
        status = akin_model_verdict(cli->engine, path, AKIN_VERDICT_IF_NONE, v, &cli->error);
    }
    if (status == AKIN_OK) {
        const struct akin_precision_figures *f = figures_of(v, v->chosen);
        *precision = v->chosen;
        if (f && v->chosen != AKIN_PRECISION_FP32)
            print_note(cli, "precision auto: %s, %.1f times as fast as fp32 (cosine to it %.4f, "
                       "least %.4f; %.1f %% of neighbours kept)", akin_precision_name(v->chosen),
                       f->texts_per_second / v->figures[0].texts_per_second, f->cosine_mean,
                       f->cosine_min, 100 * f->neighbours_kept);
        else
            print_note(cli, "precision auto: %s", akin_precision_name(v->chosen));
    }
    memory_free(v);
    return status;
}

json_t *verdict_json(const struct akin_verdict *verdict)
{
    json_t *root = json_object(), *list = json_array();
    for (size_t i = 0; i < verdict->count; i++) {
        const struct akin_precision_figures *f = &verdict->figures[i];
        json_t *row = json_object();
        json_object_set_new(row, "precision", json_of_text(akin_precision_name(f->precision)));
        json_object_set_new(row, "texts_per_second", json_of_double(f->texts_per_second));
        json_object_set_new(row, "cosine_mean", json_of_double(f->cosine_mean));
        json_object_set_new(row, "cosine_min", json_of_double(f->cosine_min));
        json_object_set_new(row, "neighbours_kept", json_of_double(f->neighbours_kept));
        json_object_set_new(row, "passes", json_boolean(f->passes));
        json_array_append_new(list, row);
    }
    json_object_set_new(root, "auto", json_of_text(akin_precision_name(verdict->chosen)));
    json_object_set_new(root, "texts", json_of_count(verdict->texts));
    json_object_set_new(root, "measured", json_of_known(verdict->measured));
    json_object_set_new(root, "kept_in", json_of_known(verdict->path));
    json_object_set_new(root, "precisions", list);
    return root;
}

void verdict_print(const struct akin_verdict *verdict)
{
    static const struct table_column columns[] = {
        {"  precision", TABLE_LEFT, 0},   {"texts/s", TABLE_RIGHT, 0}, {"ratio", TABLE_RIGHT, 0},
        {"cosine, mean", TABLE_RIGHT, 0}, {"least", TABLE_RIGHT, 0},
        {"neighbours", TABLE_RIGHT, 0},   {"gate", TABLE_LEFT, 0},     {"", TABLE_LEFT, 0}};
    struct table table;
    table_init(&table, columns, sizeof columns / sizeof columns[0]);
    for (size_t i = 0; i < verdict->count; i++) {
        const struct akin_precision_figures *f = &verdict->figures[i];
        table_cell(&table, "  %s", akin_precision_name(f->precision));
        table_cell(&table, "%.0f", f->texts_per_second);
        table_cell(&table, "%.2f", f->texts_per_second / verdict->figures[0].texts_per_second);
        table_cell(&table, "%.5f", f->cosine_mean);
        table_cell(&table, "%.4f", f->cosine_min);
        table_cell(&table, "%.3f", f->neighbours_kept);
        table_cell(&table, "%s", f->passes ? "passes" : "fails");
        table_cell(&table, "%s", f->precision == verdict->chosen ? "auto" : "");
    }
    table_print(&table, stdout);
    table_deinit(&table);
}
