/* See texts.h. */
#include "cli/texts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/csv.h"
#include "base/file.h"
#include "base/json.h"
#include "cli/progress.h"

enum kind { KIND_TXT, KIND_JSONL, KIND_CSV };

enum { SPOOL_READ_BYTES = 1 << 16, PROC_PATH_BYTES = 64 };

static const size_t window_bytes_max = (size_t)64 << 20;

struct text_source {
    enum kind kind;
    const char *name; /* what the user called it */
    const char *field;
    char path[PATH_BYTES_MAX]; /* what is opened: the file, "-", or the spool */
    FILE *spool;
    struct line_reader *lines; /* txt, jsonl */
    struct file_map map;       /* csv */
    struct csv_reader csv;
    size_t column, columns;
    json_t *object; /* that the last text is in */
    uint64_t blank_lines;
    bool open;
};

/* ---- opening ----------------------------------------------------------------------------- */

static enum akin_status parse_kind(const struct text_source_settings *settings, enum kind *kind,
                                   struct akin_error *error)
{
    static const struct {
        const char *ending;
        enum kind kind;
    } kinds[] = {{"txt", KIND_TXT},
                 {"jsonl", KIND_JSONL},
                 {"csv", KIND_CSV},
                 {"ndjson", KIND_JSONL},
                 {"json", KIND_JSONL}};
    const char *dot = strrchr(path_last(settings->path), '.');
    const char *wanted = settings->format ? settings->format : dot ? dot + 1 : "txt";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcasecmp(wanted, kinds[i].ending) == 0) {
            *kind = kinds[i].kind;
            return AKIN_OK;
        }
    }
    if (settings->format)
        return error_set(error, AKIN_ARGUMENT, "format '%.40s' is not one of txt, jsonl, csv",
                         wanted);
    *kind = KIND_TXT;
    return AKIN_OK;
}

static enum akin_status copy_all(int fd, FILE *spool, const char *name, struct akin_error *error)
{
    char buffer[SPOOL_READ_BYTES];
    for (;;) {
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (signals_interrupted())
            return error_set(error, AKIN_CANCELLED, "interrupted");
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_system(error, "%s", name);
        if (got == 0)
            break;
        if (fwrite(buffer, 1, (size_t)got, spool) != (size_t)got)
            return error_system(error, "temporary file for %s", name);
    }
    if (fflush(spool) != 0)
        return error_system(error, "temporary file for %s", name);
    return AKIN_OK;
}

/* What cannot be read twice is copied to a temporary file that has no name. */
static enum akin_status spool(struct text_source *s, struct akin_error *error)
{
    struct stat info;
    bool standard_input = strcmp(s->path, "-") == 0;
    int fd = standard_input ? STDIN_FILENO : open(s->path, O_RDONLY | O_CLOEXEC);
    enum akin_status status = AKIN_OK;
    if (fd < 0)
        return error_system(error, "%s", s->name);
    if (fstat(fd, &info) != 0 || S_ISDIR(info.st_mode)) {
        status = error_set(error, AKIN_IO, "%s: not a file that can be read", s->name);
    } else if (!S_ISREG(info.st_mode) || standard_input) {
        s->spool = tmpfile();
        status = s->spool ? copy_all(fd, s->spool, s->name, error)
                          : error_system(error, "temporary file for %s", s->name);
        if (status == AKIN_OK)
            snprintf(s->path, sizeof s->path, "/proc/self/fd/%d", fileno(s->spool));
    }
    if (!standard_input)
        close(fd);
    return status;
}

/* The first row names the columns. */
static enum akin_status find_column(struct text_source *s, struct akin_error *error)
{
    bool row = false;
    TRY(csv_next(&s->csv, &row, error));
    s->columns = s->csv.field_count;
    size_t length = strlen(s->field);
    for (s->column = 0; row && s->column < s->columns; s->column++) {
        const struct csv_field *f = &s->csv.fields[s->column];
        if (f->bytes == length && memcmp(f->text, s->field, length) == 0)
            return AKIN_OK;
    }
    return error_set(error, AKIN_FORMAT, "%s:1: no column named '%.80s'; --field names another",
                     s->name, s->field);
}

static enum akin_status begin(struct text_source *s, struct akin_error *error)
{
    s->blank_lines = 0;
    if (s->kind != KIND_CSV)
        return line_reader_open(s->path, &s->lines, error);
    TRY(file_map_open(s->path, &s->map, error));
    s->open = true;
    csv_open(&s->csv, s->name, (const char *)s->map.data, s->map.bytes, ",", true);
    return find_column(s, error);
}

static void end(struct text_source *s)
{
    json_decref(s->object);
    s->object = NULL;
    line_reader_close(&s->lines);
    if (s->open) {
        csv_close(&s->csv);
        file_map_close(&s->map);
        s->open = false;
    }
}

enum akin_status text_source_open(const struct text_source_settings *settings,
                                  struct text_source **source, struct akin_error *error)
{
    enum akin_status status = AKIN_OK;
    struct text_source *s = memory_alloc(1, sizeof *s);
    if (!s)
        return error_memory(error);
    s->name = strcmp(settings->path, "-") == 0 ? "standard input" : settings->path;
    s->field = settings->field ? settings->field : "text";
    TRY_DONE(parse_kind(settings, &s->kind, error));
    if (strlen(settings->path) >= sizeof s->path) {
        status = error_set(error, AKIN_LIMIT, "%.200s...: the path is too long", settings->path);
        goto done;
    }
    snprintf(s->path, sizeof s->path, "%s", settings->path);
    if (settings->rereadable || s->kind == KIND_CSV)
        TRY_DONE(spool(s, error));
    TRY_DONE(begin(s, error));
done:
    if (status == AKIN_OK)
        *source = s;
    else
        text_source_close(&s);
    return status;
}

