/* Ranks as children of one process: their sums, and what happens when one is lost. */
#include "ranks_rig.h"

#include <errno.h>

static void no_child_is_left(void)
{
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static enum akin_status run_forked(struct page *page, size_t processes,
                                   int (*body)(void *, struct process_group *), int *code,
                                   struct akin_error *error)
{
    struct launch_settings settings = { .processes = processes };
    *error = (struct akin_error){ AKIN_OK, "" };
    *code = -1;
    enum akin_status status = process_group_run(&settings, body, page, code, error);
    no_child_is_left();
    return status;
}

static void sums_are_those_of_a_plain_loop(void **state)
{
    (void)state;
    static const size_t worlds[] = { 2, 3, 4 };
    for (size_t i = 0; i < sizeof worlds / sizeof *worlds; i++) {
        struct page *page = page_make();
        struct akin_error error;
        int code;
        assert_int_equal(run_forked(page, worlds[i], sum_body, &code, &error), AKIN_OK);
        check_sums(page, worlds[i], "shared memory");
        assert_int_equal(code, 0);
        memory_unshare(page, sizeof *page);
    }
}

static void losses_are_those_of_one_process(void **state)
{
    (void)state;
    for (size_t world = 2; world <= 4; world *= 2) {
        struct page *page = page_make();
        struct akin_error error;
        int code;
        assert_int_equal(run_forked(page, world, loss_body, &code, &error), AKIN_OK);
        assert_int_equal(code, 0);
        check_losses(page, world);
        memory_unshare(page, sizeof *page);
    }
}

/* More ranges than there is room for: `start` waits until some are summed. */
static int many_body(void *context, struct process_group *group)
{
    struct seen *seen = introduce(context, group);
    const struct gradient_reducer *reducer = process_group_reducer(group);
    static float values[5000];
    struct akin_error error;
    for (size_t i = 0; i < 5000; i++)
        values[i] = (float)(seen->rank + i);
    for (size_t i = 0; i < 5000; i++)
        reducer->start(reducer->context, values, i, 1);
    enum akin_status status = reducer->wait(reducer->context, &error);
    for (size_t i = 0; i < 5000; i++)
        seen->wrong += values[i] != (float)(3 + 3 * i);
    return tell(seen, status, &error);
}

static void many_ranges_wait_for_room(void **state)
{
    (void)state;
    struct page *page = page_make();
    struct akin_error error;
    int code;
    assert_int_equal(run_forked(page, 3, many_body, &code, &error), AKIN_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(page->ranks[i].wrong + page->ranks[i].status, 0);
    memory_unshare(page, sizeof *page);
}

static void alone_nothing_is_forked(void **state)
{
    (void)state;
    for (size_t processes = 0; processes < 2; processes++) {
        struct page *page = page_make();
        struct akin_error error;
        int code;
        assert_int_equal(run_forked(page, processes, sum_body, &code, &error), AKIN_OK);
        assert_int_equal(code, 0);
        assert_int_equal(page->ranks[0].process, getpid());
        assert_int_equal(page->ranks[0].local_world, 1);
        assert_string_equal(page->ranks[0].link, "alone");
        memory_unshare(page, sizeof *page);
    }
}

static void a_killed_rank_is_named(void **state)
{
    (void)state;
    for (size_t victim = 0; victim < 4; victim++) {
        struct page *page = page_make();
        struct akin_error error;
        char part[64];
        int code;
        page->victim = victim;
        uint64_t start = clock_monotonic_ns();
        assert_int_equal(run_forked(page, 4, killed_body, &code, &error), AKIN_NETWORK);
        assert_true(clock_monotonic_ns() - start < UINT64_C(20000000000));
        snprintf(part, sizeof part, "rank %zu (process %d) was killed by signal 9", victim,
                 (int)page->ranks[victim].process);
        assert_non_null(strstr(error.message, part));
        check_told(page, 4, part);
        assert_int_equal(code, 137);
        memory_unshare(page, sizeof *page);
    }
}

static void why_a_rank_fails_is_told(void **state)
{
    (void)state;
    struct page *page = page_make();
    struct akin_error error;
    int code;
    page->victim = 1;
    signal(SIGCHLD, SIG_IGN);   /* as some programs leave it to those they start */
    assert_int_equal(run_forked(page, 3, fail_body, &code, &error), AKIN_OK);
    assert_ptr_equal(signal(SIGCHLD, SIG_DFL), SIG_IGN);
    assert_int_equal(code, 1);
    check_told(page, 3, "rank 1 stopped: the loss of step 3 is not a number");
    memory_unshare(page, sizeof *page);
}

static int leave(struct process_group *group)
{
    (void)group;
    return 3;
}

static int leave_body(void *context, struct process_group *group)
{
    return lose_body(context, group, leave);
}

static void an_exit_code_is_passed_on(void **state)
{
    (void)state;
    struct page *page = page_make();
    struct akin_error error;
    int code;
    page->victim = 0;
    assert_int_equal(run_forked(page, 2, leave_body, &code, &error), AKIN_OK);
    assert_true(code == 3 || code == 1);    /* whichever ended first */
    check_told(page, 2, "rank 0 stopped: its exit code is 3");
    memory_unshare(page, sizeof *page);
}

static void on_lost(void *context, const struct akin_error *error)
{
    struct page *page = context;
    snprintf(page->ranks[0].message, sizeof page->ranks[0].message, "%s", error->message);
    _exit(9);
}

/* Rank 0 is in a step that takes longer than anybody waits; rank 1 dies when it has begun, as one
 * that is lost before is told of where ranks come together. */
static int slow_body(void *context, struct process_group *group)
{
    struct page *page = context;
    const struct seen *seen = introduce(page, group);
    if (seen->rank == 1) {
        while (!((volatile const struct seen *)&page->ranks[0])->process)
            nap(0.01);
        return be_killed(group);
    }
    nap(60);
    return 0;
}

static void a_rank_in_a_long_step_is_ended(void **state)
{
    (void)state;
    struct page *page = page_make();
    struct akin_error error;
    struct launch_settings settings = {
        .processes = 2, .lost = on_lost, .lost_context = page,
    };
    int code;
    uint64_t start = clock_monotonic_ns();
    assert_int_equal(process_group_run(&settings, slow_body, page, &code, &error), AKIN_NETWORK);
    assert_true(clock_monotonic_ns() - start < UINT64_C(30000000000));
    assert_non_null(strstr(page->ranks[0].message, "rank 1 (process"));
    no_child_is_left();
    memory_unshare(page, sizeof *page);
}

static int differing_body(void *context, struct process_group *group)
{
    struct seen *seen = introduce(context, group);
    static double values[10];
    struct akin_error error;
    return tell(seen, process_group_sum(group, values, seen->rank == 1 ? 7 : 10, &error), &error);
}

static void ranks_that_sum_different_things_are_told(void **state)
{
    (void)state;
    struct page *page = page_make();
    struct akin_error error;
    int code;
    assert_int_equal(run_forked(page, 2, differing_body, &code, &error), AKIN_OK);
    assert_int_equal(code, 1);
    for (size_t i = 0; i < 2; i++)
        assert_non_null(strstr(page->ranks[i].message, "do not sum the same numbers"));
    memory_unshare(page, sizeof *page);
}

static int sleeping_body(void *context, struct process_group *group)
{
    introduce(context, group);
    nap(30);
    return 0;
}

static void wait_for_ranks(const struct page *page, size_t count)
{
    for (int i = 0; i < 1000; i++) {
        size_t there = 0;
        for (size_t j = 0; j < count; j++)
            there += ((volatile const struct seen *)&page->ranks[j])->process != 0;
        if (there == count)
            return;
        nap(0.01);
    }
    fail_msg("the ranks did not start");
}

static bool is_gone(pid_t process)
{
    for (int i = 0; i < 500; i++) {
        if (kill(process, 0) && errno == ESRCH)
            return true;
        nap(0.01);
    }
    return false;
}

static pid_t start_parent(struct page *page)
{
    pid_t parent = fork();
    if (parent)
        return parent;
    struct launch_settings settings = { .processes = 2 };
    struct akin_error error = { AKIN_OK, "" };
    int code = -1;
    enum akin_status status = process_group_run(&settings, sleeping_body, page, &code, &error);
    _exit(status == AKIN_CANCELLED ? code : 1);
}

static void a_signal_is_passed_on(void **state)
{
    (void)state;
    static const struct { int signal, code; } cases[] = { { SIGINT, 130 }, { SIGTERM, 143 } };
    for (size_t i = 0; i < 2; i++) {
        struct page *page = page_make();
        int how;
        pid_t parent = start_parent(page);
        wait_for_ranks(page, 2);
        kill(parent, cases[i].signal);
        assert_int_equal(waitpid(parent, &how, 0), parent);
        assert_true(WIFEXITED(how));
        assert_int_equal(WEXITSTATUS(how), cases[i].code);
        for (size_t j = 0; j < 2; j++)
            assert_true(is_gone(page->ranks[j].process));
        memory_unshare(page, sizeof *page);
    }
}

/* Whoever reaps orphans may be slow: that they are killed is seen in that they no longer run. */
static void a_killed_parent_leaves_nobody(void **state)
{
    (void)state;
    struct page *page = page_make();
    pid_t parent = start_parent(page);
    wait_for_ranks(page, 2);
    kill(parent, SIGKILL);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    for (size_t j = 0; j < 2; j++) {
        char path[64], text[256] = "";
        snprintf(path, sizeof path, "/proc/%d/stat", (int)page->ranks[j].process);
        for (int i = 0; i < 500; i++) {
            FILE *file = fopen(path, "r");
            text[0] = 0;
            if (!file || !fgets(text, sizeof text, file) || strstr(text, ") Z")) {
                text[0] = 0;
                if (file)
                    fclose(file);
                break;
            }
            fclose(file);
            nap(0.01);
        }
        assert_string_equal(text, "");
    }
    memory_unshare(page, sizeof *page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_a_plain_loop),
        cmocka_unit_test(losses_are_those_of_one_process),
        cmocka_unit_test(many_ranges_wait_for_room),
        cmocka_unit_test(alone_nothing_is_forked),
        cmocka_unit_test(a_killed_rank_is_named),
        cmocka_unit_test(why_a_rank_fails_is_told),
        cmocka_unit_test(an_exit_code_is_passed_on),
        cmocka_unit_test(a_rank_in_a_long_step_is_ended),
        cmocka_unit_test(ranks_that_sum_different_things_are_told),
        cmocka_unit_test(a_signal_is_passed_on),
        cmocka_unit_test(a_killed_parent_leaves_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
