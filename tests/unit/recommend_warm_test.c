/* People made active ahead of their requests: the same state as by these, bit for bit, folded on
 * threads or on a card that is made of the CPU's arithmetic; what was rated since the import comes
 * on top; who rated last goes first, nobody is put out; what follows where the card fails. */
#include "live_rig.h"

#include "compute/cpu/kernels.h"
#include "recommend/users_warm.h"
#include "backends_rig.h"

enum { DIM = 23 };

static float vectors[RIG_ITEMS * DIM];

/* ---- a card ----------------------------------------------------------------------------- */

struct user_device {
    struct device_people people;
    float users[RIG_USERS][2][DIM];
    size_t counts[RIG_USERS];
    struct device_rating room[USER_DEVICE_TOGETHER];
};

static enum akin_status answers[2];     /* of create, of apply */
static int open_devices;
static size_t told;

static void fake_clear(struct user_device *device)
{
    memset(device->users, 0, sizeof device->users);
    memset(device->counts, 0, sizeof device->counts);
}

static enum akin_status fake_create(int ordinal, const struct device_people *people,
                                    struct user_device **device, struct akin_error *error)
{
    assert_int_equal(ordinal, 1);
    assert_ptr_equal(people->items, vectors);
    assert_int_equal(people->item_count, RIG_ITEMS);
    assert_int_equal(people->dim, DIM);
    assert_true(people->user_count <= RIG_USERS);
    if (answers[0] != AKIN_OK)
        return error_set(error, answers[0], "no room on the card");
    *device = memory_alloc(1, sizeof **device);
    (*device)->people = *people;
    for (size_t u = 0; u < RIG_USERS; u++)      /* of whoever was there before */
        (*device)->counts[u] = (size_t)((*device)->users[u][1][3] = 7);
    open_devices++;
    return AKIN_OK;
}

static void fake_destroy(struct user_device **device)
{
    memory_free(*device);
    *device = NULL;
    open_devices--;
}

static struct device_rating *fake_room(struct user_device *device)
{
    return device->room;
}

static enum akin_status fake_apply(struct user_device *device, size_t count,
                                   struct akin_error *error)
{
    const struct device_people *people = &device->people;
    const float rates[2] = { people->fast, people->slow };
    if (answers[1] != AKIN_OK)
        return error_set(error, answers[1], "the card fell off");
    for (size_t i = 0; i < count; i++) {
        const struct device_rating *r = &device->room[i];
        float first = 1 / (float)++device->counts[r->user];
        for (int which = 0; which < 2; which++) {
            float share = first > rates[which] ? first : rates[which];
            cpu_kernels(backends[0])->blend_f32(
                device->users[r->user][which], 1 - share, vectors + r->item * DIM,
                share * (float)((double)r->rating / people->rating_max), DIM);
        }
    }
    told += count;
    return AKIN_OK;
}

static enum akin_status fake_read(struct user_device *device, size_t first, size_t count,
                                  float *to, struct akin_error *error)
{
    (void)error;
    memcpy(to, device->users[first], count * sizeof *device->users);
    return AKIN_OK;
}

static double fake_elapsed(const struct user_device *device)
{
    (void)device;
    return 0.5;
}

static size_t fake_memory(const struct user_device *device)
{
    return sizeof *device;
}

static const struct user_device_ops ops = { fake_create, fake_destroy, fake_room, fake_apply,
                                            fake_read, fake_clear, fake_elapsed, fake_memory };

/* ---- people ----------------------------------------------------------------------------- */

static struct users *open_users(const char *path, size_t most)
{
    struct users_settings s = { .catalog = rig_catalog, .vectors = vectors, .dim = DIM,
                                .kernels = cpu_kernels(backends[0]), .store_path = path };
    struct akin_error error = { 0 };
    struct users *users = NULL;
    users_settings_default(&s.live);
    s.live.max_active_users = most;
    s.live.store = path != NULL;
    s.live.durable = false;
    must(users_open(&s, &users, &error), &error);
    return users;
}

static struct users_warming warming_of(size_t most, const struct user_device_ops *card,
                                       const struct akin_log *log)
{
    return (struct users_warming){ .users_max = most, .card = { card, 1, log },
                                   .pool = pools[THREADS_TRIED - 1] };
}

static void expect_same(struct users *a, struct users *b)
{
    struct user_profile x, y;
    assert_true(user_profile_init(&x, DIM) && user_profile_init(&y, DIM));
    for (int u = 0; u < RIG_USERS; u++) {
        char name[8];
        snprintf(name, sizeof name, "c%d", u);
        must(users_read(a, name, &x, NULL), NULL);
        must(users_read(b, name, &y, NULL), NULL);
        assert_true(x.count >= RIG_RATED);
        assert_int_equal(x.count, y.count);
        assert_int_equal(x.live, y.live);
        assert_int_equal(x.recent_count, y.recent_count);
        assert_memory_equal(x.recent, y.recent, x.recent_count * sizeof *x.recent);
        assert_memory_equal(x.fast, y.fast, DIM * sizeof(float));
        assert_memory_equal(x.slow, y.slow, DIM * sizeof(float));
    }
    user_profile_deinit(&x);
    user_profile_deinit(&y);
}

