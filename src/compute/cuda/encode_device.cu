// The CUDA encoder: its weights in fp16 or bytes on a card, and streams that run batches. A batch
// goes up as one block and comes back as one; a few texts at a time are played from recordings,
// which are made for a number of tokens rounded up.
#include "compute/cuda/cuda_devices.h"

#include <cstring>
#include <new>
#include <vector>

#include "compute/cuda/encode_cuda.cuh"

namespace {

struct layer {
    std::vector<float> inverse[ENCODER_LINEARS];        // equalisers, until the weights come
    encode_linear linears[ENCODER_LINEARS];
    encode_norm norms[ENCODER_NORMS];
};

// What is recorded: batches of up to so many tokens and sequences.
enum { RECORDED_TOKENS = 512, RECORDED_TOKENS_MIN = 32, RECORDED_SEQUENCES = 8 };
// Tokens of a full batch: 66 tiles of 128 rows or 132 of 64, a whole number of rounds on 132
// processors for all products but qkv (docs/decisions/032-several-cards.md).
enum { BATCH_TOKENS = 8448, STREAMS = 3 };

size_t round_up(size_t n, size_t unit)
{
    return (n + unit - 1) / unit * unit;
}

}

struct encoder_device {
    platform *home;
    int ordinal;
    struct encoder_shape shape;
    encode_tables tables;
    std::vector<layer> layers;
    std::vector<void *> memory;         // all of it
};

// Where the parts of a batch lie in one block; the same on both sides.
struct batch_layout {
    size_t tokens, sequences, tiles;    // room for so many
    size_t ids, positions, offsets, queries, bytes;
};

struct encoder_stream {
    struct encoder_device *device;
    platform *own;
    size_t tokens_max, sequences_max;
    unsigned char *sent, *received;     // pinned memory of the host
    unsigned char *block;               // on the device
    half_t *x;                          // [rows][hidden]
    float *sums;                        // [][hidden] of as many rows as need them
    encode_narrowing narrow;            // of x, in bytes
    // One behind the other, never together, and so in one place: what attention has, what the
    // feed-forward part has, and at the end what texts come to.
    unsigned char *shared;
    half_t *qkv, *context;              // [rows][3 hidden], [rows][hidden]
    half_t *wide;                       // [rows][intermediate], or in bytes
    encode_groups groups;
    float *vectors;                     // [sequences][hidden]
    enum { COLD, WARM, RECORDED } recordings[RECORDINGS];   // warm: its kernels are loaded
};

