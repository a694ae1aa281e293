#!/usr/bin/env bash
# Puts the built program where a desktop finds it, takes it away again, or makes a Debian package of it.
#   scripts/package.sh install BINARY PREFIX | uninstall PREFIX | deb TARGET
set -euo pipefail
cd "$(dirname "$0")/.."

CARGO_DEB=3.8.0
ID=io.github.antiphon.Antiphon

case "${1:-}" in
install)
    prefix=$3
    install -Dm755 "$2" "$prefix/bin/antiphon"
    install -Dm644 assets/linux/antiphon.desktop "$prefix/share/applications/antiphon.desktop"
    install -Dm644 "assets/linux/$ID.metainfo.xml" "$prefix/share/metainfo/$ID.metainfo.xml"
    install -Dm644 assets/icon.png "$prefix/share/icons/hicolor/256x256/apps/antiphon.png"
    echo "installed below $prefix"
    ;;
uninstall)
    prefix=$2
    rm -f "$prefix/bin/antiphon" "$prefix/share/applications/antiphon.desktop" "$prefix/share/metainfo/$ID.metainfo.xml" \
        "$prefix/share/icons/hicolor/256x256/apps/antiphon.png"
    ;;
deb)
    if command -v desktop-file-validate >/dev/null; then
        desktop-file-validate assets/linux/antiphon.desktop
    fi
    if ! cargo deb --version 2>/dev/null | grep -qx "$CARGO_DEB"; then
        echo "installing cargo-deb $CARGO_DEB, once"
        cargo install --locked --quiet cargo-deb --version "$CARGO_DEB"
    fi
    mkdir -p "$2/debian"
    # Built already; and stripped, by the release profile.
    cargo deb --no-build --no-strip --output "$2/debian/"
    ;;
*)
    sed -n '2,3s/^# //p' "$0" >&2
    exit 2
    ;;
esac
