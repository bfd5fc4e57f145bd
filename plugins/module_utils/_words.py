# SPDX-License-Identifier: Apache-2.0
"""What a failed task says, without Ansible's words around it. Pure."""

from __future__ import annotations

import re

# Ansible tells through how many of its layers an error has come, outermost first.
LAYERS = re.compile(
    r"(?:Task failed: |Module failed: |Action failed: "
    r"|Finalization of task args for '[^']*' failed: "
    r"|Error while resolving value for '[^']*': (?=The (?:filter|lookup) plugin )"
    r"|The (?:filter|lookup) plugin '[^']*' failed: )+"
)


def plain(text: str) -> str:
    """The text from where it says what is wrong."""
    return text[found.end() :] if (found := LAYERS.match(text)) else text
