# SPDX-License-Identifier: Apache-2.0
"""Why NVSentinel does not cordon or drain a node. Pure functions; findings as in `_diagnosis`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ._client import Obj
from ._conditions import ready
from ._diagnosis import Finding, finding
from ._node_predicates import (
    CONNECTOR,
    MANUAL,
    MONITOR,
    STATE_LABEL,
    XID_CONDITION,
    names_run,
    quarantined_events,
)
from ._objects import conditions, ready_pod
from ._platform import SENTINEL, drainer_mode, drainer_problem, opted_out

# Without these labels the monitor's DaemonSet puts no pod on a node.
GATES = {
    "nvsentinel.dgxc.nvidia.com/driver.installed": "true",
    "nvsentinel.dgxc.nvidia.com/kata.enabled": "false",
}
FATAL = "Inject an XID that is fatal for NVSentinel, such as 79 (xid_inject_xid)."


def modules(workloads: Mapping[tuple[str, str], Obj], space: str) -> list[Finding]:
    """NVSentinel's modules that are absent or not ready; `workloads` by kind and name."""
    every = [(kind, name) for kind, names in SENTINEL.items() for name in names]
    absent = [name for kind, name in every if (kind, name) not in workloads]
    found = []
    if absent:
        problem = f"Not installed in {space}: {', '.join(absent)}."
        fix = "Enable them in the chart's values: most modules are off by default."
        found.append(finding("NVSentinel", problem, fix))
    for place in every:
        good, seen = ready(workloads[place]) if place in workloads else (True, "")
        if not good:
            fix = f"Look at its pods and their log: kubectl -n {space} get pods."
            found.append(finding(f"NVSentinel's {place[1]}", f"Not ready ({seen}).", fix))
    return found


def monitor(node: Obj, pods: Iterable[Obj], host: Obj | None) -> list[Finding]:
    """Why faults of a node are not seen: no monitor or connector there, or not yet in place.

    `pods` are NVSentinel's on the node, `host` is the fault service's view of it.
    """
    found, name, rows = [], node["metadata"]["name"], list(pods)
    labels = node["metadata"].get("labels") or {}
    lacking = [f"{key}={value}" for key, value in GATES.items() if labels.get(key) != value]
    for label, what in ((MONITOR, "syslog-health-monitor"), (CONNECTOR, "platform-connectors")):
        key, value = label.split("=")
        mine = [p for p in rows if (p["metadata"].get("labels") or {}).get(key) == value]
        if any(ready_pod(p) for p in mine):
            continue
        fix = "Look at the pod there and at its log."
        if not mine:
            fix = "Look at the DaemonSet: its node selector and tolerations must fit the node."
            if what == "syslog-health-monitor" and lacking:
                fix = f"The node lacks the label {' and '.join(lacking)}: NVSentinel's labeler "
                fix += "sets it when it sees the driver (labeler.assumeDriverInstalled)."
        state = "is not Ready there" if mine else "has no pod there"
        found.append(finding(f"node {name}", f"NVSentinel's {what} {state}.", fix))
    boot = ((node.get("status") or {}).get("nodeInfo") or {}).get("bootID")
    detector = ((host or {}).get("status") or {}).get("detector") or {}
    if host and not found and (not detector.get("armed") or detector.get("bootID") != boot):
        problem = "The monitor has not taken its place in the journal since the node booted; what "
        problem += "is written before that it never reports."
        fix = (
            "Wait 30 s after the monitor's start, and see that the node's journal is kept on disk."
        )
        found.append(finding(f"node {name}", problem, fix))
    return found


def breaker_open(breaker: Obj | None, space: str) -> list[Finding]:
    """Whether the circuit breaker has halted everything."""
    if ((breaker or {}).get("data") or {}).get("status") != "TRIPPED":
        return []
    fix = f"Set status CLOSED and cursor CREATE in ConfigMap {space}/circuit-breaker and restart "
    fix += "the Deployment fault-quarantine; with few GPU nodes, turn the breaker off."
    problem = "It is TRIPPED: too many nodes were cordoned in its window, so no event is handled."
    return [finding("NVSentinel's circuit breaker", problem, fix)]


