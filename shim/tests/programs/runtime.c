/* SPDX-License-Identifier: Apache-2.0
 * A program of the CUDA runtime that notes every function which libcudart, shared or linked in,
 * gets for its calls to the driver. It exports a dlsym of its own, ahead of every preload, and asks
 * the next one.
 *
 * Prints one line of JSON, and one more for every line that it reads: how many functions libcudart
 * `asked` for and `got`, the names of those that do not lie in the shim's code (`outside`) and that
 * the driver does not have (`unknown`), and the `codes` of some calls of the runtime. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define NOTES 4096

int cudaGetDeviceCount(int *), cudaMalloc(void **, size_t), cudaFree(void *);
int cudaMemcpy(void *, const void *, size_t, int), cudaStreamSynchronize(void *);
int cudaGetDriverEntryPointByVersion(const char *, void **, unsigned, unsigned long long, int *);
int cudaPeekAtLastError(void);
const char *cudaGetErrorName(int);

typedef void *dlsym_function(void *, const char *);
typedef int get_v1(const char *, void **, int, uint64_t);
typedef int get_v2(const char *, void **, int, uint64_t, void *);

static struct {
    char name[96];
    const void *function;
} notes[NOTES];
static int asked;
static uintptr_t begin, end;
static get_v1 *driver_v1;
static get_v2 *driver_v2;

static void note(const char *name, const void *function)
{
    if (asked < NOTES) {
        snprintf(notes[asked].name, sizeof(notes[asked].name), "%s", name);
        notes[asked].function = function;
    }
    asked++;
}

/* A resolver that libcudart is given is listened to as well. */
static void *listen(const char *name, void *function, int version);

static int listening_v1(const char *name, void **function, int version, uint64_t flags)
{
    int code = driver_v1(name, function, version, flags);
    note(name, code ? NULL : *function);
    *function = code ? *function : listen(name, *function, version);
    return code;
}

static int listening_v2(const char *name, void **function, int version, uint64_t flags, void *status)
{
    int code = driver_v2(name, function, version, flags, status);
    note(name, code ? NULL : *function);
    *function = code ? *function : listen(name, *function, version);
    return code;
}

static void *listen(const char *name, void *function, int version)
{
    if (!function || strncmp(name, "cuGetProcAddress", 16))
        return function;
    if (name[16] || version >= 12000) {
        driver_v2 = (get_v2 *)function;
        return (void *)listening_v2;
    }
    driver_v1 = (get_v1 *)function;
    return (void *)listening_v1;
}

static dlsym_function *versioned(void *handle)
{
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
    void *found = NULL;
    for (int i = 0; !found && i < 3; i++)
        found = dlvsym(handle, "dlsym", versions[i]);
    return (dlsym_function *)found;
}

/* What the driver asks is not libcudart's business: the C library answers it, as always. */
void *dlsym(void *handle, const char *name)
{
    Dl_info caller = {0};
    dladdr(__builtin_return_address(0), &caller);
    if (caller.dli_fname && strstr(caller.dli_fname, "/libcuda.so"))
        return versioned(dlopen("libc.so.6", RTLD_LAZY))(handle, name);
    void *found = versioned(RTLD_NEXT)(handle, name);
    if (strncmp(name, "cu", 2))
        return found;
    note(name, found);
    return listen(name, found, 0);
}

/* Where the shim's code is in this process; nowhere without it. */
static void find_shim(void)
{
    char line[512];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof(line), maps))
        if (strstr(line, "r-xp") && strstr(line, "/libfaultline.so"))
            sscanf(line, "%lx-%lx", &begin, &end);
    if (maps)
        fclose(maps);
}

static void list(const char *title, int outside)
{
    const char *comma = "";
    printf("\"%s\":[", title);
    for (int i = 0; i < asked && i < NOTES; i++) {
        uintptr_t at = (uintptr_t)notes[i].function;
        int is_outside = at && (at < begin || at >= end);
        if (outside ? is_outside : !at)
            printf("%s\"%s\"", comma, notes[i].name), comma = ",";
    }
    printf("]");
}

static void use(void)
{
    void *memory = NULL, *function = NULL;
    char byte[8] = {0};
    int count, status, got = 0, before = asked;
    int codes[] = {
        cudaGetDeviceCount(&count),
        cudaMalloc(&memory, 8),
        cudaMemcpy(byte, memory, sizeof(byte), 2),
        cudaStreamSynchronize(NULL),
        cudaGetDriverEntryPointByVersion("cuMemAlloc", &function, 12000, 0, &status),
        cudaPeekAtLastError(),
    };
    for (int i = 0; i < asked && i < NOTES; i++)
        got += notes[i].function != NULL;
    printf("{\"asked\":%d,\"again\":%d,\"got\":%d,", asked, before, got);
    list("outside", 1), printf(","), list("unknown", 0);
    printf(",\"codes\":[");
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        printf("%s%d", i ? "," : "", codes[i]);
    printf("],\"name\":\"%s\"}\n", cudaGetErrorName(codes[0]));
    fflush(stdout);
}

int main(void)
{
    char line[16];
    find_shim();
    use();
    while (fgets(line, sizeof(line), stdin))
        use();
    return 0;
}
