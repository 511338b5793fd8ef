# shellcheck shell=bash
# Everything on a real Redis: each test starts servers of its own, on sockets in directories of its own.

prepare redis
if need redis; then
    rust_tests "rooms on Redis" cargo test --release --locked --no-fail-fast --test conformance redis::
    rust_tests "kills, outages and programs beside" cargo test --release --locked --no-fail-fast --test redis -- --test-threads=2
else
    failed "redis" "redis-server is not here, and installing it takes apt-get and root"
fi
