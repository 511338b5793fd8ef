# shellcheck shell=bash
# Everything on a real Redis: each test starts servers of its own, on sockets in directories of its own.

prepare redis machinery
if need redis; then
    rust_tests "rooms on Redis" cargo test --release --locked --no-fail-fast --test conformance redis::
    rust_tests "rooms on a cluster" cargo test --release --locked --no-fail-fast --test conformance redis_cluster::
    rust_tests "rooms behind a password and behind a sentinel" cargo test --release --locked --no-fail-fast --test conformance -- redis_socket_password:: redis_sentinel::
    rust_tests "kills, outages and programs beside" cargo test --release --locked --no-fail-fast --test redis -- --test-threads=2 --skip joins_cost::
    # The examples are the workers and the producer that these tests run as processes of their own.
    step "programs of the tests" cargo build --release --locked --example fault-program
    if need machinery; then
        rust_tests "beside the real Machinery" env LINESHAFT_TEST_MACHINERY="$MACHINERY" \
            cargo test --release --locked --no-fail-fast --test interop -- --test-threads=2
    else
        failed "interop" "Machinery's program could not be built: it takes go and its module proxy"
    fi
    # Alone: it kills by the progress of its workers, and a starved machine looks like a dead one.
    rust_tests "the death of replicas, workers and Redis" cargo test --release --locked --no-fail-fast --test fault -- replicas:: failover:: --test-threads=1
else
    failed "redis" "redis-server is not here, and installing it takes apt-get and root"
fi
