/* SPDX-License-Identifier: Apache-2.0
 * Which GPUs the container has: NVIDIA_VISIBLE_DEVICES, then CUDA_VISIBLE_DEVICES, looked up in
 * the table that the device plugin mounts. Stand-in for what the kernel driver knows. */
#include "gpus.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "/run/faultline-lab/gpus/gpus.tsv"

static struct lab_gpu all[LAB_GPUS], visible[LAB_GPUS];
static int known, shown;

/* `GPU-…` or `MIG-…` as bytes. */
static void parse_uuid(const char *text, unsigned char *uuid)
{
    unsigned value;
    int at = 0;
    text += 4;
    while (*text && at < 16) {
        if (*text == '-') {
            text++;
            continue;
        }
        if (sscanf(text, "%2x", &value) != 1)
            break;
        uuid[at++] = (unsigned char)value;
        text += 2;
    }
}

static void read_table(void)
{
    const char *path = getenv("FAULTLINE_LAB_GPUS");
    FILE *file = fopen(path ? path : TABLE, "re");
    char line[256], parent[48];
    while (file && known < LAB_GPUS && fgets(line, sizeof(line), file)) {
        struct lab_gpu *gpu = &all[known];
        int got = sscanf(line, "%d\t%47[^\t]\t%23[^\t]\t%63[^\t\n]\t%47[^\n]", &gpu->minor,
                         gpu->uuid_text, gpu->pci, gpu->name, parent);
        if (got < 4)
            continue;
        parse_uuid(gpu->uuid_text, gpu->uuid);
        parse_uuid(got == 5 ? parent : gpu->uuid_text, gpu->parent);
        known++;
    }
    if (file)
        fclose(file);
}

/* Keep the GPUs that a comma separated list of UUIDs or numbers names, in its order. */
static void choose(const char *list)
{
    struct lab_gpu from[LAB_GPUS];
    char copy[1024], *rest = copy, *word;
    int had = shown;
    if (!list || !strcmp(list, "all"))
        return;
    memcpy(from, visible, sizeof(from));
    shown = 0;
    snprintf(copy, sizeof(copy), "%s", list);
    while ((word = strsep(&rest, ",")) && shown < LAB_GPUS)
        for (int i = 0; i < had; i++)
            if (!strcmp(word, from[i].uuid_text) ||
                (word[0] >= '0' && word[0] <= '9' && atoi(word) == i))
                visible[shown++] = from[i];
}

static void load(void)
{
    read_table();
    memcpy(visible, all, sizeof(visible));
    shown = known;
    choose(getenv("NVIDIA_VISIBLE_DEVICES"));
    choose(getenv("CUDA_VISIBLE_DEVICES"));
}

int lab_gpus(const struct lab_gpu **gpus)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    *gpus = visible;
    return shown;
}
