/* Downloads against tests/golden/hub_server.py, a hub on the loopback interface that drops
 * connections, lies and stalls on demand. Skipped (77) only where python3 is absent. */
#include "model_rig.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "model/checksums.h"
#include "model/hub.h"
#include "model/listing.h"

static char root[PATH_BYTES_MAX];       /* what the hub serves */
static char home[PATH_BYTES_MAX];       /* of the test in progress */
static char log_path[PATH_BYTES_MAX];

/* ---- the server ------------------------------------------------------------------------- */

struct hub {
    pid_t pid;
    int keep;                   /* its standard input: it ends when this closes */
    char url[64];
};

enum { FAULTS_MAX = 4 };

static bool hub_start(struct hub *hub, const char *const *faults)
{
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    hub->pid = fork();
    assert_true(hub->pid >= 0);
    if (hub->pid == 0) {
        const char *arguments[6 + 2 * FAULTS_MAX] = { "python3", AKIN_SOURCE_DIR
                                                      "/tests/golden/hub_server.py", root, "--log",
                                                      log_path };
        for (size_t i = 0; i < FAULTS_MAX && faults && faults[i]; i++) {
            arguments[5 + 2 * i] = "--fault";
            arguments[6 + 2 * i] = faults[i];
        }
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execvp("python3", (char *const *)(uintptr_t)arguments);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    hub->keep = in[1];
    char port[16] = "";
    size_t used = 0;
    for (ssize_t got; used < sizeof port - 1 && !strchr(port, '\n'); used += (size_t)got)
        if ((got = read(out[0], port + used, sizeof port - 1 - used)) <= 0)
            break;
    close(out[0]);
    snprintf(hub->url, sizeof hub->url, "http://127.0.0.1:%ld/", strtol(port, NULL, 10));
    return used > 0;
}

/* Returns its exit status, 127 where it could not be run; minus the signal that ended it. */
static int hub_stop(struct hub *hub)
{
    close(hub->keep);
    int status = 0;
    assert_int_equal(waitpid(hub->pid, &status, 0), hub->pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- helpers ---------------------------------------------------------------------------- */

static int group_setup(void **state)
{
    (void)state;
    setenv("no_proxy", "127.0.0.1", 1);     /* a proxy of the machine must not be asked */
    make_folder(root);
    char path[PATH_BYTES_MAX];
    snprintf(log_path, sizeof log_path, "%.4000s/requests", root);
    static const char *const names[] = { "acme/tiny", "sentence-transformers/tiny" };
    for (size_t i = 0; i < 2; i++) {
        copy_tiny(in_folder(path, root, names[i]));
        put_text(path, "README.md", "# tiny\n");
        put_text(path, "onnx/model.onnx", "not wanted");
        put_text(path, "pytorch_model.bin", "not wanted");
        put_text(path, "data_config.json", "{}");
    }
    put_text(root, "acme/pickled/pytorch_model.bin", "x");
    put_text(root, "acme/sharded/model.safetensors.index.json", "{}");
    put_text(root, "acme/bare/model.safetensors", "x");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    remove_folder(root);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    make_folder(home);
    remove_file(root, "requests");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    remove_folder(home);
    return 0;
}

/* What a busy machine does not take for a stall. */
enum { STALL_SECONDS = 60 };

static unsigned stall_seconds = STALL_SECONDS;

static struct akin_pull_settings settings_for(const char *url)
{
    struct akin_pull_settings settings;
    model_pull_settings_default(&settings);
    settings.home = home;
    settings.hub = url;
    settings.retries = 3;
    settings.stall_seconds = stall_seconds;
    return settings;
}

/* One pull from a hub with these faults. */
static enum akin_status pull(const char *name, const char *const *faults, struct akin_error *error)
{
    struct hub hub;
    assert_true(hub_start(&hub, faults));
    struct akin_pull_settings settings = settings_for(hub.url);
    char path[PATH_BYTES_MAX];
    memset(error, 0, sizeof *error);
    enum akin_status status = model_pull(name, &settings, NULL, path, sizeof path, error);
    assert_int_equal(error->status, status);    /* untouched when all went well */
    assert_int_equal(hub_stop(&hub), 0);
    return status;
}

#define FAULTS(...) (const char *const[FAULTS_MAX + 1]){ __VA_ARGS__ }

static bool in_home(const char *name)
{
    char path[PATH_BYTES_MAX];
    return path_exists(in_folder(path, home, name));
}

/* How often `part` occurs in the log of requests. */
static size_t requests_with(const char *part)
{
    struct bytes text = { 0 };
    size_t count = 0;
    if (path_exists(log_path))
        assert_int_equal(file_read(log_path, 1 << 20, &text, NULL), AKIN_OK);
    for (const char *at = text.data; at && (at = strstr(at, part)); at++)
        count++;
    bytes_deinit(&text);
    return count;
}

/* The pulled folder is the served one, less what is not wanted. */
static void expect_pulled(void)
{
    static const char *const files[] = {
        "config.json", "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
        "tokenizer.json", "tokenizer_config.json", "config_sentence_transformers.json",
        "model.safetensors",
    };
    char folder[PATH_BYTES_MAX], path[PATH_BYTES_MAX], want[65], got[65];
    in_folder(folder, home, "models/tiny");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        assert_int_equal(sha256_file(in_folder(path, TINY, files[i]), want, NULL), AKIN_OK);
        assert_int_equal(sha256_file(in_folder(path, folder, files[i]), got, NULL), AKIN_OK);
        assert_string_equal(got, want);
    }
    assert_true(in_home("models/tiny/README.md"));
    assert_false(in_home("models/tiny/onnx") || in_home("models/tiny/pytorch_model.bin") ||
                 in_home("models/tiny/data_config.json") || in_home("models/.pull-tiny"));
    struct checksums sums;
    assert_int_equal(checksums_read(folder, &sums, NULL), AKIN_OK);
    assert_true(sums.found && sums.count == sizeof files / sizeof *files + 1);
    for (size_t i = 0; i < sums.count; i++)
        assert_int_equal(checksums_verify(folder, &sums, i, NULL), AKIN_OK);
    checksums_deinit(&sums);
}

static void expect_ok(const char *const *faults)
{
    struct akin_error error;
    if (pull("acme/tiny", faults, &error) != AKIN_OK)
        fail_msg("%s", error.message);
    expect_pulled();
}

static void expect_refused(const char *name, const char *const *faults, enum akin_status status,
                           const char *part)
{
    struct akin_error error;
    if (pull(name, faults, &error) != status)
        fail_msg("status %d, not %d: %s", (int)error.status, (int)status, error.message);
    assert_message_has(error, part);
    assert_false(in_home("models/tiny"));
}

/* ---- tests ------------------------------------------------------------------------------ */

static void test_pull_twice(void **state)
{
    (void)state;
    expect_ok(NULL);
    assert_true(requests_with("GET /acme/tiny/resolve/main/") == 9);
    assert_true(requests_with("GET ") == 10);
    struct akin_error error;
    assert_int_equal(pull("acme/tiny", NULL, &error), AKIN_OK);
    assert_true(requests_with("GET ") == 10);       /* nothing asked for */
    assert_int_equal(pull("tiny", NULL, &error), AKIN_ARGUMENT);
    assert_message_has(error, "holds 'acme/tiny main', not 'sentence-transformers/tiny main'");
    char folder[PATH_BYTES_MAX];
    struct rig rig;
    rig_start(&rig, 1);
    in_folder(folder, home, "models/tiny");
    assert_int_equal(model_check(rig.backend, rig.pool, folder, NULL, (struct akin_progress){ 0 },
                                 &error), AKIN_OK);
    rig_close(&rig);
    remove_file(folder, "modules.json");
    assert_int_equal(pull("acme/tiny", NULL, &error), AKIN_FORMAT);
    assert_message_has(error, "lacks modules.json");
}

static void test_bare_name(void **state)
{
    (void)state;
    struct akin_error error;
    assert_int_equal(pull("tiny", NULL, &error), AKIN_OK);
    expect_pulled();
    assert_true(requests_with("GET /sentence-transformers/tiny/resolve/main/") == 9);
}

static void test_dropped_connections(void **state)
{
    (void)state;
    expect_ok(FAULTS("drop=model.safetensors:30000:2", "drop=config.json:100"));
    assert_true(requests_with("model.safetensors bytes=30000- 206") == 1);
    assert_true(requests_with("model.safetensors bytes=60000- 206") == 1);
    assert_true(requests_with("main/config.json bytes=100- 206") == 1);
}

static void test_range_ignored(void **state)
{
    (void)state;
    expect_ok(FAULTS("drop=model.safetensors:30000", "norange=model.safetensors"));
    assert_true(requests_with("model.safetensors bytes=30000- 200") == 1);
}

static void test_wrong_bytes(void **state)
{
    (void)state;
    expect_ok(FAULTS("wrong=model.safetensors", "wrong=modules.json"));
    assert_true(requests_with("resolve/main/model.safetensors") == 2);
    assert_true(requests_with("resolve/main/modules.json") == 2);
}

static void test_always_wrong_bytes(void **state)
{
    (void)state;
    expect_refused("acme/tiny", FAULTS("wrong=model.safetensors:0:0"), AKIN_FORMAT, "checksum");
    assert_true(requests_with("resolve/main/model.safetensors") == 2);
    expect_refused("acme/tiny", FAULTS("longer=tokenizer.json:5:0"), AKIN_FORMAT, "sends more");
}

static void test_statuses(void **state)
{
    (void)state;
    expect_refused("acme/nothing", NULL, AKIN_NOT_FOUND, "has no model acme/nothing");
    assert_false(in_home("models/.pull-nothing"));
    expect_refused("acme/tiny", FAULTS("status=config.json:404:0"), AKIN_NOT_FOUND, "config.json");
    expect_refused("acme/tiny", FAULTS("status=config.json:403:0"), AKIN_NETWORK, "refuses access");
    expect_refused("acme/tiny", FAULTS("status=config.json:500:0"), AKIN_NETWORK, "HTTP 500");
    expect_ok(FAULTS("status=model.safetensors:503:2", "status=listing:429"));
}

static void test_redirects(void **state)
{
    (void)state;
    expect_refused("acme/tiny", FAULTS("redirect=model.safetensors:1:0"), AKIN_NETWORK,
                   "model.safetensors");
    expect_refused("acme/tiny", FAULTS("redirect=model.safetensors:2:0"), AKIN_NETWORK,
                   "model.safetensors");
    expect_ok(FAULTS("redirect=model.safetensors:0:0", "drop=model.safetensors:50000"));
    assert_true(requests_with("GET /elsewhere/acme/tiny/model.safetensors bytes=50000- 206") == 1);
}

static void test_stall(void **state)
{
    (void)state;
    stall_seconds = 1;
    expect_ok(FAULTS("stall=model.safetensors:20000"));
    stall_seconds = STALL_SECONDS;
    assert_true(requests_with("model.safetensors bytes=20000- 206") == 1);
}

struct stopper {
    const char *stage;
    uint64_t after;
    bool seen;
};

static bool stop_in_stage(void *cookie, const char *stage, uint64_t done, uint64_t total)
{
    struct stopper *stopper = cookie;
    assert_true(total == 0 || done <= total);
    stopper->seen |= !strcmp(stage, stopper->stage) && done >= stopper->after;
    return !stopper->seen;
}

/* What a cancelled pull has brought is where the next one goes on. */
static void test_cancel_and_resume(void **state)
{
    (void)state;
    struct hub hub;
    assert_true(hub_start(&hub, FAULTS("stall=model.safetensors:40000")));
    struct akin_pull_settings settings = settings_for(hub.url);
    struct stopper stopper = { .stage = "model.safetensors", .after = 40000 };
    settings.progress = (struct akin_progress){ &stopper, stop_in_stage };
    char path[PATH_BYTES_MAX];
    struct akin_error error;
    assert_int_equal(model_pull("acme/tiny", &settings, NULL, path, sizeof path, &error),
                     AKIN_CANCELLED);
    hub_stop(&hub);
    assert_true(stopper.seen);
    assert_false(in_home("models/tiny"));
    assert_true(in_home("models/.pull-tiny/parts"));
    size_t before = requests_with("main/config.json");
    expect_ok(NULL);
    assert_true(requests_with("model.safetensors bytes=40000- 206") == 1);
    assert_true(requests_with("main/config.json") == before);   /* had arrived already */
}

static void test_unsafe_listing(void **state)
{
    (void)state;
    expect_refused("acme/tiny", FAULTS("path=evil"), AKIN_FORMAT, "../evil");
    assert_false(in_home("models/.pull-tiny"));
}

static void test_unusable_models(void **state)
{
    (void)state;
    expect_refused("acme/pickled", NULL, AKIN_UNSUPPORTED, "pytorch_model.bin");
    expect_refused("acme/sharded", NULL, AKIN_UNSUPPORTED, "several files");
    expect_refused("acme/bare", NULL, AKIN_NOT_FOUND, "has no config.json");
}

static void test_arguments(void **state)
{
    (void)state;
    struct akin_pull_settings settings = settings_for("http://127.0.0.1:9");
    static const char *const names[] = { NULL, "", "/", "a/b/c", "../x", "a/..", ".hidden", "a b",
                                         "a/", "/a", "a?b", "a/b#c" };
    char path[PATH_BYTES_MAX], small[4];
    struct akin_error error;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_int_equal(model_pull(names[i], &settings, NULL, path, sizeof path, &error),
                         AKIN_ARGUMENT);
    assert_int_equal(model_pull("a/b", &settings, NULL, small, sizeof small, &error), AKIN_LIMIT);
    settings.revision = "../main";
    assert_int_equal(model_pull("a/b", &settings, NULL, path, sizeof path, &error), AKIN_ARGUMENT);
    settings = settings_for("");
    assert_int_equal(model_pull("a/b", &settings, NULL, path, sizeof path, &error), AKIN_ARGUMENT);
    assert_message_has(error, "--hub");
    settings = settings_for("http://127.0.0.1:9");      /* nobody listens */
    settings.retries = 0;
    assert_int_equal(model_pull("a/b", &settings, NULL, path, sizeof path, &error), AKIN_NETWORK);
    assert_message_has(error, "127.0.0.1:9");
    settings.hub = "file:///etc";
    assert_int_equal(model_pull("a/b", &settings, NULL, path, sizeof path, &error), AKIN_NETWORK);
    assert_false(in_home("models/b") || in_home("models/.pull-b"));
}

static void test_busy(void **state)
{
    (void)state;
    put_text(home, "models/.pull-tiny/lock", "");
    char path[PATH_BYTES_MAX];
    int fd = open(in_folder(path, home, "models/.pull-tiny/lock"), O_RDWR);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    expect_refused("acme/tiny", NULL, AKIN_BUSY, "another pull");
    close(fd);
    expect_ok(NULL);
}

static void test_foreign_folder(void **state)
{
    (void)state;
    struct akin_error error;
    put_text(home, "models/tiny/notes.txt", "mine");
    assert_int_equal(pull("acme/tiny", NULL, &error), AKIN_FORMAT);
    assert_message_has(error, "lacks config.json");
    assert_true(in_home("models/tiny/notes.txt"));
}

static void test_bad_listings(void **state)
{
    (void)state;
#define SHA1 "\"0123456789012345678901234567890123456789\""
    static const char *const texts[] = {
        "",
        "{",
        "{}",
        "[5]",
        "[{}]",
        "[{\"path\":5}]",
        "[{\"path\":\"config.json\"}]",
        "[{\"path\":\"config.json\",\"size\":-1,\"oid\":" SHA1 "}]",
        "[{\"path\":\"config.json\",\"size\":1e30,\"oid\":" SHA1 "}]",
        "[{\"path\":\"config.json\",\"size\":5,\"oid\":\"../../../../etc/passwd\"}]",
        "[{\"path\":\"config.json\",\"size\":5}]",
        "[{\"path\":\"config.json\",\"size\":5,\"oid\":" SHA1 ",\"lfs\":{\"oid\":" SHA1
        ",\"size\":5}}]",
        "[{\"path\":\"config.json\",\"size\":5,\"oid\":" SHA1 "},"
        "{\"path\":\"config.json\",\"size\":5,\"oid\":" SHA1 "}]",
        "[{\"path\":\"/config.json\",\"size\":5,\"oid\":" SHA1 "}]",
        "[{\"path\":\"a/../../x\",\"size\":5,\"oid\":" SHA1 "}]",
        "[{\"path\":\"a//x\",\"size\":5,\"oid\":" SHA1 "}]",
        "[{\"path\":\"\",\"size\":5,\"oid\":" SHA1 "}]",
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct listing listing;
        struct akin_error error = { 0 };
        if (listing_parse(texts[i], strlen(texts[i]), "listing", &listing, &error) != AKIN_FORMAT)
            fail_msg("not refused: %s", texts[i]);
        assert_message_has(error, "listing");
        assert_null(listing.files);
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_pull_twice),        TEST(test_bare_name),      TEST(test_dropped_connections),
        TEST(test_range_ignored),     TEST(test_wrong_bytes),    TEST(test_always_wrong_bytes),
        TEST(test_statuses),          TEST(test_redirects),      TEST(test_stall),
        TEST(test_cancel_and_resume), TEST(test_unsafe_listing), TEST(test_unusable_models),
        TEST(test_arguments),         TEST(test_busy),           TEST(test_foreign_folder),
        TEST(test_bad_listings),
    };
    struct hub probe;
    group_setup(NULL);
    bool runs = hub_start(&probe, NULL);
    int exit_status = hub_stop(&probe);
    group_teardown(NULL);
    if (!runs && exit_status == 127)
        return 77;              /* no python3: nothing to test against */
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
