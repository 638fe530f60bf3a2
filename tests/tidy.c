/* Checks that the source keeps the shape that the documents promise.
 *
 *   tidy ROOT        prints "path:line: what is wrong: what to do" and exits 1 if anything is
 *
 *   layers     src/LAYERS says which module may include which; its order is the layering
 *   homes      each dangerous thing lives in few files; some things live nowhere
 *   measure    columns, lines of a file, lines of a function, tabs, trailing blanks
 *   tree       unique file names, every .c in its CMakeLists.txt, every header included, no cycles
 *
 * It reads text, not C: comments and literals are blanked, the preprocessor is not run. Exceptions
 * stand in tests/tidy.allow with a reason; one that is no longer needed is an error. */
#include <ctype.h>
#include <dirent.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    COLUMNS_MAX = 100,
    FILE_LINES_MAX = 800,
    FUNCTION_LINES_MAX = 70,
    MODULES_MAX = 32,
    FILES_MAX = 4096,
    ALLOWED_MAX = 256,
    INCLUDES_MAX = 64,
};

/* A call, or a header between <>, and the paths where it may stand. */
struct rule {
    const char *names;      /* separated by blanks; "x*" is any name that begins with x */
    const char *homes;      /* patterns separated by blanks; "" is nowhere, tests included */
    const char *instead;
};

static const struct rule call_rules[] = {
    {"malloc calloc realloc free aligned_alloc posix_memalign strdup strndup asprintf vasprintf "
     "reallocarray",
     "src/base/memory.c", "base/memory.h"},
    {"pthread_* thrd_* mtx_*", "src/base/thread.c", "base/thread.h"},
    {"mmap munmap msync mremap", "src/base/file*.c src/base/memory.c",
     "file_map_open of base/file.h"},
    {"madvise", "src/base/file*.c src/base/memory.c", "base/file.h or base/memory.h"},
    {"clock_gettime gettimeofday time clock gmtime gmtime_r localtime localtime_r",
     "src/base/clock.c", "base/clock.h"},
    {"getenv secure_getenv", "src/engine/settings.c src/cli/*", "akin_settings_get"},
    {"setenv putenv unsetenv", "src/cli/*", "a settings struct"},
    {"printf vprintf fprintf vfprintf dprintf puts putchar fputs fputc perror",
     "src/cli/* src/base/status.c", "an akin_error or base/log.h: the library never prints"},
    {"exit _exit _Exit abort quick_exit atexit",
     "src/cli/* src/base/status.c src/train/distributed_fork.c src/train/gpu.c",
     "an enum akin_status or ASSERT: the library never exits"},
    {"_mm* _tile_*",
     "src/compute/cpu/kernels_*.c src/compute/cpu/vector_*.h src/compute/cpu/peak_*.c",
     "a row of compute/cpu/kernels.h"},
    {"sysconf sched_getaffinity getrusage", "src/base/*", "base/system.h or base/thread.h"},
    {"fork vfork popen system execv execvp execve posix_spawn",
     "src/cli/* src/train/distributed_fork.c src/train/gpu.c", "a library call"},
    {"signal sigaction", "src/cli/* src/train/distributed_fork.c",
     "struct akin_progress, whose update can say stop"},
    {"socket bind listen",
     "src/server/* src/train/distributed_tcp*.c src/watch/alert_socket.c "
     "src/events/source_socket.c",
     "libcurl for a client"},
    {"random srandom rand_r drand48 lrand48 getrandom", "src/base/rng.c", "base/rng.h"},
};

/* These hold for tests and benchmarks as well. */
static const struct rule banned_rules[] = {
    {"rand srand", "", "a seeded generator: base/rng.h"},
    {"strcpy strcat stpcpy strncpy strncat", "", "snprintf or struct bytes of base/memory.h"},
    {"sprintf vsprintf", "", "snprintf"},
    {"gets", "", "line_reader_next of base/file.h"},
    {"atoi atol atoll atof", "", "strtol or strtod with its end checked"},
    {"strtok strtok_r", "", "strcspn"},
    {"alloca", "", "an arena"},
    {"tmpnam tempnam mktemp", "", "mkstemp or mkdtemp"},
};

