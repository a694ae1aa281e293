#!/usr/bin/env bash
# The program for NVIDIA GPUs, built where there is neither a GPU nor CUDA.
# usage: scripts/cuda.sh build          the release binary; starts, and computes on the CPU, where there is no driver
#        scripts/cuda.sh bundle         that, the parity test and what both need, in one folder to take to a GPU machine
#        scripts/cuda.sh check          the Rust side alone, checked without a CUDA compiler (in `make test`)
#        scripts/cuda.sh kernels        makes kernels/decoder_step.ptx anew from kernels/decoder_step.cu and kernels/step
#        scripts/cuda.sh run CMD...     runs CMD (cargo test --features cuda ...) with the environment of `build`
# ANTIPHON_GPUS="80 89"   generations to make machine code for [default: those of this machine's GPUs]. Every newer one
#                         is served too: the driver compiles the kernels for it when they are first used, and keeps them.
#                         80 A100; 86 RTX 30; 89 RTX 40, L4; 90 H100, H200; 100 B200; 120 RTX 50
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD/scripts/cuda

check() {
    # An architecture that does not exist, so that nothing made here is ever taken for a kernel.
    NVCC=$here/no-nvcc.sh CUDA_COMPUTE_CAP=80f CUDARC_CUDA_VERSION=13000 CUDAFORGE_THREADS=1 \
        cargo clippy --locked --features cuda --lib --bins -- -D warnings
}

generations() {
    if [ -n "${ANTIPHON_GPUS:-}" ]; then
        echo "$ANTIPHON_GPUS"
    elif command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -un | paste -sd ' '
    fi
}

# Fetches the compiler and makes the libraries that are linked in the place of the driver's. Instant when both are there.
setup() {
    if [ "$(uname -sm)" != "Linux x86_64" ]; then
        echo "cuda: only made for Linux on x86-64. Elsewhere, with CUDA 13 installed: cargo build --release --features cuda" >&2
        exit 1
    fi
    scripts/setup.sh build
    local wanted
    wanted=$({ cat "$here/toolkit.txt" "$here/late_libraries.py" && grep -A 1 '^name = "cudarc"' Cargo.lock; } | sha256sum)
    [ "$(cat "$root/made-of" 2>/dev/null)" != "$wanted" ] || return 0
    echo "cuda: fetching the compiler (270 MB)" >&2
    rm -rf "$root/toolkit" "$root/link"
    python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes \
        --target "$root/toolkit" --requirement "$here/toolkit.txt"
    local cudarc
    cudarc=$(cargo metadata --locked --format-version 1 --filter-platform x86_64-unknown-linux-gnu --features cuda |
        grep -o '"manifest_path":"[^"]*/cudarc-[^"]*/Cargo.toml"' | head -n 1 | cut -d '"' -f 4)
    python3 "$here/late_libraries.py" "$(dirname "$cudarc")/src" "$root/link/lib"
    cp "$cuda/lib/libcudart_static.a" "$root/link/lib/libcudart.a"
    echo "$wanted" >"$root/made-of"
}

environment() {
    export ANTIPHON_NVCC=$cuda/bin/nvcc NVCC=$here/nvcc.sh
    export CUDA_COMPUTE_CAP=80 CUDARC_CUDA_VERSION=13000
    export CUDA_HOME=$root/link LIBRARY_PATH=$root/link/lib${LIBRARY_PATH:+:$LIBRARY_PATH}
    export CUDAFORGE_THREADS=${CUDAFORGE_THREADS:-${CARGO_BUILD_JOBS:-$(nproc)}}
    # What is built for other generations lies elsewhere: the kernels are not built anew when only the generations change.
    export CARGO_TARGET_DIR=$root/${ANTIPHON_GPUS// /-}
}

build() {
    echo "cuda: machine code for generation $ANTIPHON_GPUS, and the portable form for newer ones" >&2
    cargo build --locked --release --features cuda
    local binary=$CARGO_TARGET_DIR/release/antiphon
    if readelf -d "$binary" | grep -E 'NEEDED.*lib(cu|nv)' >&2; then
        echo "cuda: the libraries above would have to be there for the program to start: see $here/late_libraries.py" >&2
        exit 1
    fi
    "$binary" --version >/dev/null
    echo "cuda: to install it:  sudo make install BIN=$binary" >&2
    echo "$binary"
}

bundle() {
    local binary folder=$root/bundle parity
    binary=$(build)
    parity=$(cargo test --locked --release --features cuda --test parity --no-run --message-format short 2>&1 |
        tee /dev/stderr | sed -n 's/.*Executable tests.parity.main.rs (\(.*\))$/\1/p')
    rm -rf "$folder"
    mkdir -p "$folder"
    cp "$binary" assets/question.wav scripts/gpu-check.sh "$folder"
    cp "$parity" "$folder/parity"
    cp -r tests/fixtures/omni-tiny "$folder"
    echo "$folder"
}

# The portable form of the kernels of our own, which is kept in the repository, so that building needs no nvcc for them. What
# each takes of a GPU's registers is printed; a spill would be slow.
kernels() {
    local source=kernels/decoder_step.cu target=kernels/decoder_step.ptx generation
    "$cuda/bin/nvcc" -ptx -O3 -Werror all-warnings -arch=compute_80 "$source" -o "$target.partial"
    {
        echo "// Made by scripts/cuda.sh kernels of $source and kernels/step, sha256 $(cat "$source" kernels/step/*.cuh | sha256sum | cut -d ' ' -f 1)"
        # Without the compiler's own remarks.
        grep -vE '^[[:space:]]*(//.*)?$' "$target.partial"
    } >"$target"
    rm "$target.partial"
    for generation in 80 89 90 100 120; do
        "$cuda/bin/ptxas" -v -arch="sm_$generation" "$target" -o /dev/null 2>&1 |
            awk -v g="$generation" '/Compiling/ { k = $7 } /spill/ { s = $5 } /Used/ { print "sm_" g, k, $5, "registers,", s, "bytes spilled" }'
    done
}

root=${CARGO_TARGET_DIR:-$PWD/target}/cuda
cuda=$root/toolkit/nvidia/cu13
command=${1:-build}
[ $# -eq 0 ] || shift
case $command in
    check) check ;;
    build | bundle | kernels | run)
        ANTIPHON_GPUS=$(generations)
        export ANTIPHON_GPUS=${ANTIPHON_GPUS:-80}
        setup
        environment
        case $command in
            run) "$@" ;;
            *) "$command" ;;
        esac
        ;;
    *)
        sed -n '2,11s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
