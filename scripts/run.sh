#!/usr/bin/env bash
# Starts the program that `make run` built: the window where there is a display and a sound card; else one spoken turn
# from a file to a file.
# usage: scripts/run.sh ANTIPHON
set -euo pipefail
cd "$(dirname "$0")/.."
antiphon=$(realpath "${1:?the path of the program}")

has_display() {
    [ "$(uname -s)" != Linux ] || [ -n "${DISPLAY:-}${WAYLAND_DISPLAY:-}" ]
}
has_sound() {
    [ "$(uname -s)" != Linux ] || [ -n "${PULSE_SERVER:-}" ] ||
        grep -q '^ *[0-9]' /proc/asound/cards 2>/dev/null ||
        { [ -n "${XDG_RUNTIME_DIR:-}" ] && [ -S "$XDG_RUNTIME_DIR/pulse/native" ]; }
}

lacking=
has_sound || lacking="no sound card"
has_display || lacking="no display${lacking:+ and $lacking}"
if [ -z "$lacking" ]; then
    exec "$antiphon"
fi

echo "There is $lacking here, so no window opens. One spoken turn instead: assets/question.wav -> answer.wav"
exec "$antiphon" converse --in assets/question.wav --out answer.wav
