/* A model folder opened for use: tokenizer, encoder, pooling, and what the engine's public
 * functions of akin/model.h do. Several models may be open on one backend and pool; they share
 * nothing else. */
#pragma once

#include "akin/model.h"
#include "compute/encoder_device.h"

struct model;
struct safetensors;
struct thread_pool;

/* `directory` is a Hugging Face folder, `precision` not AUTO (model/precision.h decides). `log` may
 * be NULL and is copied. The backend and the pool must outlive the model. Errors as in
 * akin_model_open. */
enum akin_status model_open(struct backend *backend, struct thread_pool *pool,
                            const char *directory, enum akin_precision precision,
                            const struct akin_log *log, struct model **model,
                            struct akin_error *error);
/* The same on cards, in FP16 or INT8; AKIN_UNSUPPORTED: another precision. */
enum akin_status model_open_on_cards(const struct encoder_cards *cards, struct thread_pool *pool,
                                     const char *directory, enum akin_precision precision,
                                     const struct akin_log *log, struct model **model,
                                     struct akin_error *error);
void model_close(struct model **model);

void model_info(const struct model *model, struct akin_model_info *info);
/* What its vectors are known by, whatever the folder is called and in whatever precision it
 * computes: a hash of the weights' outline and a sample of each tensor, of the tokenizer, the
 * pooling and the length of vectors, as text. */
enum { MODEL_IDENTITY_BYTES = 32 };
void model_identity(const struct model *model, char text[MODEL_IDENTITY_BYTES]);
bool model_prompt(const struct model *model, size_t i, const char **name, const char **text);
enum akin_status model_tokenize(struct model *model, struct akin_text text, int32_t *ids,
                                uint32_t (*offsets)[2], size_t ids_max, size_t *count,
                                struct akin_error *error);
void model_embed_settings_default(struct akin_embed_settings *settings);
enum akin_status model_embed(struct model *model, const struct akin_text *texts, size_t count,
                             const struct akin_embed_settings *settings, float *vectors,
                             struct akin_embed_report *report, struct akin_error *error);

/* The weights file of a model's folder; AKIN_NOT_FOUND and AKIN_UNSUPPORTED say what is there. */
enum akin_status model_open_weights(const char *folder, struct safetensors **weights,
                                    struct akin_error *error);

/* The narrowed weights beside a model: as akin_model_quantize and akin_model_quantized. */
enum akin_status model_quantize(struct backend *backend, const char *directory,
                                enum akin_precision precision, const char *path, char *written,
                                size_t written_bytes, struct akin_error *error);
enum akin_status model_quantized(const char *directory, enum akin_precision precision,
                                 struct akin_quantized *state, struct akin_error *error);
/* AKIN_FORMAT where one is there and is not what the weights give. */
enum akin_status model_check_quantized(struct backend *backend, const char *directory,
                                       struct akin_error *error);

/* SHA256SUMS where there is one, every tensor's shape and finiteness, and a self-test. Progress:
 * stage "checksums" in files, "tensors" in bytes, "self-test" in texts. */
enum akin_status model_check(struct backend *backend, struct thread_pool *pool,
                             const char *directory, const struct akin_log *log,
                             struct akin_progress progress, struct akin_error *error);

/* Folders under HOME/models; as akin_model_locate and akin_model_list. */
enum akin_status model_locate(const char *home, const char *name, char *path, size_t path_bytes,
                              struct akin_error *error);
enum akin_status model_list(const char *home, void *cookie,
                            void (*visit)(void *cookie, const char *name, const char *path),
                            struct akin_error *error);
