/* SPDX-License-Identifier: Apache-2.0
 * What programs share that the shim's C code is part of. */
#ifndef HOSTED_H
#define HOSTED_H

#include "faultline.h"

/* End the program unless `what` holds. */
#define CHECK(what) ((what) ? (void)0 : hosted_wrong(__FILE__, __LINE__, #what))

/* Give every slot its trampoline, and fill in the evidence object. */
void hosted_begin(void);
void hosted_wrong(const char *file, int line, const char *what);

#endif
