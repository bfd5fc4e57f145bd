/* SPDX-License-Identifier: Apache-2.0
 * Says inside a container whether the shim is in place and whether anything is armed:
 * `kubectl exec POD -- /opt/faultline/shim/selftest`. Exit status 1 when something is wrong. */
#include "selftest.h"

#define LIBRARY "libfaultline.so"
#define WRITABLE 02000001 /* O_WRONLY | O_CLOEXEC */

char **environ;

#if defined(__x86_64__)
__asm__(".globl _start\n_start: xorl %ebp, %ebp\n movq %rsp, %rdi\n andq $-16, %rsp\n"
        " call fl_selftest\n hlt\n");
#else
__asm__(".globl _start\n_start: mov x29, #0\n mov x30, #0\n mov x0, sp\n bl fl_selftest\n");
#endif

static int ends_with_library(const char *path, size_t size)
{
    size_t length = sizeof(LIBRARY) - 1;
    return size > length && path[size - length - 1] == '/' &&
           !memcmp(path + size - length, LIBRARY, length);
}

/* The shim's path in LD_PRELOAD into `path`; whether it is there. Others are said. */
static int find_preload(char *path, size_t room)
{
    const char *at = fl_setting("LD_PRELOAD");
    int found = 0;
    while (at && *at) {
        size_t size = 0;
        while (at[size] && at[size] != ':' && at[size] != ' ')
            size++;
        char one[4096];
        fl_copy(one, size + 1 < sizeof(one) ? size + 1 : sizeof(one), at);
        if (ends_with_library(at, size)) {
            fl_copy(path, room, one);
            found++;
        } else if (size) {
            say_note("preloaded too: ");
            say(one);
            said();
        }
        at += size + (at[size] != 0);
    }
    return found;
}

static void check_library(void)
{
    char path[4096];
    int times = find_preload(path, sizeof(path));
    if (!times) {
        say_bad("LD_PRELOAD does not name " LIBRARY ": no process of this container has the shim");
        said();
        return;
    }
    struct image image = look_at(path);
    if (image.is_library && image.state)
        say_good(path);
    else
        say_bad(path);
    say(!image.is_library ? " is not there or no library for this machine"
        : !image.state    ? " is a library, but not the shim"
        : times > 1       ? " is the shim, named more than once"
                          : " is the shim");
    said();
}

static void check_page(void)
{
    const char *path = fl_setting("FAULTLINE_CONTROL");
    if (!path) {
        say_bad("FAULTLINE_CONTROL is not set: no fault can reach this container");
        said();
        return;
    }
    fl_map_page();
    if (!FL_STATE(uint32_t, page_mapped)) {
        say_bad(path);
        say(!FL_STATE(uint32_t, pages_refused)     ? " is not there or may not be read"
            : FL_STATE(uint32_t, version_refused) ? " is a control page of another version: "
                                                  : " is no control page");
        if (FL_STATE(uint32_t, version_refused))
            say_number(FL_STATE(uint32_t, version_refused));
        said();
        return;
    }
    say_good(path);
    say(" is the control page, inode ");
    say_number(FL_STATE(uint64_t, page_inode));
    say(", generation ");
    say_number(fl_generation());
    said();
    long file = fl_call6(FL_SYS_OPENAT, -100, (long)path, WRITABLE, 0, 0, 0);
    if (file >= 0) {
        fl_close(file);
        say_note("the page can be written from here: mount it read-only");
        said();
    }
}

/* Armed entries, and whether this container is among those that they mean. */
static void report_faults(void)
{
    struct fl_entry entry;
    say_note(fl_armed() ? "armed, faults: " : "inert, nothing is armed");
    if (fl_armed())
        say_number((uint64_t)fl_armed());
    said();
    for (uint32_t from = 0; from < FL_PAGE_ENTRIES; from = entry.index + 1) {
        struct fl_question question = {0, 0, 0, 0, 0, 0};
        if (!fl_find(&question, from, &entry))
            break;
        say_note("fault ");
        say((const char *)entry.words + FL_AT_entry_fault_id);
        say(", XID ");
        say_number(FL_OF(uint32_t, &entry, xid));
        say(", GPU ");
        say_uuid((const unsigned char *)entry.words + FL_AT_entry_uuid);
        say(FL_OF(uint32_t, &entry, pid) ? ", means one process"
            : fl_is_me(&entry)           ? ", may mean this container"
                                         : ", means others");
        said();
    }
}

__attribute__((used)) void fl_selftest(long *stack)
{
    environ = (char **)(stack + 1 + stack[0] + 1);
    fl_sign();
    say("faultline selftest, build ");
    say((char *)faultline_state + FL_AT_state_build_id);
    said();
    if (fl_off()) {
        say_bad("FAULTLINE=off: every call passes");
        said();
    }
    check_library();
    check_page();
    if (FL_STATE(uint32_t, page_mapped))
        report_faults();
    report_peers();
    fl_call6(FL_SYS_EXIT, said_bad(), 0, 0, 0, 0, 0);
    __builtin_unreachable();
}
