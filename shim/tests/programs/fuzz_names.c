/* SPDX-License-Identifier: Apache-2.0
 * libFuzzer's way into the code that reads texts: the predicate of dlsym and its answer, the list,
 * the resolver, and UIDs of GPUs and pods. An input is one byte, which says the handle, and a text
 * in memory of its very size. */
#include "hosted.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerInitialize(int *count, char ***argument);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void *cuda, *nvml;

int LLVMFuzzerInitialize(int *count, char ***argument)
{
    (void)count, (void)argument;
    hosted_begin();
    cuda = fl_handle(0), nvml = fl_handle(1);
    CHECK(cuda && nvml);
    return 0;
}

/* What the predicate says it is, said another way. */
static int is_ours(const char *name)
{
    static const char upper[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t prefix = strspn(name, "cunvml");
    return prefix && name[prefix] && strchr(upper, name[prefix]) &&
           ((prefix == 2 && !memcmp(name, "cu", 2)) || (prefix == 4 && !memcmp(name, "nvml", 4)));
}

static void look_up(uint8_t how, const char *name)
{
    void *const all[] = {cuda, nvml, 0, (void *)-1l};
    void *handle = all[how % 4], *function = 0;
    int slot = fl_slot_of(name), ours = fl_is_ours(name);
    CHECK(ours == is_ours(name));
    CHECK(slot < 0 || (ours && !strcmp(fl_listed((uint32_t)slot), name)));
    void *answer = fl_dlsym(handle, name, (void *)look_up);
    CHECK(ours || !answer);
    CHECK(handle != (void *)-1l || !answer);
    CHECK(!answer || answer == (void *)-1l || fl_is_trampoline(answer));
    CHECK(!fl_dlsym(handle, name, fl_real("cuInit")));
    if (!fl_get_proc_address_v2(name, &function, 13000, how % 4, 0))
        CHECK(fl_is_trampoline(function));
    CHECK(!FL_STATE(uint64_t, missed));
}

static void read_ids(const char *text, size_t size)
{
    unsigned char uid[FL_UUID_BYTES];
    CHECK(!fl_parse_uuid(text, uid) || size >= 4 + 2 * FL_UUID_BYTES);
    CHECK(!fl_find_pod(text, size, uid) || size >= 6 + 36 + 11);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    char *text = malloc(size);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = 0;
    look_up(data[0], text);
    read_ids(text, size - 1);
    free(text);
    return 0;
}
