#!/usr/bin/env bash
# Every check that needs a GPU, in one call under ten minutes: what is measured lands in $OUT (default: gpu-results).
# Needs torch and numpy alone (nothing is installed, nothing is downloaded): `bash benchmarks/gpu.sh`
set -uo pipefail
cd "$(dirname "$0")/.."
OUT=${OUT:-gpu-results}
PYTHON=${PYTHON:-python3}
export PYTHONPATH=$PWD/src:$PWD/benchmarks:$PWD/tests PYTHONUNBUFFERED=1
mkdir -p "$OUT"
failed=0

check() { # NAME SECONDS COMMAND...: its output to the screen and to $OUT/NAME.txt
  local name=$1 limit=$2
  shift 2
  echo "== $name"
  timeout "$limit" "$@" 2>&1 | tee "$OUT/$name.txt"
  local code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || { echo "== $name ended with code $code"; failed=1; }
}

nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv | tee "$OUT/device.txt"
step="$PYTHON benchmarks/train_step.py --device cuda --steps 10 --memory"
check cyclegan-fp32 60 $step --system cyclegan --batch 16
check cyclegan-tf32 60 $step --system cyclegan --batch 16 --tf32
check attentiongan-fp32 70 $step --system attentiongan --batch 16
check attentiongan-tf32 70 $step --system attentiongan --batch 16 --tf32
check cyclegan-compiled 100 $step --system cyclegan --batch 16 --tf32 --compile
check ladder 60 $PYTHON benchmarks/train_step.py --device cuda --steps 10 --batch 16 --ladder
check waiting 40 $PYTHON benchmarks/waiting.py --device cuda --steps 10 --batch 16
check same-step 60 $PYTHON benchmarks/gpu_checks.py
exit $failed
