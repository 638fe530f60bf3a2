/* See report.h. */
#include "cli/report.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "cli/chart.h"
#include "cli/gpu_report.h"

/* ---- what every report carries ----------------------------------------------------------- */

void report_common(struct cli *cli, json_t *report)
{
    struct akin_machine machine;
    akin_machine_describe(&machine);
    json_object_set_new(report, "akin_version", json_of_text(akin_version()));
    json_object_set_new(report, "commit", json_of_text(akin_commit()));
    json_object_set_new(report, "timestamp", json_of_time(clock_unix_seconds()));
    json_object_set_new(report, "hostname", json_of_text(machine.hostname));
    json_object_set_new(report, "cpu", json_of_text(machine.cpu));
    json_object_set_new(report, "threads", json_integer(akin_engine_threads(cli->engine)));
    json_object_set_new(report, "kernels", json_of_text(akin_engine_kernels(cli->engine)));
    json_object_set_new(report, "device", json_of_text(akin_engine_device(cli->engine)));
    if (*cli_setting(cli, "place"))
        json_object_set_new(report, "parts", parts_json(cli->engine));
}

static int append_text(const char *text, size_t bytes, void *out)
{
    bytes_append(out, text, bytes);
    return 0;
}

enum akin_status report_write(struct cli *cli, const char *kind, json_t *report)
{
    char name[128];
    snprintf(name, sizeof name, "%s_%s", kind, akin_engine_device(cli->engine));
    return report_write_as(cli, name, report);
}

enum akin_status report_write_as(struct cli *cli, const char *name, json_t *report)
{
    char path[PATH_BYTES_MAX], file[256], stamp[32];
    const char *folder = options_text(&cli->options, "output-dir");
    struct bytes text = {0};
    enum akin_status status = AKIN_OK;
    int dumped = report ? json_dump_callback(report, append_text, &text,
                                             JSON_INDENT(2) | JSON_REAL_PRECISION(9))
                        : -1;
    bytes_append_text(&text, "\n");
    if (dumped != 0 || text.failed) {
        status = error_memory(&cli->error);
        goto done;
    }
    clock_stamp(stamp, sizeof stamp);
    snprintf(file, sizeof file, "%.200s_%s.json", name, stamp);
    TRY_DONE(path_make_folders(folder, &cli->error));
    TRY_DONE(path_join(path, sizeof path, folder, file, &cli->error));
    TRY_DONE(file_write(path, text.data, text.count, &cli->error));
    if (cli->json) {
        fwrite(text.data, 1, text.count, stdout);
        print_note(cli, "report: %s", path);
    } else {
        printf("\nReport: %s\n", path);
    }
    status = check_output(cli);
done:
    bytes_deinit(&text);
    json_decref(report);
    return status;
}

void report_line(const char *label, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("  %-22s ", label);
    vprintf(format, args);
    putchar('\n');
    va_end(args);
}

void report_machine(struct cli *cli)
{
    struct akin_machine machine;
    char total[NUMBER_BYTES];
    akin_machine_describe(&machine);
    printf("Hardware: %s, %d CPU%s, %s memory; %s kernels, %d thread%s\n",
           *machine.cpu ? machine.cpu : "unknown CPU", machine.cpus, machine.cpus == 1 ? "" : "s",
           format_bytes(total, machine.memory_bytes), akin_engine_kernels(cli->engine),
           akin_engine_threads(cli->engine), akin_engine_threads(cli->engine) == 1 ? "" : "s");
}

const char *placement_text(const struct akin_engine *engine, char *text, size_t bytes)
{
    struct akin_placement p;
    char pinned[96], quota[48] = "", node[64] = "";
    akin_engine_placement(engine, &p);
    if (p.pinned)
        snprintf(pinned, sizeof pinned, "%d bound to %s, not the caller's", p.pinned, p.pinned_to);
    else
        snprintf(pinned, sizeof pinned, "none bound: %s", p.why_not);
    if (p.quota)
        snprintf(quota, sizeof quota, ", a quota of %d", p.quota);
    if (p.node >= 0)
        snprintf(node, sizeof node, " (node %d%s)", p.node, p.node_memory ? ", with memory" : "");
    snprintf(text, bytes, "%d thread%s on %d core%s (%d CPU%s%s) of %d NUMA node%s%s; %s",
             p.threads, p.threads == 1 ? "" : "s", p.cores, p.cores == 1 ? "" : "s", p.cpus,
             p.cpus == 1 ? "" : "s", quota, p.nodes, p.nodes == 1 ? "" : "s", node, pinned);
    return text;
}

json_t *placement_json(const struct akin_engine *engine)
{
    struct akin_placement p;
    akin_engine_placement(engine, &p);
    return json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:s,s:s,s:i,s:b}", "threads", p.threads, "cpus",
                     p.cpus, "cores", p.cores, "numa_nodes", p.nodes, "quota", p.quota, "pinned",
                     p.pinned, "pinned_to", p.pinned_to, "why_not", p.why_not, "node", p.node,
                     "node_memory", (int)p.node_memory);
}

