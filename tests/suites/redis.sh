# shellcheck shell=bash
# Everything on a real Redis: each test starts servers of its own, on sockets in directories of its own.

prepare redis machinery
if need redis; then
    rust_tests "rooms on Redis" cargo test --release --locked --no-fail-fast --test conformance redis::
    rust_tests "kills, outages and programs beside" cargo test --release --locked --no-fail-fast --test redis -- --test-threads=2
    if need machinery; then
        step "cargo build, a worker of ours" cargo build --release --locked --example fault-program
        rust_tests "beside the real Machinery" env LINESHAFT_TEST_MACHINERY="$MACHINERY" \
            cargo test --release --locked --no-fail-fast --test interop -- --test-threads=2
    else
        failed "interop" "Machinery's program could not be built: it takes go and its module proxy"
    fi
else
    failed "redis" "redis-server is not here, and installing it takes apt-get and root"
fi
