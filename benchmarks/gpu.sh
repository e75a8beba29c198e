#!/usr/bin/env bash
# What a GPU says about this package: correctness, then times and memory. A section is cut off after 150 seconds.
# Usage: benchmarks/gpu.sh [--device cpu --small] [--output FOLDER]
# Each section runs in a process of its own and writes FOLDER/SECTION.json (default: benchmarks/results/gpu), so that a
# section that fails or is cut off costs itself only. Nothing is fetched. The exit code is that of the first failure.
set -uo pipefail
cd "$(dirname "$0")/.."
code=0
export TQDM_DISABLE=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
python=${PYTHON:-python3}
if [[ " $* " != *" --device cpu "* ]]; then
    "$python" -m pytest -q -o filterwarnings=default -p no:cacheprovider tests/models/test_cuda.py || code=$?
fi
for section in realisation dispatches peers ragged graphs pipeline; do
    timeout 150 "$python" benchmarks/gpu.py "$section" "$@" || { code=${code/#0/$?}; echo "section $section failed" >&2; }
done
exit "$code"
