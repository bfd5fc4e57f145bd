# SPDX-License-Identifier: Apache-2.0
"""`python3 -m dynamo.trtllm` in an image of the lab: the lab's engine, not trtllm."""

from lab_engine.backends import main

if __name__ == "__main__":
    main("trtllm")
