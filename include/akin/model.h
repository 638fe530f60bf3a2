/* SPDX-License-Identifier: Apache-2.0
 * Models: texts to tokens to vectors. A model is a Hugging Face directory (config.json,
 * tokenizer.json, model.safetensors, modules.json, 1_Pooling/config.json,
 * sentence_bert_config.json), opened read-only and memory-mapped. */
#ifndef AKIN_MODEL_H
#define AKIN_MODEL_H

#include "akin/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

struct akin_model;

/* A text: any bytes, NUL included; need not end in NUL. Invalid UTF-8 is read as U+FFFD. */
struct akin_text {
    const char *bytes;
    size_t count;
};

AKIN_API const char *akin_precision_name(enum akin_precision precision);
/* Parses "auto", "fp32", "bf16", "fp16", "int8". */
AKIN_API bool akin_precision_parse(const char *name, enum akin_precision *precision);

struct akin_model_info {
    char name[128];          /* last part of the directory's path */
    char architecture[64];   /* "BertModel", "XLMRobertaModel" */
    char tokenizer[32];      /* "wordpiece", "unigram" */
    char pooling[16];        /* "mean", "cls", "max" */
    char weights[8];         /* stored type: "F32", "F16", "BF16" */
    size_t layers, hidden, heads, intermediate, vocabulary;
    size_t positions;        /* rows of the position table */
    size_t tokens_max;       /* longer texts are cut to this, special tokens included */
    size_t dimension;        /* floats per vector */
    uint64_t parameters;
    uint64_t file_bytes;     /* of model.safetensors */
    bool normalized;         /* vectors have length 1 by default */
    enum akin_precision precision; /* what it computes in; never AUTO */
    bool from_quantized;     /* its matrices came from the file of akin_model_quantize */
};

/* Opens the model in `directory` for this engine at `precision`. AUTO: the fastest that passes the
 * gate, as akin_model_verdict(AKIN_VERDICT_IF_NONE) finds it. Narrowed weights beside the model
 * (akin_model_quantize) are used where they fit and change no bit. Errors name the file and the
 * field: AKIN_NOT_FOUND, AKIN_FORMAT, AKIN_UNSUPPORTED (architecture, tokenizer or precision),
 * AKIN_IO, AKIN_MEMORY. Any thread. Several models may be open on one engine. */
AKIN_API enum akin_status akin_model_open(struct akin_engine *engine, const char *directory,
                                          enum akin_precision precision,
                                          struct akin_model **model, struct akin_error *error);
AKIN_API void akin_model_close(struct akin_model **model);

AKIN_API void akin_model_info(const struct akin_model *model, struct akin_model_info *info);

/* The i-th prompt of config_sentence_transformers.json: name and text; false past the last one. */
AKIN_API bool akin_model_prompt(const struct akin_model *model, size_t i, const char **name,
                                const char **text);

/* Token ids of `text` with special tokens, cut to tokens_max. Writes at most `ids_max` ids (and,
 * where `offsets` is not NULL, their [begin, end) byte ranges in the text, [0, 0) for special
 * tokens) and sets *count to how many there are. ids_max = tokens_max is always enough.
 * Any thread. */
AKIN_API enum akin_status akin_model_tokenize(const struct akin_model *model, struct akin_text text,
                                              int32_t *ids, uint32_t (*offsets)[2], size_t ids_max,
                                              size_t *count, struct akin_error *error);

/* ---- precisions ------------------------------------------------------------------------- */

/* One precision on this machine, over texts that are the same everywhere. */
struct akin_precision_figures {
    enum akin_precision precision;
    double texts_per_second;
    double cosine_mean, cosine_min;     /* to the vectors of fp32 */
    double neighbours_kept;     /* share of the ten nearest texts in fp32 that stay so, 0 to 1 */
    bool passes;                /* the gate: see akin_model_verdict */
};

enum { AKIN_PRECISIONS = 3 };

struct akin_verdict {
    enum akin_precision chosen;
    size_t count;               /* of figures; fp32 first; those absent here are left out */
    struct akin_precision_figures figures[AKIN_PRECISIONS];
    size_t texts;               /* measured over; 0: nothing was measured */
    char measured[32];          /* when, UTC */
    char path[4096];            /* the file that keeps it; "" where none could be written */
};

enum akin_verdict_ask {
    AKIN_VERDICT_KEPT,          /* only what is kept; AKIN_NOT_FOUND where there is none */
    AKIN_VERDICT_IF_NONE,       /* measures where none is kept and one can be; otherwise fp32 */
    AKIN_VERDICT_ANEW           /* measures, and keeps it where that is possible */
};

/* Which precision AUTO stands for. On GPUs: FP16, or INT8 where that has a mean and a least cosine
 * to fp32 of 0.999, keeps 0.99 of the neighbours and is 1.1 times as fast; figures are of fp32 on
 * the CPU and of these two. On the CPU: the fastest that passes the gate there, with these kernels
 * and these weights. bf16 passes with a mean cosine to fp32 of 0.9999; int8 with a mean of 0.997, a
 * least of 0.98, and 0.95 of the ten nearest neighbours kept; and each must be 1.1 times as fast as
 * what is more exact. Measuring takes about two seconds and opens the model at each precision. It
 * is kept beside the model (akin-precision.json), or below the engine's `home` where that folder
 * cannot be written; what is kept is ignored when weights, CPU, kernels or version are others, and
 * when it is damaged. Any thread. Errors as in akin_model_open. */
