/* SPDX-License-Identifier: Apache-2.0
 * Parts of the self-test: a program without a C library, so that it runs in any container. */
#ifndef FAULTLINE_SELFTEST_H
#define FAULTLINE_SELFTEST_H

#include "faultline.h"
#include "system.h"

/* say.c: words on stdout */
void say(const char *text);
void say_number(uint64_t number);
void say_uuid(const unsigned char *uuid);
void say_good(const char *text);
void say_bad(const char *text);
void say_note(const char *text);
int said_bad(void);
void said(void); /* end of a line */

/* peers.c: processes that have the shim */
struct image {
    int is_library;      /* an ELF library for this machine */
    uint64_t state;      /* where the evidence object is in it, 0 = it has none */
};
struct image look_at(const char *path);
void report_peers(void);

#endif
