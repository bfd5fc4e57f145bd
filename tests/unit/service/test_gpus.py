# SPDX-License-Identifier: Apache-2.0
"""The GPUs of a node and how a fault names one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from faultline_service import gpus

FIRST, SECOND = (
    "GPU-11111111-2222-3333-4444-555555555555",
    "GPU-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
)


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """The driver's folder in /proc, with two GPUs."""
    for minor, pci, uuid in ((1, "0000:1b:00.0", SECOND), (0, "0000:1A:00.0", FIRST)):
        folder = tmp_path / "gpus" / pci.lower()
        folder.mkdir(parents=True)
        text = f"Model: \t\t NVIDIA H100\nGPU UUID: \t {uuid}\nBus Location: \t {pci}\n"
        (folder / "information").write_text(f"{text}Device Minor: \t {minor}\n")
    return tmp_path


def test_gpus_are_numbered_in_pci_order(driver: Path) -> None:
    found = gpus.on_node(driver)
    assert [(g.index, g.uuid, g.pci) for g in found] == [
        (0, FIRST, "0000:1a:00.0"),
        (1, SECOND, "0000:1b:00.0"),
    ]
    assert found[0].pci_logged == "0000:1a:00"


@pytest.mark.parametrize(
    "target",
    [
        {"index": 1},
        {"uuid": SECOND.upper().replace("GPU", "GPU")},
        {"pciAddress": "0000:1b:00.0"},
        {"pciAddress": "00000000:1B:00.0"},
        {"pciAddress": "0000:1b:00"},
        {"pciAddress": "1b:00.0"},
    ],
)
def test_index_uuid_and_every_form_of_the_address_name_the_same_gpu(
    driver: Path, target: dict[str, Any]
) -> None:
    assert gpus.choose(gpus.on_node(driver), target).uuid == SECOND


def test_a_gpu_that_is_not_there_is_an_error_that_lists_those_that_are(driver: Path) -> None:
    with pytest.raises(LookupError, match=f"index 7.*{FIRST}"):
        gpus.choose(gpus.on_node(driver), {"index": 7})


def test_a_node_without_a_driver_has_no_gpus(tmp_path: Path) -> None:
    assert gpus.on_node(tmp_path / "none") == []
