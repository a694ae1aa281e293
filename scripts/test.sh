#!/usr/bin/env bash
# All tests. The documentation's examples come first, so that the output ends with the summary of the tests proper.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --locked --doc
if cargo nextest --version >/dev/null 2>&1; then
    exec cargo nextest run --locked
fi
exec cargo test --locked --tests
