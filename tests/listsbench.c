/* What the lists of popular items cost the host while a card computes them: listsbench [US]. The
 * card is made up: it answers 512 queries in US microseconds (125 where nothing is said, which is
 * 10,000 lists in 2.5 ms), two such chunks in turn, and answers lie in memory as pinned memory
 * does. With 0 the time is that of the host alone. By hand; two seconds. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "compute/search_device.h"
#include "recommend/neighbors.h"

enum { ITEMS = 62423, LISTS = 10000, FOUND = AKIN_NEIGHBORS_MAX + 1, CHUNK = 512, LANES = 2 };
enum { CHUNKS = (LISTS + CHUNK - 1) / CHUNK, TURNS = 201 };

struct search_device {
    struct hit *received;       /* [CHUNKS][CHUNK][FOUND]: as if the card had just written it */
    size_t next;
    uint64_t chunk_ns, free_ns;
};

struct lane {
    size_t first, count;
    struct hit *received;
    uint64_t done_ns;
};

static void collect(struct lane *lane, const struct device_query *query)
{
    while (clock_monotonic_ns() < lane->done_ns)
        ;
    for (size_t i = 0; i < lane->count; i++)
        query->answer(query->context, lane->first + i, lane->received + i * FOUND, FOUND);
    lane->count = 0;
}

static enum akin_status search(struct search_device *card, const struct device_query *query,
                               struct hit *hits, size_t *found, struct search_counts *counts,
                               struct akin_error *error)
{
    struct lane lanes[LANES] = { { 0 } };
    size_t turn = 0;
    (void)hits;
    (void)found;
    (void)counts;
    (void)error;
    for (size_t first = 0; first < query->query_count; first += CHUNK, turn++) {
        struct lane *lane = &lanes[turn % LANES];
        size_t left = query->query_count - first;
        collect(lane, query);
        lane->first = first;
        lane->count = left < CHUNK ? left : (size_t)CHUNK;
        lane->received = card->received + card->next++ % CHUNKS * CHUNK * FOUND;
        for (size_t i = 0; i < lane->count; i++)
            lane->received[i * FOUND].row = query->rows[first + i];
        uint64_t now = clock_monotonic_ns();
        card->free_ns = (now > card->free_ns ? now : card->free_ns) +
                        card->chunk_ns * lane->count / CHUNK;
        lane->done_ns = card->free_ns;
    }
    for (size_t i = 0; i < LANES; i++)
        collect(&lanes[(turn + i) % LANES], query);
    return AKIN_OK;
}

static int by_time(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static const struct search_device_ops ops = { .search = search };
    static double took[TURNS];
    char *end = NULL;
    unsigned long us = argc > 1 ? strtoul(argv[1], &end, 10) : 125;
    struct search_device card = {
        .chunk_ns = 1000 * (uint64_t)us,
        .received = memory_alloc((size_t)CHUNKS * CHUNK * FOUND, sizeof *card.received),
    };
    struct neighbors_vectors vectors = { .items = ITEMS, .card = &card, .card_ops = &ops };
    struct neighbors_source source = { .compute = neighbors_compute_vectors, .context = &vectors,
                                       .items = ITEMS, .batch = neighbors_batch_vectors };
    struct akin_neighbors_settings settings;
    struct neighbors *neighbors = NULL;
    struct akin_error error = { 0 };
    neighbors_settings_default(&settings);
    settings.capacity = LISTS;
    if (argc > 2 || (end && *end) || us > 1000000) {
        fprintf(stderr, "usage: listsbench [US], at most 1000000\n");
        return 2;
    }
    if (!card.received)
        return 1;
    for (size_t i = 0; i < (size_t)CHUNKS * CHUNK * FOUND; i++)
        card.received[i] = (struct hit){ 1.0f / (float)(1 + i % FOUND), (uint32_t)(i % ITEMS) };
    uint64_t began = clock_monotonic_ns();
    if (neighbors_open(&source, &settings, NULL, 0, &neighbors, &error) != AKIN_OK ||
        neighbors_wait(neighbors, &error) != AKIN_OK) {
        fprintf(stderr, "listsbench: %s\n", error.message);
        return 1;
    }
    double first_ms = (double)(clock_monotonic_ns() - began) * 1e-6;
    for (int turn = 0; turn < TURNS; turn++) {
        began = clock_monotonic_ns();
        neighbors_refresh(neighbors);
        if (neighbors_wait(neighbors, &error) != AKIN_OK)
            return 1;
        took[turn] = (double)(clock_monotonic_ns() - began) * 1e-6;
    }
    qsort(took, TURNS, sizeof *took, by_time);
    printf("%d lists of %d: opened in %.2f ms, refreshed in %.2f ms (a tenth of %d in less than "
           "%.2f); the card's own time %.2f ms\n", LISTS, AKIN_NEIGHBORS_MAX, first_ms,
           took[TURNS / 2], TURNS, took[TURNS / 10], (double)card.chunk_ns * LISTS / CHUNK * 1e-6);
    neighbors_close(&neighbors);
    memory_free(card.received);
    return 0;
}
