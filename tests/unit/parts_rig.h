/* A made-up catalogue in which each part of a score is needed: series of films that only their
 * texts, only their titles, or only their raters tell from others, and years that make strangers
 * alike. Written and read as any other. */
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/backend.h"
#include "recommend/recommend.h"
#include "recommend/request.h"
#include "recommend/users.h"

#ifndef RIG_DIM
#define RIG_DIM 48
#endif

enum {
    SERIES = 12, EPISODES = 6, OTHERS = 900, DIM = RIG_DIM, YEARS = 8, PEOPLE = 60, RATED = 24,
    ITEMS = SERIES * EPISODES + OTHERS,
    TWIN = SERIES * EPISODES,       /* this one and the next are one film twice */
    BLANK = TWIN + 2,               /* has no text */
};

enum series_kind { BY_TEXT, BY_TITLE, BY_TASTE };

static char rig_folder[64];
static float rig_vectors[ITEMS * DIM];
static struct catalog *rig_catalog;
static struct thread_pool *rig_pool;
static struct backend *rig_backend;
static struct recommender *rig;
static struct users *rig_users;

static void must(enum akin_status status, const struct akin_error *error)
{
    if (status != AKIN_OK)
        fail_msg("%s", error->message);
}

static bool in_series(size_t row)
{
    return row < SERIES * EPISODES;
}

static enum series_kind kind_of(size_t row)
{
    return (enum series_kind)(row / EPISODES % 3);
}

static int rig_year(size_t row)
{
    return row % 17 == 16 ? 0 : 1970 + (int)(row * 7 % YEARS);
}

static void write_rig_items(const char *path)
{
    static const char *const genres[] = { "Drama", "Comedy", "Action", "Western" };
    struct bytes text = { 0 };
    struct akin_error error = { 0 };
    for (size_t i = 0; i < ITEMS; i++) {
        bytes_printf(&text, "{\"id\":\"f%zu\",\"text\":\"t\",\"genres\":[\"%s\"],\"title\":\"", i,
                     genres[i % 4]);
        if (in_series(i) && kind_of(i) == BY_TITLE)
            bytes_printf(&text, "Zorblat%c, The %zu%s", (int)('a' + i / EPISODES),
                         i % EPISODES + 1, i % EPISODES == 5 ? ": Farewell" : "");
        else
            bytes_printf(&text, "Word%zu of the Word%zu", i, i * 31 % 400);
        if (rig_year(i))
            bytes_printf(&text, " (%d)\",\"year\":%d", rig_year(i), rig_year(i));
        else
            bytes_append_text(&text, "\"");
        bytes_printf(&text, ",\"tags\":[\"tag%zu\"]}\n", i / EPISODES);
    }
    must(file_write(path, text.data, text.count, &error), &error);
    bytes_deinit(&text);
}

/* Person p rates a series that taste tells, whole, and then whatever comes; a rating of 5 each, so
 * that order alone matters. The first others are rated by nearly all. */
static size_t rig_rated(size_t person, size_t i)
{
    size_t series = person % (SERIES / 3) * 3 + BY_TASTE;
    if (i < EPISODES)
        return series * EPISODES + i;
    if (i < EPISODES + 4)
        return BLANK + i;
    return TWIN + (person * 101 + i * 37) % OTHERS;
}

static void write_rig_ratings(const char *path)
{
    struct bytes text = { 0 };
    struct akin_error error = { 0 };
    for (size_t p = 0; p < PEOPLE; p++)
        for (size_t i = 0; i < RATED; i++)
            bytes_printf(&text, "{\"user\":\"p%zu\",\"item\":\"f%zu\",\"rating\":5,"
                         "\"timestamp\":%zu}\n", p, rig_rated(p, i), 1000 * i + p);
    must(file_write(path, text.data, text.count, &error), &error);
    bytes_deinit(&text);
}

static void draw_normal(struct rng *rng, void *numbers, size_t count)
{
    float *x = numbers;
    for (size_t i = 0; i < count; i++)
        x[i] = rng_normal(rng);
}

