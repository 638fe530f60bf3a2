/* Ranks that are told of each other by the environment and meet over TCP, on the loopback. */
#include "ranks_rig.h"

#include <netinet/in.h>
#include <sys/socket.h>

enum { VARIABLES = 8 };

/* Of this process, as getenv would give it. */
static struct { char name[48], value[64]; } variables[VARIABLES];

static const char *environment(const char *name)
{
    for (size_t i = 0; i < VARIABLES; i++)
        if (!strcmp(variables[i].name, name))
            return variables[i].value;
    return NULL;
}

__attribute__((format(printf, 2, 3)))
static void set(const char *name, const char *format, ...)
{
    for (size_t i = 0; i < VARIABLES; i++)
        if (!variables[i].name[0] || !strcmp(variables[i].name, name)) {
            va_list arguments;
            snprintf(variables[i].name, sizeof variables[i].name, "%s", name);
            va_start(arguments, format);
            vsnprintf(variables[i].value, sizeof variables[i].value, format, arguments);
            va_end(arguments);
            return;
        }
}

/* A listener on a free port of the loopback. */
static int listen_somewhere(unsigned *port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    *port = ntohs(address.sin_port);
    return fd;
}

static unsigned free_port(void)
{
    unsigned port;
    close(listen_somewhere(&port));
    return port;
}

static void use(size_t rank, size_t world, unsigned port)
{
    memset(variables, 0, sizeof variables);
    set("RANK", "%zu", rank);
    set("WORLD_SIZE", "%zu", world);
    set("MASTER_ADDR", "127.0.0.1");
    set("MASTER_PORT", "%u", port);
}

static enum akin_status run(struct page *page, double seconds,
                            int (*body)(void *, struct process_group *), int *code,
                            struct akin_error *error)
{
    struct launch_settings settings = { .environment = environment, .arrival_seconds = seconds };
    *error = (struct akin_error){ AKIN_OK, "" };
    *code = -1;
    return process_group_run(&settings, body, page, code, error);
}

/* A process with the variables as they are; what stops it before its body is noted at `slot`. */
static pid_t start(struct page *page, size_t slot, double seconds,
                   int (*body)(void *, struct process_group *))
{
    pid_t child = fork();
    if (child)
        return child;
    struct akin_error error;
    int code;
    enum akin_status status = run(page, seconds, body, &code, &error);
    if (status != AKIN_OK)
        tell(&page->ranks[slot], status, &error);
    _exit(status != AKIN_OK ? 99 : code);
}

static void start_all(struct page *page, size_t world, pid_t *children,
                      int (*body)(void *, struct process_group *))
{
    unsigned port = free_port();
    for (size_t i = world; i-- > 0;) {      /* the first rank last: the others wait for it */
        use(i, world, port);
        children[i] = start(page, i, 20, body);
    }
}

/* -signal, or the exit code. */
static int end_of(pid_t child)
{
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
}

static void sums_are_those_of_a_plain_loop(void **state)
{
    (void)state;
    static const size_t worlds[] = { 2, 3, 4 };
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        struct page *page = page_make();
        pid_t children[RIG_RANKS];
        start_all(page, worlds[i], children, sum_body);
        for (size_t j = 0; j < worlds[i]; j++)
            assert_int_equal(end_of(children[j]), 0);
        check_sums(page, worlds[i], "tcp");
        memory_unshare(page, sizeof *page);
    }
}

static void losses_are_those_of_one_process(void **state)
{
    (void)state;
    for (size_t world = 2; world <= 4; world *= 2) {
        struct page *page = page_make();
        pid_t children[RIG_RANKS];
        start_all(page, world, children, loss_body);
        for (size_t i = 0; i < world; i++)
            assert_int_equal(end_of(children[i]), 0);
        check_losses(page, world);
        memory_unshare(page, sizeof *page);
    }
}

static void slurm_is_understood(void **state)
{
    (void)state;
    struct page *page = page_make();
    pid_t children[2];
    unsigned port = free_port();
    for (size_t i = 0; i < 2; i++) {
        memset(variables, 0, sizeof variables);
        set("SLURM_PROCID", "%zu", i);
        set("SLURM_STEP_NUM_TASKS", "2");
        set("SLURM_LOCALID", "%zu", i);
        set("SLURM_JOB_ID", "4711");
        set("SLURM_STEP_NODELIST", "localhos[t],other[3-5]");
        set("MASTER_PORT", "%u", port);
        children[i] = start(page, i, 20, sum_body);
    }
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(end_of(children[i]), 0);
    check_sums(page, 2, "tcp");
    memory_unshare(page, sizeof *page);
}

