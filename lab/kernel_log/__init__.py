# SPDX-License-Identifier: Apache-2.0
"""A kernel log per node, on a machine where all nodes share one kernel.

A relay reads the one real /dev/kmsg and passes on what belongs to this node; a real
systemd-journald reads that, so that what a detector finds in the journal is journald's own work.
"""
