/* akin bench recommend: the five-test report (similar items, people, batches, filter, memory) on
 * any catalogue, with times by the monotonic clock after a warm-up. The judgement of the results
 * against the targets is in bench_targets.c. */
#include <math.h>
#include <string.h>

#include "cli/bench_recommend.h"
#include "cli/report.h"
#include "cli/results.h"

static const struct option bench_options[] = {
    {"repeats", 0, OPTION_COUNT, "N", "21", "measurements per figure, the median counts", 1,
     BENCH_REPEATS_MAX},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the JSON report", 0, 0},
};

enum { WARMUPS = 3, BATCH_REPEATS_MAX = 5 };

static const size_t batch_sizes[BATCHES] = {10, 100, 1000};

/* ---- what to ask ------------------------------------------------------------------------- */

static size_t rating_count(const struct akin_catalog *catalog, size_t user)
{
    size_t count = 0;
    akin_catalog_user_ratings(catalog, user, &count);
    return count;
}

/* Toy Story (1995), or else the item that most people rated (the first one without ratings). */
static enum akin_status choose_item(struct recommend_bench *b)
{
    static const char favourite[] = "Toy Story (1995)";
    size_t best = 0;
    if (akin_catalog_find(b->catalog, favourite, &b->row, NULL) == AKIN_OK) {
        akin_catalog_item(b->catalog, b->row, &b->item);
        if (strcmp(b->item.title, favourite) == 0)
            return AKIN_OK;
    }
    uint32_t *counts = memory_alloc(b->info.items, sizeof *counts);
    if (!counts)
        return error_memory(&b->cli->error);
    for (size_t user = 0; user < b->info.users_with_vector; user++) {
        size_t n = 0;
        const struct akin_rating *ratings = akin_catalog_user_ratings(b->catalog, user, &n);
        for (size_t i = 0; i < n; i++)
            counts[ratings[i].row]++;
    }
    for (size_t row = 1; row < b->info.items; row++)
        if (counts[row] > counts[best])
            best = row;
    memory_free(counts);
    b->row = best;
    akin_catalog_item(b->catalog, best, &b->item);
    return AKIN_OK;
}

/* The five with the most ratings, the first ones among equals. */
static void choose_users(struct recommend_bench *b)
{
    for (size_t user = 0; user < b->info.users_with_vector; user++) {
        size_t count = rating_count(b->catalog, user), at = b->user_count;
        while (at > 0 && rating_count(b->catalog, b->users[at - 1].user) < count)
            at--;
        if (at == USERS)
            continue;
        size_t last = b->user_count < USERS ? b->user_count++ : USERS - 1;
        memmove(&b->users[at + 1], &b->users[at], (last - at) * sizeof b->users[0]);
        b->users[at] = (struct user_result){.user = user};
    }
}

static void choose_filter(struct recommend_bench *b)
{
    if (b->item.genre_count == 0 || strpbrk(b->item.genres[0], "\"\\"))
        return;
    snprintf(b->genre, sizeof b->genre, "%s", b->item.genres[0]);
    snprintf(b->filter, sizeof b->filter, "genre=\"%s\"", b->genre);
}

/* ---- measuring --------------------------------------------------------------------------- */

struct call {
    struct recommend_bench *bench;
    struct akin_request request;
    struct akin_recommendation *results;
    size_t found;
};

static enum akin_status call_recommend(void *context)
{
    struct call *call = context;
    return akin_recommend(call->bench->recommender, &call->request, call->results, &call->found,
                          NULL, &call->bench->cli->error);
}

static enum akin_status measure(struct recommend_bench *b, struct call *call,
                                struct measured *measured)
{
    call->bench = b;
    call->request.k = K;
    call->results = measured->results;
    TRY(bench_median_ms(call_recommend, call, WARMUPS, b->repeats, &measured->ms));
    measured->found = call->found;
    return AKIN_OK;
}

static enum akin_status measure_items(struct recommend_bench *b)
{
    struct call call;
    akin_request_default(&call.request);
    call.request.similar = b->item.id;
    TRY(measure(b, &call, &b->similar));
    if (!*b->filter)
        return AKIN_OK;
    call.request.filter = b->filter;
    TRY(measure(b, &call, &b->filtered));
    return akin_recommender_count(b->recommender, b->filter, &b->filter_passes, &b->cli->error);
}

