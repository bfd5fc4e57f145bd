# SPDX-License-Identifier: Apache-2.0
"""The lab's engine in place of a backend."""
