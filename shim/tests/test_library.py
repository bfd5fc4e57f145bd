# SPDX-License-Identifier: Apache-2.0
"""How the library is made, and that it stands in nobody's way."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import DRIVER, LIBRARY, TREE, Lab, output

MAKE = ("make", "-s", "--no-print-directory", "-C")


def test_who_asks_for_the_build_id_needs_no_compiler(tmp_path: Path) -> None:
    for tool in ("make", "sh", "cat", "sha256sum", "cut", "echo"):
        (tmp_path / tool).symlink_to(str(shutil.which(tool)))
    command = (*MAKE, str(TREE / "shim"), "print-build-id")
    done = subprocess.run(
        command, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == (output(*command), "")


def test_the_sources_that_gpu_hosts_get_are_all_that_the_build_needs(tmp_path: Path) -> None:
    sent = output(*MAKE, str(TREE / "shim"), "print-files").split()
    packed = subprocess.run(
        ["tar", "--create", "--gzip", f"--directory={TREE}", *sent], capture_output=True, check=True
    ).stdout
    (tmp_path / "there").mkdir()
    subprocess.run(["tar", "xzC", str(tmp_path / "there")], input=packed, check=True)
    there = str(tmp_path / "there/shim")
    subprocess.run((*MAKE, there, "install", f"PREFIX={tmp_path}/out"), check=True)
    made = tmp_path / "out" / output(*MAKE, str(TREE / "shim"), "print-build-id").strip()
    assert {file.name for file in made.iterdir()} == {"libfaultline.so", "selftest"}


def test_a_folder_that_nothing_can_be_preloaded_from_is_refused(tmp_path: Path) -> None:
    command = (*MAKE, str(TREE / "shim"), "install", f"PREFIX={tmp_path}/my shim")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "a path with a blank cannot be preloaded: choose one without" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "command",
    [
        ("/bin/sh", "-c", "echo $((6*7))"),
        ("/usr/bin/python3", "-c", "import ssl, ctypes, sqlite3, json; print(42)"),
        ("gcc", "--version"),
        ("/usr/bin/env", "true"),
    ],
)
def test_programs_that_know_no_cuda_run_as_before(lab: Lab, command: tuple[str, ...]) -> None:
    lab.arm()
    with_shim = lab.run(*command)
    without = lab.run(*command, LD_PRELOAD="")
    assert with_shim.returncode == without.returncode == 0
    assert (with_shim.stdout, with_shim.stderr) == (without.stdout, without.stderr)


ASKER = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
int main(int n, char **v)
{
    void *cuda = n > 1 ? dlopen("libcuda.so.1", RTLD_NOW) : 0;
    printf("default %d\\n", dlsym(RTLD_DEFAULT, "cuInit") != 0);
    printf("handle %d\\n", cuda && dlsym(cuda, "cuInit") != 0);
    dlerror();
    if (cuda) dlsym(cuda, "cuNoSuchFunction");
    const char *said = dlerror();
    printf("error %d\\n", said && strstr(said, "cuNoSuchFunction") != 0);
    if (cuda) dlsym(cuda, "cuInit");
    printf("stale %d\\n", dlerror() != 0);
    int ours = dlsym(RTLD_DEFAULT, "cudnnCreate") != 0;
    printf("others %d\\n", !ours && dlsym(RTLD_DEFAULT, "printf") != 0);
    return 0;
}
"""


def test_asking_whether_cuda_is_loaded_stays_a_question(lab: Lab, compiled: Callable) -> None:
    program = compiled("asker", ASKER)
    assert "default 0\nhandle 0" in lab.run(program).stdout
    loaded = lab.run(program, "load").stdout
    assert "handle 1\nerror 1\nstale 0\nothers 1" in loaded


NEXT_LIBRARY = """
#define _GNU_SOURCE
#include <dlfcn.h>
unsigned int sleep(unsigned int s)
{
    static unsigned int (*next)(unsigned int);
    if (!next) next = dlsym(RTLD_NEXT, "sleep");
    return next == sleep ? 99 : s ? 7 : next(0);
}
"""
NEXT_PROGRAM = '#include <stdio.h>\n#include <unistd.h>\nint main(void){printf("%u",sleep(0));}'


def test_another_library_still_finds_the_next_function_after_itself(
    lab: Lab, compiled: Callable
) -> None:
    library = compiled("libnext.so", NEXT_LIBRARY, "-shared", "-fPIC")
    program = compiled("next", NEXT_PROGRAM)
    for order in (f"{LIBRARY}:{library}", f"{library}:{LIBRARY}"):
        assert lab.run(program, LD_PRELOAD=order).stdout == "0"


BOUND = """
#include <stdio.h>
int cuInit(unsigned); int cuDriverGetVersion(int *); int cuDeviceGet(int *, int);
int cuDevicePrimaryCtxRetain(void **, int); int cuCtxSetCurrent(void *); int cuCtxSynchronize(void);
int main(void)
{
    int version = 0, device; void *context;
    int a = cuInit(0), b = cuDriverGetVersion(&version);
    int c = cuDeviceGet(&device, 0), d = cuDevicePrimaryCtxRetain(&context, device);
    printf("%d %d %d %d %d ", a, b, c, d, cuCtxSetCurrent(context));
    fflush(stdout); getchar();
    printf("%d", cuCtxSynchronize());
}
"""


