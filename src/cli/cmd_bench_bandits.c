/* akin bench bandits: regret of Thompson sampling beside epsilon-greedy and UCB1, on simulated arms
 * and on ratings replayed by rejection (L. Li, W. Chu, J. Langford and X. Wang, WSDM 2011). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/bandit_policies.h"
#include "cli/bandit_worlds.h"
#include "cli/bench.h"
#include "cli/bench_bandits_batch.h"
#include "cli/chart.h"
#include "cli/report.h"

static const struct option bench_options[] = {
    {"seeds", 0, OPTION_COUNT, "N", "20", "simulated worlds of each kind", 2, 1000},
    {"logs", 0, OPTION_COUNT, "N", "100", "logs that are replayed", 2, 1000},
    {"rounds", 0, OPTION_COUNT, "N", "20000", "of each simulated world", 1000, 1000000},
    {"draws-only", 0, OPTION_FLAG, "", NULL, "only what draws take: no worlds, no ratings", 0, 0},
    {"simulator-only", 0, OPTION_FLAG, "", NULL, "no ratings are replayed", 0, 0},
    {"output-dir", 0, OPTION_TEXT, "DIR", "results", "folder of the report and pictures", 0, 0},
};

/* Rows of a case: ours, the textbook's Thompson sampling, UCB1, and the grid of epsilon. */
enum { OURS, PLAIN, UCB, FIRST_EPSILON, EPSILONS = 8, PLAYERS = FIRST_EPSILON + EPSILONS };
enum { CASES_MAX = 2 * WORLD_DRIFTS + 1, POINTS = 50 };

/* The defaults of akin_bandits were chosen on seeds 1000 and on. */
enum { FIRST_SEED = 100 };

static const double epsilons[EPSILONS] = { 0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4 };

struct bench_case {
    char name[48];
    size_t seeds;
    double *regret;             /* [PLAYERS][seeds]; of a replay per 1,000 rounds that count */
    double curve[PLAYERS][POINTS];      /* means over seeds, cumulative */
    size_t best_epsilon;        /* the player with the least mean */
};

struct bandit_bench {
    struct cli *cli;
    struct akin_catalog *catalog;
    size_t seeds, logs, rounds, case_count;
    double draw_ms, accepted;
    struct batch_times batches;
    struct bench_case cases[CASES_MAX];
};

static enum akin_status start_player(struct bandit_bench *b, size_t which, size_t arms,
                                     uint64_t seed, struct player **player)
{
    static const enum player_kind kinds[] = { PLAYER_THOMPSON, PLAYER_PLAIN, PLAYER_UCB1 };
    enum player_kind kind = which < FIRST_EPSILON ? kinds[which] : PLAYER_EPSILON;
    double epsilon = which < FIRST_EPSILON ? 0 : epsilons[which - FIRST_EPSILON];
    return player_create(b->cli->engine, kind, epsilon, arms, seed, player, &b->cli->error);
}

/* ---- simulated worlds -------------------------------------------------------------------- */

static enum akin_status play_world(struct bandit_bench *b, struct bench_case *c, size_t which,
                                   const struct world *world, size_t seed)
{
    struct player *player = NULL;
    enum akin_status status = AKIN_OK;
    double regret = 0;
    TRY(start_player(b, which, world->arms, world->seed + 1, &player));
    for (size_t t = 0; t < world->rounds; t++) {
        size_t arm, epoch = t / WORLD_EPOCH;
        TRY_DONE(player_choose(player, &arm, &b->cli->error));
        regret += (double)world->best[epoch] - (double)world->means[epoch * world->arms + arm];
        TRY_DONE(player_reward(player, arm, world_reward(world, t, arm), &b->cli->error));
        if ((t + 1) * POINTS / world->rounds != t * POINTS / world->rounds)
            c->curve[which][t * POINTS / world->rounds] += regret / (double)c->seeds;
    }
    c->regret[which * c->seeds + seed] = regret;
done:
    player_destroy(&player);
    return status;
}