static enum akin_status measure_users(struct recommend_bench *b)
{
    for (size_t i = 0; i < b->user_count; i++) {
        struct call call;
        akin_request_default(&call.request);
        call.request.user = akin_catalog_user_id(b->catalog, b->users[i].user);
        TRY(measure(b, &call, &b->users[i].measured));
    }
    return AKIN_OK;
}

struct batch_call {
    struct recommend_bench *bench;
    float *vectors;                      /* [count][dimension] */
    struct akin_recommendation *results; /* [count][K] */
    size_t *found;                       /* [count] */
    size_t count;
};

static enum akin_status call_batch(void *context)
{
    struct batch_call *call = context;
    return akin_recommend_vectors(call->bench->recommender, call->vectors, call->count, K, NULL,
                                  call->results, call->found, &call->bench->cli->error);
}

/* Queries are vectors of items spread over the catalogue. */
static enum akin_status measure_batches(struct recommend_bench *b)
{
    size_t dimension = b->info.dimension, most = batch_sizes[BATCHES - 1];
    int repeats = b->repeats < BATCH_REPEATS_MAX ? b->repeats : BATCH_REPEATS_MAX;
    enum akin_status status = AKIN_OK;
    struct batch_call call = {.bench = b,
                              .vectors = memory_alloc_aligned(most, dimension * sizeof(float)),
                              .results = memory_alloc(most, K * sizeof(struct akin_recommendation)),
                              .found = memory_alloc(most, sizeof(size_t))};
    if (!call.vectors || !call.results || !call.found) {
        status = error_memory(&b->cli->error);
        goto done;
    }
    for (size_t i = 0; i < BATCHES; i++) {
        b->batches[i].size = call.count = batch_sizes[i];
        for (size_t q = 0; q < call.count; q++) {
            size_t row = (size_t)((double)q / (double)call.count * (double)b->info.items);
            memcpy(call.vectors + q * dimension, akin_catalog_item_vector(b->catalog, row),
                   dimension * sizeof(float));
        }
        TRY_DONE(bench_median_ms(call_batch, &call, 1, repeats, &b->batches[i].ms));
        b->batch_bytes = call.count * (dimension * sizeof(float) + K * sizeof *call.results);
    }
done:
    memory_free(call.vectors);
    memory_free(call.results);
    memory_free(call.found);
    return status;
}

static void measure_memory(struct recommend_bench *b)
{
    akin_machine_describe(&b->machine);
    akin_recommender_memory(b->recommender, &b->memory);
    b->rss_bytes = akin_rss_bytes();
    b->peak_rss_bytes = akin_peak_rss_bytes();
}

/* ---- the report as JSON ------------------------------------------------------------------ */

static json_t *users_json(const struct recommend_bench *b)
{
    json_t *root = json_object(), *array = json_array();
    double sum = 0;
    for (size_t i = 0; i < b->user_count; i++) {
        const struct measured *m = &b->users[i].measured;
        json_t *row = json_object(), *list = json_array();
        for (size_t r = 0; r < m->found; r++) {
            struct akin_item item;
            akin_catalog_item(b->catalog, m->results[r].row, &item);
            json_array_append_new(
                list, json_pack("{s:o, s:o}", "title", json_of_text(item.title), "similarity",
                                json_of_double((double)m->results[r].similarity)));
        }
        json_object_set_new(row, "user_id",
                            json_of_text(akin_catalog_user_id(b->catalog, b->users[i].user)));
        json_object_set_new(row, "gpu_time_ms", json_of_double(m->ms));
        json_object_set_new(row, "recommendations", list);
        json_array_append_new(array, row);
        sum += m->ms;
    }
    json_object_set_new(root, "avg_gpu_time_ms",
                        b->user_count ? json_of_double(sum / (double)b->user_count) : json_null());
    json_object_set_new(root, "user_results", array);
    return root;
}

