/* See results.h. */
#include "cli/results.h"

#include <string.h>

#include "cli/item_list.h"

enum { TITLE_WIDTH_MAX = 60, GENRES_WIDTH_MAX = 50 };

/* Ranked by more than the similarity. */
static bool are_scored(const struct akin_recommendation *results, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (results[i].score < results[i].similarity || results[i].score > results[i].similarity)
            return true;
    return false;
}

json_t *results_json(const struct akin_catalog *catalog, const struct akin_recommendation *results,
                     size_t count)
{
    json_t *array = json_array();
    bool scored = are_scored(results, count);
    for (size_t i = 0; array && i < count; i++) {
        struct akin_item item;
        json_t *row = json_object();
        akin_catalog_item(catalog, results[i].row, &item);
        json_object_set_new(row, "rank", json_of_count(i + 1));
        json_object_set_new(row, "media_id", json_of_text(item.id));
        json_object_set_new(row, "title", json_of_text(item.title));
        json_object_set_new(row, "similarity", json_of_double((double)results[i].similarity));
        if (scored)
            json_object_set_new(row, "score", json_of_double((double)results[i].score));
        json_object_set_new(row, "genres", json_of_strings(item.genres, item.genre_count));
        if (results[i].arm) {
            json_object_set_new(row, "arm", json_of_text(results[i].arm));
            json_object_set_new(row, "propensity", json_of_double((double)results[i].propensity));
        }
        json_array_append_new(array, row);
    }
    return array;
}

void results_print(const struct akin_catalog *catalog, const struct akin_recommendation *results,
                   size_t count)
{
    static const struct table_column columns[] = {{"rank", TABLE_RIGHT, 0},
                                                  {"score", TABLE_RIGHT, 0},
                                                  {"similarity", TABLE_RIGHT, 0},
                                                  {"title", TABLE_LEFT, TITLE_WIDTH_MAX},
                                                  {"genres", TABLE_LEFT, GENRES_WIDTH_MAX}};
    struct table_column shown[5];
    struct table table;
    size_t width = 0;
    bool scored = are_scored(results, count);
    for (size_t i = 0; i < 5; i++)
        if (i != 1 || scored)
            shown[width++] = columns[i];
    table_init(&table, shown, width);
    for (size_t i = 0; i < count; i++) {
        struct akin_item item;
        struct bytes genres = {0};
        akin_catalog_item(catalog, results[i].row, &item);
        for (size_t g = 0; g < item.genre_count; g++)
            bytes_printf(&genres, "%s%s", g ? ", " : "", item.genres[g]);
        table_cell(&table, "%zu", i + 1);
        if (scored)
            table_cell(&table, "%.4f", (double)results[i].score);
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
    struct akin_explanation *reasons;    /* [k], NULL: not asked for */
    struct akin_list_report list;        /* where reasons are */
    struct item_list history, exclude;
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

/* ---- reasons ----------------------------------------------------------------------------- */

enum { PARTS = 6 };

struct named_part {
    const char *name;
    double value;
};

static void name_parts(const struct akin_score_parts *p, struct named_part named[PARTS])
{
    const struct named_part all[PARTS] = {{"text", (double)p->text},
                                          {"title", (double)p->title},
                                          {"taste", (double)p->taste},
                                          {"popularity", (double)p->popularity},
                                          {"context", (double)p->context},
                                          {"graph", (double)p->graph}};
    memcpy(named, all, sizeof all);
}

static json_t *reason_json(const struct answer *a, size_t i)
{
    const struct akin_explanation *why = &a->reasons[i];
    struct named_part parts[PARTS];
    json_t *root = json_object(), *sum = json_object(), *because = json_array();
    name_parts(&a->results[i].parts, parts);
    for (size_t p = 0; p < PARTS; p++)
        json_object_set_new(sum, parts[p].name, json_of_double(parts[p].value));
    for (size_t b = 0; b < why->because_count; b++) {
        struct akin_item item;
        akin_catalog_item(a->catalog, why->because[b].row, &item);
        json_array_append_new(
            because, json_pack("{s:o, s:o, s:o}", "media_id", json_of_text(item.id), "title",
                               json_of_text(item.title), "share",
                               json_of_double((double)why->because[b].share)));
    }
    json_object_set_new(root, "parts", sum);
    json_object_set_new(root, "because", because);
    json_object_set_new(root, "genres", json_of_strings(why->genres, why->genre_count));
    json_object_set_new(root, "themes", json_of_strings(why->themes, why->theme_count));
    return root;
}

static json_t *list_json(const struct akin_list_report *list)
{
    json_t *root = json_object();
    json_object_set_new(root, "novelty_bits", json_of_double(list->novelty_bits));
    json_object_set_new(root, "popular_share", json_of_double(list->popular_share));
    json_object_set_new(root, "diversity", json_of_double(list->diversity));
    return root;
}

static void print_words(const char *before, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i ? ", " : before, words[i]);
}

static void print_reasons(const struct answer *a)
{
    printf("\nWhy\n");
    for (size_t i = 0; i < a->found; i++) {
        const struct akin_explanation *why = &a->reasons[i];
        struct named_part parts[PARTS];
        const char *joint = "";
        name_parts(&a->results[i].parts, parts);
        printf("%4zu  ", i + 1);
        for (size_t p = 0; p < PARTS; p++) {
            if (parts[p].value < 0.00005 && parts[p].value > -0.00005)
                continue;
            printf("%s%s %.4f", joint, parts[p].name, parts[p].value);
            joint = " + ";
        }
        putchar('\n');
        for (size_t b = 0; b < why->because_count; b++) {
            struct akin_item item;
            akin_catalog_item(a->catalog, why->because[b].row, &item);
            printf("%s%s %.0f %%", b ? ", " : "      because of ", item.title,
                   100 * (double)why->because[b].share);
        }
        if (why->because_count)
            putchar('\n');
        print_words("      shares ", why->genres, why->genre_count);
        print_words(why->genre_count ? "; " : "      shares ", why->themes, why->theme_count);
        if (why->genre_count || why->theme_count)
            putchar('\n');
    }
    printf("List: novelty %.1f bits, %.0f %% of the 1 %% most rated, diversity %.2f\n",
           a->list.novelty_bits, 100 * a->list.popular_share, a->list.diversity);
}

/* ---- one request, told ------------------------------------------------------------------- */

static void print_explored(const struct answer *a)
{
    for (size_t i = 0; i < a->found; i++)
        if (a->results[i].arm)
            printf("Explored: %zu by %s, drawn with probability %.2f\n", i + 1, a->results[i].arm,
                   (double)a->results[i].propensity);
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
    if (request->query) {
        printf("%s%s \"%s\"", joint, *joint ? "about" : "About", request->query);
        joint = ", ";
    }
    if (a->history.count)
        printf("%s%s %zu item%s", joint, *joint ? "after" : "After", a->history.count,
               a->history.count == 1 ? "" : "s");
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
        json_object_set_new(timing, "graph_ms", json_of_double(t->graph_ms));
        json_object_set_new(timing, "new_ms", json_of_double(t->new_ms));
        json_object_set_new(timing, "rerank_ms", json_of_double(t->rerank_ms));
        json_object_set_new(timing, "total_ms", json_of_double(t->total_ms));
        json_t *results = results_json(a->catalog, a->results, a->found);
        for (size_t i = 0; a->reasons && i < a->found; i++)
            json_object_set_new(json_array_get(results, i), "explain", reason_json(a, i));
        json_object_set_new(root, "results", results);
        if (a->reasons)
            json_object_set_new(root, "list", list_json(&a->list));
        json_object_set_new(root, "found", json_of_count(a->found));
        json_object_set_new(root, "requested", json_of_count(request->k));
        json_object_set_new(root, "timing", timing);
        return print_json(cli, root);
    }
    print_question(a, request);
    if (a->found)
        results_print(a->catalog, a->results, a->found);
    print_explored(a);
    if (a->found && a->reasons)
        print_reasons(a);
    if (a->found < request->k)
        printf("Only %zu of the %zu asked for: no more items qualify.\n", a->found, request->k);
    return AKIN_OK;
}

