/* SPDX-License-Identifier: Apache-2.0
 * libFuzzer's way into the code that reads the control page. An input is HEAD bytes and then the
 * page: byte 0 says whether magic and version are put right, byte 1 whether the size is, and four
 * bytes each make a call: its slot, two small arguments. The file is FAULTLINE_CONTROL's. */
#include "hosted.h"

/* Parts of this file, so that each input begins with nothing mapped and nothing poisoned. */
#include "../../src/page.c"
#include "../../src/fault.c"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLS 8
#define HEAD (2 + 4 * CALLS)
#define DEVICES 3
#define DEVICE_UNAVAILABLE 46
#define LONGEST 20 /* microseconds that an entry may block */

int LLVMFuzzerInitialize(int *count, char ***argument);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *);
int nvmlInit_v2(void), nvmlDeviceGetHandleByIndex_v2(unsigned, void **);

static union {
    unsigned char bytes[FL_PAGE_SIZE];
    uint64_t words[FL_PAGE_SIZE / 8];
} image;
static void *handles[DEVICES], *room[64];
static int file;

int LLVMFuzzerInitialize(int *count, char ***argument)
{
    void *context;
    (void)count, (void)argument;
    hosted_begin();
    file = open(getenv("FAULTLINE_CONTROL"), O_RDWR);
    CHECK(file >= 0 && !cuInit(0) && !nvmlInit_v2());
    CHECK(!cuDevicePrimaryCtxRetain(&context, 0) && !cuCtxSetCurrent(context));
    for (unsigned i = 0; i < DEVICES; i++)
        CHECK(!nvmlDeviceGetHandleByIndex_v2(i, &handles[i]));
    return 0;
}

static unsigned char *place(uint32_t index)
{
    return image.bytes + FL_PAGE_FIRST_ENTRY + index * FL_ENTRY_SIZE;
}

/* Nobody is there to end a block: each is made short. */
static void shorten(unsigned char *entry)
{
    uint32_t mode = FL_GET(uint32_t, entry, entry, mode);
    uint32_t *delay = &FL_GET(uint32_t, entry, entry, delay);
    if (mode == FL_MODE_HANG || mode == FL_MODE_SLOW)
        *delay = 1 + *delay % LONGEST;
}

/* Write the file; returns whether it is a page that the shim must take. */
static int write_page(const uint8_t *data, size_t size)
{
    int repaired = data[0] % 8 != 0;
    int64_t length = data[1] % 16 ? FL_PAGE_SIZE : (int64_t)data[0] * 32;
    size_t written = length < FL_PAGE_SIZE ? (size_t)length : FL_PAGE_SIZE;
    memset(&image, 0, sizeof(image));
    memcpy(&image, data + HEAD, size - HEAD < FL_PAGE_SIZE ? size - HEAD : FL_PAGE_SIZE);
    if (repaired) {
        FL_GET(uint64_t, image.bytes, page, magic) = FL_PAGE_MAGIC;
        FL_GET(uint32_t, image.bytes, page, version) = FL_PAGE_VERSION;
    }
    for (uint32_t i = 0; i < FL_PAGE_ENTRIES; i++)
        shorten(place(i));
    CHECK(!ftruncate(file, length) && pwrite(file, &image, written, 0) == (ssize_t)written);
    given_up = FL_GET(uint32_t, image.bytes, page, sequence) | 1; /* nobody would end the wait */
    return length == FL_PAGE_SIZE &&
           FL_GET(uint64_t, image.bytes, page, magic) == FL_PAGE_MAGIC &&
           FL_GET(uint32_t, image.bytes, page, version) == FL_PAGE_VERSION;
}

/* Whether some entry gives this code, or it is that of a context which replaces a poisoned one. */
static int is_known(uint32_t code)
{
    if (code == DEVICE_UNAVAILABLE && fl_is_poisoned())
        return 1;
    for (uint32_t i = 0; i < FL_PAGE_ENTRIES; i++)
        if (FL_GET(uint32_t, place(i), entry, code_live) == code ||
            FL_GET(uint32_t, place(i), entry, code_new) == code ||
            FL_GET(uint32_t, place(i), entry, code_nvml) == code)
            return 1;
    return 0;
}

static uint64_t argument_of(uint8_t byte)
{
    return byte < 64 ? byte : byte < 128 ? (uint64_t)(int64_t)(int8_t)(byte - 160) : (uintptr_t)room;
}

static void call(const uint8_t *data)
{
    struct fl_call in = {{0}, 0, 0, 0, 0, 0, 0};
    uint32_t slot = (data[0] | data[1] << 8u) % fl_names();
    in.argument[0] = argument_of(data[2]);
    in.argument[1] = argument_of(data[3]);
    if (fl_class(slot) == FL_CLASS_N)
        in.argument[0] = (uintptr_t)handles[data[2] % DEVICES];
    for (int i = 0; fl_zeroed(slot) >> i; i++)
        in.argument[i] = data[2] % 9 ? (uintptr_t)(room + i) : 0;
    room[0] = handles[data[2] % DEVICES];
    if (fl_begins(fl_name(slot), "nvmlDeviceGetHandleBy"))
        in.argument[1] = (uintptr_t)room;
    uint64_t decision = fl_decide(slot, &in);
    uint32_t code = (uint32_t)decision, action = (uint32_t)(decision >> 32);
    CHECK(action <= FL_CALL_THEN_ASK);
    CHECK((action == FL_FAIL || action == FL_CALL_THEN_FAIL) == (code != 0));
    CHECK(fl_class(slot) != FL_CLASS_P || !decision);
    CHECK(!code || is_known(code));
    CHECK(fl_mapped || !code);
    in.decision = decision;
    if (action == FL_CALL_THEN_FAIL)
        CHECK(fl_woken(slot, data[3] % 2, &in) == code);
    else if (action == FL_CALL_THEN_ASK)
        code = fl_woken(slot, data[3] % 2, fl_class(slot) == FL_CLASS_Q && data[2] % 2 ? 0 : &in);
    CHECK(code < 2 || is_known(code));
}

static void forget(void)
{
    if (page)
        fl_munmap(page, FL_PAGE_SIZE);
    page = 0;
    fl_mapped = stay_slow = 0;
    fl_control = &zero_word;
    memset(latched, 0, sizeof(latched));
    memset(counted, 0, sizeof(counted));
    memset(used_up, 0, sizeof(used_up));
    FL_STATE(uint32_t, latched_code) = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return 0;
    int taken = write_page(data, size);
    fl_map_page();
    CHECK(fl_mapped == (uint32_t)taken);
    for (int i = 0; i < CALLS; i++)
        call(data + 2 + 4 * i);
    forget();
    return 0;
}
