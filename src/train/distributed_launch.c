/* Which way the ranks were started, as the environment tells it. */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "train/distributed_ring.h"

enum {
    PORT_DEFAULT = 29500,
    PORTS_BESIDE_AGENT = 16,
    ARRIVAL_SECONDS = 120,
    ARRIVAL_SECONDS_MAX = 1000000,
};

static const char *no_environment(const char *name)
{
    (void)name;
    return NULL;
}

/* A whole number of [least, most] in `name`, which must be there. */
static enum akin_status number_of(const struct launch_settings *settings, const char *name,
                                  size_t least, size_t most, size_t *value,
                                  struct akin_error *error)
{
    const char *text = settings->environment(name);
    if (!text)
        return error_set(error, AKIN_ARGUMENT, "%s is not set, but other variables of a "
                         "distributed run are: set it, or unset them", name);
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end || errno || number < least || number > most)
        return error_set(error, AKIN_ARGUMENT, "%s is '%.64s', which is no whole number from %zu "
                         "to %zu", name, text, least, most);
    *value = (size_t)number;
    return AKIN_OK;
}

static enum akin_status take_address(struct rendezvous *rendezvous, const char *name,
                                     const char *text, size_t count, struct akin_error *error)
{
    if (!count || count >= sizeof rendezvous->address)
        return error_set(error, AKIN_ARGUMENT, "%s is %s: give the name or address of the machine "
                         "of rank 0", name, count ? "too long" : "empty");
    snprintf(rendezvous->address, sizeof rendezvous->address, "%.*s", (int)count, text);
    return AKIN_OK;
}

/* The first host of "a,b", "node[03-07,9]x" and the like. */
static enum akin_status first_host(const char *list, struct rendezvous *rendezvous,
                                   struct akin_error *error)
{
    char host[256];
    size_t prefix = strcspn(list, "[,");
    const char *number = list + prefix + (list[prefix] == '[');
    size_t digits = list[prefix] == '[' ? strcspn(number, "-,]") : 0;
    const char *behind = list[prefix] == '[' ? strchr(number, ']') : NULL;
    behind = behind ? behind + 1 : "";
    int count = snprintf(host, sizeof host, "%.*s%.*s%.*s", (int)prefix, list, (int)digits, number,
                         (int)strcspn(behind, ","), behind);
    return take_address(rendezvous, "SLURM_STEP_NODELIST", host, count < 0 ? 0 : (size_t)count,
                        error);
}

static enum akin_status read_torchrun(const struct launch_settings *settings,
                                      struct rendezvous *rendezvous, size_t *local_rank,
                                      struct akin_error *error)
{
    size_t port;
    TRY(number_of(settings, "WORLD_SIZE", 1, RANKS_MAX, &rendezvous->world, error));
    TRY(number_of(settings, "RANK", 0, rendezvous->world - 1, &rendezvous->rank, error));
    if (settings->environment("LOCAL_RANK"))
        TRY(number_of(settings, "LOCAL_RANK", 0, rendezvous->world - 1, local_rank, error));
    if (rendezvous->world == 1)
        return AKIN_OK;
    TRY(number_of(settings, "MASTER_PORT", 1, 65535, &port, error));
    const char *address = settings->environment("MASTER_ADDR");
    TRY(take_address(rendezvous, "MASTER_ADDR", address ? address : "",
                     address ? strlen(address) : 0, error));
    rendezvous->port = (unsigned)port;
    rendezvous->ports = 1;
    /* torchrun's agent listens on MASTER_PORT itself. */
    const char *agent = settings->environment("TORCHELASTIC_USE_AGENT_STORE");
    if (agent && !strcmp(agent, "True")) {
        rendezvous->port = port + PORTS_BESIDE_AGENT < 65535 ? (unsigned)port + 1 : 20000;
        rendezvous->ports = PORTS_BESIDE_AGENT;
    }
    const char *run = settings->environment("TORCHELASTIC_RUN_ID");
    rendezvous->run = run ? hash_bytes(run, strlen(run)) : 0;
    rendezvous->world_name = "WORLD_SIZE";
    rendezvous->port_name = "MASTER_PORT";
    return AKIN_OK;
}

/* SLURM_STEP_NUM_TASKS, unlike SLURM_NTASKS, is only there in what srun started. */
static enum akin_status read_slurm(const struct launch_settings *settings,
                                   struct rendezvous *rendezvous, size_t *local_rank,
                                   struct akin_error *error)
{
    TRY(number_of(settings, "SLURM_STEP_NUM_TASKS", 1, RANKS_MAX, &rendezvous->world, error));
    TRY(number_of(settings, "SLURM_PROCID", 0, rendezvous->world - 1, &rendezvous->rank, error));
    if (settings->environment("SLURM_LOCALID"))
        TRY(number_of(settings, "SLURM_LOCALID", 0, rendezvous->world - 1, local_rank, error));
    if (rendezvous->world == 1)
        return AKIN_OK;
    size_t job = 0, port;
    if (settings->environment("SLURM_JOB_ID"))
        TRY(number_of(settings, "SLURM_JOB_ID", 0, UINT32_MAX, &job, error));
    rendezvous->run = job;
    rendezvous->port = PORT_DEFAULT + job % 1000;
    rendezvous->ports = 1;
    rendezvous->world_name = "SLURM_STEP_NUM_TASKS";
    rendezvous->port_name = "MASTER_PORT (by default made of SLURM_JOB_ID)";
    if (settings->environment("MASTER_PORT")) {
        TRY(number_of(settings, "MASTER_PORT", 1, 65535, &port, error));
        rendezvous->port = (unsigned)port;
        rendezvous->port_name = "MASTER_PORT";
    }
    const char *address = settings->environment("MASTER_ADDR");
    if (address)
        return take_address(rendezvous, "MASTER_ADDR", address, strlen(address), error);
    const char *nodes = settings->environment("SLURM_STEP_NODELIST");
    if (!nodes)
        return error_set(error, AKIN_ARGUMENT, "neither MASTER_ADDR nor SLURM_STEP_NODELIST is "
                         "set: set MASTER_ADDR to the machine of rank 0");
    return first_host(nodes, rendezvous, error);
}

