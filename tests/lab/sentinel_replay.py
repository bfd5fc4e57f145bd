# SPDX-License-Identifier: Apache-2.0
"""Plays a recorded scenario on the stage: does what was done, when what came before has come."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sentinel_rows import Chain, Row, chains, standing, without_repeats
from sentinel_stage import PATIENT, Host, Stage

from lab.kube import Obj

RECORDINGS = Path(__file__).parents[1] / "data" / "recordings" / "nvsentinel"
Blocks = dict[Chain, list[tuple[str, set[str]]]]

# Uids of the recorded cluster's nodes; they stand in owner references.
RECORDED_UIDS = {
    "ab8283fb-ad96-4616-8cac-937267d317a9": "<uid of gpu-node-1>",
    "21fe6350-0680-40d1-a812-49b496b338d3": "<uid of gpu-node-2>",
    "0d739f72-eec3-4914-b2f0-c54a609f4d9c": "<uid of gpu-node-3>",
}
STUCK_SECONDS = 30.0
# Longer than the monitor's period and the drainer's second pause: what is to come has come by then.
QUIET_SECONDS = 2.2


def recorded(name: str) -> list[Row]:
    """Rows of a recording."""
    (path,) = RECORDINGS.glob(f"{name}-*.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(rows: list[Row]) -> Blocks:
    """What a recording asks for. A reboot signal that was sent twice, a race of the recorded
    janitor with itself, counts once."""
    found = chains(rows, RECORDED_UIDS)
    return {c: without_repeats(b) if c[1] == "janitor" else b for c, b in found.items()}


class Replay:
    """One scenario, on nodes of its own."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name, self.recording = stage, name, recorded(name)
        self.rows: list[Row] = []
        self.baseline = 0
        self.uids: dict[str, str] = {}
        self.news = threading.Condition()
        self.prefix = f"{name}-gpu-node-"
        self.namespace = f"{name}-{PATIENT if name == 's1c' else 'drill'}"
        self.hosts: dict[str, Host] = {}

    # Names: the recording's on one side, the scenario's own on the other.

    def _mine(self, content: Any) -> Any:
        text = json.dumps(content).replace("gpu-node-", self.prefix)
        return json.loads(text.replace("drill/", f"{self.namespace}/"))

    def _theirs(self, content: Any) -> Any:
        text = json.dumps(content).replace(self.prefix, "gpu-node-")
        return json.loads(text.replace(f"{self.namespace}/", "drill/"))

    def _listen(self, row: Row) -> None:
        text = json.dumps([row["name"], row["change"]])
        mine = self.prefix in text or f"{self.namespace}/" in text
        if mine or (self.name == "s8" and "circuit-breaker" in row["name"]):
            row = self._theirs(row)
            row["writers"] = [who for who in row["writers"] if not who.startswith("fixture")]
            with self.news:
                if int(row["rv"]) > self.baseline:
                    self.rows.append(row)
                    self.news.notify_all()

    # Before the scenario.

    def prepare(self) -> None:
        """Nodes and pods as they were when the recording began."""
        self.stage.listeners.append(self._listen)
        before = [r for r in self.recording if r["op"] == "SNAPSHOT_BEFORE"]
        admin = self.stage.admin
        meta = {"name": self.namespace}
        admin.create({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
        user = {"name": "default", "namespace": self.namespace}
        admin.create({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": user})
        for row in before:
            if row["kind"] == "Node":
                self._node(row)
        for pod, node in self._pods().items():
            self._pod(pod, node)
        if self.name == "s2b":
            self._repeat_twice()
        baseline, seen = self.stage.revision(), []
        for row in before:
            if row["kind"] == "Node":
                uid, state = self.stage.snapshot(self._mine(row["name"]))
                self.uids[uid] = f"<uid of {row['name']}>"
                seen.append(row | {"change": self._theirs(state)})
        for pod, node in self._pods().items():
            made = {"kind": "Pod", "name": pod, "op": "SNAPSHOT_BEFORE"}
            seen.append(made | {"change": {"nodeName": node}})
        with self.news:
            self.baseline = baseline
            self.rows = seen + [row for row in self.rows if int(row["rv"]) > baseline]

    def _node(self, row: Row) -> None:
        state, name = self._mine(row["change"]), self._mine(row["name"])
        number = name[-1]
        ready = {"type": "Ready", "status": "True"}
        node = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": state.get("labels", {}) | {"nvidia.com/gpu.present": "true"},
                "annotations": state.get("annotations", {}),
            },
            "spec": {"unschedulable": state["spec"]["unschedulable"]},
            "status": {"conditions": [ready, *state["conditions"].values()]},
        }
        node["status"]["nodeInfo"] = {"bootID": "before"}
        made = self.stage.admin.create(node)
        assert made
        gpu = f"GPU-{number * 8}-{'-'.join([number * 4] * 3)}-{number * 12}"
        host = Host(self.stage, name, f"0000:{number}a:00.0", gpu)
        self.hosts[number] = self.stage.hosts[name] = host

    def _pods(self) -> dict[str, str]:
        """Pods by name, with their node: those that were there, and those that were evicted."""
        nodes: dict[str, str] = {}
        there: dict[str, str] = {}
        for row in self.recording:
            if row["kind"] != "Pod" or row["op"] == "DELETED":
                continue
            if row["change"].get("nodeName"):
                nodes[row["name"]] = row["change"]["nodeName"]
            if row["op"] == "SNAPSHOT_BEFORE" or "DisruptionTarget" in json.dumps(row["change"]):
                there[row["name"]] = nodes[row["name"]]
        return there

    def _pod(self, recorded_name: str, node: str) -> None:
        name = recorded_name.partition("/")[2]
        spec = {"nodeName": self._mine(node), "containers": [{"name": "w", "image": "w"}]}
        meta = {"name": name, "namespace": self.namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}
        assert self.stage.admin.create(pod)
        running = {"status": {"phase": "Running"}}
        self.stage.admin.patch("v1", "Pod", name, running, self.namespace, subresource="status")

    def _repeat_twice(self) -> None:
        """s2b was recorded when its line had been written twice before."""
        line = next(r["change"]["kmsg"] for r in self.recording if r["op"] == "WRITE")
        twice = threading.Event()

        def seen(row: Row) -> None:
            if self.prefix in row["name"] and row["change"].get("count") == 2:
                twice.set()

        self.stage.listeners.append(seen)
        for _ in range(2):
            next(iter(self.hosts.values())).journal.write(line)
        assert twice.wait(STUCK_SECONDS)
        self.stage.listeners.remove(seen)

    # The scenario.

    def run(self) -> tuple[Blocks, Blocks, str]:
        """Play it; returns what was recorded, what came, and at which step it was stuck."""
        stuck = ""
        self.prepare()
        try:
            for index, row in enumerate(self.recording):
                action = self._action(row)
                if action and not self._reached(expected(self.recording[:index])):
                    stuck = f"stuck before {row['change'].get('mark') or row['name']}"
                    break
                if action:
                    action()
            if not stuck and not self._reached(expected(self.recording)):
                stuck = "stuck at the end"
            self._quiet()
        finally:
            self.stage.listeners.remove(self._listen)
            ended = self._clear()
        wanted, came = expected(self.recording), chains(self.rows, self.uids)
        return wanted | standing(self.recording), came | standing(ended), stuck

    def _reached(self, wanted: Blocks) -> bool:
        """Wait until each chain has as many updates as the recording had."""

        def there() -> bool:
            found = chains(self.rows, self.uids)
            return all(len(found.get(chain, [])) >= len(wanted[chain]) for chain in wanted)

        with self.news:
            return self.news.wait_for(there, STUCK_SECONDS)

    def _quiet(self) -> None:
        """Wait until nothing happens any more."""
        with self.news:
            while self.news.wait(QUIET_SECONDS):
                pass

    def _clear(self) -> list[Row]:
        """Remove the nodes; returns what they looked like."""
        ended = []
        for host in self.hosts.values():
            host.stop()
            del self.stage.hosts[host.name]
            row = {"kind": "Node", "name": host.name, "op": "SNAPSHOT_AFTER"}
            ended.append(self._theirs(row | {"change": self.stage.snapshot(host.name)[1]}))
            self.stage.admin.delete("v1", "Node", host.name)
        return ended

    # What was done in the recording.

    def _action(self, row: Row) -> Callable[[], object] | None:
        """How to do what a row says was done; None of a row that says what came of it."""
        if row["op"] == "WRITE":
            return lambda: self._written_to(row["change"]["kmsg"])
        if (row["kind"], row["op"]) == ("Pod", "DELETED"):
            return lambda: self._pod_ends(row["name"].partition("/")[2])
        if row["op"] != "NOTE":
            return None
        mark = row["change"]["mark"]
        for pattern, name in NOTES:
            if re.search(pattern, mark):
                return lambda: name and getattr(self, name)(self._host(mark))
        raise AssertionError(f"nobody knows how to do this: {mark}")

    def _host(self, mark: str) -> Host:
        """The host that a note speaks of: by number, or the scenario's only one."""
        named = re.search(r"node[- ]?(\d)", mark)
        return self.hosts[named.group(1)] if named else next(iter(self.hosts.values()))

    def _written_to(self, kmsg: str) -> None:
        """A line reaches the journal of the node that it names."""
        named = re.search(r"@gpu-node-(\d)|PCI:0000:(\d)a:", kmsg)
        assert named, kmsg
        self.hosts[named.group(1) or named.group(2)].journal.write(kmsg)

    def _pod_ends(self, name: str) -> None:
        self.stage.admin.delete("v1", "Pod", name, self.namespace, body={"gracePeriodSeconds": 0})

    def _schedulable(self, host: Host, unschedulable: bool | None) -> None:
        change: Obj = {"spec": {"unschedulable": unschedulable}}
        self.stage.humans["kubectl"].patch("v1", "Node", host.name, change)

    def cordon(self, host: Host) -> None:
        """A human cordons the node."""
        self._schedulable(host, True)

    def uncordon(self, host: Host) -> None:
        """A human takes a cordon back."""
        self._schedulable(host, None)

    def restart_monitor(self, host: Host) -> None:
        """The monitor starts without its state file."""
        host.restart()

    def go_down(self, host: Host) -> None:
        """The node's processes end."""
        host.stop()

    def come_back(self, host: Host) -> None:
        """They start after a reboot."""
        host.reboot()

    def restart_quarantine(self, _host: Host) -> None:
        """fault-quarantine starts; it is up when it has said that the backlog waits."""
        tripped = any("TRIPPED" in json.dumps(row["change"]) for row in self.rows)
        self.stage.restart_quarantine()
        if tripped:
            heard = self.stage.components["fault-quarantine"]
            heard.hear("the circuit breaker is open", 4, STUCK_SECONDS)

    def reset_breaker(self, _host: Host) -> None:
        """A human closes the breaker, and fault-quarantine starts."""
        change = {"data": {"status": "CLOSED", "cursor": "RESUME"}}
        human = self.stage.humans["kubectl-patch"]
        human.patch("v1", "ConfigMap", "circuit-breaker", change, "nvsentinel")
        self.stage.restart_quarantine()


# The recordings' notes, and the method that does what each says.
NOTES = (
    (r"^(start|end)$", ""),
    (r"monitor\+connector .* killed", "go_down"),
    (r"new boot id, monitor\+connector started", "come_back"),
    (r"circuit-breaker status=CLOSED", "reset_breaker"),
    (r"fault-quarantine restarted", "restart_quarantine"),
    (r"monitor restart", "restart_monitor"),
    (r"kubectl uncordon", "uncordon"),
    (r"kubectl cordon", "cordon"),
)
