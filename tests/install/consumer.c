/* A stranger's program: opens an engine with the installed library. */
#include <stdio.h>
#include <string.h>

#include <akin/akin.h>

int main(void)
{
    struct akin_engine_settings settings;
    struct akin_engine *engine = NULL;
    struct akin_error error;

    akin_engine_settings_default(&settings);
    settings.threads = 1;
    if (akin_engine_open(&settings, &engine, &error) != AKIN_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("akin %s: %s kernels\n", akin_version(), akin_engine_kernels(engine));
    akin_engine_close(&engine);
    return strcmp(akin_version(), AKIN_VERSION) != 0;
}