int placement_cores(const struct akin_engine *engine)
{
    struct akin_placement p;
    akin_engine_placement(engine, &p);
    int cores = p.threads;
    if (p.cores && p.cores < cores)
        cores = p.cores;
    return p.quota && p.quota < cores ? p.quota : cores;
}

/* ---- embedding reports ------------------------------------------------------------------- */

void embed_report_add(struct akin_embed_report *sum, const struct akin_embed_report *part)
{
    /* Norms by Chan's formula for joining variances, which does not cancel. What is not finite
     * has no norm; such a part leaves mean and deviation not finite, which is the truth. */
    double na = (double)sum->texts, nb = (double)part->texts, n = na + nb;
    if (n > 0) {
        double delta = part->mean_norm - sum->mean_norm;
        double squares = sum->std_norm * sum->std_norm * na + part->std_norm * part->std_norm * nb +
                         delta * delta * na * nb / n;
        sum->mean_norm += delta * nb / n;
        sum->std_norm = sqrt(squares / n);
    }
    sum->texts += part->texts;
    sum->texts_computed += part->texts_computed;
    sum->tokens += part->tokens;
    sum->seconds += part->seconds;
    sum->threads = part->threads;
    sum->lanes = part->lanes;
    sum->tokenize_seconds += part->tokenize_seconds;
    sum->encode_seconds += part->encode_seconds;
    sum->nan_inf += part->nan_inf;
}

static double per_second(const struct akin_embed_report *embed)
{
    return embed->seconds > 0 ? (double)embed->texts / embed->seconds : 0;
}

/* Texts a second of `workers` that do nothing else, from what their work took together. */
static double rate_alone(const struct akin_embed_report *embed, double seconds, size_t workers)
{
    return seconds > 0 ? (double)embed->texts_computed * (double)workers / seconds : 0;
}

static double tokenize_rate(const struct akin_embed_report *embed)
{
    return rate_alone(embed, embed->tokenize_seconds, embed->threads);
}

static double encode_rate(const struct akin_embed_report *embed)
{
    return rate_alone(embed, embed->encode_seconds, embed->lanes);
}

static double ms_per_text(const struct akin_embed_report *embed)
{
    return embed->texts ? 1000 * embed->seconds / (double)embed->texts : 0;
}

void embed_report_json(struct cli *cli, const struct akin_model_info *model,
                       const struct akin_embed_report *embed, json_t *report)
{
    json_object_set_new(report, "model", json_of_text(model->name));
    json_object_set_new(report, "texts", json_of_count(embed->texts));
    json_object_set_new(report, "texts_computed", json_of_count(embed->texts_computed));
    json_object_set_new(report, "dimension", json_of_count(model->dimension));
    json_object_set_new(report, "seconds", json_of_double(embed->seconds));
    json_object_set_new(report, "texts_per_second", json_of_double(per_second(embed)));
    json_object_set_new(report, "ms_per_text", json_of_double(ms_per_text(embed)));
    json_object_set_new(report, "tokenize_texts_per_second", json_of_double(tokenize_rate(embed)));
    json_object_set_new(report, "encode_texts_per_second", json_of_double(encode_rate(embed)));
    json_object_set_new(report, "lanes", json_of_count(embed->lanes));
    json_object_set_new(report, "tokens", json_of_count(embed->tokens));
    json_object_set_new(report, "vectors_mb",
                        json_of_double((double)embed->texts * (double)model->dimension * 4 / 1e6));
    json_object_set_new(report, "mean_norm", json_of_double(embed->mean_norm));
    json_object_set_new(report, "std_norm", json_of_double(embed->std_norm));
    json_object_set_new(report, "nan_inf", json_of_count(embed->nan_inf));
    json_object_set_new(report, "peak_rss_mb", json_of_double((double)akin_peak_rss_bytes() / 1e6));
    json_object_set_new(report, "precision", json_of_text(akin_precision_name(model->precision)));
    json_object_set_new(report, "kernels", json_of_text(akin_engine_kernels(cli->engine)));
    json_object_set_new(report, "threads", json_integer(akin_engine_threads(cli->engine)));
}

