/* What several of the compiled modules need of C: wide numbers, the byte order of PostgreSQL, powers of ten. */

#ifndef SOFTCART_CODEC_PRIMITIVES_H
#define SOFTCART_CODEC_PRIMITIVES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <locale.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Numbers of n limbs of 64 bits, the lowest first. */
static inline void limbs_multiply_add(uint64_t *limbs, int n, uint64_t factor, uint64_t addend)
{
    unsigned __int128 carry = addend;
    for (int i = 0; i < n; i++) {
        carry += (unsigned __int128)limbs[i] * factor;
        limbs[i] = (uint64_t)carry;
        carry >>= 64;
    }
}

static inline uint64_t limbs_divide(uint64_t *limbs, int n, uint64_t divisor)
{
    unsigned __int128 rest = 0;
    for (int i = n; i-- > 0;) {
        rest = rest << 64 | limbs[i];
        limbs[i] = (uint64_t)(rest / divisor);
        rest %= divisor;
    }
    return (uint64_t)rest;
}

static inline void limbs_negate(uint64_t *limbs, int n)
{
    uint64_t carry = 1;
    for (int i = 0; i < n; i++) {
        limbs[i] = ~limbs[i] + carry;
        carry = carry && limbs[i] == 0;
    }
}

static inline uint8_t *put16(uint8_t *to, uint16_t value)
{
    value = __builtin_bswap16(value);
    memcpy(to, &value, 2);
    return to + 2;
}

static inline uint8_t *put32(uint8_t *to, uint32_t value)
{
    value = __builtin_bswap32(value);
    memcpy(to, &value, 4);
    return to + 4;
}

static inline uint8_t *put64(uint8_t *to, uint64_t value)
{
    value = __builtin_bswap64(value);
    memcpy(to, &value, 8);
    return to + 8;
}

/* The nearest double, whatever the program's locale. */
static inline double number_of(const char *text)
{
    static locale_t neutral = (locale_t)0;
    if (!neutral)
        neutral = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    return strtod_l(text, NULL, neutral);
}

static const uint64_t TENS[20] = {
    1ULL, 10ULL, 100ULL, 1000ULL, 10000ULL, 100000ULL, 1000000ULL, 10000000ULL, 100000000ULL, 1000000000ULL,
    10000000000ULL, 100000000000ULL, 1000000000000ULL, 10000000000000ULL, 100000000000000ULL, 1000000000000000ULL,
    10000000000000000ULL, 100000000000000000ULL, 1000000000000000000ULL, 10000000000000000000ULL,
};

/* Those powers of ten that a double holds exactly. */
static const double EXACT_TENS[23] = {
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
};

/* How many bytes hold so many decimal digits in MySQL's decimals. */
static const int DIGIT_BYTES[10] = {0, 1, 1, 2, 2, 3, 3, 4, 4, 4};

#endif
