/* Scaled dot-product attention inside each sequence: which head of which sequence is computed by
 * whom. The arithmetic is one kernel (kernels.h, attend_f32), which sees one head at a time, so the
 * bits depend on the sequence alone. */
#include "base/limits.h"
#include "compute/cpu/backend_cpu.h"

/* All heads of one sequence; threads may share them. */
struct sequence {
    const struct lane *lane;
    const float *qkv;           /* [tokens][3 * hidden] */
    float *out;                 /* [tokens][hidden] */
    size_t tokens, hidden, dim;
    bool rough;
};

static void sequence_heads(void *context, size_t begin, size_t end, int worker)
{
    const struct sequence *s = context;
    const struct kernels *k = lane_kernels(s->lane);
    struct attend_scratch *scratch = worker ? s->lane->members[worker] : s->lane->attend;
    for (size_t h = begin; h < end; h++) {
        const float *q = s->qkv + h * s->dim;
        struct head head = { .q = q, .k = q + s->hidden, .v = q + 2 * s->hidden,
                             .out = s->out + h * s->dim, .stride = 3 * s->hidden,
                             .out_stride = s->hidden, .queries = s->tokens, .keys = s->tokens,
                             .dim = s->dim };
        (s->rough ? k->attend_rough : k->attend_f32)(&head, scratch);
    }
}

void cpu_attention(struct lane *lane, struct tensor *out, const struct tensor *qkv,
                   const struct packed_batch *batch, size_t heads,
                   enum compute_precision precision)
{
    size_t hidden = out->cols;
    ASSERT(heads > 0 && hidden % heads == 0 && qkv->cols == 3 * hidden);
    ASSERT(qkv->rows == batch->tokens && out->rows == batch->tokens);
    size_t dim = hidden / heads;
    bool rough = precision != COMPUTE_FP32 && dim <= ATTEND_DIMS;
    for (size_t s = 0; s < batch->sequences; s++) {
        size_t first = batch->offsets[s], tokens = batch->offsets[s + 1] - first;
        ASSERT(first + tokens <= batch->tokens && tokens <= TOKENS_MAX);
        struct sequence sequence = { .lane = lane, .qkv = qkv->data + first * qkv->cols,
                                     .out = out->data + first * hidden, .tokens = tokens,
                                     .hidden = hidden, .dim = dim, .rough = rough };
        lane_share(lane, heads, sequence_heads, &sequence);
    }
}
