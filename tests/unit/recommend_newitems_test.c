/* Items that nobody has chosen, in requests: by a learned graph they change places among each other
 * and nothing else moves; it is learned by `fit`, kept on disk, and left aside with a word where it
 * is of something else or damaged; an interruption leaves what was there. */
#include "compute/cpu/kernels.h"
#include "recommend/fit.h"
#include "recommend/fit_events.h"
#include "recommend/graph_past.h"
#include "recommend/graph_store.h"
#include "recommend/split_text.h"
#include "recommend/taste_store.h"
#include "parts_rig.h"
#include "backends_rig.h"

static struct split_text text;
static struct histories histories;
static struct graph_model graph;
static char path[PATH_BYTES_MAX];

static void learn(int threads, struct graph_model *model)
{
    struct akin_error error = { 0 };
    struct graph_model_lesson lesson = { .backend = backends[threads], .catalog = rig_catalog,
                                         .histories = &histories, .text = &text, .seed = 3 };
    must(graph_model_learn(&lesson, model, &error), &error);
}

static int set_up(void **state)
{
    struct fit_events events;
    if (rig_set_up(state) || backends_open())
        return -1;
    snprintf(path, sizeof path, "%s/graph.safetensors", rig_folder);
    must(fit_events_read(rig_catalog, &events, NULL), NULL);
    must(fit_histories(rig_catalog, &events, &histories, NULL), NULL);
    fit_events_deinit(&events);
    must(split_text_create(rig_backend, rig_catalog, NULL, &text, NULL), NULL);
    learn(0, &graph);
    return 0;
}

static int tear_down(void **state)
{
    graph_model_deinit(&graph);
    split_text_deinit(&text);
    histories_deinit(&histories);
    backends_close();
    return rig_tear_down(state);
}

static bool is_new(uint32_t row)
{
    for (size_t e = 0; e < histories.event_count; e++)
        if (histories.items[e] == row)
            return false;
    return row != BLANK;
}

/* ---- learning --------------------------------------------------------------------------- */

static void learned(void **state)
{
    (void)state;
    struct graph_model other;
    const struct kernels *k = cpu_kernels(rig_backend);
    size_t wide = graph.dim + graph.rank, fresh = 0;
    float vector[DIM], scratch[2 * DIM];
    assert_int_equal(graph.items, ITEMS);
    for (uint32_t i = 0; i < ITEMS; i++) {
        assert_int_equal(graph.fresh[i], is_new(i));
        fresh += graph.fresh[i];
        if (!is_new(i))
            continue;
        memcpy(vector, text.rows[i], sizeof vector);
        graph_sage_tower(&graph.sage, k, GRAPH_ITEM, vector, scratch);
        assert_memory_equal(vector, graph.vectors + i * wide, sizeof vector);
    }
    assert_true(fresh > 10 && graph.spread > 0);
    learn(THREADS_TRIED - 1, &other);
    assert_memory_equal(graph.vectors, other.vectors, ITEMS * wide * sizeof(float));
    assert_memory_equal(&graph.spread, &other.spread, sizeof(float));
    graph_model_deinit(&other);
}

/* ---- requests --------------------------------------------------------------------------- */

static void read_person(size_t person, struct graph_person *p)
{
    assert_true(graph_person_init(&graph, p));
    graph_person_begin(&graph, p);
    for (size_t i = 0; i < RATED; i++) {
        uint32_t row = (uint32_t)rig_rated(person, i);
        graph_person_take(&graph, cpu_kernels(rig_backend), p, row, text.rows[row]);
    }
    graph_person_end(&graph, cpu_kernels(rig_backend), p);
}

static const struct akin_recommendation *of_row(const struct akin_recommendation *results,
                                                size_t found, size_t row)
{
    for (size_t i = 0; i < found; i++)
        if (results[i].row == row)
            return &results[i];
    fail_msg("row %zu is not among the results", row);
    return NULL;
}

