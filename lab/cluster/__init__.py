# SPDX-License-Identifier: Apache-2.0
"""A real Kubernetes cluster on one Linux machine, without Docker and without a registry.

`supervisor` keeps the control plane and the nodes running, `node` is the first process of a node,
`leftovers` finds and removes everything that a cluster has ever made on the machine.
"""
