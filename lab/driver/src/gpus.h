/* SPDX-License-Identifier: Apache-2.0
 * The GPUs this process may see. Stand-in: they are lines of a file. */
#ifndef LAB_GPUS_H
#define LAB_GPUS_H

#define LAB_GPUS 16

struct lab_gpu {
    unsigned char uuid[16], parent[16]; /* parent: of a MIG instance its GPU, else the same */
    char uuid_text[48], pci[24], name[64];
    int minor;
};

/* Number of visible GPUs; `gpus` gets them in the order of the environment. */
int lab_gpus(const struct lab_gpu **gpus);

#endif
