# One line a target; `make test` installs what tests need and runs them all.
CARGO ?= cargo
FEATURES = --features sim --locked

.PHONY: build check deps test test-upstream sim kill9 fuzz bench counts peers image image-check

build:
	$(CARGO) build --release --locked
check:
	$(CARGO) fmt --all --check && $(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings
deps:
	for deps in test gcs azure hub registry deploy formats counts page; do scripts/$$deps-deps.sh || exit 1; done
test: deps check
	$(CARGO) test --workspace $(FEATURES) -- --test-threads=2
	scripts/image-check.sh $${CARGO_TARGET_DIR:-target}/debug/dray
test-upstream:
	scripts/upstream-deps.sh && $(CARGO) test --workspace $(FEATURES) --test kserve_upstream -- --nocapture

# The long forms of what `make test` does in short.
sim:
	DRAY_SIM_SEEDS=10000 $(CARGO) test --workspace $(FEATURES) --test sim -- --nocapture
kill9: deps
	DRAY_KILLS=200 $(CARGO) test --workspace $(FEATURES) --test kill9 -- --nocapture
fuzz:
	cd fuzz && for t in $$($(CARGO) fuzz list); do mkdir -p ../target/corpus/$$t && \
	$(CARGO) +nightly fuzz run $$t ../target/corpus/$$t corpus/$$t -- -max_total_time=60 || exit 1; done

bench:
	$(CARGO) bench $(FEATURES)
counts:
	scripts/counts-deps.sh && $(CARGO) test --workspace $(FEATURES) --test counts
peers: build
	scripts/bench-deps.sh && python3 benches/rig.py -- target/release/dray bench all URI target/bench-dest

# The image's root from a static binary built here, run under bubblewrap; and the image itself where an engine runs.
image-check: deps
	scripts/image-root.sh
	scripts/image-check.sh target/image/usr/bin/dray
image:
	docker build -t dray .
