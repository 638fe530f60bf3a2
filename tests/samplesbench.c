/* How fast batches come: tokens made in memory, and read from shards. By hand.
 *
 *   samplesbench [--dir FOLDER] [--samples N] [--seq-len N] [--vocab N] [--batch N] [--workers N]
 *                [--world N] [--u16] [--shards N] [--direct|--cached] [--epochs N]
 *
 * Prints a line for each epoch: samples/s, the share of the time that was waited, CPU time of all
 * threads, and from disk GB/s. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "train/samples.h"

static struct akin_error error;

static void must(enum akin_status status)
{
    if (status == AKIN_OK)
        return;
    fprintf(stderr, "samplesbench: %s\n", error.message);
    exit(1);
}

static void prepare(const struct samples_settings *s)
{
    struct shards_settings set = {
        .folder = s->data_dir, .seed = s->seed, .workers = s->workers, .io = s->io,
        .layout = { s->sample_count, s->seq_len, s->vocab, s->shard_count, s->token_type },
    };
    struct shards_report report;
    must(shards_prepare(&set, &report, &error));
    if (report.generated)
        printf("generated %zu shards, %.2f GB in %.2f s: %.2f GB/s\n", report.shard_count,
               (double)report.bytes_written * 1e-9, report.generate_seconds,
               (double)report.bytes_written * 1e-9 / report.generate_seconds);
    if (report.scanned)
        printf("scanned %.2f GB in %.2f s: %.2f GB/s\n", (double)report.bytes_scanned * 1e-9,
               report.scan_seconds, (double)report.bytes_scanned * 1e-9 / report.scan_seconds);
}

static void run(const struct samples_settings *settings, size_t batch, uint32_t epochs)
{
    struct samples *samples;
    int32_t *source = memory_alloc_aligned(batch, settings->seq_len * sizeof *source);
    int32_t *target = memory_alloc_aligned(batch, settings->seq_len * sizeof *target);
    if (!source || !target)
        exit(1);
    must(samples_open(settings, &samples, &error));
    for (uint32_t epoch = 0; epoch < epochs; epoch++) {
        struct samples_stats stats;
        size_t got = batch;
        clock_t cpu = clock();
        samples_epoch(samples, epoch);
        while (got == batch)
            must(samples_next(samples, batch, source, target, &got, &error));
        samples_stats(samples, &stats);
        printf("%s epoch %u: %.0f samples/s, waited %.1f %%, %.2f us of CPU per sample",
               settings->data_dir ? stats.direct ? "direct" : "cached" : "memory", epoch,
               (double)stats.samples / stats.seconds, 100 * stats.wait_seconds / stats.seconds,
               1e6 * (double)(clock() - cpu) / CLOCKS_PER_SEC / (double)stats.samples);
        if (settings->data_dir)
            printf(", %.2f GB/s", stats.gb_per_second);
        printf(", buffers %.1f MB\n", (double)stats.buffer_bytes * 1e-6);
    }
    samples_close(&samples);
    memory_free(source);
    memory_free(target);
}

int main(int argc, char **argv)
{
    struct samples_settings s = {
        .sample_count = 200000, .seq_len = 256, .vocab = 8192, .workers = 1, .world = 1,
        .shuffle = true,
    };
    size_t batch = 128, epochs = 2;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "0";
        size_t number = strtoull(value, NULL, 10);
        bool flag = false;
        if (!strcmp(argv[i], "--dir"))
            s.data_dir = value;
        else if (!strcmp(argv[i], "--samples"))
            s.sample_count = number;
        else if (!strcmp(argv[i], "--seq-len"))
            s.seq_len = number;
        else if (!strcmp(argv[i], "--vocab"))
            s.vocab = number;
        else if (!strcmp(argv[i], "--batch"))
            batch = number ? number : 1;
        else if (!strcmp(argv[i], "--workers"))
            s.workers = (int)number;
        else if (!strcmp(argv[i], "--shards"))
            s.shard_count = number;
        else if (!strcmp(argv[i], "--world"))
            s.world = number;
        else if (!strcmp(argv[i], "--epochs"))
            epochs = number;
        else if ((flag = !strcmp(argv[i], "--u16")))
            s.token_type = TOKEN_U16;
        else if ((flag = !strcmp(argv[i], "--direct")))
            s.io = SHARD_IO_DIRECT;
        else if ((flag = !strcmp(argv[i], "--cached")))
            s.io = SHARD_IO_CACHED;
        else {
            fprintf(stderr, "samplesbench: %s: unknown\n", argv[i]);
            return 2;
        }
        i += !flag;
    }
    if (s.data_dir)
        prepare(&s);
    run(&s, batch, (uint32_t)epochs);
    return 0;
}
