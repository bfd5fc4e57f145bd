# SPDX-License-Identifier: Apache-2.0
"""Which GPUs a lab node has, and that everybody who asks finds the same ones."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from faultline_service import gpus as service

from lab.gpu import node_files
from lab.gpu.identity import Gpu, gpus


def cluster(nodes: int, count: int) -> list[Gpu]:
    return [gpu for n in range(1, nodes + 1) for gpu in gpus(f"gpu-node-{n}", count)]


@pytest.mark.parametrize("nodes", [1, 3, 15])
@pytest.mark.parametrize("count", [1, 2, 6])
def test_no_two_gpus_of_a_cluster_share_an_address_or_a_uuid(nodes: int, count: int) -> None:
    found = cluster(nodes, count)
    assert len({gpu.uuid for gpu in found}) == nodes * count
    assert len({gpu.pci_key for gpu in found}) == nodes * count
    assert [gpu.index for gpu in found] == list(range(count)) * nodes


def test_node_numbers_beyond_one_hex_digit_have_addresses_of_their_own_too() -> None:
    addresses = [gpu.pci for gpu in cluster(300, 6)]
    assert len(set(addresses)) == 300 * 6
    assert all(re.fullmatch(r"[0-9a-f]{4}:[0-9a-f]{2}:00\.0", a) for a in addresses)


def test_a_node_has_the_same_gpus_whenever_they_are_asked_for() -> None:
    assert gpus("gpu-node-2", 2) == gpus("gpu-node-2", 6)[:2]
    assert [gpu.pci for gpu in gpus("gpu-node-2", 2)] == ["0000:2a:00.0", "0000:2b:00.0"]
    assert gpus("gpu-node-2", 1)[0].pci_key == "0000:2a:00"


def test_a_node_whose_name_has_no_number_is_number_one() -> None:
    assert gpus("worker", 1)[0].pci == gpus("gpu-node-1", 1)[0].pci
    assert gpus("worker", 1)[0].uuid != gpus("gpu-node-1", 1)[0].uuid


@pytest.mark.parametrize("count", [-1, 0, 7])
def test_another_number_of_gpus_than_one_to_six_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"a lab node has 1 to 6 GPUs, not {count}"):
        gpus("gpu-node-1", count)


def test_the_agent_reads_from_the_driver_files_what_the_node_was_given(tmp_path: Path) -> None:
    given = gpus("gpu-node-3", 6)
    for gpu in reversed(given):
        folder = tmp_path / "gpus" / gpu.pci
        folder.mkdir(parents=True)
        (folder / "information").write_text(gpu.information())
    read = service.on_node(tmp_path)
    assert [(g.index, g.uuid, g.pci, g.name) for g in read] == [
        (g.index, g.uuid, g.pci, g.name) for g in given
    ]
    assert [g.pci_logged for g in read] == [g.pci_key for g in given]


def test_the_metadata_names_every_gpu_by_address_and_uuid() -> None:
    given = gpus("gpu-node-3", 2)
    metadata = node_files.metadata("gpu-node-3", given)
    assert metadata["node_name"] == "gpu-node-3"
    assert isinstance(metadata["gpus"], list)
    assert [(g["gpu_id"], g["pci_address"], g["uuid"]) for g in metadata["gpus"]] == [
        (g.index, g.pci, g.uuid) for g in given
    ]


def test_a_plugin_that_starts_again_replaces_the_nodes_files_and_shows_nobody_half_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "proc/driver").mkdir(parents=True)
    monkeypatch.setattr(node_files, "NODE", tmp_path)
    monkeypatch.setattr(node_files, "_is_tmpfs", lambda: True)
    monkeypatch.setattr(node_files, "LIBRARIES", tmp_path / "none")
    node_files.prepare("gpu-node-1", gpus("gpu-node-1", 2))
    written = {f: f.read_text() for f in tmp_path.rglob("*") if f.is_file()}
    readers = {f: f.open() for f in written}
    node_files.prepare("gpu-node-1", gpus("gpu-node-1", 2))
    assert len(written) == 5
    for file, reader in readers.items():
        with reader:
            assert os.fstat(reader.fileno()).st_ino != file.stat().st_ino, file
            assert reader.read() == written[file]
