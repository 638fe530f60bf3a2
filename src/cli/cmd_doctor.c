/* akin doctor: what this machine is, what akin found on it, what is wrong and how to fix it. */
#include <gnu/libc-version.h>
#include <limits.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/file.h"
#include "cli/cli.h"
#include "cli/gpu_report.h"
#include "cli/numa_report.h"
#include "cli/report.h"
#include "cli/verdict.h"

struct finding {
    bool essential;
    char what[640], fix[320];
};

enum { FINDINGS_MAX = 8, LIBRARIES_MAX = 64 };

struct doctor {
    struct akin_machine machine;
    struct numa *numa;              /* NULL: the system does not tell */
    struct akin_gpu_support gpus;
    char model_path[PATH_BYTES_MAX], model_state[256];
    struct akin_verdict verdict;    /* count 0: not measured yet */
    char data_state[256];
    char libraries[LIBRARIES_MAX][64];
    size_t library_count;
    struct finding findings[FINDINGS_MAX];
    size_t finding_count;
};

__attribute__((format(printf, 4, 5))) static void
find_problem(struct doctor *d, bool essential, const char *what, const char *fix, ...)
{
    if (d->finding_count == FINDINGS_MAX)
        return;
    struct finding *f = &d->findings[d->finding_count++];
    va_list args;
    va_start(args, fix);
    f->essential = essential;
    snprintf(f->what, sizeof f->what, "%s", what);
    vsnprintf(f->fix, sizeof f->fix, fix, args);
    va_end(args);
}

/* ---- examining --------------------------------------------------------------------------- */

/* The shared objects that akin itself asks for, by the names of the files behind the links: these
 * carry the versions. */
static bool is_ours(const char *file)
{
    static const char *const ours[] = {"libcrypto",  "libcurl",    "libhwloc",  "libinih",
                                       "libjansson", "libnats",    "libsodium", "libsqlite3",
                                       "libsystemd", "libutf8proc", "libxxhash"};
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (strncmp(file, ours[i], strlen(ours[i])) == 0 && file[strlen(ours[i])] == '.')
            return true;
    return false;
}

static int see_library(struct dl_phdr_info *info, size_t bytes, void *cookie)
{
    struct doctor *d = cookie;
    char path[PATH_MAX];
    (void)bytes;
    if (info->dlpi_name[0] != '/' || d->library_count == LIBRARIES_MAX ||
        !realpath(info->dlpi_name, path) || !is_ours(path_last(path)))
        return 0;
    snprintf(d->libraries[d->library_count++], sizeof d->libraries[0], "%.63s", path_last(path));
    return 0;
}

static void examine_engine(struct cli *cli, struct doctor *d)
{
    if (cli_engine(cli) != AKIN_OK)
        find_problem(d, true, cli->error.message,
                     "check --device, --threads and AKIN_CPU: akin config");
}

static void examine_gpus(const struct cli *cli, struct doctor *d)
{
    if (!cli->engine)
        return;
    akin_engine_gpus(cli->engine, &d->gpus);
    bool asked = strncmp(cli_setting(cli, "device"), "cuda", 4) == 0;
    bool nothing = gpus_usable(&d->gpus) == 0 && d->gpus.lacks_count > 0;
    if (nothing && (asked || *d->gpus.library))
        find_problem(d, asked, d->gpus.lacks[0].what, "%s", d->gpus.lacks[0].fix);
}

/* Before the engine, which --numa may bind to a part of the machine. */
static void examine_machine(struct doctor *d)
{
    akin_machine_describe(&d->machine);
    if (numa_open(NULL, true, &d->numa, NULL) != AKIN_OK)
        d->numa = NULL;
}

static void examine_home(struct cli *cli, struct doctor *d)
{
    char what[512];
    const char *home = cli_setting(cli, "home");
    if (path_exists(home) && access(home, W_OK) != 0) {
        snprintf(what, sizeof what, "%.400s cannot be written", home);
        find_problem(d, false, what, "choose another folder: --home DIR or AKIN_HOME=DIR");
    }
}

static void examine_model(struct cli *cli, struct doctor *d)
{
    struct akin_model *model = NULL;
    struct akin_model_info info;
    const char *name = cli_setting(cli, "model");
    if (cli_model_path(cli, NULL, d->model_path, sizeof d->model_path) != AKIN_OK) {
        snprintf(d->model_state, sizeof d->model_state, "%.100s: not found", name);
        find_problem(
            d, false, cli->error.message,
            "akin model pull all-MiniLM-L6-v2 and --model all-MiniLM-L6-v2, or --model DIR");
        return;
    }
    if (!cli->engine)
        return;
    if (cli_model(cli, NULL, &model) != AKIN_OK) {
        snprintf(d->model_state, sizeof d->model_state, "cannot be opened");
        find_problem(d, true, cli->error.message, "remove the folder and pull the model again");
        return;
    }
    akin_model_info(model, &info);
    snprintf(d->model_state, sizeof d->model_state, "%s, %zu layers, %zu dimensions, %s",
             info.architecture, info.layers, info.dimension, akin_precision_name(info.precision));
    akin_model_close(&model);
    if (akin_model_verdict(cli->engine, d->model_path, AKIN_VERDICT_KEPT, &d->verdict, NULL))
        d->verdict = (struct akin_verdict){.chosen = AKIN_PRECISION_AUTO};
}

