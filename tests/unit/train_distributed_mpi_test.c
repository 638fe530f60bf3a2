/* Ranks that mpirun starts: this program itself, two and four times. Skipped where there is no
 * mpirun or MPI was not built. */
#include "ranks_rig.h"

#include <stdlib.h>

static char program[4096];

static const char *environment(const char *name)
{
    return getenv(name);
}

static bool is_wrong(const struct seen *seen, size_t rank, size_t world)
{
    return seen->wrong || seen->allocations || seen->rank != rank || seen->world != world ||
           seen->local_rank != rank || seen->local_world != world ||
           strcmp(seen->link, world > 1 ? "mpi" : "alone");
}

static double first_difference(const struct seen *seen)
{
    struct launch_settings settings = { .processes = 1 };
    struct page *alone = memory_share(sizeof *alone);
    int code = -1;
    process_group_run(&settings, loss_body, alone, &code, NULL);
    for (size_t i = 0; i < LOSS_STEPS; i++)
        if (!(fabs(seen->losses[i] - alone->ranks[0].losses[i]) <= 1e-6) || code)
            return seen->losses[i] - alone->ranks[0].losses[i];
    return 0;
}

/* As one of the ranks: 0 where all is right. */
static int be_rank(const char *what)
{
    struct launch_settings settings = { .environment = environment };
    struct page *page = memory_share(sizeof *page);
    struct akin_error error = { AKIN_OK, "" };
    int (*body)(void *, struct process_group *) = !strcmp(what, "kill") ? killed_body
        : !strcmp(what, "loss") ? loss_body : sum_body;
    int code = -1;
    page->victim = 1;
    enum akin_status status = process_group_run(&settings, body, page, &code, &error);
    if (status != AKIN_OK)
        fprintf(stderr, "%s\n", error.message);
    if (status != AKIN_OK || code)
        return 1;
    size_t world = strtoul(getenv("OMPI_COMM_WORLD_SIZE"), NULL, 10);
    size_t rank = strtoul(getenv("OMPI_COMM_WORLD_RANK"), NULL, 10);
    double differs = body == loss_body ? first_difference(&page->ranks[rank]) : 0;
    if (is_wrong(&page->ranks[rank], rank, world) || differs != 0) {
        fprintf(stderr, "rank %zu of %zu: %zu wrong, losses differ by %g\n", rank, world,
                page->ranks[rank].wrong, differs);
        return 1;
    }
    return 0;
}

/* mpirun's exit code. */
static int run_mpi(const char *count, const char *what)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1);    /* Open MPI's own */
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 1);
        execlp("mpirun", "mpirun", "--oversubscribe", "--bind-to", "none", "-np", count, program,
               what, (char *)NULL);
        _exit(77);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how));
    return WEXITSTATUS(how);
}

static void sums_are_those_of_a_plain_loop(void **state)
{
    (void)state;
    assert_int_equal(run_mpi("1", "sum"), 0);
    assert_int_equal(run_mpi("2", "sum"), 0);
    assert_int_equal(run_mpi("4", "sum"), 0);
}

static void losses_are_those_of_one_process(void **state)
{
    (void)state;
    assert_int_equal(run_mpi("2", "loss"), 0);
    assert_int_equal(run_mpi("4", "loss"), 0);
}

static void a_killed_rank_ends_all(void **state)
{
    (void)state;
    uint64_t start = clock_monotonic_ns();
    assert_int_not_equal(run_mpi("3", "kill"), 0);
    assert_true(clock_monotonic_ns() - start < UINT64_C(60000000000));
}

int main(int count, char **arguments)
{
    if (count > 1 && getenv("OMPI_COMM_WORLD_SIZE"))
        return be_rank(arguments[1]);
    ssize_t bytes = readlink("/proc/self/exe", program, sizeof program - 32);
    if (bytes <= 0)
        return 1;
    char library[sizeof program];
    snprintf(library, sizeof library, "%.*s/libakin-mpi.so",
             (int)(strrchr(program, '/') - program), program);
#ifdef __SANITIZE_THREAD__
    fprintf(stderr, "skipped: Open MPI's threads are not built for the thread sanitizer\n");
    return 77;
#endif
    if (access(library, R_OK) || run_mpi("1", "sum") == 77) {
        fprintf(stderr, "skipped: no mpirun, or MPI was not built (libopenmpi-dev openmpi-bin)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_a_plain_loop),
        cmocka_unit_test(losses_are_those_of_one_process),
        cmocka_unit_test(a_killed_rank_ends_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