namespace {

// ---- weights -----------------------------------------------------------------------------------

enum akin_status allocate(struct encoder_device *d, size_t bytes, void **memory,
                          struct akin_error *error)
{
    enum akin_status status = platform_allocate(d->home, bytes, memory, error);
    if (status != AKIN_OK || within_memory([&] { d->memory.push_back(*memory); }))
        return status;
    platform_release(d->home, *memory);
    return error_memory(error);
}

enum akin_status put_floats(struct encoder_device *d, const float *values, size_t count,
                            const float **on_device, struct akin_error *error)
{
    void *memory;
    enum akin_status status = allocate(d, count * sizeof(float), &memory, error);
    if (status != AKIN_OK)
        return status;
    platform_upload(d->home, memory, values, count * sizeof(float));
    *on_device = static_cast<const float *>(memory);
    return platform_finish(d->home, error);
}

// As fp16; a number beyond its range is told, since every vector would be wrong.
enum akin_status put_halves(struct encoder_device *d, const struct host_matrix *matrix,
                            const half_t **on_device, struct akin_error *error)
{
    size_t count = matrix->rows * matrix->cols;
    void *memory;
    enum akin_status status = allocate(d, count * sizeof(half_t), &memory, error);
    if (status != AKIN_OK)
        return status;
    const size_t rows_together = matrix->rows < 4096 ? matrix->rows : 4096;
    std::vector<float> wide;
    std::vector<half_t> narrow;
    if (!within_memory([&] {
            wide.resize(rows_together * matrix->cols);
            narrow.resize(wide.size());
        }))
        return error_memory(error);
    for (size_t row = 0; row < matrix->rows; row += rows_together) {
        size_t rows = matrix->rows - row < rows_together ? matrix->rows - row : rows_together;
        struct host_matrix part = *matrix;
        part.data = static_cast<const unsigned char *>(matrix->data)
                    + row * matrix->cols * element_bytes(matrix->type);
        part.rows = rows;
        host_matrix_to_f32(&part, wide.data());
        for (size_t i = 0; i < rows * matrix->cols; i++) {
            if (!(fabsf(wide[i]) < 65504.0f))
                return error_set(error, AKIN_UNSUPPORTED, "a weight of %g is beyond the range of "
                                 "fp16: use --device cpu", (double)wide[i]);
            narrow[i] = from_float<half_t>(wide[i]);
        }
        platform_upload(d->home, static_cast<half_t *>(memory) + row * matrix->cols, narrow.data(),
                        rows * matrix->cols * sizeof(half_t));
        status = platform_finish(d->home, error);       // before `narrow` is written again
        if (status != AKIN_OK)
            return status;
    }
    *on_device = static_cast<const half_t *>(memory);
    return AKIN_OK;
}

enum akin_status check_shape(const struct encoder_shape *s, struct akin_error *error)
{
    size_t dim = s->heads > 0 ? s->hidden / s->heads : 0;
    if (s->hidden % ENCODE_COLUMN_UNIT || s->hidden > ENCODE_HIDDEN_MAX || s->hidden == 0)
        return error_set(error, AKIN_UNSUPPORTED, "hidden size %zu: on the GPU it is a multiple of "
                         "%d up to %d; use --device cpu", s->hidden, ENCODE_COLUMN_UNIT,
                         ENCODE_HIDDEN_MAX);
    if (s->intermediate % ENCODE_COLUMN_UNIT || s->intermediate == 0)
        return error_set(error, AKIN_UNSUPPORTED, "intermediate size %zu: on the GPU it is a "
                         "multiple of %d; use --device cpu", s->intermediate, ENCODE_COLUMN_UNIT);
    if (s->precision != COMPUTE_FP16 && s->precision != COMPUTE_INT8)
        return error_set(error, AKIN_UNSUPPORTED, "on the GPU a model computes in fp16 or int8; "
                         "use --device cpu");
    if (s->precision == COMPUTE_INT8 && (s->hidden % ENCODE_BYTES_UNIT ||
                                         s->intermediate % ENCODE_BYTES_UNIT))
        return error_set(error, AKIN_UNSUPPORTED, "hidden size %zu, intermediate size %zu: in int8 "
                         "on the GPU they are multiples of %d; use --precision fp16", s->hidden,
                         s->intermediate, ENCODE_BYTES_UNIT);
    if ((dim != 32 && dim != 64) || dim * s->heads != s->hidden)
        return error_set(error, AKIN_UNSUPPORTED, "%zu heads over %zu columns: on the GPU a head "
                         "has 32 or 64; use --device cpu", s->heads, s->hidden);
    return AKIN_OK;
}

bool is_narrow(const struct encoder_device *d, enum encoder_linear which)
{
    return d->shape.precision == COMPUTE_INT8 && which != ENCODER_ATTENTION_OUTPUT;
}

// A row of weights over `equalized` on 255 levels; false: one is not finite.
bool narrow_weights(const float *weights, const float *inverse, size_t count, int8_t *bytes,
                    float *step, float *sum)
{
    float largest = 0;
    int32_t total = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(weights[i] / inverse[i]) < 1e30f))
            return false;
        largest = fmaxf(largest, fabsf(weights[i] / inverse[i]));
    }
    *step = fmaxf(largest / 127, 1e-30f);
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (int8_t)lrintf(weights[i] / inverse[i] / *step);
        total += bytes[i];
    }
    *sum = *step * (float)total;
    return true;
}

