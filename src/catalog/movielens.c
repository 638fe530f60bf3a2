/* MovieLens as GroupLens publishes it, and as RecBole repacks it. Each kind is a row of data: file
 * names and layouts. What follows is the same for all: films, themes, items, ratings.
 * F. M. Harper, J. A. Konstan: The MovieLens Datasets, ACM TiiS 5(4), 2015; each set's README. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "catalog/catalog.h"
#include "catalog/import_themes.h"
#include "catalog/title.h"

/* Columns: films have id, title, genres, year; ratings user, item, rating, timestamp; tags item,
 * tag. */
#define RATING_PLACES { { .place = 0 }, { .place = 1 }, { .place = 2 }, { .place = 3 } }

enum genre_style {
    GENRES_BARS,        /* "Adventure|Children" */
    GENRES_BLANKS,      /* "Adventure Children's" */
    GENRES_FLAGS,       /* one 0 or 1 per genre from the sixth field on, names in u.genre */
};

struct dialect {
    const char *films_file, *ratings_file, *tags_file;  /* "*.item": the only file that ends so */
    enum genre_style genres;
    struct table_layout films, ratings, tags;
};

static const struct dialect dialects[] = {
    /* 25M, 20M, 32M, latest, latest-small */
    { .films_file = "movies.csv", .ratings_file = "ratings.csv", .tags_file = "tags.csv",
      .genres = GENRES_BARS,
      .films = { .separator = ",", .quoted = true, .header = true, .text = true,
                 .columns = { { .names = "movieId id" }, { .names = "title" },
                              { .names = "genres" }, { .names = "year", .optional = true } },
                 .column_count = 4 },
      .ratings = { .separator = ",", .quoted = true, .header = true,
                   .columns = { { .names = "userId" }, { .names = "movieId" },
                                { .names = "rating" }, { .names = "timestamp" } },
                   .column_count = 4 },
      .tags = { .separator = ",", .quoted = true, .header = true, .text = true,
                .columns = { { .names = "movieId" }, { .names = "tag" } }, .column_count = 2 } },
    /* 10M, 1M */
    { .films_file = "movies.dat", .ratings_file = "ratings.dat", .tags_file = "tags.dat",
      .genres = GENRES_BARS,
      .films = { .separator = "::", .text = true, .fields = 3,
                 .columns = { { 0 }, { .place = 1 }, { .place = 2 }, { .place = SIZE_MAX } },
                 .column_count = 4 },
      .ratings = { .separator = "::", .fields = 4, .columns = RATING_PLACES, .column_count = 4 },
      .tags = { .separator = "::", .text = true, .fields = 4,
                .columns = { { .place = 1 }, { .place = 2 } }, .column_count = 2 } },
    /* 100K */
    { .films_file = "u.item", .ratings_file = "u.data", .genres = GENRES_FLAGS,
      .films = { .separator = "|", .text = true, .fields = 24,
                 .columns = { { 0 }, { .place = 1 }, { .place = SIZE_MAX }, { .place = 2 } },
                 .column_count = 4 },
      .ratings = { .separator = "\t", .fields = 4, .columns = RATING_PLACES, .column_count = 4 } },
    /* RecBole's atomic files */
    { .films_file = "*.item", .ratings_file = "*.inter", .genres = GENRES_BLANKS,
      .films = { .separator = "\t", .header = true, .text = true,
                 .columns = { { .names = "item_id" }, { .names = "movie_title title" },
                              { .names = "class genre genres" },
                              { .names = "release_year year", .optional = true } },
                 .column_count = 4 },
      .ratings = { .separator = "\t", .header = true,
                   .columns = { { .names = "user_id" }, { .names = "item_id" },
                                { .names = "rating" }, { .names = "timestamp" } },
                   .column_count = 4 } },
};

enum { GENRES_MAX = 64, FLAGS_FIRST = 5, FLAGS_MAX = 32 };

struct film {
    uint32_t id;
    int year;
    const char *title;
    const char **genres;    /* in the pool */
    size_t genre_count;
};

struct movielens {
    const char *folder;
    const struct dialect *dialect;
    struct import import;
    struct film *films;
    size_t film_count, film_capacity;
    struct number_map rows;         /* film id to row */
    struct string_pool pool;
    const char *flag_genres[FLAGS_MAX];
    struct themes themes;
    struct rating_table ratings;
    struct import_output output;
};

