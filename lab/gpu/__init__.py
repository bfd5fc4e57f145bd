# SPDX-License-Identifier: Apache-2.0
"""Stand-in for GPUs on a node: identities, files of the driver, and a kubelet device plugin."""
