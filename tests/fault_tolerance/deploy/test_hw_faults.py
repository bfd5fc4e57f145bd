# SPDX-License-Identifier: Apache-2.0
"""Inference survives a dying GPU: the ten phases of a drill, driven from pytest."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from tests.utils.managed_deployment import DeploymentSpec, ManagedDeployment
from tests.utils.phases import ENGINE_ERROR

pytestmark = [
    pytest.mark.k8s,
    pytest.mark.fault_tolerance,
    pytest.mark.hw_faults,
    pytest.mark.slow,
    pytest.mark.anyio,
]


async def test_inference_survives_a_dying_gpu(
    hw_fault_config: dict[str, Any],
    namespace: str,
    deployment_spec: DeploymentSpec,
    skip_service_restart: bool,
    expect: str,
    log_dir: Path,
    run_id: str | None,
) -> None:
    """Requests fail with a worker's GPU, its node is drained, and inference comes back."""
    async with ManagedDeployment(
        namespace=namespace,
        deployment_spec=deployment_spec,
        log_dir=log_dir,
        enable_hw_faults=True,
        hw_fault_config=hw_fault_config,
        skip_service_restart=skip_service_restart,
        run_id=run_id,
    ) as deployment:
        async with deployment.phase(2) as phase:
            await deployment.setup_cuda_passthrough()
            phase.evidence = await deployment.wait_for_all_pods_ready(timeout=300)
        target = deployment.get_hw_fault_target_node()

        async with deployment.phase(3) as phase:
            await deployment.start_inference(expect=expect)
            good = await deployment.wait_for_good_inference()
            phase.evidence = f"{good['good_ratio']:.1%} of {good['total']} requests good"
            await deployment.collect_metrics("before")

        begun = time.time()
        async with deployment.phase(4) as phase:
            await deployment.toggle_cuda_faults(enable=True)
            fault = await deployment.inject_hw_fault(fault_type="xid")
            phase.evidence = f"{fault} in the journal of {target}, CUDA calls armed"

        async with deployment.phase(5) as phase:
            hits = await deployment.wait_for_cuda_failures()
            failed = await deployment.wait_for_failing_inference(begun, error=ENGINE_ERROR)
            error = next(iter(failed["errors"]))
            phase.evidence = f"{hits}; {failed['total']} requests failed: {error}"

        async with deployment.phase(6) as phase:
            deployment.wait_for_node_cordon(timeout=180)
            assert deployment.is_node_cordoned(target)
            phase.evidence = f"{target} cordoned by NVSentinel for this run's fault"

        async with deployment.phase(7) as phase:
            await deployment.cleanup_cuda_spec_without_restart()
            phase.evidence = "no trace of the shim in the specification"

        async with deployment.phase(8) as phase:
            phase.evidence = await deployment.wait_for_eviction(timeout=300)

        async with deployment.phase(9) as phase:
            phase.evidence = await deployment.wait_for_pods_on_healthy_nodes(
                exclude_node=target, timeout=600
            )

        async with deployment.phase(10) as phase:
            good = await deployment.wait_for_good_inference()
            phase.evidence = f"{good['good_ratio']:.1%} of {good['total']} requests good again"

    assert deployment.report is not None
    assert deployment.report["verdict"] == "passed", deployment.report["reason"]