static enum akin_status simulate(struct bandit_bench *b, struct bench_case *c,
                                 enum world_drift drift, size_t arms)
{
    for (size_t seed = 0; seed < c->seeds; seed++) {
        struct world world;
        enum akin_status status = AKIN_OK;
        TRY(world_create(drift, arms, b->rounds, 1000 * (seed + FIRST_SEED) + 17, &world,
                         &b->cli->error));
        for (size_t p = 0; p < PLAYERS && status == AKIN_OK; p++) {
            status = check_interrupted(b->cli);
            if (status == AKIN_OK)
                status = play_world(b, c, p, &world, seed);
        }
        world_free(&world);
        TRY(status);
    }
    return AKIN_OK;
}

/* ---- replayed ratings -------------------------------------------------------------------- */

/* Only events whose arm is the one chosen count; the others are passed by, and the policy does not
 * learn that they were. */
static enum akin_status play_log(struct bandit_bench *b, struct bench_case *c, size_t which,
                                 const struct replay_log *log, size_t seed)
{
    struct player *player = NULL;
    enum akin_status status = AKIN_OK;
    double best = 0, rewards = 0, counted = 0;
    size_t arm = 0;
    for (size_t a = 0; a < log->arms; a++)
        best = fmax(best, log->means[a]);
    TRY(start_player(b, which, log->arms, 1000 * (seed + FIRST_SEED) + 18, &player));
    TRY_DONE(player_choose(player, &arm, &b->cli->error));
    for (size_t i = 0; i < log->count; i++) {
        const struct replay_event *event = &log->events[i];
        if (event->arm == arm) {
            rewards += event->reward;
            counted++;
            TRY_DONE(player_reward(player, arm, event->reward, &b->cli->error));
            TRY_DONE(player_choose(player, &arm, &b->cli->error));
        }
        if ((i + 1) * POINTS / log->count != i * POINTS / log->count)
            c->curve[which][i * POINTS / log->count] +=
                (best * counted - rewards) / (double)c->seeds;
    }
    c->regret[which * c->seeds + seed] = counted > 0 ? 1000 * (best - rewards / counted) : NAN;
    b->accepted += which == OURS ? counted / (double)c->seeds : 0;
done:
    player_destroy(&player);
    return status;
}

static enum akin_status replay(struct bandit_bench *b, struct bench_case *c)
{
    for (size_t seed = 0; seed < c->seeds; seed++) {
        struct replay_log log;
        enum akin_status status =
            replay_log_create(b->catalog, seed + FIRST_SEED, &log, &b->cli->error);
        for (size_t p = 0; p < PLAYERS && status == AKIN_OK; p++) {
            status = check_interrupted(b->cli);
            if (status == AKIN_OK)
                status = play_log(b, c, p, &log, seed);
        }
        replay_log_free(&log);
        TRY(status);
    }
    return AKIN_OK;
}

/* ---- figures ----------------------------------------------------------------------------- */

/* The mean of `a` over that of `b` (NULL: 1), and its 95 % interval over seeds: a bootstrap of
 * whole seeds, so that worlds that are hard for all widen nothing. */
static struct akin_estimate ratio_of(const double *a, const double *b, size_t seeds)
{
    enum { RESAMPLES = 2000 };
    static const size_t sides[] = { RESAMPLES / 40, RESAMPLES - RESAMPLES / 40 };
    double ratios[RESAMPLES], top = 0, bottom = 0;
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < seeds; i++) {
        top += a[i];
        bottom += b ? b[i] : 1;
    }
    for (size_t r = 0; r < RESAMPLES; r++) {
        double x = 0, y = 0;
        for (size_t i = 0; i < seeds; i++) {
            size_t seed = rng_below(&rng, seeds);
            x += a[seed];
            y += b ? b[seed] : 1;
        }
        ratios[r] = x / y;
    }
    for (size_t i = 1; i < RESAMPLES; i++) {    /* insertion: few, and no comparison to name */
        double value = ratios[i];
        size_t at = i;
        for (; at && ratios[at - 1] > value; at--)
            ratios[at] = ratios[at - 1];
        ratios[at] = value;
    }
    return (struct akin_estimate){ top / bottom, ratios[sides[0]], ratios[sides[1]] };
}

