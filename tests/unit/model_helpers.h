/* What the tests of src/model share: a folder that goes away, and copies of the small model in
 * tests/fixtures/models with one thing changed. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>

#include "base/file.h"
#include "base/memory.h"

#define MODELS AKIN_SOURCE_DIR "/tests/fixtures/models"
#define TINY MODELS "/tiny-bert"
#define EXPECTED MODELS "/tiny-bert-expected"

/* A fresh folder under TMPDIR or /tmp, in path[PATH_BYTES_MAX]. */
static inline void make_folder(char *path)
{
    const char *root = getenv("TMPDIR");
    snprintf(path, PATH_BYTES_MAX, "%s/akin-model-XXXXXX", root && root[0] ? root : "/tmp");
    assert_non_null(mkdtemp(path));
}

static inline void remove_folder(const char *path)
{
    struct akin_error error = { 0 };
    if (path_remove_tree(path, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

static inline const char *in_folder(char *path, const char *folder, const char *name)
{
    assert_int_equal(path_join(path, PATH_BYTES_MAX, folder, name, NULL), AKIN_OK);
    return path;
}

static inline void put_file(const char *folder, const char *name, const void *bytes, size_t count)
{
    char path[PATH_BYTES_MAX], parent[PATH_BYTES_MAX];
    in_folder(path, folder, name);
    snprintf(parent, sizeof parent, "%.*s", (int)(path_last(path) - path), path);
    struct akin_error error = { 0 };
    assert_int_equal(path_make_folders(parent, &error), AKIN_OK);
    if (file_write(path, bytes, count, &error) != AKIN_OK)
        fail_msg("%s", error.message);
}

static inline void put_text(const char *folder, const char *name, const char *text)
{
    put_file(folder, name, text, strlen(text));
}

static inline void copy_file(const char *from, const char *folder, const char *name)
{
    struct file_map map;
    struct akin_error error = { 0 };
    if (file_map_open(from, &map, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    put_file(folder, name, map.data, map.bytes);
    file_map_close(&map);
}

/* The small model into `folder`, which exists. */
static inline void copy_tiny(const char *folder)
{
    static const char *const files[] = {
        "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
        "tokenizer.json", "tokenizer_config.json", "config_sentence_transformers.json",
        "model.safetensors",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char from[PATH_BYTES_MAX];
        copy_file(in_folder(from, TINY, files[i]), folder, files[i]);
    }
}

static inline void remove_file(const char *folder, const char *name)
{
    char path[PATH_BYTES_MAX];
    assert_int_equal(path_remove(in_folder(path, folder, name), NULL), AKIN_OK);
}

/* Sets a field of a JSON file; `value` is JSON, NULL removes the field. */
static inline void set_field(const char *folder, const char *name, const char *key,
                             const char *value)
{
    char path[PATH_BYTES_MAX];
    json_error_t problem;
    json_t *root = json_load_file(in_folder(path, folder, name), 0, &problem);
    assert_non_null(root);
    if (value) {
        json_t *parsed = json_loads(value, JSON_DECODE_ANY, &problem);
        assert_non_null(parsed);
        json_object_set_new(root, key, parsed);
    } else {
        json_object_del(root, key);
    }
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
}

#define assert_message_has(error, part)                                              \
    do {                                                                             \
        if (!strstr((error).message, part))                                          \
            fail_msg("\"%s\" is not in: %s", part, (error).message);                 \
    } while (0)

/* Changes the header of `folder`/model.safetensors; the data stay. */
static inline void rewrite_header(const char *folder, void (*change)(json_t *header))
{
    char path[PATH_BYTES_MAX];
    struct file_map map;
    assert_int_equal(file_map_open(in_folder(path, folder, "model.safetensors"), &map, NULL),
                     AKIN_OK);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--)
        length = length << 8 | map.data[i];
    json_error_t problem;
    json_t *header = json_loadb((const char *)map.data + 8, (size_t)length, 0, &problem);
    assert_non_null(header);
    change(header);
    char *text = json_dumps(header, JSON_COMPACT);
    uint64_t changed = strlen(text);
    struct bytes file = { 0 };
    for (int i = 0; i < 8; i++) {
        unsigned char byte = (unsigned char)(changed >> (8 * i));
        bytes_append(&file, &byte, 1);
    }
    bytes_append(&file, text, (size_t)changed);
    bytes_append(&file, map.data + 8 + length, map.bytes - 8 - (size_t)length);
    file_map_close(&map);
    put_file(folder, "model.safetensors", file.data, file.count);
    bytes_deinit(&file);
    free(text);
    json_decref(header);
}
