# SPDX-License-Identifier: Apache-2.0
"""A kubelet device plugin that hands out `nvidia.com/gpu`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from . import deviceplugin_pb2 as pb
from .identity import Gpu

RESOURCE = "nvidia.com/gpu"
SERVICE = "v1beta1.DevicePlugin"
TARGETS = "/usr/lib/x86_64-linux-gnu"
LAB = "/var/lib/faultline-lab"


class Plugin:
    """The plugin's four calls. Devices are the node's GPUs, known by their UUIDs."""

    def __init__(self, gpus: list[Gpu]) -> None:
        self.gpus = gpus

    def options(self, _request: Any, _context: Any) -> Any:
        """No preparation before a container starts, no preference."""
        return pb.DevicePluginOptions()

    def list_and_watch(self, _request: Any, context: Any) -> Iterator[Any]:
        """All devices, healthy: a lab GPU that dies does so towards its processes alone."""
        ended = threading.Event()
        context.add_callback(ended.set)
        devices = [pb.Device(ID=gpu.uuid, health="Healthy") for gpu in self.gpus]
        yield pb.ListAndWatchResponse(devices=devices)
        # The stream stays open until the kubelet hangs up: its end would mean a lost plugin.
        ended.wait()

    def allocate(self, request: Any, _context: Any) -> Any:
        """Libraries, table and environment for each container."""
        answers = []
        for container in request.container_requests:
            mounts = [
                pb.Mount(
                    container_path=f"{TARGETS}/{name}",
                    host_path=f"{LAB}/driver/{name}",
                    read_only=True,
                )
                for name in ("libcuda.so.1", "libnvidia-ml.so.1")
            ]
            mounts.append(
                pb.Mount(
                    container_path="/run/faultline-lab/gpus",
                    host_path=f"{LAB}/gpus",
                    read_only=True,
                )
            )
            envs = {"NVIDIA_VISIBLE_DEVICES": ",".join(container.devices_ids)}
            answers.append(pb.ContainerAllocateResponse(envs=envs, mounts=mounts))
        return pb.AllocateResponse(container_responses=answers)

    def serve(self, socket: Path) -> grpc.Server:
        """Serve on a Unix socket; returns the running server."""

        def unary(call: Any, request: Any, answer: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                call, request.FromString, answer.SerializeToString
            )

        handlers = {
            "GetDevicePluginOptions": unary(self.options, pb.Empty, pb.DevicePluginOptions),
            "Allocate": unary(self.allocate, pb.AllocateRequest, pb.AllocateResponse),
            "ListAndWatch": grpc.unary_stream_rpc_method_handler(
                self.list_and_watch,
                pb.Empty.FromString,
                pb.ListAndWatchResponse.SerializeToString,
            ),
        }
        server = grpc.server(ThreadPoolExecutor(8))
        generic = grpc.method_handlers_generic_handler(SERVICE, handlers)
        server.add_generic_rpc_handlers((generic,))
        socket.unlink(missing_ok=True)
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        return server


def register(kubelet: Path, endpoint: str, seconds: float = 10) -> None:
    """Tell the kubelet at its socket about the plugin; raises grpc.RpcError after `seconds`."""
    with grpc.insecure_channel(f"unix:{kubelet}") as channel:
        call = channel.unary_unary(
            "/v1beta1.Registration/Register",
            request_serializer=pb.RegisterRequest.SerializeToString,
            response_deserializer=pb.Empty.FromString,
        )
        request = pb.RegisterRequest(version="v1beta1", endpoint=endpoint, resource_name=RESOURCE)
        call(request, timeout=seconds, wait_for_ready=True)