static struct akin_estimate regret_of(const struct bench_case *c, size_t which, size_t over)
{
    const double *below = over < PLAYERS ? c->regret + over * c->seeds : NULL;
    return ratio_of(c->regret + which * c->seeds, below, c->seeds);
}

static void find_best_epsilon(struct bench_case *c)
{
    double least = INFINITY;
    for (size_t p = FIRST_EPSILON; p < PLAYERS; p++) {
        double mean = 0;
        for (size_t i = 0; i < c->seeds; i++)
            mean += c->regret[p * c->seeds + i];
        if (mean < least) {
            least = mean;
            c->best_epsilon = p;
        }
    }
}

static void print_cases(const struct bandit_bench *b)
{
    static const struct table_column columns[] = {
        {"regret", TABLE_LEFT, 0}, {"ours", TABLE_RIGHT, 0}, {"plain Thompson", TABLE_RIGHT, 0},
        {"epsilon-greedy", TABLE_RIGHT, 0}, {"(epsilon)", TABLE_RIGHT, 0},
        {"UCB1", TABLE_RIGHT, 0}, {"ours / epsilon-greedy", TABLE_LEFT, 0},
        {"ours / UCB1", TABLE_LEFT, 0}};
    struct table table;
    table_init(&table, columns, sizeof columns / sizeof *columns);
    for (size_t i = 0; i < b->case_count; i++) {
        const struct bench_case *c = &b->cases[i];
        struct akin_estimate one = regret_of(c, OURS, c->best_epsilon),
                             two = regret_of(c, OURS, UCB);
        table_cell(&table, "%s", c->name);
        table_cell(&table, "%.1f", regret_of(c, OURS, PLAYERS).mean);
        table_cell(&table, "%.1f", regret_of(c, PLAIN, PLAYERS).mean);
        table_cell(&table, "%.1f", regret_of(c, c->best_epsilon, PLAYERS).mean);
        table_cell(&table, "%g", epsilons[c->best_epsilon - FIRST_EPSILON]);
        table_cell(&table, "%.1f", regret_of(c, UCB, PLAYERS).mean);
        table_cell(&table, "%.2f (%.2f to %.2f)", one.mean, one.low, one.high);
        table_cell(&table, "%.2f (%.2f to %.2f)", two.mean, two.low, two.high);
    }
    table_print(&table, stdout);
    table_deinit(&table);
}

static json_t *case_json(const struct bench_case *c)
{
    static const char *const names[] = { "thompson", "thompson_plain", "ucb1" };
    json_t *root = json_object(), *regret = json_object(), *grid = json_object();
    json_object_set_new(root, "case", json_of_text(c->name));
    for (size_t p = 0; p < PLAYERS; p++) {
        struct akin_estimate estimate = regret_of(c, p, PLAYERS);
        char name[40];
        if (p >= FIRST_EPSILON)
            snprintf(name, sizeof name, "%g", epsilons[p - FIRST_EPSILON]);
        json_object_set_new(p < FIRST_EPSILON ? regret : grid,
                            p < FIRST_EPSILON ? names[p] : name, estimate_json(&estimate));
    }
    struct akin_estimate one = regret_of(c, OURS, c->best_epsilon),
                         two = regret_of(c, OURS, UCB);
    json_object_set_new(regret, "epsilon_greedy", grid);
    json_object_set_new(root, "regret", regret);
    json_object_set_new(root, "best_epsilon",
                        json_of_double(epsilons[c->best_epsilon - FIRST_EPSILON]));
    json_object_set_new(root, "ratio_to_epsilon_greedy", estimate_json(&one));
    json_object_set_new(root, "ratio_to_ucb1", estimate_json(&two));
    return root;
}

