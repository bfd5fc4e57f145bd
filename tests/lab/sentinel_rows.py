# SPDX-License-Identifier: Apache-2.0
"""Watch events as the recordings of NVSentinel have them, and what of them has to be the same.

A row is one update of one object: `kind`, `name`, `op`, `rv`, `change` (only what differs from the
version before; None means removed) and `writers` (field managers whose entry changed). `observe`
makes rows of watch events, `chains` reduces rows, recorded or observed, to what is compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
Chain = tuple[str, str]

OWN_LABELS = ("k8saas.nvidia.com/", "dgxc.nvidia.com/")
OWN_ANNOTATIONS = ("quarantine", "latestFault")
# Annotations of the lab's own are no part of the comparison.
LAB = "lab.faultline.dev/"
# What the API server sets, and what is different each time.
DROPPED = ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields")

# Unlike GPU UUIDs, which are part of the texts compared.
UUID = re.compile(r"(?<!GPU-)\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
VOLATILE = (
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z"), "<time with fraction>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "<time>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ"), "<time in a label>"),
    (re.compile(r'"generatedTimestamp":\{"seconds":\d{10},"nanos":\d{1,9}\}'), "<generated>"),
    (re.compile(r"\bgpu-node-(\d)\.[0-9a-f]{16}\b"), r"gpu-node-\1.<hex>"),
    (re.compile(r"\bgpu-node-(\d)-[0-9a-z]{5}\b"), r"gpu-node-\1-<generated>"),
    (re.compile(r"\bdrill/[0-9a-z-]+"), "drill/<pod>"),
)


def view(kind: str, found: Row) -> Row:
    """What a recording keeps of an object."""
    meta, status = found["metadata"], found.get("status") or {}
    if kind == "Node":
        return {
            "labels": meta.get("labels") or {},
            "annotations": meta.get("annotations") or {},
            "spec": {"unschedulable": found["spec"].get("unschedulable")},
            "conditions": {c["type"]: c for c in status.get("conditions") or []},
        }
    if kind == "Pod":
        keys = ("deletionTimestamp", "deletionGracePeriodSeconds")
        return {
            "metadata": {key: meta.get(key) for key in keys},
            "nodeName": found["spec"].get("nodeName"),
            "conditions": {c["type"]: c for c in status.get("conditions") or []},
        }
    bare = {key: value for key, value in found.items() if key not in ("apiVersion", "kind")}
    return bare | {"metadata": {k: v for k, v in meta.items() if k != "managedFields"}}


def difference(before: Row, after: Row, path: tuple[str, ...] = ()) -> Row:
    """Keys whose values differ, mappings by key, conditions and everything else as a whole."""
    changed: Row = {}
    for key in sorted(before.keys() | after.keys()):
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        nested = isinstance(old, dict) and isinstance(new, dict) and path != ("conditions",)
        changed[key] = difference(old, new, (*path, key)) if nested else new
    return changed


def writers(before: Row, after: Row) -> set[str]:
    """Field managers whose entry an update changed."""

    def entries(found: Row) -> dict[str, Any]:
        return {
            "/".join(filter(None, (e["manager"], e.get("subresource")))): (e["time"], e["fieldsV1"])
            for e in found.get("metadata", {}).get("managedFields") or []
        }

    old, new = entries(before), entries(after)
    return {name for name, entry in new.items() if old.get(name) != entry}


def observe(kind: str, op: str, before: Row | None, after: Row) -> Row:
    """The row of one watch event; `before` is the object's version before it."""
    meta = after["metadata"]
    name = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]
    change: Row = {}
    if op != "DELETED":
        change = difference(view(kind, before), view(kind, after)) if before else view(kind, after)
    made = {"kind": kind, "name": name, "op": op, "rv": meta["resourceVersion"], "change": change}
    return made | {"writers": sorted(writers(before or {}, after))}


