/* Texts over several cards, with cards that are made up: what is lost, doubled or exchanged shows;
 * cards fail when they are told. */
#include "cards_rig.h"
#include "model_rig.h"

enum { TEXTS = 400 };

/* ---- texts ------------------------------------------------------------------------------ */

static char words[TEXTS][64];
static struct akin_text texts[TEXTS];

static int set_up(void **state)
{
    (void)state;
    for (int i = 0; i < TEXTS; i++) {
        int n = snprintf(words[i], sizeof words[i], "text number %d of the %s kind", i,
                         i % 3 ? "second and longer" : "first");
        texts[i] = (struct akin_text){ words[i], (size_t)n };
    }
    return 0;
}

struct setup {
    struct rig rig;
    struct encoder_cards cards;
    size_t dimension;
    float *vectors;             /* [TEXTS][dimension] */
};

static void setup_open(struct setup *s, size_t cards, int threads)
{
    struct akin_error error = { 0 };
    struct akin_model_info info;
    memset((void *)runs, 0, sizeof runs);
    after_failure = 0;
    s->cards = (struct encoder_cards){ .ops = &fake_cards, .count = cards };
    for (size_t i = 0; i < cards; i++)
        s->cards.ordinals[i] = (int)i;
    rig_start(&s->rig, threads);
    if (model_open_on_cards(&s->cards, s->rig.pool, TINY, NULL, &s->rig.model, &error))
        fail_msg("%s", error.message);
    model_info(s->rig.model, &info);
    assert_int_equal(info.precision, AKIN_PRECISION_FP16);
    s->dimension = info.dimension;
    s->vectors = memory_alloc(TEXTS * s->dimension, sizeof *s->vectors);
    assert_non_null(s->vectors);
}

static void setup_close(struct setup *s)
{
    memory_free(s->vectors);
    rig_close(&s->rig);
    assert_int_equal(devices, 0);
    assert_int_equal(streams, 0);
}

static enum akin_status embed_all(struct setup *s, size_t count, struct akin_error *error)
{
    struct akin_embed_report report;
    memset(s->vectors, 0xff, TEXTS * s->dimension * sizeof *s->vectors);
    enum akin_status status = model_embed(s->rig.model, texts, count, NULL, s->vectors, &report,
                                          error);
    if (status == AKIN_OK)
        assert_int_equal(report.texts_computed, count);
    return status;
}

static float *truth;            /* what one card without failures gives */

static void test_one_card(void **state)
{
    struct setup s;
    struct akin_error error = { 0 };
    (void)state;
    memset(fails_at, 0, sizeof fails_at);
    setup_open(&s, 1, 4);
    if (embed_all(&s, TEXTS, &error))
        fail_msg("%s", error.message);
    assert_int_equal(streams, STREAMS);
    truth = s.vectors;
    s.vectors = NULL;
    setup_close(&s);
}

static void test_cards_share_the_work(void **state)
{
    struct setup s;
    struct akin_error error = { 0 };
    (void)state;
    setup_open(&s, CARDS, 6);
    if (embed_all(&s, TEXTS, &error))
        fail_msg("%s", error.message);
    assert_memory_equal(s.vectors, truth, TEXTS * s.dimension * sizeof *truth);
    assert_int_equal(streams, CARDS * STREAMS);
    setup_close(&s);
    setup_open(&s, CARDS, 1);   /* one thread: one lane */
    assert_int_equal(streams, 1);
    assert_int_equal(embed_all(&s, TEXTS, &error), AKIN_OK);
    assert_memory_equal(s.vectors, truth, TEXTS * s.dimension * sizeof *truth);
    setup_close(&s);
}

/* Whenever it fails, what it had is computed elsewhere, and it is not asked again. */
static void test_a_card_falls_out(void **state)
{
    (void)state;
    for (int when = 1; when < 12; when++) {
        struct setup s;
        struct akin_error error = { 0 };
        fails_at[1] = when;
        fails_at[2] = when > 6 ? 3 : 0;
        setup_open(&s, CARDS, 6);
        for (int turn = 0; turn < 3; turn++) {
            if (embed_all(&s, TEXTS, &error))
                fail_msg("%s", error.message);
            assert_memory_equal(s.vectors, truth, TEXTS * s.dimension * sizeof *truth);
        }
        assert_int_equal(embed_all(&s, 1, &error), AKIN_OK);
        assert_memory_equal(s.vectors, truth, s.dimension * sizeof *truth);
        assert_int_equal(after_failure, 0);
        setup_close(&s);
    }
    memset(fails_at, 0, sizeof fails_at);
}

static void test_all_fall_out(void **state)
{
    struct setup s;
    struct akin_error error = { 0 };
    (void)state;
    fails_at[0] = 3;
    setup_open(&s, 1, 4);
    assert_int_equal(embed_all(&s, TEXTS, &error), AKIN_IO);
    assert_string_equal(error.message, "card 0 fell out");
    int asked = runs[0];
    assert_int_equal(embed_all(&s, 1, &error), AKIN_IO);
    assert_string_equal(error.message, "card 0 fell out");
    assert_int_equal(runs[0], asked);
    setup_close(&s);
    memset(fails_at, 0, sizeof fails_at);
}

static void test_a_card_that_cannot_be_opened(void **state)
{
    struct setup s = { .cards = { .ops = &fake_cards, .ordinals = { 0, 1, 2 }, .count = CARDS } };
    struct akin_error error = { 0 };
    (void)state;
    refuses = true;
    rig_start(&s.rig, 2);
    assert_int_equal(model_open_on_cards(&s.cards, s.rig.pool, TINY, NULL, &s.rig.model, &error),
                     AKIN_MEMORY);
    assert_string_equal(error.message, "card 2: no memory");
    assert_null(s.rig.model);
    refuses = false;
    setup_close(&s);
    memory_free(truth);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_card), cmocka_unit_test(test_cards_share_the_work),
        cmocka_unit_test(test_a_card_falls_out), cmocka_unit_test(test_all_fall_out),
        cmocka_unit_test(test_a_card_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
