/* akin bandits: what exploring requests have learned. */
#include <string.h>

#include "cli/cli.h"

static const struct option bandits_options[] = {
    {"segment", 0, OPTION_TEXT, "NAME", NULL, "this one only, such as all or few/Drama", 0, 0},
};

struct learned {
    struct akin_catalog *catalog;
    struct akin_recommender *recommender;
    struct akin_arm *arms;      /* [count] */
    size_t count;
};

/* Others may explore meanwhile: asked again until all fit. */
static enum akin_status read_arms(struct cli *cli, struct learned *l)
{
    for (size_t room = 0;; room = l->count + 64) {
        memory_free(l->arms);
        l->arms = memory_alloc(room + 1, sizeof *l->arms);
        if (!l->arms)
            return error_memory(&cli->error);
        TRY(akin_recommender_arms(l->recommender, l->arms, room, &l->count, &cli->error));
        if (l->count <= room)
            return AKIN_OK;
    }
}

static double mean_of(const struct akin_arm *arm)
{
    return arm->alpha / (arm->alpha + arm->beta);
}

static json_t *arm_json(const struct akin_arm *arm)
{
    json_t *root = json_object();
    json_object_set_new(root, "segment", json_of_text(arm->segment));
    json_object_set_new(root, "arm", json_of_text(arm->name));
    json_object_set_new(root, "choices", json_of_count(arm->choices));
    json_object_set_new(root, "rewards", json_of_count(arm->rewards));
    json_object_set_new(root, "mean_reward",
                        arm->rewards ? json_of_double(arm->reward / (double)arm->rewards)
                                     : json_null());
    json_object_set_new(root, "alpha", json_of_double(arm->alpha));
    json_object_set_new(root, "beta", json_of_double(arm->beta));
    json_object_set_new(root, "posterior_mean", json_of_double(mean_of(arm)));
    json_object_set_new(root, "share", json_of_double(arm->share));
    return root;
}

static void print_arms(const struct akin_arm *const *shown, size_t count)
{
    static const struct table_column columns[] = {
        {"segment", TABLE_LEFT, 0}, {"arm", TABLE_LEFT, 0}, {"choices", TABLE_RIGHT, 0},
        {"rewards", TABLE_RIGHT, 0}, {"mean", TABLE_RIGHT, 0}, {"alpha", TABLE_RIGHT, 0},
        {"beta", TABLE_RIGHT, 0}, {"believed", TABLE_RIGHT, 0}, {"drawn", TABLE_RIGHT, 0}};
    struct table table;
    table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < count; i++) {
        const struct akin_arm *arm = shown[i];
        table_cell(&table, "%s", arm->segment);
        table_cell(&table, "%s", arm->name);
        table_cell(&table, "%llu", (unsigned long long)arm->choices);
        table_cell(&table, "%llu", (unsigned long long)arm->rewards);
        if (arm->rewards)
            table_cell(&table, "%.3f", arm->reward / (double)arm->rewards);
        else
            table_cell(&table, "-");
        table_cell(&table, "%.1f", arm->alpha);
        table_cell(&table, "%.1f", arm->beta);
        table_cell(&table, "%.3f", mean_of(arm));
        table_cell(&table, "%.0f %%", 100 * arm->share);
    }
    table_print(&table, stdout);
    table_deinit(&table);
}

static enum akin_status tell_arms(struct cli *cli, const struct learned *l)
{
    const char *segment = options_text(&cli->options, "segment");
    const struct akin_arm **shown = memory_alloc(l->count + 1, sizeof *shown);
    size_t count = 0;
    if (!shown)
        return error_memory(&cli->error);
    for (size_t i = 0; i < l->count; i++)
        if (!segment || !strcmp(segment, l->arms[i].segment))
            shown[count++] = &l->arms[i];
    enum akin_status status = AKIN_OK;
    if (segment && count == 0) {
        status = error_set(&cli->error, AKIN_NOT_FOUND, "--segment: nothing was explored for "
                           "people of %.60s: `akin bandits` lists the segments", segment);
    } else if (cli->json) {
        json_t *root = json_object(), *arms = json_array();
        for (size_t i = 0; i < count; i++)
            json_array_append_new(arms, arm_json(shown[i]));
        json_object_set_new(root, "arms", arms);
        status = print_json(cli, root);
    } else if (count) {
        print_arms(shown, count);
    } else {
        print_note(cli, "nothing was explored yet: akin recommend --user ID --explore");
    }
    memory_free(shown);
    return status;
}

static enum akin_status run_bandits(struct cli *cli)
{
    struct learned l = {0};
    enum akin_status status = AKIN_OK;
    TRY_DONE(cli_engine(cli));
    TRY_DONE(cli_catalog(cli, &l.catalog));
    TRY_DONE(akin_recommender_open(cli->engine, l.catalog, NULL, NULL, &l.recommender,
                                   &cli->error));
    TRY_DONE(read_arms(cli, &l));
    status = tell_arms(cli, &l);
done:
    memory_free(l.arms);
    akin_recommender_close(&l.recommender);
    akin_catalog_close(&l.catalog);
    return status;
}

const struct command command_bandits = {
    .name = "bandits",
    .arguments = "[options]",
    .summary = "what exploring has taught: which proposer people of a kind like best",
    .details =
        "`akin recommend --user ID --explore` gives one place in five to a proposer (arm) that is\n"
        "drawn; what the user rates the item within seven days (0: nothing) is its reward. For "
        "each\n"
        "segment of people and arm: choices made, rewards so far and their mean, the posterior of\n"
        "the mean (alpha, beta, and what is believed of it), and how often it is drawn now.\n",
    .examples = "  akin bandits\n"
                "  akin bandits --segment all --json\n",
    .options = {bandits_options, sizeof bandits_options / sizeof bandits_options[0]},
    .run = run_bandits,
};
