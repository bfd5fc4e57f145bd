# SPDX-License-Identifier: Apache-2.0
"""Documentation that the modules of this collection share."""

from __future__ import annotations


class ModuleDocFragment:
    """Options that say which cluster, and what every module supports."""

    DOCUMENTATION = r"""
options:
  kubeconfig:
    description:
      - Path of the kubeconfig; E(K8S_AUTH_KUBECONFIG), as for C(kubernetes.core), E(KUBECONFIG) or
        C(~/.kube/config) when not given.
    type: path
    aliases: [config_file]
  context:
    description: Context of the kubeconfig; E(K8S_AUTH_CONTEXT), or its current one, when not given.
    type: str
requirements:
  - python >= 3.11
  - kubernetes, of the version in C(requirements.txt) of the collection
author: The faultline.gpu maintainers (@faultline-gpu)
attributes:
  check_mode:
    description: Changes nothing; what only reads or waits is done.
    support: full
  diff_mode:
    description: Shows what changes.
    support: full
  action_group:
    description: Part of the action group of this collection.
    support: full
    membership: faultline.gpu.gpu
"""