static enum akin_status run_tcp(const struct launch_settings *settings,
                                const struct rendezvous *rendezvous, size_t local_rank,
                                int (*body)(void *context, struct process_group *group),
                                void *context, int *exit_code, struct akin_error *error)
{
    struct ring_link link = { .name = "alone" };
    if (rendezvous->world > 1)
        TRY(tcp_connect(rendezvous, &link, error));
    return group_run_over(settings, link, rendezvous->rank, rendezvous->world, local_rank, body,
                          context, exit_code, error);
}

/* NULL where it is not installed; *why then says why. It stays loaded. */
static void *load_mpi(char *why, size_t bytes)
{
    static const char *const folders[] = { "", "../lib/akin/", "../lib64/akin/" };
    char path[PATH_BYTES_MAX], program[PATH_BYTES_MAX / 2];
    ssize_t count = readlink("/proc/self/exe", program, sizeof program - 1);
    program[count > 0 ? count : 0] = 0;
    int folder = (int)(path_last(program) - program);
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        snprintf(path, sizeof path, "%.*s%s" MPI_LIBRARY, folder, program, folders[i]);
        if (!path_exists(path))
            continue;
        void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        if (library)
            return library;
        snprintf(why, bytes, "%s", dlerror());
    }
    return NULL;
}

static enum akin_status run_mpi(const struct launch_settings *settings,
                                int (*body)(void *context, struct process_group *group),
                                void *context, int *exit_code, struct akin_error *error)
{
    char why[512] = "there is no " MPI_LIBRARY;
    enum akin_status (*connect)(struct ring_link *, size_t *, size_t *, struct akin_error *) = NULL;
    void *library = load_mpi(why, sizeof why);
    void *symbol = library ? dlsym(library, MPI_CONNECT) : NULL;
    memcpy(&connect, &symbol, sizeof connect);
    if (!connect)
        return error_set(error, AKIN_UNSUPPORTED, "this process was started by mpirun "
                         "(OMPI_COMM_WORLD_SIZE is set), but MPI cannot be used (%s): install "
                         "libopenmpi-dev and build again, or use --processes or torchrun", why);
    struct ring_link link;
    size_t rank, world;
    TRY(connect(&link, &rank, &world, error));
    return group_run_over(settings, link, rank, world, SIZE_MAX, body, context, exit_code, error);
}

enum akin_status process_group_run(const struct launch_settings *settings,
                                   int (*body)(void *context, struct process_group *group),
                                   void *context, int *exit_code, struct akin_error *error)
{
    struct launch_settings own = *settings;
    if (!own.environment)
        own.environment = no_environment;
    struct rendezvous rendezvous = {
        .world = 1, .seconds = own.arrival_seconds > 0 && own.arrival_seconds < ARRIVAL_SECONDS_MAX
            ? own.arrival_seconds : ARRIVAL_SECONDS,
    };
    size_t local_rank = SIZE_MAX;
    bool torchrun = own.environment("RANK") || own.environment("WORLD_SIZE");
    bool slurm = own.environment("SLURM_PROCID") && own.environment("SLURM_STEP_NUM_TASKS");
    bool mpirun = own.environment("OMPI_COMM_WORLD_SIZE") != NULL;
    if (own.processes > RANKS_MAX)
        return error_set(error, AKIN_LIMIT, "%zu processes are more than %d", own.processes,
                         RANKS_MAX);
    if (torchrun)
        TRY(read_torchrun(&own, &rendezvous, &local_rank, error));
    else if (slurm && !mpirun)
        TRY(read_slurm(&own, &rendezvous, &local_rank, error));
    if (own.processes && (rendezvous.world > 1 || (mpirun && !torchrun)))
        return error_set(error, AKIN_ARGUMENT, "this process is one of %s already: it cannot fork "
                         "%zu of its own (--processes)", mpirun ? "mpirun's" : "several ranks",
                         own.processes);
    if (own.processes > 1)
        return fork_run(&own, body, context, exit_code, error);
    if (mpirun && !torchrun && !own.processes)
        return run_mpi(&own, body, context, exit_code, error);
    return run_tcp(&own, &rendezvous, local_rank, body, context, exit_code, error);
}
