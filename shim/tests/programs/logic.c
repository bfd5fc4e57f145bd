/* SPDX-License-Identifier: Apache-2.0
 * The shim's C code as an ordinary program, for sanitizers, coverage and fuzzing: no assembly, the
 * decisions are asked for directly. Usage: logic FILE SEED SECONDS, FILE being the page to spoil.
 * Ends with 0 when nothing contradicted what is checked here; a sanitizer ends it otherwise. */
#include "hosted.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 400

int cuInit(unsigned), cuDevicePrimaryCtxRetain(void **, int), cuCtxSetCurrent(void *);
int nvmlInit_v2(void), nvmlDeviceGetHandleByIndex_v2(unsigned, void **);

/* names.inc says the sizes to names.c alone. */
#define POOL 256
#define DEVICES 3
#define BEYOND 4 /* what looks like entries behind the last one; there is room in the page */

static __thread uint64_t seed;
static unsigned char *page;
static void *handles[DEVICES];

static uint64_t any(void)
{
    uint64_t x = seed += 0x9E3779B97F4A7C15u;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
    x = (x ^ x >> 27) * 0x94D049BB133111EBu;
    return x ^ x >> 31;
}

static uint64_t below(uint64_t limit)
{
    return any() % limit;
}

static void put32(unsigned char *at, uint32_t value)
{
    __atomic_store_n((uint32_t *)at, value, __ATOMIC_RELAXED);
}

/* An entry of anything. Blocks are kept short: nobody is there to end them. */
static void spoil(unsigned char *entry, const struct fl_gpu *gpu)
{
    static const uint32_t genuine[] = {13, 31, 43, 79};
    for (int i = 0; i < FL_ENTRY_SIZE; i += 4)
        put32(entry + i, below(3) ? 0 : (uint32_t)any());
    put32(entry + FL_AT_entry_state, below(4) ? 1 : (uint32_t)below(3));
    put32(entry + FL_AT_entry_mode, (uint32_t)below(8));
    put32(entry + FL_AT_entry_class_mask, (uint32_t)any());
    put32(entry + FL_AT_entry_delay, 1 + (uint32_t)below(30));
    put32(entry + FL_AT_entry_code_live, (uint32_t)below(1000));
    put32(entry + FL_AT_entry_code_nvml, 15 + (uint32_t)below(2));
    put32(entry + FL_AT_entry_xid, genuine[below(4)]);
    if (below(4))
        for (int i = 0; i < 16; i += 4)
            put32(entry + FL_AT_entry_uuid + i, *(const uint32_t *)(gpu->uuid + i));
    if (below(4))
        for (int i = FL_AT_entry_pod_uid; i < FL_AT_entry_after_calls + 4; i += 4)
            put32(entry + i, 0);
    if (below(2))
        put32(entry + FL_AT_entry_not_before, 0), put32(entry + FL_AT_entry_not_before + 4, 0);
    if (below(4))
        put32(entry + FL_AT_entry_not_after, 0), put32(entry + FL_AT_entry_not_after + 4, 0);
}

static void rewrite(const struct fl_gpu *gpu)
{
    put32(page + FL_AT_page_flags, (uint32_t)below(2));
    FL_STORE(FL_GET(uint32_t, page, page, sequence), 1);
    for (int i = 0; i < FL_PAGE_ENTRIES + BEYOND; i++)
        if (!below(3))
            spoil(page + FL_PAGE_FIRST_ENTRY + i * FL_ENTRY_SIZE, gpu);
    FL_ADD(FL_GET(uint32_t, page, page, generation), 1);
    FL_STORE(FL_GET(uint32_t, page, page, sequence), below(50) ? 2 : 3);
    FL_STORE(FL_GET(uint32_t, page, page, armed), (uint32_t)below(3));
}

/* Whether some armed entry gives this code, or this process has it for good. */
static int is_known(uint32_t code)
{
    int known = code == FL_STATE(uint32_t, latched_code);
    for (int i = 0; i < FL_PAGE_ENTRIES && !known; i++) {
        const unsigned char *entry = page + FL_PAGE_FIRST_ENTRY + i * FL_ENTRY_SIZE;
        known = FL_GET(const uint32_t, entry, entry, code_live) == code ||
                FL_GET(const uint32_t, entry, entry, code_new) == code ||
                FL_GET(const uint32_t, entry, entry, code_nvml) == code;
    }
    return known;
}