enum akin_status put_bytes(struct encoder_device *d, const void *bytes, size_t count,
                           const void **on_device, struct akin_error *error)
{
    void *memory;
    enum akin_status status = allocate(d, count, &memory, error);
    if (status != AKIN_OK)
        return status;
    platform_upload(d->home, memory, bytes, count);
    *on_device = memory;
    return platform_finish(d->home, error);
}

// As bytes, with what their products need beside.
enum akin_status put_narrow(struct encoder_device *d, enum encoder_linear which,
                            const struct host_matrix *weight, const float *bias,
                            std::vector<float> &inverse, encode_linear *linear,
                            struct akin_error *error)
{
    size_t rows = weight->rows, cols = weight->cols;
    std::vector<float> wide, step, sum, whole_bias;
    std::vector<int8_t> bytes;
    if (!within_memory([&] {
            wide.resize(rows * cols);
            bytes.resize(rows * cols);
            step.resize(rows);
            sum.resize(rows);
            whole_bias.assign(bias, bias + rows);
            inverse.resize(cols, 1.0f);
        }))
        return error_memory(error);
    host_matrix_to_f32(weight, wide.data());
    for (size_t r = 0; r < rows; r++) {
        if (!narrow_weights(&wide[r * cols], inverse.data(), cols, &bytes[r * cols], &step[r],
                            &sum[r]))
            return error_set(error, AKIN_UNSUPPORTED, "output %zu has a weight that is not finite: "
                             "\"akin model check\" says where", r);
        if (which == ENCODER_OUTPUT)            // bytes stand for what is above GELU's least
            whole_bias[r] += GELU_LEAST * sum[r];
    }
    const void *on_device = nullptr;
    enum akin_status status = put_bytes(d, bytes.data(), bytes.size(), &on_device, error);
    linear->bytes = static_cast<const int8_t *>(on_device);
    if (status == AKIN_OK)
        status = put_floats(d, step.data(), rows, &linear->step, error);
    if (status == AKIN_OK)
        status = put_floats(d, sum.data(), rows, &linear->sum, error);
    if (status == AKIN_OK)
        status = put_floats(d, whole_bias.data(), rows, &linear->bias, error);
    if (status != AKIN_OK)
        return status;
    return put_floats(d, inverse.data(), cols, &linear->inverse, error);
}

void destroy(struct encoder_device **device)
{
    struct encoder_device *d = *device;
    if (!d)
        return;
    if (d->home) {
        platform_enter(d->home);
        for (void *each : d->memory)
            platform_release(d->home, each);
        platform_close(d->home);
    }
    delete d;
    *device = nullptr;
}

enum akin_status put_tables(struct encoder_device *d, const struct embedding_tables *tables,
                            struct akin_error *error)
{
    struct host_matrix type = tables->type;
    type.rows = type.rows > 0;
    enum akin_status status = put_halves(d, &tables->word, &d->tables.word, error);
    if (status == AKIN_OK)
        status = put_halves(d, &tables->position, &d->tables.position, error);
    if (status == AKIN_OK && type.rows)
        status = put_halves(d, &type, &d->tables.type, error);
    if (status == AKIN_OK)
        status = put_floats(d, tables->gamma, d->shape.hidden, &d->tables.norm.gamma, error);
    if (status == AKIN_OK)
        status = put_floats(d, tables->beta, d->shape.hidden, &d->tables.norm.beta, error);
    d->tables.norm.epsilon = tables->epsilon;
    return status;
}

enum akin_status create(int ordinal, const struct encoder_shape *shape,
                        const struct embedding_tables *tables, struct encoder_device **device,
                        struct akin_error *error)
{
    *device = nullptr;
    enum akin_status status = check_shape(shape, error);
    if (status != AKIN_OK)
        return status;
    struct encoder_device *d = new (std::nothrow) encoder_device();
    if (!d)
        return error_memory(error);
    d->ordinal = ordinal;
    d->shape = *shape;
    status = within_memory([&] { d->layers.resize(shape->layers); })
                 ? platform_open(ordinal, &d->home, error, CUDA_USE_ENCODER) : error_memory(error);
    if (status == AKIN_OK && shape->precision == COMPUTE_INT8 &&
        !encode_groups_fit(d->home, shape->intermediate))
        status = error_set(error, AKIN_UNSUPPORTED, "intermediate size %zu: in int8 this GPU has "
                           "too little shared memory for it, %zu bytes; use --precision fp16",
                           shape->intermediate, platform_shared_bytes(d->home));
    if (status == AKIN_OK)
        status = put_tables(d, tables, error);
    if (status == AKIN_OK)
        *device = d;
    else
        destroy(&d);
    return status;
}

