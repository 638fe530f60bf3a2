/* What the comparison times in akin through libakin, as embed_worker.py and embed_tokenize.py time
 * the peers:
 *
 *   embed_akin run MODEL TEXTS OUT PRECISION THREADS
 *       embeds up to 1,024 texts to warm up, then all in one call; writes the vectors as plain
 *       float32 to OUT; prints {"seconds": S, "texts": N, "kernels": "...", "rss_mb": M}
 *   embed_akin latency MODEL TEXTS REPEATS PRECISION THREADS
 *       embeds REPEATS single texts after half a second of them, 20 at least, to warm up; prints
 *       {"ms": [...], "rss_mb": ...}
 *   embed_akin tokenize MODEL TEXTS REPEATS
 *       tokenises all texts REPEATS times on one thread, after 100 of them to warm up; prints
 *       {"seconds": [...], "tokens": ...}; from the second time on, its word cache knows them all
 *
 * TEXTS has one text a line. */
#define _GNU_SOURCE
#include <akin/akin.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WARM_UP = 20, WARM_UP_MS = 500, WARM_UP_TEXTS = 100, WARM_UP_RUN = 1024 };

struct texts {
    struct akin_text *text;
    size_t count;
};

static bool read_texts(const char *path, struct texts *texts)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0, held = 0;
    for (ssize_t n; f && (n = getline(&line, &room, f)) > 0; line = NULL, room = 0) {
        if (texts->count == held) {
            held = held ? 2 * held : 1024;
            texts->text = realloc(texts->text, held * sizeof *texts->text);
            if (!texts->text)
                return false;
        }
        size_t count = (size_t)(line[n - 1] == '\n' ? n - 1 : n);
        texts->text[texts->count++] = (struct akin_text){line, count};
    }
    if (f)
        fclose(f);
    return texts->count > 0;
}

static double seconds_since(uint64_t begin)
{
    return 1e-9 * (double)(akin_clock_ns() - begin);
}

static bool write_vectors(const char *path, const float *vectors, size_t count)
{
    FILE *f = fopen(path, "wb");
    bool done = f && fwrite(vectors, sizeof *vectors, count, f) == count;
    return f && fclose(f) == 0 && done;
}

static enum akin_status time_run(struct akin_engine *engine, struct akin_model *model,
                                 const struct texts *texts, const char *out,
                                 struct akin_error *error)
{
    struct akin_embed_settings settings;
    struct akin_model_info info;
    akin_embed_settings_default(&settings);
    settings.deduplicate = false;
    akin_model_info(model, &info);
    float *vectors = malloc(texts->count * info.dimension * sizeof *vectors);
    if (!vectors)
        return AKIN_MEMORY;
    size_t few = texts->count < WARM_UP_RUN ? texts->count : WARM_UP_RUN;
    enum akin_status status = akin_model_embed(model, texts->text, few, &settings, vectors, NULL,
                                               error);
    uint64_t begin = akin_clock_ns();
    if (status == AKIN_OK)
        status = akin_model_embed(model, texts->text, texts->count, &settings, vectors, NULL,
                                  error);
    double seconds = seconds_since(begin);
    if (status == AKIN_OK && !write_vectors(out, vectors, texts->count * info.dimension))
        status = AKIN_IO;
    printf("{\"seconds\": %.6f, \"texts\": %zu, \"kernels\": \"%s\", \"rss_mb\": %.1f}\n", seconds,
           texts->count, akin_engine_kernels(engine), (double)akin_peak_rss_bytes() / 1048576.0);
    free(vectors);
    return status;
}

