# shellcheck shell=bash
# The server as those who operate it see it: what a tracing system has of its tasks.
#
# LINESHAFT_TEST_PROFILE=dev builds without optimisation, which is enough here and faster.

prepare jaeger

step "cargo build" cargo build --profile "${LINESHAFT_TEST_PROFILE:-release}" --locked --bin lineshaft
if need jaeger; then
    export LINESHAFT_TEST_JAEGER=$JAEGER
else
    failed "jaeger" "it cannot be built; it takes go"
fi
rust_tests "operations" cargo test --profile "${LINESHAFT_TEST_PROFILE:-release}" --locked --test operations -- --test-threads=1
