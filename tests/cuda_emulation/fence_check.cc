// A card that does not answer: the wait ends, all that uses the card is told, its memory is not
// touched again and stays in the book; other cards go on. And the book itself.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

#include "compute/cuda/fence.cuh"
#include "compute/cuda/platform.cuh"

static int failures;

#define CHECK(what)                                                                  \
    do {                                                                             \
        if (!(what)) {                                                               \
            printf("FAILED line %d: %s\n", __LINE__, #what);                         \
            failures++;                                                              \
        }                                                                            \
    } while (0)

static void waits()
{
    uint64_t began = clock_monotonic_ns();
    int asked = 0;
    CHECK(wait_until(1000000000, [&] { return ++asked == 1000; }));
    CHECK(asked == 1000);
    CHECK(!wait_until(20000000, [] { return false; }));
    CHECK(wait_until(0, [] { return true; }));
    // stopped for half a second at the first question
    asked = 0;
    CHECK(wait_until(300000000, [&] {
        if (asked++ == 0)
            clock_sleep_us(500000);
        return asked == 3;
    }));
    uint64_t took = clock_monotonic_ns() - began;
    CHECK(took >= 20000000 && took < 30000000000);
}

static void the_book()
{
    platform *one, *other;
    void *a, *b, *c;
    struct akin_error error = {};
    CHECK(platform_open(0, &one, &error, CUDA_USE_GRAPH) == AKIN_OK);
    CHECK(platform_open(1, &other, &error, CUDA_USE_GRAPH) == AKIN_OK);
    CHECK(platform_allocate(one, 1000, &a, &error) == AKIN_OK);
    CHECK(platform_allocate(one, 500, &b, &error) == AKIN_OK);
    CHECK(platform_allocate(other, 7, &c, &error) == AKIN_OK);
    CHECK(platform_held(0, CUDA_USE_GRAPH) == 1500 && platform_held(1, CUDA_USE_GRAPH) == 7);
    CHECK(platform_held(0, CUDA_USE_USERS) == 0 && platform_held(-1, CUDA_USE_GRAPH) == 0);
    platform_release(one, a);
    CHECK(platform_held(0, CUDA_USE_GRAPH) == 500 && platform_peak_bytes(one) == 1500);
    platform_release(one, b);
    platform_release(one, nullptr);
    platform_release(other, c);
    CHECK(platform_held(0, CUDA_USE_GRAPH) == 0 && platform_held(1, CUDA_USE_GRAPH) == 0);
    CHECK(platform_allocate(one, (size_t)1 << 60, &a, &error) == AKIN_MEMORY);
    CHECK(strstr(error.message, "1152921504606846976 bytes"));
    platform_close(one);
    platform_close(other);
}

// Whether the process is stopped for using a card that was given up.
static bool is_stopped(void (*use)(platform *p), platform *p)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(0);
        use(p);
        _exit(0);
    }
    int state = 0;
    return child > 0 && waitpid(child, &state, 0) == child && WIFSIGNALED(state);
}

static void allocates(platform *p)
{
    void *memory;
    platform_allocate(p, 10, &memory, nullptr);
}

static void hangs()
{
    platform *p, *beside, *elsewhere, *again;
    void *memory, *mine;
    char numbers[16], out[16];
    struct akin_error error = {};
    CHECK(platform_open(2, &p, &error, CUDA_USE_USERS) == AKIN_OK);
    CHECK(platform_open(2, &beside, &error, CUDA_USE_SEARCH) == AKIN_OK);
    CHECK(platform_open(1, &elsewhere, &error, CUDA_USE_USERS) == AKIN_OK);
    CHECK(platform_allocate(p, sizeof numbers, &memory, &error) == AKIN_OK);
    CHECK(platform_allocate(elsewhere, sizeof numbers, &mine, &error) == AKIN_OK);
    memset(numbers, 3, sizeof numbers);
    platform_upload(p, memory, numbers, sizeof numbers);
    platform_download(p, out, memory, sizeof out);
    CHECK(platform_finish(p, &error) == AKIN_OK && !memcmp(out, numbers, sizeof out));
    memset(out, 0, sizeof out);
    platform_download(p, out, memory, sizeof out);      // the second batch of card 2
    CHECK(platform_finish(p, &error) == AKIN_IO && strstr(error.message, "did not answer"));
    CHECK(out[0] == 0 && fence_is_up(2) && !fence_is_up(1));
    // who else uses the card is told, and no new one comes
    CHECK(platform_finish(beside, &error) == AKIN_IO && strstr(error.message, "given up"));
    CHECK(platform_open(2, &again, &error) == AKIN_IO && strstr(error.message, "given up"));
    CHECK(is_stopped(allocates, p));
    CHECK(!is_stopped(allocates, elsewhere));
    platform_release(p, memory);
    CHECK(platform_held(2, CUDA_USE_USERS) == sizeof numbers);
    platform_close(p);
    platform_close(beside);
    platform_upload(elsewhere, mine, numbers, sizeof numbers);
    platform_download(elsewhere, out, mine, sizeof out);
    CHECK(platform_finish(elsewhere, &error) == AKIN_OK && !memcmp(out, numbers, sizeof out));
    platform_release(elsewhere, mine);
    platform_close(elsewhere);
}

int main()
{
    setenv("AKIN_EMULATED_CARDS", "3", 1);
    setenv("AKIN_EMULATED_HANG", "2:2", 1);
    setenv("AKIN_EMULATED_WAIT_MS", "30", 1);
    waits();
    the_book();
    hangs();
    printf("fence_check: %d failed\n", failures);
    return failures > 0;
}
