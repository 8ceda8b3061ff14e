/* replay.c: runs a target on the files that are its arguments. */
#include "fuzz.h"

static void
run(const char *path)
{
    FILE *file = fopen(path, "rb");
    REQUIRE(file != NULL);
    REQUIRE(fseek(file, 0, SEEK_END) == 0);
    long end = ftell(file);
    REQUIRE(end >= 0);
    rewind(file);
    uint8_t *data = malloc((size_t)end + 1); /* exactly as much, for the sanitizer; but never none */
    REQUIRE(data != NULL);
    uint8_t *exact = end > 0 ? realloc(data, (size_t)end) : data;
    REQUIRE(exact != NULL && fread(exact, 1, (size_t)end, file) == (size_t)end);
    fclose(file);
    LLVMFuzzerTestOneInput(exact, (size_t)end);
    free(exact);
}

int
main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        run(argv[i]);
    printf("%d inputs\n", argc - 1);
    return 0;
}
