/* Reading and checking of a model folder's JSON files. */
#include "model/config.h"

#include <math.h>
#include <string.h>
#include <stdio.h>

#include "base/json.h"
#include "base/limits.h"

/* The files are a few kilobytes; integers that exceed 64 bits occur in them (model_max_length is
 * often 1e30 written out), which jansson takes as reals only when asked to. */
static enum akin_status read_json(const char *path, json_t **root, struct akin_error *error)
{
    struct bytes text = { 0 };
    enum akin_status status = file_read(path, JSON_FILE_BYTES_MAX, &text, error);
    if (status == AKIN_OK) {
        json_error_t problem;
        *root = json_loadb(text.data, text.count, JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES,
                           &problem);
        if (!*root)
            status = error_set(error, AKIN_FORMAT, "%s:%d:%d: not valid JSON: %s", path,
                               problem.line, problem.column, problem.text);
    }
    bytes_deinit(&text);
    return status;
}

/* One file of the folder: its path for errors and its object. */
struct document {
    char path[PATH_BYTES_MAX];
    json_t *root;               /* NULL: the file does not exist */
};

static enum akin_status document_open(struct document *document, const char *folder,
                                      const char *name, bool optional, struct akin_error *error)
{
    document->root = NULL;
    TRY(path_join(document->path, sizeof document->path, folder, name, error));
    if (optional && !path_exists(document->path))
        return AKIN_OK;
    return read_json(document->path, &document->root, error);
}

static enum akin_status document_open_object(struct document *document, const char *folder,
                                             const char *name, bool optional,
                                             struct akin_error *error)
{
    TRY(document_open(document, folder, name, optional, error));
    if (document->root && !json_is_object(document->root)) {
        enum akin_status status = error_set(error, AKIN_FORMAT, "%s: expected an object, found %s",
                                            document->path, json_type_name(document->root));
        json_decref(document->root);
        document->root = NULL;
        return status;
    }
    return AKIN_OK;
}

static bool absent(const struct document *document, const char *key)
{
    const json_t *value = json_object_get(document->root, key);
    return !value || json_is_null(value);
}

/* An integer field in [low, high]. */
static enum akin_status get_size(const struct document *document, const char *key, size_t low,
                                 size_t high, size_t *value, struct akin_error *error)
{
    double number;
    TRY(json_get_number(document->root, key, document->path, &number, error));
    if (!(number >= (double)low && number <= (double)high) || number != floor(number))
        return error_set(error, AKIN_FORMAT, "%s: %s: %g is not a whole number from %zu to %zu",
                         document->path, key, number, low, high);
    *value = (size_t)number;
    return AKIN_OK;
}

static enum akin_status opt_size(const struct document *document, const char *key, size_t low,
                                 size_t high, size_t *value, struct akin_error *error)
{
    return absent(document, key) ? AKIN_OK : get_size(document, key, low, high, value, error);
}

/* ---- config.json ------------------------------------------------------------------------ */

/* A family has one arithmetic; the heads that were trained with it ("BertForMaskedLM") do not
 * matter. The numbering of positions is what sets RoBERTa apart. */
struct family {
    const char *model_type, *architecture, *heads_prefix;
    bool positions_after_pad;
};

static const struct family families[] = {
    { "bert", "BertModel", "BertFor", false },
    { "xlm-roberta", "XLMRobertaModel", "XLMRobertaFor", true },
    { "roberta", "RobertaModel", "RobertaFor", true },
};

static const struct family *find_family(const char *model_type, const char *architecture)
{
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        const struct family *f = &families[i];
        bool type_fits = !model_type || !strcmp(model_type, f->model_type);
        bool architecture_fits = !architecture || !strcmp(architecture, f->architecture) ||
                                 !strncmp(architecture, f->heads_prefix, strlen(f->heads_prefix));
        if (type_fits && architecture_fits)
            return f;
    }
    return NULL;
}

static enum akin_status read_family(const struct document *document, const struct family **family,
                                    struct akin_error *error)
{
    const char *model_type = NULL, *architecture = NULL;
    TRY(json_opt_string(document->root, "model_type", document->path, &model_type, error));
    const json_t *list = json_object_get(document->root, "architectures");
    if (json_array_size(list) > 0)
        architecture = json_string_value(json_array_get(list, 0));
    if (!model_type && !architecture)
        return error_set(error, AKIN_FORMAT, "%s: neither architectures nor model_type is given",
                         document->path);
    *family = find_family(model_type, architecture);
    if (!*family)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: architectures: %s (model_type %s) is not supported; BertModel, "
                         "XLMRobertaModel and RobertaModel are",
                         document->path, architecture ? architecture : "absent",
                         model_type ? model_type : "absent");
    return AKIN_OK;
}