static json_t *batches_json(const struct recommend_bench *b)
{
    json_t *root = json_object();
    for (size_t i = 0; i < BATCHES; i++) {
        char key[32];
        json_t *row = json_object();
        snprintf(key, sizeof key, "batch_%zu", b->batches[i].size);
        json_object_set_new(row, "total_time_ms", json_of_double(b->batches[i].ms));
        json_object_set_new(row, "time_per_query_ms",
                            json_of_double(b->batches[i].ms / (double)b->batches[i].size));
        json_object_set_new(row, "throughput_qps", json_of_double(batch_qps(&b->batches[i])));
        json_object_set_new(root, key, row);
    }
    return root;
}

static json_t *memory_json(const struct recommend_bench *b)
{
    json_t *root = json_object();
    json_object_set_new(root, "allocated_gb", json_of_double((double)b->memory.total / 1e9));
    json_object_set_new(root, "reserved_gb", json_of_double((double)b->rss_bytes / 1e9));
    json_object_set_new(root, "total_gb", json_of_double((double)b->machine.memory_bytes / 1e9));
    json_object_set_new(root, "free_gb",
                        json_of_double((double)b->machine.memory_available_bytes / 1e9));
    json_object_set_new(root, "peak_allocated_gb",
                        json_of_double((double)(b->memory.total + b->batch_bytes) / 1e9));
    json_object_set_new(root, "peak_reserved_gb", json_of_double((double)b->peak_rss_bytes / 1e9));
    return root;
}

static json_t *report_json(const struct recommend_bench *b, const struct bench_target *targets,
                           size_t count)
{
    json_t *root = json_object(), *one = json_object(), *four = json_object(),
           *inputs = json_object();
    json_object_set_new(one, "gpu_time_ms", json_of_double(b->similar.ms));
    json_object_set_new(one, "results",
                        results_json(b->catalog, b->similar.results, b->similar.found));
    json_object_set_new(four, "gpu_time_ms",
                        *b->filter ? json_of_double(b->filtered.ms) : json_null());
    json_object_set_new(four, "filtered_count",
                        *b->filter ? json_of_count(b->filter_passes) : json_null());
    json_object_set_new(four, "results",
                        results_json(b->catalog, b->filtered.results, b->filtered.found));
    json_object_set_new(inputs, "items", json_of_count(b->info.items));
    json_object_set_new(inputs, "users", json_of_count(b->info.users_with_vector));
    json_object_set_new(inputs, "dimension", json_of_count(b->info.dimension));
    json_object_set_new(inputs, "query", json_of_text(b->item.title));
    json_object_set_new(inputs, "filter", json_of_known(b->filter));
    json_object_set_new(inputs, "k", json_integer(K));
    json_object_set_new(root, "test_1_similarity", one);
    json_object_set_new(root, "test_2_personalization", users_json(b));
    json_object_set_new(root, "test_3_batch", batches_json(b));
    json_object_set_new(root, "test_4_filtering", four);
    json_object_set_new(root, "test_5_memory", memory_json(b));
    json_object_set_new(root, "targets", bench_targets_json(targets, count));
    json_object_set_new(root, "inputs", inputs);
    report_common(b->cli, root);
    return root;
}

/* ---- the report for people --------------------------------------------------------------- */

static void print_batches(const struct recommend_bench *b)
{
    static const struct table_column columns[] = {{"  batch", TABLE_RIGHT, 0},
                                                  {"total", TABLE_RIGHT, 0},
                                                  {"per query", TABLE_RIGHT, 0},
                                                  {"throughput", TABLE_RIGHT, 0}};
    struct table table;
    char qps[NUMBER_BYTES];
    table_init(&table, columns, 4);
    for (size_t i = 0; i < BATCHES; i++) {
        table_cell(&table, "%zu", b->batches[i].size);
        table_cell(&table, "%.2f ms", b->batches[i].ms);
        table_cell(&table, "%.4f ms", b->batches[i].ms / (double)b->batches[i].size);
        table_cell(&table, "%s QPS",
                   format_count(qps, (uint64_t)(batch_qps(&b->batches[i]) + 0.5)));
    }
    table_print(&table, stdout);
    table_deinit(&table);
}

