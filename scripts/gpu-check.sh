#!/usr/bin/env bash
# On a machine with a GPU: does the omni engine compute what it should there, and how long does each stage take? In under
# ten minutes, as a table. The weights are random numbers in the released sizes: what they say is noise, and how long it
# takes is not.
# usage: scripts/gpu-check.sh [--device cuda|cpu] [--size full|tiny] [--bundle DIR] [--work DIR]
#   --bundle DIR   run what `scripts/cuda.sh bundle` made on another machine, instead of building it here
#   --work DIR     where the weights (17 GB) and the results go [default: a new folder under TMPDIR, removed at the end]
# Exit code 0 when everything ran and agreed. The dry run anywhere: --device cpu --size tiny --bundle DIR
set -euo pipefail

device=cuda size=full bundle='' work=''
while [ $# -gt 0 ]; do
    case $1 in
        --device | --size | --bundle | --work)
            [ $# -ge 2 ] || { echo "gpu-check: $1 wants a value" >&2 && exit 2; }
            printf -v "${1#--}" '%s' "$2"
            shift
            ;;
        *)
            sed -n '2,9s/^# \{0,1\}//p' "$0"
            exit 2
            ;;
    esac
    shift
done
if [ -z "$bundle" ]; then
    cd "$(dirname "$0")/.."
    bundle=$(scripts/cuda.sh bundle)
fi
if [ -z "$work" ]; then
    work=$(mktemp -d "${TMPDIR:-/tmp}/antiphon-gpu.XXXXXX")
    trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work/questions"
cp "$bundle/question.wav" "$work/questions"
# A machine with the driver alone may have CUDA's libraries in Python packages.
for folder in $(python3 -c 'import site; print(*site.getsitepackages())' 2>/dev/null); do
    for library in "$folder"/nvidia/*/lib; do
        [ ! -d "$library" ] || LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$library
    done
done
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}

summary='' failed=0
# step NAME SECONDS COMMAND...: runs it, keeps what it says, notes how it went and how long it took.
step() {
    local name=$1 limit=$2 began=$SECONDS verdict=ok
    shift 2
    printf '\n== %s\n' "$name"
    if ! timeout "$limit" "$@" 2>&1 | tee "$work/$name.txt"; then
        verdict=FAILED failed=1
    fi
    summary+=$(printf '%-20s %-7s %4d s' "$name" "$verdict" $((SECONDS - began)))$'\n'
}

printf '== machine\n'
"$bundle/antiphon" --version
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.memory --format=csv 2>/dev/null ||
    echo "nvidia-smi does not answer"
# It fails where something is missing for a conversation, such as a loudspeaker: what it says about the machine counts.
"$bundle/antiphon" doctor | grep -A 1 -E '^[a-zA-Z]+ +(cpu|memory|gpu) ' || true

export ANTIPHON_PARITY=$bundle/omni-tiny ANTIPHON_PARITY_DEVICE=$device
step parity 120 "$bundle/parity" --nocapture
rm -rf "$work/model"
step checkpoint 240 "$bundle/antiphon" dev random-checkpoint --size "$size" --out "$work/model"
bench=("$bundle/antiphon" bench --engine omni --model "$work/model" --device "$device" --answer-tokens 32
    --questions "$work/questions" --rounds 3)
# Says how the steps of speech and words were found when the model was loaded.
export RUST_LOG=antiphon=info
step bench-bf16 200 "${bench[@]}" --dtype bf16
# The other ways of both, beside the recorded graphs that the line above takes.
step bench-launches 200 "${bench[@]}" --dtype bf16 --speech-step launches --language-step launches
step bench-plain 200 "${bench[@]}" --dtype bf16 --speech-step plain --language-step plain
step bench-q8_0 200 "${bench[@]}" --dtype bf16 --quantize q8_0
step bench-q4_k 200 "${bench[@]}" --dtype bf16 --quantize q4_k

printf '\n== a frame of speech and a word, by each way: when the model was loaded, and in whole turns\n'
for way in bf16 launches plain; do
    printf '%s\n' "${way/bf16/graph}"
    grep -hE '(frames of speech|words) by|kernels for|in the plain way|^ *(tts|llm)_decode' "$work/bench-$way.txt" | head -n 6 || true
done
printf '\n== summary (%s, %s)\n%s%-20s %12d s\n' "$device" "$size" "$summary" "all" "$SECONDS"
exit $failed
