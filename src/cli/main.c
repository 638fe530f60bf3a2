/* The program: finds the command, resolves the settings, runs it, and turns what happened into an
 * exit code: 0 fine, 1 failed, 2 wrong use, 130 interrupted. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/numa.h"
#include "cli/cli.h"

enum { EXIT_FINE = 0, EXIT_FAILED = 1, EXIT_WRONG_USE = 2, EXIT_INTERRUPTED = 130 };

static const struct option common_options[] = {
    {"model", 'm', OPTION_TEXT, "DIR|NAME", NULL, "model folder, or a name under HOME/models", 0,
     0},
    {"device", 0, OPTION_TEXT, "DEVICE", NULL, "auto, cpu, cuda, cuda:N or cuda:all", 0, 0},
    {"place", 0, OPTION_TEXT, "PARTS", NULL,
     "parts on GPUs of their own: encoder=0,users=1,graph=cpu",
     0, 0},
    {"precision", 0, OPTION_TEXT, "P", NULL, "auto, fp32, bf16, fp16 or int8", 0, 0},
    {"threads", 't', OPTION_TEXT, "N", NULL, "threads; 0: one per CPU", 0, 0},
    {"numa", 0, OPTION_TEXT, "auto|off|N", NULL, "NUMA nodes: place by them, not, or stay on one",
     0, 0},
    {"home", 0, OPTION_TEXT, "DIR", NULL, "where models and data live (AKIN_HOME)", 0, 0},
    {"data", 'd', OPTION_TEXT, "DIR", NULL, "catalogue folder (HOME/data)", 0, 0},
    {"json", 0, OPTION_FLAG, "", NULL, "results as JSON", 0, 0},
    {"quiet", 'q', OPTION_FLAG, "", NULL, "no progress and no notes", 0, 0},
    {"help", 'h', OPTION_FLAG, "", NULL, "this help", 0, 0},
    {"version", 0, OPTION_FLAG, "", NULL, "the version", 0, 0},
};

static const struct option_table common = {common_options,
                                           sizeof common_options / sizeof common_options[0]};
static const struct option_table none = {NULL, 0};

/* Whether the command reads an option that is otherwise common in a way of its own. */
static bool is_own_option(const struct command *command, const char *name)
{
    for (size_t i = 0; i < command->options.count; i++)
        if (strcmp(command->options.rows[i].name, name) == 0)
            return true;
    return false;
}

/* ---- help -------------------------------------------------------------------------------- */

static void print_help(const struct command *command)
{
    struct bytes text = {0};
    bytes_printf(&text, "akin %s: %s\n\nUsage: akin %s %s\n", command->name, command->summary,
                 command->name, command->arguments);
    if (command->details)
        bytes_printf(&text, "\n%s", command->details);
    if (command->options.count) {
        bytes_append_text(&text, "\nOptions:\n");
        options_help(&text, command->options);
    }
    bytes_append_text(&text, "\nCommon options:\n");
    for (size_t i = 0; i < common.count; i++)
        if (!is_own_option(command, common.rows[i].name))
            options_help(&text, (struct option_table){&common.rows[i], 1});
    bytes_printf(&text, "\nExample:\n%s", command->examples);
    if (!text.failed)
        fwrite(text.data, 1, text.count, stdout);
    bytes_deinit(&text);
}

/* All commands, or those whose first word is `group`. */
static void print_commands(const char *group)
{
    static const struct table_column columns[] = {{NULL, TABLE_LEFT, 0}, {NULL, TABLE_LEFT, 0}};
    struct table table;
    const char *example = "  akin embed -i texts.txt -o vectors.npy\n";
    size_t length = group ? strlen(group) : 0;
    if (group)
        printf("Usage: akin %s COMMAND [options]\n\nCommands:\n", group);
    else
        printf("akin %s: texts to vectors, vectors to neighbours, neighbours to recommendations\n\n"
               "Usage: akin COMMAND [options]\n\nCommands:\n",
               akin_version());
    table_init(&table, columns, 2);
    for (size_t i = 0; i < command_count; i++) {
        if (group &&
            (strncmp(commands[i]->name, group, length) != 0 || commands[i]->name[length] != ' '))
            continue;
        table_cell(&table, "  %s", commands[i]->name);
        table_cell(&table, "%s", commands[i]->summary);
        if (group)
            example = commands[i]->examples;
    }
    table_print(&table, stdout);
    table_deinit(&table);
    printf("\nakin COMMAND --help tells the options.\n\nExample:\n%s", example);
}

