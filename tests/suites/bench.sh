# shellcheck shell=bash
# Speed: the programs that measure it run to their end, and what they print is to be read. No wall-clock figure passes or
# fails anything: machines differ, and are shared.

prepare redis peers

step "cargo build" cargo build --release --locked --bin lineshaft --example bench-peer

bench_peers=lineshaft,lineshaft-unary
if need redis && need peers; then
    bench_peers+=,lineshaft-redis,lineshaft-redis-unary,machinery-redis,asynq
else
    skip "Lineshaft on Redis, machinery and asynq beside it" "they take go and a redis-server, which cannot be installed here"
fi
# Fails if a task of any workload was not run, or its result is not stored.
step "peers side by side" env PEERS_PORTS=free "PEERS_BUILD=$PEERS" tests/bench/peers/run.py \
    --peers "$bench_peers" --baseline lineshaft --n 2000 --repeat 1 --seconds 2 --limit 60 --total-limit 300 --json "$RUN_DIR/peers.json"

# A machine on which gRPC or the store alone are slower than they are known to be says nothing about the server.
logged "lineshaft bench --quick" target/release/lineshaft bench --quick
if ((STATUS == 1)) && grep -q 'no ratios are told against weak ceilings' "$LOG"; then
    skip "lineshaft bench --quick" "$(sed -n 's/^error: //p' "$LOG")"
elif ((STATUS == 0)); then
    passed "lineshaft bench --quick ($TOOK s)"
else
    failed "lineshaft bench --quick" "exit status $STATUS after $TOOK s"
fi
