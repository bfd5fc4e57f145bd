/* SPDX-License-Identifier: Apache-2.0
 * Words on stdout, without a C library. */
#include "selftest.h"

static int bad;

void say(const char *text)
{
    size_t size = 0;
    while (text[size])
        size++;
    fl_call6(FL_SYS_WRITE, 1, (long)text, (long)size, 0, 0, 0);
}

void say_number(uint64_t number)
{
    char digits[24];
    int at = sizeof(digits) - 1;
    digits[at] = 0;
    do
        digits[--at] = (char)('0' + number % 10);
    while (number /= 10);
    say(digits + at);
}

void say_uuid(const unsigned char *uuid)
{
    static const char hex[] = "0123456789abcdef";
    char text[40];
    int at = 0;
    for (int i = 0; i < FL_UUID_BYTES; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            text[at++] = '-';
        text[at++] = hex[uuid[i] >> 4];
        text[at++] = hex[uuid[i] & 15];
    }
    text[at] = 0;
    say(text);
}

void said(void)
{
    say("\n");
}

void say_good(const char *text)
{
    say("ok    ");
    say(text);
}

void say_bad(const char *text)
{
    bad = 1;
    say("WRONG ");
    say(text);
}

void say_note(const char *text)
{
    say("note  ");
    say(text);
}

/* Whether anything was wrong. */
int said_bad(void)
{
    return bad;
}
