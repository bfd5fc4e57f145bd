#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Measures the shim on this machine's GPU: tests/gpu/run.sh OUT_DIR [PART...], as root, in the
# repository's root. Takes some eight minutes; see tests/gpu/README.md.
set -eu
[ $# -ge 1 ] || { echo "usage: tests/gpu/run.sh OUT_DIR [PART...]" >&2; exit 2; }
tree=$(cd "$(dirname "$0")/../.." && pwd)
python=/opt/torch/.venv/bin/python3
[ -x "$python" ] || python=$(command -v python3)
export PYTHONPATH="$tree/tests/gpu:$tree/service" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 HF_HUB_OFFLINE=1
export PATH="$PATH:/usr/local/cuda/bin"
# NVLink multicast programs switches that other machines may share; nothing here needs it.
export NCCL_NVLS_ENABLE=0 TORCH_SYMM_MEM_DISABLE_MULTICAST=1 NVSHMEM_DISABLE_NVLS=1
exec "$python" -m faultline_gpu.run "$@"
