#!/usr/bin/env bash
# Makes sure that the system's packages are there, and says of each missing one what it is for.
# Quiet and instant when nothing is missing; reaches for the network only when something is.
# usage: scripts/setup.sh GROUP...     build: to compile;  run: for the window;  lint;  test: for all tests
set -euo pipefail

# What is looked for is the thing itself (a command, a library, a header), so that the check is as good on a system
# that is not Debian; the package is where Debian and Ubuntu keep it.
has() { command -v "$1" >/dev/null; }
lib() { grep -q "^\s$1 " <<<"$libraries"; }
file_like() { compgen -G "$1" >/dev/null; }
# Debian's folder, Fedora's, Arch's.
mesa_driver() {
    file_like "/usr/lib/*/dri/swrast_dri.so" || file_like "/usr/lib64/dri/swrast_dri.so" ||
        file_like "/usr/lib/dri/swrast_dri.so"
}

missing=()
need() { # need PACKAGE WHY CHECK...
    local package=$1 why=$2
    shift 2
    if ! "$@"; then
        missing+=("$package")
        printf 'setup: %-20s is missing: %s\n' "$package" "$why" >&2
    fi
}

build_packages() {
    need build-essential "compiles the C inside two libraries, and links the program" has cc
    need make "runs the Makefile" has make
    need pkg-config "finds the sound library's headers" has pkg-config
    need libasound2-dev "the sound library's headers (ALSA)" file_like "/usr/include/alsa/asoundlib.h"
    has cargo || has "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" || need curl "fetches the Rust toolchain" has curl
    need ca-certificates "lets downloads be checked" file_like "/etc/ssl/certs/ca-certificates.crt"
    need python3-pip "fetches models from their mirror where the model hub cannot be reached" has pip3
}

run_packages() {
    need libgl1 "draws the window (OpenGL)" lib libGL.so.1
    need libegl1 "draws the window (EGL)" lib libEGL.so.1
    need libgl1-mesa-dri "draws the window where there is no graphics driver" mesa_driver
    need libegl-mesa0 "connects EGL to Mesa's drivers" lib libEGL_mesa.so.0
    need libglx-mesa0 "connects OpenGL to Mesa's drivers" lib libGLX_mesa.so.0
    need libxkbcommon-x11-0 "reads the keyboard under X11" lib libxkbcommon-x11.so.0
    need libx11-xcb1 "opens the window under X11" lib libX11-xcb.so.1
    need libxcursor1 "shows the pointer under X11" lib libXcursor.so.1
    need libxi6 "reads pointer and keys under X11" lib libXi.so.6
    need libxrandr2 "learns the screens' sizes under X11" lib libXrandr.so.2
    need libwayland-client0 "opens the window under Wayland" lib libwayland-client.so.0
    need libwayland-egl1 "draws the window under Wayland" lib libwayland-egl.so.1
}

lint_packages() {
    need shellcheck "checks the shell scripts" has shellcheck
}

test_packages() {
    need pulseaudio "the tests' sound card is made of software" has pulseaudio
    need pulseaudio-utils "speaks into and listens to the tests' sound card" has parec
    need libasound2-plugins "lets ALSA programs use the tests' sound card" \
        file_like "/usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so"
    need xvfb "the tests' display is made of software" has Xvfb
    need xdotool "clicks and types in the tests' window" has xdotool
    need imagemagick "takes pictures of the tests' window" has import
}

if [ "$(uname -s)" != Linux ]; then
    exit 0 # macOS and Windows bring what the program needs; the tests of the window and of the sound card are Linux's
fi
libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
for group in "${@:-build}"; do
    case $group in
        build | run | lint | test) "${group}_packages" ;;
        *)
            echo "setup: no such group: $group (build, run, lint or test)" >&2
            exit 2
            ;;
    esac
done
[ ${#missing[@]} -gt 0 ] || exit 0

install=(apt-get install -y --no-install-recommends "${missing[@]}")
by_hand() {
    echo "setup: $1" >&2
    echo "setup: please run:  ${2:-sudo} apt-get update && ${2:-sudo} ${install[*]}" >&2
    exit 1
}
if ! has apt-get; then
    echo "setup: this system has no apt-get: please install what is named above with its own package manager." >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=()
elif has sudo && sudo -n true 2>/dev/null; then
    as_root=(sudo -n)
elif has sudo && [ -t 0 ] && [ -z "${CI:-}" ]; then
    as_root=(sudo)
    echo "setup: sudo will ask for your password to run:  ${install[*]}" >&2
else
    by_hand "installing them needs root."
fi

# Another installation may hold the lock: wait for it. Package lists may be absent or old: then fetch them and try again.
apt() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" </dev/null; }
options=(-o DPkg::Lock::Timeout=300 -o Acquire::Retries=2 -qq)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! apt "${install[@]}" "${options[@]}" >"$log" 2>&1; then
    if ! { apt apt-get update "${options[@]}" && apt "${install[@]}" "${options[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        by_hand "the installation failed (see above)."
    fi
fi
echo "setup: installed ${missing[*]}" >&2
