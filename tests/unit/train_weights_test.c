/* Initial weights are distributed as PyTorch's defaults are; files come back bit for bit, and those
 * that do not fit are refused by the name of what does not. */
#include "train_rig.h"

#include "base/memory.h"
#include "model/safetensors_write.h"
#include "train/weights.h"

static const struct transformer_shape MIDDLE = {
    .d_model = 64, .nhead = 4, .encoder_layers = 1, .decoder_layers = 1, .feed_forward = 256,
    .vocab = 500, .seq_len = 32,
};

struct drawn {
    struct parameter_table table;
    float *values;
};

static struct drawn draw(const struct transformer_shape *shape, uint64_t seed)
{
    struct drawn d;
    must(parameter_table_create(shape, &d.table, NULL), NULL);
    d.values = memory_alloc(d.table.values, sizeof *d.values);
    weights_draw(&d.table, seed, d.values);
    return d;
}

static void discard(struct drawn *d)
{
    memory_free(d->values);
    parameter_table_destroy(&d->table);
}

/* ---- drawing ---------------------------------------------------------------------------- */

/* What PyTorch's defaults give: a bound (uniform), 0 (all 0), or less than 0 (normal). */
static const struct {
    const char *name;
    double bound;
} UNIFORM[] = {
    {"transformer.encoder.layers.0.self_attn.in_proj_weight", 0.15309310892394862},
    {"transformer.encoder.layers.0.self_attn.out_proj.weight", 0.21650635094610965},
    {"transformer.encoder.layers.0.linear1.weight", 0.13693063937629153},
    {"transformer.encoder.layers.0.linear1.bias", 0.125},
    {"transformer.decoder.layers.0.linear2.weight", 0.13693063937629153},
    {"transformer.decoder.layers.0.linear2.bias", 0.0625},
    {"transformer.decoder.layers.0.multihead_attn.in_proj_weight", 0.15309310892394862},
    {"output_proj.weight", 0.125},
    {"output_proj.bias", 0.125},
};

static const float *find(const struct drawn *d, const char *name, size_t *count)
{
    ptrdiff_t i = parameter_find(&d->table, name);
    assert_true(i >= 0);
    const struct parameter *p = &d->table.parameters[i];
    *count = p->rows * (p->cols ? p->cols : 1);
    return d->values + p->offset;
}

/* Mean and deviation as they should be, within what that many numbers allow. */
static void check_spread(const char *name, const float *values, size_t count, double deviation)
{
    double sum = 0, squares = 0, n = (double)count;
    for (size_t i = 0; i < count; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
    }
    if (fabs(sum / n) > 4 * deviation / sqrt(n))
        fail_msg("%s: mean %g", name, sum / n);
    if (fabs(sqrt(squares / n) / deviation - 1) > 4 / sqrt(n))
        fail_msg("%s: deviation %g, expected %g", name, sqrt(squares / n), deviation);
}

static void weights_are_drawn_as_pytorch_does(void **state)
{
    (void)state;
    struct drawn d = draw(&MIDDLE, 9);
    size_t count;
    for (size_t i = 0; i < sizeof UNIFORM / sizeof *UNIFORM; i++) {
        const float *values = find(&d, UNIFORM[i].name, &count);
        double most = 0;
        for (size_t k = 0; k < count; k++)
            most = fmax(most, fabs((double)values[k]));
        assert_true(most < UNIFORM[i].bound && most > UNIFORM[i].bound * (1 - 20 / (double)count));
        check_spread(UNIFORM[i].name, values, count, UNIFORM[i].bound / sqrt(3));
    }
    const float *normal = find(&d, "embedding.weight", &count);
    check_spread("embedding", normal, count, 1);
    normal = find(&d, "pos_embedding.weight", &count);
    check_spread("positions", normal, count, 1);
    for (size_t i = 0; i < d.table.count; i++) {
        const char *name = d.table.parameters[i].name;
        const float *values = find(&d, name, &count);
        bool norm = strstr(name, "norm"), gain = norm && strstr(name, ".weight");
        bool zero = strstr(name, "in_proj_bias") || strstr(name, "out_proj.bias");
        for (size_t k = 0; k < count && (norm || zero); k++)
            assert_true(values[k] == (gain ? 1 : 0));
    }
    discard(&d);
}

static void a_number_is_of_seed_and_place(void **state)
{
    (void)state;
    struct drawn a = draw(&MIDDLE, 9), same = draw(&MIDDLE, 9), other = draw(&MIDDLE, 10);
    struct transformer_shape longer = MIDDLE;
    longer.vocab += 3;                  /* rows more of the first tensor move no other number */
    struct drawn more = draw(&longer, 9);
    size_t count, most;
    assert_memory_equal(a.values, same.values, a.table.values * sizeof *a.values);
    const float *x = find(&a, "embedding.weight", &count);
    const float *y = find(&more, "embedding.weight", &most);
    assert_memory_equal(x, y, count * sizeof *x);
    x = find(&a, "transformer.encoder.layers.0.linear1.weight", &count);
    y = find(&more, "transformer.encoder.layers.0.linear1.weight", &most);
    assert_memory_equal(x, y, count * sizeof *x);
    y = find(&other, "transformer.encoder.layers.0.linear1.weight", &most);
    size_t equal = 0;
    for (size_t i = 0; i < count; i++)
        equal += x[i] == y[i];
    assert_true(equal < count / 1000);
    discard(&a);
    discard(&same);
    discard(&other);
    discard(&more);
}