static const struct rule header_rules[] = {
    {"*intrin.h arm_neon.h arm_sve.h",
     "src/compute/cpu/kernels_*.c src/compute/cpu/vector_*.h src/compute/cpu/peak_*.c",
     "a row of compute/cpu/kernels.h"},
    {"cpuid.h", "src/base/cpu.c", "base/cpu.h"},
    {"pthread.h threads.h", "src/base/thread.c", "base/thread.h"},
    {"sys/mman.h", "src/base/file*.c src/base/memory.c", "base/file.h or base/memory.h"},
    {"hwloc.h", "src/base/*", "base/cpu.h or base/system.h"},
    {"curl/curl.h", "src/model/* src/watch/alert_webhook.c", "akin_model_pull"},
    {"systemd/sd-bus.h", "src/events/* src/watch/alert_bus.c", "events/source.h"},
    {"sqlite3.h", "src/catalog/*", "akin/catalog.h"},
    {"ini.h", "src/engine/settings.c", "akin/settings.h"},
    {"nats/nats.h", "src/events/nats_link.h", "struct akin_watch_source"},
    {"mpi.h", "src/train/distributed_mpi.c", "train/distributed.h"},
    {"cuda*.h", "src/compute/cuda/*", "compute/backend.h"},
};

struct file {
    char *path;             /* from the root */
    char *text, *code;      /* code: the same length, comments and literals blank */
    const char *includes[INCLUDES_MAX];     /* "a/b.h" of every #include "a/b.h" */
    size_t include_count;
    int mark;               /* of the search for cycles */
};

static struct { char name[32], allowed[256]; } modules[MODULES_MAX];
static int module_count;
static struct file files[FILES_MAX];
static size_t file_count;
static struct { char path[256], what[128]; int line; bool used; } allowed[ALLOWED_MAX];
static size_t allowed_count;
static int errors;

__attribute__((format(printf, 3, 4)))
static void complain(const char *path, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    printf("%s:%d: ", path, line);
    vprintf(format, arguments);
    printf("\n");
    va_end(arguments);
    errors++;
}

static void give_up(const char *what)
{
    perror(what);
    exit(2);
}

static void *must(void *pointer)
{
    if (!pointer)
        give_up("tidy");
    return pointer;
}

/* The whole file with a NUL behind it, or NULL. */
static char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    long bytes = ftell(file);
    rewind(file);
    char *text = must(malloc((size_t)bytes + 1));
    text[fread(text, 1, (size_t)bytes, file)] = 0;
    fclose(file);
    return text;
}

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

