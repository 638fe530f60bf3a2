/* Reads a dataset with libhdf5, in a process of its own: see hdf5_input.h. The file decides nothing
 * but its own data: no other files are followed, no plugins loaded, no time or memory without
 * bound. */
#include "cli/hdf5_child.h"

#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/memory.h"

/* CPU seconds for opening, and as many again for each block: thousands of times what they take. */
enum { PATIENCE_S = 20, CHUNK_BYTES_MAX = 1 << 28 };

struct child {
    int pipe;
    enum hdf5_type type;
    struct hdf5_header header;
    hid_t file, set, set_type, space, layout;
    rlim_t cpu_s;
};

static void more_time(struct child *c)
{
    struct rlimit limit = {.rlim_cur = c->cpu_s += PATIENCE_S, .rlim_max = RLIM_INFINITY};
    struct rlimit now;
    if (getrlimit(RLIMIT_CPU, &now) == 0) {
        limit.rlim_max = now.rlim_max;
        setrlimit(RLIMIT_CPU, &limit);
    }
}

static bool send(const struct child *c, const void *bytes, size_t count)
{
    for (const char *at = bytes; count > 0;) {
        ssize_t sent = write(c->pipe, at, count);
        if (sent < 0)
            return false;
        at += sent;
        count -= (size_t)sent;
    }
    return true;
}

__attribute__((format(printf, 3, 4))) static bool refuse(struct child *c, enum akin_status status,
                                                         const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->header.message, sizeof c->header.message, format, arguments);
    va_end(arguments);
    c->header.status = status;
    return false;
}

/* ---- attributes and names ---------------------------------------------------------------- */

/* A short text attribute of the file, of fixed or variable length; "" where there is none. */
static void read_attribute(hid_t file, const char *name, char *text, size_t bytes)
{
    *text = 0;
    if (H5Aexists(file, name) <= 0)
        return;
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    hid_t type = attribute >= 0 ? H5Aget_type(attribute) : -1;
    hid_t space = attribute >= 0 ? H5Aget_space(attribute) : -1;
    bool one = type >= 0 && H5Tget_class(type) == H5T_STRING && space >= 0 &&
               H5Sget_simple_extent_npoints(space) == 1;
    if (one && H5Tis_variable_str(type) > 0) {
        char *value = NULL;
        hid_t memory = H5Tcopy(H5T_C_S1);
        H5Tset_size(memory, H5T_VARIABLE);
        H5Tset_cset(memory, H5Tget_cset(type));
        if (H5Aread(attribute, memory, &value) >= 0 && value)
            snprintf(text, bytes, "%s", value);
    } else if (one && H5Tget_size(type) < bytes) {
        char value[64] = {0};
        if (H5Tget_size(type) < sizeof value && H5Aread(attribute, type, value) >= 0)
            snprintf(text, bytes, "%s", value);
    }
    for (char *at = text; *at; at++)
        if (*at < ' ' || *at > '~')
            *at = '?';
}

struct listing {
    char text[300];
    size_t used;
};

static herr_t list_name(hid_t group, const char *name, const H5L_info_t *info, void *context)
{
    struct listing *l = context;
    (void)group;
    if (info->type == H5L_TYPE_HARD && strlen(name) < 60 && l->used < sizeof l->text - 64)
        l->used += (size_t)snprintf(l->text + l->used, sizeof l->text - l->used, "%s%s",
                                    l->used ? ", " : "", name);
    return 0;
}

