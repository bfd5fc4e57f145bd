# SPDX-License-Identifier: Apache-2.0
"""The device plugin as a kubelet meets it: a registration and calls over real Unix sockets."""

from __future__ import annotations

import queue
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab.gpu import deviceplugin_pb2 as pb
from lab.gpu.identity import gpus
from lab.gpu.plugin import Plugin, register

TREE = Path(__file__).resolve().parents[3]
GPUS = gpus("gpu-node-1", 3)
LIMIT = 60.0


class Kubelet:
    """The kubelet's end: its Registration service, and calls to the plugin that registered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.registered: queue.Queue[Any] = queue.Queue()
        self.server = grpc.server(ThreadPoolExecutor(1))
        handler = grpc.unary_unary_rpc_method_handler(
            self.register, pb.RegisterRequest.FromString, pb.Empty.SerializeToString
        )
        service = grpc.method_handlers_generic_handler(
            "v1beta1.Registration", {"Register": handler}
        )
        self.server.add_generic_rpc_handlers((service,))

    def start(self) -> None:
        """Listen; a kubelet that starts removes every socket beside its own first."""
        for socket in self.folder.glob("*.sock"):
            socket.unlink()
        self.server.add_insecure_port(f"unix:{self.folder}/kubelet.sock")
        self.server.start()

    def stop(self) -> None:
        self.server.stop(None).wait()

    def register(self, request: Any, _context: Any) -> Any:
        self.registered.put(request)
        return pb.Empty()

    def dial(self) -> Client:
        """A connection to the plugin that registers next."""
        return Client(self.folder / self.registered.get(timeout=LIMIT).endpoint)


class Client:
    """The calls that a kubelet makes to a plugin."""

    def __init__(self, socket: Path) -> None:
        self.channel = grpc.insecure_channel(f"unix:{socket}")

    def call(self, name: str, request: Any, answer: Any) -> Any:
        method = self.channel.unary_unary(
            f"/v1beta1.DevicePlugin/{name}", request.SerializeToString, answer.FromString
        )
        return method(request, timeout=LIMIT, wait_for_ready=True)

    def watch(self, seconds: float = LIMIT) -> Any:
        """The stream of device lists; after `seconds` this end hangs up."""
        method = self.channel.unary_stream(
            "/v1beta1.DevicePlugin/ListAndWatch",
            pb.Empty.SerializeToString,
            pb.ListAndWatchResponse.FromString,
        )
        return method(pb.Empty(), timeout=seconds, wait_for_ready=True)

    def devices(self) -> dict[str, str]:
        """Health by id, from the first list of a stream that is then hung up."""
        stream = self.watch()
        found = {device.ID: device.health for device in next(stream).devices}
        stream.cancel()
        return found

    def allocate(self, *containers: list[str]) -> list[Any]:
        asked = [pb.ContainerAllocateRequest(devices_ids=ids) for ids in containers]
        request = pb.AllocateRequest(container_requests=asked)
        return list(self.call("Allocate", request, pb.AllocateResponse).container_responses)


@pytest.fixture
def kubelet(tmp_path: Path) -> Iterator[Kubelet]:
    found = Kubelet(tmp_path)
    found.start()
    yield found
    found.stop()


@pytest.fixture
def client(kubelet: Kubelet) -> Iterator[Client]:
    """A kubelet's connection to a plugin that has registered."""
    server = Plugin(GPUS).serve(kubelet.folder / "lab.sock")
    register(kubelet.folder / "kubelet.sock", "lab.sock")
    dialled = kubelet.dial()
    yield dialled
    dialled.channel.close()
    server.stop(None).wait()


def test_the_plugin_registers_for_nvidia_gpus_at_its_own_socket(kubelet: Kubelet) -> None:
    register(kubelet.folder / "kubelet.sock", "lab.sock")
    request = kubelet.registered.get(timeout=LIMIT)
    assert request.version == "v1beta1"
    assert request.endpoint == "lab.sock"
    assert request.resource_name == "nvidia.com/gpu"


def test_a_registration_without_a_kubelet_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(grpc.RpcError):
        register(tmp_path / "kubelet.sock", "lab.sock", seconds=0.2)


def test_every_gpu_of_the_node_is_listed_healthy_under_its_uuid(client: Client) -> None:
    assert client.devices() == {gpu.uuid: "Healthy" for gpu in GPUS}


def test_the_list_stays_open_because_its_end_would_mean_a_lost_plugin(client: Client) -> None:
    client.devices()  # connected: from here on an answer comes in far less than the time it has
    stream = client.watch(seconds=2)
    next(stream)
    with pytest.raises(grpc.RpcError) as ended:
        next(stream)
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED, "hung up from this end"


def test_a_kubelet_may_ask_again_as_often_as_it_likes(client: Client) -> None:
    for _ in range(20):
        assert len(client.devices()) == len(GPUS)


def test_the_kubelet_learns_that_nothing_has_to_be_called_before_a_start(client: Client) -> None:
    options = client.call("GetDevicePluginOptions", pb.Empty(), pb.DevicePluginOptions)
    assert not options.pre_start_required
    assert not options.get_preferred_allocation_available


def test_each_container_gets_exactly_the_gpus_that_were_asked_for_it(client: Client) -> None:
    first, second, third = (gpu.uuid for gpu in GPUS)
    one, two = client.allocate([third, first], [second])
    assert dict(one.envs) == {"NVIDIA_VISIBLE_DEVICES": f"{third},{first}"}
    assert dict(two.envs) == {"NVIDIA_VISIBLE_DEVICES": second}


def test_each_container_gets_the_driver_libraries_and_the_table_read_only(client: Client) -> None:
    for container in client.allocate([GPUS[0].uuid], [GPUS[1].uuid]):
        found = {mount.container_path: mount.host_path for mount in container.mounts}
        assert found == {
            "/usr/lib/x86_64-linux-gnu/libcuda.so.1": "/var/lib/faultline-lab/driver/libcuda.so.1",
            "/usr/lib/x86_64-linux-gnu/libnvidia-ml.so.1": (
                "/var/lib/faultline-lab/driver/libnvidia-ml.so.1"
            ),
            "/run/faultline-lab/gpus": "/var/lib/faultline-lab/gpus",
        }
        assert all(mount.read_only for mount in container.mounts)


KEEP = """
import sys
from pathlib import Path
from lab.gpu.__main__ import keep_registered
from lab.gpu.identity import gpus
from lab.gpu.plugin import Plugin
keep_registered(Plugin(gpus("gpu-node-1", 3)), Path(sys.argv[1]))
"""


def test_a_plugin_registers_again_with_a_kubelet_that_starts_again(tmp_path: Path) -> None:
    first, second = Kubelet(tmp_path), Kubelet(tmp_path)
    first.start()
    plugin = subprocess.Popen([sys.executable, "-c", KEEP, str(tmp_path)], cwd=TREE)
    try:
        for kubelet in (first, second):
            if kubelet is second:
                first.stop()
                second.start()
            dialled = kubelet.dial()
            assert len(dialled.devices()) == len(GPUS)
            dialled.channel.close()
    finally:
        plugin.kill()
        plugin.wait()
        second.stop()
