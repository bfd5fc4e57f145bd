# SPDX-License-Identifier: Apache-2.0
"""Stand-in for NVSentinel: what an observer of the Kubernetes API sees of the real one.

`journal` reads what a node's journald has stored, `parse` turns a line into a health event, and the
other modules are the components behind it, each a workload of its own as in the chart. Between the
components events travel as HealthEvent objects of the lab's own, where the real one has a database.
"""