void embed_report_print(const struct akin_model_info *model, const struct akin_embed_report *embed,
                        uint64_t peak_rss_bytes)
{
    char a[NUMBER_BYTES], b[NUMBER_BYTES];
    report_line("texts", "%s (%s computed)", format_count(a, embed->texts),
                format_count(b, embed->texts_computed));
    report_line("dimension", "%s", format_count(a, model->dimension));
    report_line("vectors", "%s",
                format_bytes(a, (uint64_t)embed->texts * (uint64_t)model->dimension * 4));
    report_line("time", "%.2f s", embed->seconds);
    report_line("throughput", "%s texts/s, %s tokens in all",
                format_count(a, (uint64_t)(per_second(embed) + 0.5)),
                format_count(b, embed->tokens));
    report_line("tokenising alone", "%s texts/s, %s thread%s",
                format_count(a, (uint64_t)(tokenize_rate(embed) + 0.5)),
                format_count(b, embed->threads), embed->threads == 1 ? "" : "s");
    report_line("encoding alone", "%s texts/s, %s lane%s",
                format_count(a, (uint64_t)(encode_rate(embed) + 0.5)),
                format_count(b, embed->lanes), embed->lanes == 1 ? "" : "s");
    report_line("time per text", "%.3f ms", ms_per_text(embed));
    report_line("norms", "mean %.6f, std %.6f", embed->mean_norm, embed->std_norm);
    report_line("NaN or infinite", "%s", format_count(a, embed->nan_inf));
    report_line("peak memory", "%s", format_bytes(a, peak_rss_bytes));
    report_line("precision", "%s", akin_precision_name(model->precision));
}

/* ---- weights ----------------------------------------------------------------------------- */

json_t *estimate_json(const struct akin_estimate *estimate)
{
    json_t *range = json_array(), *object = json_object();
    json_array_append_new(range, json_of_double(estimate->low));
    json_array_append_new(range, json_of_double(estimate->high));
    json_object_set_new(object, "mean", json_of_double(estimate->mean));
    json_object_set_new(object, "interval_95", range);
    return object;
}

json_t *weights_found_json(const struct akin_weights_found *found)
{
    json_t *object = json_object();
    json_object_set_new(object, "learned", json_boolean(found->learned));
    json_object_set_new(object, "score", json_of_text(found->formula));
    json_object_set_new(object, "points", json_of_count(found->points));
    json_object_set_new(object, "ndcg_at_10_default", json_of_double(found->ndcg_default));
    json_object_set_new(object, "ndcg_at_10_best", json_of_double(found->ndcg_best));
    json_object_set_new(object, "gain", estimate_json(&found->gain));
    return object;
}

void weights_found_print(const char *label, const struct akin_weights_found *found)
{
    char points[NUMBER_BYTES];
    if (!found->points)
        report_line(label, "the default: too few events to hold any back");
    else if (!found->learned)
        report_line(label, "the default: on %s choices held back nothing is better beyond doubt "
                    "(best %.4f, default %.4f)", format_count(points, found->points),
                    found->ndcg_best, found->ndcg_default);
    else
        report_line(label, "%s: half of the way to what has NDCG@10 %.4f instead of %.4f on %s "
                    "choices held back (95 %% %+.4f to %+.4f)", found->formula, found->ndcg_best,
                    found->ndcg_default, format_count(points, found->points), found->gain.low,
                    found->gain.high);
}

/* ---- a training ------------------------------------------------------------------------- */

json_t *training_json(const struct akin_training *training)
{
    json_t *object = json_object(), *loss = json_array(), *validation = json_array();
    for (size_t e = 0; e < training->epochs; e++) {
        json_array_append_new(loss, json_of_double(training->loss[e]));
        json_array_append_new(validation, json_of_double(training->validation[e]));
    }
    json_object_set_new(object, "epochs", json_of_count(training->epochs));
    json_object_set_new(object, "best_epoch", json_of_count(training->best));
    json_object_set_new(object, "loss", loss);
    json_object_set_new(object, "validation_loss", validation);
    json_object_set_new(object, "seconds", json_of_double(training->seconds));
    return object;
}

void training_print(const struct akin_training *training)
{
    if (!training->epochs)
        report_line("reranker", "not trained: too few events to hold any back");
    else
        report_line("reranker", "epoch %zu of %zu is best (%.4f nats on last choices held back), "
                    "%.2f s", training->best, training->epochs,
                    training->validation[training->best ? training->best - 1 : 0],
                    training->seconds);
}

enum akin_status training_draw(const char *path, const struct akin_training *training,
                               struct akin_error *error)
{
    double epochs[AKIN_TRAINING_EPOCHS_MAX];
    char note[64];
    for (size_t e = 0; e < AKIN_TRAINING_EPOCHS_MAX; e++)
        epochs[e] = (double)(e + 1);
    snprintf(note, sizeof note, "epoch %zu is the one that counts", training->best);
    const struct chart chart = {.title = "Training of the reranker", .note = note,
                                .x_label = "epoch", .y_label = "cross-entropy, nats"};
    const struct chart_line lines[] = {
        {.label = "learned from, with dropout", .x = epochs, .y = training->loss,
         .count = training->epochs},
        {.label = "last choices held back", .x = epochs, .y = training->validation,
         .count = training->epochs, .dashed = true},
    };
    return chart_lines(path, &chart, lines, sizeof lines / sizeof lines[0], error);
}
