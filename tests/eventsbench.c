/* How fast a store of events is. By hand.
 *
 *   eventsbench append FOLDER           durable appends by groups of several sizes
 *   eventsbench search FOLDER EVENTS KINDS [DIMENSION [plain]]
 *                                       makes a store unless it is there; times opening, searches
 *                                       of k = 10 alone, with filters, and while events come in;
 *                                       plain: all kinds are compared each time
 *   eventsbench turns FOLDER EVENTS KINDS [DIMENSION]
 *                                       searches of a store with and without an index of its kinds
 *                                       in turns, which have to agree */
#include <inttypes.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "watch/event_store.h"

enum { GROUP_MAX = 1000, SEARCHES = 2000, K = 10 };

static struct akin_error error;
static struct kernels kernels;
static struct backend *backend;     /* NULL: no index of kinds */

#define MUST(call)                                                        \
    do {                                                                  \
        if ((call) != AKIN_OK) {                                          \
            fprintf(stderr, "%s: %s\n", #call, error.message);            \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

static uint64_t mix(uint64_t n)
{
    n = (n ^ n >> 31) * 0x9e3779b97f4a7c15;
    return n ^ n >> 29;
}

static void make_event(uint64_t n, uint64_t kinds, struct stored_event *event, char text[200],
                       char id[24], char session[32])
{
    /* Some kinds are common and most are rare, as in logs: the square of a uniform number. */
    double uniform = (double)(mix(n) >> 11) * 0x1p-53;
    uint64_t kind = kinds >= 500000 ? n % kinds : (uint64_t)(uniform * uniform * (double)kinds);
    snprintf(id, 24, "%" PRIu64, n);
    snprintf(session, 32, "instance-%" PRIu64, n / 40);
    int bytes = snprintf(text, 200, "network.ovs.bridge.kind%" PRIu64 " br%" PRIu64
                         " 192.168.%u.%u/24 took %u ms and went on as it should have", kind, n % 97,
                         (unsigned)(n % 250), (unsigned)(n % 199), (unsigned)(n % 1000));
    *event = (struct stored_event){ .time_us = clock_unix_us(), .origin = "bench", .id = id,
                                    .cursor = id, .text = text, .text_bytes = (size_t)bytes,
                                    .time = "", .source = n % 50 ? "nova-compute" : "ovs",
                                    .level = n % 20 ? "INFO" : "WARN", .session = session,
                                    .session_bytes = strlen(session), .kind = kind + 1,
                                    .score = (float)(n % 100) / 10, .alert = mix(n) % 1000 == 7 };
}

static void append(struct event_store *store, uint64_t first, size_t count, uint64_t kinds)
{
    static _Thread_local char texts[GROUP_MAX][200], ids[GROUP_MAX][24], sessions[GROUP_MAX][32];
    static _Thread_local struct stored_event events[GROUP_MAX];
    static _Thread_local uint64_t numbers[GROUP_MAX];
    for (size_t i = 0; i < count; i++)
        make_event(first + i, kinds, &events[i], texts[i], ids[i], sessions[i]);
    MUST(event_store_append(store, events, count, numbers, &error));
}

static struct event_store *open_store(const char *folder, bool durable)
{
    struct event_store *store;
    struct event_store_settings settings = { .folder = folder, .durable = durable,
                                             .kernels = &kernels, .backend = backend,
                                             .model = "bench" };
    MUST(event_store_open(&settings, (struct event_store_note){ 0 }, &store, &error));
    return store;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void bench_append(const char *folder)
{
    static const size_t groups[] = {1, 10, 100, 1000};
    for (int durable = 1; durable >= 0; durable--)
        for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
            static double ms[200000];
            MUST(path_remove_tree(folder, &error));
            struct event_store *store = open_store(folder, durable);
            uint64_t began = clock_monotonic_ns(), n = 1;
            size_t calls = 0;
            while (seconds_since(began) < 3 && calls < 200000) {
                uint64_t call = clock_monotonic_ns();
                append(store, n, groups[g], 4000);
                ms[calls++] = ms_since(call);
                n += groups[g];
            }
            double seconds = seconds_since(began);
            qsort(ms, calls, sizeof *ms, compare);
            printf("%s, groups of %zu: %.0f events/s, %.0f calls/s, p50 %.3f ms, p99 %.3f ms\n",
                   durable ? "durable" : "not durable", groups[g], (double)n / seconds,
                   (double)calls / seconds, ms[calls / 2], ms[calls * 99 / 100]);
            event_store_close(&store);
        }
    MUST(path_remove_tree(folder, &error));
}

static void make_vector(struct rng *rng, float *vector, size_t dimension)
{
    double square = 0;
    for (size_t i = 0; i < dimension; i++) {
        vector[i] = (float)rng_normal(rng);
        square += (double)vector[i] * (double)vector[i];
    }
    for (size_t i = 0; i < dimension; i++)
        vector[i] = (float)((double)vector[i] / sqrt(square));
}

static void fill(const char *folder, uint64_t events, uint64_t kinds, size_t dimension)
{
    struct event_store *store = open_store(folder, false);
    struct event_store_info info;
    struct rng rng;
    float *vector = malloc(dimension * sizeof *vector);
    event_store_info(store, &info);
    rng_seed(&rng, 1);
    for (uint64_t kind = info.kinds; vector && kind < kinds; kind++) {
        make_vector(&rng, vector, dimension);
        MUST(event_store_put_kind(store, kind + 1, "bench", vector, dimension, &error));
    }
    uint64_t began = clock_monotonic_ns();
    for (uint64_t n = info.last + 1; n <= events; n += GROUP_MAX)
        append(store, n, GROUP_MAX, kinds);
    if (info.last < events)
        printf("made %" PRIu64 " events in %.1f s\n", events - info.last, seconds_since(began));
    event_store_close(&store);
    free(vector);
}

static void search(struct event_store *store, const char *what, size_t dimension,
                   const struct event_filter *filter)
{
    static double us[SEARCHES];
    struct event_hit hits[K];
    size_t found = 0, all = 0;
    struct rng rng;
    float *query = malloc(dimension * sizeof *query);
    rng_seed(&rng, 2);
    uint64_t began = clock_monotonic_ns();
    size_t count = 0;
    for (; query && count < SEARCHES && seconds_since(began) < 10; count++) {
        make_vector(&rng, query, dimension);
        uint64_t call = clock_monotonic_ns();
        MUST(event_store_search(store, query, K, filter, hits, &found, &error));
        us[count] = ms_since(call) * 1000;
        all += found;
    }
    qsort(us, count, sizeof *us, compare);
    printf("search, %s: p50 %.0f us, p99 %.0f us, %zu searches, %.1f found\n", what,
           us[count / 2], us[count * 99 / 100], count, (double)all / (double)count);
    free(query);
}

struct ingest {
    struct event_store *store;
    uint64_t next, kinds, count;
    double rate;                    /* 0: as fast as it goes */
    _Atomic bool stop;
};

static void ingest(void *context)
{
    struct ingest *in = context;
    uint64_t began = clock_monotonic_ns(), group = 10;
    while (!atomic_load(&in->stop)) {
        append(in->store, in->next, group, in->kinds);
        in->next += group;
        in->count += group;
        double due = in->rate > 0 ? (double)in->count / in->rate - seconds_since(began) : 0;
        if (due > 0)
            clock_sleep_us((unsigned)(due * 1e6));
    }
    in->rate = (double)in->count / seconds_since(began);
}

static void search_while(struct event_store *store, uint64_t kinds, size_t dimension, double rate)
{
    char what[80];
    struct event_store_info info;
    event_store_info(store, &info);
    struct ingest in = { .store = store, .next = info.last + 1, .kinds = kinds, .rate = rate };
    struct thread *thread = thread_start(ingest, &in, false);
    snprintf(what, sizeof what, "while %.0f events/s are stored durably (0: at full speed)", rate);
    search(store, what, dimension, NULL);
    atomic_store(&in.stop, true);
    thread_join(&thread);
    printf("  stored at %.0f events/s\n", in.rate);
}

static void bench_search(const char *folder, uint64_t events, uint64_t kinds, size_t dimension)
{
    struct event_store_info info;
    fill(folder, events, kinds, dimension);
    uint64_t began = clock_monotonic_ns();
    struct event_store *store = open_store(folder, true);
    double seconds = seconds_since(began);
    event_store_info(store, &info);
    printf("%" PRIu64 " events of %" PRIu64 " kinds, dimension %zu, %zu segments, %.0f MB: opened "
           "in %.3f s\n", info.events, info.kinds, info.dimension, info.segments,
           (double)info.bytes / 1e6, seconds);
    search(store, "alone", dimension, NULL);
    search(store, "alarms only (0.1 %)", dimension, &(struct event_filter){ .alerts = true });
    search(store, "one source (2 %) and level (5 %)", dimension,
           &(struct event_filter){ .source = "ovs", .level = "WARN" });
    search(store, "one session", dimension, &(struct event_filter){ .session = "instance-1000" });
    search_while(store, kinds, dimension, 1000);
    search_while(store, kinds, dimension, 0);
    event_store_close(&store);
}

static bool same(const struct event_hit *a, const struct event_hit *b, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (a[i].number != b[i].number || memcmp(&a[i].similarity, &b[i].similarity, sizeof(float)))
            return false;
    return true;
}

static void bench_turns(const char *folder, uint64_t events, uint64_t kinds, size_t dimension)
{
    enum { ROUNDS = 100, FIRST = 40 };  /* the first ones make the index */
    static double ms[2][ROUNDS];
    struct event_store *stores[2];
    struct event_hit hits[2][K];
    size_t found[2];
    struct rng rng;
    float *query = malloc(dimension * sizeof *query);
    fill(folder, events, kinds, dimension);
    rng_seed(&rng, 3);
    stores[1] = open_store(folder, true);
    backend = NULL;
    stores[0] = open_store(folder, true);
    for (size_t i = 0; query && i < ROUNDS + FIRST; i++) {
        make_vector(&rng, query, dimension);
        for (int which = 0; which < 2; which++) {
            uint64_t call = clock_monotonic_ns();
            MUST(event_store_search(stores[which], query, K, NULL, hits[which], &found[which],
                                    &error));
            if (i >= FIRST)
                ms[which][i - FIRST] = ms_since(call);
            else if (i % 13 < 2)
                printf("%s, search %zu: %.1f ms\n", which ? "index" : "plain", i, ms_since(call));
        }
        if (found[0] != found[1] || !same(hits[0], hits[1], found[0])) {
            fprintf(stderr, "search %zu: the answers differ\n", i);
            exit(1);
        }
    }
    for (int which = 0; which < 2; which++) {
        qsort(ms[which], ROUNDS, sizeof *ms[which], compare);
        printf("%s: p50 %.2f ms, p99 %.2f ms\n", which ? "index" : "plain", ms[which][ROUNDS / 2],
               ms[which][ROUNDS * 99 / 100]);
        event_store_close(&stores[which]);
    }
    free(query);
}

int main(int argc, char **argv)
{
    kernels_select(&kernels, cpu_detect());
    bool plain = argc > 6 && !strcmp(argv[6], "plain");
    struct thread_pool *pool = thread_pool_create(1);
    if (!plain)
        MUST(cpu_backend_create(cpu_detect(), pool, &backend, &error));
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc == 3 && !strcmp(argv[1], "append"))
        bench_append(argv[2]);
    else if (argc >= 5 && !strcmp(argv[1], "search"))
        bench_search(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10),
                     argc > 5 ? strtoull(argv[5], NULL, 10) : 384);
    else if (argc >= 5 && !strcmp(argv[1], "turns"))
        bench_turns(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10),
                    argc > 5 ? strtoull(argv[5], NULL, 10) : 384);
    else
        return fprintf(stderr, "see the top of eventsbench.c\n"), 64;
    return 0;
}