/* ---- finding the command ----------------------------------------------------------------- */

/* Does `name` ("data import jsonl") begin with the words of `words`? How many of them. */
static size_t words_matched(const char *name, char *const *words, size_t count, bool *whole)
{
    size_t matched = 0;
    *whole = false;
    for (; matched < count; matched++) {
        size_t length = strcspn(name, " ");
        if (strlen(words[matched]) != length || memcmp(name, words[matched], length) != 0)
            return matched;
        name += length;
        if (!*name) {
            *whole = true;
            return matched + 1;
        }
        name++;
    }
    return matched;
}

/* The command named by the first of the words, and how many words that took; where it is only a
 * group ("index"), *group_words > 0. */
static const struct command *find_command(char *const *words, size_t count, size_t *taken,
                                          size_t *group_words)
{
    *taken = *group_words = 0;
    for (size_t i = 0; i < command_count; i++) {
        bool whole = false;
        size_t matched = words_matched(commands[i]->name, words, count, &whole);
        if (whole) {
            *taken = matched;
            return commands[i];
        }
        if (matched > *group_words)
            *group_words = matched;
    }
    return NULL;
}

static enum akin_status no_such_command(struct cli *cli, char *const *words, size_t count,
                                        size_t group_words)
{
    struct bytes list = {0};
    const char *names[64];
    size_t name_count = 0;
    for (size_t i = 0; i < command_count; i++) {
        bool whole = false;
        if (words_matched(commands[i]->name, words, group_words, &whole) < group_words)
            continue;
        bytes_printf(&list, "%s%s", list.count ? ", " : "", commands[i]->name);
        names[name_count++] = commands[i]->name;
    }
    const char *all = list.failed ? "" : list.data;
    const char *wrong = group_words < count ? words[group_words] : NULL;
    const char *near = wrong && group_words == 0 ? nearest_word(wrong, names, name_count) : NULL;
    if (near)
        wrong_use(cli, "unknown command '%.60s'; did you mean '%s'? There are: %s", wrong, near,
                  all);
    else if (wrong)
        wrong_use(cli, "unknown command '%.60s'; there are: %s", wrong, all);
    else
        wrong_use(cli, "a command is missing; there are: %s", all);
    bytes_deinit(&list);
    return AKIN_ARGUMENT;
}

/* ---- settings ---------------------------------------------------------------------------- */

static enum akin_status resolve_settings(struct cli *cli, const struct options *before)
{
    static const char *const keys[] = {"home",      "data",    "model", "device",
                                       "place",     "precision", "threads", "numa"};
    TRY(akin_settings_create(&cli->settings, &cli->error));
    TRY(akin_settings_resolve(cli->settings, &cli->error));
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char origin[32];
        const struct options *from = options_given(&cli->options, keys[i]) ? &cli->options : before;
        if (is_own_option(cli->command, keys[i]))
            from = before;
        if (!options_given(from, keys[i]))
            continue;
        snprintf(origin, sizeof origin, "--%s", keys[i]);
        enum akin_status status = akin_settings_set(
            cli->settings, keys[i], options_text(from, keys[i]), origin, &cli->error);
        if (status != AKIN_OK) {
            cli->wrong_use = true;
            return error_context(&cli->error, status, "%s", origin);
        }
    }
    return AKIN_OK;
}

