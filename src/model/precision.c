/* See precision.h. The file is JSON (docs/formats.md); nothing in it is trusted: the figures are
 * judged again whenever they are read, and what is not as it should be is measured anew. */
#include "model/precision.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/system.h"
#include "model/config.h"
#include "model/identity.h"
#include "model/model.h"

#define FILE_NAME "akin-precision.json"

enum { FORMAT = 1, FILE_BYTES_MAX = 1 << 20, VERDICTS_MAX = 16, PLACES = 2 };

/* From the most exact on. The first on cards is for comparison: it runs on the CPU. */
static const struct gate {
    enum akin_precision precision;
    double cosine_mean, cosine_min, neighbours_kept;
} cpu_gates[AKIN_PRECISIONS] = {
    { AKIN_PRECISION_FP32, 0, 0, 0 },
    { AKIN_PRECISION_BF16, 0.9999, 0, 0 },
    { AKIN_PRECISION_INT8, 0.997, 0.98, 0.95 },
}, card_gates[AKIN_PRECISIONS] = {
    { AKIN_PRECISION_FP32, 0, 0, 0 },
    { AKIN_PRECISION_FP16, 0.9999, 0, 0 },
    { AKIN_PRECISION_INT8, 0.999, 0.999, 0.99 },
};

static const struct {
    enum akin_precision precision;
    const char *name;
} names[] = {
    { AKIN_PRECISION_FP32, "fp32" }, { AKIN_PRECISION_BF16, "bf16" },
    { AKIN_PRECISION_FP16, "fp16" }, { AKIN_PRECISION_INT8, "int8" },
};
enum { NAMES = sizeof names / sizeof *names };

static const char *name_of(enum akin_precision precision)
{
    size_t i = 0;
    while (i + 1 < NAMES && names[i].precision != precision)
        i++;
    return names[i].name;
}

const struct akin_precision_figures *precision_figures(const struct akin_verdict *verdict,
                                                       enum akin_precision precision)
{
    for (size_t i = 0; i < verdict->count; i++)
        if (verdict->figures[i].precision == precision)
            return &verdict->figures[i];
    return NULL;
}

/* What is less exact must be worth it; and a measurement done again should not tip over. */
static const double speed_up_min = 1.1;

void precision_judge(struct akin_verdict *verdict, bool on_cards)
{
    const struct gate *gates = on_cards ? card_gates : cpu_gates;
    double best = 0;
    verdict->chosen = on_cards ? AKIN_PRECISION_FP16 : AKIN_PRECISION_FP32;
    for (size_t g = 0; g < AKIN_PRECISIONS; g++)
        for (size_t i = 0; i < verdict->count; i++) {
            struct akin_precision_figures *f = &verdict->figures[i];
            if (f->precision != gates[g].precision)
                continue;
            f->passes = g == 0 || (f->cosine_mean >= gates[g].cosine_mean &&
                                   f->cosine_min >= gates[g].cosine_min &&
                                   f->neighbours_kept >= gates[g].neighbours_kept);
            bool runs = g > 0 || !on_cards;
            if (runs && f->passes && f->texts_per_second >= best * speed_up_min) {
                best = f->texts_per_second;
                verdict->chosen = f->precision;
            }
        }
}

/* ---- where, and of what ----------------------------------------------------------------- */

struct search {
    const struct precision_place *place;
    char weights[PATH_BYTES_MAX];
    char paths[PLACES][PATH_BYTES_MAX];     /* "": there is no such place */
    struct akin_machine machine;
};

static enum akin_status search_init(struct search *s, const struct precision_place *place,
                                    struct akin_error *error)
{
    struct model_config config = { 0 };
    struct weights_identity identity;
    char hex[17], name[32], folder[PATH_BYTES_MAX];
    s->place = place;
    system_describe(&s->machine);
    enum akin_status status = model_config_load(place->directory, NULL, &config, error);
    if (status == AKIN_OK)
        status = path_join(s->weights, sizeof s->weights, config.folder, "model.safetensors",
                           error);
    model_config_deinit(&config);
    TRY(status);
    TRY(path_join(s->paths[0], PATH_BYTES_MAX, place->directory, FILE_NAME, error));
    if (!place->home || !*place->home)
        return AKIN_OK;
    TRY(weights_identify(s->weights, false, &identity, error));
    hex64_text(identity.sample, hex);
    snprintf(name, sizeof name, "%s.json", hex);
    TRY(path_join(folder, sizeof folder, place->home, "precisions", error));
    return path_join(s->paths[1], PATH_BYTES_MAX, folder, name, error);
}

