/* The genome's best ten are kept in a small sorted list per film while its scores stream by; user
 * tags are counted per film and tag, whatever their case. */
#include "catalog/import_themes.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "catalog/title.h"

struct theme_top {
    uint32_t count;
    struct {
        uint32_t tag;
        float relevance;
    } best[THEMES_MAX];     /* by relevance, ties by tag */
};

struct tag_count {
    uint32_t row, tag, count;
    const char *name;
};

enum akin_status themes_init(struct themes *themes, const struct number_map *rows,
                             size_t film_count, struct akin_error *error)
{
    *themes = (struct themes){ .rows = rows, .film_count = film_count };
    themes->tops = memory_alloc(film_count, sizeof *themes->tops);
    return themes->tops ? AKIN_OK : error_memory(error);
}

void themes_deinit(struct themes *themes)
{
    memory_free(themes->tops);
    memory_free(themes->user_tag_names);
    memory_free(themes->counts);
    memory_free(themes->firsts);
    number_map_deinit(&themes->genome_tags);
    number_map_deinit(&themes->pairs);
    string_map_deinit(&themes->user_tags);
    string_pool_deinit(&themes->pool);
    *themes = (struct themes){ 0 };
}

/* Row of the film in `column`; false: the problem has been counted. */
static bool film_row(const struct themes *themes, struct table *table, size_t column, uint32_t *row)
{
    uint32_t id;
    uint64_t found;
    if (!table_id(table, column, "movieId", &id))
        return false;
    if (!number_map_get(themes->rows, id, &found)) {
        import_problem(table->import, &table->import->report.skipped.tags_of_unknown_items,
                       table->path, table_line(table), "movieId: there is no film %u", id);
        return false;
    }
    *row = (uint32_t)found;
    return true;
}

/* ---- genome ----------------------------------------------------------------------------- */

static enum akin_status read_genome_tags(struct themes *themes, const char *path,
                                         struct import *import, struct akin_error *error)
{
    static const struct table_layout layout = {
        .separator = ",", .quoted = true, .header = true, .text = true,
        .columns = { { .names = "tagId" }, { .names = "tag" } }, .column_count = 2,
    };
    struct table table;
    bool row;
    enum akin_status status;
    TRY(table_open(&table, path, "genome", &layout, import, error));
    while ((status = table_next(&table, &row, error)) == AKIN_OK && row) {
        uint32_t id;
        struct csv_field field = table_field(&table, 1);
        struct title_part tag = title_trim(field.text, field.bytes);
        if (!table_id(&table, 0, "tagId", &id))
            continue;
        if (tag.bytes == 0) {
            import_problem(import, &import->report.skipped.malformed_rows, path, table_line(&table),
                           "tag: it is empty");
            continue;
        }
        const char *name = string_pool_add(&themes->pool, tag.text, tag.bytes);
        if (!name || !number_map_put(&themes->genome_tags, id, (uintptr_t)name, NULL, NULL)) {
            status = error_memory(error);
            break;
        }
    }
    table_close(&table);
    return status;
}

static void keep_theme(struct theme_top *top, uint32_t tag, float relevance)
{
    size_t at = 0;
    while (at < top->count && (top->best[at].relevance > relevance ||
                               (top->best[at].relevance == relevance && top->best[at].tag <= tag)))
        if (top->best[at++].tag == tag)
            return;
    if (at == THEMES_MAX)
        return;
    size_t end = at;    /* where the tag stood with less relevance, or the last one drops out */
    while (end < top->count && top->best[end].tag != tag)
        end++;
    if (end == top->count && top->count < THEMES_MAX)
        top->count++;
    else if (end == top->count)
        end--;
    memmove(top->best + at + 1, top->best + at, (end - at) * sizeof *top->best);
    top->best[at].tag = tag;
    top->best[at].relevance = relevance;
}

enum akin_status themes_read_genome(struct themes *themes, const char *tags_path,
                                    const char *scores_path, struct import *import,
                                    struct akin_error *error)
{
    static const struct table_layout layout = {
        .separator = ",", .quoted = true, .header = true,
        .columns = { { .names = "movieId" }, { .names = "tagId" }, { .names = "relevance" } },
        .column_count = 3,
    };
    struct table table;
    bool row;
    enum akin_status status;
    TRY(read_genome_tags(themes, tags_path, import, error));
    TRY(table_open(&table, scores_path, "genome", &layout, import, error));
    while ((status = table_next(&table, &row, error)) == AKIN_OK && row) {
        uint32_t film, tag;
        uint64_t name;
        double relevance;
        if (!film_row(themes, &table, 0, &film) || !table_id(&table, 1, "tagId", &tag) ||
            !table_number(&table, 2, "relevance", &relevance))
            continue;
        if (!isfinite(relevance) || !number_map_get(&themes->genome_tags, tag, &name))
            import_problem(import, &import->report.skipped.malformed_rows, scores_path,
                           table_line(&table), isfinite(relevance) ? "tagId: there is no tag %u"
                           : "relevance: it is not finite (tag %u)", tag);
        else
            keep_theme(&themes->tops[film], tag, (float)relevance);
    }
    table_close(&table);
    return status;
}

