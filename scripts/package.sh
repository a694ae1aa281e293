#!/usr/bin/env bash
# Puts the built program where a desktop finds it, takes it away again, or makes a Debian package of it.
#   scripts/package.sh install BINARY PREFIX | uninstall PREFIX | check | deb TARGET
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
    install -Dm644 assets/linux/antiphon.1 "$prefix/share/man/man1/antiphon.1"
    install -Dm644 assets/icon.png "$prefix/share/icons/hicolor/256x256/apps/antiphon.png"
    echo "installed below $prefix"
    ;;
uninstall)
    prefix=$2
    rm -f "$prefix/bin/antiphon" "$prefix/share/applications/antiphon.desktop" "$prefix/share/metainfo/$ID.metainfo.xml" \
        "$prefix/share/man/man1/antiphon.1" \
        "$prefix/share/icons/hicolor/256x256/apps/antiphon.png"
    ;;
check)
    # The two validators where there are any, that the package depends on all libraries that the window opens by itself, and
    # that what is installed is taken away again.
    if command -v desktop-file-validate >/dev/null; then
        desktop-file-validate assets/linux/antiphon.desktop
    fi
    if command -v appstreamcli >/dev/null; then
        appstreamcli validate --no-net --explain "assets/linux/$ID.metainfo.xml" >/dev/null
    fi
    version=$(sed -n '0,/^version = "\(.*\)"/s//\1/p' Cargo.toml)
    grep -q "<release version=\"$version\"" "assets/linux/$ID.metainfo.xml" ||
        { echo "assets/linux/$ID.metainfo.xml does not know version $version" >&2; exit 1; }
    grep -q "^antiphon ($version-1) " assets/linux/changelog ||
        { echo "assets/linux/changelog does not know version $version" >&2; exit 1; }
    depends=$(sed -n 's/^depends = //p' Cargo.toml)
    opened=$(sed -n '/^run_packages/,/^}/s/^ *need \([a-z0-9-]*\) .* lib lib.*/\1/p' scripts/setup.sh)
    for library in $opened; do
        # Drivers come with the libraries that choose among them.
        [[ $library == *mesa* || $depends =~ \ ${library}[,\"] ]] ||
            { echo "Cargo.toml: the Debian package does not depend on $library" >&2; exit 1; }
    done
    prefix=$(mktemp -d)
    scripts/package.sh install "$(type -P true)" "$prefix" >/dev/null
    scripts/package.sh uninstall "$prefix"
    left=$(find "$prefix" -type f)
    rm -r "$prefix"
    [ -z "$left" ] || { echo "uninstall leaves $left" >&2; exit 1; }
    ;;
deb)
    scripts/package.sh check
    if ! cargo deb --version 2>/dev/null | grep -qx "$CARGO_DEB"; then
        echo "installing cargo-deb $CARGO_DEB, once"
        cargo install --locked --quiet cargo-deb --version "$CARGO_DEB"
    fi
    mkdir -p "$2/debian"
    # Built already; and stripped, by the release profile.
    cargo deb --no-build --no-strip --output "$2/debian/"
    ;;
*)
    sed -n '2,3s/^# //p' scripts/package.sh >&2
    exit 2
    ;;
esac
