/* Ranks that mpirun starts: this program itself, two and four times. Skipped where there is no
 * mpirun or MPI was not built. */
#include "ranks_rig.h"

#include <stdlib.h>

static char program[4096];

static const char *environment(const char *name)
{
    return getenv(name);
}

/* As one of the ranks: 0 where all is right. */
static int be_rank(const char *what)
{
    struct launch_settings settings = { .environment = environment };
    struct page *page = memory_share(sizeof *page);
    struct akin_error error = { AKIN_OK, "" };
    bool kills = !strcmp(what, "kill");
    int code = -1;
    page->victim = 1;
    enum akin_status status =
        process_group_run(&settings, kills ? killed_body : sum_body, page, &code, &error);
    for (size_t i = 0; !kills && status == AKIN_OK && i < RIG_RANKS; i++) {
        const struct seen *seen = &page->ranks[i];
        size_t world = strtoul(getenv("OMPI_COMM_WORLD_SIZE"), NULL, 10);
        if (seen->process && (seen->wrong || seen->allocations || seen->world != world ||
                              seen->local_rank != i || seen->local_world != world ||
                              strcmp(seen->link, world > 1 ? "mpi" : "alone"))) {
            fprintf(stderr, "rank %zu of %zu: %zu wrong\n", i, seen->world, seen->wrong);
            code = 1;
        }
    }
    if (status != AKIN_OK)
        fprintf(stderr, "%s\n", error.message);
    return status != AKIN_OK ? 1 : code;
}

/* mpirun's exit code. */
static int run_mpi(const char *count, const char *what)
{
    pid_t child = fork();
    if (child == 0) {
        setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
        setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
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

static void a_killed_rank_ends_all(void **state)
{
    (void)state;
    uint64_t start = clock_monotonic_ns();
    assert_int_not_equal(run_mpi("3", "kill"), 0);
    assert_true(clock_monotonic_ns() - start < UINT64_C(10000000000));
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
    if (access(library, R_OK) || run_mpi("1", "sum") == 77) {
        fprintf(stderr, "skipped: no mpirun, or MPI was not built (libopenmpi-dev openmpi-bin)\n");
        return 77;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_are_those_of_a_plain_loop),
        cmocka_unit_test(a_killed_rank_ends_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