static uint64_t loads_of(struct users *users)
{
    struct users_counts counts;
    users_count(users, &counts);
    return counts.loads;
}

static void as_by_requests(void **state)
{
    (void)state;
    const char *path = rig_store("warm");
    struct users *asked = open_users(path, 10);
    struct akin_feedback feedback = { "c2", "i5", 0.5f, 100 };
    for (int i = 0; i < 70; i++)
        must(users_update(asked, &feedback, NULL), NULL);
    for (int card = 0; card < 2; card++) {
        struct users *warm = open_users(path, 10);
        struct users_warming warming = warming_of(10, card ? &ops : NULL, NULL);
        struct users_warmed warmed;
        told = 0;
        must(users_warm(warm, &warming, &warmed, NULL), NULL);
        assert_int_equal(warmed.users, RIG_USERS);
        assert_int_equal(warmed.ratings, RIG_USERS * RIG_RATED);
        assert_int_equal(warmed.on_card, card);
        assert_int_equal(told, card ? RIG_USERS * RIG_RATED : 0);
        assert_int_equal(warmed.card_bytes, card ? sizeof(struct user_device) : 0);
        assert_true(card ? warmed.card_ms > 0.4 : warmed.card_ms == 0);
        expect_same(asked, warm);
        assert_int_equal(loads_of(warm), RIG_USERS);
        must(users_warm(warm, &warming, &warmed, NULL), NULL);      /* nobody is left */
        assert_int_equal(warmed.users, 0);
        users_close(&warm);
    }
    users_close(&asked);
    assert_int_equal(open_devices, 0);
}

static void who_and_how_many(void **state)
{
    (void)state;
    struct users *users = open_users(NULL, 3);
    struct user_profile profile;
    struct users_warmed warmed;
    struct users_warming warming = warming_of(2, NULL, NULL);
    assert_true(user_profile_init(&profile, DIM));
    must(users_read(users, "c4", &profile, NULL), NULL);
    must(users_warm(users, &warming, &warmed, NULL), NULL);
    assert_int_equal(warmed.users, 2);
    warming.users_max = 10;     /* all rated last at the same time: the first of them */
    must(users_read(users, "c0", &profile, NULL), NULL);
    must(users_read(users, "c1", &profile, NULL), NULL);
    must(users_read(users, "c4", &profile, NULL), NULL);
    assert_int_equal(loads_of(users), 3);
    must(users_warm(users, &warming, &warmed, NULL), NULL);
    assert_int_equal(warmed.users, 0);
    warming.users_max = 0;
    must(users_warm(users, &warming, &warmed, NULL), NULL);
    user_profile_deinit(&profile);
    users_close(&users);
}

static void heard(void *cookie, enum akin_log_level level, const char *line)
{
    assert_int_equal(level, AKIN_LOG_WARNING);
    snprintf(cookie, 200, "%s", line);
}

static void where_it_fails(void **state)
{
    (void)state;
    struct users *asked = open_users(NULL, 10);
    for (int step = 0; step < 2; step++) {
        char line[200] = "";
        struct akin_log log = { .cookie = line, .write = heard };
        struct akin_error error = { 0 };
        struct users *users = open_users(NULL, 10);
        struct users_warming strict = warming_of(10, &ops, NULL), mild = warming_of(10, &ops, &log);
        struct users_warmed warmed;
        answers[step] = step ? AKIN_IO : AKIN_MEMORY;
        assert_int_equal(users_warm(users, &strict, &warmed, &error), answers[step]);
        assert_non_null(strstr(error.message, "the card"));
        assert_int_equal(users_warm(users, &mild, &warmed, &error), AKIN_OK);
        assert_non_null(strstr(line, "the card"));
        assert_int_equal(warmed.users, RIG_USERS);
        assert_false(warmed.on_card);
        expect_same(asked, users);
        answers[step] = AKIN_OK;
        users_close(&users);
    }
    users_close(&asked);
    assert_int_equal(open_devices, 0);
}

static bool stop(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    (void)cookie;
    (void)stage;
    return done > total;
}

static void interrupted(void **state)
{
    (void)state;
    struct users *users = open_users(NULL, 10);
    struct users_warming warming = warming_of(10, &ops, NULL);
    struct users_warmed warmed;
    warming.progress.update = stop;
    assert_int_equal(users_warm(users, &warming, &warmed, NULL), AKIN_CANCELLED);
    assert_int_equal(open_devices, 0);
    users_close(&users);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(as_by_requests),
        cmocka_unit_test(who_and_how_many),
        cmocka_unit_test(where_it_fails),
        cmocka_unit_test(interrupted),
    };
    struct rng rng;
    rng_seed(&rng, 4);
    for (size_t i = 0; i < RIG_ITEMS * DIM; i++)
        vectors[i] = rng_normal(&rng) / 4;
    if (backends_open())
        return 1;
    int failed = cmocka_run_group_tests(tests, rig_set_up, rig_tear_down);
    backends_close();
    return failed;
}
