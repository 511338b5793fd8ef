# Shorthands; each line is what you would type. `make ci` is what CI runs.

.PHONY: help build test ci fmt lint doc demo bench

help:
	@echo 'make demo    a server, a worker and some tasks, told as they happen'
	@echo 'make test    unit tests, and integration tests for each of AMQP_URL REDIS_URL MEMCACHE_URL MONGODB_URL SQS_URL'
	@echo 'make ci      every test, real services included (tests/run.sh)'
	@echo 'make lint    formatting, lints, documentation links'
	@echo 'make fmt     format everything'
	@echo 'make bench   the benchmarks'

build:
	cargo build --release --locked

test:
	cargo test --release --workspace --locked --lib --bins --examples
	cargo test --release --workspace --locked --doc
	@tests/lib/exported.sh

ci:
	tests/run.sh

fmt:
	cargo fmt --all

lint:
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --release --workspace --no-deps --locked

doc:
	cargo doc --release --workspace --no-deps --locked

demo:
	cargo run --release --locked -- demo

bench:
	tests/run.sh bench