static bool ends(const char *text, const char *with)
{
    size_t a = strlen(text), b = strlen(with);
    return a >= b && !strcmp(text + a - b, with);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int line_of(const char *text, const char *at)
{
    int line = 1;
    for (; text < at; text++)
        line += *text == '\n';
    return line;
}

/* Whether `word` matches one of the patterns, which blanks separate. */
static bool matches(const char *patterns, const char *word)
{
    char pattern[128];
    while (*patterns) {
        size_t count = strcspn(patterns, " ");
        snprintf(pattern, sizeof pattern, "%.*s", (int)count, patterns);
        if (!fnmatch(pattern, word, 0))
            return true;
        patterns += count;
        patterns += strspn(patterns, " ");
    }
    return false;
}

/* ---- exceptions ------------------------------------------------------------------------- */

static void read_allowed(const char *root)
{
    char path[4096], line[1024], reason[8];
    snprintf(path, sizeof path, "%s/tests/tidy.allow", root);
    FILE *file = fopen(path, "r");
    for (int number = 1; file && fgets(line, sizeof line, file); number++) {
        if (line[0] == '#' || line[strspn(line, " \n")] == 0)
            continue;
        if (allowed_count == ALLOWED_MAX) {
            complain("tests/tidy.allow", number, "more than %d exceptions: mend some", ALLOWED_MAX);
            break;
        }
        if (sscanf(line, "%255s %127s %7s", allowed[allowed_count].path,
                   allowed[allowed_count].what, reason) != 3)
            complain("tests/tidy.allow", number, "not an exception: write PATH WHAT REASON");
        else
            allowed[allowed_count++].line = number;
    }
    if (file)
        fclose(file);
}

static bool is_allowed(const char *path, const char *what)
{
    for (size_t i = 0; i < allowed_count; i++)
        if (!strcmp(allowed[i].path, path) && !strcmp(allowed[i].what, what))
            return allowed[i].used = true;
    return false;
}

static void check_allowed(void)
{
    for (size_t i = 0; i < allowed_count; i++)
        if (!allowed[i].used)
            complain("tests/tidy.allow", allowed[i].line, "nothing in %s needs %s: remove the line",
                     allowed[i].path, allowed[i].what);
}

/* ---- layers ----------------------------------------------------------------------------- */

/* The module named by the first `count` bytes; -1 if there is none. */
static int module_index(const char *name, size_t count)
{
    for (int i = 0; i < module_count; i++)
        if (strlen(modules[i].name) == count && !strncmp(modules[i].name, name, count))
            return i;
    return -1;
}

static void read_layers(const char *root)
{
    char path[4096], line[512];
    snprintf(path, sizeof path, "%s/src/LAYERS", root);
    FILE *file = fopen(path, "r");
    if (!file)
        give_up(path);
    for (int number = 1; fgets(line, sizeof line, file); number++) {
        char *colon = strchr(line, ':');
        if (line[0] == '#' || !colon || module_count == MODULES_MAX)
            continue;
        *colon = 0;
        colon[1 + strcspn(colon + 1, "\n")] = 0;
        snprintf(modules[module_count].allowed, sizeof modules->allowed, " %.250s ", colon + 1);
        for (char *m = colon + 1; *(m += strspn(m, " ")); m += strcspn(m, " ")) {
            size_t count = strcspn(m, " ");
            if (module_index(m, count) < 0)
                complain("src/LAYERS", number, "%s names %.*s, which is not above it: reorder",
                         line, (int)count, m);
        }
        snprintf(modules[module_count++].name, sizeof modules->name, "%.31s", line);
    }
    fclose(file);
}

/* The module whose rules hold for a file: its folder in src/, or what the test is named after. */
static int module_of(const char *path)
{
    if (begins(path, "src/"))
        return module_index(path + 4, strcspn(path + 4, "/"));
    if (begins(path, "tests/unit/") || begins(path, "tests/fuzz/")) {
        const char *name = last_part(path);
        return module_index(name, strcspn(name, "_."));
    }
    return -1;
}

static void check_quoted_include(const struct file *file, int line, const char *target)
{
    const char *path = file->path, *slash = strchr(target, '/');
    bool in_source = begins(path, "src/");
    int module = module_of(path);
    if (begins(path, "include/")) {
        if (!begins(target, "akin/"))
            complain(path, line, "public header includes \"%s\": use akin/ headers only", target);
        return;
    }
    if (!slash) {
        if (in_source && !is_allowed(path, target))
            complain(path, line, "\"%s\" names no module: use \"module/%s\"", target, target);
        return;
    }
    size_t count = (size_t)(slash - target);
    if (begins(target, "akin/")) {
        if (in_source && module == 0 && !matches("akin/status.h akin/engine.h", target))
            complain(path, line, "%s may not include %s: use akin/status.h or akin/engine.h",
                     modules[0].name, target);
        return;
    }
    if (module < 0 || module_index(target, count) == module)
        return;
    char wanted[64];
    snprintf(wanted, sizeof wanted, " %.*s ", (int)count, target);
    if ((in_source || module_index(target, count) >= 0) && !strstr(modules[module].allowed, wanted))
        complain(path, line, "%s may not include %s: use what src/LAYERS allows (%s)",
                 modules[module].name, target, modules[module].allowed);
}

static void check_angle_include(const struct file *file, int line, const char *target)
{
    if (begins(file->path, "include/")) {
        if (!matches("stdbool.h stddef.h stdint.h", target))
            complain(file->path, line, "public header includes <%s>: use stdbool.h, stddef.h, "
                     "stdint.h only", target);
        return;
    }
    if (!begins(file->path, "src/"))
        return;
    for (size_t i = 0; i < sizeof header_rules / sizeof *header_rules; i++)
        if (matches(header_rules[i].names, target) && !matches(header_rules[i].homes, file->path)
            && !is_allowed(file->path, target))
            complain(file->path, line, "<%s> lives in %s: use %s", target, header_rules[i].homes,
                     header_rules[i].instead);
}

static void check_includes(struct file *file)
{
    for (const char *at = file->code; (at = strstr(at, "#include")); at++) {
        const char *open = file->text + (at - file->code) + strlen("#include");
        open += strspn(open, " ");
        char close = *open == '<' ? '>' : '"', target[256];
        const char *end = *open ? strchr(open + 1, close) : NULL;
        if (!end || (*open != '<' && *open != '"') || end - open >= (int)sizeof target)
            continue;
        snprintf(target, sizeof target, "%.*s", (int)(end - open - 1), open + 1);
        int line = line_of(file->code, at);
        if (close == '>') {
            check_angle_include(file, line, target);
        } else {
            check_quoted_include(file, line, target);
            if (file->include_count < INCLUDES_MAX)
                file->includes[file->include_count++] = must(strdup(target));
        }
    }
}

/* ---- homes ------------------------------------------------------------------------------ */

static void check_call(const struct file *file, const struct rule *rules, size_t count,
                       const char *name, int line)
{
    for (size_t i = 0; i < count; i++) {
        const struct rule *rule = &rules[i];
        if (!matches(rule->names, name) || matches(rule->homes, file->path)
            || is_allowed(file->path, name))
            continue;
        if (rule->homes[0])
            complain(file->path, line, "%s() lives in %s: use %s", name, rule->homes,
                     rule->instead);
        else
            complain(file->path, line, "%s() is banned: use %s", name, rule->instead);
    }
}

/* Every name that an opening parenthesis follows, members such as list->free( left out. */
static void check_calls(const struct file *file)
{
    const char *at = file->code;
    while (*at) {
        if (!is_word(*at)) {
            at++;
            continue;
        }
        const char *start = at;
        while (is_word(*at))
            at++;
        bool member = start > file->code + 1
                      && (start[-1] == '.' || (start[-1] == '>' && start[-2] == '-'));
        if (at[strspn(at, " ")] != '(' || member || at - start > 63)
            continue;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(at - start), start);
        int line = line_of(file->code, start);
        check_call(file, banned_rules, sizeof banned_rules / sizeof *banned_rules, name, line);
        if (begins(file->path, "src/"))
            check_call(file, call_rules, sizeof call_rules / sizeof *call_rules, name, line);
    }
}

