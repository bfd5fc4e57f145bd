/* SPDX-License-Identifier: Apache-2.0
 * In place of the generated assembly, where the shim's C code is part of an ordinary program: a
 * piece of memory that stands for the trampolines, and a dlsym that is in nobody's way. */
#include "hosted.h"

#include <stdio.h>
#include <stdlib.h>

__asm__(".bss\n.globl fl_text_begin\n.hidden fl_text_begin\nfl_text_begin: .zero 32768\n"
        ".globl fl_text_end\n.hidden fl_text_end\nfl_text_end: .zero 8\n.text");
void *fl_slots[FL_CALLS], *fl_trampolines[FL_CALLS];

/* Renamed by the compiler's command line. */
FL_PUBLIC void *dlsym(void *handle, const char *name);
void *dlsym(void *handle, const char *name)
{
    return fl_find_dlsym()(handle, name);
}

void hosted_begin(void)
{
    for (int i = 0; i < FL_CALLS; i++)
        fl_slots[i] = fl_trampolines[i] = fl_text_begin + 16 * i;
    fl_sign();
}

void hosted_wrong(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s, line %d: %s\n", file, line, what);
    abort();
}