/* ---- reading ---------------------------------------------------------------------------- */

static enum akin_status number_between(const json_t *object, const char *key, const char *where,
                                       double least, double most, double *value,
                                       struct akin_error *error)
{
    TRY(json_get_number(object, key, where, value, error));
    if (*value >= least && *value <= most)
        return AKIN_OK;
    return error_set(error, AKIN_FORMAT, "%s: %s: %g is not from %g to %g", where, key, *value,
                     least, most);
}

static enum akin_status hex_field(const json_t *object, const char *key, const char *where,
                                  uint64_t *value, struct akin_error *error)
{
    const char *text;
    TRY(json_get_string(object, key, where, &text, error));
    if (hex64_parse(text, value))
        return AKIN_OK;
    return error_set(error, AKIN_FORMAT, "%s: %s: expected sixteen hexadecimal digits", where, key);
}

static enum akin_status read_identity(const json_t *root, const char *where,
                                      struct weights_identity *identity, struct akin_error *error)
{
    const json_t *weights = json_object_get(root, "weights");
    int64_t bytes;
    if (!json_is_object(weights))
        return error_set(error, AKIN_FORMAT, "%s: weights: expected an object, found %s", where,
                         json_type_name(weights));
    TRY(json_get_integer(weights, "bytes", where, &bytes, error));
    TRY(json_get_integer(weights, "modified_ns", where, &identity->modified_ns, error));
    TRY(hex_field(weights, "sample", where, &identity->sample, error));
    identity->bytes = (uint64_t)bytes;
    return hex_field(weights, "digest", where, &identity->digest, error);
}

static enum akin_status read_figures(const json_t *entry, const char *where,
                                     struct akin_precision_figures *f, struct akin_error *error)
{
    const char *name;
    TRY(json_get_string(entry, "precision", where, &name, error));
    TRY(number_between(entry, "texts_per_second", where, 1e-6, 1e12, &f->texts_per_second, error));
    TRY(number_between(entry, "cosine_mean", where, -1, 1, &f->cosine_mean, error));
    TRY(number_between(entry, "cosine_min", where, -1, 1, &f->cosine_min, error));
    TRY(number_between(entry, "neighbours_kept", where, 0, 1, &f->neighbours_kept, error));
    for (size_t i = 0; i < NAMES; i++)
        if (!strcmp(name, names[i].name)) {
            f->precision = names[i].precision;
            return AKIN_OK;
        }
    return error_set(error, AKIN_FORMAT, "%s: precision: \"%.40s\" is none that is measured", where,
                     name);
}

static enum akin_status read_verdict(const json_t *entry, const char *where, bool on_cards,
                                     struct akin_verdict *verdict, struct akin_error *error)
{
    const json_t *list = json_object_get(entry, "precisions");
    const char *measured;
    double texts;
    TRY(number_between(entry, "texts", where, 1, 1e9, &texts, error));
    TRY(json_get_string(entry, "measured", where, &measured, error));
    if (!json_is_array(list) || !json_array_size(list) || json_array_size(list) > AKIN_PRECISIONS)
        return error_set(error, AKIN_FORMAT, "%s: precisions: expected a list of 1 to %d", where,
                         AKIN_PRECISIONS);
    *verdict = (struct akin_verdict){ .count = json_array_size(list), .texts = (size_t)texts };
    snprintf(verdict->measured, sizeof verdict->measured, "%s", measured);
    for (size_t i = 0; i < verdict->count; i++) {
        TRY(read_figures(json_array_get(list, i), where, &verdict->figures[i], error));
        for (size_t k = 0; k < i; k++)
            if (verdict->figures[k].precision == verdict->figures[i].precision)
                return error_set(error, AKIN_FORMAT, "%s: a precision is there twice", where);
    }
    if (verdict->figures[0].precision != AKIN_PRECISION_FP32)
        return error_set(error, AKIN_FORMAT, "%s: precisions: fp32 is not the first", where);
    precision_judge(verdict, on_cards);
    return AKIN_OK;
}

static bool text_is(const json_t *object, const char *key, const char *text)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && !strcmp(value, text);
}