static enum akin_status time_latency(struct akin_model *model, const struct texts *texts,
                                     int repeats, struct akin_error *error)
{
    struct akin_embed_settings settings;
    struct akin_model_info info;
    akin_embed_settings_default(&settings);
    settings.deduplicate = false;
    akin_model_info(model, &info);
    float *vector = malloc(info.dimension * sizeof *vector);
    enum akin_status status = vector ? AKIN_OK : AKIN_MEMORY;
    uint64_t start = akin_clock_ns();
    for (size_t i = 0; i < WARM_UP || 1e3 * seconds_since(start) < WARM_UP_MS; i++) {
        if (status != AKIN_OK)
            break;
        status = akin_model_embed(model, &texts->text[i % texts->count], 1, &settings, vector,
                                  NULL, error);
    }
    printf("{\"ms\": [");
    for (int i = 0; i < repeats && status == AKIN_OK; i++) {
        uint64_t begin = akin_clock_ns();
        const struct akin_text *text = &texts->text[(size_t)i % texts->count];
        status = akin_model_embed(model, text, 1, &settings, vector, NULL, error);
        printf("%s%.4f", i ? ", " : "", 1e3 * seconds_since(begin));
    }
    printf("], \"rss_mb\": %.1f}\n", (double)akin_peak_rss_bytes() / 1048576.0);
    free(vector);
    return status;
}

static enum akin_status time_tokenize(struct akin_model *model, const struct texts *texts,
                                      int repeats, struct akin_error *error)
{
    struct akin_model_info info;
    akin_model_info(model, &info);
    int32_t *ids = malloc(info.tokens_max * sizeof *ids);
    enum akin_status status = ids ? AKIN_OK : AKIN_MEMORY;
    size_t tokens = 0;
    printf("{\"seconds\": [");
    for (int r = -1; r < repeats && status == AKIN_OK; r++) {
        uint64_t begin = akin_clock_ns();
        size_t end = r < 0 && texts->count > WARM_UP_TEXTS ? WARM_UP_TEXTS : texts->count;
        tokens = 0;
        for (size_t i = 0; i < end && status == AKIN_OK; i++) {
            size_t count = 0;
            status = akin_model_tokenize(model, texts->text[i], ids, NULL, info.tokens_max, &count,
                                         error);
            tokens += count;
        }
        if (r >= 0)
            printf("%s%.6f", r ? ", " : "", seconds_since(begin));
    }
    printf("], \"tokens\": %zu}\n", tokens);
    free(ids);
    return status;
}

int main(int argc, char **argv)
{
    struct texts texts = {0};
    struct akin_error error = {0};
    struct akin_engine *engine = NULL;
    struct akin_model *model = NULL;
    struct akin_engine_settings settings;
    enum akin_precision precision = AKIN_PRECISION_FP32;
    const char *what = argc > 1 ? argv[1] : "";
    bool run = argc == 7 && !strcmp(what, "run"), latency = argc == 7 && !strcmp(what, "latency");
    bool known = run || latency || (argc == 5 && !strcmp(what, "tokenize"));
    if (!known || (argc == 7 && !akin_precision_parse(argv[5], &precision))) {
        fputs("usage: embed_akin run MODEL TEXTS OUT PRECISION THREADS\n"
              "       embed_akin latency MODEL TEXTS REPEATS PRECISION THREADS\n"
              "       embed_akin tokenize MODEL TEXTS REPEATS\n", stderr);
        return 2;
    }
    if (!read_texts(argv[3], &texts)) {
        fprintf(stderr, "no texts in %s\n", argv[3]);
        return 1;
    }
    akin_engine_settings_default(&settings);
    settings.threads = argc == 7 ? (int)strtol(argv[6], NULL, 10) : 1;
    int repeats = run ? 0 : (int)strtol(argv[4], NULL, 10);
    enum akin_status status = akin_engine_open(&settings, &engine, &error);
    if (status == AKIN_OK)
        status = akin_model_open(engine, argv[2], precision, &model, &error);
    if (status == AKIN_OK)
        status = run ? time_run(engine, model, &texts, argv[4], &error)
                     : latency ? time_latency(model, &texts, repeats, &error)
                               : time_tokenize(model, &texts, repeats, &error);
    if (status != AKIN_OK)
        fprintf(stderr, "%s\n", error.message);
    akin_model_close(&model);
    akin_engine_close(&engine);
    return status == AKIN_OK ? 0 : 1;
}
