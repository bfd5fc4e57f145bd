/* SPDX-License-Identifier: Apache-2.0
 * What this process is: its settings, its pod, its number, its rank. */
#include "faultline.h"
#include "system.h"

#define UUID_TEXT 36
#define CHUNK 1024
/* "/pods/" + UID + "/" + "containers/" */
#define MARK (6 + UUID_TEXT + 1 + 11)

extern char **environ __attribute__((weak));

/* Value of a variable of the environment, or 0. */
const char *fl_setting(const char *name)
{
    size_t length = 0;
    while (name[length])
        length++;
    for (char **entry = &environ ? environ : 0; entry && *entry; entry++)
        if (fl_begins(*entry, name) && (*entry)[length] == '=')
            return *entry + length + 1;
    return 0;
}

/* A program that runs with another user's rights is never touched, and reads no file for him. */
static int has_raised_rights(void)
{
    return fl_call6(FL_SYS_GETUID, 0, 0, 0, 0, 0, 0) != fl_call6(FL_SYS_GETEUID, 0, 0, 0, 0, 0, 0) ||
           fl_call6(FL_SYS_GETGID, 0, 0, 0, 0, 0, 0) != fl_call6(FL_SYS_GETEGID, 0, 0, 0, 0, 0, 0);
}

/* Whether the kill switch is set. Decided once. */
int fl_off(void)
{
    static uint32_t known; /* 0 not decided, 1 on, 2 off */
    uint32_t value = __atomic_load_n(&known, __ATOMIC_RELAXED);
    if (!value) {
        const char *said = fl_setting("FAULTLINE");
        value = (said && fl_same(said, "off")) || has_raised_rights() ? 2 : 1;
        __atomic_store_n(&known, value, __ATOMIC_RELAXED);
    }
    return value == 2;
}

/* A UUID of 36 characters as 16 bytes; whether it is one. Pods of static manifests have UIDs of
 * 32 digits without dashes: they are none. */
static int parse(const char *text, unsigned char *uid)
{
    int digits = 0;
    for (int i = 0; i < UUID_TEXT; i++) {
        int value = fl_hex(text[i]);
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i] != '-' && text[i] != '_') /* the systemd driver writes _ */
                return 0;
            continue;
        }
        if (value < 0)
            return 0;
        uid[digits / 2] = (unsigned char)(digits % 2 ? uid[digits / 2] | value : value << 4);
        digits++;
    }
    return 1;
}

/* The UID of a pod in `size` bytes of text: in the source of a mount that the kubelet makes for
 * every container (…/pods/UID/etc-hosts, …/pods/UID/containers/…). */
int fl_find_pod(const char *text, size_t size, unsigned char *uid)
{
    for (size_t i = 0; i + MARK <= size; i++) {
        const char *id = text + i + 6, *rest = id + UUID_TEXT;
        if (fl_begins(text + i, "/pods/") && parse(id, uid) &&
            (fl_begins(rest, "/etc-hosts ") || fl_begins(rest, "/containers/")))
            return 1;
    }
    return 0;
}

static int pod_of_mounts(unsigned char *uid)
{
    char text[CHUNK];
    size_t had = 0;
    int found = 0;
    long file = fl_open("/proc/self/mountinfo"), got;
    if (file < 0)
        return 0;
    while (!found && (got = fl_read(file, text + had, sizeof(text) - had)) > 0) {
        had += (size_t)got;
        found = fl_find_pod(text, had, uid);
        size_t keep = had < MARK ? had : MARK - 1;
        for (size_t i = 0; i < keep; i++)
            text[i] = text[had - keep + i];
        had = keep;
    }
    fl_close(file);
    return found;
}

/* The pod of this process, found once: POD_UID of the downward API, else the kubelet's mounts. */
static int pod_uid(unsigned char *uid)
{
    static uint32_t known; /* 0 not looked for, 1 found, 2 none */
    static unsigned char found[FL_UUID_BYTES];
    if (!FL_LOAD(known)) {
        const char *said = fl_setting("POD_UID");
        int size = 0;
        while (said && size <= UUID_TEXT && said[size])
            size++;
        unsigned char mine[FL_UUID_BYTES];
        int is_pod = (size == UUID_TEXT && parse(said, mine)) || pod_of_mounts(mine);
        /* Every thread finds the same bytes. */
        for (int i = 0; is_pod && i < FL_UUID_BYTES; i++) {
            __atomic_store_n(&found[i], mine[i], __ATOMIC_RELAXED);
            __atomic_store_n(&FL_STATE(unsigned char, pod_uid) + i, mine[i], __ATOMIC_RELAXED);
        }
        FL_STORE(known, is_pod ? 1 : 2);
    }
    for (int i = 0; i < FL_UUID_BYTES; i++)
        uid[i] = __atomic_load_n(&found[i], __ATOMIC_RELAXED);
    return FL_LOAD(known) == 1;
}

/* Number of the PID namespace as its inode, 0 where /proc does not say. */
static uint64_t pid_namespace(void)
{
    struct fl_stat facts;
    return fl_stat("/proc/self/ns/pid", &facts) ? 0 : facts.inode;
}

/* A number at the start of a text, plus one; 0 if it is none. */
static uint32_t number_plus_one(const char *text)
{
    uint64_t value = 0;
    if (!text || *text < '0' || *text > '9')
        return 0;
    for (; *text >= '0' && *text <= '9' && value < UINT32_MAX; text++)
        value = value * 10 + (uint64_t)(*text - '0');
    return *text || value >= UINT32_MAX ? 0 : (uint32_t)value + 1;
}

/* Rank in its job plus one, 0 = none. Read every time: workers set RANK after they have begun. */
static uint32_t rank_plus_one(void)
{
    static const char *const names[] = {"RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK",
                                        "SLURM_PROCID", "LOCAL_RANK"};
    uint32_t found = 0;
    for (unsigned i = 0; !found && i < sizeof(names) / sizeof(names[0]); i++)
        found = number_plus_one(fl_setting(names[i]));
    return found;
}

/* Whether an entry means this process. */
int fl_is_me(const struct fl_entry *entry)
{
    static const unsigned char any[FL_UUID_BYTES];
    const unsigned char *wanted = (const unsigned char *)entry->words + FL_AT_entry_pod_uid;
    uint32_t pid = FL_OF(uint32_t, entry, pid), rank = FL_OF(uint32_t, entry, rank);
    unsigned char uid[FL_UUID_BYTES];
    if (memcmp(wanted, any, FL_UUID_BYTES) &&
        (!pod_uid(uid) || memcmp(wanted, uid, FL_UUID_BYTES)))
        return 0;
    if (pid && (pid != fl_getpid() || FL_OF(uint64_t, entry, pid_namespace) != pid_namespace()))
        return 0;
    return !rank || rank == rank_plus_one();
}