/* About this CPU with these kernels. */
static bool is_ours(const struct search *s, const json_t *entry)
{
    return text_is(entry, "cpu", s->machine.cpu) && text_is(entry, "kernels", s->place->kernels);
}

/* The file's root where it is about these weights and of this version; NULL where it is about
 * others or there is none, with AKIN_OK; AKIN_FORMAT where it is damaged. */
static enum akin_status read_root(const struct search *s, const char *path, json_t **root,
                                  struct akin_error *error)
{
    struct weights_identity known;
    int64_t format = 0;
    bool match = false;
    *root = NULL;
    if (!*path || !path_exists(path))
        return AKIN_OK;
    json_t *read;
    TRY(json_read(path, FILE_BYTES_MAX, &read, error));
    enum akin_status status = json_get_integer(read, "format", path, &format, error);
    if (status == AKIN_OK && format != FORMAT)
        status = error_set(error, AKIN_FORMAT, "%s: format: %lld; this program reads %d", path,
                           (long long)format, FORMAT);
    if (status == AKIN_OK)
        status = read_identity(read, path, &known, error);
    if (status == AKIN_OK && !json_is_array(json_object_get(read, "verdicts")))
        status = error_set(error, AKIN_FORMAT, "%s: verdicts: expected a list, found %s", path,
                           json_type_name(json_object_get(read, "verdicts")));
    if (status == AKIN_OK && text_is(read, "akin", s->place->version))
        status = weights_match(&known, s->weights, false, &match, error);
    if (status == AKIN_OK && match)
        *root = read;
    else
        json_decref(read);
    return status;
}

static enum akin_status read_kept(const struct search *s, const char *path,
                                  struct akin_verdict *verdict, struct akin_error *error)
{
    json_t *root;
    size_t i;
    json_t *entry;
    enum akin_status status = AKIN_NOT_FOUND;
    TRY(read_root(s, path, &root, error));
    json_array_foreach(json_object_get(root, "verdicts"), i, entry)
        if (status == AKIN_NOT_FOUND && is_ours(s, entry))
            status = read_verdict(entry, path, s->place->cards != NULL, verdict, error);
    json_decref(root);
    return status;
}

static bool find_kept(const struct search *s, struct akin_verdict *verdict)
{
    for (size_t i = 0; i < PLACES; i++) {
        struct akin_error reason = { 0 };
        struct akin_verdict *read = memory_alloc(1, sizeof *read);
        enum akin_status status =
            read ? read_kept(s, s->paths[i], read, &reason) : error_memory(&reason);
        if (status == AKIN_OK) {
            *verdict = *read;
            snprintf(verdict->path, sizeof verdict->path, "%s", s->paths[i]);
        }
        memory_free(read);
        if (status == AKIN_OK)
            return true;
        if (status != AKIN_NOT_FOUND)
            log_write(s->place->log, AKIN_LOG_WARNING, "not used: %s", reason.message);
    }
    return false;
}

/* ---- writing ---------------------------------------------------------------------------- */

static json_t *verdict_json(const struct search *s, const struct akin_verdict *verdict)
{
    json_t *list = json_array();
    for (size_t i = 0; i < verdict->count; i++) {
        const struct akin_precision_figures *f = &verdict->figures[i];
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:f, s:f}", "precision",
                                              name_of(f->precision),
                                              "texts_per_second", f->texts_per_second,
                                              "cosine_mean", f->cosine_mean, "cosine_min",
                                              f->cosine_min, "neighbours_kept",
                                              f->neighbours_kept));
    }
    return json_pack("{s:s, s:s, s:s, s:I, s:o}", "cpu", s->machine.cpu, "kernels",
                     s->place->kernels, "measured", verdict->measured, "texts",
                     (json_int_t)verdict->texts, "precisions", list);
}

