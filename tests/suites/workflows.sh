# shellcheck shell=bash
# Chords, chains and groups while everything dies, on the embedded store and on a real Redis, and what they cost.
#
# LINESHAFT_LONG=1 sends 500 chords and 500 chains; LINESHAFT_SCALE=100000 is the size of the group that is promised.

prepare redis
# The examples are the workers and the producer that these tests run as processes of their own.
step "programs of the tests" cargo build --release --locked --bins --example fault-program
# Alone: it kills by the progress of its workers, and a starved machine looks like a dead one.
rust_tests "workflows under kills, and large ones" cargo test --release --locked --no-fail-fast --test fault -- workflows:: --test-threads=1
rust_tests "what workflows cost" cargo test --release --locked --no-fail-fast --test redis -- joins_cost:: --test-threads=1
if ! need redis; then
    failed "redis" "redis-server is not here, and installing it takes apt-get and root"
fi
