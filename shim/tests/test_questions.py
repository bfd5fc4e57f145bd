# SPDX-License-Identifier: Apache-2.0
"""What dlsym answers about functions of the driver, and what dlerror says afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Lab

NOT_LOADED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
static void ask(void *whom)
{
    dlerror();
    void *found = dlsym(whom, "cuInit");
    const char *said = dlerror();
    printf("%d %d ", found != 0, said && strstr(said, "cuInit"));
}
int main(void)
{
    ask(RTLD_DEFAULT);
    ask(dlopen(0, RTLD_NOW));
}
"""


def test_who_asks_for_the_driver_where_it_is_not_loaded_gets_nothing_and_an_error(
    every_lab: Lab, compiled: Callable
) -> None:
    program = compiled("not_loaded", NOT_LOADED, "-ldl", compiler=every_lab.machine.compiler)
    assert every_lab.run(program).stdout == "0 1 0 1 "
    assert every_lab.run(program, LD_PRELOAD="").stdout == "0 1 0 1 "


LOADED = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **argument)
{
    void *cuda = 0;
    for (int i = count - 1; i; i--)
        cuda = dlopen(argument[i], RTLD_NOW | RTLD_GLOBAL);
    void *asked[] = {cuda, RTLD_DEFAULT, dlopen(0, RTLD_NOW)};
    for (int i = 0; i < 3; i++) {
        dlerror();
        int found = dlsym(asked[i], "cuInit") != 0;
        printf("%d %d ", found, dlerror() != 0);
    }
}
"""
LIBRARIES = {"libcuda.so.1": "cuInit", "libnvidia-ml.so.1": "nvmlInit_v2"}


@pytest.mark.parametrize("loaded", [1, 2], ids=["driver alone", "driver and NVML"])
def test_no_error_is_left_after_an_answer_from_a_driver_that_lacks_functions(
    every_lab: Lab, compiled: Callable, tmp_path: Path, loaded: int
) -> None:
    cc, paths = every_lab.machine.compiler, []
    for name, function in LIBRARIES.items():
        source = f"int {function}(unsigned flags) {{ return 0; }}"
        flags = ("-shared", "-fPIC", f"-Wl,-soname,{name}")
        paths.append(
            shutil.copy(compiled(f"only_{function}", source, *flags, compiler=cc), tmp_path / name)
        )
    program = compiled("loaded", LOADED, "-ldl", compiler=cc)
    done = every_lab.run(program, *map(str, paths[:loaded]), LD_LIBRARY_PATH=str(tmp_path))
    assert done.stdout == "1 0 1 0 1 0 "