void text_source_close(struct text_source **source)
{
    struct text_source *s = *source;
    if (!s)
        return;
    end(s);
    if (s->spool)
        fclose(s->spool);
    memory_free(s);
    *source = NULL;
}

enum akin_status text_source_rewind(struct text_source *s, struct akin_error *error)
{
    end(s);
    return begin(s, error);
}

const char *text_source_name(const struct text_source *source)
{
    return source->name;
}

uint64_t text_source_blank_lines(const struct text_source *source)
{
    return source->blank_lines;
}

/* ---- reading ----------------------------------------------------------------------------- */

static bool is_blank(const char *line, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* The field of one JSON line, which stays alive in s->object. */
static enum akin_status read_object(struct text_source *s, const char *line, size_t bytes,
                                    struct akin_text *text, struct akin_error *error)
{
    char where[PATH_BYTES_MAX + 32];
    snprintf(where, sizeof where, "%s:%llu", s->name,
             (unsigned long long)line_reader_number(s->lines));
    json_decref(s->object);
    s->object = NULL;
    TRY(json_parse(line, bytes, where, &s->object, error));
    if (!json_is_object(s->object))
        return error_set(error, AKIN_FORMAT, "%s: expected an object, found %s", where,
                         json_type_name(s->object));
    const json_t *value = json_object_get(s->object, s->field);
    if (!json_is_string(value))
        return error_set(error, AKIN_FORMAT, "%s: %.80s: expected a string, found %s", where,
                         s->field, json_type_name(value));
    *text = (struct akin_text){json_string_value(value), json_string_length(value)};
    return AKIN_OK;
}

static enum akin_status next_line(struct text_source *s, struct akin_text *text, bool *more,
                                  struct akin_error *error)
{
    const char *line = NULL;
    size_t bytes = 0;
    do {
        TRY(line_reader_next(s->lines, &line, &bytes, error));
        *more = line != NULL;
        if (!line)
            return AKIN_OK;
        if (s->kind == KIND_TXT) {
            *text = (struct akin_text){line, bytes};
            return AKIN_OK;
        }
        s->blank_lines += is_blank(line, bytes);
    } while (is_blank(line, bytes));
    return read_object(s, line, bytes, text, error);
}

static enum akin_status next_row(struct text_source *s, struct akin_text *text, bool *more,
                                 struct akin_error *error)
{
    do {
        TRY(csv_next(&s->csv, more, error));
        if (!*more)
            return AKIN_OK;
        s->blank_lines += s->csv.field_count == 0;
    } while (s->csv.field_count == 0);
    if (s->csv.field_count != s->columns)
        return error_set(error, AKIN_FORMAT, "%s:%llu: %zu fields where the header has %zu",
                         s->name, (unsigned long long)s->csv.line, s->csv.field_count, s->columns);
    *text = (struct akin_text){s->csv.fields[s->column].text, s->csv.fields[s->column].bytes};
    return AKIN_OK;
}

enum akin_status text_source_next(struct text_source *s, struct akin_text *text, bool *more,
                                  struct akin_error *error)
{
    if (signals_interrupted())
        return error_set(error, AKIN_CANCELLED, "interrupted");
    return s->kind == KIND_CSV ? next_row(s, text, more, error) : next_line(s, text, more, error);
}

enum akin_status text_source_measure(struct text_source *s, size_t *count, struct akin_error *error)
{
    struct akin_text text;
    bool more = true;
    *count = 0;
    for (;;) {
        TRY(text_source_next(s, &text, &more, error));
        if (!more)
            break;
        ++*count;
    }
    if (*count == 0)
        return error_set(error, AKIN_NOT_FOUND, "%s: no texts in it", s->name);
    return text_source_rewind(s, error);
}

/* ---- windows ----------------------------------------------------------------------------- */

enum akin_status text_window_add(struct text_window *w, const char *bytes, size_t count,
                                 struct akin_error *error)
{
    bytes_append(&w->data, bytes, count);
    if (w->data.failed ||
        !array_reserve((void **)&w->texts, &w->texts_capacity, w->count + 1, sizeof *w->texts) ||
        !array_reserve((void **)&w->ends, &w->ends_capacity, w->count + 1, sizeof *w->ends))
        return error_memory(error);
    w->ends[w->count++] = w->data.count;
    return AKIN_OK;
}

void text_window_seal(struct text_window *w)
{
    const char *base = w->data.data ? w->data.data : "";
    for (size_t i = 0; i < w->count; i++) {
        size_t begin_at = i ? w->ends[i - 1] : 0;
        w->texts[i] = (struct akin_text){base + begin_at, w->ends[i] - begin_at};
    }
}

enum akin_status text_window_fill(struct text_window *w, struct text_source *source,
                                  size_t texts_max, struct akin_error *error)
{
    struct akin_text text;
    bool more = true;
    bytes_clear(&w->data);
    w->count = 0;
    while (w->count < texts_max && w->data.count < window_bytes_max) {
        TRY(text_source_next(source, &text, &more, error));
        if (!more)
            break;
        TRY(text_window_add(w, text.bytes, text.count, error));
    }
    text_window_seal(w);
    return AKIN_OK;
}

void text_window_deinit(struct text_window *w)
{
    bytes_deinit(&w->data);
    memory_free(w->texts);
    memory_free(w->ends);
    *w = (struct text_window){0};
}
