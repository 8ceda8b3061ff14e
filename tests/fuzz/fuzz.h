/* fuzz.h: what the targets share. A target is a function that is given any bytes, again and again; where what it
 * tries keeps a promise, it returns 0, else it aborts. libFuzzer calls it, or replay.c. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define REQUIRE(cond)                                                                          \
    do {                                                                                       \
        if (!(cond)) {                                                                         \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #cond);                 \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

/* The input, taken from the front; zeros when it is used up. */
typedef struct {
    const uint8_t *at;
    size_t left;
} fuzz_input;

static inline void
fuzz_take(fuzz_input *in, void *to, size_t bytes)
{
    size_t n = bytes < in->left ? bytes : in->left;
    memset(to, 0, bytes);
    if (n > 0)
        memcpy(to, in->at, n);
    in->at += n;
    in->left -= n;
}

static inline uint8_t
fuzz_byte(fuzz_input *in)
{
    uint8_t byte;
    fuzz_take(in, &byte, 1);
    return byte;
}

static inline uint32_t
fuzz_word(fuzz_input *in)
{
    uint32_t word;
    fuzz_take(in, &word, sizeof(word));
    return word;
}

#endif