static enum akin_status run_command(struct cli *cli, const struct options *before, int argc,
                                    char **argv, int at)
{
    const struct command *command = cli->command;
    options_init(&cli->options, command->options, common);
    if (options_parse(&cli->options, argc, argv, &at, false, &cli->error) != AKIN_OK) {
        cli->wrong_use = true;
        return AKIN_ARGUMENT;
    }
    if (options_flag(&cli->options, "help") || options_flag(before, "help")) {
        print_help(command);
        return AKIN_OK;
    }
    cli->json = options_flag(&cli->options, "json") || options_flag(before, "json");
    cli->quiet = options_flag(&cli->options, "quiet") || options_flag(before, "quiet");
    if (cli->options.positional_count < command->positionals_min)
        return wrong_use(cli, "usage: akin %s %s", command->name, command->arguments);
    if (cli->options.positional_count > command->positionals_max)
        return wrong_use(cli, "'%.80s' is one argument too many; usage: akin %s %s",
                         cli->options.positionals[command->positionals_max], command->name,
                         command->arguments);
    progress_init(&cli->progress, cli->quiet);
    TRY(resolve_settings(cli, before));
    /* Here, so that all that a command reads lies on that node; a wrong one is the engine's to
     * tell, which commands that need none can do without. */
    struct numa_choice numa;
    (void)numa_choose(cli_setting(cli, "numa"), &numa, NULL);
    return command->run(cli);
}

/* ---- the program ------------------------------------------------------------------------- */

static enum akin_status dispatch(struct cli *cli, int argc, char **argv)
{
    struct options before;
    int at = 1;
    size_t taken = 0, group_words = 0, words = 0;
    options_init(&before, none, common);
    if (options_parse(&before, argc, argv, &at, true, &cli->error) != AKIN_OK) {
        cli->wrong_use = true;
        return AKIN_ARGUMENT;
    }
    if (options_flag(&before, "version")) {
        printf("akin %s (%s)\n", akin_version(), akin_commit());
        return AKIN_OK;
    }
    bool help = options_flag(&before, "help");
    if (at < argc && strcmp(argv[at], "help") == 0) {
        help = true;
        at++;
    }
    while (at + (int)words < argc && argv[at + (int)words][0] != '-')
        words++;
    cli->command = find_command(argv + at, words, &taken, &group_words);
    if (!cli->command) {
        for (int i = at; i < argc; i++)
            help = help || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
        if (help && group_words == words) {
            print_commands(words ? argv[at] : NULL);
            return AKIN_OK;
        }
        return no_such_command(cli, argv + at, words, group_words);
    }
    if (help) {
        print_help(cli->command);
        return AKIN_OK;
    }
    return run_command(cli, &before, argc, argv, at + (int)taken);
}

/* A stream that is closed must not become the next file that is opened. Its stand-in refuses what
 * the stream is for, so that using it fails as it should. */
static void hold_standard_streams(void)
{
    static const int modes[] = {O_WRONLY, O_RDONLY, O_RDWR};
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            int got = open("/dev/null", modes[fd]);
            if (got >= 0 && got != fd) {
                dup2(got, fd);
                close(got);
            }
        }
    }
}

static int exit_code(struct cli *cli, enum akin_status status)
{
    if (status == AKIN_OK)
        status = check_output(cli);
    if (status == AKIN_OK) {
        progress_end(&cli->progress);
        return EXIT_FINE;
    }
    progress_clear(&cli->progress);
    if (signals_interrupted()) {
        print_message("", "interrupted");
        return EXIT_INTERRUPTED;
    }
    if (!output_reader_gone())
        print_message("", cli->error.message);
    return cli->wrong_use ? EXIT_WRONG_USE : EXIT_FAILED;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    hold_standard_streams();
    signals_install();
    int code = exit_code(&cli, dispatch(&cli, argc, argv));
    akin_engine_close(&cli.engine);
    akin_settings_destroy(&cli.settings);
    return code;
}
