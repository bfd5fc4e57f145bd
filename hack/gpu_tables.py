# SPDX-License-Identifier: Apache-2.0
"""Write the tables of docs/shim.md from the results of tests/gpu, so that they are measured.

Usage: gpu_tables.py [--results FOLDER] [--write FILE]. Without --write prints all tables. A table
stands in the document between `<!-- gpu:NAME -->` and `<!-- /gpu:NAME -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

TREE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(TREE / "hack"))

import golden_tables  # noqa: E402
from golden_tables import Results, markdown  # noqa: E402

BAR_RATIO, BAR_TOGGLE_US = 1.01, 1000


def load(folder: Path) -> Results:
    """Content of each result file, by name without .json, and what is predicted where the golden
    table was measured with other classes than those of this tree."""
    read = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
    return golden_tables.add_prediction(read)


def machine(results: Results) -> str:
    """What was measured on."""
    facts = results["machine"]["machine"]
    gpus = facts["gpus"]
    rows = [
        ("GPU", ", ".join(f"{gpu['name']}" for gpu in gpus)),
        ("driver", gpus[0]["driver_version"] if gpus else ""),
        ("CUDA of the driver", facts["driver_cuda"]),
        ("kernel, C library", f"{facts['kernel']}, {facts['libc']}"),
        ("CPU", f"{facts['cpu']}, {facts['cores']} cores"),
        *sorted(facts["packages"].items()),
        ("shim", f"build `{facts['shim_build']}`"),
        ("measured", results["machine"]["started"]),
    ]
    return markdown(("what", "version"), rows)


def runtime(results: Results) -> str:
    """What the runtime library says, genuine and injected side by side, the same once."""
    faults = results["golden"].get("runtime", {})
    merged: dict[tuple[int, str, str, str], list[str]] = {}
    for kind, both in faults.items():
        sides = [both[how].get("calls", []) for how in ("genuine", "injected")]
        for number in range(max(map(len, sides))):
            said = [side[number] if number < len(side) else ["", ""] for side in sides]
            codes = ["fault" if code == both.get("code") else str(code) for _, code in said]
            name = said[0][0] or said[1][0]
            merged.setdefault((number, name, codes[0], codes[1]), []).append(kind)
    rows = [
        (
            f"`{name}`",
            genuine,
            injected,
            "all" if len(kinds) == len(faults) else ", ".join(kinds),
            "" if genuine == injected else "differs",
        )
        for (_, name, genuine, injected), kinds in sorted(merged.items())
    ]
    return markdown(("call, in this order", "genuine", "injected, measured", "faults", ""), rows)


def inert(results: Results) -> str:
    """Workloads with the idle shim against none."""
    rows = []
    for name, both in results["inert"]["workloads"].items():
        runs = both["runs"]
        why = next((run["absent"] for run in runs.values() if "absent" in run), "")
        codes = ", ".join(str(run.get("status")) for run in runs.values())
        rows.append((name, both.get("verdict", "not finished"), codes, why))
    return markdown(("workload", "output and exit code", "exit codes", "why absent"), rows)


def times(results: Results) -> str:
    """Medians and ratios of the times."""
    rows = []
    for operation, row in results["times"]["summary"].items():
        ratios = [
            f"{middle:.3f} ({low:.3f} to {high:.3f})" for middle, low, high in row["ratio"].values()
        ]
        rows.append((operation.replace("_", " "), f"{row['us']['absent']:.2f}", *ratios))
    return markdown(
        (
            "operation",
            "µs without preload",
            "the same again",
            "shim, idle",
            "predecessor's kind, idle",
        ),
        rows,
    )


def armed(results: Results) -> str:
    """What each workload said when it failed."""
    rows = []
    for what, both in results["armed"]["faults"].items():
        for how in ("genuine", "by_shim", "injected"):
            if how not in both:
                continue
            run = both[how]
            failed = run.get("failed", {})
            text = (failed.get("text") or run.get("absent") or "").strip().splitlines()
            stays = all(one.get("type") for one in run.get("again", [])) if run.get("again") else ""
            rows.append(
                (
                    what,
                    how,
                    failed.get("type", ""),
                    text[0][:110] if text else "",
                    run.get("latency_ms", ""),
                    stays,
                    run.get("status", ""),
                )
            )
    return markdown(
        ("workload, fault", "", "exception", "first line", "ms", "stays failed", "exit code"), rows
    )


def missed(results: Results) -> str:
    """Calls the driver counted and the shim did not."""
    rows = []
    for name, row in results["missed"]["workloads"].items():
        lost = "; ".join(
            f"`{'`, `'.join(one['functions'])}` {one['driver']}/{one['shim']}"
            for one in row.get("missed", [])
        )
        rows.append(
            (
                name,
                row.get("functions", ""),
                row.get("calls", row.get("absent", "")),
                row.get("missed_calls", ""),
                lost,
            )
        )
    return markdown(
        (
            "workload",
            "functions",
            "calls counted by the driver",
            "missed by the shim",
            "which (driver/shim)",
        ),
        rows,
    )


def toggle(results: Results) -> str:
    """Microseconds from the writer's store to the first failing call."""
    rows = [
        (kind, row["samples"], *(row["upper_us"].get(q, "") for q in ("p50", "p99", "max")))
        for kind, row in results["toggle"].items()
    ]
    return markdown(("fault", "samples", "p50 µs", "p99 µs", "most µs"), rows)


