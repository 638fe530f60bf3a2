/* The report of akin bench personalize: JSON, tables, targets, and two pictures. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "cli/bench_personalize.h"
#include "cli/chart.h"
#include "cli/gpu_report.h"
#include "cli/report.h"

static const char *const stage_names[STAGES] = {"encode", "fuse", "filter", "search", "total"};

static const char *line_name(size_t line)
{
    return line ? cache_policies[line - 1].name : "akin";
}

static const char *line_key(size_t line)
{
    return line ? cache_policies[line - 1].key : "akin";
}

static double batch_qps(double ms, size_t size)
{
    return ms > 0 ? 1000 * (double)size / ms : NAN;
}

static double known(double value, bool is_known)
{
    return is_known ? value : NAN;
}

/* ---- targets ----------------------------------------------------------------------------- */

static double best_other(const struct cache_rates *rates, size_t size)
{
    double best = 0;
    for (size_t line = 1; line < CACHE_LINES - 1; line++)
        best = rates->rates[line][size] > best ? rates->rates[line][size] : best;
    return best;
}

/* What is asked of a GPU instead. */
static void ask_more(const struct personal_bench *b, struct bench_target *targets, size_t *count)
{
    static const double limits[PERSONAL_BATCHES] = { 100000, 400000, 1000000 };
    static const char *const names[PERSONAL_BATCHES] = {
        "GPU: batch of 10 ready queries", "GPU: batch of 100 ready queries",
        "GPU: batch of 1000 ready queries"
    };
    targets[(*count)++] = (struct bench_target){
        "GPU: query with encoding, median", "ms", BENCH_BELOW,
        known(b->stages[STAGE_TOTAL].median, b->model != NULL), 0.3, "no model"
    };
    for (size_t i = 0; i < PERSONAL_BATCHES; i++)
        targets[(*count)++] = (struct bench_target){
            names[i], "QPS", BENCH_AT_LEAST, batch_qps(b->batches[i].warm_ms, b->batches[i].size),
            limits[i], ""
        };
}

size_t personal_targets(const struct personal_bench *b, struct bench_target *targets)
{
    const struct cache_rates *rates = &b->rates;
    const struct made_up *made = &b->made;
    const char *no_model = "no model", *no_ratings = "the catalogue has no ratings",
               *no_made = "needs --ratings 25000000", *no_updates = "needs --ratings";
    bool replayed = rates->requests > 0, full = made->ratings >= 25000000, some = made->ratings > 0;
    double ours = rates->rates[0][PLACE_16], belady = rates->rates[CACHE_LINES - 1][PLACE_16];
    uint64_t bytes = b->memory.total + b->cache.counts.bytes;
    const struct bench_target all[] = {
        {"fusion, median", "ms", BENCH_BELOW, b->stages[STAGE_FUSE].median, 0.01, ""},
        {"cached look-up, mean", "ms", BENCH_BELOW, b->cache.hit_ms, 0.02, ""},
        {"a person in the graph, median", "ms", BENCH_BELOW, b->graph.median, 0.05,
         "needs akin fit --graph"},
        {"query without encoding, median", "ms", BENCH_BELOW, b->without_encoding.median, 0.3, ""},
        {"reranker for a context, median", "ms", BENCH_BELOW, b->situation.median, 0.2,
         "needs akin fit --reranker"},
        {"query with encoding, median", "ms", BENCH_BELOW,
         known(b->stages[STAGE_TOTAL].median, b->model != NULL), 3, no_model},
        {"batch of 1000 ready queries", "QPS", BENCH_AT_LEAST,
         batch_qps(b->batches[2].warm_ms, b->batches[2].size), 20000, ""},
        {"memory of catalogue, people, cache", "GB", BENCH_BELOW, (double)bytes / 1e9, 1, ""},
        {"import of 25,000,000 ratings", "s", BENCH_BELOW, known(made->import_s, full), 30,
         no_made},
        {"vectors of 162,541 users", "s", BENCH_BELOW, known(made->vectors_s, full), 20, no_made},
        {"ratings taken, in memory", "/s", BENCH_AT_LEAST, known(made->updates_per_s, some), 100000,
         no_updates},
        {"ratings taken, durable", "/s", BENCH_AT_LEAST, known(made->durable_per_s, some), 20000,
         no_updates},
        {"hit rate at 16 %, best other policy", "", BENCH_AT_LEAST, known(ours, replayed),
         best_other(rates, PLACE_16), no_ratings},
        {"hit rate at 16 %, of Belady's bound", "%", BENCH_AT_LEAST,
         known(100 * ours / belady, replayed), 90, no_ratings},
    };
    size_t count = sizeof all / sizeof all[0];
    memcpy(targets, all, sizeof all);
    if (strcmp(akin_engine_device(b->cli->engine), "cpu"))
        ask_more(b, targets, &count);
    return count;
}

