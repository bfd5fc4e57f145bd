# SPDX-License-Identifier: Apache-2.0
"""``python3 -m lab.operator`` runs the operator; ``python3 -m lab.operator crds`` prints its
CRDs."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import urllib.parse
from typing import Any

import kopf
import uvicorn
from fastapi import FastAPI, Response

from lab.operator import certificates, names
from lab.operator.controller import Controller
from lab.operator.crd_text import crd_text
from lab.operator.events import Recorder
from lab.operator.kube import Kube
from lab.operator.reconcile import ComponentReconciler, GraphReconciler
from lab.operator.settings import Settings
from lab.operator.store import Store
from lab.operator.watch import Watches, quiet_settings
from lab.operator.webhooks import make_app, register

LOG = logging.getLogger("dynamo-operator")


class Health:
    """``/healthz`` while the process lives, ``/readyz`` once webhooks answer and watches have
    started."""

    def __init__(self) -> None:
        self.ready = False

    def app(self) -> FastAPI:
        """The HTTP application of the two paths."""
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @app.get("/healthz")
        async def healthz() -> Response:
            return Response("ok")

        @app.get("/readyz")
        async def readyz() -> Response:
            return Response(
                "ok" if self.ready else "starting", status_code=200 if self.ready else 503
            )

        return app


def webhook_hosts(settings: Settings) -> list[str]:
    """Names that the API server may call the webhooks by."""
    service = f"{names.WEBHOOK_SERVICE}.{settings.namespace}"
    hosts = [f"{service}.svc", service, f"{service}.svc.cluster.local"]
    if settings.webhook_url:
        hosts.append(urllib.parse.urlsplit(settings.webhook_url).hostname or "localhost")
    return hosts


def write_pair(folder: str, pair: certificates.Pair) -> tuple[str, str]:
    """Certificate and key as files, which is what the TLS library takes."""
    paths = os.path.join(folder, "tls.crt"), os.path.join(folder, "tls.key")
    for path, text in zip(paths, (pair.certificate, pair.key), strict=True):
        with open(path, "wb", opener=lambda p, flags: os.open(p, flags, 0o600)) as file:
            file.write(text)
    return paths


class Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: the operator stops everything together."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]
        """Leave the signals alone."""
        yield


async def started(server: Server, task: asyncio.Task[None]) -> None:
    """Return when the server listens; raise when it ended instead."""
    while not server.started:
        if task.done():
            raise RuntimeError(f"the server on port {server.config.port} did not start")
        await asyncio.sleep(0.02)


def build(kube: Kube, settings: Settings) -> tuple[Watches, list[Controller]]:
    """Store, recorder, reconcilers and controllers, connected."""
    store, recorder = Store(), Recorder(kube)
    graph = GraphReconciler(kube, store, recorder, settings)
    component = ComponentReconciler(kube, store, recorder, settings)
    graphs = Controller("DynamoGraphDeployment", graph.reconcile)
    components = Controller("DynamoComponentDeployment", component.reconcile)
    graph.again = graphs.add
    return Watches(store, graphs, components, settings.status_delay), [graphs, components]


async def operate(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    kube = await asyncio.to_thread(Kube.connect)
    pair = await asyncio.to_thread(
        certificates.ensure, kube, settings.namespace, webhook_hosts(settings)
    )
    health = Health()
    watches, controllers = build(kube, settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = write_pair(folder, pair)
        shared: dict[str, Any] = {"host": settings.webhook_host, "log_level": "warning"}
        servers = [
            Server(uvicorn.Config(health.app(), port=settings.health_port, **shared)),
            Server(
                uvicorn.Config(
                    make_app(),
                    port=settings.webhook_port,
                    ssl_certfile=certificate,
                    ssl_keyfile=key,
                    **shared,
                )
            ),
        ]
        tasks = [asyncio.create_task(server.serve()) for server in servers]
        for server, task in zip(servers, tasks, strict=True):
            await started(server, task)
        await asyncio.to_thread(register, kube, pair.ca, settings.webhook_url)
        for controller in controllers:
            controller.start()
        LOG.info("webhooks on port %s, probes %s", settings.webhook_port, settings.probes)
        ready = asyncio.Event()
        watching = asyncio.create_task(
            kopf.operator(
                registry=watches.registry(),
                settings=quiet_settings(),
                standalone=True,
                clusterwide=not settings.watch_namespaces,
                namespaces=settings.watch_namespaces,
                ready_flag=ready,
                stop_flag=stop,
            )
        )
        await asyncio.wait(
            {asyncio.create_task(ready.wait()), watching}, return_when="FIRST_COMPLETED"
        )
        health.ready = not watching.done()
        try:
            await watching
        finally:
            health.ready = False
            for controller in controllers:
                controller.stop()
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="lab.operator", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["run", "crds"], default="run")
    options = parser.parse_args(arguments)
    if options.command == "crds":
        sys.stdout.write(crd_text())
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("kopf").setLevel(logging.WARNING)
    asyncio.run(operate(Settings.from_environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
