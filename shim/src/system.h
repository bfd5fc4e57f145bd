/* SPDX-License-Identifier: Apache-2.0
 * The system calls the shim makes, without a C library. Linux, x86-64 and aarch64. */
#ifndef FAULTLINE_SYSTEM_H
#define FAULTLINE_SYSTEM_H

#include <stdint.h>

#if defined(__x86_64__)
enum {
    FL_SYS_READ = 0, FL_SYS_WRITE = 1, FL_SYS_CLOSE = 3, FL_SYS_FSTAT = 5, FL_SYS_MMAP = 9,
    FL_SYS_MUNMAP = 11, FL_SYS_SCHED_YIELD = 24, FL_SYS_GETPID = 39, FL_SYS_EXIT = 60,
    FL_SYS_GETUID = 102,
    FL_SYS_GETGID = 104, FL_SYS_GETEUID = 107, FL_SYS_GETEGID = 108, FL_SYS_FUTEX = 202,
    FL_SYS_GETDENTS = 217, FL_SYS_CLOCK_GETTIME = 228, FL_SYS_OPENAT = 257,
    FL_SYS_NEWFSTATAT = 262, FL_SYS_PROCESS_VM_READV = 310,
};

static inline long fl_call6(long n, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* struct stat of the kernel, as far as it is read here. */
struct fl_stat {
    uint64_t device, inode, links;
    uint32_t mode, uid, gid, pad;
    uint64_t rdev;
    int64_t size;
    unsigned char rest[88];
};
#elif defined(__aarch64__)
enum {
    FL_SYS_OPENAT = 56, FL_SYS_CLOSE = 57, FL_SYS_GETDENTS = 61, FL_SYS_READ = 63,
    FL_SYS_WRITE = 64, FL_SYS_NEWFSTATAT = 79, FL_SYS_FSTAT = 80, FL_SYS_EXIT = 93,
    FL_SYS_FUTEX = 98, FL_SYS_CLOCK_GETTIME = 113, FL_SYS_SCHED_YIELD = 124, FL_SYS_GETPID = 172,
    FL_SYS_GETUID = 174,
    FL_SYS_GETEUID = 175, FL_SYS_GETGID = 176, FL_SYS_GETEGID = 177, FL_SYS_MUNMAP = 215,
    FL_SYS_MMAP = 222, FL_SYS_PROCESS_VM_READV = 270,
};

static inline long fl_call6(long n, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = n;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}

/* struct stat of the kernel, as far as it is read here. */
struct fl_stat {
    uint64_t device, inode;
    uint32_t mode, links, uid, gid;
    uint64_t rdev, pad;
    int64_t size;
    unsigned char rest[72];
};
#else
#error "the shim is written for x86-64 and aarch64"
#endif

/* openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK): a pipe must not keep a process. */
static inline long fl_open(const char *path)
{
    return fl_call6(FL_SYS_OPENAT, -100, (long)path, 02004000, 0, 0, 0);
}

static inline long fl_close(long file)
{
    return fl_call6(FL_SYS_CLOSE, file, 0, 0, 0, 0, 0);
}

static inline long fl_read(long file, void *to, uint64_t size)
{
    return fl_call6(FL_SYS_READ, file, (long)to, (long)size, 0, 0, 0);
}

static inline long fl_fstat(long file, struct fl_stat *facts)
{
    return fl_call6(FL_SYS_FSTAT, file, (long)facts, 0, 0, 0, 0);
}

static inline long fl_stat(const char *path, struct fl_stat *facts)
{
    return fl_call6(FL_SYS_NEWFSTATAT, -100, (long)path, (long)facts, 0, 0, 0);
}

/* mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0); a negative errno as a pointer on failure */
static inline const unsigned char *fl_mmap(uint64_t size, long file)
{
    return (const unsigned char *)fl_call6(FL_SYS_MMAP, 0, (long)size, 1, 1, file, 0);
}

static inline long fl_munmap(const unsigned char *address, uint64_t size)
{
    return fl_call6(FL_SYS_MUNMAP, (long)address, (long)size, 0, 0, 0, 0);
}

static inline void fl_yield(void)
{
    fl_call6(FL_SYS_SCHED_YIELD, 0, 0, 0, 0, 0, 0);
}

static inline uint32_t fl_getpid(void)
{
    return (uint32_t)fl_call6(FL_SYS_GETPID, 0, 0, 0, 0, 0, 0);
}

/* CLOCK_BOOTTIME in nanoseconds */
static inline uint64_t fl_boottime(void)
{
    int64_t time[2] = {0, 0};
    fl_call6(FL_SYS_CLOCK_GETTIME, 7, (long)time, 0, 0, 0, 0);
    return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

/* Sleep until the word of a shared file is no longer `value`, a waker comes, or the time is over. */
static inline long fl_futex_wait(const uint32_t *word, uint32_t value, uint64_t nanoseconds)
{
    int64_t time[2] = {(int64_t)(nanoseconds / 1000000000u), (int64_t)(nanoseconds % 1000000000u)};
    return fl_call6(FL_SYS_FUTEX, (long)word, 0, value, (long)time, 0, 0);
}

#endif
