/* See results.h. */
#include "cli/results.h"

enum { TITLE_WIDTH_MAX = 60, GENRES_WIDTH_MAX = 50 };

json_t *results_json(const struct akin_catalog *catalog, const struct akin_recommendation *results,
                     size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++) {
        struct akin_item item;
        json_t *row = json_object();
        akin_catalog_item(catalog, results[i].row, &item);
        json_object_set_new(row, "rank", json_of_count(i + 1));
        json_object_set_new(row, "media_id", json_of_text(item.id));
        json_object_set_new(row, "title", json_of_text(item.title));
        json_object_set_new(row, "similarity", json_of_double((double)results[i].similarity));
        json_object_set_new(row, "genres", json_of_strings(item.genres, item.genre_count));
        json_array_append_new(array, row);
    }
    return array;
}

void results_print(const struct akin_catalog *catalog, const struct akin_recommendation *results,
                   size_t count)
{
    static const struct table_column columns[] = {{"rank", TABLE_RIGHT, 0},
                                                  {"similarity", TABLE_RIGHT, 0},
                                                  {"title", TABLE_LEFT, TITLE_WIDTH_MAX},
                                                  {"genres", TABLE_LEFT, GENRES_WIDTH_MAX}};
    struct table table;
    table_init(&table, columns, 4);
    for (size_t i = 0; i < count; i++) {
        struct akin_item item;
        struct bytes genres = {0};
        akin_catalog_item(catalog, results[i].row, &item);
        for (size_t g = 0; g < item.genre_count; g++)
            bytes_printf(&genres, "%s%s", g ? ", " : "", item.genres[g]);
        table_cell(&table, "%zu", i + 1);
        table_cell(&table, "%.4f", (double)results[i].similarity);
        table_cell(&table, "%s", item.title);
        table_cell(&table, "%s", genres.count && !genres.failed ? genres.data : "");
        bytes_deinit(&genres);
    }
    table_print(&table, stdout);
    table_deinit(&table);
}

/* ---- one request ------------------------------------------------------------------------- */

struct answer {
    struct akin_catalog *catalog;
    struct akin_model *model;
    struct akin_recommender *recommender;
    struct akin_recommendation *results; /* [k] */
    size_t found;
    struct akin_recommend_timing timing;
};

static enum akin_status open_answer(struct cli *cli, const struct akin_request *request,
                                    struct answer *a)
{
    TRY(cli_engine(cli));
    TRY(cli_catalog(cli, &a->catalog));
    if (request->query)
        TRY(cli_model(cli, NULL, &a->model));
    return akin_recommender_open(cli->engine, a->catalog, a->model, NULL, &a->recommender,
                                 &cli->error);
}

static void print_question(const struct answer *a, const struct akin_request *request)
{
    const char *joint = "";
    struct akin_item item;
    size_t row = 0;
    if (request->similar) {
        bool found = akin_catalog_find(a->catalog, request->similar, &row, NULL) == AKIN_OK;
        if (found)
            akin_catalog_item(a->catalog, row, &item);
        printf("Similar to %s", found ? item.title : request->similar);
        joint = ", ";
    }
    if (request->user) {
        printf("%s%s user %s", joint, *joint ? "for" : "For", request->user);
        joint = ", ";
    }
    if (request->query)
        printf("%s%s \"%s\"", joint, *joint ? "about" : "About", request->query);
    if (request->filter)
        printf(" where %s", request->filter);
    putchar('\n');
}

static enum akin_status tell_answer(struct cli *cli, const struct akin_request *request,
                                    const struct answer *a)
{
    const struct akin_recommend_timing *t = &a->timing;
    if (cli->json) {
        json_t *timing = json_object(), *root = json_object();
        json_object_set_new(timing, "encode_ms", json_of_double(t->encode_ms));
        json_object_set_new(timing, "fuse_ms", json_of_double(t->fuse_ms));
        json_object_set_new(timing, "filter_ms", json_of_double(t->filter_ms));
        json_object_set_new(timing, "search_ms", json_of_double(t->search_ms));
        json_object_set_new(timing, "total_ms", json_of_double(t->total_ms));
        json_object_set_new(root, "results", results_json(a->catalog, a->results, a->found));
        json_object_set_new(root, "found", json_of_count(a->found));
        json_object_set_new(root, "requested", json_of_count(request->k));
        json_object_set_new(root, "timing", timing);
        return print_json(cli, root);
    }
    print_question(a, request);
    if (a->found)
        results_print(a->catalog, a->results, a->found);
    if (a->found < request->k)
        printf("Only %zu of the %zu asked for: no more items qualify.\n", a->found, request->k);
    return AKIN_OK;
}

enum akin_status results_for_request(struct cli *cli, const struct akin_request *request)
{
    struct answer a = {0};
    enum akin_status status = AKIN_OK;
    TRY_DONE(open_answer(cli, request, &a));
    a.results = memory_alloc(request->k, sizeof *a.results);
    if (!a.results) {
        status = error_memory(&cli->error);
        goto done;
    }
    status = akin_recommend(a.recommender, request, a.results, &a.found, &a.timing, &cli->error);
    if (status == AKIN_ARGUMENT)
        cli->wrong_use = true; /* the filter, with the column of the mistake */
    if (status == AKIN_OK)
        status = tell_answer(cli, request, &a);
done:
    memory_free(a.results);
    akin_recommender_close(&a.recommender);
    akin_model_close(&a.model);
    akin_catalog_close(&a.catalog);
    return status;
}