def node_events(node: str, events: Iterable[Obj], run_id: str | None) -> list[Obj]:
    """Events by which NVSentinel tells of faults that are not fatal, of one run if it is given."""
    return [
        e
        for e in events
        if e.get("reason") == f"{XID_CONDITION}IsNotHealthy"
        and (e.get("involvedObject") or {}).get("name") == node
        and (run_id is None or names_run(e.get("message"), run_id))
    ]


def not_cordoned(node: Obj, events: Iterable[Obj], run_id: str | None) -> list[Finding]:
    """Which step between kernel line and cordon is missing.

    `run_id` is a run whose fault must have been seen by now; without it, a node without a condition
    is in order.
    """
    name = node["metadata"]["name"]
    subject = f"node {name}"
    if key := opted_out(node):
        problem = f"It is kept from NVSentinel by its label {key}=false."
        return [finding(subject, problem, f"kubectl label node {name} {key}-")]
    cordoned = bool((node.get("spec") or {}).get("unschedulable"))
    if quarantined_events(node):
        return []
    if cordoned:
        problem = "It was cordoned by somebody else, not by NVSentinel."
        fix = f"See who cordoned it; kubectl uncordon {name} when nobody needs that any more."
        return [finding(subject, problem, fix)]
    row = conditions(node).get(XID_CONDITION, {})
    if row.get("status") == "True":
        if (node["metadata"].get("annotations") or {}).get(MANUAL) == "True":
            problem = f"{XID_CONDITION} is True, but the node was un-cordoned by hand."
            fix = "The condition stays until a healthy event: reboot the node or reset its GPU."
            return [finding(subject, problem, fix)]
        problem = (
            f"{XID_CONDITION} is True, yet NVSentinel has not cordoned the node: its store or "
        )
        problem += "fault-quarantine lost the event, or no ruleset matches it."
        fix = "Look at the log of fault-quarantine and at the chart's store, rulesets and dryRun."
        return [finding(subject, problem, fix)]
    if rows := node_events(name, events, run_id):
        problem = "NVSentinel saw a fault that is not fatal to it, so it wrote an Event and no "
        problem += f"condition: {str(rows[-1].get('message'))[:160]}"
        return [finding(subject, problem, FATAL)]
    if run_id:
        problem = f"{XID_CONDITION} is {row.get('status') or 'absent'} and there is no Event: "
        problem += "the monitor has not reported this run's kernel line."
        fix = (
            f"Look at the log of syslog-health-monitor on {name}: it polls the journal every 15 s "
        )
        fix += "and matches lines with NVRM: Xid (PCI:…)."
        return [finding(subject, problem, fix)]
    return []


def not_drained(
    node: Obj | None, namespace: str, config: str | None, events: Sequence[Obj]
) -> list[Finding]:
    """Why the drainer leaves a namespace's pods where they are."""
    subject = "NVSentinel's node-drainer"
    found = []
    for problem in drainer_problem(config, namespace):
        said, _colon, fix = problem.partition(": ")
        found.append(finding(subject, f"{said}.", fix[0].upper() + fix[1:]))
    mode = drainer_mode(config, namespace)
    if not found and mode in ("AllowCompletion", "DeleteAfterTimeout"):
        problem = f"Its mode for {namespace} is {mode}: it waits until pods end by themselves."
        fix = "Set the mode Immediate for the namespace in node-drainer.userNamespaces."
        found.append(finding(subject, problem, fix))
    name = (node or {}).get("metadata", {}).get("name")
    state = ((node or {}).get("metadata", {}).get("labels") or {}).get(STATE_LABEL)
    if state == "drain-failed":
        fix = "Look at the log of node-drainer; a PodDisruptionBudget may forbid the eviction."
        found.append(finding(f"node {name}", "The drainer gave up: drain-failed.", fix))
    waits = [
        f"{e.get('reason')}: {e.get('message')}"
        for e in events
        if e.get("type") == "NodeDraining" and (e.get("involvedObject") or {}).get("name") == name
    ]
    if state == "draining" and waits:
        problem = f"Still draining. The drainer says {waits[-1][:200]}"
        found.append(finding(f"node {name}", problem, "End the pods that it waits for."))
    return found