enum akin_status set_equalizer(struct encoder_device *d, size_t index, enum encoder_linear which,
                               const float *equalizer, size_t count, struct akin_error *error)
{
    std::vector<float> &inverse = d->layers[index].inverse[which];
    if (!within_memory([&] { inverse.resize(count); }))
        return error_memory(error);
    for (size_t i = 0; i < count; i++)
        inverse[i] = 1.0f / equalizer[i];
    return AKIN_OK;
}

enum akin_status set_linear(struct encoder_device *d, size_t index, enum encoder_linear which,
                            const struct host_matrix *weight, const float *bias,
                            struct akin_error *error)
{
    encode_linear *linear = &d->layers[index].linears[which];
    platform_enter(d->home);
    linear->cols = weight->rows;
    linear->depth = weight->cols;
    if (is_narrow(d, which))
        return put_narrow(d, which, weight, bias, d->layers[index].inverse[which], linear, error);
    enum akin_status status = put_halves(d, weight, &linear->weight, error);
    return status == AKIN_OK ? put_floats(d, bias, weight->rows, &linear->bias, error) : status;
}

enum akin_status set_norm(struct encoder_device *d, size_t index, enum encoder_norm which,
                          const float *gamma, const float *beta, struct akin_error *error)
{
    encode_norm *norm = &d->layers[index].norms[which];
    platform_enter(d->home);
    norm->epsilon = d->shape.epsilon;
    enum akin_status status = put_floats(d, gamma, d->shape.hidden, &norm->gamma, error);
    return status == AKIN_OK ? put_floats(d, beta, d->shape.hidden, &norm->beta, error) : status;
}

// ---- streams -----------------------------------------------------------------------------------

// Tiles of queries are at most a sixteenth of the tokens, and one more for each sequence.
batch_layout layout_of(size_t tokens, size_t sequences)
{
    batch_layout l = {};
    l.tokens = tokens;
    l.sequences = sequences;
    l.tiles = tokens / QUERY_TILE + sequences;
    l.ids = 16;
    l.positions = round_up(l.ids + tokens * sizeof(int32_t), 16);
    l.offsets = round_up(l.positions + tokens * sizeof(int32_t), 16);
    l.queries = round_up(l.offsets + (sequences + 1) * sizeof(uint32_t), 16);
    l.bytes = l.queries + l.tiles * sizeof(query_tile);
    return l;
}

void stream_destroy(struct encoder_stream **stream)
{
    struct encoder_stream *s = *stream;
    if (!s)
        return;
    if (s->own) {
        void *const memory[] = {s->block, s->x, s->sums, s->shared, s->narrow.bytes,
                                s->narrow.rows};
        platform_enter(s->own);
        for (void *each : memory)
            platform_release(s->own, each);
        platform_release_pinned(s->own, s->sent);
        platform_release_pinned(s->own, s->received);
        platform_close(s->own);
    }
    delete s;
    *stream = nullptr;
}

// Where the parts of `shared` lie that do not begin it, and the bytes of the largest.
struct shared_layout {
    size_t context, steps, bytes;
};

shared_layout share_out(const struct encoder_stream *s, size_t rows)
{
    const struct encoder_shape &shape = s->device->shape;
    size_t numbers = rows * shape.intermediate, wide = numbers * sizeof(half_t);
    size_t vectors = s->sequences_max * shape.hidden * sizeof(float);
    shared_layout l = {};
    l.context = rows * 3 * shape.hidden * sizeof(half_t);
    l.steps = numbers;
    l.bytes = l.context + rows * shape.hidden * sizeof(half_t);
    if (shape.precision == COMPUTE_INT8)
        wide = l.steps + numbers / GROUP_COLS * sizeof(float);
    l.bytes = l.bytes > wide ? l.bytes : wide;
    l.bytes = l.bytes > vectors ? l.bytes : vectors;
    return l;
}