/* Fields that must have the one value that the forward pass implements. */
static enum akin_status check_kind(const struct document *document, struct akin_error *error)
{
    const char *activation = "gelu", *positions = "absolute";
    bool decoder = false;
    TRY(json_get_string(document->root, "hidden_act", document->path, &activation, error));
    TRY(json_opt_string(document->root, "position_embedding_type", document->path, &positions,
                        error));
    TRY(json_opt_bool(document->root, "is_decoder", document->path, &decoder, error));
    if (strcmp(activation, "gelu"))
        return error_set(error, AKIN_UNSUPPORTED, "%s: hidden_act: %s is not supported; gelu is",
                         document->path, activation);
    if (strcmp(positions, "absolute"))
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: position_embedding_type: %s is not supported; absolute is",
                         document->path, positions);
    if (decoder)
        return error_set(error, AKIN_UNSUPPORTED, "%s: is_decoder: true is not supported",
                         document->path);
    return AKIN_OK;
}

static enum akin_status read_sizes(const struct document *document, const struct family *family,
                                   struct model_config *config, struct akin_error *error)
{
    TRY(get_size(document, "hidden_size", 1, DIMENSION_MAX, &config->hidden, error));
    TRY(get_size(document, "num_hidden_layers", 1, LAYERS_MAX, &config->layers, error));
    TRY(get_size(document, "num_attention_heads", 1, DIMENSION_MAX, &config->heads, error));
    TRY(get_size(document, "intermediate_size", 1, DIMENSION_MAX, &config->intermediate, error));
    TRY(get_size(document, "vocab_size", 1, VOCABULARY_MAX, &config->vocabulary, error));
    TRY(get_size(document, "max_position_embeddings", 1, 1 << 20, &config->positions, error));
    config->types = 0;
    TRY(opt_size(document, "type_vocab_size", 0, DIMENSION_MAX, &config->types, error));
    if (config->hidden % config->heads)
        return error_set(error, AKIN_FORMAT,
                         "%s: num_attention_heads: %zu does not divide hidden_size %zu",
                         document->path, config->heads, config->hidden);
    size_t pad = 0;
    if (family->positions_after_pad) {
        pad = 1;
        TRY(opt_size(document, "pad_token_id", 0, config->vocabulary - 1, &pad, error));
        config->position_first = pad + 1;
        if (config->position_first >= config->positions)
            return error_set(
                error, AKIN_FORMAT,
                "%s: max_position_embeddings: %zu leaves no position behind pad_token_id "
                "%zu",
                document->path, config->positions, pad);
    }
    double epsilon = 1e-12;
    TRY(json_opt_number(document->root, "layer_norm_eps", document->path, &epsilon, error));
    if (!(epsilon > 0 && epsilon < 1))
        return error_set(error, AKIN_FORMAT, "%s: layer_norm_eps: %g is not between 0 and 1",
                         document->path, epsilon);
    config->epsilon = (float)epsilon;
    return AKIN_OK;
}

static enum akin_status read_encoder(struct model_config *config, struct akin_error *error)
{
    struct document document;
    TRY(document_open_object(&document, config->folder, "config.json", false, error));
    const struct family *family;
    enum akin_status status = read_family(&document, &family, error);
    if (status == AKIN_OK)
        status = check_kind(&document, error);
    if (status == AKIN_OK)
        status = read_sizes(&document, family, config, error);
    if (status == AKIN_OK)
        snprintf(config->architecture, sizeof config->architecture, "%s", family->architecture);
    json_decref(document.root);
    return status;
}

/* ---- modules.json and pooling ----------------------------------------------------------- */

/* Paths in modules.json stay inside the folder. */
static bool inside(const char *path)
{
    return path[0] != '/' && !strstr(path, "..");
}

struct modules {
    char transformer[PATH_BYTES_MAX], pooling[PATH_BYTES_MAX];  /* folders; pooling "": no module */
    bool normalize;
};

static enum akin_status read_module(const struct document *document, size_t i,
                                    const char *directory, struct modules *modules,
                                    struct akin_error *error)
{
    const json_t *entry = json_array_get(document->root, i);
    const char *type, *path = "";
    TRY(json_get_string(entry, "type", document->path, &type, error));
    TRY(json_opt_string(entry, "path", document->path, &path, error));
    if (!inside(path))
        return error_set(error, AKIN_FORMAT, "%s: [%zu].path: %s leaves the model's folder",
                         document->path, i, path);
    const char *dot = strrchr(type, '.');
    const char *kind = dot ? dot + 1 : type;
    if (!strcmp(kind, "Transformer") && i == 0)
        return path_join(modules->transformer, sizeof modules->transformer, directory, path, error);
    if (!strcmp(kind, "Pooling") && i == 1)
        return path_join(modules->pooling, sizeof modules->pooling, directory, path, error);
    if (strcmp(kind, "Normalize") || i < 2)
        return error_set(error, AKIN_UNSUPPORTED,
                         "%s: [%zu].type: %s is not supported here; Transformer, Pooling and then "
                         "perhaps Normalize are", document->path, i, type);
    modules->normalize = true;
    return AKIN_OK;
}

