# SPDX-License-Identifier: Apache-2.0
"""Puts this folder on the path, for the helpers that tests of all kinds of plugins share."""
