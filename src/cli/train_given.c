/* akin bench train on given batches: one step on each, so that losses and gradients can be held
 * against those of another implementation. */
#include "base/npy.h"
#include "cli/bench_train.h"
#include "cli/report.h"

/* Tokens [step][sample][token] of a file, of which this rank takes `count` from `first` on. */
struct given {
    const char *path;
    struct npy npy;
    size_t first, count;
    int32_t *tokens;            /* [count] */
};

static enum akin_status given_open(struct cli *cli, const char *path,
                                   const struct trainer_settings *t, size_t rank, size_t world,
                                   struct given *given)
{
    struct npy *npy = &given->npy;
    given->count = t->batch * t->shape.seq_len;
    given->first = given->count * rank;
    given->path = path;
    TRY(npy_open(path, npy, &cli->error));
    if ((npy->type != NPY_INT32 && npy->type != NPY_INT64) || npy->dims != 3)
        return error_set(&cli->error, AKIN_FORMAT,
                         "%s: expected int32 or int64 tokens [step][sample][token], found %zu "
                         "dimensions of %s",
                         path, npy->dims, npy->descr);
    if (npy->shape[0] == 0 || npy->shape[1] != t->batch * world ||
        npy->shape[2] != t->shape.seq_len)
        return error_set(&cli->error, AKIN_ARGUMENT,
                         "%s: shape [%zu][%zu][%zu] does not go with --batch-size %zu on %zu "
                         "process%s and --seq-len %zu",
                         path, npy->shape[0], npy->shape[1], npy->shape[2], t->batch, world,
                         world == 1 ? "" : "es", t->shape.seq_len);
    given->tokens = memory_alloc(given->count, sizeof *given->tokens);
    return given->tokens ? AKIN_OK : error_memory(&cli->error);
}

static void given_close(struct given *given)
{
    npy_close(&given->npy);
    memory_free(given->tokens);
}

/* The tokens of a step, as far as int32 holds them; the trainer checks the vocabulary. */
static enum akin_status given_step(struct cli *cli, struct given *given, size_t step)
{
    size_t whole = given->npy.shape[1] * given->npy.shape[2];
    for (size_t i = 0; i < given->count; i++) {
        size_t at = step * whole + given->first + i;
        int64_t token = given->npy.type == NPY_INT64 ? ((const int64_t *)given->npy.data)[at]
                                                     : ((const int32_t *)given->npy.data)[at];
        if (token < 0 || token > INT32_MAX)
            return error_set(&cli->error, AKIN_FORMAT, "%s: token %zu of step %zu is %lld",
                             given->path, given->first + i, step, (long long)token);
        given->tokens[i] = (int32_t)token;
    }
    return AKIN_OK;
}

static enum akin_status print_losses(struct cli *cli, const struct train_asked *asked,
                                     const struct trainer *trainer, const double *losses,
                                     size_t count)
{
    if (!cli->json) {
        for (size_t i = 0; i < count; i++)
            printf("step %zu  loss %.7f\n", i, losses[i]);
        return check_output(cli);
    }
    json_t *o = json_object(), *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_of_double(losses[i]));
    json_object_set_new(o, "losses", array);
    json_object_set_new(o, "model_params",
                        json_of_count(trainer_parameters(trainer)->trained));
    json_object_set_new(o, "precision",
                        json_string(train_precision_name(asked->trainer.precision)));
    report_common(cli, o);
    return print_json(cli, o);
}

static enum akin_status run_steps(struct cli *cli, const struct train_asked *asked,
                                  struct trainer *trainer, struct given *source,
                                  struct given *target, bool first_rank, double *losses)
{
    struct akin_progress progress = progress_begin(&cli->progress, "steps");
    size_t steps = source->npy.shape[0];
    for (size_t i = 0; i < steps; i++) {
        struct step_result result;
        TRY(given_step(cli, source, i));
        TRY(given_step(cli, target, i));
        enum akin_status status =
            trainer_step(trainer, source->tokens, target->tokens, &result, &cli->error);
        if (status == AKIN_NUMERIC)
            return status;      /* it says at which step */
        if (status != AKIN_OK)
            return error_context(&cli->error, status, "step %zu", i);
        losses[i] = result.loss;
        if (i == 0 && asked->dump_grads && first_rank)
            TRY(trainer_save_gradients(trainer, asked->dump_grads, &cli->error));
        if (!progress.update(progress.cookie, "train", i + 1, steps))
            return check_interrupted(cli);
    }
    return AKIN_OK;
}

enum akin_status train_given(struct cli *cli, const struct train_asked *asked,
                             struct trainer *trainer, size_t rank, size_t world)
{
    struct given source = {0}, target = {0};
    double *losses = NULL;
    enum akin_status status = AKIN_OK;
    TRY_DONE(given_open(cli, asked->batch_src, &asked->trainer, rank, world, &source));
    TRY_DONE(given_open(cli, asked->batch_tgt, &asked->trainer, rank, world, &target));
    if (source.npy.shape[0] != target.npy.shape[0]) {
        status = error_set(&cli->error, AKIN_ARGUMENT, "%s has %zu steps, %s has %zu",
                           asked->batch_src, source.npy.shape[0], asked->batch_tgt,
                           target.npy.shape[0]);
        goto done;
    }
    losses = memory_alloc(source.npy.shape[0], sizeof *losses);
    if (!losses) {
        status = error_memory(&cli->error);
        goto done;
    }
    TRY_DONE(run_steps(cli, asked, trainer, &source, &target, rank == 0, losses));
    if (rank > 0)
        goto done;
    if (asked->save)
        TRY_DONE(trainer_save(trainer, asked->save, &cli->error));
    status = print_losses(cli, asked, trainer, losses, source.npy.shape[0]);
done:
    given_close(&source);
    given_close(&target);
    memory_free(losses);
    return status;
}
