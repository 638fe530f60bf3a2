/* Runs a fuzz target over its corpus where there is no libFuzzer: every file as it is, then cut
 * short, then with bytes changed, 200 times, always the same way.
 *
 *   <target> FOLDER|FILE...
 *
 * An input that crashes the target is named on standard error. */
#include <dirent.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CHANGES = 200 };

static char running[4400];      /* for the signal handler */
static size_t files, runs;

/* Where a sanitizer is linked, it calls this before it ends the process. */
__attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)(void));

static void tell_input(void)
{
    ssize_t written = write(STDERR_FILENO, running, strlen(running));
    (void)written;
}

static void on_crash(int number)
{
    tell_input();
    signal(number, SIG_DFL);
    raise(number);
}

/* Copies to a block of exactly `size` bytes, so that a read beyond it shows. */
static void run_copy(const char *path, const uint8_t *data, size_t size, int change)
{
    uint8_t *copy = malloc(size ? size : 1);
    if (!copy)
        exit(2);
    if (size)
        memcpy(copy, data, size);
    snprintf(running, sizeof running, "replay: in %s, change %d\n", path, change);
    LLVMFuzzerTestOneInput(copy, size);
    runs++;
    free(copy);
}

static void run_damaged(const char *path, uint8_t *data, size_t size)
{
    uint32_t state = 2463534242u;
    for (int change = 1; change <= CHANGES; change++) {
        uint8_t before[4];
        size_t at[4];
        for (int i = 0; i < 4; i++) {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            at[i] = state % size;
            before[i] = data[at[i]];
            if (change % 2)
                data[at[i]] = (uint8_t)(i % 2 ? state >> 24 : before[i] ^ (1u << state % 8));
        }
        run_copy(path, data, change % 2 ? size : at[0], change);
        for (int i = 3; i >= 0; i--)
            data[at[i]] = before[i];
    }
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) {
        perror(path);
        exit(2);
    }
    fseek(file, 0, SEEK_END);
    size_t size = (size_t)ftell(file);
    rewind(file);
    uint8_t *data = malloc(size + 1);
    if (!data || fread(data, 1, size, file) != size) {
        perror(path);
        exit(2);
    }
    fclose(file);
    files++;
    run_copy(path, data, size, 0);
    if (size)
        run_damaged(path, data, size);
    free(data);
}

static void run_path(const char *path)
{
    struct stat info;
    struct dirent **entries;
    if (stat(path, &info) == 0 && !S_ISDIR(info.st_mode)) {
        run_file(path);
        return;
    }
    int count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char inner[4096];
        snprintf(inner, sizeof inner, "%s/%s", path, entries[i]->d_name);
        if (entries[i]->d_name[0] != '.')
            run_path(inner);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
}

int main(int argc, char **argv)
{
    static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(tell_input);
    else
        for (size_t i = 0; i < sizeof crashes / sizeof *crashes; i++)
            signal(crashes[i], on_crash);
    run_copy("the empty input", NULL, 0, 0);
    for (int i = 1; i < argc; i++)
        run_path(argv[i]);
    printf("replay: %zu files, %zu runs\n", files, runs);
    if (files == 0)
        fprintf(stderr, "replay: no corpus in %s\n", argc > 1 ? argv[1] : "no argument");
    return files == 0;
}