/* torchrun's agent has the port itself: one beside it is taken, of those that are free. */
static void beside_an_agent_another_port_is_found(void **state)
{
    (void)state;
    struct page *page = page_make();
    pid_t children[3];
    unsigned port;
    int agent = listen_somewhere(&port);
    for (size_t i = 3; i-- > 0;) {
        use(i, 3, port);
        set("TORCHELASTIC_USE_AGENT_STORE", "True");
        set("TORCHELASTIC_RUN_ID", "one");
        set("LOCAL_RANK", "%zu", i);
        children[i] = start(page, i, 20, sum_body);
    }
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(end_of(children[i]), 0);
    check_sums(page, 3, "tcp");
    close(agent);
    memory_unshare(page, sizeof *page);
}

static void a_killed_rank_is_named(void **state)
{
    (void)state;
    for (size_t victim = 0; victim < 4; victim++) {
        struct page *page = page_make();
        pid_t children[4];
        char part[64];
        page->victim = victim;
        uint64_t began = clock_monotonic_ns();
        start_all(page, 4, children, killed_body);
        for (size_t i = 0; i < 4; i++)
            assert_int_equal(end_of(children[i]), i == victim ? -SIGKILL : 1);
        assert_true(clock_monotonic_ns() - began < UINT64_C(20000000000));
        snprintf(part, sizeof part, "rank %zu (", victim);
        check_told(page, 4, part);
        snprintf(part, sizeof part, ", process %d) ended", (int)children[victim]);
        check_told(page, 4, part);
        memory_unshare(page, sizeof *page);
    }
}

static void why_a_rank_fails_is_told(void **state)
{
    (void)state;
    struct page *page = page_make();
    pid_t children[3];
    page->victim = 2;
    start_all(page, 3, children, fail_body);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(end_of(children[i]), 1);
    check_told(page, 3, "rank 2 stopped: the loss of step 3 is not a number");
    memory_unshare(page, sizeof *page);
}

static int be_stopped(struct process_group *group)
{
    (void)group;
    raise(SIGSTOP);
    return 1;
}

static int stopped_body(void *context, struct process_group *group)
{
    return lose_body(context, group, be_stopped);
}

static void a_rank_that_is_silent_is_named(void **state)
{
    (void)state;
    struct page *page = page_make();
    pid_t children[3];
    page->victim = 1;
    uint64_t began = clock_monotonic_ns();
    start_all(page, 3, children, stopped_body);
    assert_int_equal(end_of(children[0]), 1);
    assert_int_equal(end_of(children[2]), 1);
    assert_true(clock_monotonic_ns() - began < UINT64_C(20000000000));
    check_told(page, 3, "has not been heard of for 4 s");
    check_told(page, 3, "rank 1 (");
    kill(children[1], SIGKILL);
    kill(children[1], SIGCONT);
    assert_int_equal(end_of(children[1]), -SIGKILL);
    memory_unshare(page, sizeof *page);
}

/* Rank 0 waits so long for four others, of whom one comes: false where a busy machine was too slow
 * to let it. */
static bool waits_for_those_who_do_not_come(double seconds)
{
    struct page *page = page_make();
    unsigned port = free_port();
    use(1, 5, port);
    pid_t other = start(page, 1, 100, sum_body);
    use(0, 5, port);
    struct akin_error error;
    int code;
    uint64_t began = clock_monotonic_ns();
    assert_int_equal(run(page, seconds, sum_body, &code, &error), AKIN_NETWORK);
    assert_true(clock_monotonic_ns() - began < 1e9 * (seconds + 20));
    if (strstr(error.message, "ranks 1 to 4 of 5 did not come")) {
        kill(other, SIGKILL);
        end_of(other);
        memory_unshare(page, sizeof *page);
        return false;
    }
    assert_non_null(strstr(error.message, "ranks 2 to 4 of 5 did not come"));
    assert_int_equal(end_of(other), 99);
    assert_non_null(strstr(page->ranks[1].message, "ranks 2 to 4 of 5 did not come"));
    memory_unshare(page, sizeof *page);
    return true;
}

static void ranks_that_do_not_come_are_named(void **state)
{
    (void)state;
    double seconds = 1;
    while (!waits_for_those_who_do_not_come(seconds) && seconds < 30)
        seconds *= 2;
    assert_true(seconds < 30);
    struct page *page = page_make();
    struct akin_error error;
    int code;
    unsigned port = free_port();
    use(3, 5, port);
    assert_int_equal(run(page, 0.3, sum_body, &code, &error), AKIN_NETWORK);
    assert_non_null(strstr(error.message, "rank 0 did not answer at 127.0.0.1 port"));
    memory_unshare(page, sizeof *page);
}

static void a_port_in_use_is_named(void **state)
{
    (void)state;
    struct akin_error error;
    unsigned port;
    int code, holder = listen_somewhere(&port);
    use(0, 2, port);
    assert_int_equal(run(NULL, 1, sum_body, &code, &error), AKIN_BUSY);
    assert_non_null(strstr(error.message, "MASTER_PORT"));
    close(holder);
}