static enum akin_status read_modules(const char *directory, struct modules *modules,
                                     struct akin_error *error)
{
    snprintf(modules->transformer, sizeof modules->transformer, "%s", directory);
    modules->pooling[0] = 0;
    modules->normalize = false;
    struct document document;
    TRY(document_open(&document, directory, "modules.json", true, error));
    if (!document.root)
        return AKIN_OK;
    enum akin_status status = AKIN_OK;
    if (json_array_size(document.root) == 0)
        status = error_set(error, AKIN_FORMAT, "%s: expected a list of modules, found %s",
                           document.path, json_type_name(document.root));
    for (size_t i = 0; status == AKIN_OK && i < json_array_size(document.root); i++)
        status = read_module(&document, i, directory, modules, error);
    if (status == AKIN_OK && !modules->pooling[0])
        status =
            error_set(error, AKIN_UNSUPPORTED, "%s: there is no Pooling module", document.path);
    json_decref(document.root);
    return status;
}

/* Exactly one of the pooling_mode_* is true, and it is one that we have. */
static enum akin_status read_pooling_mode(const struct document *document,
                                          struct model_config *config, struct akin_error *error)
{
    static const struct {
        const char *key;
        enum pooling pooling;
    } modes[] = {
        { "pooling_mode_mean_tokens", POOLING_MEAN },
        { "pooling_mode_cls_token", POOLING_CLS },
        { "pooling_mode_max_tokens", POOLING_MAX },
    };
    size_t found = 0;
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        bool on = false;
        TRY(json_opt_bool(document->root, modes[i].key, document->path, &on, error));
        if (on) {
            config->pooling = modes[i].pooling;
            found++;
        }
    }
    const char *key;
    json_t *value;
    json_object_foreach(document->root, key, value) {
        bool known = false;
        for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
            known |= !strcmp(key, modes[i].key);
        if (!known && !strncmp(key, "pooling_mode_", 13) && json_is_true(value))
            return error_set(error, AKIN_UNSUPPORTED,
                             "%s: %s is not supported; mean, cls and max are", document->path, key);
    }
    if (found != 1)
        return error_set(error, found ? AKIN_UNSUPPORTED : AKIN_FORMAT,
                         "%s: %zu of pooling_mode_mean_tokens, pooling_mode_cls_token and "
                         "pooling_mode_max_tokens are true; exactly one must be",
                         document->path, found);
    return AKIN_OK;
}

static enum akin_status read_pooling(const char *folder, struct model_config *config,
                                     struct akin_error *error)
{
    struct document document;
    TRY(document_open_object(&document, folder, "config.json", false, error));
    size_t dimension = config->hidden;
    bool include_prompt = true;
    enum akin_status status = opt_size(&document, "word_embedding_dimension", 1, DIMENSION_MAX,
                                       &dimension, error);
    if (status == AKIN_OK && dimension != config->hidden)
        status = error_set(error, AKIN_FORMAT,
                           "%s: word_embedding_dimension: %zu is not the hidden_size %zu",
                           document.path, dimension, config->hidden);
    if (status == AKIN_OK)
        status =
            json_opt_bool(document.root, "include_prompt", document.path, &include_prompt, error);
    if (status == AKIN_OK && !include_prompt)
        status = error_set(error, AKIN_UNSUPPORTED, "%s: include_prompt: false is not supported",
                           document.path);
    if (status == AKIN_OK)
        status = read_pooling_mode(&document, config, error);
    json_decref(document.root);
    return status;
}

/* ---- length of texts -------------------------------------------------------------------- */

