/* A model on a card against the same model on the CPU in float32: the cosine of every text, equal
 * bits alone and in company, and the rates of tokenising and of encoding.
 *
 *   encode_modelcheck [--int8] MODEL [COUNT] [TEXTS]    TEXTS: a file, a line a text; else made up
 *
 * Exit status: 0 fine, 1 failed, 2 wrong use, 77 there is no card. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/rng.h"
#include "base/thread.h"
#include "device_check.h"
#include "model/model.h"

enum { TEXTS_MAX = 100000, MADE_BYTES = 400 };

static const double cosine_least = 0.99999, int8_cosine_least = 0.99;

/* ---- texts ------------------------------------------------------------------------------ */

static struct akin_text texts[TEXTS_MAX];

static void make_texts(size_t count)
{
    static const char *const words[] = { "the", "network", "bridge", "of", "a", "film", "about",
                                         "deleted", "192.168.0.1", "love", "Überraschung", "war",
                                         "is", "and", "port", "br0", "lost", "tiny", "1999", "in" };
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < count; i++) {
        char *text = must_have(memory_alloc(MADE_BYTES, 1));
        size_t wanted = 1 + rng_below(&rng, i % 10 ? 12 : 40), bytes = 0;
        for (size_t w = 0; w < wanted; w++)
            bytes += (size_t)snprintf(text + bytes, MADE_BYTES - bytes, "%s%s", w ? " " : "",
                                      words[rng_below(&rng, sizeof words / sizeof *words)]);
        texts[i] = (struct akin_text){ text, bytes };
    }
}

static size_t read_texts(const char *path, size_t count)
{
    struct line_reader *reader = NULL;
    size_t found = 0, bytes;
    const char *line;
    must(line_reader_open(path, &reader, &error));
    while (found < count) {
        must(line_reader_next(reader, &line, &bytes, &error));
        if (!line)
            break;
        char *text = must_have(memory_alloc(bytes + 1, 1));
        memcpy(text, line, bytes);
        texts[found++] = (struct akin_text){ text, bytes };
    }
    line_reader_close(&reader);
    return found;
}

/* ---- the two ---------------------------------------------------------------------------- */

static float *embed(struct model *model, size_t count, size_t dimension, const char *name)
{
    struct akin_embed_settings settings;
    float *vectors = must_have(memory_alloc_aligned(count * dimension, sizeof *vectors));
    model_embed_settings_default(&settings);
    settings.deduplicate = false;
    settings.normalize = AKIN_NORMALIZE_YES;
    struct akin_embed_report report;
    must(model_embed(model, texts, count < 64 ? count : 64, &settings, vectors, NULL, &error));
    must(model_embed(model, texts, count, &settings, vectors, &report, &error));
    printf("%s: %.0f texts/s; %zu threads alone tokenise %.0f texts/s, %zu lanes alone encode "
           "%.0f texts/s\n", name, (double)count / report.seconds, report.threads,
           (double)count * (double)report.threads / report.tokenize_seconds, report.lanes,
           (double)count * (double)report.lanes / report.encode_seconds);
    return vectors;
}

static int compare(const float *card, const float *cpu, size_t count, size_t dimension,
                   double limit)
{
    double least = 1, sum = 0;
    size_t worst = 0, wrong = 0;
    for (size_t i = 0; i < count; i++) {
        double dot = 0;
        for (size_t d = 0; d < dimension; d++)
            dot += (double)card[i * dimension + d] * (double)cpu[i * dimension + d];
        sum += dot;
        wrong += !(dot >= limit);
        if (!(dot >= least)) {
            least = dot;
            worst = i;
        }
    }
    printf("cosine: mean %.8f, least %.8f (\"%.60s\"), %zu of %zu below %g\n", sum / (double)count,
           least, texts[worst].bytes, wrong, count, limit);
    return wrong > 0;
}

/* Every text alone, which takes other kernels than in company; `some` of them. */
static int compare_alone(struct model *model, const float *together, size_t count, size_t dimension,
                         size_t some)
{
    float *alone = must_have(memory_alloc(dimension, sizeof *alone));
    size_t differ = 0;
    uint64_t best_ns = UINT64_MAX;
    struct akin_embed_settings settings;
    model_embed_settings_default(&settings);
    settings.normalize = AKIN_NORMALIZE_YES;
    for (size_t i = 0; i < some; i++) {
        size_t at = i * count / some;
        uint64_t began = clock_monotonic_ns();
        must(model_embed(model, texts + at, 1, &settings, alone, NULL, &error));
        uint64_t took = clock_monotonic_ns() - began;
        best_ns = took < best_ns ? took : best_ns;
        differ += memcmp(alone, together + at * dimension, dimension * sizeof *alone) != 0;
    }
    printf("alone: %zu of %zu have other bits; fastest %.1f us\n", differ, some,
           (double)best_ns * 1e-3);
    memory_free(alone);
    return differ > 0;
}

/* The emulation has one thread at a time. */
static int threads(void)
{
#ifdef AKIN_CUDA_EMULATED
    return 1;
#else
    return thread_cpus();
#endif
}

int main(int argc, char **argv)
{
    bool int8 = argc > 1 && !strcmp(argv[1], "--int8");
    argc -= int8;
    argv += int8;
    size_t count = argc > 2 ? (size_t)strtoul(argv[2], NULL, 10) : 1000;
    if (argc < 2 || argc > 4 || count < 1 || count > TEXTS_MAX) {
        fputs("usage: encode_modelcheck [--int8] MODEL [COUNT] [TEXTS]\n", stderr);
        return 2;
    }
    struct encoder_cards cards = { .ops = device_check_plugin(NULL)->encoder, .count = 1 };
    if (argc > 3)
        count = read_texts(argv[3], count);
    else
        make_texts(count);
    struct thread_pool *pool = must_have(thread_pool_create(threads()));
    struct backend *backend = NULL;
    struct model *cpu = NULL, *card = NULL;
    struct akin_model_info info;
    must(cpu_backend_create(cpu_detect(), pool, &backend, &error));
    must(model_open(backend, pool, argv[1], AKIN_PRECISION_FP32, NULL, &cpu, &error));
    must(model_open_on_cards(&cards, pool, argv[1],
                             int8 ? AKIN_PRECISION_INT8 : AKIN_PRECISION_FP16, NULL, &card,
                             &error));
    model_info(cpu, &info);
    float *plain = embed(cpu, count, info.dimension, "cpu fp32");
    float *fast = embed(card, count, info.dimension, int8 ? "card int8" : "card fp16");
    int failed = compare(fast, plain, count, info.dimension,
                         int8 ? int8_cosine_least : cosine_least);
    failed |= compare_alone(card, fast, count, info.dimension, count < 50 ? count : 50);
    memory_free(plain);
    memory_free(fast);
    model_close(&cpu);
    model_close(&card);
    cpu_backend_destroy(&backend);
    thread_pool_destroy(&pool);
    for (size_t i = 0; i < count; i++)
        memory_free((void *)texts[i].bytes);
    return failed;
}
