"""The two corpora of the comparison: texts of films and texts of system events.

Films are `Title (Year). Genres: A, B. Themes: t1, ..., t10.`; 22 % have ten themes. From a
MovieLens folder (movies.csv, genome-tags.csv and what there is of genome-scores.csv) the titles,
genres and tags are real; films without genome scores get ten tags by a fixed random choice until
22 % have some. Without a folder everything is generated. Events come from events.jsonl files
(their `text`, cut to what a watcher embeds) or are generated as well. Everything is deterministic:
the same arguments give the same bytes.
"""

import csv
import json
import os
import random
import re

THEMED_SHARE = 0.22
THEMES = 10

GENRES = [
    "Action",
    "Adventure",
    "Animation",
    "Children",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
GENRE_WEIGHTS = [12, 7, 5, 5, 27, 9, 9, 41, 5, 1, 10, 2, 5, 12, 6, 14, 3, 3]

ADJECTIVES = """Silent Broken Golden Hidden Last Lost Crimson Endless Frozen Burning Quiet Savage
Distant Forgotten Secret Stolen Dark Wild Lonely Perfect Strange Bitter Midnight Electric Paper
Glass Iron Invisible Restless Velvet Wandering Hollow Blue Scarlet""".split()
NOUNS = """Harbor Winter Orchard Letter Brother Stranger Kingdom Garden River Shadow Promise Horizon
Soldier Daughter Empire Circus Island Mirror Window Thief Detective Summer Wedding Ghost Highway
Machine Ocean Prisoner Teacher Violin Tiger Sparrow Carnival Lighthouse Fugitive Widow Dancer
Mountain Station Masquerade Labyrinth Cathedral Gambler Caravan Telegram Samurai""".split()
PLACES = """Paris Brooklyn Havana Tokyo Marrakesh Dublin Vienna Alaska Montana Saigon Naples Odessa
Lisbon Kyoto Texas Shanghai Bombay Reykjavik""".split()
NAMES = """Henry Clara Oscar Josephine Miguel Anneliese Bogdan Katarzyna Hiroshi Priya Tobias Ingrid
Rasmus Eleanor Desmond Yasmin""".split()
TAGS = """007|action packed|aliens|alternate reality|ancient rome|animation|anti-hero|atmospheric|
based on a book|based on a true story|bittersweet|black comedy|bleak|British comedy|buddy movie|
catastrophe|childhood|chick flick|cinematography|classic|coming of age|complex|computer animation|
conspiracy|controversial|corruption|courtroom drama|cult classic|dark comedy|dark humor|dialogue|
disturbing|dystopia|enigmatic|entertaining|existentialism|fairy tale|family|fashion|
father son relationship|feel-good|film noir|friendship|gangsters|good soundtrack|gore|gross-out|
great acting|heartwarming|heist|historical|imdb top 250|independent film|intimate|jazz|loneliness|
love story|mafia|mentor|military|mindfuck|murder mystery|narrated|nonlinear|nostalgic|obsession|
organized crime|original|oscar (best picture)|parody|philosophical|plot twist|
police investigation|post-apocalyptic|poverty|predictable|psychological|quirky|realistic|
redemption|revenge|romantic comedy|runaway|satire|sci-fi|sentimental|serial killer|small town|
social commentary|space opera|splatter|stylized|surreal|suspense|talky|tense|time travel|tragedy|
treasure hunt|twists & turns|underdog|violence|visually appealing|witty|women|world war ii|
zombies""".replace("\n", "").split("|")


def _natural_title(title):
    """`Godfather, The (1972)` as people write it."""
    match = re.match(r"^(.*), (The|A|An|Les|La|Le|Il|El|Der|Die|Das|L')( \(.*)?$", title)
    return "%s %s%s" % (match.group(2), match.group(1), match.group(3) or "") if match else title


def _film(title, genres, themes):
    text = _natural_title(title.strip()) + "."
    if genres:
        text += " Genres: " + ", ".join(genres) + "."
    if themes:
        text += " Themes: " + ", ".join(themes) + "."
    return text


def _read_csv(path):
    with open(path, newline="", encoding="utf-8") as f:
        yield from csv.DictReader(f)


def _movielens(folder, count, rng):
    films = list(_read_csv(os.path.join(folder, "movies.csv")))
    tags, scores = {}, {}
    if os.path.exists(os.path.join(folder, "genome-tags.csv")):
        tags = {r["tagId"]: r["tag"] for r in _read_csv(os.path.join(folder, "genome-tags.csv"))}
    if tags and os.path.exists(os.path.join(folder, "genome-scores.csv")):
        for r in _read_csv(os.path.join(folder, "genome-scores.csv")):
            scores.setdefault(r["movieId"], []).append((-float(r["relevance"]), r["tagId"]))
    names = sorted(tags.values()) or TAGS
    rng.shuffle(films)
    films = [films[i % len(films)] for i in range(count)]
    texts = []
    for i, film in enumerate(films):
        themes = None
        if film["movieId"] in scores:
            themes = [tags[t] for _, t in sorted(scores[film["movieId"]])[:THEMES]]
        elif rng.random() < THEMED_SHARE:
            themes = rng.sample(names, THEMES)
        genres = [g for g in film["genres"].split("|") if g and g != "(no genres listed)"]
        texts.append(_film(film["title"], genres, themes))
    return texts


def _title(rng):
    adjective, noun, other = rng.choice(ADJECTIVES), rng.choice(NOUNS), rng.choice(NOUNS)
    name, place = rng.choice(NAMES), rng.choice(PLACES)
    return rng.choice(
        [
            "The %s %s" % (adjective, noun),
            "%s %s" % (adjective, noun),
            "%s" % noun,
            "The %s of %s" % (noun, place),
            "%s and the %s" % (name, noun),
            "A %s in %s" % (noun, place),
            "%s's %s %s" % (name, adjective, noun),
            "The %s's %s" % (noun, other),
            "%s: The %s %s" % (noun, adjective, other),
            "My %s %s" % (adjective, noun),
            "No %s for the %s" % (noun, other),
            "%s %d" % (noun, rng.randint(2, 4)),
        ]
    )


def _generated_films(count, rng):
    texts = []
    for _ in range(count):
        genres = set(rng.choices(GENRES, GENRE_WEIGHTS, k=rng.choice([1, 1, 2, 2, 2, 3, 3, 4])))
        themes = rng.sample(TAGS, THEMES) if rng.random() < THEMED_SHARE else None
        texts.append(
            _film("%s (%d)" % (_title(rng), rng.randint(1921, 2019)), sorted(genres), themes)
        )
    return texts


UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
PREFIX = re.compile(r"^(\[[^]]*\] ?)+")


def _events_of(paths, count, rng):
    texts = []
    for path in paths:
        with open(path, encoding="utf-8") as f:
            for line in f:
                if line.strip():
                    row = json.loads(line)
                    text = PREFIX.sub("", UUID.sub("*", row["text"]))
                    texts.append("%s: %s" % (row["src"], text) if row.get("src") else text)
    rng.shuffle(texts)
    return [texts[i % len(texts)] for i in range(count)]


def _event(rng):
    n = rng.randint
    host = "%s-%02d" % (rng.choice(["worker", "mon", "db", "edge", "web", "cache"]), n(1, 48))
    address = "172.%d.%d.%d" % (n(16, 31), n(0, 255), n(1, 254))
    link = rng.choice(["eth0", "eth1", "wlan1", "bond0", "br-ex%d" % n(0, 9), "tap%d" % n(0, 99)])
    return rng.choice(
        [
            lambda: "network.ovs.flow.add %s priority=%d,ip,nw_dst=%s/%d,actions=output:%d"
            % (link, n(1, 32000), address, n(8, 32), n(1, 40)),
            lambda: "network.address.remove %s %s/%d" % (link, address, n(8, 30)),
            lambda: "network.link.change %s state=%s mtu=%d"
            % (link, rng.choice(["up", "down"]), rng.choice([1450, 1500, 9000])),
            lambda: "vm.migrate %s vcpu=%d mem=%dGiB to mon-%02d"
            % (host, n(1, 64), n(1, 256), n(1, 48)),
            lambda: "vm.start %s image=debian-%d flavor=m1.%s"
            % (host, n(10, 13), rng.choice(["small", "large"])),
            lambda: "systemd: %s.service: main process exited, code=%s, status=%d"
            % (
                rng.choice(["nginx", "postgresql", "cron", "ssh", "docker"]),
                rng.choice(["exited", "killed", "dumped"]),
                n(0, 15),
            ),
            lambda: "sshd[%d]: Failed password for %s from %s port %d ssh2"
            % (n(400, 32000), rng.choice(["root", "admin", "backup"]), address, n(1024, 65000)),
            lambda: "sshd[%d]: Accepted publickey for %s from %s"
            % (n(400, 32000), rng.choice(["deploy", "ops"]), address),
            lambda: "kernel: EXT4-fs (sd%s%d): mounted filesystem with ordered data mode"
            % (rng.choice("abcd"), n(1, 4)),
            lambda: "storage.volume.attach vol-%04x to %s as /dev/vd%s"
            % (n(0, 65535), host, rng.choice("bcdef")),
            lambda: "dbus: %s activated service org.freedesktop.%s"
            % (
                host,
                rng.choice(["login1", "resolve1", "NetworkManager", "timedate1", "PolicyKit1"]),
            ),
        ]
    )()


def _generated_events(count, rng):
    return [_event(rng) for _ in range(count)]


def build(kind, count, movielens=None, events=()):
    """(texts, one line that says where they come from); kind is "movie" or "event"."""
    rng = random.Random("akin %s 1" % kind)
    if kind == "movie":
        if movielens:
            return _movielens(movielens, count, rng), "MovieLens titles of %s" % os.path.basename(
                os.path.normpath(movielens)
            )
        return _generated_films(count, rng), "generated"
    if events:
        return _events_of(events, count, rng), "event lines of %s" % ", ".join(
            os.path.basename(os.path.dirname(os.path.abspath(p))) for p in events
        )
    return _generated_events(count, rng), "generated"
