/* A catalogue of made-up people: how long its import and its user vectors take, and how many
 * ratings a second it then takes, in memory and durable. The item vectors are drawn too. Everything
 * lies in one scratch folder, so the catalogue that is measured otherwise is never written to. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file_at.h"
#include "base/npy.h"
#include "base/rng.h"
#include "base/thread.h"
#include "cli/bench_personalize.h"
#include "cli/made_ratings.h"

enum {
    DIMENSION = 384, SEED = 25, SYNC_BYTES = 4096, PEOPLE_ASKED = 50000,
    BATCH_MEMORY = 100, BATCH_DURABLE = 10000, TRIAL_RATINGS = 1000000,
};

/* How long one rate is measured; a trial with few ratings is a trial. */
static double measuring_seconds(const struct personal_bench *b)
{
    return b->made.ratings < TRIAL_RATINGS ? 0.2 : 2;
}

/* ---- item vectors ------------------------------------------------------------------------ */

/* Of length 1, in the files of docs/formats.md. */
static enum akin_status write_vectors(const char *data, size_t items, struct akin_error *error)
{
    char folder[PATH_BYTES_MAX], path[PATH_BYTES_MAX];
    size_t shape[] = {items, DIMENSION};
    struct bytes lines = {0};
    struct rng rng;
    enum akin_status status = AKIN_OK;
    float *vectors = memory_alloc_aligned(items, DIMENSION * sizeof *vectors);
    if (!vectors)
        return error_memory(error);
    rng_seed(&rng, SEED);
    for (size_t i = 0; i < items; i++) {
        float *v = vectors + i * DIMENSION;
        double squares = 0;
        for (size_t d = 0; d < DIMENSION; d++) {
            v[d] = rng_float(&rng) - 0.5f;
            squares += (double)v[d] * (double)v[d];
        }
        for (size_t d = 0; d < DIMENSION; d++)
            v[d] = (float)((double)v[d] / sqrt(squares));
        bytes_printf(&lines, "{\"media_id\": \"ml_%zu\"}\n", i + 1);
    }
    TRY_DONE(path_join(folder, sizeof folder, data, "embeddings/media", error));
    TRY_DONE(path_make_folders(folder, error));
    TRY_DONE(path_join(path, sizeof path, folder, "content_vectors.npy", error));
    TRY_DONE(npy_write(path, "'<f4'", 2, shape, vectors, items * DIMENSION * sizeof *vectors,
                       error));
    TRY_DONE(path_join(path, sizeof path, folder, "metadata.jsonl", error));
    TRY_DONE(lines.failed ? error_memory(error)
                          : file_write(path, lines.data, lines.count, error));
done:
    bytes_deinit(&lines);
    memory_free(vectors);
    return status;
}

static enum akin_status make_catalog(struct personal_bench *b, const char *scratch,
                                     const char *data, size_t ratings)
{
    char folder[PATH_BYTES_MAX];
    struct akin_error *error = &b->cli->error;
    struct made_sizes sizes = made_sizes_for(ratings);
    struct akin_import_report imported;
    struct akin_catalog_embed_report embedded;
    TRY(path_join(folder, sizeof folder, scratch, "published", error));
    uint64_t began = akin_clock_ns();
    TRY(made_ratings_write(folder, &sizes, SEED, progress_begin(&b->cli->progress, "users"),
                           error));
    b->made.make_s = seconds_since(began);
    began = akin_clock_ns();
    TRY(akin_catalog_import_movielens(folder, data, progress_begin(&b->cli->progress, NULL),
                                      &imported, error));
    b->made.import_s = seconds_since(began);
    b->made.ratings = imported.ratings;
    b->made.items = imported.items;
    TRY(path_remove_tree(folder, error));
    TRY(write_vectors(data, imported.items, error));
    began = akin_clock_ns();
    TRY(akin_catalog_embed_users(b->cli->engine, data,
                                 progress_begin(&b->cli->progress, "users"), &embedded, error));
    b->made.vectors_s = seconds_since(began);
    b->made.users = embedded.users;
    progress_end(&b->cli->progress);
    return AKIN_OK;
}

/* ---- ratings that come in ---------------------------------------------------------------- */

struct updates {
    struct akin_recommender *recommender;
    size_t users, items, batch;
    uint64_t until_ns;
    int64_t now;
    _Atomic uint64_t done;
    atomic_bool failed;
};

struct drawn {
    char user[24], item[24];
};

static void draw(const struct updates *u, struct rng *rng, struct drawn *drawn,
                 struct akin_feedback *feedback)
{
    for (size_t i = 0; i < u->batch; i++) {
        struct drawn *d = &drawn[i];
        snprintf(d->user, sizeof d->user, "%zu", 1 + (size_t)rng_below(rng, u->users));
        snprintf(d->item, sizeof d->item, "ml_%zu", 1 + (size_t)rng_below(rng, u->items));
        feedback[i] = (struct akin_feedback){d->user, d->item,
                                             (float)(1 + rng_below(rng, 10)) / 10, u->now};
    }
}