/* ---- JSON -------------------------------------------------------------------------------- */

static json_t *latency_json(const struct personal_bench *b)
{
    json_t *root = json_object(), *stages = json_object(), *rest = json_object();
    const struct stage_times *total = &b->stages[STAGE_TOTAL], *other = &b->without_encoding;
    json_object_set_new(root, "mean_ms", json_of_double(total->mean));
    json_object_set_new(root, "median_ms", json_of_double(total->median));
    json_object_set_new(root, "p95_ms", json_of_double(total->p95));
    json_object_set_new(root, "p99_ms", json_of_double(total->p99));
    json_object_set_new(root, "cold_start_ms", json_of_double(b->cold_ms));
    json_object_set_new(root, "warm_ms", json_of_double(total->median));
    json_object_set_new(root, "open_ms", json_of_double(b->open_ms));
    json_object_set_new(root, "prepare_ms", json_of_double(b->prepare_ms));
    json_object_set_new(stages, "encode_ms", json_of_double(b->stages[STAGE_ENCODE].median));
    json_object_set_new(stages, "fuse_ms", json_of_double(b->stages[STAGE_FUSE].median));
    json_object_set_new(stages, "filter_ms", json_of_double(b->stages[STAGE_FILTER].median));
    json_object_set_new(stages, "search_ms", json_of_double(b->stages[STAGE_SEARCH].median));
    json_object_set_new(stages, "rerank_ms", json_of_double(b->situation.median));
    json_object_set_new(stages, "rerank_candidates", json_of_count(b->situation_candidates));
    json_object_set_new(root, "stages", stages);
    json_object_set_new(rest, "mean_ms", json_of_double(other->mean));
    json_object_set_new(rest, "median_ms", json_of_double(other->median));
    json_object_set_new(rest, "p95_ms", json_of_double(other->p95));
    json_object_set_new(rest, "p99_ms", json_of_double(other->p99));
    json_object_set_new(root, "without_encoding", rest);
    json_object_set_new(root, "first_visit_ms", json_of_double(b->first_visits.median));
    json_object_set_new(root, "graph_ms", json_of_double(b->graph.median));
    json_object_set_new(root, "new_ms", json_of_double(b->fresh.median));
    json_object_set_new(root, "queries", json_of_count(b->queries));
    return root;
}

static json_t *throughput_json(const struct personal_bench *b)
{
    json_t *root = json_object();
    for (size_t i = 0; i < PERSONAL_BATCHES; i++) {
        const struct personal_batch *batch = &b->batches[i];
        char key[48];
        snprintf(key, sizeof key, "batch_%zu_qps", batch->size);
        json_object_set_new(root, key, json_of_double(batch_qps(batch->warm_ms, batch->size)));
        snprintf(key, sizeof key, "batch_%zu_cold_qps", batch->size);
        json_object_set_new(root, key, json_of_double(batch_qps(batch->cold_ms, batch->size)));
        snprintf(key, sizeof key, "batch_%zu_people_qps", batch->size);
        json_object_set_new(root, key, json_of_double(batch_qps(batch->people_ms, batch->size)));
    }
    return root;
}

static json_t *memory_json(const struct personal_bench *b)
{
    json_t *root = json_object();
    json_object_set_new(root, "item_vectors", json_of_count(b->memory.item_vectors));
    json_object_set_new(root, "user_vectors", json_of_count(b->memory.user_vectors));
    json_object_set_new(root, "metadata", json_of_count(b->memory.metadata));
    json_object_set_new(root, "ratings", json_of_count(b->memory.ratings));
    json_object_set_new(root, "active_users", json_of_count(b->memory.active_users));
    json_object_set_new(root, "neighbour_cache", json_of_count(b->cache.counts.bytes));
    json_object_set_new(root, "total", json_of_count(b->memory.total + b->cache.counts.bytes));
    json_object_set_new(root, "resident", json_of_count(b->rss_bytes));
    json_object_set_new(root, "peak_resident", json_of_count(b->peak_rss_bytes));
    json_object_set_new(root, "gpus", gpu_memory_json(b->cli->engine));
    return root;
}

