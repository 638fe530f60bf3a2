/* The parameters of the Transformer: their number is the published one, and sizes that make no
 * model are refused by name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "train/parameters.h"

static const struct transformer_shape DEFAULTS = {
    .d_model = 128, .nhead = 4, .encoder_layers = 3, .decoder_layers = 3, .feed_forward = 512,
    .vocab = 8192, .seq_len = 256,
};

static size_t trained(struct transformer_shape shape)
{
    struct parameter_table table;
    assert_int_equal(parameter_table_create(&shape, &table, NULL), AKIN_OK);
    size_t count = table.trained;
    for (size_t i = 0; i < table.count; i++)
        assert_int_equal(table.parameters[i].offset % 16, 0);
    parameter_table_destroy(&table);
    return count;
}

static void published_counts(void **state)
{
    (void)state;
    struct transformer_shape shape = DEFAULTS;
    assert_int_equal(trained(shape), 3527168);
    shape.d_model = 512, shape.nhead = 8, shape.feed_forward = 2048;
    shape.encoder_layers = shape.decoder_layers = 6;
    assert_int_equal(trained(shape), 52668416);
    shape.d_model = 768, shape.nhead = 12, shape.feed_forward = 3072;
    shape.encoder_layers = shape.decoder_layers = 12;
    assert_int_equal(trained(shape), 211266560);
    shape.d_model = 2048, shape.nhead = 32, shape.feed_forward = 8192, shape.seq_len = 512;
    shape.encoder_layers = shape.decoder_layers = 24;
    assert_int_equal(trained(shape), 2854764544);
}

static void operations(void **state)
{
    (void)state;
    double giga = transformer_sample_flops(&DEFAULTS) / 1e9;
    assert_true(giga > 4.57 && giga < 4.63);
}

static void refused(void **state)
{
    (void)state;
    struct akin_error error;
    struct parameter_table table;
    struct transformer_shape shape = DEFAULTS;
    shape.nhead = 3;
    assert_int_equal(parameter_table_create(&shape, &table, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "nhead 3"));
    shape = DEFAULTS, shape.vocab = 0;
    assert_int_equal(parameter_table_create(&shape, &table, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "vocab-size"));
    shape = DEFAULTS, shape.seq_len = (size_t)-1;
    assert_int_equal(parameter_table_create(&shape, &table, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "seq-len"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_counts),
        cmocka_unit_test(operations),
        cmocka_unit_test(refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
