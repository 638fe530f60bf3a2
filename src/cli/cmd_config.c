/* akin config: the settings in force and where each came from. */
#include "cli/cli.h"

static enum akin_status run_config(struct cli *cli)
{
    static const struct table_column columns[] = {{"key", TABLE_LEFT, 0},
                                                  {"value", TABLE_LEFT, 0},
                                                  {"from", TABLE_LEFT, 0},
                                                  {"meaning", TABLE_LEFT, 0}};
    struct akin_setting setting;
    if (cli->json) {
        json_t *root = json_object();
        for (size_t i = 0; root && akin_settings_at(cli->settings, i, &setting); i++)
            json_object_set_new(root, setting.key,
                                json_pack("{s:o, s:o}", "value", json_of_text(setting.value),
                                          "origin", json_of_text(setting.origin)));
        return print_json(cli, root);
    }
    struct table table;
    table_init(&table, columns, 4);
    for (size_t i = 0; akin_settings_at(cli->settings, i, &setting); i++) {
        table_cell(&table, "%s", setting.key);
        table_cell(&table, "%s", setting.value);
        table_cell(&table, "%s", setting.origin);
        table_cell(&table, "%s", setting.help);
    }
    table_print(&table, stdout);
    table_deinit(&table);
    return AKIN_OK;
}

const struct command command_config = {
    .name = "config",
    .arguments = "[options]",
    .summary = "the settings in force and where each came from",
    .details = "Defaults < $XDG_CONFIG_HOME/akin/akin.ini < environment AKIN_* < options.\n",
    .examples = "  akin config\n  AKIN_THREADS=2 akin config --json\n",
    .run = run_config,
};