static enum akin_status draw_case(const struct bandit_bench *b, const struct bench_case *c,
                                  const char *folder)
{
    char path[4096], note[160];
    double x[POINTS];
    bool simulated = c->name[0] != 'r';
    for (size_t i = 0; i < POINTS; i++)
        x[i] = (double)(i + 1) * (simulated ? (double)b->rounds : 100) / POINTS;
    const struct chart_line lines[] = {
        { "ours", x, c->curve[OURS], POINTS, false },
        { "plain Thompson", x, c->curve[PLAIN], POINTS, true },
        { "epsilon-greedy, best", x, c->curve[c->best_epsilon], POINTS, false },
        { "UCB1", x, c->curve[UCB], POINTS, false },
    };
    snprintf(note, sizeof note, "Mean of %zu seeds", c->seeds);
    struct chart chart = { .title = c->name, .note = note,
                           .x_label = simulated ? "round" : "% of the log",
                           .y_label = "cumulative regret", .digits = 1 };
    int length = snprintf(path, sizeof path, "%s/bandits_%s.svg", folder, c->name);
    if (length < 0 || (size_t)length >= sizeof path)
        return error_set(&b->cli->error, AKIN_ARGUMENT, "--output-dir: the path is too long");
    char *to = path + strlen(folder);
    for (const char *at = to; *at; at++)
        if (*at != ',')
            *to++ = *at == ' ' ? '_' : *at;
    *to = 0;
    return chart_lines(path, &chart, lines, sizeof lines / sizeof *lines, &b->cli->error);
}

/* The median time of one draw of 1,000 arms. */
struct draw_run {
    struct akin_bandits *bandits;
    struct akin_error *error;
    uint64_t round;
};

enum { DRAWS_TIMED = 1000 };

static enum akin_status draw_many(void *context)
{
    struct draw_run *run = context;
    for (int i = 0; i < DRAWS_TIMED; i++) {
        struct akin_bandit_choice choice;
        struct akin_bandit_round round = { .bandit = run->round % 1000, .round = run->round,
                                           .k = 1 };
        TRY(akin_bandits_choose(run->bandits, &round, &choice, run->error));
        run->round++;
    }
    return AKIN_OK;
}

static enum akin_status time_draws(struct bandit_bench *b)
{
    struct akin_bandits_settings settings;
    struct draw_run run = { .error = &b->cli->error };
    akin_bandits_settings_default(&settings);
    settings.open_rate = 0;     /* all arms are drawn */
    TRY(akin_bandits_create(b->cli->engine, &settings, &run.bandits, &b->cli->error));
    enum akin_status status = bench_median_ms(draw_many, &run, 1, 21, &b->draw_ms);
    b->draw_ms /= DRAWS_TIMED;
    akin_bandits_destroy(&run.bandits);
    return status;
}

/* ---- all of it --------------------------------------------------------------------------- */

static enum akin_status run_cases(struct bandit_bench *b)
{
    bool replays = !options_flag(&b->cli->options, "simulator-only");
    for (size_t i = 0; i < 2 * WORLD_DRIFTS + (size_t)replays; i++) {
        struct bench_case *c = &b->cases[b->case_count++];
        size_t arms = i % 2 ? 1000 : 10;
        c->seeds = i < 2 * WORLD_DRIFTS ? b->seeds : b->logs;
        c->regret = memory_alloc(PLAYERS * c->seeds, sizeof *c->regret);
        if (!c->regret)
            return error_memory(&b->cli->error);
        if (i < 2 * WORLD_DRIFTS)
            snprintf(c->name, sizeof c->name, "%s, %zu arms", world_names[i / 2], arms);
        else
            snprintf(c->name, sizeof c->name, "replayed ratings");
        print_note(b->cli, "%s", c->name);
        TRY(i < 2 * WORLD_DRIFTS ? simulate(b, c, (enum world_drift)(i / 2), arms) : replay(b, c));
        find_best_epsilon(c);
    }
    return AKIN_OK;
}