/* ---- which files ------------------------------------------------------------------------ */

/* The path of `name` in the folder, where "*.item" stands for the first file that ends so. */
static bool find_file(const char *folder, const char *name, char *path)
{
    if (!name)
        return false;
    if (name[0] != '*')
        return path_join(path, PATH_BYTES_MAX, folder, name, NULL) == AKIN_OK && path_exists(path);
    struct names names = { 0 };
    bool found = false;
    if (path_list(folder, &names, NULL) == AKIN_OK)
        for (size_t i = 0; i < names.count && !found; i++) {
            size_t length = strlen(names.items[i]), suffix = strlen(name) - 1;
            found = length > suffix && !strcmp(names.items[i] + length - suffix, name + 1) &&
                    path_join(path, PATH_BYTES_MAX, folder, names.items[i], NULL) == AKIN_OK;
        }
    names_deinit(&names);
    return found;
}

static enum akin_status find_dialect(struct movielens *m, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    if (!path_is_folder(m->folder))
        return error_set(error, AKIN_NOT_FOUND, "%.500s: there is no such folder", m->folder);
    for (size_t i = 0; i < sizeof dialects / sizeof *dialects; i++) {
        if (!find_file(m->folder, dialects[i].films_file, path))
            continue;
        m->dialect = &dialects[i];
        if (find_file(m->folder, dialects[i].ratings_file, path))
            return AKIN_OK;
        return error_set(error, AKIN_NOT_FOUND, "%.500s: %s is there, but %s is not", m->folder,
                         dialects[i].films_file, dialects[i].ratings_file);
    }
    return error_set(error, AKIN_NOT_FOUND, "%.500s: no MovieLens data here: expected movies.csv, "
                     "movies.dat, u.item or a file that ends in .item", m->folder);
}

/* ---- films ------------------------------------------------------------------------------ */

/* Not a genre, but the way in which the sets say that there is none. */
static bool is_no_genre(struct title_part genre)
{
    static const char *const names[] = { "(no genres listed)", "unknown", "" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == genre.bytes && !memcmp(names[i], genre.text, genre.bytes))
            return true;
    return false;
}

static bool set_genres(struct movielens *m, struct film *film, const struct title_part *genres,
                       size_t count)
{
    film->genres = string_pool_alloc(&m->pool, count * sizeof *film->genres);
    for (size_t i = 0; film->genres && i < count; i++) {
        film->genres[i] = string_pool_add(&m->pool, genres[i].text, genres[i].bytes);
        if (!film->genres[i])
            return false;
    }
    film->genre_count = count;
    return film->genres != NULL;
}

static bool split_genres(struct movielens *m, struct film *film, struct csv_field field)
{
    struct title_part genres[GENRES_MAX];
    char separator = m->dialect->genres == GENRES_BLANKS ? ' ' : '|';
    size_t count = 0;
    for (size_t at = 0, end; at <= field.bytes && count < GENRES_MAX; at = end + 1) {
        for (end = at; end < field.bytes && field.text[end] != separator;)
            end++;
        genres[count] = title_trim(field.text + at, end - at);
        count += !is_no_genre(genres[count]);
    }
    return set_genres(m, film, genres, count);
}

static bool flagged_genres(struct movielens *m, struct film *film, const struct csv_reader *csv)
{
    struct title_part genres[FLAGS_MAX];
    size_t count = 0;
    for (size_t i = FLAGS_FIRST; i < csv->field_count && i - FLAGS_FIRST < FLAGS_MAX; i++) {
        const char *name = m->flag_genres[i - FLAGS_FIRST];
        if (!name || csv->fields[i].bytes != 1 || csv->fields[i].text[0] != '1')
            continue;
        genres[count] = (struct title_part){ name, strlen(name) };
        count += !is_no_genre(genres[count]);
    }
    return set_genres(m, film, genres, count);
}

/* u.genre: "Action|1". */
static enum akin_status read_flag_genres(struct movielens *m, struct akin_error *error)
{
    static const struct table_layout layout = {
        .separator = "|", .text = true, .fields = 2,
        .columns = { { .place = 0 }, { .place = 1 } }, .column_count = 2,
    };
    char path[PATH_BYTES_MAX];
    struct table table;
    bool row;
    enum akin_status status;
    TRY(path_join(path, sizeof path, m->folder, "u.genre", error));
    TRY(table_open(&table, path, "films", &layout, &m->import, error));
    while ((status = table_next(&table, &row, error)) == AKIN_OK && row) {
        uint32_t place;
        struct csv_field name = table_field(&table, 0);
        if (!table_id(&table, 1, "genre", &place) || place >= FLAGS_MAX)
            continue;
        m->flag_genres[place] = string_pool_add(&m->pool, name.text, name.bytes);
        if (!m->flag_genres[place]) {
            status = error_memory(error);
            break;
        }
    }
    table_close(&table);
    return status;
}

