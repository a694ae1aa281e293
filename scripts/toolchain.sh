#!/usr/bin/env bash
# Says whether the Rust toolchain is new enough, and what to do when it is not. Silent when all is well.
# usage: scripts/toolchain.sh [COMPONENT...]     e.g. clippy rustfmt
set -euo pipefail
cd "$(dirname "$0")/.."

wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
remedy="install the current stable Rust from https://rustup.rs, or run 'rustup update stable'"

if ! command -v cargo >/dev/null || ! version=$(cargo --version 2>/dev/null); then
    echo "toolchain: no working cargo found; Antiphon needs Rust $wanted or newer: $remedy." >&2
    exit 1
fi
found=$(awk '{print $2}' <<<"$version")
if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
    echo "toolchain: cargo is $found, and Antiphon needs $wanted or newer: $remedy." >&2
    exit 1
fi
for component in "$@"; do
    case $component in
        clippy) tool=cargo-clippy ;;
        *) tool=$component ;;
    esac
    if ! command -v "$tool" >/dev/null; then
        echo "toolchain: $component is missing: run 'rustup component add $component'." >&2
        exit 1
    fi
done