static void ask(int alone)
{
    static __thread uint64_t room[64];
    struct fl_call call = {{0}, 0, 0, 0, 0, 0, 0};
    uint32_t slot = (uint32_t)below(fl_names());
    for (int i = 0; i < 8; i++)
        call.argument[i] = below(3) ? below(3) : any();
    if (fl_class(slot) == FL_CLASS_N)
        call.argument[0] = (uintptr_t)handles[below(DEVICES)];
    for (int i = 0; fl_zeroed(slot) >> i; i++)
        call.argument[i] = below(9) ? (uintptr_t)(room + i) : 0;
    room[0] = (uintptr_t)handles[below(DEVICES)];
    if (fl_begins(fl_name(slot), "nvmlDeviceGetHandleBy"))
        call.argument[1] = (uintptr_t)room;
    uint64_t decision = fl_decide(slot, &call);
    uint32_t code = (uint32_t)decision, action = (uint32_t)(decision >> 32);
    CHECK(action <= FL_CALL_THEN_ASK);
    CHECK((action == FL_FAIL || action == FL_CALL_THEN_FAIL) == (code != 0));
    CHECK(fl_class(slot) != FL_CLASS_P || !decision);
    CHECK(!alone || !code || is_known(code) || FL_STATE(uint32_t, latched_code));
    call.decision = decision;
    if (action == FL_CALL_THEN_FAIL)
        CHECK(fl_woken(slot, (uint32_t)below(2), &call) == code);
    else if (action == FL_CALL_THEN_ASK)
        fl_woken(slot, (uint32_t)below(2), below(2) || fl_class(slot) != FL_CLASS_Q ? &call : 0);
}

static void *in_thread(void *number)
{
    void *context;
    seed = (uintptr_t)number;
    cuDevicePrimaryCtxRetain(&context, (int)below(DEVICES)), cuCtxSetCurrent(context);
    for (int i = 0; i < ROUNDS; i++)
        ask(0);
    return NULL;
}

static void several(const struct fl_gpu *gpu)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, in_thread, (void *)(uintptr_t)any());
    for (int i = 0; i < ROUNDS; i++)
        rewrite(gpu);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

/* Names: the list finds each of its own, and the predicate is what it says it is. */
static void names(void)
{
    for (uint32_t i = 0; i < fl_names(); i++)
        CHECK(fl_slot_of(fl_listed(i)) == (int)i && fl_is_ours(fl_listed(i)));
    for (int i = 0; i < ROUNDS; i++) {
        size_t length = below(12);
        char *text = malloc(length + 1);
        for (size_t at = 0; at < length; at++)
            text[at] = "cunvmlAZaz_"[below(11)];
        text[length] = 0;
        size_t prefix = !strncmp(text, "cu", 2) ? 2 : !strncmp(text, "nvml", 4) ? 4 : length;
        const char *rest = text + prefix;
        CHECK(fl_is_ours(text) == (*rest >= 'A' && *rest <= 'Z'));
        int slot = fl_slot_of(text);
        CHECK(slot < 0 || !strcmp(fl_listed((uint32_t)slot), text));
        free(text);
    }
}

/* Texts of every kind and length, each in memory of its very size. */
static void texts(void)
{
    static const char uid[] = "/pods/9d249f14-4b37-4b66-a3d1-6515ff5199fe/containers/x";
    unsigned char found[FL_UUID_BYTES];
    for (int i = 0; i < ROUNDS; i++) {
        size_t size = below(sizeof(uid) + 20), from = below(20);
        char *text = malloc(size), kind[FL_UUID_BYTES * 4];
        for (size_t at = 0; at < size; at++)
            text[at] = at >= from && at - from < sizeof(uid) - 1 ? uid[at - from] : 'x';
        if (size && !below(4))
            text[below(size)] = (char)any();
        CHECK(!fl_find_pod(text, size, found) || (size > from && text[from] == '/'));
        free(text);
        snprintf(kind, sizeof(kind), "%s-%.*s", below(2) ? "GPU" : "MIG", (int)below(40), uid + 6);
        CHECK(fl_parse_uuid(kind, found) == (strlen(kind) == 4 + 36));
    }
    CHECK(fl_find_pod(uid, sizeof(uid) - 1, found) && found[0] == 0x9d && found[15] == 0xfe);
}

/* Files that are no page are left alone, a page is mapped. */
static void map(const char *path)
{
    uint64_t *word = (uint64_t *)page;
    for (int i = 0; i < 20; i++) {
        uint64_t was = word[i % 2];
        word[i % 2] ^= 1ull << below(i % 2 ? 32 : 64);
        fl_map_page();
        CHECK(!fl_mapped);
        word[i % 2] = was;
    }
    CHECK(!truncate(path, FL_PAGE_SIZE + 1));
    fl_map_page();
    CHECK(!fl_mapped && FL_STATE(uint32_t, pages_refused) == 21);
    CHECK(!truncate(path, FL_PAGE_SIZE));
    fl_map_page();
    CHECK(fl_mapped && FL_STATE(uint32_t, page_mapped));
}