static enum akin_status report(struct bandit_bench *b)
{
    struct cli *cli = b->cli;
    const char *folder = options_text(&cli->options, "output-dir");
    json_t *root = json_object(), *cases = json_array();
    report_common(cli, root);
    json_object_set_new(root, "seeds", json_of_count(b->seeds));
    json_object_set_new(root, "logs", json_of_count(b->logs));
    json_object_set_new(root, "rounds", json_of_count(b->rounds));
    json_object_set_new(root, "draw_1000_arms_ms", json_of_double(b->draw_ms));
    json_object_set_new(root, "batches", batch_times_json(&b->batches));
    json_object_set_new(root, "replay_rounds_counted", json_of_double(b->accepted));
    for (size_t i = 0; i < b->case_count; i++)
        json_array_append_new(cases, case_json(&b->cases[i]));
    json_object_set_new(root, "cases", cases);
    if (!cli->json) {
        if (b->case_count)
            print_cases(b);
        report_line("choosing of 1,000 arms", "%.4f ms", b->draw_ms);
        batch_times_print(&b->batches);
        if (b->accepted > 0)
            report_line("rounds of a replay", "%.0f, regret per 1,000 of them", b->accepted);
    }
    TRY(report_write_as(cli, "bandits", root));
    for (size_t i = 0; i < b->case_count; i++)
        TRY(draw_case(b, &b->cases[i], folder));
    return check_output(cli);
}

static enum akin_status run_bench(struct cli *cli)
{
    struct bandit_bench *b = memory_alloc(1, sizeof *b);
    enum akin_status status = AKIN_OK;
    if (!b)
        return error_memory(&cli->error);
    b->cli = cli;
    b->seeds = options_count(&cli->options, "seeds");
    b->logs = options_count(&cli->options, "logs");
    b->rounds = options_count(&cli->options, "rounds");
    TRY_DONE(cli_engine(cli));
    bool draws_only = options_flag(&cli->options, "draws-only");
    if (!draws_only && !options_flag(&cli->options, "simulator-only"))
        TRY_DONE(cli_catalog(cli, &b->catalog));
    TRY_DONE(time_draws(b));
    TRY_DONE(bench_bandit_batches(cli, &b->batches));
    if (!draws_only)
        TRY_DONE(run_cases(b));
    status = report(b);
done:
    for (size_t i = 0; i < b->case_count; i++)
        memory_free(b->cases[i].regret);
    akin_catalog_close(&b->catalog);
    memory_free(b);
    return status;
}

const struct command command_bench_bandits = {
    .name = "bench bandits",
    .arguments = "[options]",
    .summary = "regret of Thompson sampling beside epsilon-greedy and UCB1",
    .details =
        "Simulated worlds of 10 and 1,000 arms that stand still, wander, are replaced or jump, "
        "and\n"
        "ratings of the catalogue replayed by rejection: arms are genres, shown uniformly, and "
        "the\n"
        "reward is a rating of 4 stars or more. Epsilon is the best of a grid for each case,\n"
        "chosen after the fact; ours has one setting for all. Intervals are of 95 % over seeds.\n"
        "Before that, rounds of 1,000 bandits of 1,000 arms in one call are timed, on the CPU and, "
        "where\nthere is one, on a card in turn; the choices must be the same bit for bit.\n",
    .examples = "  akin bench bandits --data films --output-dir results\n"
                "  akin bench bandits --simulator-only --seeds 5\n"
                "  akin bench bandits --draws-only --device cuda\n",
    .options = {bench_options, sizeof bench_options / sizeof bench_options[0]},
    .run = run_bench,
};
