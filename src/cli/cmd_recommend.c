/* akin recommend: like an item, for a user, about words, or a mixture. */
#include "base/limits.h"
#include "cli/results.h"

static const struct option recommend_options[] = {
    {"similar", 0, OPTION_TEXT, "TITLE", NULL,
     "like this item: a title as you would type it, or an id", 0, 0},
    {"user", 0, OPTION_TEXT, "ID", NULL, "for this user", 0, 0},
    {"query", 0, OPTION_TEXT, "TEXT", NULL, "about these words", 0, 0},
    {"history", 0, OPTION_TEXT, "ITEMS", NULL,
     "after these: ids or titles between commas, newest last, or a JSON array; not stored", 0, 0},
    {"exclude", 0, OPTION_TEXT, "ITEMS", NULL, "without these, likewise", 0, 0},
    {"filter", 0, OPTION_TEXT, "FILTER", NULL, "such as 'genre=Sci-Fi AND year>=1990'", 0, 0},
    {"context", 0, OPTION_TEXT, "JSON", NULL, "such as '{\"genre_prefs\": {\"Comedy\": 0.9}}'", 0,
     0},
    {"top", 'k', OPTION_COUNT, "K", "10", "how many", 1, (double)K_MAX},
    {"rank", 0, OPTION_CHOICE, "auto|vectors|parts", "auto",
     "by the vectors alone, or by text, titles, taste and popularity; auto: by parts for a person, "
     "or once the catalogue was fitted", 0, 0},
    {"query-weight", 0, OPTION_NUMBER, "W", NULL,
     "of the query against the rest; as akin fit learned it, or 0.7", 0, 1},
    {"popularity", 0, OPTION_NUMBER, "W", NULL, "weight of what is popular", 0,
     POPULARITY_WEIGHT_MAX},
    {"diversity", 0, OPTION_NUMBER, "L", "0", "0: the best; towards 1: unlike each other", 0, 1},
    {"no-near-duplicates", 0, OPTION_FLAG, "", NULL,
     "nothing that is nearly another result, or what was seen", 0, 0},
    {"include-seen", 0, OPTION_FLAG, "", NULL, "also what the user has rated, and the history", 0,
     0},
    {"explore", 0, OPTION_FLAG, "", NULL,
     "one place in five goes to what a bandit draws; what the user rates of it teaches the bandit",
     0, 0},
    {"request", 0, OPTION_COUNT, "N", NULL, "with --explore: the same number draws the same", 1,
     9e15},
    {"explain", 0, OPTION_FLAG, "", NULL, "why each of them: parts of the score and whence", 0, 0},
};

static enum akin_ranking ranking_of(const char *word)
{
    return *word == 'v' ? AKIN_RANK_VECTORS : *word == 'p' ? AKIN_RANK_PARTS : AKIN_RANK_AUTO;
}

static enum akin_status run_recommend(struct cli *cli)
{
    const struct options *o = &cli->options;
    struct akin_request request;
    akin_request_default(&request);
    request.similar = options_text(o, "similar");
    request.user = options_text(o, "user");
    request.query = options_text(o, "query");
    request.filter = options_text(o, "filter");
    request.context = options_text(o, "context");
    request.k = options_count(o, "top");
    request.ranking = ranking_of(options_text(o, "rank"));
    if (options_given(o, "query-weight"))
        request.query_weight = (float)options_number(o, "query-weight");
    request.diversity = (float)options_number(o, "diversity");
    request.include_seen = options_flag(o, "include-seen");
    request.no_near_duplicates = options_flag(o, "no-near-duplicates");
    request.explore = options_flag(o, "explore");
    if (options_given(o, "request"))
        request.request_number = options_count(o, "request");
    if (options_given(o, "popularity"))
        request.popularity = (float)options_number(o, "popularity");
    if (!request.similar && !request.user && !request.query && !options_text(o, "history"))
        return wrong_use(cli, "recommend needs --similar TITLE, --user ID, --history ITEMS or "
                         "--query TEXT");
    if (request.explore && !request.user)
        return wrong_use(cli, "--explore needs --user ID, whose ratings say what it was worth");
    return results_for_request(cli, &request, true, options_flag(o, "explain"));
}

const struct command command_recommend = {
    .name = "recommend",
    .arguments = "(--similar TITLE | --user ID | --history ITEMS | --query TEXT) [options]",
    .summary = "items like an item, for a user, about words, or a mixture",
    .details = "--similar, --user, --history and --query may be combined. A user that nobody knows "
               "is new.\ndocs/recommend.md says how a score is made.\n",
    .examples = "  akin recommend --similar 'toy story'\n"
                "  akin recommend --user 1 --filter 'genre=Drama AND NOT genre=Horror' -k 20\n"
                "  akin recommend --query 'a robot that learns to love' --user 1 --json\n"
                "  akin recommend --user 1 --explore\n"
                "  akin recommend --history 'heat, casino' --exclude 'goodfellas' --explain\n",
    .options = {recommend_options, sizeof recommend_options / sizeof recommend_options[0]},
    .run = run_recommend,
};