def modes(results: Results) -> str:
    """What each mode, qualifier and target did to processes on the GPU."""
    rows = [
        (
            name.replace("_", " "),
            row["what"],
            "as expected"
            if row["held"]
            else f"**{row.get('error') or row['seen']}**, expected {row.get('expected')}",
        )
        for name, row in results["modes"]["rows"].items()
    ]
    return markdown(("scenario", "what is expected", "seen"), rows)


def bars(results: Results) -> str:
    """Bars that the measurements must clear, and whether they do."""
    unexplained = golden_tables.unexplained(golden_tables.of_this_tree(results))
    ratios = {op: row["ratio"]["inert"][0] for op, row in results["times"]["summary"].items()}
    worst = max(ratios, key=lambda op: ratios[op])
    lost = sum(row.get("missed_calls", 0) for row in results["missed"]["workloads"].values())
    late = max(row["upper_us"]["p99"] for row in results["toggle"].values())
    others = sum(not row["held"] for row in results["modes"]["rows"].values())
    rows = [
        (
            f"differences not explained ({golden_tables.how(results)})",
            "0",
            unexplained,
            unexplained == 0,
        ),
        (
            "idle cost, worst operation",
            f"≤ {BAR_RATIO}",
            f"{ratios[worst]:.3f} ({worst})",
            ratios[worst] <= BAR_RATIO,
        ),
        ("calls missed", "0", lost, lost == 0),
        ("toggle latency p99", f"≤ {BAR_TOGGLE_US} µs", late, late <= BAR_TOGGLE_US),
        ("modes and targets that did something else", "0", others, others == 0),
    ]
    return markdown(
        ("what", "bar", "result", ""),
        [(*row[:3], "met" if row[3] else "**not met**") for row in rows],
    )


TABLES: dict[str, Callable[[Results], str]] = {
    "machine": machine,
    "bars": bars,
    "golden": golden_tables.golden,
    "explanations": golden_tables.explanations,
    "differences": golden_tables.differences,
    "measured_differences": golden_tables.measured_differences,
    "classes": golden_tables.classes,
    "reclassified": golden_tables.reclassified,
    "runtime": runtime,
    "inert": inert,
    "times": times,
    "armed": armed,
    "missed": missed,
    "toggle": toggle,
    "modes": modes,
}


def tables(results: Results) -> dict[str, str]:
    """Every table whose files are there."""
    found = {}
    for name, make in TABLES.items():
        try:
            found[name] = make(results)
        except KeyError as error:
            found[name] = f"(not measured: {error} is not among the results)"
    return found


def fill(document: str, found: dict[str, str]) -> str:
    """The document with its tables replaced. Raises ValueError for a table that is not known."""

    def block(match: re.Match[str]) -> str:
        if match[1] not in found:
            raise ValueError(
                f"the document asks for table {match[1]}, which is none of {', '.join(found)}"
            )
        return f"<!-- gpu:{match[1]} -->\n{found[match[1]]}\n<!-- /gpu:{match[1]} -->"

    return re.sub(r"<!-- gpu:(\w+) -->\n.*?<!-- /gpu:\1 -->", block, document, flags=re.DOTALL)


def main() -> None:
    """Print or write."""
    parser = argparse.ArgumentParser(description="Tables from the results of tests/gpu.")
    parser.add_argument("--results", type=Path, default=TREE / "tests/gpu/results")
    parser.add_argument("--write", type=Path, help="document whose tables are replaced")
    options = parser.parse_args()
    found = tables(load(options.results))
    if options.write:
        options.write.write_text(fill(options.write.read_text(), found))
    else:
        print("\n\n".join(f"## {name}\n\n{text}" for name, text in found.items()))


if __name__ == "__main__":
    main()
