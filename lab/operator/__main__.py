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

import uvicorn
from fastapi import FastAPI, Response

from lab.operator import certificates, names
from lab.operator.certificates import Pair
from lab.operator.controller import Controller
from lab.operator.crd_text import crd_text
from lab.operator.events import Recorder
from lab.operator.informer import Informer
from lab.operator.kube import Kube
from lab.operator.leader import Elector
from lab.operator.reconcile import ComponentReconciler, GraphReconciler
from lab.operator.registration import Registration
from lab.operator.settings import Settings
from lab.operator.store import Store
from lab.operator.watch import Watches
from lab.operator.webhooks import make_app

LOG = logging.getLogger("dynamo-operator")
# Two controllers have so long each; the pod is killed ten seconds after it is told to end.
FINISH_SECONDS = 3.0


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


def write_pair(folder: str, pair: Pair) -> tuple[str, str]:
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


def make_servers(health: Health, settings: Settings, folder: str, pair: Pair) -> list[Server]:
    """The health server (HTTP) and the webhook server (HTTPS)."""
    certificate, key = write_pair(folder, pair)
    shared: dict[str, Any] = {"host": settings.webhook_host, "log_level": "warning"}
    # The API server keeps its connections open: do not wait for it to close them.
    shared["timeout_graceful_shutdown"] = 1
    secure: dict[str, Any] = {"ssl_certfile": certificate, "ssl_keyfile": key}
    return [
        Server(uvicorn.Config(health.app(), port=settings.health_port, **shared)),
        Server(uvicorn.Config(make_app(), port=settings.webhook_port, **secure, **shared)),
    ]


async def serve_until(
    stop: asyncio.Event, kube: Kube, health: Health, settings: Settings, more: list[Informer]
) -> None:
    """Watch, and reconcile while we lead, until ``stop`` or until the lease is lost."""
    watches, controllers = build(kube, settings)
    informers = [*watches.informers(kube), *more]
    for informer in informers:
        informer.start()
    for informer in informers:
        await asyncio.to_thread(informer.synced.wait)
    loop = asyncio.get_running_loop()

    def lead() -> None:
        for controller in controllers:
            controller.start()

    def lost() -> None:
        loop.call_soon_threadsafe(stop.set)

    seconds, identity = settings.lease_seconds, settings.identity
    elector = Elector(kube, settings.namespace, identity, seconds, lead, lost)
    elector.start()
    health.ready = True
    LOG.info("ready: webhooks on port %s, %s", settings.webhook_port, settings.probes)
    await stop.wait()
    health.ready = False
    for informer in informers:
        informer.stop()
    for controller in controllers:
        controller.stop()
    # Before the lease is given back: another replica works from then on.
    for controller in controllers:
        await asyncio.to_thread(controller.join, FINISH_SECONDS)
    await asyncio.to_thread(elector.stop)


async def operate(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    kube = await asyncio.to_thread(Kube.connect)
    pair = await asyncio.to_thread(
        certificates.ensure, kube, settings.namespace, webhook_hosts(settings)
    )
    health = Health()
    with tempfile.TemporaryDirectory() as folder:
        servers = make_servers(health, settings, folder, pair)
        tasks = [asyncio.create_task(server.serve()) for server in servers]
        try:
            for server, task in zip(servers, tasks, strict=True):
                await started(server, task)
            registration = Registration(kube, pair.ca, settings)
            await asyncio.to_thread(registration.register)
            await serve_until(stop, kube, health, settings, registration.informers())
        finally:
            for server in servers:
                server.should_exit = True
            await asyncio.gather(*tasks, return_exceptions=True)


def main(arguments: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="lab.operator", description=__doc__)
    parser.add_argument("command", nargs="?", choices=["run", "crds"], default="run")
    options = parser.parse_args(arguments)
    if options.command == "crds":
        sys.stdout.write(crd_text())
        return 0
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    asyncio.run(operate(Settings.from_environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
