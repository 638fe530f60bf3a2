/* The parent's side of the pipe: see hdf5_input.h; hdf5_child.c is the other side. */
#include "cli/hdf5_input.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/memory.h"
#include "cli/hdf5_child.h"

struct hdf5_input {
    struct hdf5_header header;
    char path[1024];
    size_t row_bytes, rows_left;
    int pipe;
    pid_t child;
};

#ifndef AKIN_HAVE_HDF5

enum akin_status hdf5_open(const char *path, const char *dataset, enum hdf5_type type,
                           struct hdf5_input **input, struct akin_error *error)
{
    (void)dataset, (void)type, (void)input;
    return error_set(error, AKIN_UNSUPPORTED,
                     "%s: this program was built without HDF5; install libhdf5-dev and build "
                     "again, or save the dataset with numpy as a .npy file",
                     path);
}

#else

/* The child needs nothing of ours but its end of the pipe. */
static enum akin_status start(struct hdf5_input *input, const char *path, const char *dataset,
                              enum hdf5_type type, struct akin_error *error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return error_system(error, "%s: pipe", path);
    fcntl(ends[0], F_SETPIPE_SZ, HDF5_BLOCK_BYTES);
    pid_t child = fork();
    if (child < 0) {
        enum akin_status status = error_system(error, "%s: fork", path);
        close(ends[0]);
        close(ends[1]);
        return status;
    }
    if (child == 0) {
        close(ends[0]);
        hdf5_child_run(path, dataset, type, ends[1]);
        _exit(0);
    }
    close(ends[1]);
    input->pipe = ends[0];
    input->child = child;
    return AKIN_OK;
}

#endif

/* Ends the child and returns how it ended. */
static int reap(struct hdf5_input *input)
{
    int ended = 0;
    if (input->child <= 0)
        return 0;
    while (waitpid(input->child, &ended, 0) < 0 && errno == EINTR)
        ;
    input->child = 0;
    return ended;
}

static enum akin_status tell_end(struct hdf5_input *input, struct akin_error *error)
{
    int ended = reap(input);
    if (WIFSIGNALED(ended) && WTERMSIG(ended) == SIGXCPU)
        return error_set(error, AKIN_FORMAT,
                         "%s: the HDF5 library did not come to an end: the file is damaged",
                         input->path);
    if (WIFSIGNALED(ended))
        return error_set(error, AKIN_FORMAT,
                         "%s: the HDF5 library crashed (signal %d): the file is damaged",
                         input->path, WTERMSIG(ended));
    return error_set(error, AKIN_FORMAT,
                     "%s: the HDF5 library could not read the data: the file is cut short or "
                     "damaged, or its filter is not built in; rewrite it with h5repack -f NONE",
                     input->path);
}

static enum akin_status receive(struct hdf5_input *input, void *out, size_t bytes,
                                struct akin_error *error)
{
    for (char *at = out; bytes > 0;) {
        ssize_t got = read(input->pipe, at, bytes);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_system(error, "%s: reading from the HDF5 process", input->path);
        if (got == 0)
            return tell_end(input, error);
        at += got;
        bytes -= (size_t)got;
    }
    return AKIN_OK;
}

#ifdef AKIN_HAVE_HDF5

static enum akin_status receive_header(struct hdf5_input *input, enum hdf5_type type,
                                       struct akin_error *error)
{
    struct hdf5_header *h = &input->header;
    TRY(receive(input, h, sizeof *h, error));
    /* A child whose memory a damaged file has overwritten may send anything. */
    h->message[sizeof h->message - 1] = 0;
    h->distance[sizeof h->distance - 1] = 0;
    if (h->status != AKIN_OK && h->status < AKIN_STATUS_COUNT)
        return error_set(error, (enum akin_status)h->status, "%s: %s", input->path, h->message);
    size_t item = type == HDF5_FLOAT32 ? sizeof(float) : sizeof(int64_t), bytes;
    if (h->magic != HDF5_MAGIC || h->status != AKIN_OK || h->columns < 1 ||
        h->columns > DIMENSION_MAX || !size_mul(h->rows, h->columns, &bytes) ||
        !size_mul(bytes, item, &bytes))
        return error_set(error, AKIN_FORMAT, "%s: the file is damaged", input->path);
    input->row_bytes = h->columns * item;
    input->rows_left = h->rows;
    return AKIN_OK;
}

enum akin_status hdf5_open(const char *path, const char *dataset, enum hdf5_type type,
                           struct hdf5_input **out, struct akin_error *error)
{
    size_t length = strlen(path);
    struct hdf5_input *input = memory_alloc(1, sizeof *input);
    if (!input)
        return error_memory(error);
    if (length >= sizeof input->path)
        length = sizeof input->path - 1;
    memcpy(input->path, path, length);
    input->pipe = -1;
    enum akin_status status = start(input, path, dataset, type, error);
    if (status == AKIN_OK)
        status = receive_header(input, type, error);
    if (status == AKIN_OK)
        *out = input;
    else
        hdf5_close(&input);
    return status;
}

#endif

size_t hdf5_rows(const struct hdf5_input *input)
{
    return input->header.rows;
}

size_t hdf5_columns(const struct hdf5_input *input)
{
    return input->header.columns;
}

const char *hdf5_distance(const struct hdf5_input *input)
{
    return input->header.distance;
}

enum akin_status hdf5_read(struct hdf5_input *input, void *rows, size_t count,
                           struct akin_error *error)
{
    ASSERT(count <= input->rows_left);
    TRY(receive(input, rows, count * input->row_bytes, error));
    input->rows_left -= count;
    return AKIN_OK;
}

void hdf5_close(struct hdf5_input **input)
{
    if (!*input)
        return;
    if ((*input)->pipe >= 0)
        close((*input)->pipe);
    if ((*input)->child > 0)
        kill((*input)->child, SIGKILL);
    reap(*input);
    memory_free(*input);
    *input = NULL;
}
