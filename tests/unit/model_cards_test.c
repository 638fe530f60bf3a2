/* Texts over several cards, with cards that are made up: what is lost, doubled or exchanged shows;
 * cards fail when they are told. */
#include "cards_rig.h"
#include "model_rig.h"

#include "model/window.h"

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

static bool swapped;

struct setup {
    struct rig rig;
    struct encoder_cards cards;
    size_t dimension;
    float *vectors;             /* [TEXTS][dimension] */
};

static void setup_open_on(struct setup *s, const char *machine,
                          const struct encoder_device_ops *ops, size_t cards, int threads)
{
    struct akin_error error = { 0 };
    struct akin_model_info info;
    memset((void *)runs, 0, sizeof runs);
    after_failure = 0;
    s->cards = (struct encoder_cards){ .ops = ops, .count = cards };
    for (size_t i = 0; i < cards; i++)
        s->cards.ordinals[i] = s->cards.nodes[i] = (int)i;
    if (swapped)                /* each card near the other's node */
        s->cards.nodes[0] = 1, s->cards.nodes[1] = 0;
    rig_start_on(&s->rig, machine, threads);
    if (model_open_on_cards(&s->cards, s->rig.pool, TINY, AKIN_PRECISION_FP16, NULL,
                            &s->rig.model, &error))
        fail_msg("%s", error.message);
    model_info(s->rig.model, &info);
    assert_int_equal(info.precision, AKIN_PRECISION_FP16);
    s->dimension = info.dimension;
    s->vectors = memory_alloc(TEXTS * s->dimension, sizeof *s->vectors);
    assert_non_null(s->vectors);
}