/* The title with control characters as blanks, trimmed, and with its year where the set has the
 * year in a column of its own. */
static bool set_title(struct movielens *m, struct film *film, struct csv_field title,
                      struct csv_field year_field)
{
    struct title_part part = title_trim(title.text, title.bytes);
    film->year = title_year(part.text, part.bytes);
    struct bytes text = { 0 };
    bytes_append(&text, part.text, part.bytes);
    for (size_t i = 0; i < text.count; i++)
        if ((unsigned char)text.data[i] < ' ' || text.data[i] == 0x7f)
            text.data[i] = ' ';
    struct title_part digits = title_trim(year_field.text, year_field.bytes);
    uint64_t year;
    if (digits.bytes > 4)       /* "01-Jan-1995" */
        digits = (struct title_part){ digits.text + digits.bytes - 4, 4 };
    if (film->year == 0 && digits.bytes == 4 && parse_uint64(digits.text, 4, &year) &&
        year >= 1800) {
        film->year = (int)year;
        bytes_printf(&text, " (%d)", film->year);
    }
    film->title = text.failed ? NULL : string_pool_add(&m->pool, text.data, text.count);
    bytes_deinit(&text);
    return film->title != NULL;
}

static enum akin_status add_film(struct movielens *m, struct table *table, struct akin_error *error)
{
    struct akin_import_report *report = &m->import.report;
    struct film film = { 0 };
    struct csv_field title = table_field(table, 1);
    bool added;
    if (!table_id(table, 0, "movieId", &film.id))
        return AKIN_OK;
    if (title_trim(title.text, title.bytes).bytes == 0) {
        import_problem(&m->import, &report->skipped.malformed_rows, table->path, table_line(table),
                       "title: it is empty");
        return AKIN_OK;
    }
    if (!number_map_put(&m->rows, film.id, m->film_count, NULL, &added))
        return error_memory(error);
    if (!added) {
        import_problem(&m->import, &report->skipped.duplicate_items, table->path, table_line(table),
                       "movieId: film %u is there already", film.id);
        return AKIN_OK;
    }
    bool done =
        set_title(m, &film, title, table_field(table, 3)) &&
        (m->dialect->genres == GENRES_FLAGS ? flagged_genres(m, &film, &table->csv)
                                            : split_genres(m, &film, table_field(table, 2))) &&
        array_reserve((void **)&m->films, &m->film_capacity, m->film_count + 1, sizeof film);
    if (!done)
        return error_memory(error);
    m->films[m->film_count++] = film;
    return AKIN_OK;
}

static enum akin_status read_films(struct movielens *m, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct table table;
    bool row;
    enum akin_status status;
    if (m->dialect->genres == GENRES_FLAGS)
        TRY(read_flag_genres(m, error));
    if (!find_file(m->folder, m->dialect->films_file, path))
        return error_set(error, AKIN_NOT_FOUND, "%.500s: the films are gone", m->folder);
    TRY(table_open(&table, path, "films", &m->dialect->films, &m->import, error));
    while ((status = table_next(&table, &row, error)) == AKIN_OK && row) {
        status = add_film(m, &table, error);
        if (status != AKIN_OK)
            break;
    }
    table_close(&table);
    if (status == AKIN_OK && m->film_count == 0)
        return error_set(error, AKIN_FORMAT, "%.500s: there is no film in it%s%s", path,
                         m->import.report.first_problem[0] ? "; " : "",
                         m->import.report.first_problem);
    return status;
}

static enum akin_status read_themes(struct movielens *m, struct akin_error *error)
{
    char path[PATH_BYTES_MAX], scores[PATH_BYTES_MAX];
    TRY(themes_init(&m->themes, &m->rows, m->film_count, error));
    if (find_file(m->folder, "genome-tags.csv", path) &&
        find_file(m->folder, "genome-scores.csv", scores))
        TRY(themes_read_genome(&m->themes, path, scores, &m->import, error));
    if (find_file(m->folder, m->dialect->tags_file, path))
        TRY(themes_read_user_tags(&m->themes, path, &m->dialect->tags, &m->import, error));
    return themes_finish(&m->themes, error);
}

