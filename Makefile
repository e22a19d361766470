# One line a target; `make test` installs what tests need and runs them all.
CARGO ?= cargo
FEATURES = --features sim

.PHONY: build check deps test sim kill9 fuzz bench peers image image-root image-check clean

build:
	$(CARGO) build --release --locked

check:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FEATURES) --locked -- -D warnings

deps:
	scripts/test-deps.sh

test: deps check
	$(CARGO) test --workspace $(FEATURES) --locked -- --test-threads=2
	scripts/image-check.sh target/debug/dray

sim:
	DRAY_SIM_SEEDS=10000 $(CARGO) test $(FEATURES) --locked --test sim -- --nocapture

kill9: deps
	DRAY_KILLS=200 $(CARGO) test $(FEATURES) --locked --test kill9 -- --nocapture

fuzz:
	cd fuzz && for target in $$($(CARGO) fuzz list); do $(CARGO) +nightly fuzz run $$target -- -max_total_time=60 || exit 1; done

bench:
	$(CARGO) bench $(FEATURES) --locked

peers: build
	scripts/bench-deps.sh && python3 benches/peers.py

image-root:
	scripts/image-root.sh

image-check: deps image-root
	scripts/image-check.sh target/image/usr/bin/dray

image:
	docker build -t dray .
