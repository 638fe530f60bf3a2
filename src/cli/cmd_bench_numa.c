/* akin bench numa: how much farther another node's memory is than a node's own. */
#include <math.h>
#include <string.h>

#include "base/system.h"
#include "cli/bench.h"
#include "cli/bench_numa.h"
#include "cli/numa_report.h"
#include "cli/report.h"

enum { MEBIBYTE = 1 << 20, NODES_MAX = 64 };

static const struct option bench_options[] = {
    {"mebibytes", 0, OPTION_COUNT, "N", "0",
     "of memory to read; 0: 8 times all of the last cache, at least 256, at most a quarter of what "
     "is available", 0, 1 << 17},
    {"repeats", 0, OPTION_COUNT, "N", "5", "the median of so many is told", 1, 101},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the report", 0, 0},
};

struct numa_bench {
    struct cli *cli;
    struct numa *numa;
    struct numa_measure how;
    size_t readers[NODES_MAX], reader_count;        /* nodes with CPUs that we may use */
    struct numa_figures *figures;                   /* [reader][node] */
};

static size_t block_bytes(const struct numa *numa, size_t asked)
{
    uint64_t cache = 0, available = system_available_bytes();
    if (asked)
        return asked * MEBIBYTE;
    if (numa->cache_count) {
        const struct numa_cache *last = &numa->caches[numa->cache_count - 1];
        cache = last->bytes * (uint64_t)last->count;
    }
    uint64_t bytes = cache * 8 > 256 * (uint64_t)MEBIBYTE ? cache * 8 : 256 * (uint64_t)MEBIBYTE;
    uint64_t most = available / 4 > MEBIBYTE ? available / 4 : MEBIBYTE;
    bytes = available && bytes > most ? most : bytes;
    return bytes < (uint64_t)1 << 36 ? (size_t)bytes : (size_t)1 << 36;     /* lines in 32 bits */
}

/* The median over pairs, local or not; NAN: there is none. */
static double typical(const struct numa_bench *b, bool local, bool latency)
{
    double values[NODES_MAX * NODES_MAX];
    size_t count = 0;
    for (size_t r = 0; r < b->reader_count; r++)
        for (size_t m = 0; m < b->numa->node_count; m++) {
            const struct numa_figures *f = &b->figures[r * b->numa->node_count + m];
            if ((b->readers[r] == m) != local)
                continue;
            double value = latency ? f->latency_ns : f->read_gb_s;
            size_t at = count++;
            for (; at > 0 && values[at - 1] > value; at--)
                values[at] = values[at - 1];
            values[at] = value;
        }
    return count ? (values[(count - 1) / 2] + values[count / 2]) / 2 : NAN;
}

static json_t *pairs_json(const struct numa_bench *b)
{
    json_t *array = json_array();
    for (size_t r = 0; r < b->reader_count; r++)
        for (size_t m = 0; m < b->numa->node_count; m++) {
            const struct numa_figures *f = &b->figures[r * b->numa->node_count + m];
            json_t *row = json_object();
            json_object_set_new(row, "reader",
                                json_integer(b->numa->nodes[b->readers[r]].number));
            json_object_set_new(row, "memory", json_integer(b->numa->nodes[m].number));
            json_object_set_new(row, "local", json_boolean(b->readers[r] == m));
            json_object_set_new(row, "latency_ns", json_of_double(f->latency_ns));
            json_object_set_new(row, "read_gb_s", json_of_double(f->read_gb_s));
            json_object_set_new(row, "threads", json_integer(f->threads));
            json_object_set_new(row, "cpus_bound", json_boolean(f->cpus_bound));
            json_object_set_new(row, "found_on",
                                f->found_on < 0 ? json_null() : json_integer(f->found_on));
            json_array_append_new(array, row);
        }
    return array;
}

static void print_pairs(const struct numa_bench *b)
{
    static const struct table_column columns[] = {
        {"  CPUs of", TABLE_LEFT, 0},   {"memory of", TABLE_LEFT, 0}, {"", TABLE_LEFT, 0},
        {"latency ns", TABLE_RIGHT, 0}, {"read GB/s", TABLE_RIGHT, 0}, {"threads", TABLE_RIGHT, 0},
        {"", TABLE_LEFT, 0}};
    struct table table;
    table_init(&table, columns, 7);
    for (size_t r = 0; r < b->reader_count; r++)
        for (size_t m = 0; m < b->numa->node_count; m++) {
            const struct numa_figures *f = &b->figures[r * b->numa->node_count + m];
            int number = b->numa->nodes[m].number;
            table_cell(&table, "  node %d", b->numa->nodes[b->readers[r]].number);
            table_cell(&table, "node %d", number);
            table_cell(&table, "%s", b->readers[r] == m ? "local" : "remote");
            table_cell(&table, "%.1f", f->latency_ns);
            table_cell(&table, "%.1f", f->read_gb_s);
            table_cell(&table, "%d", f->threads);
            table_cell(&table, "%s", !f->cpus_bound         ? "CPUs not bound"
                                     : f->found_on < 0      ? "place of memory not told"
                                     : f->found_on != number ? "memory is on another node"
                                                             : "");
        }
    table_print(&table, stdout);
    table_deinit(&table);
}