static void examine_data(struct cli *cli, struct doctor *d)
{
    struct akin_catalog *catalog = NULL;
    struct akin_catalog_info info;
    char items[NUMBER_BYTES], ratings[NUMBER_BYTES];
    enum akin_status status = cli_catalog(cli, &catalog);
    if (status != AKIN_OK) {
        snprintf(d->data_state, sizeof d->data_state, "%s",
                 status == AKIN_NOT_FOUND ? "none yet" : "cannot be opened");
        find_problem(d, status != AKIN_NOT_FOUND, cli->error.message,
                     "akin data import movielens DIR, or akin data import jsonl FILE");
        return;
    }
    akin_catalog_info(catalog, &info);
    snprintf(d->data_state, sizeof d->data_state, "%s items, %s ratings%s",
             format_count(items, info.items), format_count(ratings, info.ratings),
             info.dimension ? "" : ", not embedded yet");
    if (!info.dimension)
        find_problem(d, false, "the catalogue has no vectors yet", "akin data embed");
    akin_catalog_close(&catalog);
}

static void examine(struct cli *cli, struct doctor *d)
{
    examine_machine(d);
    dl_iterate_phdr(see_library, d);
    examine_engine(cli, d);
    examine_gpus(cli, d);
    examine_home(cli, d);
    examine_model(cli, d);
    examine_data(cli, d);
}

/* ---- telling ----------------------------------------------------------------------------- */

static bool is_broken(const struct doctor *d)
{
    for (size_t i = 0; i < d->finding_count; i++)
        if (d->findings[i].essential)
            return true;
    return false;
}

static json_t *doctor_json(struct cli *cli, const struct doctor *d, const struct utsname *system)
{
    json_t *root = json_object(), *libraries = json_array(), *problems = json_array();
    for (size_t i = 0; i < d->library_count; i++)
        json_array_append_new(libraries, json_of_text(d->libraries[i]));
    for (size_t i = 0; i < d->finding_count; i++)
        json_array_append_new(problems, json_pack("{s:b, s:o, s:o}", "essential",
                                                  (int)d->findings[i].essential, "what",
                                                  json_of_text(d->findings[i].what), "fix",
                                                  json_of_text(d->findings[i].fix)));
    json_object_set_new(root, "akin_version", json_of_text(akin_version()));
    json_object_set_new(root, "commit", json_of_text(akin_commit()));
    json_object_set_new(root, "hostname", json_of_text(d->machine.hostname));
    json_object_set_new(root, "system", json_of_text(system->release));
    json_object_set_new(root, "cpu", json_of_text(d->machine.cpu));
    json_object_set_new(root, "cpu_features", json_of_text(d->machine.cpu_features));
    json_object_set_new(root, "kernels",
                        json_of_known(cli->engine ? akin_engine_kernels(cli->engine) : NULL));
    json_object_set_new(root, "device",
                        json_of_known(cli->engine ? akin_engine_device(cli->engine) : NULL));
    json_object_set_new(root, "cpus", json_integer(d->machine.cpus));
    json_object_set_new(root, "threads",
                        json_integer(cli->engine ? akin_engine_threads(cli->engine) : 0));
    json_object_set_new(root, "numa_nodes", json_integer(d->machine.numa_nodes));
    json_object_set_new(root, "placement",
                        cli->engine ? placement_json(cli->engine) : json_null());
    json_object_set_new(root, "memory_bytes", json_of_count(d->machine.memory_bytes));
    json_object_set_new(root, "memory_available_bytes",
                        json_of_count(d->machine.memory_available_bytes));
    json_object_set_new(root, "numa", d->numa ? numa_json(d->numa) : json_null());
    json_object_set_new(root, "gpus", d->numa ? numa_gpus_json(d->numa) : json_array());
    json_object_set_new(root, "gpu_support", json_boolean(gpus_usable(&d->gpus) > 0));
    json_object_set_new(root, "cuda", gpus_json(&d->gpus));
    json_object_set_new(root, "parts", cli->engine ? parts_json(cli->engine) : json_null());
    json_object_set_new(root, "home", json_of_text(cli_setting(cli, "home")));
    json_object_set_new(root, "model", json_of_known(d->model_path));
    json_object_set_new(root, "model_state", json_of_text(d->model_state));
    json_object_set_new(root, "precisions",
                        d->verdict.count ? verdict_json(&d->verdict) : json_null());
    json_object_set_new(root, "data", json_of_text(cli_setting(cli, "data")));
    json_object_set_new(root, "data_state", json_of_text(d->data_state));
    json_object_set_new(root, "libraries", libraries);
    json_object_set_new(root, "problems", problems);
    json_object_set_new(root, "ok", json_boolean(!is_broken(d)));
    return root;
}