static bool open_set(struct child *c, const char *dataset)
{
    H5L_info_t link;
    if (H5Lexists(c->file, dataset, H5P_DEFAULT) <= 0) {
        struct listing l = {{0}, 0};
        H5Literate(c->file, H5_INDEX_NAME, H5_ITER_INC, NULL, list_name, &l);
        return refuse(c, AKIN_NOT_FOUND, "no dataset '%.80s' in it%s%s", dataset,
                      l.used ? "; there are: " : "", l.text);
    }
    if (H5Lget_info(c->file, dataset, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD)
        return refuse(c, AKIN_UNSUPPORTED,
                      "'%.80s' is a link to elsewhere; name the dataset itself", dataset);
    c->set = H5Dopen2(c->file, dataset, H5P_DEFAULT);
    if (c->set < 0)
        return refuse(c, AKIN_FORMAT, "'%.80s' cannot be opened: it is damaged, or no dataset",
                      dataset);
    return true;
}

/* ---- what is taken ----------------------------------------------------------------------- */

static bool check_layout(struct child *c, const char *dataset)
{
    c->layout = H5Dget_create_plist(c->set);
    H5D_layout_t layout = c->layout >= 0 ? H5Pget_layout(c->layout) : H5D_LAYOUT_ERROR;
    if (layout == H5D_VIRTUAL || (c->layout >= 0 && H5Pget_external_count(c->layout) != 0))
        return refuse(c, AKIN_UNSUPPORTED,
                      "'%.80s' keeps its data in other files; copy it into one with h5repack",
                      dataset);
    if (layout == H5D_CHUNKED) {
        hsize_t chunk[2];
        size_t bytes;
        if (H5Pget_chunk(c->layout, 2, chunk) != 2 || !size_mul(chunk[0], chunk[1], &bytes) ||
            !size_mul(bytes, H5Tget_size(c->set_type), &bytes) || bytes > CHUNK_BYTES_MAX)
            return refuse(c, AKIN_LIMIT, "'%.80s': chunks of more than %d MiB; use h5repack",
                          dataset, CHUNK_BYTES_MAX >> 20);
    } else if (layout != H5D_CONTIGUOUS && layout != H5D_COMPACT) {
        return refuse(c, AKIN_FORMAT, "'%.80s': the layout cannot be read", dataset);
    }
    if (c->header.rows > 0 && H5Dget_storage_size(c->set) == 0)
        return refuse(c, AKIN_FORMAT, "'%.80s' claims %zu rows, and holds none", dataset,
                      c->header.rows);
    return true;
}

static bool check_type(struct child *c, const char *dataset)
{
    c->set_type = H5Dget_type(c->set);
    H5T_class_t class = c->set_type >= 0 ? H5Tget_class(c->set_type) : H5T_NO_CLASS;
    size_t bytes = c->set_type >= 0 ? H5Tget_size(c->set_type) : 0;
    if (c->type == HDF5_INT64 && class != H5T_INTEGER)
        return refuse(c, AKIN_UNSUPPORTED, "'%.80s' does not hold integers, expected ids", dataset);
    if (c->type == HDF5_FLOAT32 && class == H5T_INTEGER && bytes > 2)
        return refuse(c, AKIN_UNSUPPORTED,
                      "'%.80s' holds integers of %zu bytes, expected vectors of float32", dataset,
                      bytes);
    if ((class != H5T_INTEGER && class != H5T_FLOAT) || bytes < 1 || bytes > 8)
        return refuse(c, AKIN_UNSUPPORTED,
                      "'%.80s' does not hold plain numbers of at most 8 bytes, such as float32",
                      dataset);
    return true;
}

static bool check_shape(struct child *c, const char *dataset)
{
    char kind[32];
    hsize_t shape[2];
    c->space = H5Dget_space(c->set);
    int dims = c->space >= 0 ? H5Sget_simple_extent_ndims(c->space) : -1;
    read_attribute(c->file, "type", kind, sizeof kind);
    if (strcmp(kind, "sparse") == 0 || (dims == 1 && H5Lexists(c->file, "size_train", 0) > 0))
        return refuse(c, AKIN_UNSUPPORTED,
                      "sparse sets are not supported: vectors of one dimension each are expected");
    if (dims != 2)
        return refuse(c, AKIN_UNSUPPORTED,
                      "'%.80s' has %d dimensions, expected two: [rows][dimension]", dataset, dims);
    if (H5Sget_simple_extent_dims(c->space, shape, NULL) != 2 || shape[1] < 1 ||
        shape[1] > DIMENSION_MAX || shape[0] > SIZE_MAX / 8 / DIMENSION_MAX)
        return refuse(
            c, AKIN_FORMAT, "'%.80s' claims [%llu][%llu]; rows of 1 to %d dimensions are expected",
            dataset, (unsigned long long)shape[0], (unsigned long long)shape[1], DIMENSION_MAX);
    c->header.rows = shape[0];
    c->header.columns = shape[1];
    return true;
}

static bool open_all(struct child *c, const char *path, const char *dataset)
{
    H5dont_atexit();
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    c->file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    if (c->file < 0)
        return refuse(c, AKIN_FORMAT, "not an HDF5 file that can be read: it is damaged, cut short "
                                      "or still open in another program");
    read_attribute(c->file, "distance", c->header.distance, sizeof c->header.distance);
    return open_set(c, dataset) && check_shape(c, dataset) && check_type(c, dataset) &&
           check_layout(c, dataset);
}

/* ---- rows -------------------------------------------------------------------------------- */

static void send_rows(struct child *c)
{
    hid_t memory_type = c->type == HDF5_FLOAT32 ? H5T_NATIVE_FLOAT : H5T_NATIVE_INT64;
    size_t row_bytes = c->header.columns * (c->type == HDF5_FLOAT32 ? 4 : 8);
    size_t block = HDF5_BLOCK_BYTES / row_bytes > 0 ? HDF5_BLOCK_BYTES / row_bytes : 1;
    void *rows = memory_alloc(block, row_bytes);
    for (size_t row = 0; rows && row < c->header.rows; row += block) {
        hsize_t count[2] = {c->header.rows - row < block ? c->header.rows - row : block,
                            c->header.columns};
        hsize_t at[2] = {row, 0};
        hid_t memory = H5Screate_simple(2, count, NULL);
        more_time(c);
        bool read = memory >= 0 &&
                    H5Sselect_hyperslab(c->space, H5S_SELECT_SET, at, NULL, count, NULL) >= 0 &&
                    H5Dread(c->set, memory_type, memory, c->space, H5P_DEFAULT, rows) >= 0;
        if (!read || !send(c, rows, (size_t)count[0] * row_bytes))
            break; /* the reader sees too few rows */
        H5Sclose(memory);
    }
    memory_free(rows);
}

void hdf5_child_run(const char *path, const char *dataset, enum hdf5_type type, int pipe)
{
    static const int own[] = {SIGPIPE, SIGXCPU, SIGSEGV, SIGBUS, SIGABRT, SIGFPE, SIGILL};
    struct child c = {.pipe = pipe, .type = type, .header = {.magic = HDF5_MAGIC}};
    struct rlimit no_core = {0, 0};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        signal(own[i], SIG_DFL);
    setrlimit(RLIMIT_CORE, &no_core);
    more_time(&c);
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) { /* what the C library or a sanitizer says of a crash is not for the user */
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
    }
    bool opened = open_all(&c, path, dataset);
    if (send(&c, &c.header, sizeof c.header) && opened)
        send_rows(&c);
}