static enum akin_status report(struct numa_bench *b)
{
    char size[NUMBER_BYTES];
    double latency = typical(b, false, true) / typical(b, true, true);
    double reading = typical(b, true, false) / typical(b, false, false);
    json_t *root = json_object();
    report_common(b->cli, root);
    json_object_set_new(root, "numa", numa_json(b->numa));
    json_object_set_new(root, "bytes", json_of_count(b->how.bytes));
    json_object_set_new(root, "repeats", json_integer(b->how.repeats));
    json_object_set_new(root, "pairs", pairs_json(b));
    json_object_set_new(root, "latency_ns_local", json_of_double(typical(b, true, true)));
    json_object_set_new(root, "read_gb_s_local", json_of_double(typical(b, true, false)));
    json_object_set_new(root, "latency_remote_per_local", json_of_double(latency));
    json_object_set_new(root, "read_local_per_remote", json_of_double(reading));
    json_object_set_new(root, "remote", json_boolean(!isnan(latency)));
    if (!b->cli->json) {
        report_machine(b->cli);
        report_line("block", "%s, median of %d", format_bytes(size, b->how.bytes), b->how.repeats);
        print_pairs(b);
        if (isnan(latency))
            report_line("remote", "not measured: this machine has one node, nothing is remote");
        else
            report_line("remote beside local", "%.2f times the latency, %.2f of the bandwidth",
                        latency, 1 / reading);
    }
    return report_write_as(b->cli, "numa", root);
}

static enum akin_status measure_all(struct numa_bench *b)
{
    size_t nodes = b->numa->node_count;
    for (size_t i = 0; i < nodes; i++)
        if (b->numa->nodes[i].cpus)
            b->readers[b->reader_count++] = i;
    b->figures = memory_alloc(b->reader_count * nodes, sizeof *b->figures);
    if (!b->figures)
        return error_memory(&b->cli->error);
    for (size_t r = 0; r < b->reader_count; r++)
        for (size_t m = 0; m < nodes; m++) {
            TRY(check_interrupted(b->cli));
            TRY(numa_measure(b->numa, b->readers[r], m, &b->how, &b->figures[r * nodes + m],
                             &b->cli->error));
        }
    return AKIN_OK;
}

static enum akin_status run_bench_numa(struct cli *cli)
{
    struct numa_bench b = {.cli = cli};
    if (strcmp(cli_setting(cli, "numa"), "auto") != 0)
        return wrong_use(cli, "--numa and AKIN_NUMA are for other commands: this one measures "
                              "all nodes");
    TRY(numa_open(NULL, false, &b.numa, &cli->error));
    enum akin_status status = AKIN_OK;
    if (b.numa->node_count > NODES_MAX)
        status = error_set(&cli->error, AKIN_LIMIT, "%zu NUMA nodes; at most %d are measured",
                           b.numa->node_count, NODES_MAX);
    b.how = (struct numa_measure){
        .bytes = block_bytes(b.numa, options_count(&cli->options, "mebibytes")),
        .repeats = (int)options_count(&cli->options, "repeats")};
    if (status == AKIN_OK)
        status = cli_engine(cli);
    if (status == AKIN_OK)
        status = measure_all(&b);
    if (status == AKIN_OK)
        status = report(&b);
    memory_free(b.figures);
    numa_close(&b.numa);
    return status;
}

const struct command command_bench_numa = {
    .name = "bench numa",
    .arguments = "[options]",
    .summary = "latency and bandwidth of memory, local and remote, for each pair of NUMA nodes",
    .details = "Latency is that of loads that depend on each other, in random order; bandwidth is\n"
               "what one thread per core of a node reads together. On a machine of one node there\n"
               "is nothing remote, and only local memory is measured.\n",
    .examples = "  akin bench numa\n"
                "  akin bench numa --mebibytes 1024 --repeats 9 --json\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench_numa,
};