/* ---- files ------------------------------------------------------------------------------ */

static void files_come_back(void **state)
{
    (void)state;
    struct drawn d = draw(&MIDDLE, 3), back = draw(&MIDDLE, 4);
    struct akin_error error = {0};
    const char *path = rig_file("back");
    must(weights_write(&d.table, path, d.values, 1, &error), &error);
    must(weights_read(&d.table, path, back.values, &error), &error);
    assert_memory_equal(d.values, back.values, d.table.values * sizeof *d.values);
    must(weights_write(&d.table, path, d.values, 0.25f, &error), &error);
    must(weights_read(&d.table, path, back.values, &error), &error);
    for (size_t i = 0; i < d.table.values; i++)
        assert_true(back.values[i] == d.values[i] * 0.25f);
    must(path_remove(path, &error), &error);
    discard(&d);
    discard(&back);
}

/* `path` is refused with `status`, and the message has both words. */
static void refuse(const struct drawn *d, const char *path, enum akin_status status,
                   const char *word, const char *other)
{
    struct akin_error error = {0};
    float *values = memory_alloc(d->table.values, sizeof *values);
    assert_int_equal(weights_read(&d->table, path, values, &error), status);
    if (!strstr(error.message, word) || !strstr(error.message, other))
        fail_msg("no %s and %s in: %s", word, other, error.message);
    memory_free(values);
}

static void other_models_are_refused(void **state)
{
    (void)state;
    const char *path = rig_file("other");
    struct drawn d = draw(&MIDDLE, 3);
    struct transformer_shape shape = MIDDLE;
    shape.encoder_layers = 2;
    struct drawn deeper = draw(&shape, 3);
    shape = MIDDLE;
    shape.vocab = 501;
    struct drawn wider = draw(&shape, 3);
    must(weights_write(&deeper.table, path, deeper.values, 1, NULL), NULL);
    refuse(&d, path, AKIN_FORMAT, "layers.1", "none of this model's");
    must(weights_write(&d.table, path, d.values, 1, NULL), NULL);
    refuse(&deeper, path, AKIN_FORMAT, "layers.1", "missing");
    refuse(&wider, path, AKIN_FORMAT, "embedding.weight", "[501,64]");
    d.values[d.table.parameters[4].offset + 7] = NAN;
    must(weights_write(&d.table, path, d.values, 1, NULL), NULL);
    refuse(&d, path, AKIN_FORMAT, d.table.parameters[4].name, "number 7 is not finite");
    must(path_remove(path, NULL), NULL);
    refuse(&d, path, AKIN_NOT_FOUND, path, "");
    assert_int_equal(weights_write(&d.table, "/nowhere/at all", d.values, 1, NULL),
                     AKIN_NOT_FOUND);
    discard(&d);
    discard(&deeper);
    discard(&wider);
}

static void other_types_are_refused(void **state)
{
    (void)state;
    const char *path = rig_file("type");
    struct drawn d = draw(&MIDDLE, 3);
    struct safetensors_header header = {0};
    struct file_writer *writer;
    const size_t shape[] = {500, 64};
    double *values = memory_alloc(500 * 64, sizeof *values);
    must(file_writer_open(path, &writer, NULL), NULL);
    safetensors_describe_text(&header, "made by", "a \"test\"");
    safetensors_describe_tensor(&header, "embedding.weight", SAFETENSORS_F64, 2, shape);
    must(safetensors_put_header(&header, writer, NULL), NULL);
    assert_int_equal(header.data_bytes, 500 * 64 * 8);
    must(file_writer_write(writer, values, 500 * 64 * sizeof *values, NULL), NULL);
    must(file_writer_commit(&writer, NULL), NULL);
    refuse(&d, path, AKIN_UNSUPPORTED, "embedding.weight", "F64");
    struct safetensors *file;
    must(safetensors_open(path, &file, NULL), NULL);
    assert_string_equal(safetensors_metadata(file, "made by"), "a \"test\"");
    safetensors_close(&file);
    must(path_remove(path, NULL), NULL);
    safetensors_header_deinit(&header);
    memory_free(values);
    discard(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_drawn_as_pytorch_does),
        cmocka_unit_test(a_number_is_of_seed_and_place),
        cmocka_unit_test(files_come_back),
        cmocka_unit_test(other_models_are_refused),
        cmocka_unit_test(other_types_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