static void new_items_change_places(void **state)
{
    (void)state;
    static struct akin_recommendation with[ITEMS], without[ITEMS];
    const struct kernels *k = cpu_kernels(rig_backend);
    struct akin_request request = rig_request(ITEMS);
    struct graph_person p;
    double mean = 0, mean_text = 0, error = 0, fresh = 0;
    request.user = "p6";
    size_t found = rig_ask(&request, without);
    recommender_use_inputs(rig, &(struct recommend_inputs){ .graph = &graph });
    assert_int_equal(rig_ask(&request, with), found);
    read_person(6, &p);
    for (size_t i = 0; i < found; i++) {
        const struct akin_recommendation *old = of_row(without, found, with[i].row);
        assert_memory_equal(&with[i].similarity, &old->similarity, sizeof(float));
        if (!graph.fresh[with[i].row]) {
            assert_memory_equal(&with[i].parts, &old->parts, sizeof old->parts);
            assert_memory_equal(&with[i].score, &old->score, sizeof(float));
            continue;
        }
        const float *row = text.rows[with[i].row];
        double weight = (double)with[i].parts.text / (double)with[i].similarity;
        double replaced = (double)with[i].similarity + (double)with[i].parts.graph / weight;
        double score = (double)graph_model_score(&graph, k, &p, (uint32_t)with[i].row, row);
        if (fresh == 0)
            error = replaced - (double)graph.spread * score;
        assert_true(fabs(replaced - (double)graph.spread * score - error) < 1e-3);
        mean += replaced;
        mean_text += (double)with[i].similarity;
        fresh++;
    }
    assert_true(fresh > 10);
    assert_true(fabs(mean - mean_text) / fresh < 2e-3);
    graph_person_deinit(&p);
    recommender_use_inputs(rig, &(struct recommend_inputs){ 0 });
}

/* Rows that are ready and rows that are rounded when they are taken add up to the same bits; new
 * items and one without a text among them; and to nearly what float32 does. */
static void a_past_of_bytes(void **state)
{
    (void)state;
    const struct kernels *k = cpu_kernels(rig_backend);
    float *texts = memory_alloc(ITEMS * graph.dim, sizeof *texts);
    float *exact = memory_alloc(graph.dim + graph.rank, sizeof *exact);
    struct graph_past past;
    struct graph_person ready, rounded;
    size_t fresh = 0, wide = graph.dim + graph.rank;
    double same = 0, own = 0, other = 0;
    assert_non_null(texts);
    assert_non_null(exact);
    for (size_t row = 0; row < ITEMS; row++)
        memcpy(texts + row * graph.dim, text.rows[row], graph.dim * sizeof *texts);
    must(graph_past_make(&graph, texts, &past, NULL), NULL);
    assert_true(graph_past_bytes(&past) > 0);
    assert_true(graph_person_init(&graph, &ready) && graph_person_init(&graph, &rounded));
    graph_person_begin(&graph, &ready);
    graph_person_begin(&graph, &rounded);
    for (uint32_t row = 0; row < ITEMS; row++) {
        graph_past_fetch(&past, row);
        graph_past_take(&past, &graph, k, &ready, row, texts + row * graph.dim);
        graph_person_take(&graph, k, &rounded, row, text.rows[row]);
        k->add_f32(exact, text.rows[row], graph.dim);
        k->add_f32(exact + graph.dim, graph.vectors + row * wide + graph.dim, graph.rank);
        fresh += past.places[row] == UINT32_MAX;
    }
    assert_true(fresh > 10 && fresh < ITEMS && past.places[BLANK] != UINT32_MAX);
    assert_int_equal(ready.count, ITEMS);
    assert_memory_equal(ready.mean, rounded.mean, graph.dim * sizeof(float));
    assert_memory_equal(ready.vector + graph.dim, rounded.vector + graph.dim,
                        graph.rank * sizeof(float));
    for (size_t d = 0; d < wide; d++) {
        double a = (double)exact[d];
        double b = (double)(d < graph.dim ? ready.mean[d] : ready.vector[d]);
        same += a * b;
        own += a * a;
        other += b * b;
    }
    assert_true(same / sqrt(own * other) > 0.9998 && fabs(sqrt(other / own) - 1) < 1e-3);
    graph_person_deinit(&ready);
    graph_person_deinit(&rounded);
    graph_past_deinit(&past);
    memory_free(texts);
    memory_free(exact);
}

