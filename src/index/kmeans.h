/* k-means over float32 or half rows: cells for an inverted file, starting points for others.
 * Lloyd's iterations on a sample; the same centroids for the same rows, settings and seed, whatever
 * the number of threads. Distances are compared in eight bits where the rows are long (a cell that
 * is a hair further away does no harm), in float32 where they are short. */
#pragma once

#include "index/segment_rows.h"

struct kmeans_settings {
    size_t clusters;        /* at least 1; at most the rows there are */
    size_t iterations, sample_max;  /* 0: 6, and up to 65,536 rows */
    uint64_t seed;
    struct akin_progress progress;
};

/* The mean of a sample of the rows: what kmeans subtracts, because rows far from the origin lose
 * their differences in eight bits. mean [dim]. */
enum akin_status kmeans_mean(struct backend *backend, const struct segment_rows *rows,
                             uint64_t seed, float *mean, struct akin_error *error);

/* centroids [clusters][dim], less `origin` [dim]. Where there are fewer different rows than
 * clusters, some centroids are nobody's nearest. AKIN_CANCELLED where `progress` says stop. */
enum akin_status kmeans_train(struct backend *backend, struct thread_pool *pool,
                              const struct segment_rows *rows, const float *origin,
                              const struct kmeans_settings *settings, float *centroids,
                              struct akin_error *error);

/* The nearest centroid of rows which[begin .. end) (NULL: the rows themselves): cells [end -
 * begin]. One call at a time; it uses the pool. Rows, origin and `which` outlive the assigner. */
struct kmeans_assigner;
enum akin_status kmeans_assigner_create(struct backend *backend, struct thread_pool *pool,
                                        const struct segment_rows *rows, const float *origin,
                                        const float *centroids, size_t clusters,
                                        struct kmeans_assigner **assigner,
                                        struct akin_error *error);
void kmeans_assigner_destroy(struct kmeans_assigner **assigner);
void kmeans_assign(struct kmeans_assigner *assigner, const uint32_t *which, size_t begin,
                   size_t end, uint32_t *cells);