/* ---- measure ---------------------------------------------------------------------------- */

static void check_lines(const struct file *file)
{
    int number = 0;
    const char *end;
    for (const char *line = file->text; *line; line = *end ? end + 1 : end) {
        number++;
        end = line + strcspn(line, "\n");
        int columns = 0;
        for (const char *c = line; c < end; c++)
            columns += ((unsigned char)*c & 0xC0) != 0x80;      /* code points, not bytes */
        if (columns > COLUMNS_MAX)
            complain(file->path, number, "%d columns: use at most %d", columns, COLUMNS_MAX);
        if (end > line && strchr(" \r", end[-1]))
            complain(file->path, number, "trailing blank: remove it");
        if (memchr(line, '\t', (size_t)(end - line)))
            complain(file->path, number, "tab: use blanks");
        if (!*end)
            complain(file->path, number, "no newline at the end: add one");
    }
    if (number > FILE_LINES_MAX && !is_allowed(file->path, "lines"))
        complain(file->path, number, "%d lines: split the file, at most %d", number,
                 FILE_LINES_MAX);
}

/* The name of the function whose body opens at `brace`: what stands before the first parenthesis
 * of its declaration, which begins behind a blank line, a directive or the end of something. */
static void function_name(const char *code, const char *brace, char *name, size_t bytes)
{
    const char *start = brace;
    while (start > code) {
        const char *line = start - 1;
        while (line > code && line[-1] != '\n')
            line--;
        if (strchr("\n#}", *line) || memchr(line, ';', (size_t)(start - line)))
            break;
        start = line;
    }
    const char *open = start + strcspn(start, "(");
    const char *first = open;
    while (first > start && is_word(first[-1]))
        first--;
    snprintf(name, bytes, "%.*s", (int)(open - first), first);
}

