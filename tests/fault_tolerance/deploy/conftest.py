# SPDX-License-Identifier: Apache-2.0
"""Options and fixtures of the tests that let hardware fail under a deployment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.utils.hw_fault_helpers import BACKENDS, HWFaultConfig
from tests.utils.managed_deployment import DeploymentSpec, FaultlineError

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "deployments"


@contextmanager
def sentences() -> Iterator[None]:
    """Let an option that cannot be fail the test with its sentence alone."""
    try:
        yield
    except FaultlineError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options; without --enable-hw-faults nothing is touched."""
    group = parser.getgroup("hardware faults")
    group.addoption(
        "--enable-hw-faults",
        action="store_true",
        default=False,
        help="run the tests that let a GPU die (they drain a node of the cluster)",
    )
    group.addoption(
        "--hw-fault-backend", default="vllm", choices=BACKENDS, help="whose deployment to test"
    )
    group.addoption("--hw-fault-xid", type=int, default=79, help="XID to inject")
    group.addoption(
        "--hw-fault-target-node", default=None, help="node to hurt; a worker's when not given"
    )
    group.addoption("--namespace", default="fault-tolerance", help="namespace to make for the test")
    group.addoption(
        "--skip-service-restart",
        action="store_true",
        default=False,
        help="leave NATS and etcd of the platform as they are (faster)",
    )
    group.addoption("--image", default=None, help="image of all services of the deployment")
    group.addoption("--model", default=None, help="model to serve instead of the deployment's")
    group.addoption(
        "--deployment",
        default="agg_router",
        help="DGD file, or the name of an example of the backend (agg, agg_router, disagg, "
        "disagg_router, each also as v1beta1/NAME)",
    )
    group.addoption(
        "--keep-secrets",
        action="store_true",
        default=False,
        help="keep the deployment's references to Secrets: make the namespace beforehand, with the "
        "Secrets and the label faultline.dev/run=ID, and give --run-id ID",
    )
    group.addoption("--run-id", default=None, help="name of the run; one is made up otherwise")
    group.addoption("--expect", default=".+", help="regular expression of a right answer")
    group.addoption("--log-dir", default="results", help="folder of records, evidence and reports")


@pytest.fixture
def hw_fault_config(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What to inject; skips the test unless --enable-hw-faults is given."""
    option = request.config.getoption
    if not option("--enable-hw-faults"):
        pytest.skip("hardware faults are off: give --enable-hw-faults (it drains a node)")
    config = {
        "enabled": True,
        "xid_type": option("--hw-fault-xid"),
        "target_node": option("--hw-fault-target-node"),
        "backend": option("--hw-fault-backend"),
    }
    with sentences():
        HWFaultConfig.of(config)
    return config


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """Namespace of the test."""
    return str(request.config.getoption("--namespace"))


@pytest.fixture
def run_id(request: pytest.FixtureRequest) -> str | None:
    """Name of the run, None for one that is made up."""
    return request.config.getoption("--run-id") or None


@pytest.fixture
def hw_fault_backend(request: pytest.FixtureRequest) -> str:
    """vllm, sglang or trtllm."""
    return str(request.config.getoption("--hw-fault-backend"))


@pytest.fixture
def skip_service_restart(request: pytest.FixtureRequest) -> bool:
    """Whether NATS and etcd stay as they are."""
    return bool(request.config.getoption("--skip-service-restart"))


@pytest.fixture
def image(request: pytest.FixtureRequest) -> str | None:
    """Image for all services, None for the deployment's own."""
    return request.config.getoption("--image") or None


@pytest.fixture
def expect(request: pytest.FixtureRequest) -> str:
    """Regular expression of a right answer."""
    return str(request.config.getoption("--expect"))


@pytest.fixture
def log_dir(request: pytest.FixtureRequest) -> Path:
    """Folder that gets a folder per run."""
    return Path(request.config.getoption("--log-dir"))


@pytest.fixture
def deployment_spec(
    request: pytest.FixtureRequest, hw_fault_backend: str, image: str | None
) -> DeploymentSpec:
    """The deployment to test, with the image and the model that were asked for."""
    wanted = Path(request.config.getoption("--deployment"))
    folder = EXAMPLES / hw_fault_backend
    example = folder / f"{wanted}.yaml"
    if not wanted.suffix and not example.exists():
        names = sorted(str(f.relative_to(folder).with_suffix("")) for f in folder.rglob("*.yaml"))
        pytest.fail(
            f"--deployment {wanted} is no example of {hw_fault_backend}, which has "
            f"{', '.join(names)}; a file of your own is named with its .yaml.",
            pytrace=False,
        )
    with sentences():
        spec = DeploymentSpec(wanted if wanted.suffix else example)
        if image:
            spec.set_image(image)
        if request.config.getoption("--model"):
            spec.set_model(request.config.getoption("--model"))
        if not request.config.getoption("--keep-secrets"):
            spec.remove_env_from_secret()
    return spec


@pytest.fixture
def anyio_backend() -> str:
    """The tests are coroutines of asyncio."""
    return "asyncio"