static json_t *rates_json(const struct cache_rates *rates)
{
    json_t *array = json_array();
    for (size_t size = 0; rates->requests && size < PERSONAL_SIZES; size++) {
        json_t *row = json_object();
        json_object_set_new(row, "slots", json_of_count(rates->slots[size]));
        json_object_set_new(row, "share_pct",
                            json_of_double(100 * (double)rates->slots[size] /
                                           (double)rates->slots[PERSONAL_SIZES - 1]));
        for (size_t line = 0; line < CACHE_LINES; line++)
            json_object_set_new(row, line_key(line), json_of_double(rates->rates[line][size]));
        json_array_append_new(array, row);
    }
    return array;
}

static json_t *cache_json(const struct personal_bench *b)
{
    const struct cache_times *cache = &b->cache;
    json_t *root = json_object();
    json_object_set_new(root, "hit_rate_pct",
                        json_of_double(b->rates.requests ? 100 * b->rates.rates[0][PLACE_16]
                                                         : NAN));
    json_object_set_new(root, "avg_hit_ms", json_of_double(cache->hit_ms));
    json_object_set_new(root, "p99_hit_ms", json_of_double(cache->hit_p99_ms));
    json_object_set_new(root, "avg_hit_while_refreshing_ms",
                        json_of_double(cache->refreshing_hit_ms));
    json_object_set_new(root, "avg_answer_ms", json_of_double(cache->answer_ms));
    json_object_set_new(root, "avg_miss_ms", json_of_double(cache->miss_ms));
    json_object_set_new(root, "speedup",
                        json_of_double(cache->hit_ms > 0 ? cache->miss_ms / cache->hit_ms : NAN));
    json_object_set_new(root, "rebuild_s", json_of_double(cache->rebuild_s));
    json_object_set_new(root, "lists", json_of_count(cache->capacity));
    json_object_set_new(root, "requests_replayed", json_of_count(b->rates.requests));
    json_object_set_new(root, "hit_rates", rates_json(&b->rates));
    return root;
}

static json_t *made_json(const struct made_up *made)
{
    json_t *root = json_object();
    if (!made->ratings)
        return root;
    json_object_set_new(root, "ratings", json_of_count(made->ratings));
    json_object_set_new(root, "users", json_of_count(made->users));
    json_object_set_new(root, "items", json_of_count(made->items));
    json_object_set_new(root, "import_s", json_of_double(made->import_s));
    json_object_set_new(root, "user_vectors_s", json_of_double(made->vectors_s));
    json_object_set_new(root, "updates_per_s", json_of_double(made->updates_per_s));
    json_object_set_new(root, "durable_updates_per_s", json_of_double(made->durable_per_s));
    json_object_set_new(root, "durable_single_updates_per_s",
                        json_of_double(made->durable_single_per_s));
    json_object_set_new(root, "disk_flushes_per_s", json_of_double(made->syncs_per_s));
    return root;
}

static json_t *report_json(const struct personal_bench *b, const struct bench_target *targets,
                           size_t count)
{
    json_t *root = json_object(), *benchmarks = json_object(), *inputs = json_object();
    json_object_set_new(root, "gpu_name", json_null());
    json_object_set_new(benchmarks, "latency", latency_json(b));
    json_object_set_new(benchmarks, "throughput", throughput_json(b));
    json_object_set_new(benchmarks, "memory", memory_json(b));
    json_object_set_new(benchmarks, "cache", cache_json(b));
    json_object_set_new(benchmarks, "made_up_people", made_json(&b->made));
    json_object_set_new(benchmarks, "people_made_active", personal_wake_json(b));
    json_object_set_new(benchmarks, "quality", json_object());  /* akin evaluate */
    json_object_set_new(root, "benchmarks", benchmarks);
    json_object_set_new(root, "targets", bench_targets_json(targets, count));
    json_object_set_new(inputs, "items", json_of_count(b->info.items));
    json_object_set_new(inputs, "users", json_of_count(b->info.users_with_vector));
    json_object_set_new(inputs, "ratings", json_of_count(b->info.ratings));
    json_object_set_new(inputs, "dimension", json_of_count(b->info.dimension));
    json_object_set_new(inputs, "k", json_integer(PERSONAL_K));
    json_object_set_new(root, "inputs", inputs);
    report_common(b->cli, root);
    return root;
}

/* ---- pictures ---------------------------------------------------------------------------- */