/* Only people: an item, words or a past of nothing are as they were; and nothing is allocated. */
static void nothing_else_changes(void **state)
{
    (void)state;
    struct akin_recommendation before[20], after[20];
    struct akin_request item = rig_request(20), nobody = rig_request(20), both = rig_request(20);
    struct akin_request *requests[] = { &item, &nobody, &both };
    item.similar = "f1";
    nobody.user = "nobody knows me";
    both.user = "p6";
    both.similar = "f1";
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        recommender_use_inputs(rig, &(struct recommend_inputs){ 0 });
        size_t found = rig_ask(requests[i], before);
        recommender_use_inputs(rig, &(struct recommend_inputs){ .graph = &graph });
        assert_int_equal(rig_ask(requests[i], after), found);
        assert_true(rig_same(before, after, found));
    }
    both.similar = NULL;
    both.filter = "ratings = 0";
    size_t found = rig_ask(&both, before);
    assert_true(found > 10);
    for (size_t i = 0; i < found; i++)
        assert_true(before[i].row == BLANK || graph.fresh[before[i].row]);
    both.filter = NULL;
    must(recommender_prepare(rig, (struct akin_progress){ 0 }, NULL), NULL);
    uint64_t allocations = 0;
    for (int round = 0; round < 4; round++) {
        allocations = round == 2 ? memory_allocations() : allocations;
        (void)rig_ask(&both, after);
    }
    assert_int_equal(memory_allocations(), allocations);
    recommender_use_inputs(rig, &(struct recommend_inputs){ 0 });
}

/* ---- on disk ---------------------------------------------------------------------------- */

static void refused(const char *identity, size_t items, size_t dim, const char *why)
{
    struct akin_error error;
    struct graph_model read;
    assert_int_equal(graph_model_read(path, identity, items, dim, &read, &error), AKIN_FORMAT);
    if (!strstr(error.message, why) || !strstr(error.message, "graph.safetensors"))
        fail_msg("\"%s\" does not say \"%s\"", error.message, why);
}

/* With `from` in the file replaced by `to`, of the same length. */
static void patched(const struct bytes *whole, const char *from, const char *to, const char *why)
{
    struct bytes changed = { 0 };
    bytes_append(&changed, whole->data, whole->count);
    char *at = memmem(changed.data, changed.count, from, strlen(from));
    assert_non_null(at);
    memcpy(at, to, strlen(to));
    must(file_write(path, changed.data, changed.count, NULL), NULL);
    refused("these", ITEMS, DIM, why);
    bytes_deinit(&changed);
}