// Rows whose sums before LayerNorm go to memory.
size_t sum_rows(const struct encoder_stream *s, size_t rows)
{
    const struct encoder_shape &shape = s->device->shape;
    size_t plain = encode_sum_rows(s->own, rows, shape.hidden);
    if (shape.precision != COMPUTE_INT8)
        return plain;
    size_t groups = encode_groups_sum_rows(s->own, rows, shape.hidden, shape.intermediate);
    return groups > plain ? groups : plain;
}

enum akin_status stream_memory(struct encoder_stream *s, struct akin_error *error)
{
    const struct encoder_shape &shape = s->device->shape;
    size_t rows = round_up(s->tokens_max, ENCODE_ROWS), hidden = shape.hidden;
    size_t block = layout_of(s->tokens_max, s->sequences_max).bytes;
    size_t narrow = shape.precision == COMPUTE_INT8 ? rows : 0;
    const shared_layout l = share_out(s, rows);
    struct {
        void **memory;
        size_t bytes;
    } wanted[] = {
        {reinterpret_cast<void **>(&s->block), block},
        {reinterpret_cast<void **>(&s->x), rows * hidden * sizeof(half_t)},
        {reinterpret_cast<void **>(&s->sums), sum_rows(s, rows) * hidden * sizeof(float)},
        {reinterpret_cast<void **>(&s->shared), l.bytes},
        {reinterpret_cast<void **>(&s->narrow.bytes), narrow * hidden},
        {reinterpret_cast<void **>(&s->narrow.rows), narrow * sizeof(narrow_scale)},
    };
    enum akin_status status = AKIN_OK;
    for (size_t i = 0; status == AKIN_OK && i < sizeof wanted / sizeof *wanted; i++)
        if (wanted[i].bytes > 0)
            status = platform_allocate(s->own, wanted[i].bytes, wanted[i].memory, error);
    if (status == AKIN_OK) {
        s->qkv = s->wide = reinterpret_cast<half_t *>(s->shared);
        s->context = reinterpret_cast<half_t *>(s->shared + l.context);
        s->groups = {s->shared, reinterpret_cast<float *>(s->shared + l.steps)};
        s->vectors = reinterpret_cast<float *>(s->shared);
    }
    if (status == AKIN_OK)
        status = platform_allocate_pinned(s->own, block, reinterpret_cast<void **>(&s->sent),
                                          error);
    if (status == AKIN_OK)
        status = platform_allocate_pinned(s->own, s->sequences_max * hidden * sizeof(float),
                                          reinterpret_cast<void **>(&s->received), error);
    return status;
}

enum akin_status stream_create(struct encoder_device *device, size_t tokens, size_t sequences,
                               struct encoder_stream **stream, struct akin_error *error)
{
    *stream = nullptr;
    struct encoder_stream *s = new (std::nothrow) encoder_stream();
    if (!s)
        return error_memory(error);
    s->device = device;
    s->tokens_max = tokens > RECORDED_TOKENS ? tokens : (size_t)RECORDED_TOKENS;
    s->sequences_max = sequences > RECORDED_SEQUENCES ? sequences : (size_t)RECORDED_SEQUENCES;
    enum akin_status status = platform_open(device->ordinal, &s->own, error, CUDA_USE_ENCODER);
    if (status == AKIN_OK)
        status = stream_memory(s, error);
    if (status == AKIN_OK)
        *stream = s;
    else
        stream_destroy(&s);
    return status;
}

// ---- a batch -----------------------------------------------------------------------------------