/* A user that nobody knows is worth a word: it may be a slip. */
static void note_new_user(struct cli *cli, const struct answer *a, const struct akin_request *asked)
{
    bool known = true;
    if (asked->user && akin_recommender_knows(a->recommender, asked->user, &known, NULL) ==
                           AKIN_OK && !known)
        print_note(cli, "user %s is new: nothing is known of their taste", asked->user);
}

static enum akin_status ask(struct cli *cli, struct akin_request *request, bool lists, bool explain,
                            struct answer *a)
{
    if (lists) {
        TRY(item_list_read(cli, a->catalog, "history", &a->history));
        TRY(item_list_read(cli, a->catalog, "exclude", &a->exclude));
        request->history = a->history.names;
        request->history_count = a->history.count;
        request->exclude = a->exclude.names;
        request->exclude_count = a->exclude.count;
    }
    a->results = memory_alloc(request->k, sizeof *a->results);
    a->reasons = explain ? memory_alloc(request->k, sizeof *a->reasons) : NULL;
    if (!a->results || (explain && !a->reasons))
        return error_memory(&cli->error);
    enum akin_status status = akin_recommend_explained(a->recommender, request, a->results,
                                                       a->reasons, &a->found, &a->timing,
                                                       &cli->error);
    if (status == AKIN_ARGUMENT)
        cli->wrong_use = true; /* the filter, with the column of the mistake, or the context */
    TRY(status);
    note_new_user(cli, a, request);
    return explain ? akin_recommend_report(a->recommender, a->results, a->found, &a->list,
                                           &cli->error) : AKIN_OK;
}

enum akin_status results_for_request(struct cli *cli, const struct akin_request *asked, bool lists,
                                     bool explain)
{
    struct answer a = {0};
    struct akin_request request = *asked;
    enum akin_status status = AKIN_OK;
    TRY_DONE(open_answer(cli, &request, &a));
    TRY_DONE(ask(cli, &request, lists, explain, &a));
    status = tell_answer(cli, &request, &a);
done:
    memory_free(a.results);
    memory_free(a.reasons);
    item_list_deinit(&a.history);
    item_list_deinit(&a.exclude);
    akin_recommender_close(&a.recommender);
    akin_model_close(&a.model);
    akin_catalog_close(&a.catalog);
    return status;
}