static enum akin_status draw_latency(const struct personal_bench *b, const char *folder,
                                     const char *note)
{
    char path[PATH_BYTES_MAX];
    struct chart_bar bars[STAGES];
    size_t count = 0;
    for (size_t s = 0; s < STAGES; s++)
        if (isfinite(b->stages[s].median))
            bars[count++] = (struct chart_bar){stage_names[s], b->stages[s].median, NAN, NAN,
                                               s == STAGE_TOTAL};
    TRY(path_join(path, sizeof path, folder, "personalize_latency.svg", &b->cli->error));
    struct chart chart = {.title = "One request by stage, median", .note = note,
                          .x_label = "milliseconds", .digits = 4};
    return chart_bars(path, &chart, bars, count, &b->cli->error);
}

static enum akin_status draw_rates(const struct personal_bench *b, const char *folder,
                                   const char *note)
{
    char path[PATH_BYTES_MAX];
    const struct cache_rates *rates = &b->rates;
    double shares[PERSONAL_SIZES];
    struct chart_line lines[CACHE_LINES];
    for (size_t i = 0; i < PERSONAL_SIZES; i++)
        shares[i] = 100 * (double)rates->slots[i] / (double)rates->slots[PERSONAL_SIZES - 1];
    for (size_t line = 0; line < CACHE_LINES; line++)
        lines[line] = (struct chart_line){line_name(line), shares, rates->rates[line],
                                          PERSONAL_SIZES, line == CACHE_LINES - 1};
    TRY(path_join(path, sizeof path, folder, "personalize_cache.svg", &b->cli->error));
    struct chart chart = {.title = "Hit rate by size, the catalogue's ratings in time order",
                          .note = note, .x_label = "kept, % of the items that were asked for",
                          .y_label = "hit rate", .log_x = true};
    return chart_lines(path, &chart, lines, CACHE_LINES, &b->cli->error);
}

static enum akin_status draw(const struct personal_bench *b, const char *folder)
{
    char note[256];
    struct akin_machine machine;
    akin_machine_describe(&machine);
    snprintf(note, sizeof note, "%zu items, %zu ratings; %.120s, %d threads", b->info.items,
             b->info.ratings, machine.cpu, akin_engine_threads(b->cli->engine));
    TRY(path_make_folders(folder, &b->cli->error));
    TRY(draw_latency(b, folder, note));
    return b->rates.requests ? draw_rates(b, folder, note) : AKIN_OK;
}

/* ---- for people -------------------------------------------------------------------------- */

static void print_latency(const struct personal_bench *b)
{
    static const struct table_column columns[] = {{"  stage", TABLE_LEFT, 0},
                                                  {"mean ms", TABLE_RIGHT, 0},
                                                  {"median", TABLE_RIGHT, 0},
                                                  {"p95", TABLE_RIGHT, 0},
                                                  {"p99", TABLE_RIGHT, 0}};
    struct table table;
    bool people_and_query = b->info.users_with_vector && b->model;
    table_init(&table, columns, 5);
    for (size_t s = 0; s <= STAGES; s++) {
        const struct stage_times *t = s < STAGES ? &b->stages[s] : &b->without_encoding;
        if (!isfinite(t->mean))
            continue;
        table_cell(&table, "  %s", s < STAGES ? stage_names[s] : "total without encode");
        table_cell(&table, "%.4f", t->mean);
        table_cell(&table, "%.4f", t->median);
        table_cell(&table, "%.4f", t->p95);
        table_cell(&table, "%.4f", t->p99);
    }
    printf("\n%zu single requests by %s%s%s\n", b->queries,
           b->info.users_with_vector ? "a person" : "", people_and_query ? " and " : "",
           b->model ? "a query" : b->info.users_with_vector ? "" : "an item");
    table_print(&table, stdout);
    table_deinit(&table);
    report_line("opening", "%.1f ms", b->open_ms);
    report_line("index in memory", "%.1f ms", b->prepare_ms);
    report_line("the very first", "%.2f ms", b->cold_ms);
    if (b->visitors)
        report_line("first visits", "%.4f ms median of %zu people, without encode",
                    b->first_visits.median, b->visitors);
    if (isfinite(b->graph.median))
        report_line("graph", "%.4f ms median, %.4f ms p95 for a person; %.4f ms for what is new",
                    b->graph.median, b->graph.p95, b->fresh.median);
    for (size_t i = 0; i < PERSONAL_BATCHES; i++) {
        char label[32], cold[NUMBER_BYTES], warm[NUMBER_BYTES], people[NUMBER_BYTES];
        const struct personal_batch *batch = &b->batches[i];
        snprintf(label, sizeof label, "batch of %zu", batch->size);
        report_line(label, "%s queries/s cold, %s warm",
                    format_count(cold, (uint64_t)batch_qps(batch->cold_ms, batch->size)),
                    format_count(warm, (uint64_t)batch_qps(batch->warm_ms, batch->size)));
        if (isfinite(batch->people_ms))
            report_line("  of people, by parts", "%s requests/s",
                        format_count(people, (uint64_t)batch_qps(batch->people_ms, batch->size)));
    }
}

