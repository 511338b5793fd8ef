# shellcheck shell=bash
# What a server tells to those who watch it.

prepare promtool

step "cargo build" cargo build --release --locked

# Without it the tests read the page themselves, and say that nobody else did.
if need promtool; then
    LINESHAFT_TEST_PROMTOOL=$(promtool_path)
    export LINESHAFT_TEST_PROMTOOL
    step "promtool check config" "$LINESHAFT_TEST_PROMTOOL" check config --lint-fatal examples/prometheus.yml
    step "promtool check rules" "$LINESHAFT_TEST_PROMTOOL" check rules --lint-fatal examples/alerts.yml
    step "promtool test rules" "$LINESHAFT_TEST_PROMTOOL" test rules tests/operations/alerts.yml
else
    skip "promtool" "it is not here, and getting it takes apt-get" 3
fi
rust_tests "what a server tells" cargo test --release --workspace --locked --no-fail-fast --test operations
