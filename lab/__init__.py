# SPDX-License-Identifier: Apache-2.0
"""What stands in for hardware and for other people's controllers, and the cluster it runs on.

Nothing outside this folder and the `lab_*` roles imports from here.
"""
