/* See bench_bandits_batch.h. */
#include "cli/bench_bandits_batch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "akin/bandits.h"
#include "base/clock.h"
#include "base/rng.h"
#include "cli/bench.h"
#include "cli/report.h"

enum { BANDITS = 1000, ARMS = 1000, TURNS = 11, WARM_UPS = 2 };
enum { HERE, CARD, SIDES };

static const struct {
    const char *name, *key;
    float evidence;             /* of an arm, in rewards */
} kinds[BATCH_KINDS] = {
    { "no rewards", "priors", 0 },
    { "20 rewards", "rewards_20", 20 },
    { "100 rewards", "rewards_100", 100 },
};

struct batch_bench {
    struct cli *cli;
    struct akin_engine *cpu;
    struct akin_bandits *bandits[SIDES];
    struct akin_bandit_round *rounds;           /* [BANDITS] */
    struct akin_bandit_choice *choices[SIDES];  /* [BANDITS] */
    struct batch_times *times;
};

static enum akin_status open_side(struct batch_bench *b, int side)
{
    struct akin_bandits_settings settings;
    akin_bandits_settings_default(&settings);
    settings.bandits = BANDITS;
    settings.arms = ARMS;
    settings.open_rate = 0;     /* all arms are drawn */
    settings.pooled_max = 0;    /* from what is restored below */
    b->choices[side] = memory_alloc(BANDITS, sizeof *b->choices[side]);
    if (!b->choices[side])
        return error_memory(&b->cli->error);
    return akin_bandits_create(side == HERE ? b->cpu : b->cli->engine, &settings,
                               &b->bandits[side], &b->cli->error);
}

static enum akin_status open_all(struct batch_bench *b)
{
    struct akin_engine_settings settings;
    akin_engine_settings_default(&settings);
    akin_settings_engine(b->cli->settings, &settings);
    settings.device = "cpu";
    TRY(akin_engine_open(&settings, &b->cpu, &b->cli->error));
    b->rounds = memory_alloc(BANDITS, sizeof *b->rounds);
    if (!b->rounds)
        return error_memory(&b->cli->error);
    for (int side = 0; side < SIDES; side++)
        TRY(open_side(b, side));
    return AKIN_OK;
}

static void close_all(struct batch_bench *b)
{
    for (int side = 0; side < SIDES; side++) {
        akin_bandits_destroy(&b->bandits[side]);
        memory_free(b->choices[side]);
    }
    memory_free(b->rounds);
    akin_engine_close(&b->cpu);
}

static enum akin_status teach(struct batch_bench *b, float evidence)
{
    struct akin_bandit_posterior posterior[ARMS];
    struct rng rng;
    rng_seed(&rng, 11);
    for (size_t bandit = 0; bandit < BANDITS; bandit++) {
        for (size_t arm = 0; arm < ARMS; arm++) {
            float mean = rng_float(&rng);
            posterior[arm] = (struct akin_bandit_posterior){ 1 + evidence * mean,
                                                             1 + evidence * (1 - mean) };
        }
        for (int side = 0; side < SIDES; side++)
            TRY(akin_bandits_restore(b->bandits[side], bandit, posterior, 0, &b->cli->error));
    }
    return AKIN_OK;
}

/* One call of a side. */
static enum akin_status choose(struct batch_bench *b, int side, double *ms)
{
    uint64_t began = akin_clock_ns();
    TRY(akin_bandits_choose_batch(b->bandits[side], b->rounds, BANDITS, b->choices[side],
                                  &b->cli->error));
    *ms = ms_since(began);
    return AKIN_OK;
}

static double median(double *values)
{
    for (size_t i = 1; i < TURNS; i++)
        for (size_t at = i; at && values[at] < values[at - 1]; at--) {
            double kept = values[at];
            values[at] = values[at - 1];
            values[at - 1] = kept;
        }
    return values[TURNS / 2];
}