static void print_rates(const struct cache_rates *rates)
{
    struct table_column columns[CACHE_LINES + 1] = {{"  kept", TABLE_RIGHT, 0}};
    struct table table;
    char text[NUMBER_BYTES];
    if (!rates->requests)
        return;
    for (size_t line = 0; line < CACHE_LINES; line++)
        columns[line + 1] = (struct table_column){line_name(line), TABLE_RIGHT, 0};
    table_init(&table, columns, CACHE_LINES + 1);
    for (size_t size = 0; size < PERSONAL_SIZES; size++) {
        table_cell(&table, "  %s", format_count(text, rates->slots[size]));
        for (size_t line = 0; line < CACHE_LINES; line++)
            table_cell(&table, "%.4f", rates->rates[line][size]);
    }
    printf("\nHit rate by size: %s ratings in the order of time, each a request for its item\n",
           format_count(text, rates->requests));
    table_print(&table, stdout);
    table_deinit(&table);
}

static void print_rest(const struct personal_bench *b)
{
    const struct cache_times *cache = &b->cache;
    const struct made_up *made = &b->made;
    char text[NUMBER_BYTES];
    printf("\nNeighbour cache: %s lists\n", format_count(text, cache->capacity));
    report_line("look-up", "%.5f ms (p99 %.5f; %.5f during a refresh)", cache->hit_ms,
                cache->hit_p99_ms, cache->refreshing_hit_ms);
    report_line("answer from it", "%.5f ms, %.3f without the cache", cache->answer_ms,
                cache->miss_ms);
    report_line("built in", "%.2f s by one thread behind all others", cache->rebuild_s);
    if (made->ratings) {
        printf("\nMade-up people: %s ratings\n", format_count(text, made->ratings));
        report_line("import", "%.2f s", made->import_s);
        report_line("user vectors", "%.2f s", made->vectors_s);
        report_line("taken in memory", "%s ratings/s",
                    format_count(text, (uint64_t)made->updates_per_s));
        report_line("taken durably", "%s ratings/s",
                    format_count(text, (uint64_t)made->durable_per_s));
        report_line("  one at a time", "%s ratings/s",
                    format_count(text, (uint64_t)made->durable_single_per_s));
        report_line("flushes of the disk", "%s/s",
                    format_count(text, (uint64_t)made->syncs_per_s));
        personal_wake_print(b);
    }
    printf("\nMemory\n");
    report_line("item vectors", "%s", format_bytes(text, b->memory.item_vectors));
    report_line("user vectors", "%s", format_bytes(text, b->memory.user_vectors));
    report_line("metadata", "%s", format_bytes(text, b->memory.metadata));
    report_line("ratings", "%s", format_bytes(text, b->memory.ratings));
    report_line("active users", "%s", format_bytes(text, b->memory.active_users));
    report_line("neighbour cache", "%s", format_bytes(text, cache->counts.bytes));
    report_line("peak resident", "%s", format_bytes(text, b->peak_rss_bytes));
}

enum akin_status personal_report(struct personal_bench *b, const char *folder)
{
    struct bench_target targets[PERSONAL_TARGETS_MAX];
    size_t count = personal_targets(b, targets);
    char items[NUMBER_BYTES], users[NUMBER_BYTES];
    TRY(draw(b, folder));
    if (!b->cli->json) {
        report_machine(b->cli);
        printf("Catalogue: %s items, %s users, %zu dimensions\n",
               format_count(items, b->info.items),
               format_count(users, b->info.users_with_vector), b->info.dimension);
        print_latency(b);
        print_rates(&b->rates);
        print_rest(b);
        printf("\nTargets\n");
        bench_targets_print(targets, count);
    }
    return report_write(b->cli, "personalize", report_json(b, targets, count));
}
