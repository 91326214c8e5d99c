#!/bin/sh
# Resolves envs/*.in into the lock files, with a hash for every file that each release has.
set -eu
cd "$(dirname "$0")/.."
compile() {
    "$1" -q --generate-hashes --allow-unsafe --strip-extras --no-header --annotation-style line \
        --no-emit-index-url --no-emit-find-links --no-emit-trusted-host -o "$3" "$2"
}
# uv resolves for the machine that an image is made for, whatever is at hand here.
compile_for_image() {
    "$work/venv/bin/uv" pip compile -q --no-config --native-tls --python-version 3.11 \
        --python-platform x86_64-manylinux_2_28 --generate-hashes --no-header --annotation-style line -o "$2" "$1"
}
# Not wanted on a CPU: torch comes from its own index, and its companions exist as CUDA builds alone.
without_cuda() {
    python3 - "$1" "$2" <<'PYTHON'
import re
import sys

unwanted = re.compile(r"(torch|torchvision|torchaudio|torchcodec|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==")
blocks = re.split(r"(?m)^(?=\S)", open(sys.argv[1]).read())
open(sys.argv[2], "w").writelines(block for block in blocks if not unwanted.match(block))
PYTHON
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q pip-tools uv
compile "$work/venv/bin/pip-compile" envs/driver.in envs/driver.lock
# Appended by hand, because pip-compile cannot leave out what a package asks for.
grep -v '^#' envs/driver-alone.in | while read -r alone; do
    mkdir "$work/$alone"
    "$work/venv/bin/pip" download -q --no-deps --only-binary=:all: --dest "$work/$alone" "$alone"
    printf '%s \\\n    %s\n    # via -r envs/driver-alone.in\n' "$alone" \
        "$("$work/venv/bin/pip" hash "$work/$alone"/*.whl | grep -o -e '--hash=sha256:.*')" >>envs/driver.lock
done
compile "$work/venv/bin/pip-compile" envs/tools-cpu.in "$work/tools.lock"
without_cuda "$work/tools.lock" envs/tools-cpu.lock
compile_for_image envs/train-cpu.in "$work/train.lock"
without_cuda "$work/train.lock" envs/train-cpu.lock
compile_for_image envs/train-gpu.in envs/train-gpu.lock
compile_for_image envs/serve-gpu.in envs/serve-gpu.lock
