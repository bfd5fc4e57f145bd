/* SPDX-License-Identifier: Apache-2.0
 * Processes of this PID namespace that have the shim, and what it has seen in them. */
#include "selftest.h"

#include <elf.h>

#define LIBRARY "libfaultline.so"
#define MOST (64u << 20)

#if defined(__x86_64__)
#define MACHINE EM_X86_64
#else
#define MACHINE EM_AARCH64
#endif

static char maps[8 << 20]; /* of a process at a time, as far as it fits */
static unsigned char state[FL_STATE_SIZE];

static uint64_t symbol_in(const unsigned char *at, uint64_t size, const char *wanted)
{
    const Elf64_Ehdr *head = (const void *)at;
    if (head->e_shoff + (uint64_t)head->e_shnum * sizeof(Elf64_Shdr) > size)
        return 0;
    const Elf64_Shdr *parts = (const void *)(at + head->e_shoff);
    for (int i = 0; i < head->e_shnum; i++) {
        if (parts[i].sh_type != SHT_DYNSYM || parts[i].sh_link >= head->e_shnum)
            continue;
        const Elf64_Sym *symbols = (const void *)(at + parts[i].sh_offset);
        const char *names = (const char *)at + parts[parts[i].sh_link].sh_offset;
        for (uint64_t n = 0; n < parts[i].sh_size / sizeof(*symbols); n++)
            if (fl_same(names + symbols[n].st_name, wanted))
                return symbols[n].st_value;
    }
    return 0;
}

/* What a file is that LD_PRELOAD names. */
struct image look_at(const char *path)
{
    struct image found = {0, 0};
    struct fl_stat facts;
    long file = fl_open(path);
    if (file < 0)
        return found;
    if (!fl_fstat(file, &facts) && facts.size > (int64_t)sizeof(Elf64_Ehdr) && facts.size < MOST) {
        const unsigned char *at = fl_mmap((uint64_t)facts.size, file);
        if ((uintptr_t)at < (uintptr_t)-4096) {
            const Elf64_Ehdr *head = (const void *)at;
            found.is_library = !memcmp(head->e_ident, ELFMAG, SELFMAG) && head->e_machine == MACHINE;
            if (found.is_library)
                found.state = symbol_in(at, (uint64_t)facts.size, "faultline_state");
            fl_munmap(at, (uint64_t)facts.size);
        }
    }
    fl_close(file);
    return found;
}

/* "/proc/<pid>" and the rest, joined. */
static void path_of(char *to, size_t size, const char *pid, const char *rest)
{
    size_t at = 6;
    fl_copy(to, size, "/proc/");
    fl_copy(to + at, size - at, pid);
    while (to[at])
        at++;
    fl_copy(to + at, size - at, rest);
}

/* /proc/<pid>/<file> as a text; whether it could be read. */
static int read_of(const char *pid, const char *file, char *to, size_t size)
{
    char path[64];
    size_t had = 0;
    long got = 0;
    path_of(path, sizeof(path), pid, file);
    long handle = fl_open(path);
    if (handle < 0)
        return 0;
    while (had + 1 < size && (got = fl_read(handle, to + had, size - 1 - had)) > 0)
        had += (size_t)got;
    to[had] = 0;
    fl_close(handle);
    return got >= 0 && had > 0;
}

/* Where the library begins in a process, 0 when it has none; its path there. `maps` holds the
 * lines, which are in the order of addresses. */
static uint64_t base_in_maps(char *path, size_t size)
{
    const char *line = maps, *name = 0;
    for (char *at = maps; *at; at++) {
        if (*at == '\n')
            line = at + 1, name = 0;
        if (*at == '/' && !name)
            name = at;
        if (*at != '/' || !fl_begins(at + 1, LIBRARY))
            continue;
        uint64_t base = 0;
        for (const char *digit = line; fl_hex(*digit) >= 0; digit++)
            base = base << 4 | (uint64_t)fl_hex(*digit);
        at[sizeof(LIBRARY)] = 0;
        fl_copy(path, size, name);
        return base;
    }
    return 0;
}

static int read_state(const char *pid, uint64_t address)
{
    uint64_t number = 0;
    struct {
        void *at;
        uint64_t size;
    } here = {state, sizeof(state)}, there = {(void *)address, sizeof(state)};
    for (; *pid; pid++)
        number = number * 10 + (uint64_t)(*pid - '0');
    return fl_call6(FL_SYS_PROCESS_VM_READV, (long)number, (long)&here, 1, (long)&there, 1, 0) ==
           (long)sizeof(state);
}

#define OF(type, name) FL_GET(type, state, state, name)

static void say_state(void)
{
    if (OF(uint64_t, magic) != FL_STATE_MAGIC) {
        say("mapped, not used yet");
        return;
    }
    say("build ");
    say((char *)state + FL_AT_state_build_id);
    say(OF(uint32_t, page_mapped) ? ", page inode " : ", no page");
    if (OF(uint32_t, page_mapped))
        say_number(OF(uint64_t, page_inode));
    say(", generation ");
    say_number(OF(uint32_t, generation));
    say(", functions handed out ");
    say_number(OF(uint64_t, resolved));
    say(", missed ");
    say_number(OF(uint64_t, missed));
    say(", hits ");
    say_number(OF(uint64_t, hits));
    if (OF(uint32_t, latched_code)) {
        say(", stays failed with ");
        say_number(OF(uint32_t, latched_code));
    }
    say(", LD_PRELOAD ");
    say((char *)state + FL_AT_state_preloads);
}

static void report(const char *pid)
{
    char name[32], inside[4096], path[4200];
    if (!read_of(pid, "/maps", maps, sizeof(maps)))
        return;
    uint64_t base = base_in_maps(inside, sizeof(inside));
    if (!base)
        return;
    if (!read_of(pid, "/comm", name, sizeof(name)))
        name[0] = 0;
    for (char *end = name; *end; end++)
        *end = *end == '\n' ? 0 : *end;
    path_of(path, sizeof(path), pid, "/root");
    size_t at = 0;
    while (path[at])
        at++;
    fl_copy(path + at, sizeof(path) - at, inside);
    uint64_t offset = look_at(path).state;
    say_note("process ");
    say(pid);
    say(" ");
    say(name);
    say(": ");
    if (!offset || !read_state(pid, base + offset))
        say("mapped; its memory may not be read from here");
    else
        say_state();
    said();
}

/* Say of every process with the shim what it has seen. */
void report_peers(void)
{
    struct entry {
        uint64_t inode, next;
        unsigned short size;
        char type, name[];
    };
    char list[4096] __attribute__((aligned(8)));
    long got, folder = fl_open("/proc");
    while ((got = fl_call6(FL_SYS_GETDENTS, folder, (long)list, sizeof(list), 0, 0, 0)) > 0)
        for (long at = 0; at < got; at += ((struct entry *)(list + at))->size) {
            const char *name = ((struct entry *)(list + at))->name;
            if (name[0] >= '1' && name[0] <= '9')
                report(name);
        }
    fl_close(folder);
}
