/* See cli.h. */
#include "cli/cli.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/utf8.h"
#include "cli/verdict.h"

/* ---- settings, engine, models ------------------------------------------------------------ */

const char *cli_setting(const struct cli *cli, const char *key)
{
    const char *value = akin_settings_get(cli->settings, key);
    return value ? value : "";
}

static void write_log(void *cookie, enum akin_log_level level, const char *line)
{
    (void)cookie;
    if (level >= AKIN_LOG_WARNING)
        print_message(level == AKIN_LOG_WARNING ? "warning: " : "", line);
}

static enum akin_status engine_open(struct cli *cli, int threads, bool cpu,
                                    struct akin_engine **engine)
{
    struct akin_engine_settings settings;
    akin_engine_settings_default(&settings);
    akin_settings_engine(cli->settings, &settings);
    if (cpu)
        settings.device = "cpu";
    if (threads >= 0)
        settings.threads = threads;
    if (!cli->quiet)
        settings.log = (struct akin_log){.write = write_log};
    return akin_engine_open(&settings, engine, &cli->error);
}

enum akin_status cli_engine_open(struct cli *cli, int threads, struct akin_engine **engine)
{
    return engine_open(cli, threads, false, engine);
}

enum akin_status cli_engine_open_cpu(struct cli *cli, int threads, struct akin_engine **engine)
{
    return engine_open(cli, threads, true, engine);
}

enum akin_status cli_engine(struct cli *cli)
{
    return cli->engine ? AKIN_OK : cli_engine_open(cli, -1, &cli->engine);
}

enum akin_status cli_model_path(struct cli *cli, const char *name, char *path, size_t path_bytes)
{
    if (!name)
        name = cli_setting(cli, "model");
    return akin_model_locate(cli_setting(cli, "home"), name, path, path_bytes, &cli->error);
}

/* Whether somebody said so, and not only the defaults. */
static bool is_named(const struct cli *cli, const char *key)
{
    struct akin_setting setting;
    for (size_t i = 0; akin_settings_at(cli->settings, i, &setting); i++)
        if (!strcmp(setting.key, key))
            return strcmp(setting.origin, "default") != 0;
    return false;
}

enum akin_status cli_model(struct cli *cli, const char *name, struct akin_model **model)
{
    char path[PATH_BYTES_MAX];
    enum akin_precision precision = AKIN_PRECISION_FP32;
    const char *wanted = cli_setting(cli, "precision");
    TRY(cli_engine(cli));
    TRY(cli_model_path(cli, name, path, sizeof path));
    if (*wanted && !akin_precision_parse(wanted, &precision))
        return wrong_use(cli, "precision: '%.40s' is not one of auto, fp32, bf16, fp16, int8",
                         wanted);
    /* Asking for the device may load a driver, so who names a precision does not. Where a card
     * then fails, who named none gets what the CPU computes in by default. */
    if (!is_named(cli, "precision") || precision == AKIN_PRECISION_AUTO) {
        if (strcmp(akin_engine_device(cli->engine), "cpu"))
            precision = precision == AKIN_PRECISION_AUTO ? precision : AKIN_PRECISION_FP16;
        else if (precision == AKIN_PRECISION_AUTO)
            TRY(verdict_decide(cli, path, &precision));
    }
    return akin_model_open(cli->engine, path, precision, model, &cli->error);
}

enum akin_status cli_catalog(struct cli *cli, struct akin_catalog **catalog)
{
    return akin_catalog_open(cli_setting(cli, "data"), catalog, &cli->error);
}

/* ---- errors ------------------------------------------------------------------------------ */

enum akin_status wrong_use(struct cli *cli, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cli->error.status = AKIN_ARGUMENT;
    vsnprintf(cli->error.message, sizeof cli->error.message, format, args);
    va_end(args);
    cli->wrong_use = true;
    return AKIN_ARGUMENT;
}

enum akin_status need_text(struct cli *cli, const char *option, const char **text)
{
    *text = options_text(&cli->options, option);
    if (!*text || !**text)
        return wrong_use(cli, "%s needs --%s; akin %s --help shows an example", cli->command->name,
                         option, cli->command->name);
    return AKIN_OK;
}

enum akin_status check_interrupted(struct cli *cli)
{
    if (signals_interrupted())
        return error_set(&cli->error, AKIN_CANCELLED, "interrupted");
    return AKIN_OK;
}

void print_message(const char *kind, const char *text)
{
    char line[sizeof(struct akin_error) + 64];
    int n = snprintf(line, sizeof line, "akin: %s%s", kind, text);
    if (n < 0)
        return;
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = ' ';
    fprintf(stderr, "%s\n", line); /* one call: lines of several threads do not mix */
}

void print_note(struct cli *cli, const char *format, ...)
{
    char text[512];
    va_list args;
    if (cli->quiet)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    progress_clear(&cli->progress);
    print_message("", text);
}

/* ---- results ----------------------------------------------------------------------------- */

bool output_reader_gone(void)
{
    /* The error number of the failed write may be long gone; the pipe still tells. */
    struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return ferror(stdout) && poll(&output, 1, 0) == 1 && (output.revents & POLLERR);
}

enum akin_status check_output(struct cli *cli)
{
    int number = ferror(stdout) ? errno : 0;
    if (fflush(stdout) != 0)
        number = errno;
    else if (!ferror(stdout))
        return AKIN_OK;
    return error_set(&cli->error, AKIN_IO, "standard output: %s",
                     number ? strerror(number) : "writing failed");
}

enum akin_status print_json(struct cli *cli, json_t *value)
{
    if (!value)
        return error_memory(&cli->error);
    progress_end(&cli->progress);
    json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    json_decref(value);
    fputc('\n', stdout);
    return check_output(cli);
}

json_t *json_of_double(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

json_t *json_of_count(uint64_t value)
{
    return json_integer((json_int_t)(value < INT64_MAX ? value : INT64_MAX));
}

json_t *json_of_text(const char *text)
{
    size_t bytes = strlen(text);
    json_t *value = json_stringn(text, bytes);
    if (value)
        return value;
    struct bytes valid = {0};
    for (size_t at = 0; at < bytes;) {
        char out[4];
        uint32_t code = 0;
        at += utf8_decode(text + at, bytes - at, &code);
        bytes_append(&valid, out, utf8_encode(code, out));
    }
    value = valid.failed ? NULL : json_stringn(valid.data ? valid.data : "", valid.count);
    bytes_deinit(&valid);
    return value;
}

json_t *json_of_known(const char *text)
{
    return text && *text ? json_of_text(text) : json_null();
}

json_t *json_of_time(int64_t unix_seconds)
{
    char text[64];
    clock_iso(unix_seconds, text, sizeof text);
    return json_string(text);
}

json_t *json_of_strings(const char *const *texts, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; array && i < count; i++)
        json_array_append_new(array, json_of_text(texts[i]));
    return array;
}