AKIN_API enum akin_status akin_model_verdict(struct akin_engine *engine, const char *directory,
                                             enum akin_verdict_ask ask,
                                             struct akin_verdict *verdict,
                                             struct akin_error *error);

/* Writes the model's matrices as `precision` (INT8 or BF16) computes with them to `path`, NULL:
 * beside the model, where opening it at that precision finds them. `written` receives the path.
 * Errors as in akin_model_open, and AKIN_IO. */
AKIN_API enum akin_status akin_model_quantize(struct akin_engine *engine, const char *directory,
                                              enum akin_precision precision, const char *path,
                                              char *written, size_t written_bytes,
                                              struct akin_error *error);

/* Whether a model has such a file, and whether it would be used. */
struct akin_quantized {
    enum akin_precision precision;
    bool exists, usable;
    uint64_t bytes;             /* where usable */
    char path[4096];
    char reason[1024];          /* why it is not usable */
};

AKIN_API enum akin_status akin_model_quantized(const char *directory, enum akin_precision precision,
                                               struct akin_quantized *state,
                                               struct akin_error *error);

/* ---- vectors ---------------------------------------------------------------------------- */

enum akin_normalize { AKIN_NORMALIZE_AS_MODEL, AKIN_NORMALIZE_YES, AKIN_NORMALIZE_NO };

struct akin_embed_settings {
    size_t batch_texts; /* texts computed together; 0: chosen. Never changes a bit of the result */
    enum akin_normalize normalize;
    const char *prompt;             /* put before every text; NULL or "": none */
    bool deduplicate;               /* compute equal texts once (default true) */
    struct akin_progress progress;  /* stage "embed", in texts */
};

AKIN_API void akin_embed_settings_default(struct akin_embed_settings *settings);

struct akin_embed_report {
    size_t texts, texts_computed;   /* computed < texts where equal texts were found */
    uint64_t tokens;                /* computed, special tokens included */
    double seconds;                 /* wall clock, tokenising included */
    size_t threads, lanes;          /* that tokenised; that encoded: threads, or queues on cards */
    double tokenize_seconds;        /* of all threads together */
    double encode_seconds;          /* of all lanes together, waiting for a card included */
    double mean_norm, std_norm;     /* of the vectors as written */
    size_t nan_inf;                 /* floats that are not finite */
};

/* Vectors of `count` texts into `vectors` [count][dimension], row-major float32.
 * The same text gives the same bits whatever stands beside it, whatever the batch size, the order
 * and the number of threads. `report` may be NULL. Any thread; concurrent calls on one engine take
 * turns. Errors: AKIN_CANCELLED, AKIN_MEMORY. */
AKIN_API enum akin_status akin_model_embed(struct akin_model *model, const struct akin_text *texts,
                                           size_t count, const struct akin_embed_settings *settings,
                                           float *vectors, struct akin_embed_report *report,
                                           struct akin_error *error);

/* Finds the model that a user means by `name`: a directory, or a name under HOME/models.
 * Errors: AKIN_NOT_FOUND with the remedy, AKIN_LIMIT (path too long for `path_bytes`). */
AKIN_API enum akin_status akin_model_locate(const char *home, const char *name, char *path,
                                            size_t path_bytes, struct akin_error *error);

/* Calls `visit` with the name and path of each model under HOME/models, sorted by name. */
AKIN_API enum akin_status akin_model_list(const char *home, void *cookie,
                                          void (*visit)(void *cookie, const char *name,
                                                        const char *path),
                                          struct akin_error *error);

/* Checks a model folder: SHA256SUMS where there is one, every tensor's shape and finiteness, and
 * a self-test that embeds fixed texts in two batchings and compares bits. */
AKIN_API enum akin_status akin_model_check(struct akin_engine *engine, const char *directory,
                                           struct akin_progress progress, struct akin_error *error);

struct akin_pull_settings {
    const char *home;               /* models go to HOME/models/<last part of name> */
    const char *hub;                /* base URL with the Hugging Face layout */
    const char *revision;           /* "main" by default */
    int retries;                    /* per file, resuming where it broke off; default 5 */
    int stall_seconds;              /* a transfer that brings nothing for so long is retried */
    struct akin_progress progress;  /* stage = file name, in bytes */
};

AKIN_API void akin_pull_settings_default(struct akin_pull_settings *settings);

/* Downloads model `name` ("owner/model", or a bare name, which means "sentence-transformers/name")
 * into HOME/models and puts it in place only when every file has arrived and its checksum agrees.
 * A repeated pull of a complete model downloads nothing. Writes the folder's path to `path`.
 * Errors: AKIN_NETWORK, AKIN_NOT_FOUND, AKIN_FORMAT (checksum), AKIN_IO, AKIN_CANCELLED. */
AKIN_API enum akin_status akin_model_pull(const char *name,
                                          const struct akin_pull_settings *settings, char *path,
                                          size_t path_bytes, struct akin_error *error);

#ifdef __cplusplus
}
#endif
#endif
