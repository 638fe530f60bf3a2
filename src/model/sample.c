/* See sample.h. Words are put into frames by a seeded generator. */
#include "model/sample.h"

#include <stdio.h>
#include <string.h>

#include "base/rng.h"

static const char *const nouns[] = {
    "river",   "castle",  "detective", "robot",   "garden",  "pirate",   "mirror",   "violin",
    "glacier", "market",  "submarine", "letter",  "orchard", "comet",    "bakery",   "lighthouse",
    "dragon",  "railway", "surgeon",   "desert",  "painter", "election", "wedding",  "volcano",
    "chess",   "harbour", "library",   "soldier", "festival", "bicycle", "museum",   "satellite",
    "teacher", "bank",    "forest",    "boxer",   "storm",   "kitchen",  "telescope", "prison",
};

static const char *const adjectives[] = {
    "quiet",  "golden", "broken",  "electric", "lost",    "young",     "endless",  "funny",
    "dark",   "royal",  "hidden",  "frozen",   "honest",  "dangerous", "portable", "ancient",
    "cheap",  "lonely", "crimson", "modern",   "haunted", "gentle",    "wooden",   "brilliant",
};

static const char *const actions[] = {
    "repair", "steal", "paint", "escape from", "photograph", "inherit",  "rebuild", "follow",
    "sell",   "guard", "study", "abandon",     "discover",   "negotiate", "cook for", "insure",
};

static const char *const places[] = {
    "Lisbon", "the Andes",  "Tokyo",   "a small village", "Berlin", "outer space", "New Orleans",
    "Mumbai", "the Arctic", "Nairobi", "a night train",   "Sydney", "the suburbs", "Istanbul",
};

static const char *const genres[] = {
    "Drama", "Comedy", "Thriller", "Documentary", "Animation", "Crime", "Romance", "Horror",
    "Science Fiction", "Western", "Musical", "War", "Fantasy", "Mystery",
};

static const char *const services[] = { "sshd", "kernel", "nginx", "postgres", "systemd", "cron" };

static const char *const events[] = {
    "connection refused by upstream",     "authentication failure for user operator",
    "disk usage above ninety percent",    "worker process exited on signal 11",
    "certificate will expire in 3 days",  "checkpoint complete, wrote 1024 buffers",
    "link is down on interface eth1",     "session opened for user root",
    "out of memory, killed one process",  "query took longer than the limit",
};

static const char *const foreign[] = {
    "Der alte Leuchtturm am Ende der Stra\xc3\x9f" "e ist seit Jahren verlassen",
    "Une com\xc3\xa9" "die romantique dans un petit village au bord de la mer",
    "\xc2\xbf" "C\xc3\xb3mo puedo cambiar mi contrase\xc3\xb1" "a desde el tel\xc3\xa9" "fono?",
    "Un treno in ritardo cambia la vita di due sconosciuti",
    "O gato dorme na janela enquanto chove l\xc3\xa1 fora",
    "\xd0\x9c\xd0\xbe\xd0\xbb\xd0\xbe\xd0\xb4\xd0\xbe\xd0\xb9 \xd0\xb2\xd1\x80\xd0\xb0\xd1\x87 "
    "\xd0\xb2\xd0\xbe\xd0\xb7\xd0\xb2\xd1\x80\xd0\xb0\xd1\x89\xd0\xb0\xd0\xb5\xd1\x82\xd1\x81\xd1"
    "\x8f \xd0\xb4\xd0\xbe\xd0\xbc\xd0\xbe\xd0\xb9",
    "Stary zegarmistrz szuka zaginionego brata w Krakowie",
    "\xe5\xb9\xb4\xe8\xbd\xbb\xe7\x9a\x84\xe7\x94\xbb\xe5\xae\xb6\xe5\x9c\xa8\xe6\xb5\xb7\xe8\xbe"
    "\xb9",
    "\xe6\x98\xa0\xe7\x94\xbb\xe3\x81\xae\xe9\x9f\xb3\xe6\xa5\xbd",
    "Vanha silta kaupungin laidalla korjataan ensi kev\xc3\xa4\xc3\xa4n\xc3\xa4",
};

#define PICK(rng, list) ((list)[rng_below((rng), sizeof (list) / sizeof *(list))])

enum { FRAMES = 8, TEXT_BYTES = 400 };

/* All is drawn first and in one order: the order of a call's arguments is the compiler's. */
static void compose(struct rng *rng, size_t frame, char *text)
{
    const char *noun = PICK(rng, nouns), *other = PICK(rng, nouns);
    const char *adjective = PICK(rng, adjectives), *place = PICK(rng, places);
    const char *action = PICK(rng, actions), *genre = PICK(rng, genres);
    const char *another = PICK(rng, nouns), *and_genre = PICK(rng, genres);
    const char *service = PICK(rng, services), *event = PICK(rng, events);
    const char *sentence = PICK(rng, foreign), *and_adjective = PICK(rng, adjectives);
    unsigned number = (unsigned)rng_below(rng, 90) + 10, process = (unsigned)rng_below(rng, 10000);
    switch (frame) {
    case 0:
        snprintf(text, TEXT_BYTES, "The %s %s (19%u). Genres: %s, %s.", adjective, noun, number,
                 genre, and_genre);
        break;
    case 1:
        snprintf(text, TEXT_BYTES, "%s about a %s in %s", genre, noun, place);
        break;
    case 2:
        snprintf(text, TEXT_BYTES,
                 "A %s %s must %s the %s before anyone in %s notices, and what begins as a %s plan "
                 "ends in a choice between duty and friendship.", adjective, noun, action, other,
                 place, and_adjective);
        break;
    case 3:
        snprintf(text, TEXT_BYTES, "how do I %s a %s %s?", action, adjective, noun);
        break;
    case 4:
        snprintf(text, TEXT_BYTES, "%s[%u]: %s (host %s-%u)", service, process, event, noun,
                 number);
        break;
    case 5:
        snprintf(text, TEXT_BYTES, "%s %s, pack of %u, for %s and %s", adjective, noun, number,
                 other, another);
        break;
    case 6:
        snprintf(text, TEXT_BYTES, "%s, %u %s", sentence, number, noun);
        break;
    default:
        snprintf(text, TEXT_BYTES, "%s %s", adjective, noun);
        break;
    }
}

static bool is_new(const struct akin_text *texts, size_t count, const char *text)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(texts[i].bytes, text))
            return false;
    return true;
}

bool sample_texts(struct string_pool *pool, struct akin_text *texts, size_t count)
{
    struct rng rng;
    char text[TEXT_BYTES];
    rng_seed(&rng, 9742);
    for (size_t i = 0; i < count; i++) {
        do
            compose(&rng, i % FRAMES, text);
        while (!is_new(texts, i, text));
        texts[i].count = strlen(text);
        texts[i].bytes = string_pool_add(pool, text, texts[i].count);
        if (!texts[i].bytes)
            return false;
    }
    return true;
}