/* Two processes whose variables do not fit; both say so. */
static void check_misfit(size_t rank, size_t world, const char *part)
{
    struct page *page = page_make();
    unsigned port = free_port();
    struct akin_error error;
    int code;
    use(rank, world, port);
    pid_t other = start(page, 1, 20, sum_body);
    use(0, 2, port);
    enum akin_status status = run(page, 20, sum_body, &code, &error);
    assert_int_equal(status, AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, part));
    assert_int_equal(end_of(other), 99);
    assert_non_null(strstr(page->ranks[1].message, part));
    memory_unshare(page, sizeof *page);
}

static void ranks_that_do_not_fit_are_told(void **state)
{
    (void)state;
    check_misfit(1, 3, "WORLD_SIZE is 3 at rank 1 (");
    struct page *page = page_make();
    unsigned port = free_port();
    struct akin_error error;
    pid_t twins[2];
    int code;
    for (size_t i = 0; i < 2; i++) {
        use(1, 3, port);
        twins[i] = start(page, 1, 20, sum_body);
    }
    use(0, 3, port);
    assert_int_equal(run(page, 20, sum_body, &code, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "two processes are rank 1: "));
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(end_of(twins[i]), 99);
    memory_unshare(page, sizeof *page);
}

static void a_stranger_at_the_port_does_no_harm(void **state)
{
    (void)state;
    struct page *page = page_make();
    unsigned port = free_port();
    pid_t children[2];
    use(0, 2, port);
    children[0] = start(page, 0, 20, sum_body);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    for (int i = 0; i < 2; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        while (connect(fd, (struct sockaddr *)&address, sizeof address)) {
            close(fd);
            nap(0.01);
            fd = socket(AF_INET, SOCK_STREAM, 0);
        }
        static const char noise[200] = "GET / HTTP/1.1\r\n\r\n";
        assert_int_equal(send(fd, noise, i ? sizeof noise : 20, MSG_NOSIGNAL), i ? 200 : 20);
        close(fd);
    }
    use(1, 2, port);
    children[1] = start(page, 1, 20, sum_body);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(end_of(children[i]), 0);
    check_sums(page, 2, "tcp");
    memory_unshare(page, sizeof *page);
}

static void check_bad(const char *name, const char *value, const char *part)
{
    struct akin_error error;
    int code;
    use(0, 2, 29500);
    set(name, "%s", value);
    enum akin_status status = run(NULL, 1, sum_body, &code, &error);
    if (status != AKIN_ARGUMENT || !strstr(error.message, name) || !strstr(error.message, part))
        fail_msg("%s=%s: status %d, %s", name, value, status, error.message);
}

static void a_bad_variable_is_named(void **state)
{
    (void)state;
    check_bad("RANK", "2", "0 to 1");
    check_bad("RANK", "-1", "0 to 1");
    check_bad("RANK", "", "0 to 1");
    check_bad("RANK", "1x", "0 to 1");
    check_bad("WORLD_SIZE", "0", "1 to 1024");
    check_bad("WORLD_SIZE", "99999999999999999999999", "1 to 1024");
    check_bad("LOCAL_RANK", "7", "0 to 1");
    check_bad("MASTER_PORT", "0", "1 to 65535");
    check_bad("MASTER_PORT", "65536", "1 to 65535");
    check_bad("MASTER_ADDR", "", "empty");
    check_bad("MASTER_ADDR", "no.such.machine.invalid", "name of no machine");

    struct akin_error error;
    int code;
    memset(variables, 0, sizeof variables);
    set("WORLD_SIZE", "2");
    assert_int_equal(run(NULL, 1, sum_body, &code, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "RANK is not set"));
    use(0, 2, 29500);
    struct launch_settings settings = { .processes = 2, .environment = environment };
    assert_int_equal(process_group_run(&settings, sum_body, NULL, &code, &error), AKIN_ARGUMENT);
    assert_non_null(strstr(error.message, "--processes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_a_plain_loop),
        cmocka_unit_test(losses_are_those_of_one_process),
        cmocka_unit_test(slurm_is_understood),
        cmocka_unit_test(beside_an_agent_another_port_is_found),
        cmocka_unit_test(a_killed_rank_is_named),
        cmocka_unit_test(why_a_rank_fails_is_told),
        cmocka_unit_test(a_rank_that_is_silent_is_named),
        cmocka_unit_test(ranks_that_do_not_come_are_named),
        cmocka_unit_test(a_port_in_use_is_named),
        cmocka_unit_test(ranks_that_do_not_fit_are_told),
        cmocka_unit_test(a_stranger_at_the_port_does_no_harm),
        cmocka_unit_test(a_bad_variable_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
