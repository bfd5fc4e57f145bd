# SPDX-License-Identifier: Apache-2.0
"""Measurements of the shim on a machine with a real GPU; `tests/gpu/run.sh` runs all of them.

Only the standard library is needed, but for the workloads, which need what they exercise.
"""
