/* Themes of films: the tags of the tag genome that fit best, or, for films that it does not cover,
 * the tags that users gave most often. */
#pragma once

#include "base/hash.h"
#include "catalog/import_table.h"

enum { THEMES_MAX = 10 };

struct theme_top;
struct tag_count;

struct themes {
    size_t film_count;
    const struct number_map *rows;  /* film id to row */
    struct theme_top *tops;         /* [film] from the genome */
    struct string_pool pool;
    struct number_map genome_tags;  /* tag id to its name's address in the pool */
    struct string_map user_tags;    /* name to index in user_tag_names */
    const char **user_tag_names;
    size_t user_tag_count, user_tag_capacity;
    struct number_map pairs;        /* row << 32 | user tag to index in counts */
    struct tag_count *counts;
    size_t count_count, count_capacity;
    size_t *firsts;                 /* [film + 1] of counts, after themes_finish */
};

enum akin_status themes_init(struct themes *themes, const struct number_map *rows,
                             size_t film_count, struct akin_error *error);
void themes_deinit(struct themes *themes);      /* zeroed is fine */

/* genome-tags.csv and genome-scores.csv. */
enum akin_status themes_read_genome(struct themes *themes, const char *tags_path,
                                    const char *scores_path, struct import *import,
                                    struct akin_error *error);
/* A table whose columns are item and tag. */
enum akin_status themes_read_user_tags(struct themes *themes, const char *path,
                                       const struct table_layout *layout, struct import *import,
                                       struct akin_error *error);
/* Call once after reading; then themes_of. */
enum akin_status themes_finish(struct themes *themes, struct akin_error *error);

/* The themes of a film, best first, into `names`; returns how many. *genome: they are of the
 * genome. */
size_t themes_of(const struct themes *themes, size_t row, const char *names[THEMES_MAX],
                 bool *genome);
