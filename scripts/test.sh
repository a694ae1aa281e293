#!/usr/bin/env bash
# All tests. The documentation's examples come first, so that the output ends with the summary of the tests proper. One
# process per test file, so that a model is loaded once for all tests of the file.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo test --locked --doc
exec cargo test --locked --no-fail-fast --lib --bins --tests