def _own(change: Row) -> Row:
    """Of a node's change only what NVSentinel, or somebody at its cordon, has changed."""
    found = {
        "labels": {k: v for k, v in change.get("labels", {}).items() if k.startswith(OWN_LABELS)},
        "annotations": {
            k: v for k, v in change.get("annotations", {}).items() if k.startswith(OWN_ANNOTATIONS)
        },
        "spec": {k: v for k, v in change.get("spec", {}).items() if k == "unschedulable"},
    }
    return {key: value for key, value in found.items() if value}


def _bare(change: Row, new: bool) -> Row:
    """An object's change without what the API server sets and without the lab's own.

    Fields that a `new` object has empty are left out. Owner references keep their uid: it is
    compared by what it is the uid of.
    """
    kept: Row = {}
    for key, value in change.items():
        if key == "metadata":
            value = {k: v for k, v in value.items() if k not in DROPPED}
        if isinstance(value, dict):
            value = _bare(value, new)
        if key.startswith(LAB) or (new and value is None) or (value == {} and key != "spec"):
            continue
        kept[key] = value
    return kept


def flat(content: Any, path: str = "") -> list[str]:
    """One line per value, `path = value`; removed values read `(removed)`."""
    if isinstance(content, dict) and content:
        return [line for key in sorted(content) for line in flat(content[key], f"{path}.{key}")]
    if isinstance(content, list):
        items = sorted(json.dumps(item, sort_keys=True) for item in content)
        return [f"  {path[1:]} = {item}" for item in items]
    return [f"  {path[1:]} = {'(removed)' if content is None else content}"]


class Conditions:
    """The conditions of all nodes so far, to tell which of their times an update has moved."""

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Row] = {}

    def lines(self, node: str, change: Row) -> list[str]:
        """Lines of the NVSentinel conditions in a change."""
        found = []
        for kind, new in sorted(change.get("conditions", {}).items()):
            if not kind.startswith("SysLogs") or not new:
                continue
            old = self.known.get((node, kind), {})
            self.known[(node, kind)] = new
            for key in ("status", "reason", "message"):
                found.append(f"  {kind}.{key} = {new[key]}")
            # A transition is a heartbeat as well, so a heartbeat says something only without one.
            keys = ("lastTransitionTime", "lastHeartbeatTime")
            moved = next((key for key in keys if old.get(key) != new[key]), "nothing else")
            found.append(f"  {kind}: {moved} moves")
        return found


def _block(row: Row, lines: list[str]) -> tuple[str, set[str]]:
    """Text of an update and who, if anybody is known to, has set something in it."""
    sets = any(not line.endswith("= (removed)") for line in lines)
    return "\n".join([f"{row['kind']} {row['name']} {row['op']}", *lines]), (
        set(row.get("writers") or []) if sets else set()
    )


def _pod_lines(change: Row) -> list[str]:
    """Lines of an eviction; what the kubelet does with the pod afterwards is none of it."""
    lines = []
    target = (change.get("conditions") or {}).get("DisruptionTarget")
    if target:
        lines.append(f"  DisruptionTarget = {target['status']} {target['reason']}")
    grace = (change.get("metadata") or {}).get("deletionGracePeriodSeconds")
    if grace:
        lines.append(f"  deletionGracePeriodSeconds = {grace}")
    return lines


def _place(row: Row, pods: dict[str, str]) -> tuple[str, str]:
    """Node and chain of a row that is not a node's; the node is empty where it does not matter."""
    kind, text = row["kind"], json.dumps([row["name"], row["change"]])
    if kind == "Pod":
        return pods.get(row["name"], ""), "quarantine"
    if kind == "ConfigMap":
        return "", "breaker"
    named = re.search(r"gpu-node-\d", text)
    node = named.group() if named else ""
    if kind == "Event":
        drains = "NodeDraining" in text or "node-drainer" in (row.get("writers") or [])
        return node, "quarantine" if drains else "condition"
    if kind == "RebootNode" and row["op"] == "ADDED":
        return node, "quarantine"
    return node, "janitor"


