/* The list of commands. A new one is a file cmd_<name>.c, a declaration in cli.h and a line here.
 */
#include "cli/cli.h"

const struct command *const commands[] = {
    &command_doctor,
    &command_config,
    &command_model_list,
    &command_model_pull,
    &command_model_info,
    &command_model_check,
    &command_model_quantize,
    &command_tokenize,
    &command_embed,
    &command_data_import_movielens,
    &command_data_import_jsonl,
    &command_data_embed,
    &command_data_info,
    &command_index_build,
    &command_index_create,
    &command_index_add,
    &command_index_update,
    &command_index_delete,
    &command_index_info,
    &command_index_check,
    &command_index_compact,
    &command_index_export,
    &command_search,
    &command_recommend,
    &command_rate,
    &command_fit,
    &command_evaluate,
    &command_watch,
    &command_bench_embed,
    &command_bench_search,
    &command_bench_recommend,
    &command_bench_personalize,
};

const size_t command_count = sizeof commands / sizeof commands[0];