static void print_memory(const struct recommend_bench *b)
{
    char text[NUMBER_BYTES];
    report_line("item vectors", "%s", format_bytes(text, b->memory.item_vectors));
    report_line("user vectors", "%s", format_bytes(text, b->memory.user_vectors));
    report_line("metadata", "%s", format_bytes(text, b->memory.metadata));
    report_line("ratings", "%s", format_bytes(text, b->memory.ratings));
    report_line("active users", "%s", format_bytes(text, b->memory.active_users));
    report_line("  reserved", "%s", format_bytes(text, b->memory.active_users_reserved));
    report_line("resident", "%s", format_bytes(text, b->rss_bytes));
    report_line("peak resident", "%s", format_bytes(text, b->peak_rss_bytes));
    report_line("machine", "%s", format_bytes(text, b->machine.memory_bytes));
}

static void print_report(const struct recommend_bench *b, const struct bench_target *targets,
                         size_t count)
{
    char items[NUMBER_BYTES], users[NUMBER_BYTES];
    report_machine(b->cli);
    printf("Catalogue: %s items, %s users, %zu dimensions; times are medians on the %s\n",
           format_count(items, b->info.items), format_count(users, b->info.users_with_vector),
           b->info.dimension, akin_engine_device(b->cli->engine));
    printf("\nTest 1: similar to %s, %.3f ms\n", b->item.title, b->similar.ms);
    results_print(b->catalog, b->similar.results, b->similar.found);
    for (size_t i = 0; i < b->user_count; i++) {
        const struct measured *m = &b->users[i].measured;
        printf("\nTest 2: user %s (%zu ratings), %.3f ms\n",
               akin_catalog_user_id(b->catalog, b->users[i].user),
               rating_count(b->catalog, b->users[i].user), m->ms);
        results_print(b->catalog, m->results, m->found < 5 ? m->found : 5);
    }
    if (!b->user_count)
        printf("\nTest 2: skipped, the catalogue has no users with ratings\n");
    printf("\nTest 3: batches\n");
    print_batches(b);
    if (*b->filter) {
        printf("\nTest 4: %s (%s items pass), %.3f ms\n", b->filter,
               format_count(items, b->filter_passes), b->filtered.ms);
        results_print(b->catalog, b->filtered.results, b->filtered.found);
    } else {
        printf("\nTest 4: skipped, %s has no genre to filter by\n", b->item.title);
    }
    printf("\nTest 5: memory\n");
    print_memory(b);
    printf("\nTargets\n");
    bench_targets_print(targets, count);
}

/* ---- the command ------------------------------------------------------------------------- */

static enum akin_status prepare(struct recommend_bench *b)
{
    struct cli *cli = b->cli;
    TRY(cli_engine(cli));
    TRY(cli_catalog(cli, &b->catalog));
    akin_catalog_info(b->catalog, &b->info);
    if (b->info.items == 0)
        return error_set(&cli->error, AKIN_NOT_FOUND, "%s: no items in it",
                         cli_setting(cli, "data"));
    TRY(akin_recommender_open(cli->engine, b->catalog, NULL, NULL, &b->recommender, &cli->error));
    TRY(choose_item(b));
    choose_users(b);
    choose_filter(b);
    return AKIN_OK;
}

static enum akin_status run_bench(struct cli *cli)
{
    struct bench_target targets[RECOMMEND_TARGETS_MAX];
    enum akin_status status = AKIN_OK;
    struct recommend_bench *b = memory_alloc(1, sizeof *b);
    if (!b)
        return error_memory(&cli->error);
    b->cli = cli;
    b->repeats = (int)options_count(&cli->options, "repeats");
    TRY_DONE(prepare(b));
    print_note(cli, "measuring, this takes a moment");
    TRY_DONE(measure_items(b));
    TRY_DONE(measure_users(b));
    TRY_DONE(measure_batches(b));
    measure_memory(b);
    size_t count = recommend_targets(b, targets);
    if (!cli->json)
        print_report(b, targets, count);
    status = report_write(cli, "recommend", report_json(b, targets, count));
done:
    akin_recommender_close(&b->recommender);
    akin_catalog_close(&b->catalog);
    memory_free(b);
    return status;
}

const struct command command_bench_recommend = {
    .name = "bench recommend",
    .arguments = "[options]",
    .summary = "the five-test report on a catalogue",
    .details =
        "Similar items, five users, batches of 10, 100 and 1000, a genre filter, memory. A missed\n"
        "target is reported, not an error. The time keys of the JSON file carry times of the "
        "device\n"
        "that \"device\" names.\n",
    .examples = "  akin bench recommend --data films --output-dir results\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench,
};
