# SPDX-License-Identifier: Apache-2.0
"""`python3 -m lab.sentinel COMPONENT`: run one component of the stand-in."""

from __future__ import annotations

import argparse
import logging

from ..kube import Kube
from . import connector, drain, janitor, journal, quarantine, remediation

COMPONENTS = {
    "syslog-health-monitor": journal.run,
    "platform-connectors": connector.run,
    "fault-quarantine": quarantine.run,
    "node-drainer": drain.run,
    "fault-remediation": remediation.run,
    "janitor": janitor.run,
    "janitor-provider": janitor.provide,
}


def main() -> None:
    """Run it for ever."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("component", choices=sorted(COMPONENTS))
    component = parser.parse_args().component
    COMPONENTS[component](Kube(component))


if __name__ == "__main__":
    main()