/* ---- user tags -------------------------------------------------------------------------- */

/* The number of a tag, new or known. */
static bool number_of_tag(struct themes *themes, const struct bytes *tag, uint32_t *number)
{
    uint64_t known;
    if (string_map_get(&themes->user_tags, tag->data, tag->count, &known)) {
        *number = (uint32_t)known;
        return true;
    }
    const char *name = string_pool_add(&themes->pool, tag->data, tag->count);
    if (!name || !array_reserve((void **)&themes->user_tag_names, &themes->user_tag_capacity,
                                themes->user_tag_count + 1, sizeof *themes->user_tag_names) ||
        !string_map_put(&themes->user_tags, name, tag->count, themes->user_tag_count, NULL, NULL))
        return false;
    *number = (uint32_t)themes->user_tag_count;
    themes->user_tag_names[themes->user_tag_count++] = name;
    return true;
}

static bool count_tag(struct themes *themes, uint32_t row, const struct bytes *tag)
{
    uint32_t number;
    uint64_t index;
    bool added;
    if (!number_of_tag(themes, tag, &number) ||
        !array_reserve((void **)&themes->counts, &themes->count_capacity, themes->count_count + 1,
                       sizeof *themes->counts) ||
        !number_map_put(&themes->pairs, (uint64_t)row << 32 | number, themes->count_count, &index,
                        &added))
        return false;
    if (added)
        themes->counts[themes->count_count++] = (struct tag_count){ row, number, 0, NULL };
    themes->counts[index].count++;
    return true;
}

enum akin_status themes_read_user_tags(struct themes *themes, const char *path,
                                       const struct table_layout *layout, struct import *import,
                                       struct akin_error *error)
{
    struct table table;
    struct bytes tag = { 0 };
    bool row;
    enum akin_status status;
    TRY(table_open(&table, path, "tags", layout, import, error));
    while ((status = table_next(&table, &row, error)) == AKIN_OK && row) {
        uint32_t film;
        struct csv_field field = table_field(&table, 1);
        if (!film_row(themes, &table, 0, &film))
            continue;
        bytes_clear(&tag);
        title_lower(&tag, field.text, field.bytes);
        if (tag.count == 0 && !tag.failed) {
            import_problem(import, &import->report.skipped.malformed_rows, path, table_line(&table),
                           "tag: it is empty");
            continue;
        }
        if (tag.failed || !count_tag(themes, film, &tag)) {
            status = error_memory(error);
            break;
        }
        import->report.tags++;
    }
    bytes_deinit(&tag);
    table_close(&table);
    return status;
}

static int compare_counts(const void *a, const void *b)
{
    const struct tag_count *left = a, *right = b;
    if (left->row != right->row)
        return left->row < right->row ? -1 : 1;
    if (left->count != right->count)
        return left->count > right->count ? -1 : 1;
    return strcmp(left->name, right->name);
}

enum akin_status themes_finish(struct themes *themes, struct akin_error *error)
{
    themes->firsts = memory_alloc(themes->film_count + 1, sizeof *themes->firsts);
    if (!themes->firsts)
        return error_memory(error);
    for (size_t i = 0; i < themes->count_count; i++) {
        struct tag_count *count = &themes->counts[i];
        count->name = themes->user_tag_names[count->tag];
        themes->firsts[count->row + 1]++;
    }
    for (size_t row = 0; row < themes->film_count; row++)
        themes->firsts[row + 1] += themes->firsts[row];
    if (themes->count_count)
        qsort(themes->counts, themes->count_count, sizeof *themes->counts, compare_counts);
    return AKIN_OK;
}

size_t themes_of(const struct themes *themes, size_t row, const char *names[THEMES_MAX],
                 bool *genome)
{
    const struct theme_top *top = &themes->tops[row];
    *genome = top->count > 0;
    for (size_t i = 0; i < top->count; i++) {
        uint64_t name = 0;
        ASSERT(number_map_get(&themes->genome_tags, top->best[i].tag, &name));
        names[i] = (const char *)(uintptr_t)name;
    }
    if (*genome)
        return top->count;
    size_t first = themes->firsts[row], count = themes->firsts[row + 1] - first;
    count = count < THEMES_MAX ? count : THEMES_MAX;
    for (size_t i = 0; i < count; i++)
        names[i] = themes->counts[first + i].name;
    return count;
}