/* The verdicts of other CPUs that share this folder stay, the latest VERDICTS_MAX - 1 of them. */
static json_t *file_json(const struct search *s, const char *path,
                         const struct weights_identity *identity,
                         const struct akin_verdict *verdict)
{
    json_t *old = NULL, *list = json_array(), *entry;
    char sample[17], digest[17];
    size_t i;
    json_array_append_new(list, verdict_json(s, verdict));
    if (read_root(s, path, &old, NULL) == AKIN_OK)
        json_array_foreach(json_object_get(old, "verdicts"), i, entry)
            if (!is_ours(s, entry) && json_array_size(list) < VERDICTS_MAX)
                json_array_append(list, entry);
    json_decref(old);
    hex64_text(identity->sample, sample);
    hex64_text(identity->digest, digest);
    return json_pack("{s:i, s:s, s:{s:I, s:I, s:s, s:s}, s:o}", "format", FORMAT, "akin",
                     s->place->version, "weights", "bytes", (json_int_t)identity->bytes,
                     "modified_ns", (json_int_t)identity->modified_ns, "sample", sample, "digest",
                     digest, "verdicts", list);
}

static int append(const char *data, size_t count, void *out)
{
    bytes_append(out, data, count);
    return 0;
}

/* Opens the first place that can be written. */
static size_t open_place(const struct search *s, struct file_writer **writer,
                         struct akin_error *reason)
{
    for (size_t i = 0; i < PLACES; i++) {
        char folder[PATH_BYTES_MAX];
        if (!s->paths[i][0])
            continue;
        int length = (int)(path_last(s->paths[i]) - s->paths[i]);
        snprintf(folder, sizeof folder, "%.*s", length, s->paths[i]);
        if (i > 0 && path_make_folders(folder, reason) != AKIN_OK)
            continue;
        if (file_writer_open(s->paths[i], writer, reason) == AKIN_OK)
            return i;
    }
    return PLACES;
}

static enum akin_status write_file(const struct search *s, const char *path,
                                   struct file_writer **writer, const struct akin_verdict *verdict,
                                   struct akin_error *error)
{
    struct weights_identity identity;
    struct bytes text = { 0 };
    TRY(weights_identify(s->weights, true, &identity, error));
    json_t *root = file_json(s, path, &identity, verdict);
    bool dumped = root && json_dump_callback(root, append, &text,
                                             JSON_INDENT(2) | JSON_REAL_PRECISION(9)) == 0;
    json_decref(root);
    bytes_append_text(&text, "\n");
    enum akin_status status =
        dumped && !text.failed ? AKIN_OK : error_memory(error);
    if (status == AKIN_OK)
        status = file_writer_write(*writer, text.data, text.count, error);
    if (status == AKIN_OK)
        status = file_writer_commit(writer, error);
    bytes_deinit(&text);
    return status;
}

/* ---- the whole -------------------------------------------------------------------------- */

/* The place is opened first: where nothing can be kept, nothing is measured at every start. */
static enum akin_status measure(const struct search *s, bool anyway, struct akin_verdict *verdict,
                                struct akin_error *error)
{
    struct akin_error reason = { 0 };
    struct file_writer *writer = NULL;
    const struct precision_place *place = s->place;
    size_t at = open_place(s, &writer, &reason);
    if (at == PLACES && !anyway) {
        *verdict = (struct akin_verdict){ .chosen = place->cards ? AKIN_PRECISION_FP16
                                                                 : AKIN_PRECISION_FP32 };
        log_write(place->log, AKIN_LOG_WARNING,
                  "precision auto: %s, because what would be measured cannot be kept: %s",
                  name_of(verdict->chosen), reason.message);
        return AKIN_OK;
    }
    enum akin_status status = precision_measure(place, verdict, error);
    if (status == AKIN_OK && writer) {
        if (write_file(s, s->paths[at], &writer, verdict, &reason) == AKIN_OK)
            snprintf(verdict->path, sizeof verdict->path, "%s", s->paths[at]);
        else
            log_write(place->log, AKIN_LOG_WARNING, "the measured precisions are not kept: %s",
                      reason.message);
    }
    file_writer_abort(&writer);
    return status;
}

enum akin_status precision_verdict(const struct precision_place *place, enum akin_verdict_ask ask,
                                   struct akin_verdict *verdict, struct akin_error *error)
{
    struct search *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    enum akin_status status = search_init(s, place, error);
    if (status == AKIN_OK && (ask == AKIN_VERDICT_ANEW || !find_kept(s, verdict))) {
        if (ask == AKIN_VERDICT_KEPT)
            status = error_set(error, AKIN_NOT_FOUND,
                               "%s: the precisions have not been measured here yet; \"akin model "
                               "check\" does", place->directory);
        else
            status = measure(s, ask == AKIN_VERDICT_ANEW, verdict, error);
    }
    memory_free(s);
    return status;
}
