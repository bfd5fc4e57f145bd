/* SPDX-License-Identifier: Apache-2.0
 * Mode `genuine`: a kernel that really faults, given to the driver. The driver poisons the context
 * and writes the XID by itself; nothing is imitated. */
#include "faultline.h"

#define CAPTURE_RELAXED 2
#define STREAM_NON_BLOCKING 1
#define NOT_SUPPORTED 801

#define HEAD ".version 6.5\n.target sm_52\n.address_size 64\n.visible .entry faultline_fault()\n{\n"

typedef uint32_t load_data(void **module, const char *image);
typedef uint32_t get_function(void **function, void *module, const char *name);
typedef uint32_t launch_kernel(void *function, unsigned, unsigned, unsigned, unsigned, unsigned,
                               unsigned, unsigned shared, void *stream, void **arguments, void **extra);
typedef uint32_t stream_create(void **stream, unsigned flags);
typedef uint32_t exchange_mode(int *mode);

/* One thread that does what brings the XID about, or 0. */
static const char *kernel_for(uint32_t xid)
{
    switch (xid) {
    case 13: /* misaligned store: a warp exception */
        return HEAD ".reg .b64 %p;\n.shared .align 8 .b8 room[16];\nmov.u64 %p, room;\n"
                    "add.u64 %p, %p, 1;\nst.shared.u32 [%p], 1;\nret;\n}\n";
    case 31: /* store to an address that is not mapped */
        return HEAD ".reg .b64 %p;\nmov.u64 %p, 0x7f0000000000;\nst.global.u32 [%p], 1;\nret;\n}\n";
    case 43: /* the kernel gives up by itself */
        return HEAD "trap;\nret;\n}\n";
    }
    return 0;
}

static uint32_t launch(const char *image)
{
    load_data *load = FL_REAL(load_data, "cuModuleLoadData");
    get_function *get = FL_REAL(get_function, "cuModuleGetFunction");
    stream_create *create = FL_REAL(stream_create, "cuStreamCreate");
    launch_kernel *run = FL_REAL(launch_kernel, "cuLaunchKernel");
    void *module, *function, *stream;
    uint32_t code = !load || !get || !create || !run ? NOT_SUPPORTED : load(&module, image);
    if (!code)
        code = get(&function, module, "faultline_fault");
    if (!code)
        code = create(&stream, STREAM_NON_BLOCKING);
    if (!code)
        code = run(function, 1, 1, 1, 1, 1, 1, 0, stream, 0, 0);
    return code; /* the context is lost: module and stream go with it */
}

/* Launch the kernel that brings this XID about in the current context. A driver that refuses is
 * noted with its code, and nothing else happens. A stream capture of the application is left out. */
void fl_run_faulting_kernel(uint32_t xid, uint32_t serial)
{
    const char *image = kernel_for(xid);
    exchange_mode *exchange = FL_REAL(exchange_mode, "cuThreadExchangeStreamCaptureMode");
    int mode = CAPTURE_RELAXED;
    int exchanged = exchange && !exchange(&mode);
    uint32_t code = image ? launch(image) : NOT_SUPPORTED;
    if (exchanged)
        exchange(&mode);
    if (!code) {
        FL_ADD(FL_STATE(uint32_t, genuine_launched), 1);
        return;
    }
    FL_STORE(FL_STATE(uint32_t, genuine_serial), serial);
    FL_STORE(FL_STATE(uint32_t, genuine_refused), code);
}
