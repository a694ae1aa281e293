#!/usr/bin/env bash
# Answers where a build script asks for nvcc, so that the Rust side of the `cuda` feature can be checked where there is no
# CUDA: every file that is asked for is made, and none holds a kernel. What is built with it cannot be linked or run.
set -euo pipefail

kind='' target='' folder='' source=''
while [ $# -gt 0 ]; do
    case $1 in
        --version)
            printf '%s\n' "stand-in for nvcc" "" "" "Cuda compilation tools, release 13.0, V13.0.0"
            exit 0
            ;;
        -c | --ptx | --lib) kind=$1 ;;
        -o) target=$2 && shift ;;
        --output-directory) folder=$2 && shift ;;
        *.cu) source=$1 ;;
    esac
    shift
done
case $kind in
    --ptx) echo "// no kernel: made by scripts/cuda/no-nvcc.sh" >"$folder/$(basename "$source" .cu).ptx" ;;
    -c) : >"$target" ;;
    --lib) printf '!<arch>\n' >"$target" ;;
    *)
        echo "no-nvcc.sh: only compiles (--ptx, -c, --lib)" >&2
        exit 1
        ;;
esac