/* One thread's share: batches of people and items drawn anew until the time is over. */
static void send_updates(void *context, size_t begin, size_t end, int worker)
{
    struct updates *u = context;
    struct drawn *drawn = memory_alloc(u->batch, sizeof *drawn);
    struct akin_feedback *feedback = memory_alloc(u->batch, sizeof *feedback);
    struct rng rng;
    (void)end;
    (void)worker;
    rng_seed(&rng, begin);
    while (akin_clock_ns() < u->until_ns && !atomic_load(&u->failed)) {
        if (drawn && feedback)
            draw(u, &rng, drawn, feedback);
        if (!drawn || !feedback ||
            akin_recommend_update_batch(u->recommender, feedback, u->batch, NULL, NULL))
            atomic_store(&u->failed, true);
        else
            atomic_fetch_add(&u->done, u->batch);
    }
    memory_free(drawn);
    memory_free(feedback);
}

/* `batch` ratings a call from `threads` threads at once. */
static enum akin_status measure_updates(struct personal_bench *b,
                                        const struct akin_catalog *catalog, bool durable,
                                        size_t batch, int threads, double *rate)
{
    struct akin_recommender_settings settings;
    struct updates updates = {.users = b->made.users < PEOPLE_ASKED ? b->made.users : PEOPLE_ASKED,
                              .items = b->made.items, .batch = batch, .now = clock_unix_seconds()};
    akin_recommender_settings_default(&settings);
    settings.store = settings.durable = durable;
    struct thread_pool *pool = thread_pool_create(threads);
    enum akin_status status = AKIN_OK;
    if (!pool)
        TRY_DONE(error_memory(&b->cli->error));
    TRY_DONE(akin_recommender_open(b->cli->engine, catalog, NULL, &settings, &updates.recommender,
                                   &b->cli->error));
    /* the first third loads the people */
    for (int warm = 1; warm >= 0; warm--) {
        atomic_store(&updates.done, 0);
        uint64_t began = akin_clock_ns();
        updates.until_ns = began + (uint64_t)((warm ? 0.5 : 1) * measuring_seconds(b) * 1e9);
        thread_pool_run(pool, (size_t)threads, send_updates, &updates);
        *rate = (double)atomic_load(&updates.done) / seconds_since(began);
    }
    if (atomic_load(&updates.failed))
        TRY_DONE(error_set(&b->cli->error, AKIN_IO, "a rating could not be taken"));
    status = check_interrupted(b->cli);
done:
    akin_recommender_close(&updates.recommender);
    thread_pool_destroy(&pool);
    return status;
}

/* What the disk does by itself: 4 KB written behind the last, and flushed. */
static enum akin_status measure_syncs(struct personal_bench *b, const char *scratch)
{
    static const char block[SYNC_BYTES];
    struct file_at file;
    struct file_part part = {block, sizeof block};
    uint64_t count = 0, began = akin_clock_ns();
    TRY(file_at_open(scratch, FILE_AT_UNNAMED, &file, &b->cli->error));
    enum akin_status status = AKIN_OK;
    while (status == AKIN_OK && seconds_since(began) < measuring_seconds(b) / 2) {
        status = file_at_write(&file, count++ * SYNC_BYTES, &part, 1, &b->cli->error);
        if (status == AKIN_OK)
            status = file_at_sync(&file, &b->cli->error);
    }
    b->made.syncs_per_s = (double)count / seconds_since(began);
    file_at_close(&file);
    return status;
}

static enum akin_status measure_all(struct personal_bench *b, const char *scratch,
                                    size_t ratings)
{
    char data[PATH_BYTES_MAX];
    struct akin_catalog *catalog = NULL;
    struct made_up *made = &b->made;
    int threads = akin_engine_threads(b->cli->engine);
    enum akin_status status = AKIN_OK;
    TRY(path_join(data, sizeof data, scratch, "data", &b->cli->error));
    TRY(make_catalog(b, scratch, data, ratings));
    TRY(akin_catalog_open(data, &catalog, &b->cli->error));
    TRY_DONE(measure_updates(b, catalog, false, BATCH_MEMORY, threads,
                             &made->updates_per_s));
    TRY_DONE(measure_updates(b, catalog, true, BATCH_DURABLE, threads,
                             &made->durable_per_s));
    TRY_DONE(measure_updates(b, catalog, true, 1, threads,
                             &made->durable_single_per_s));
    TRY_DONE(measure_syncs(b, scratch));
    TRY_DONE(personal_wake(b, catalog));
done:
    akin_catalog_close(&catalog);
    return status;
}

enum akin_status personal_made_up(struct personal_bench *b, const char *scratch, size_t ratings)
{
    char name[64], folder[PATH_BYTES_MAX];
    snprintf(name, sizeof name, "akin_made_up_%llu", (unsigned long long)akin_clock_ns());
    TRY(path_join(folder, sizeof folder, scratch, name, &b->cli->error));
    TRY(path_make_folders(folder, &b->cli->error));
    enum akin_status status = measure_all(b, folder, ratings);
    enum akin_status removed =
        path_remove_tree(folder, status == AKIN_OK ? &b->cli->error : NULL);
    return status == AKIN_OK ? removed : status;
}
