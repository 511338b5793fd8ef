# shellcheck shell=bash
# The server as those who operate it see it: what a tracing system has of its tasks, and what Prometheus has of its counts.
#
# LINESHAFT_TEST_PROFILE=dev builds without optimisation, which is enough here and faster.

prepare promtool jaeger

step "cargo build" cargo test --profile "${LINESHAFT_TEST_PROFILE:-release}" --locked --test operations --no-run
# Without it the tests read the page of metrics themselves, and say that nobody else did.
if need promtool; then
    LINESHAFT_TEST_PROMTOOL=$(promtool_path)
    export LINESHAFT_TEST_PROMTOOL
    step "promtool check config" "$LINESHAFT_TEST_PROMTOOL" check config --lint-fatal examples/prometheus.yml
    step "promtool check rules" "$LINESHAFT_TEST_PROMTOOL" check rules --lint-fatal examples/alerts.yml
    step "promtool test rules" "$LINESHAFT_TEST_PROMTOOL" test rules tests/operations/alerts.yml
else
    skip "promtool" "it is not here, and getting it takes apt-get" 3
fi
if need jaeger; then
    export LINESHAFT_TEST_JAEGER=$JAEGER
else
    failed "jaeger" "it cannot be built; it takes go"
fi
rust_tests "operations" cargo test --profile "${LINESHAFT_TEST_PROFILE:-release}" --locked --test operations -- --test-threads=1
