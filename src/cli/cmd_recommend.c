/* akin recommend: like an item, for a user, about words, or a mixture. */
#include "base/limits.h"
#include "cli/results.h"

static const struct option recommend_options[] = {
    {"similar", 0, OPTION_TEXT, "TITLE", NULL,
     "like this item: a title as you would type it, or an id", 0, 0},
    {"user", 0, OPTION_TEXT, "ID", NULL, "for this user", 0, 0},
    {"query", 0, OPTION_TEXT, "TEXT", NULL, "about these words", 0, 0},
    {"filter", 0, OPTION_TEXT, "FILTER", NULL, "such as 'genre=Sci-Fi AND year>=1990'", 0, 0},
    {"top", 'k', OPTION_COUNT, "K", "10", "how many", 1, (double)K_MAX},
    {"query-weight", 0, OPTION_NUMBER, "W", "0.7", "of the query against the rest", 0, 1},
    {"include-seen", 0, OPTION_FLAG, "", NULL, "also what the user has rated", 0, 0},
};

static enum akin_status run_recommend(struct cli *cli)
{
    const struct options *o = &cli->options;
    struct akin_request request;
    akin_request_default(&request);
    request.similar = options_text(o, "similar");
    request.user = options_text(o, "user");
    request.query = options_text(o, "query");
    request.filter = options_text(o, "filter");
    request.k = options_count(o, "top");
    request.query_weight = (float)options_number(o, "query-weight");
    request.include_seen = options_flag(o, "include-seen");
    if (!request.similar && !request.user && !request.query)
        return wrong_use(cli, "recommend needs --similar TITLE, --user ID or --query TEXT");
    return results_for_request(cli, &request);
}

const struct command command_recommend = {
    .name = "recommend",
    .arguments = "(--similar TITLE | --user ID | --query TEXT) [options]",
    .summary = "items like an item, for a user, about words, or a mixture",
    .details = "Exact: every item is scored. --similar, --user and --query may be combined.\n",
    .examples = "  akin recommend --similar 'toy story'\n"
                "  akin recommend --user 1 --filter 'genre=Drama AND NOT genre=Horror' -k 20\n"
                "  akin recommend --query 'a robot that learns to love' --user 1 --json\n",
    .options = {recommend_options, sizeof recommend_options / sizeof recommend_options[0]},
    .run = run_recommend,
};