def test_programs_linked_to_the_driver_are_reached_too(lab: Lab, compiled: Callable) -> None:
    program = compiled("bound", BOUND, f"-L{DRIVER}", "-l:libcuda.so.1")
    assert lab.run(program).stdout == "0 0 0 0 0 0"
    process = lab.start(program)
    assert process.stdout
    assert process.stdout.read(10) == "0 0 0 0 0 "
    lab.arm(code=214)
    assert process.communicate("\n", timeout=60)[0] == "214"


ABI_LIBRARY = """
#include <stdint.h>
#include <stdio.h>
#include <string.h>
struct big { uint64_t w[8]; };
int cuLaunchKernel(void *f, unsigned a, unsigned b, unsigned c, unsigned d, unsigned e, unsigned g,
                   unsigned h, void *s, void **p, void **x)
{ return (uintptr_t)f==1&&a==2&&b==3&&c==4&&d==5&&e==6&&g==7&&h==8&&(uintptr_t)s==9&&
         (uintptr_t)p==10&&(uintptr_t)x==11 ? 0 : 1; }
int cuIpcOpenMemHandle_v2(uint64_t *p, struct big b, unsigned f)
{ for (int i = 0; i < 8; i++) if (b.w[i] != 100u + i) return 1; return (uintptr_t)p==1&&f==2?0:1; }
int cuParamSetf(void *f, int o, float v) { return f && o == 3 && v == 1.5f ? 0 : 1; }
int cuCtxGetDevice(int *d) { *d = 0; return 0; }
int cuDeviceGetUuid_v2(unsigned char *u, int d) { memset(u, 9, 16); return d; }
int cuInit(unsigned f) { return f; }
"""
ABI_PROGRAM = """
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
struct big { uint64_t w[8]; };
int main(int n, char **v)
{
    void *l = dlopen(v[1], RTLD_NOW);
    int (*init)(unsigned) = dlsym(l, "cuInit");
    int (*launch)(void*,unsigned,unsigned,unsigned,unsigned,unsigned,unsigned,unsigned,void*,void**,
                  void**) = dlsym(l, "cuLaunchKernel");
    int (*ipc)(uint64_t*, struct big, unsigned) = dlsym(l, "cuIpcOpenMemHandle_v2");
    int (*setf)(void*, int, float) = dlsym(l, "cuParamSetf");
    struct big b; for (int i = 0; i < 8; i++) b.w[i] = 100u + i;
    int bad = init(0);
    for (int i = 0; i < 3; i++) {
        bad += launch((void*)1,2,3,4,5,6,7,8,(void*)9,(void**)10,(void**)11);
        bad += ipc((void*)1, b, 2) + setf((void*)1, 3, 1.5f);
    }
    printf("%d", bad);
}
"""


@pytest.mark.parametrize("armed", [False, True], ids=["idle", "armed for another GPU"])
def test_arguments_of_every_kind_pass_unchanged(lab: Lab, compiled: Callable, armed: bool) -> None:
    flags = ("-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
    library = Path(compiled("libabi.so", ABI_LIBRARY, *flags))
    program = compiled("abi", ABI_PROGRAM)
    folder = library.parent / "abi-lib"
    folder.mkdir(exist_ok=True)
    shutil.copy(library, folder / "libcuda.so.1")
    if armed:
        lab.arm(gpu=1)
    path = str(folder / "libcuda.so.1")
    assert lab.run(program, path, LD_LIBRARY_PATH=str(folder)).stdout == "0"


THREADS = """
import ctypes, threading
cuda = ctypes.CDLL("libcuda.so.1")
gate, codes = threading.Barrier(64), []
def use():
    gate.wait()
    f, v = ctypes.c_void_p(), ctypes.c_int()
    a = cuda.cuGetProcAddress_v2(b"cuMemAlloc", ctypes.byref(f), 12000, ctypes.c_uint64(0), None)
    codes.append((a, bool(f.value), cuda.cuInit(0), cuda.cuDriverGetVersion(ctypes.byref(v))))
threads = [threading.Thread(target=use) for _ in range(64)]
[t.start() for t in threads]; [t.join() for t in threads]
assert set(codes) == {(0, True, 0, 0)}, set(codes)
import os
if os.fork() == 0:
    os._exit(cuda.cuInit(0))
print(os.wait()[1])
"""


def test_sixty_four_threads_may_come_first_at_the_same_time_and_fork_later(lab: Lab) -> None:
    done = lab.run(sys.executable, "-c", THREADS)
    assert (done.stdout.strip(), done.returncode) == ("0", 0), done.stderr


STATIC = "int main(void){return 5;}"


def test_a_static_program_is_not_disturbed(lab: Lab, compiled: Callable) -> None:
    assert lab.run(compiled("static", STATIC, "-static")).returncode == 5


DEFAULT = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int main(void) { printf("%d", dlsym(RTLD_DEFAULT, "printf") != 0); }
"""


def test_dlsym_keeps_working_with_every_c_library(every_lab: Lab, compiled: Callable) -> None:
    program = compiled("default", DEFAULT, "-ldl", compiler=every_lab.machine.compiler)
    assert every_lab.run(program).stdout == "1"