void pack_batch(const batch_layout &l, const struct packed_batch *batch, unsigned char *block)
{
    uint32_t *counts = reinterpret_cast<uint32_t *>(block);
    query_tile *tile = reinterpret_cast<query_tile *>(block + l.queries);
    memcpy(block + l.ids, batch->ids, batch->tokens * sizeof *batch->ids);
    memcpy(block + l.positions, batch->positions, batch->tokens * sizeof *batch->positions);
    memcpy(block + l.offsets, batch->offsets, (batch->sequences + 1) * sizeof *batch->offsets);
    for (size_t s = 0; s < batch->sequences; s++) {
        uint32_t first = batch->offsets[s], count = batch->offsets[s + 1] - first;
        for (uint32_t query = 0; query < count; query += QUERY_TILE)
            *tile++ = {first, count, query};
    }
    counts[0] = (uint32_t)batch->sequences;
    counts[1] = (uint32_t)(tile - reinterpret_cast<query_tile *>(block + l.queries));
}

encode_batch batch_on(const struct encoder_stream *s, const batch_layout &l, size_t tiles)
{
    encode_batch batch = {};
    batch.counts = reinterpret_cast<const uint32_t *>(s->block);
    batch.ids = reinterpret_cast<const int32_t *>(s->block + l.ids);
    batch.positions = reinterpret_cast<const int32_t *>(s->block + l.positions);
    batch.offsets = reinterpret_cast<const uint32_t *>(s->block + l.offsets);
    batch.tiles = reinterpret_cast<const query_tile *>(s->block + l.queries);
    bool few = l.tokens <= RECORDED_TOKENS;
    batch.rows = round_up(l.tokens, few ? (size_t)RECORDED_TOKENS_MIN : (size_t)ENCODE_ROWS);
    batch.sequences = l.sequences;
    batch.tiles_started = tiles;
    return batch;
}

// Where the rows go as bytes for `which` of layer `index`, which is next to multiply them.
encode_narrowing narrowing_for(const struct encoder_stream *s, size_t index,
                               enum encoder_linear which)
{
    const struct encoder_device *d = s->device;
    encode_narrowing to = {};
    if (index < d->layers.size() && is_narrow(d, which)) {
        to = s->narrow;
        to.inverse = d->layers[index].linears[which].inverse;
    }
    return to;
}

void attend(const struct encoder_stream *s, const encode_batch &batch, size_t index)
{
    const struct encoder_shape &shape = s->device->shape;
    const layer &l = s->device->layers[index];
    platform *p = s->own;
    encode_narrowing next = narrowing_for(s, index, ENCODER_INTERMEDIATE);
    if (is_narrow(s->device, ENCODER_QKV))
        encode_multiply_bytes(p, &l.linears[ENCODER_QKV], &s->narrow, batch.rows, s->qkv);
    else
        encode_multiply(p, &l.linears[ENCODER_QKV], s->x, batch.rows, s->qkv);
    encode_attention(p, &batch, s->qkv, shape.heads, shape.hidden / shape.heads, s->context);
    encode_multiply_norm(p, &l.linears[ENCODER_ATTENTION_OUTPUT], &l.norms[ENCODER_ATTENTION_NORM],
                         s->context, batch.rows, s->x, s->sums, &next);
}

void feed_forward(const struct encoder_stream *s, const encode_batch &batch, size_t index)
{
    const layer &l = s->device->layers[index];
    const encode_linear *up = &l.linears[ENCODER_INTERMEDIATE], *down = &l.linears[ENCODER_OUTPUT];
    const encode_norm *norm = &l.norms[ENCODER_OUTPUT_NORM];
    platform *p = s->own;
    encode_narrowing next = narrowing_for(s, index + 1, ENCODER_QKV);
    if (is_narrow(s->device, ENCODER_OUTPUT)) {
        encode_multiply_bytes_gelu(p, up, &s->narrow, batch.rows, &s->groups);
        encode_multiply_groups_norm(p, down, norm, &s->groups, batch.rows, s->x, s->sums, &next);
    } else {
        encode_multiply_gelu(p, up, s->x, batch.rows, s->wide);
        encode_multiply_norm(p, down, norm, s->wide, batch.rows, s->x, s->sums, &next);
    }
}

