/* How many ratings a second live users take, beside what the disk does: usersbench [FOLDER].
 * Made up: 62,423 items of 384 dimensions, 100,000 places. Runs some seconds; --known N adds N
 * users to the store and shows what memory they take (10,000,000 take minutes and 1 GB of disk). */
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sqlite3.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/rng.h"
#include "base/system.h"
#include "base/thread.h"
#include "catalog/catalog.h"
#include "compute/cpu/kernels.h"
#include "recommend/users.h"

enum { ITEMS = 62423, DIM = 384, PEOPLE = 50000, THREADS_MAX_HERE = 64 };

static char folder[512];
static struct catalog *catalog;
static struct kernels kernels;
static float *vectors;

static void give_up(const struct akin_error *error)
{
    fprintf(stderr, "usersbench: %s\n", error->message);
    exit(1);
}

static void must(enum akin_status status, const struct akin_error *error)
{
    if (status != AKIN_OK)
        give_up(error);
}

static void make_catalog(void)
{
    char items[600], data[600];
    struct bytes text = { 0 };
    struct akin_error error;
    struct rng rng;
    snprintf(items, sizeof items, "%s/items.jsonl", folder);
    snprintf(data, sizeof data, "%s/data", folder);
    for (int i = 0; i < ITEMS; i++)
        bytes_printf(&text, "{\"id\":\"i%d\",\"title\":\"T %d\",\"text\":\"t\"}\n", i, i);
    must(file_write(items, text.data, text.count, &error), &error);
    bytes_deinit(&text);
    must(catalog_import_jsonl(items, NULL, NULL, data, (struct akin_progress){0}, NULL, &error),
         &error);
    must(catalog_open(data, CATALOG_WITHOUT_EMBEDDINGS, &catalog, &error), &error);
    vectors = memory_alloc_aligned((size_t)ITEMS * DIM, sizeof *vectors);
    rng_seed(&rng, 1);
    for (size_t i = 0; i < (size_t)ITEMS * DIM; i++)
        vectors[i] = rng_float(&rng) - 0.5f;
}

static struct users *open_users(const char *path, bool durable)
{
    struct akin_error error;
    struct users *users = NULL;
    struct users_settings s = { .catalog = catalog, .vectors = vectors, .dim = DIM,
                                .kernels = &kernels, .store_path = path };
    users_settings_default(&s.live);
    s.live.store = path != NULL;
    s.live.durable = durable;
    must(users_open(&s, &users, &error), &error);
    return users;
}

/* ---- updates ---------------------------------------------------------------------------- */

struct load {
    struct users *users;
    atomic_uint_fast64_t done;
    uint64_t total;
    size_t batch;
    atomic_uint_fast64_t threads;
};

static void draw(struct rng *rng, char names[32], struct akin_feedback *feedback)
{
    snprintf(names, 16, "u%d", (int)rng_below(rng, PEOPLE));
    snprintf(names + 16, 16, "i%d", (int)rng_below(rng, ITEMS));
    *feedback = (struct akin_feedback){ names, names + 16, rng_float(rng), 1700000000 };
}

static void work(void *context)
{
    struct load *load = context;
    struct akin_error error;
    struct rng rng;
    struct akin_feedback *batch = memory_alloc(load->batch, sizeof *batch);
    char (*names)[32] = memory_alloc(load->batch, sizeof *names);
    rng_seed(&rng, atomic_fetch_add(&load->threads, 1));
    while (atomic_fetch_add(&load->done, load->batch) < load->total) {
        for (size_t i = 0; i < load->batch; i++)
            draw(&rng, names[i], &batch[i]);
        must(load->batch == 1 ? users_update(load->users, batch, &error)
                              : users_update_batch(load->users, batch, load->batch, NULL, &error),
             &error);
    }
    memory_free(batch);
    memory_free(names);
}