static enum akin_status compare(const struct batch_bench *b)
{
    for (size_t i = 0; i < BANDITS; i++)
        if (b->choices[HERE][i].arm != b->choices[CARD][i].arm ||
            memcmp(&b->choices[HERE][i].draw, &b->choices[CARD][i].draw, sizeof(float)) != 0)
            return error_set(&b->cli->error, AKIN_NUMERIC, "bandit %zu: arm %zu here, %zu on the "
                             "card; please report it", i, b->choices[HERE][i].arm,
                             b->choices[CARD][i].arm);
    return AKIN_OK;
}

static enum akin_status measure(struct batch_bench *b, size_t kind)
{
    double took[SIDES][TURNS], alone[TURNS], ms;
    struct akin_bandits_card card = { 0 };
    TRY(teach(b, kinds[kind].evidence));
    for (int turn = -WARM_UPS; turn < TURNS; turn++) {
        for (size_t i = 0; i < BANDITS; i++)
            b->rounds[i] = (struct akin_bandit_round){ .bandit = i, .k = 1,
                                                       .round = (uint64_t)(turn + WARM_UPS) };
        for (int side = 0; side < SIDES; side++) {
            TRY(choose(b, side, &ms));
            if (turn >= 0)
                took[side][turn] = ms;
        }
        akin_bandits_card(b->bandits[CARD], &card);
        if (turn >= 0)
            alone[turn] = card.elapsed_ms;
        TRY(compare(b));
        b->times->choices += BANDITS;
    }
    b->times->cpu_ms[kind] = median(took[HERE]);
    b->times->card_ms[kind] = card.bytes ? median(took[CARD]) : NAN;
    b->times->card_alone_ms[kind] = card.bytes ? median(alone) : NAN;
    b->times->card_bytes = card.bytes;
    return AKIN_OK;
}

enum akin_status bench_bandit_batches(struct cli *cli, struct batch_times *times)
{
    struct batch_bench b = { .cli = cli, .times = times };
    *times = (struct batch_times){ .choices = 0 };
    enum akin_status status = open_all(&b);
    for (size_t kind = 0; kind < BATCH_KINDS && status == AKIN_OK; kind++) {
        status = check_interrupted(cli);
        if (status == AKIN_OK)
            status = measure(&b, kind);
    }
    close_all(&b);
    return status;
}

/* ---- told ------------------------------------------------------------------------------- */

void batch_times_print(const struct batch_times *t)
{
    for (size_t kind = 0; kind < BATCH_KINDS; kind++) {
        char name[64];
        snprintf(name, sizeof name, "a round, %s", kinds[kind].name);
        if (isnan(t->card_ms[kind]))
            report_line(name, "%.3f ms here", t->cpu_ms[kind]);
        else
            report_line(name, "%.3f ms here, %.4f ms with the card, %.4f ms of them its draws",
                        t->cpu_ms[kind], t->card_ms[kind], t->card_alone_ms[kind]);
    }
    if (t->card_bytes)
        report_line("on the card", "%.1f MB; the same choices in %zu of %zu",
                    (double)t->card_bytes * 1e-6, t->choices, t->choices);
}

json_t *batch_times_json(const struct batch_times *t)
{
    json_t *root = json_object();
    json_object_set_new(root, "bandits", json_of_count(BANDITS));
    json_object_set_new(root, "arms", json_of_count(ARMS));
    for (size_t kind = 0; kind < BATCH_KINDS; kind++) {
        json_t *one = json_object();
        json_object_set_new(one, "cpu_ms", json_of_double(t->cpu_ms[kind]));
        json_object_set_new(one, "card_ms", json_of_double(t->card_ms[kind]));
        json_object_set_new(one, "card_alone_ms", json_of_double(t->card_alone_ms[kind]));
        json_object_set_new(root, kinds[kind].key, one);
    }
    json_object_set_new(root, "card_bytes", json_of_count(t->card_bytes));
    json_object_set_new(root, "choices_compared", json_of_count(t->card_bytes ? t->choices : 0));
    return root;
}