/* ---- ratings ---------------------------------------------------------------------------- */

static const double rating_min = 0.5, rating_max = 5;

/* *good false: the problem has been counted. */
static bool read_rating(struct movielens *m, struct table *table, struct rating_record *record)
{
    struct akin_import_report *report = &m->import.report;
    uint32_t user, item;
    double rating;
    int64_t timestamp;
    if (!table_id(table, 0, "userId", &user) || !table_id(table, 1, "movieId", &item) ||
        !table_number(table, 2, "rating", &rating) || !table_timestamp(table, 3, &timestamp))
        return false;
    if (!(rating >= rating_min && rating <= rating_max)) {
        import_problem(&m->import, &report->skipped.invalid_ratings, table->path, table_line(table),
                       "rating: %g is not between %g and %g", rating, rating_min, rating_max);
        return false;
    }
    if (!number_map_get(&m->rows, item, &(uint64_t){ 0 })) {
        import_problem(&m->import, &report->skipped.ratings_of_unknown_items, table->path,
                       table_line(table), "movieId: there is no film %u", item);
        return false;
    }
    *record = (struct rating_record){ user, item, (float)rating, timestamp };
    return true;
}

static enum akin_status read_ratings(struct movielens *m, struct akin_error *error)
{
    char path[PATH_BYTES_MAX];
    struct table table;
    struct rating_record record;
    bool row;
    enum akin_status status;
    if (!find_file(m->folder, m->dialect->ratings_file, path))
        return error_set(error, AKIN_NOT_FOUND, "%.500s: the ratings are gone", m->folder);
    TRY(table_open(&table, path, "ratings", &m->dialect->ratings, &m->import, error));
    while ((status = table_next(&table, &row, error)) == AKIN_OK && row)
        if (read_rating(m, &table, &record) && !rating_table_add(&m->ratings, record)) {
            status = error_memory(error);
            break;
        }
    table_close(&table);
    if (status == AKIN_OK)
        status = rating_table_sort(&m->ratings, &m->import.report.skipped.duplicate_ratings, error);
    return status;
}

/* ---- output ----------------------------------------------------------------------------- */

static enum akin_status write_films(struct movielens *m, struct akin_error *error)
{
    for (size_t row = 0; row < m->film_count; row++) {
        const struct film *film = &m->films[row];
        const char *names[THEMES_MAX];
        char id[16];
        bool genome;
        snprintf(id, sizeof id, "ml_%u", film->id);
        struct import_item item = {
            .id = id, .title = film->title, .year = film->year, .genres = film->genres,
            .genre_count = film->genre_count, .themes = names,
            .theme_count = themes_of(&m->themes, row, names, &genome),
        };
        m->import.report.items_with_genome += genome;
        TRY(import_step(&m->import, "write", row, m->film_count, error));
        TRY(import_output_item(&m->output, &m->import, &item, error));
    }
    return AKIN_OK;
}

static enum akin_status run(struct movielens *m, const char *data, struct akin_error *error)
{
    TRY(find_dialect(m, error));
    TRY(read_films(m, error));
    TRY(read_themes(m, error));
    TRY(read_ratings(m, error));
    TRY(import_output_open(&m->output, data, true, error));
    m->output.rating_max = rating_max;
    TRY(write_films(m, error));
    TRY(import_output_ratings(&m->output, &m->import, &m->ratings, error));
    return import_output_commit(&m->output, &m->import, error);
}

enum akin_status catalog_import_movielens(const char *folder, const char *data,
                                          struct akin_progress progress,
                                          struct akin_import_report *report,
                                          struct akin_error *error)
{
    struct movielens *m = memory_alloc(1, sizeof *m);
    if (!m)
        return error_memory(error);
    m->folder = folder;
    m->import.progress = progress;
    enum akin_status status = run(m, data, error);
    if (report)
        *report = m->import.report;
    import_output_abort(&m->output);
    rating_table_deinit(&m->ratings);
    themes_deinit(&m->themes);
    number_map_deinit(&m->rows);
    string_pool_deinit(&m->pool);
    memory_free(m->films);
    memory_free(m);
    return status;
}