/* A function's body is from a "{" to a "}" that stand in the first column. */
static void check_functions(const struct file *file)
{
    int number = 0, opened = 0;
    char name[128];
    const char *end;
    for (const char *line = file->code; *line; line = *end ? end + 1 : end) {
        number++;
        end = line + strcspn(line, "\n");
        if (*line == '{') {
            opened = number;
            function_name(file->code, line, name, sizeof name);
        } else if (*line == '}' && opened) {
            int count = number - opened + 1;
            if (count > FUNCTION_LINES_MAX && !is_allowed(file->path, name))
                complain(file->path, opened, "%s has %d lines: split it, at most %d", name, count,
                         FUNCTION_LINES_MAX);
            opened = 0;
        } else if (is_word(*line) && end - line > 3 && !strncmp(end - 3, ") {", 3)
                   && !begins(line, "extern")) {
            complain(file->path, number, "brace of a function: put it on a line of its own");
        }
    }
}

/* ---- tree ------------------------------------------------------------------------------- */

static void check_listed(const char *root, const struct file *file)
{
    char path[4096], list[512];
    const char *module = file->path + 4, *inside = strchr(module, '/');
    if (!inside)
        return;
    snprintf(list, sizeof list, "src/%.*s/CMakeLists.txt", (int)(inside - module), module);
    snprintf(path, sizeof path, "%s/%s", root, list);
    char *text = read_text(path);
    size_t count = strlen(++inside);
    bool found = false;
    for (const char *at = text; at && !found && (at = strstr(at, inside)); at++)
        found = (at == text || strchr(" \n(/", at[-1])) && strchr(" \n)", at[count]);
    if (!found)
        complain(file->path, 1, "not built: name it in %s", list);
    free(text);
}

static bool is_included(const struct file *header)
{
    const char *name = header->path + (begins(header->path, "src/") ? 4 : strlen("include/"));
    for (size_t i = 0; i < file_count; i++)
        for (size_t j = 0; j < files[i].include_count; j++)
            if (&files[i] != header && !strcmp(files[i].includes[j], name))
                return true;
    return false;
}

static struct file *find_header(const char *name)
{
    for (size_t i = 0; i < file_count; i++) {
        const char *path = files[i].path;
        if ((begins(path, "src/") && !strcmp(path + 4, name))
            || (begins(path, "include/") && !strcmp(path + 8, name)))
            return &files[i];
    }
    return NULL;
}

static void check_cycle(struct file *file)
{
    file->mark = 1;     /* on the way */
    for (size_t i = 0; i < file->include_count; i++) {
        struct file *next = find_header(file->includes[i]);
        if (next && next->mark == 1)
            complain(file->path, 1, "cycle of includes through %s: move what both need below",
                     next->path);
        else if (next && next->mark == 0)
            check_cycle(next);
    }
    file->mark = 2;     /* done */
}