/* One cone for all, a direction for each year, noise; a direction for series that texts tell. */
static void draw_rig_vectors(void)
{
    static float years[YEARS + 1][DIM], series[SERIES][DIM], cone[DIM];
    struct rng rng;
    rng_seed(&rng, 11);
    draw_normal(&rng, cone, DIM);
    draw_normal(&rng, years, (YEARS + 1) * DIM);
    draw_normal(&rng, series, SERIES * DIM);
    for (size_t row = 0; row < ITEMS; row++) {
        float *x = rig_vectors + row * DIM;
        const float *year = years[rig_year(row) ? rig_year(row) - 1970 : YEARS];
        double squares = 0;
        for (size_t k = 0; k < DIM; k++) {
            x[k] = 1.5f * cone[k] + 1.2f * year[k] + 0.8f * rng_normal(&rng);
            if (in_series(row) && kind_of(row) == BY_TEXT)
                x[k] += 1.2f * series[row / EPISODES][k];
            squares += (double)x[k] * (double)x[k];
        }
        for (size_t k = 0; k < DIM; k++)
            x[k] = row == BLANK ? 0 : x[k] / (float)sqrt(squares);
    }
    memcpy(rig_vectors + (TWIN + 1) * DIM, rig_vectors + TWIN * DIM, DIM * sizeof(float));
}

/* users_settings.find_vectors. */
static enum akin_status rig_space_vectors(void *context, const float **found,
                                          struct akin_error *error)
{
    const struct space *space;
    enum akin_status status = recommender_space(context, &space, error);
    *found = status == AKIN_OK ? space->vectors : NULL;
    return status;
}

static void open_rig(void)
{
    struct akin_error error = { 0 };
    must(recommender_open(rig_backend, rig_catalog, &rig, &error), &error);
    struct users_settings live = { .catalog = rig_catalog, .dim = DIM,
                                   .find_vectors = rig_space_vectors, .vectors_context = rig,
                                   .kernels = cpu_kernels(rig_backend) };
    users_settings_default(&live.live);
    live.live.store = false;
    live.live.max_active_users = 100;
    must(users_open(&live, &rig_users, &error), &error);
    recommender_use_live(rig, rig_users);
}

static void close_rig(void)
{
    users_close(&rig_users);
    recommender_close(&rig);
}

static int rig_set_up(void **state)
{
    char items[96], ratings[96], data[96];
    struct akin_error error = { 0 };
    size_t users, without;
    (void)state;
    snprintf(rig_folder, sizeof rig_folder, "/tmp/akin_parts_XXXXXX");
    assert_non_null(mkdtemp(rig_folder));
    snprintf(items, sizeof items, "%s/in.jsonl", rig_folder);
    snprintf(ratings, sizeof ratings, "%s/ratings.jsonl", rig_folder);
    snprintf(data, sizeof data, "%s/data", rig_folder);
    write_rig_items(items);
    write_rig_ratings(ratings);
    draw_rig_vectors();
    must(catalog_import_jsonl(items, ratings, NULL, data, (struct akin_progress){ 0 }, NULL,
                              &error), &error);
    must(catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, &rig_catalog, &error), &error);
    must(catalog_write_item_vectors(rig_catalog, "none", "", rig_vectors, DIM, &error), &error);
    must(catalog_write_user_vectors(rig_catalog, rig_vectors, DIM, (struct akin_progress){ 0 },
                                    &users, &without, &error), &error);
    catalog_close(&rig_catalog);
    must(catalog_open(data, CATALOG_ALL, &rig_catalog, &error), &error);
    rig_pool = thread_pool_create(2);
    must(cpu_backend_create(cpu_detect(), rig_pool, &rig_backend, &error), &error);
    open_rig();
    return 0;
}

static int rig_tear_down(void **state)
{
    (void)state;
    close_rig();
    cpu_backend_destroy(&rig_backend);
    thread_pool_destroy(&rig_pool);
    catalog_close(&rig_catalog);
    return path_remove_tree(rig_folder, NULL) == AKIN_OK ? 0 : -1;
}

__attribute__((unused)) static struct akin_request rig_request(size_t k)
{
    struct akin_request request;
    recommend_request_default(&request);
    request.k = k;
    request.ranking = AKIN_RANK_PARTS;
    return request;
}

__attribute__((unused)) static size_t rig_ask(const struct akin_request *request,
                                              struct akin_recommendation *results)
{
    struct akin_error error = { 0 };
    size_t found;
    must(recommend(rig, request, NULL, results, NULL, &found, NULL, &error), &error);
    return found;
}

/* Rows and scores, bit by bit. */
__attribute__((unused)) static bool rig_same(const struct akin_recommendation *one,
                                             const struct akin_recommendation *other, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (one[i].row != other[i].row ||
            memcmp(&one[i].score, &other[i].score, sizeof one[i].score) ||
            memcmp(&one[i].similarity, &other[i].similarity, sizeof one[i].similarity))
            return false;
    return true;
}

__attribute__((unused)) static bool rig_among(const struct akin_recommendation *results,
                                              size_t found, size_t row)
{
    for (size_t i = 0; i < found; i++)
        if (results[i].row == row)
            return true;
    return false;
}