void forward(const struct encoder_stream *s, const encode_batch &batch, bool normalize)
{
    const struct encoder_shape &shape = s->device->shape;
    platform *p = s->own;
    encode_narrowing first = narrowing_for(s, 0, ENCODER_QKV);
    encode_embed(p, &batch, &s->device->tables, shape.hidden, s->x, &first);
    for (size_t index = 0; index < s->device->layers.size(); index++) {
        attend(s, batch, index);
        feed_forward(s, batch, index);
    }
    encode_pool(p, &batch, s->x, shape.hidden, shape.pooling, normalize, s->vectors);
}

// The recording for so many tokens; its sizes into *tokens. Twice as many as the one before.
int recording_of(size_t *tokens, bool normalize)
{
    int slot = 0;
    size_t room = RECORDED_TOKENS_MIN;
    for (; room < *tokens; room *= 2)
        slot++;
    *tokens = room;
    return 2 * slot + normalize;
}

static_assert(RECORDED_TOKENS_MIN << (RECORDINGS / 2 - 1) >= RECORDED_TOKENS, "a slot for each");

void run_few(struct encoder_stream *s, const struct packed_batch *batch, bool normalize)
{
    size_t tokens = batch->tokens;
    int slot = recording_of(&tokens, normalize);
    batch_layout l = layout_of(tokens, RECORDED_SEQUENCES);
    pack_batch(l, batch, s->sent);
    platform_upload(s->own, s->block, s->sent, l.bytes);
    encode_batch on_device = batch_on(s, l, l.tiles);
    auto &state = s->recordings[slot];
    if (state == encoder_stream::RECORDED) {
        platform_play(s->own, slot);
        return;
    }
    bool recording = state == encoder_stream::WARM && platform_record_begin(s->own);
    forward(s, on_device, normalize);
    state = encoder_stream::WARM;
    if (recording && platform_record_end(s->own, slot))
        state = encoder_stream::RECORDED;
}

void run_many(struct encoder_stream *s, const struct packed_batch *batch, bool normalize)
{
    batch_layout l = layout_of(batch->tokens, batch->sequences);
    pack_batch(l, batch, s->sent);
    platform_upload(s->own, s->block, s->sent, l.bytes);
    forward(s, batch_on(s, l, reinterpret_cast<const uint32_t *>(s->sent)[1]), normalize);
}

// Until the vectors are in pinned memory.
void ask(struct encoder_stream *s, const struct packed_batch *batch, bool normalize)
{
    ASSERT(batch->tokens <= s->tokens_max && batch->sequences <= s->sequences_max);
    if (batch->tokens <= RECORDED_TOKENS && batch->sequences <= RECORDED_SEQUENCES)
        run_few(s, batch, normalize);
    else
        run_many(s, batch, normalize);
    platform_download(s->own, s->received, s->vectors,
                      batch->sequences * s->device->shape.hidden * sizeof(float));
}

enum akin_status run(struct encoder_stream *s, const struct packed_batch *batch, bool normalize,
                     float *vectors, struct akin_error *error)
{
    platform_enter(s->own);
    ask(s, batch, normalize);
    enum akin_status status = platform_finish(s->own, error);
    if (status == AKIN_OK)
        memcpy(vectors, s->received,
               batch->sequences * s->device->shape.hidden * sizeof(float));
    return status;
}

enum akin_status measure(struct encoder_stream *s, const struct packed_batch *batch,
                         double *seconds, struct akin_error *error)
{
    platform_enter(s->own);
    platform_mark(s->own);
    ask(s, batch, true);
    *seconds = platform_since_mark(s->own);
    return platform_finish(s->own, error);
}

}

extern "C" const struct encoder_device_ops *cuda_encoder_ops(void)
{
    static const struct encoder_device_ops ops = {
        BATCH_TOKENS, STREAMS, create, destroy, set_linear, set_equalizer, set_norm,
        stream_create, stream_destroy, run, measure,
    };
    return &ops;
}