/* A version that the list does not know is of the class of the newest one that it knows. */
static const struct {
    const char *asked, *like;
} families[] = {
    {"cuMemAlloc_v3", "cuMemAlloc_v2"}, {"cuMemAlloc", "cuMemAlloc_v2"},
    {"cuMemFree_v9_ptsz", "cuMemFree_v2"}, {"cuStreamSynchronize_v2", "cuStreamSynchronize"},
    {"cuUnknown_v2", "cuLaunchKernel"}, {"nvmlUnknown_v2", "nvmlDeviceGetName"},
};
#define FAMILIES (sizeof(families) / sizeof(*families))

static void versions(void)
{
    static char unlisted[4 * FAMILIES];
    for (uint32_t i = 0; i < FAMILIES; i++) {
        void *mine = fl_wrap(unlisted + 4 * i, families[i].asked);
        uint32_t slot = fl_names(), like = (uint32_t)fl_slot_of(families[i].like);
        while (slot < FL_CALLS && fl_trampolines[slot] != mine)
            slot++;
        CHECK(slot < FL_CALLS && fl_class(slot) == fl_class(like) &&
              fl_zeroed(slot) == fl_zeroed(like) && !strcmp(fl_name(slot), families[i].asked));
    }
}

/* Everything that can be asked for gets a trampoline, until the pool is empty. */
static void resolve(void)
{
    static char unknown[FL_CALLS];
    void *function;
    for (uint32_t i = 0; i < fl_names(); i++) {
        function = 0;
        if (!fl_get_proc_address_v2(fl_listed(i), &function, 13000, 0, 0) && function)
            CHECK(fl_is_trampoline(function));
        fl_get_proc_address(fl_listed(i), &function, 11030, 2);
        CHECK(!fl_is_trampoline(fl_target(i)));
    }
    CHECK(!FL_STATE(uint64_t, missed));
    for (int i = 0; i < 400; i++)
        fl_wrap(unknown + 4 * i, i % 3 ? "cuUnknown" : "nvmlUnknown");
    CHECK(FL_STATE(uint64_t, pooled) == POOL);
    CHECK(FL_STATE(uint64_t, missed) == 400 + FAMILIES - POOL);
    void *library = fl_handle(0);
    CHECK(fl_is_trampoline(fl_dlsym(library, "cuInit", (void *)ask)));
    CHECK(!fl_dlsym(library, "cuNothing", (void *)ask));
    CHECK(!fl_dlsym(library, "cudnnCreate", (void *)ask));
    CHECK(!fl_dlsym(library, "cuInit", fl_real("cuInit")) && fl_in_driver(fl_real("cuInit")));
    CHECK(fl_is_trampoline(fl_dlsym(0, "cuInit", (void *)ask)));
    CHECK(!fl_dlsym(0, "cuNothing", (void *)ask));
}

int main(int count, char **argument)
{
    struct fl_gpu gpu = {{0}, {0}};
    void *context;
    if (count < 4)
        return 2;
    time_t end = time(NULL) + atoi(argument[3]);
    int file = open(argument[1], O_RDWR);
    page = mmap(NULL, FL_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    hosted_begin();
    names(), texts(), map(argument[1]);
    CHECK(!cuInit(0) && !cuDevicePrimaryCtxRetain(&context, 0) && !cuCtxSetCurrent(context));
    CHECK(!nvmlInit_v2());
    for (unsigned i = 0; i < DEVICES; i++)
        CHECK(!nvmlDeviceGetHandleByIndex_v2(i, &handles[i]));
    versions(), resolve();
    CHECK(fl_gpu_of_device(0, &gpu));
    uint64_t turn = strtoull(argument[2], NULL, 10), last = turn + 12;
    for (; turn < last || time(NULL) < end; turn++) {
        int status = 0;
        /* What was poisoned stays so: every turn is a process of its own. */
        if (!fork()) {
            seed = turn;
            for (int i = 0; i < ROUNDS; i++)
                rewrite(&gpu), ask(1), ask(1);
            several(&gpu);
            exit(0);
        }
        wait(&status);
        if (status)
            return fprintf(stderr, "seed %llu: status %d\n", (unsigned long long)turn, status), 1;
    }
    return 0;
}