__attribute__((format(printf, 3, 4))) static void row(struct table *table, const char *label,
                                                      const char *format, ...)
{
    char text[PATH_BYTES_MAX + 512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    table_cell(table, "%s", label);
    table_cell(table, "%s", text);
}

static void print_precisions(struct table *table, const struct doctor *d)
{
    const struct akin_verdict *v = &d->verdict;
    struct bytes text = {0};
    if (!*d->model_path)
        return;
    for (size_t i = 0; i < v->count; i++)
        bytes_printf(&text, "%s%s %.0f texts/s%s", i ? ", " : "",
                     akin_precision_name(v->figures[i].precision), v->figures[i].texts_per_second,
                     v->figures[i].passes ? "" : " (fails the gate)");
    if (v->count && !text.failed)
        row(table, "precisions", "%s: auto is %s", text.data, akin_precision_name(v->chosen));
    else
        row(table, "precisions", "not measured yet: akin model check, or --precision auto");
    bytes_deinit(&text);
}

static void print_doctor(struct cli *cli, const struct doctor *d, const struct utsname *system)
{
    static const struct table_column columns[] = {{NULL, TABLE_LEFT, 0}, {NULL, TABLE_LEFT, 0}};
    struct table table;
    char total[NUMBER_BYTES], available[NUMBER_BYTES], places[PLACEMENT_BYTES];
    table_init(&table, columns, 2);
    row(&table, "akin", "%s (%s)", akin_version(), akin_commit());
    row(&table, "system", "%s %s, glibc %s", system->sysname, system->release,
        gnu_get_libc_version());
    row(&table, "CPU", "%s, %d usable, %d NUMA node%s",
        *d->machine.cpu ? d->machine.cpu : "unknown", d->machine.cpus, d->machine.numa_nodes,
        d->machine.numa_nodes == 1 ? "" : "s");
    row(&table, "features", "%s",
        *d->machine.cpu_features ? d->machine.cpu_features : "none that akin uses");
    if (cli->engine)
        row(&table, "kernels", "%s on %s, %d thread%s", akin_engine_kernels(cli->engine),
            akin_engine_device(cli->engine), akin_engine_threads(cli->engine),
            akin_engine_threads(cli->engine) == 1 ? "" : "s");
    if (cli->engine)
        row(&table, "placement", "%s", placement_text(cli->engine, places, sizeof places));
    row(&table, "memory", "%s, %s available", format_bytes(total, d->machine.memory_bytes),
        format_bytes(available, d->machine.memory_available_bytes));
    if (d->numa)
        numa_rows(&table, d->numa);
    gpus_rows(&table, &d->gpus);
    if (cli->engine)
        parts_row(&table, cli->engine);
    row(&table, "home", "%s", cli_setting(cli, "home"));
    row(&table, "model", "%s%s%s", d->model_path, *d->model_path ? ": " : "", d->model_state);
    print_precisions(&table, d);
    row(&table, "data", "%s: %s", cli_setting(cli, "data"), d->data_state);
    struct bytes names = {0};
    for (size_t i = 0; i < d->library_count; i++)
        bytes_printf(&names, "%s%s", i ? ", " : "", d->libraries[i]);
    if (names.count && !names.failed)
        row(&table, "libraries", "%s", names.data);
    bytes_deinit(&names);
    table_print(&table, stdout);
    table_deinit(&table);
    if (!d->finding_count)
        printf("\nNothing is wrong.\n");
    for (size_t i = 0; i < d->finding_count; i++)
        printf("\n%s: %s\n    fix: %s\n", d->findings[i].essential ? "Broken" : "To do",
               d->findings[i].what, d->findings[i].fix);
}

static enum akin_status run_doctor(struct cli *cli)
{
    struct utsname system;
    enum akin_status status = AKIN_OK;
    struct doctor *d = memory_alloc(1, sizeof *d);
    if (!d)
        return error_memory(&cli->error);
    if (uname(&system) != 0)
        memset(&system, 0, sizeof system);
    examine(cli, d);
    if (cli->json)
        status = print_json(cli, doctor_json(cli, d, &system));
    else
        print_doctor(cli, d, &system);
    if (status == AKIN_OK && is_broken(d))
        status =
            error_set(&cli->error, AKIN_UNSUPPORTED, "something essential is broken, see above");
    numa_close(&d->numa);
    memory_free(d);
    return status;
}

const struct command command_doctor = {
    .name = "doctor",
    .arguments = "[options]",
    .summary = "the machine, what akin found on it, what is wrong and how to fix it",
    .details =
        "Exits 1 only when something essential is broken; a model or data still to get is not.\n",
    .examples = "  akin doctor\n  akin doctor --json\n",
    .run = run_doctor,
};
