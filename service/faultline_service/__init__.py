# SPDX-License-Identifier: Apache-2.0
"""Fault-injection service: an API that writes GPUFault objects and an agent per node that acts.

The agent alone touches a node: it writes the kernel log line, arms the shim's control page, keeps
the evidence and ends every fault at its deadline. Knows no Ansible.
"""
