#!/usr/bin/env bash
# nvcc, with machine code for the generations in ANTIPHON_GPUS ("80 89") in every object besides what the caller asks for,
# and the portable form (PTX of generation 80) that the driver compiles for every newer one.
set -euo pipefail

more=()
for argument in "$@"; do
    if [ "$argument" = -c ]; then
        for generation in ${ANTIPHON_GPUS:-}; do
            [ "$generation" = 80 ] || more+=("-gencode=arch=compute_$generation,code=sm_$generation")
        done
        more+=("-gencode=arch=compute_80,code=compute_80")
    fi
done
exec "${ANTIPHON_NVCC:?the path of the real nvcc}" "$@" "${more[@]}"
