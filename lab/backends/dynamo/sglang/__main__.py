# SPDX-License-Identifier: Apache-2.0
"""`python3 -m dynamo.sglang` in an image of the lab: the lab's engine, not sglang."""

from lab_engine.backends import main

if __name__ == "__main__":
    main("sglang")
