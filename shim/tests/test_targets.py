# SPDX-License-Identifier: Apache-2.0
"""Whom a fault hits: GPU, MIG instance, pod, process, rank. All others never notice."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import GPUS, MIG, PROGRAMS, Lab, Session

POD = "9d249f14-4b37-4b66-a3d1-6515ff5199fe"
OTHER_POD = "0a1b2c3d-4b37-4b66-a3d1-6515ff5199fe"
MIG_ORDINAL = 2

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may make namespaces")


def namespace_of(pid: int) -> int:
    return Path(f"/proc/{pid}/ns/pid").stat().st_ino


def test_a_fault_of_a_mig_instance_hits_that_instance_alone(
    every_lab: Lab, every_session: Callable
) -> None:
    whole, instance = every_session(0), every_session(MIG_ORDINAL)
    assert instance.codes == [0, 0, 0, 0]
    every_lab.arm(gpu_uuid=MIG)
    assert (whole("sync"), instance("sync")) == (0, 719)
    assert (whole("nvml"), instance("nvml")) == (0, 15)


def test_a_fault_of_a_gpu_hits_its_mig_instances_too(
    every_lab: Lab, every_session: Callable
) -> None:
    instance, other = every_session(MIG_ORDINAL), every_session(1)
    every_lab.arm(0)
    assert (instance("sync"), other("sync")) == (719, 0)
    assert (instance("nvml"), other("nvml")) == (15, 0)


def test_two_pods_on_one_gpu_never_touch_each_other(
    every_lab: Lab, every_session: Callable
) -> None:
    one, other = every_session(POD_UID=POD), every_session(POD_UID=OTHER_POD)
    nobody = every_session()
    every_lab.arm(pod_uid=POD)
    assert (one("sync"), other("sync"), nobody("sync")) == (719, 0, 0)
    assert one.state()["pod_uid"] == POD
    assert other.state()["hits"] == nobody.state()["hits"] == 0
    every_lab.page.write([*every_lab.page.entries(), every_lab.entry(code=214, pod_uid=OTHER_POD)])
    assert (one("sync"), other("sync"), nobody("sync")) == (719, 214, 0)


@pytest.mark.parametrize("wrong", ["", "pod-1", POD[:-1], POD + "0", POD.replace("-", "x")])
def test_a_variable_that_is_no_uid_is_no_pod(lab: Lab, session: Callable, wrong: str) -> None:
    one = session(POD_UID=wrong)
    lab.arm(pod_uid=POD)
    assert one("sync") == 0


@needs_root
@pytest.mark.parametrize("kind", ["etc-hosts", "containers/main/0a1b2c3d"])
def test_a_process_finds_its_pod_in_the_mounts_that_the_kubelet_makes(
    lab: Lab, compiled: Callable, tmp_path: Path, kind: str
) -> None:
    source = tmp_path / "kubelet/pods" / POD / kind
    source.parent.mkdir(parents=True)
    source.write_text("127.0.0.1 localhost\n")
    program = compiled("session", PROGRAMS / "session.c", "-pthread", "-ldl")
    wrapper = tmp_path / "in-pod"
    inside_pod = f'mount --bind {source} /etc/hosts && exec {program} "$0"'
    wrapper.write_text(f"#!/bin/sh\nexec unshare --mount sh -c '{inside_pod}' \"$1\"\n")
    wrapper.chmod(0o755)
    inside = Session(lab, str(wrapper))
    lab.arm(pod_uid=POD)
    assert inside("sync") == 719
    assert inside.state()["pod_uid"] == POD
    inside.end()


def test_only_the_process_with_that_number_is_hit(every_lab: Lab, every_session: Callable) -> None:
    one, other = every_session(), every_session()
    pid = one.process.pid
    every_lab.arm(pid=pid, pid_namespace=namespace_of(pid))
    assert (one("sync"), other("sync")) == (719, 0)


def test_the_same_number_in_another_pid_namespace_is_another_process(
    lab: Lab, session: Callable
) -> None:
    one = session()
    pid = one.process.pid
    lab.arm(pid=pid, pid_namespace=namespace_of(pid) + 1)
    assert one("sync") == 0


def test_a_child_is_another_process_than_its_parent(lab: Lab, session: Callable) -> None:
    one = session()
    pid = one.process.pid
    lab.arm(pid=pid, pid_namespace=namespace_of(pid), mode="transient")
    assert one("fork") == 0
    lab.arm(mode="transient")
    assert one("fork") == 19


@pytest.mark.parametrize("name", ["RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "LOCAL_RANK"])
def test_only_the_process_of_that_rank_is_hit(lab: Lab, session: Callable, name: str) -> None:
    zero, one, none = session(**{name: "0"}), session(**{name: "1"}), session()
    lab.arm(rank=0)
    assert (zero("sync"), one("sync"), none("sync")) == (719, 0, 0)


def test_a_rank_that_a_worker_gives_itself_later_counts(lab: Lab, session: Callable) -> None:
    one = session(LOCAL_RANK="0")
    lab.arm(rank=3)
    assert one("sync") == 0
    assert one("rank 3") == 0
    assert one("sync") == 719


def test_all_that_a_fault_names_must_be_true(lab: Lab, session: Callable) -> None:
    right = session(POD_UID=POD, RANK="1")
    wrong_rank, wrong_pod = session(POD_UID=POD, RANK="0"), session(POD_UID=OTHER_POD, RANK="1")
    wrong_gpu = session(1, POD_UID=POD, RANK="1")
    lab.arm(pod_uid=POD, rank=1, gpu_uuid=GPUS[0][0])
    assert [s("sync") for s in (right, wrong_rank, wrong_pod, wrong_gpu)] == [719, 0, 0, 0]
