// See cards.h.
#include "cards.h"

#include <atomic>
#include <cstdio>
#include <cstdlib>

#include <fcntl.h>
#include <unistd.h>

static std::atomic<size_t> used[EMULATED_CARDS_MAX];
static std::atomic<unsigned> batches[EMULATED_CARDS_MAX];

static unsigned long long number_of(const char *name, unsigned long long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, nullptr, 10) : otherwise;
}

int cards_count()
{
    unsigned long long count = number_of("AKIN_EMULATED_CARDS", 1);
    return count < EMULATED_CARDS_MAX ? (int)count : (int)EMULATED_CARDS_MAX;
}

uint64_t cards_wait_ns()
{
    return 1000000ull * number_of("AKIN_EMULATED_WAIT_MS", 2000);
}

int cards_capability()
{
    return (int)number_of("AKIN_EMULATED_CAPABILITY", 90);
}

size_t cards_shared_bytes()
{
    return number_of("AKIN_EMULATED_SHARED", 227 << 10);
}

size_t cards_memory(int ordinal)
{
    return number_of("AKIN_EMULATED_MEMORY", (8ull + (unsigned)ordinal) << 30);
}

size_t cards_free(int ordinal)
{
    size_t taken = used[ordinal].load(), all = cards_memory(ordinal);
    return all > taken ? all - taken : 0;
}

bool cards_take(int ordinal, size_t bytes)
{
    if (used[ordinal].fetch_add(bytes) + bytes <= cards_memory(ordinal))
        return true;
    used[ordinal].fetch_sub(bytes);
    return false;
}

void cards_give(int ordinal, size_t bytes)
{
    used[ordinal].fetch_sub(bytes);
}

static bool is_due(const char *name, int ordinal, unsigned batch)
{
    const char *text = getenv(name);
    int card = 0;
    unsigned at = 0;
    return text && sscanf(text, "%d:%u", &card, &at) == 2 && card == ordinal && batch >= at;
}

static void note(int ordinal)
{
    const char *path = getenv("AKIN_EMULATED_LOG");
    int file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    char line[32];
    int bytes = snprintf(line, sizeof line, "card %d\n", ordinal);
    if (file < 0)
        return;
    if (write(file, line, (size_t)bytes) != bytes)
        perror(path);
    close(file);
}

card_fault cards_batch(int ordinal)
{
    unsigned batch = ++batches[ordinal];
    if (is_due("AKIN_EMULATED_FAIL", ordinal, batch))
        return CARD_FAILS;
    if (is_due("AKIN_EMULATED_HANG", ordinal, batch))
        return CARD_HANGS;
    note(ordinal);
    return CARD_FINE;
}
