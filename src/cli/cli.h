/* What every command shares: the settings, the engine and models opened on demand, the way results
 * and errors leave. Commands return a status; main turns it into the exit code. */
#pragma once

#include "akin/akin.h"
#include "base/json.h"
#include "base/status.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "cli/table.h"

struct cli;

struct command {
    const char *name;      /* "embed", or two words: "index build" */
    const char *arguments; /* of the usage line, such as "-i FILE -o OUT.npy" */
    const char *summary;
    const char *details;  /* paragraphs for the help, or NULL */
    const char *examples; /* whole lines, each with its newline */
    struct option_table options;
    size_t positionals_min, positionals_max;
    enum akin_status (*run)(struct cli *cli);
};

struct cli {
    const struct command *command;
    struct options options;
    struct akin_settings *settings;
    struct akin_engine *engine; /* NULL until cli_engine */
    struct progress progress;
    struct akin_error error;
    bool json, quiet;
    bool wrong_use; /* the failure is the caller's: exit code 2 */
};

/* ---- settings, engine, models ------------------------------------------------------------ */

const char *cli_setting(const struct cli *cli, const char *key);
enum akin_status cli_engine(struct cli *cli);
/* Another engine, with so many threads (0: one per CPU, -1: as the settings say). */
enum akin_status cli_engine_open(struct cli *cli, int threads, struct akin_engine **engine);
/* The same on the CPU, whatever device was asked for. */
enum akin_status cli_engine_open_cpu(struct cli *cli, int threads, struct akin_engine **engine);
/* Opens the model that --model names (or `name`, where not NULL) at --precision. */
enum akin_status cli_model_path(struct cli *cli, const char *name, char *path, size_t path_bytes);
enum akin_status cli_model(struct cli *cli, const char *name, struct akin_model **model);

/* ---- errors ------------------------------------------------------------------------------ */

/* A mistake of the command line: says so and makes the exit code 2. */
enum akin_status wrong_use(struct cli *cli, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The text that an option must bring. */
enum akin_status need_text(struct cli *cli, const char *option, const char **text);
/* AKIN_CANCELLED once Ctrl-C was pressed. */
enum akin_status check_interrupted(struct cli *cli);
/* One line on standard error, control characters replaced: "akin: <kind><text>". */
void print_message(const char *kind, const char *text);
/* The same for notes, unless --quiet. */
void print_note(struct cli *cli, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- results ----------------------------------------------------------------------------- */

/* Prints one JSON value and frees it; NULL stands for memory that ran out. */
enum akin_status print_json(struct cli *cli, json_t *value);
/* AKIN_IO once a write to standard output failed. */
enum akin_status check_output(struct cli *cli);
/* Whether that was because nobody reads it any more, as behind `| head`. */
bool output_reader_gone(void);

/* JSON values that never fail for what they hold: not finite becomes null, invalid UTF-8 U+FFFD. */
json_t *json_of_double(double value);
json_t *json_of_count(uint64_t value);
json_t *json_of_text(const char *text);
/* An empty string becomes null. */
json_t *json_of_known(const char *text);
/* "1996-03-29T18:36:55Z" */
json_t *json_of_time(int64_t unix_seconds);
json_t *json_of_strings(const char *const *texts, size_t count);

/* ---- paths ------------------------------------------------------------------------------- */

/* The catalogue that --data or the settings name. */
enum akin_status cli_catalog(struct cli *cli, struct akin_catalog **catalog);

/* The commands, in the order of the help. */
extern const struct command *const commands[];
extern const size_t command_count;

extern const struct command command_doctor, command_config, command_model_list, command_model_pull,
    command_model_info, command_model_check, command_model_quantize, command_tokenize,
    command_embed, command_data_import_movielens, command_data_import_jsonl, command_data_embed,
    command_data_info, command_index_build, command_index_create, command_index_add,
    command_index_update, command_index_delete, command_index_info, command_index_check,
    command_index_compact, command_index_export, command_search, command_recommend, command_rate,
    command_fit, command_evaluate, command_watch, command_bench_embed, command_bench_search,
    command_bench_recommend, command_bench_personalize, command_bench_train, command_bandits,
    command_bench_bandits, command_bench_compare, command_audit_init, command_audit_append,
    command_audit_checkpoint, command_audit_verify, command_audit_prove,
    command_audit_verify_proof, command_audit_export, command_watch_search, command_watch_label,
    command_watch_info, command_watch_snapshot,
    command_audit_rotate_key, command_audit_cosign, command_audit_report, command_bench_audit,
    command_bench_watch, command_bench_numa;
