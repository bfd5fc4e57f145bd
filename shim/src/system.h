/* SPDX-License-Identifier: Apache-2.0
 * The system calls the shim makes, without a C library. Linux, x86-64. */
#ifndef FAULTLINE_SYSTEM_H
#define FAULTLINE_SYSTEM_H

#include <stdint.h>

#if !defined(__x86_64__)
#error "the shim is written for x86-64"
#endif

/* struct stat of the kernel, as far as it is read here: offsets 8 (inode) and 48 (size). */
struct fl_stat {
    uint64_t device, inode, links;
    uint32_t mode, uid, gid, pad;
    uint64_t rdev;
    int64_t size;
    unsigned char rest[88];
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

/* openat(AT_FDCWD, path, O_RDONLY | O_CLOEXEC) */
static inline long fl_open(const char *path)
{
    return fl_call6(257, -100, (long)path, 02000000, 0, 0, 0);
}

static inline long fl_close(long file)
{
    return fl_call6(3, file, 0, 0, 0, 0, 0);
}

static inline long fl_fstat(long file, struct fl_stat *facts)
{
    return fl_call6(5, file, (long)facts, 0, 0, 0, 0);
}

/* mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0); a negative errno as a pointer on failure */
static inline const unsigned char *fl_mmap(uint64_t size, long file)
{
    return (const unsigned char *)fl_call6(9, 0, (long)size, 1, 1, file, 0);
}

static inline long fl_munmap(const unsigned char *address, uint64_t size)
{
    return fl_call6(11, (long)address, (long)size, 0, 0, 0, 0);
}

/* CLOCK_BOOTTIME in nanoseconds */
static inline uint64_t fl_boottime(void)
{
    int64_t time[2] = {0, 0};
    fl_call6(228, 7, (long)time, 0, 0, 0, 0);
    return (uint64_t)time[0] * 1000000000u + (uint64_t)time[1];
}

#endif