static enum akin_status read_length(struct model_config *config, struct akin_error *error)
{
    size_t most = config->positions - config->position_first;
    if (most > TOKENS_MAX)
        most = TOKENS_MAX;
    size_t asked = most;
    struct document document;
    TRY(document_open_object(&document, config->folder, "sentence_bert_config.json", true, error));
    bool lower_case = false, given = !absent(&document, "max_seq_length");
    enum akin_status status = opt_size(&document, "max_seq_length", 1, 1 << 30, &asked, error);
    if (status == AKIN_OK)
        status = json_opt_bool(document.root, "do_lower_case", document.path, &lower_case, error);
    if (status == AKIN_OK && lower_case)
        status =
            error_set(error, AKIN_UNSUPPORTED,
                      "%s: do_lower_case: true is not supported; tokenizer.json should lower-case",
                      document.path);
    json_decref(document.root);
    TRY(status);
    if (!given) {
        TRY(document_open_object(&document, config->folder, "tokenizer_config.json", true, error));
        double length = (double)most;
        status = json_opt_number(document.root, "model_max_length", document.path, &length, error);
        if (status == AKIN_OK && !(length >= 1))
            status = error_set(error, AKIN_FORMAT, "%s: model_max_length: %g is below 1",
                               document.path, length);
        if (status == AKIN_OK)
            asked = length < (double)most ? (size_t)length : most;
        json_decref(document.root);
        TRY(status);
    }
    config->tokens_max = asked < most ? asked : most;
    if (config->tokens_max < 2)
        return error_set(error, AKIN_FORMAT,
                         "%s: a text has room for %zu tokens; at least 2 are needed",
                         config->folder, config->tokens_max);
    return AKIN_OK;
}

/* ---- prompts ---------------------------------------------------------------------------- */

static enum akin_status add_prompts(const struct document *document, const json_t *prompts,
                                    struct model_config *config, struct akin_error *error)
{
    if (!json_is_object(prompts))
        return error_set(error, AKIN_FORMAT, "%s: prompts: expected an object, found %s",
                         document->path, json_type_name(prompts));
    config->prompts = memory_alloc(json_object_size(prompts), sizeof *config->prompts);
    if (!config->prompts)
        return error_memory(error);
    const char *name;
    json_t *text;
    json_object_foreach((json_t *)(uintptr_t)prompts, name, text) {
        if (!json_is_string(text))
            return error_set(error, AKIN_FORMAT, "%s: prompts.%s: expected a string, found %s",
                             document->path, name, json_type_name(text));
        struct model_prompt *prompt = &config->prompts[config->prompt_count++];
        prompt->name = memory_copy_string(name);
        prompt->text = memory_copy_string(json_string_value(text));
        if (!prompt->name || !prompt->text)
            return error_memory(error);
    }
    return AKIN_OK;
}

static enum akin_status read_prompts(const char *directory, const struct akin_log *log,
                                     struct model_config *config, struct akin_error *error)
{
    struct document document;
    TRY(document_open_object(&document, directory, "config_sentence_transformers.json", true,
                             error));
    const char *chosen = NULL;
    const json_t *prompts = json_object_get(document.root, "prompts");
    enum akin_status status = json_opt_string(document.root, "default_prompt_name", document.path,
                                              &chosen, error);
    if (status == AKIN_OK && prompts && !json_is_null(prompts))
        status = add_prompts(&document, prompts, config, error);
    if (status == AKIN_OK && chosen)
        log_write(log, AKIN_LOG_INFO,
                  "model=%s default_prompt_name=%s is not applied unless asked for", directory,
                  chosen);
    json_decref(document.root);
    return status;
}

/* ---- all -------------------------------------------------------------------------------- */

static enum akin_status load(const char *directory, const struct akin_log *log,
                             struct model_config *config, struct akin_error *error)
{
    if (!path_is_folder(directory))
        return error_set(error, AKIN_NOT_FOUND, "%s: there is no such model folder", directory);
    struct modules modules;
    TRY(read_modules(directory, &modules, error));
    snprintf(config->folder, sizeof config->folder, "%s", modules.transformer);
    TRY(read_encoder(config, error));
    config->normalize = modules.normalize;
    if (modules.pooling[0]) {
        TRY(read_pooling(modules.pooling, config, error));
    } else {
        config->pooling = POOLING_MEAN;
        log_write(log, AKIN_LOG_WARNING,
                  "model=%s has no modules.json: pooling=mean, vectors are not normalised",
                  directory);
    }
    TRY(read_length(config, error));
    return read_prompts(directory, log, config, error);
}

enum akin_status model_config_load(const char *directory, const struct akin_log *log,
                                   struct model_config *config, struct akin_error *error)
{
    *config = (struct model_config){ 0 };
    enum akin_status status = load(directory, log, config, error);
    if (status != AKIN_OK)
        model_config_deinit(config);
    return status;
}

void model_config_deinit(struct model_config *config)
{
    for (size_t i = 0; i < config->prompt_count; i++) {
        memory_free(config->prompts[i].name);
        memory_free(config->prompts[i].text);
    }
    memory_free(config->prompts);
    *config = (struct model_config){ 0 };
}

const char *pooling_name(enum pooling pooling)
{
    static const char *const names[] = {
        [POOLING_MEAN] = "mean", [POOLING_CLS] = "cls", [POOLING_MAX] = "max",
    };
    return names[pooling];
}