static void check_tree(const char *root)
{
    for (size_t i = 0; i < file_count; i++) {
        struct file *file = &files[i];
        bool in_source = begins(file->path, "src/"), header = ends(file->path, ".h");
        if (in_source && strchr(file->path + 4, '/') && module_of(file->path) < 0)
            complain(file->path, 1, "its module is unknown: name it in src/LAYERS");
        for (size_t j = 0; in_source && j < i; j++)
            if (begins(files[j].path, "src/")
                && !strcmp(last_part(files[j].path), last_part(file->path)))
                complain(file->path, 1, "same name as %s: rename one", files[j].path);
        if (in_source && !header)
            check_listed(root, file);
        bool wanted = in_source || begins(file->path, "include/");
        if (header && wanted && !ends(file->path, "/akin/akin.h") && !is_included(file))
            complain(file->path, 1, "nobody includes it: remove it");
        if (file->mark == 0)
            check_cycle(file);
    }
}

/* ---- reading ---------------------------------------------------------------------------- */

/* Blanks comments and what stands between quotes; newlines stay. */
static void blank_literals(char *code)
{
    char inside = 0;        /* '/' line comment, '*' block comment, or the quote that ends it */
    for (char *c = code; *c; c++) {
        char here = *c;
        if (!inside) {
            if (here == '/' && (c[1] == '/' || c[1] == '*'))
                inside = c[1], *c = ' ', *++c = ' ';
            else if (here == '"' || (here == '\'' && !(c > code && isdigit((unsigned char)c[-1]))))
                inside = here;
            continue;
        }
        if (here == '\n') {
            if (inside != '*')
                inside = 0;
            continue;
        }
        *c = ' ';
        if (inside == '*' && here == '*' && c[1] == '/')
            *++c = ' ', inside = 0;
        else if ((inside == '"' || inside == '\'') && here == '\\' && c[1] && c[1] != '\n')
            *++c = ' ';
        else if ((inside == '"' || inside == '\'') && here == inside)
            *c = here, inside = 0;
    }
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct file *)a)->path, ((const struct file *)b)->path);
}

static void read_tree(const char *root, const char *folder)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", root, folder);
    DIR *entries = opendir(path);
    struct dirent *entry;
    while (entries && (entry = readdir(entries))) {
        char inner[2048];
        struct stat info;
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", folder, entry->d_name);
        snprintf(path, sizeof path, "%s/%s", root, inner);
        if (stat(path, &info))
            continue;
        if (S_ISDIR(info.st_mode)) {
            read_tree(root, inner);
        } else if (ends(inner, ".cu") || ends(inner, ".cuh") || ends(inner, ".cc")) {
            struct file file = { .path = inner, .text = must(read_text(path)) };
            check_lines(&file);         /* C++: the rest is about C */
            free(file.text);
        } else if ((ends(inner, ".c") || ends(inner, ".h")) && file_count < FILES_MAX) {
            struct file *file = &files[file_count++];
            file->path = must(strdup(inner));
            file->text = must(read_text(path));
            file->code = must(strdup(file->text));
            blank_literals(file->code);
        }
    }
    if (entries)
        closedir(entries);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: tidy ROOT\n");
        return 2;
    }
    static const char *const folders[] = {"src", "include", "tests", "bench"};
    read_layers(argv[1]);
    read_allowed(argv[1]);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        read_tree(argv[1], folders[i]);
    qsort(files, file_count, sizeof *files, by_path);
    for (size_t i = 0; i < file_count; i++) {
        check_lines(&files[i]);
        check_includes(&files[i]);
        check_calls(&files[i]);
        if (begins(files[i].path, "src/"))
            check_functions(&files[i]);
    }
    check_tree(argv[1]);
    check_allowed();
    printf("tidy: %zu files, %d errors\n", file_count, errors);
    return errors != 0;
}