def chains(rows: Iterable[Row], uids: dict[str, str]) -> dict[Chain, list[tuple[str, set[str]]]]:
    """Updates as (text, writers), in order, by node and chain.

    The updates of a chain follow from each other, so their order means something; the order between
    chains is a matter of luck in the recordings too. `quarantine` is what fault-quarantine,
    node-drainer and fault-remediation do one after the other, `condition` what the connector does,
    `janitor` what becomes of a RebootNode. `uids` says what is known of uids: uid -> text. Other
    ids are numbered as they come, so that it shows which are the same.
    """
    found: dict[Chain, list[tuple[str, set[str]]]] = {}
    conditions, pods, uids = Conditions(), {}, dict(uids)
    for row in sorted(rows, key=lambda row: int(row.get("rv") or 0)):
        kind, name, change = row["kind"], row["name"], row["change"]
        if kind == "Pod" and change.get("nodeName"):
            pods[name] = change["nodeName"]
        if kind == "RebootNode" and row["op"] == "ADDED":
            uids[change["metadata"]["uid"]] = f"<uid of {name}>"
        if row["op"].startswith("SNAPSHOT") or kind == "LabAction":
            if kind == "Node" and row["op"] == "SNAPSHOT_BEFORE":
                conditions.lines(name, change)
            continue
        parts: list[tuple[Chain, list[str]]] = []
        if kind == "Node":
            parts.append(((name, "condition"), conditions.lines(name, change)))
            parts.append(((name, "quarantine"), flat(_own(change)) if _own(change) else []))
        elif kind == "Pod":
            parts.append((_place(row, pods), _pod_lines(change)))
        elif row["op"] == "DELETED":
            parts.append((_place(row, pods), ["  (removed)"]))
        else:
            parts.append((_place(row, pods), flat(_bare(change, row["op"] == "ADDED"))))
        for chain, lines in parts:
            if lines:
                found.setdefault(chain, []).append(_block(row, lines))
    return _named(found, uids)


def _named(
    found: dict[Chain, list[tuple[str, set[str]]]], uids: dict[str, str]
) -> dict[Chain, list[tuple[str, set[str]]]]:
    """The same with every volatile value replaced by what it is."""
    numbers: dict[str, str] = {}

    def name(match: re.Match[str]) -> str:
        return numbers.setdefault(match.group(), f"<id {len(numbers) + 1}>")

    done: dict[Chain, list[tuple[str, set[str]]]] = {}
    order = ("quarantine", "condition", "janitor", "breaker", "at the end")
    for chain in sorted(found, key=lambda c: (c[0], order.index(c[1]))):
        done[chain] = []
        for text, who in found[chain]:
            for uid, meaning in uids.items():
                text = text.replace(uid, meaning)
            text = UUID.sub(name, text)
            for pattern, meaning in VOLATILE:
                text = pattern.sub(meaning, text)
            done[chain].append((text, who))
    return done


def standing(rows: Iterable[Row]) -> dict[Chain, list[tuple[str, set[str]]]]:
    """What is left on the nodes at the end, by node, in the form of `chains`."""
    found: dict[Chain, list[tuple[str, set[str]]]] = {}
    for row in rows:
        if (row["kind"], row["op"]) == ("Node", "SNAPSHOT_AFTER"):
            lines = [x for x in flat(_own(row["change"])) if not x.endswith("= (removed)")]
            for kind, condition in sorted(row["change"]["conditions"].items()):
                if kind.startswith("SysLogs"):
                    lines += [f"  {kind}.{k} = {condition[k]}" for k in ("status", "message")]
            found[(row["name"], "at the end")] = [_block(row, lines)]
    return _named(found, {})


def without_repeats(blocks: list[tuple[str, set[str]]]) -> list[tuple[str, set[str]]]:
    """Updates without those that say the same as the one before."""
    return [b for i, b in enumerate(blocks) if i == 0 or b[0] != blocks[i - 1][0]]