static void setup_open(struct setup *s, size_t cards, int threads)
{
    setup_open_on(s, NULL, &fake_cards, cards, threads);
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

/* On a made-up machine of two nodes, whose CPUs this one has: streams are made and driven on the
 * node of their card, whichever node their thread is pinned to. */
static void test_threads_are_near_their_card(void **state)
{
    struct setup s;
    struct akin_error error = { 0 };
    cpu_set_t had;
    (void)state;
    sched_getaffinity(0, sizeof had, &had);
    if (!CPU_ISSET(0, &had) || !CPU_ISSET(1, &had))
        skip();
    for (int turn = 0; turn < 2; turn++) {
        setenv("HWLOC_THISSYSTEM", "1", 1);     /* binding is real */
        elsewhere = 0;
        checks_cpu = true;
        cpu_of[0] = turn;                       /* card 0 near CPU 0, then near CPU 1 */
        cpu_of[1] = 1 - turn;
        swapped = turn == 1;
        setup_open_on(&s, "node:2 core:1 pu:1", &fake_cards, 2, 2);
        unsetenv("HWLOC_THISSYSTEM");
        assert_int_equal(embed_all(&s, TEXTS, &error), AKIN_OK);
        assert_memory_equal(s.vectors, truth, TEXTS * s.dimension * sizeof *truth);
        checks_cpu = swapped = false;
        assert_int_equal(elsewhere, 0);
        assert_true(runs[0] + runs[1] > 0);
        setup_close(&s);
        cpu_set_t now;
        sched_getaffinity(0, sizeof now, &now);
        assert_true(CPU_EQUAL(&now, &had));     /* the caller's thread is as it was */
    }
}

/* Two cards, one of them three times as fast, and as few batches as a window has on a large
 * machine. What each was given, by its speed, is when it was done; ideal is that both are done at
 * once. Time is counted: only a lane that this machine leaves alone for LANE_ENDS_MS comes too
 * late. */
static void test_cards_of_unequal_speed(void **state)
{
    enum { FAST_US = 60, SLOW_US = 180, LANES = 2 * STREAMS };  /* for a token */
    struct encoder_device_ops ops = fake_cards;
    struct setup s;
    struct akin_error error = { 0 };
    double best = 1e9;
    (void)state;
    ops.batch_tokens = 1024;
    for (int turn = 0; turn < 10 && best > 1.1; turn++) {
        setup_open_on(&s, NULL, &ops, 2, LANES);
        by_count_begin(LANES);
        us_per_token[0] = FAST_US;
        us_per_token[1] = SLOW_US;
        memset((void *)tokens_done, 0, sizeof tokens_done);
        assert_int_equal(embed_all(&s, TEXTS, &error), AKIN_OK);
        by_count_begin(0);
        assert_memory_equal(s.vectors, truth, TEXTS * s.dimension * sizeof *truth);
        double fast = (double)tokens_done[0], slow = (double)tokens_done[1];
        double ideal = (fast + slow) / (1.0 / FAST_US + 1.0 / SLOW_US);
        double took = fmax(fast * FAST_US, slow * SLOW_US);
        print_message("%.0f and %.0f tokens in %d batches: %.3f of the ideal time\n", fast, slow,
                      runs[0] + runs[1], took / ideal);
        best = fmin(best, took / ideal);
        memset(us_per_token, 0, sizeof us_per_token);
        setup_close(&s);
    }
    assert_true(best <= 1.1);
}

/* The same by count: `lanes` of each card take one batch after the other, a card computes one at a
 * time, the first one needs `slow` times as long as the others. Returns the time over the ideal. */
static double simulate(const struct window *window, size_t cards, size_t lanes, double slow)
{
    double free_at[ENCODER_CARDS_MAX] = { 0 }, ready[64] = { 0 }, last = 0, tokens = 0;
    for (size_t b = 0; b < window->batch_count; b++) {
        size_t lane = 0;
        for (size_t i = 1; i < cards * lanes; i++)
            if (ready[i] < ready[lane])
                lane = i;
        size_t card = lane % cards;
        double begin = fmax(free_at[card], ready[lane]);
        double took = (double)window->batches[b].tokens * (card == 0 ? slow : 1);
        ready[lane] = free_at[card] = begin + took;
        last = fmax(last, ready[lane]);
        tokens += (double)window->batches[b].tokens;
    }
    return last / (tokens / ((double)cards - 1 + 1 / slow));
}

static void test_the_end_of_a_window(void **state)
{
    enum { ROWS = 16384, TOKENS = 8448, LANES = 3 };    /* of up to 128 tokens */
    struct window window;
    struct akin_error error = { 0 };
    struct akin_text *many = memory_alloc(ROWS, sizeof *many);
    (void)state;
    assert_non_null(many);
    assert_int_equal(window_init(&window, ROWS, 128, &error), AKIN_OK);
    for (size_t cards = 1; cards <= 8; cards *= 2)
        for (double slow = 1; slow <= 3; slow += 2) {
            double over[2];
            size_t batches[2];
            for (int guided = 0; guided < 2; guided++) {
                size_t all = 0, at = 0;
                assert_int_equal(window_fill(&window, many, 0, ROWS, NULL, &error), AKIN_OK);
                for (size_t i = 0; i < ROWS; i++)
                    all += window.rows[i].tokens = 8 + (uint32_t)(i * i % 41);
                window_cut(&window, TOKENS, guided ? TOKENS / 16 : TOKENS, 0, LANES * cards);
                for (size_t b = 0; b < window.batch_count; b++) {
                    assert_int_equal(window.batches[b].begin, at);      /* every row once */
                    assert_in_range(window.batches[b].tokens, 1, TOKENS);
                    at = window.batches[b].end;
                    all -= window.batches[b].tokens;
                }
                assert_true(at == ROWS && all == 0);
                over[guided] = simulate(&window, cards, LANES, slow);
                batches[guided] = window.batch_count;
            }
            print_message("%zu cards, the first %.0f times as slow: %.3f of the ideal time in %zu "
                          "batches; were they equal, %.3f in %zu\n", cards, slow, over[1],
                          batches[1], over[0], batches[0]);
            assert_true(over[1] <= 1.15);
        }
    window_deinit(&window);
    memory_free(many);
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

/* The device gives it up after a time; the other cards have done all they could meanwhile. */
static void test_a_card_hangs(void **state)
{
    (void)state;
    int hung = 0;
    hangs_ms = 150;
    us_per_token[0] = us_per_token[1] = us_per_token[2] = 20;
    for (int when = 1; when < 6; when += 2) {
        struct setup s;
        struct akin_error error = { 0 };
        fails_at[1] = when;
        setup_open(&s, CARDS, 6);
        if (embed_all(&s, TEXTS, &error))
            fail_msg("%s", error.message);
        assert_memory_equal(s.vectors, truth, TEXTS * s.dimension * sizeof *truth);
        assert_int_equal(after_failure, 0);
        assert_true(runs[1] < when + STREAMS);      /* each stream once at most */
        hung += runs[1] >= when;
        setup_close(&s);
    }
    memset(fails_at, 0, sizeof fails_at);
    memset(us_per_token, 0, sizeof us_per_token);
    hangs_ms = 0;
    assert_true(hung > 0);
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
    assert_int_equal(model_open_on_cards(&s.cards, s.rig.pool, TINY, AKIN_PRECISION_FP16, NULL,
                                         &s.rig.model, &error), AKIN_MEMORY);
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
        cmocka_unit_test(test_threads_are_near_their_card),
        cmocka_unit_test(test_cards_of_unequal_speed),
        cmocka_unit_test(test_the_end_of_a_window),
        cmocka_unit_test(test_a_card_falls_out),
        cmocka_unit_test(test_a_card_hangs), cmocka_unit_test(test_all_fall_out),
        cmocka_unit_test(test_a_card_that_cannot_be_opened),
    };
    return cmocka_run_group_tests(tests, set_up, NULL);
}