static void kept_on_disk(void **state)
{
    (void)state;
    struct akin_error error;
    struct graph_model read;
    struct bytes whole = { 0 };
    size_t wide = graph.dim + graph.rank;
    assert_int_equal(graph_model_read(path, "these", ITEMS, DIM, &read, &error), AKIN_NOT_FOUND);
    must(graph_model_write(&graph, path, "these", &error), &error);
    must(graph_model_read(path, "these", ITEMS, DIM, &read, &error), &error);
    assert_memory_equal(read.vectors, graph.vectors, ITEMS * wide * sizeof(float));
    assert_memory_equal(read.middle, graph.middle, (wide + DIM) * sizeof(float));
    assert_memory_equal(read.fresh, graph.fresh, ITEMS);
    assert_memory_equal(read.sage.values, graph.sage.values,
                        GRAPH_TOWERS * graph_tower_values(DIM) * sizeof(float));
    assert_memory_equal(read.kin.weights, graph.kin.weights,
                        graph.rank * graph.kin.basis * sizeof(float));
    assert_memory_equal(&read.spread, &graph.spread, sizeof(float));
    graph_model_deinit(&read);
    refused("those", ITEMS, DIM, "other items");
    refused("these", ITEMS + 1, DIM, "vectors");
    refused("these", ITEMS, DIM + 16, "48 numbers");
    must(file_read(path, 1 << 24, &whole, NULL), NULL);
    patched(&whole, "\"akin_graph\":\"1\"", "\"akin_graph\":\"7\"", "version 7");
    patched(&whole, "akin_graph", "akin_grapf", "no graph");
    patched(&whole, "\"dimension\":\"48\"", "\"dimension\":\"x8\"", "dimension");
    patched(&whole, "\"rank\":\"128\"", "\"rank\":\"999\"", "rank");
    patched(&whole, "\"rank\":\"128\"", "\"rank\":\"120\"", "shape");
    patched(&whole, "kin.texts", "kin.tests", "kin.texts is missing");
    const float nan = NAN;
    memcpy(whole.data + whole.count - sizeof nan, &nan, sizeof nan);
    must(file_write(path, whole.data, whole.count, NULL), NULL);
    refused("these", ITEMS, DIM, "spread: number 0 is not finite");
    must(file_write(path, whole.data, whole.count - 3, NULL), NULL);
    refused("these", ITEMS, DIM, "");
    bytes_deinit(&whole);
}

/* ---- fit -------------------------------------------------------------------------------- */

static bool stop_at_graph(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)cookie;
    (void)done;
    (void)total;
    return strcmp(stage, "training the graph") != 0;
}

static enum akin_status fit(struct akin_progress progress, struct akin_fit_report *report,
                            struct akin_error *error)
{
    struct taste *taste;
    struct akin_fit_settings settings = { .items_max = 200, .row_max = 50, .seed = 1,
                                          .graph = true, .progress = progress };
    struct fit_lesson lesson = { .backend = rig_backend, .catalog = rig_catalog,
                                 .settings = &settings };
    enum akin_status status = fit_catalog(&lesson, &taste, report, error);
    if (status == AKIN_OK)
        status = taste_write(taste, catalog_folder(rig_catalog), rig_catalog, error);
    taste_destroy(&taste);
    return status;
}

static void expect_graph(bool there, const char *why)
{
    struct akin_error error = { 0 };
    struct taste *taste;
    must(taste_open(cpu_kernels(rig_backend), catalog_folder(rig_catalog), rig_catalog, &taste,
                    &error), &error);
    assert_int_equal(taste->graph != NULL, there);
    assert_int_equal(taste->graph_aside.status == AKIN_OK, there);
    if (!there)
        assert_non_null(strstr(taste->graph_aside.message, why));
    else
        assert_memory_equal(taste->graph->fresh, graph.fresh, ITEMS);
    taste_destroy(&taste);
}

static void fitted(void **state)
{
    (void)state;
    struct akin_error error = { 0 };
    struct akin_fit_report report;
    struct akin_progress stopping = { .update = stop_at_graph };
    struct bytes whole = { 0 };
    size_t fresh = 0;
    for (size_t i = 0; i < ITEMS; i++)
        fresh += graph.fresh[i];
    must(fit((struct akin_progress){ 0 }, &report, &error), &error);
    assert_int_equal(report.new_items, fresh);
    assert_true(report.graph_seconds > 0);
    expect_graph(true, NULL);
    assert_int_equal(fit(stopping, &report, &error), AKIN_CANCELLED);
    expect_graph(true, NULL);       /* the one of before */
    snprintf(path, sizeof path, "%s/taste/graph.safetensors", catalog_folder(rig_catalog));
    must(file_read(path, 1 << 24, &whole, NULL), NULL);
    must(file_write(path, whole.data, whole.count / 2, NULL), NULL);
    expect_graph(false, "graph.safetensors");
    bytes_deinit(&whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learned),
        cmocka_unit_test(new_items_change_places),
        cmocka_unit_test(a_past_of_bytes),
        cmocka_unit_test(nothing_else_changes),
        cmocka_unit_test(kept_on_disk),
        cmocka_unit_test(fitted),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