static double cpu_seconds(void)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return (double)used.ru_utime.tv_sec + (double)used.ru_stime.tv_sec +
           (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

static void bench(const char *what, struct users *users, int threads, size_t batch, uint64_t total)
{
    struct load load = { .users = users, .total = total, .batch = batch };
    struct thread *started[THREADS_MAX_HERE] = { NULL };
    double cpu = cpu_seconds();
    uint64_t began = clock_monotonic_ns();
    for (int i = 0; i < threads; i++)
        started[i] = thread_start(work, &load, false);
    for (int i = 0; i < threads; i++)
        thread_join(&started[i]);
    double seconds = seconds_since(began);
    printf("%-16s %2d threads, batches of %5zu %9.0f updates/s %7.2f us of CPU each\n", what,
           threads, batch, (double)total / seconds, (cpu_seconds() - cpu) / (double)total * 1e6);
    fflush(stdout);
}

/* ---- the disk --------------------------------------------------------------------------- */

static double flushes_per_second(void)
{
    char path[600], page[4096] = { 1 };
    snprintf(path, sizeof path, "%s/raw", folder);
    int file = open(path, O_CREAT | O_WRONLY | O_APPEND, 0600);
    int count = 0;
    uint64_t began = clock_monotonic_ns();
    while (file >= 0 && seconds_since(began) < 1) {
        if (write(file, page, sizeof page) != sizeof page || fdatasync(file))
            break;
        count++;
    }
    double seconds = seconds_since(began);
    close(file);
    return count / seconds;
}

static void bench_updates(void)
{
    char path[600];
    struct users *users = open_users(NULL, false);
    struct user_profile profile;
    bench("memory, new", users, 2, 1, PEOPLE * 4);
    bench("memory", users, 1, 1, 400000);
    bench("memory", users, 2, 1, 400000);
    if (user_profile_init(&profile, DIM)) {
        struct rng rng;
        char names[32];
        struct akin_feedback feedback;
        rng_seed(&rng, 9);
        uint64_t began = clock_monotonic_ns();
        for (int i = 0; i < 200000; i++) {
            draw(&rng, names, &feedback);
            (void)users_read(users, feedback.user, &profile, NULL);
        }
        printf("reading a user       %9.2f us\n", seconds_since(began) / 200000 * 1e6);
        user_profile_deinit(&profile);
    }
    users_close(&users);
    printf("write + fdatasync    %9.0f /s\n", flushes_per_second());
    snprintf(path, sizeof path, "%s/bench.db", folder);
    users = open_users(path, true);
    bench("durable", users, 1, 100, 20000);
    bench("durable", users, 1, 1000, 200000);
    bench("durable", users, 1, 10000, 400000);
    for (int threads = 1; threads <= THREADS_MAX_HERE; threads *= 8)
        bench("durable", users, threads, 1, 200 * (uint64_t)threads);
    users_close(&users);
    printf("write + fdatasync    %9.0f /s\n", flushes_per_second());
    snprintf(path, sizeof path, "%s/kept.db", folder);
    users = open_users(path, false);
    bench("not flushed", users, 1, 1000, 200000);
    users_close(&users);
}

/* ---- known users ------------------------------------------------------------------------ */

/* Users with one rating each, written in a process of its own, whose memory is not ours. */
static void make_known(const char *path, long known)
{
    char sql[512];
    sqlite3 *db = NULL;
    pid_t child = fork();
    if (child) {
        waitpid(child, NULL, 0);
        return;
    }
    snprintf(sql, sizeof sql,
             "PRAGMA synchronous = OFF; PRAGMA cache_size = -500000; BEGIN; "
             "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %ld) "
             "INSERT INTO users(id, name) SELECT i, 'k' || i FROM n; "
             "INSERT INTO events(user, item, rating, timestamp) SELECT id, 1, 0.5, 0 FROM users "
             "WHERE id > 1; COMMIT", known);
    if (sqlite3_open(path, &db) || sqlite3_exec(db, sql, NULL, NULL, NULL))
        fprintf(stderr, "usersbench: %s\n", sqlite3_errmsg(db));
    sqlite3_close(db);
    _exit(0);
}

static void bench_known(long known)
{
    char path[600];
    struct users_counts counts;
    struct user_profile profile;
    snprintf(path, sizeof path, "%s/known.db", folder);
    struct users *users = open_users(path, false);
    struct akin_error error;
    struct akin_feedback first = { "k1", "i1", 1, 0 };
    must(users_update(users, &first, &error), &error);
    users_close(&users);
    make_known(path, known);
    users = open_users(path, false);
    if (!user_profile_init(&profile, DIM))
        return;
    for (int round = 0; round < 3; round++) {
        static const int asked[] = { 1, 1000, 20000 };
        uint64_t began = clock_monotonic_ns();
        struct rng rng;
        rng_seed(&rng, 77);
        for (int i = 0; i < asked[round]; i++) {
            char name[32];
            snprintf(name, sizeof name, "k%d", 1 + (int)rng_below(&rng, (uint64_t)known));
            must(users_read(users, name, &profile, &error), &error);
        }
        users_count(users, &counts);
        printf("%ld known: %6llu active, %6.1f MB resident, %6.1f us a read\n", known,
               (unsigned long long)counts.active, (double)system_rss_bytes() / 1e6,
               seconds_since(began) / asked[round] * 1e6);
    }
    user_profile_deinit(&profile);
    users_close(&users);
}

int main(int argc, char **argv)
{
    long known = 0;
    const char *base = "/tmp";
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--known") && i + 1 < argc)
            known = strtol(argv[++i], NULL, 10);
        else
            base = argv[i];
    }
    snprintf(folder, sizeof folder, "%.400s/akin_usersbench_XXXXXX", base);
    if (!mkdtemp(folder)) {
        perror(folder);
        return 1;
    }
    kernels_select(&kernels, cpu_detect());
    make_catalog();
    if (known)
        bench_known(known);
    else
        bench_updates();
    catalog_close(&catalog);
    memory_free(vectors);
    path_remove_tree(folder, NULL);
    return 0;
}
