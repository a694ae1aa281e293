#!/usr/bin/env bash
# Makes sure that a Rust toolchain is there and new enough. Where there is none, it is fetched with Rust's own installer,
# for this user alone; one that is there is never changed, but for components that are missing. Silent when all is well.
# usage: scripts/toolchain.sh [COMPONENT...]     e.g. clippy rustfmt
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=${CARGO_HOME:-$HOME/.cargo}/bin:$PATH

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)

# Called in a condition, where `set -e` does not hold: each step is tied to the one before it.
fetch() {
    local target folder from
    target=$(uname -m)-$([ "$(uname -s)" = Darwin ] && echo apple-darwin || echo unknown-linux-gnu)
    target=${target/arm64/aarch64}
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' RETURN
    from=${RUSTUP_UPDATE_ROOT:-https://static.rust-lang.org/rustup}/dist/$target
    echo "toolchain: Rust is missing; fetching it with its installer, into ${CARGO_HOME:-$HOME/.cargo} (400 MB)" >&2
    curl --proto '=https' --tlsv1.2 -fsS --retry 3 -o "$folder/rustup-init" "$from/rustup-init" &&
        curl --proto '=https' --tlsv1.2 -fsS --retry 3 -o "$folder/sha256" "$from/rustup-init.sha256" &&
        echo "$(cut -d ' ' -f 1 "$folder/sha256")  $folder/rustup-init" | sha256sum --check --quiet &&
        chmod +x "$folder/rustup-init" &&
        "$folder/rustup-init" -y -q --no-modify-path --profile minimal --default-toolchain stable
}

if ! command -v cargo >/dev/null && ! fetch; then
    echo "toolchain: that failed (see above): install the current stable Rust by hand, from https://rustup.rs" >&2
    exit 1
fi
if ! version=$(cargo --version); then
    echo "toolchain: cargo does not start (see above): run 'rustup default stable', or install Rust anew" >&2
    exit 1
fi
found=$(awk '{print $2}' <<<"$version")
if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "toolchain: cargo is $found, and Antiphon needs $wanted or newer: run 'rustup update stable'," >&2
    echo "toolchain: or install the current stable Rust from https://rustup.rs" >&2
    exit 1
fi
for component in "$@"; do
    tool=${component/clippy/cargo-clippy}
    if ! "$tool" --version >/dev/null 2>&1 && ! rustup component add "$component" >&2; then
        echo "toolchain: $component is missing: run 'rustup component add $component'." >&2
        exit 1
    fi
done
