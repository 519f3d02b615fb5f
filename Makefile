# `make help` lists the targets. Two commands matter: `make demo` and `make test`.
SHELL := bash
.DEFAULT_GOAL := help
.PHONY: help demo quick release test lint test-rust test-model test-ort test-candle test-gpu test-lambda test-clients test-schema test-browser test-modal bench-scifact bench-boot bench-loader golden clean check-checkpoints check-hostile check-infra package-lambda test-scripts bench-cold bench-load benchmark benchmark-full benchmark-shapes benchmark-stress benchmark-extreme bench-build bench-cost bench-scale images image-run image-stop image-logs test-images check-budgets gpu-check bench-gpu

PYTHON ?= python3
BEIR ?= data/scifact-mini
CHAT_MODEL ?= models/tiny-chat.snap
MODEL ?= models/all-MiniLM-L6-v2-int8.snap
RUNS ?= 10
FUNCTION ?= rerank-cpu-int8
# The binaries as the tests of the workspace have them: naming packages would build their dependencies anew with fewer features.
TEST_BINARIES = cargo test --workspace --locked --lib --bins --tests --no-run --quiet
WITH_ORT = --workspace --locked --features defrost-cli/ort,rerank-cpu-int8/ort,embed/ort,defrost-ort/test-library
# These packages rather than the workspace: candle changes features of crates that all other tests share, which would be built again.
WITH_CANDLE = --locked --no-default-features -p defrost-candle -p embed -p rerank-cpu-int8 \
	--features defrost-candle/candle,embed/candle,rerank-cpu-int8/candle
# The same for cards, with all that a build of a GPU function may have; the compiler of kernels stands in, so nothing is linked.
CANDLE_CUDA = NVCC=$(CURDIR)/scripts/check/stand_in_nvcc CUDA_COMPUTE_CAP=80 cargo clippy --locked --no-default-features \
	-p defrost-candle -p embed -p rerank-gpu \
	--features defrost-candle/cuda,embed/candle-cuda,rerank-gpu/candle-cuda,rerank-gpu/cuda --lib --bins
MIB ?= 1024
IMAGE_PORT ?= 8000
IMAGE_MODEL ?= $(MODEL)
STARTS ?= 5
COLD_STARTS ?= 20
BENCH_URL ?= http://127.0.0.1:8000
CASES ?= data/example_cases.json
CONCURRENCY ?= 16
BATCH_SIZE ?= 8
LOAD ?= target/bench-load.json
KILLS ?= 5

include modal/targets.mk

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 20

quick: ## build the binaries, optimised, in a few minutes (target/quick)
	cargo build --profile quick -p defrost-cli -p rerank-cpu-int8 -p embed -p chat

release: ## build the binaries as they ship: fat LTO (target/release)
	cargo build --release -p defrost-cli
	cargo build --release -p rerank-cpu-int8 -p embed
	cargo build --release -p chat

demo: quick ## fetch MiniLM, pack it, start the function, rerank over HTTP, show the boot, stop; stream a tiny chat model's answer
	scripts/ops/demo target/quick

test: lint test-rust test-model test-ort test-candle test-gpu test-lambda test-modal check-infra test-scripts ## everything, from formatting to real weights, the Lambda emulator, Modal apps and templates

lint: ## formatting, clippy and documentation, warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked --features embed/gpu -- -D warnings
	cargo clippy -p rerank-cpu-int8 --no-default-features --locked -- -D warnings
	cargo clippy -p chat --no-default-features --locked -- -D warnings
	cargo clippy $(WITH_ORT) --all-targets -- -D warnings
	cargo clippy $(WITH_CANDLE) --all-targets -- -D warnings
	$(CANDLE_CUDA) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet

test-rust: ## unit, property, golden and process tests
	if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --workspace --locked --no-fail-fast; \
	else \
		cargo test --workspace --locked --no-fail-fast --lib --bins --tests; \
	fi
	cargo test --workspace --locked --doc --quiet

test-model: quick ## real MiniLM weights: scores and nDCG@10 against transformers; the demo, on the optimised binaries that users build
	scripts/ops/fetch_default_model
	DEFROST_TEST_MODEL=$(CURDIR)/models/all-MiniLM-L6-v2 cargo test --workspace --locked --test minilm -- --nocapture
	scripts/ops/demo target/quick

test-ort: ## ONNX models under the real ONNX Runtime, fetched through pip
	export ORT_DYLIB_PATH=$$(scripts/ops/fetch_onnxruntime); \
	cargo test $(WITH_ORT) --test ort

test-candle: ## candle's answers on the golden models, by themselves and from a function
	cargo test $(WITH_CANDLE) --lib --test candle

test-gpu: ## embed in a build for GPUs, on the emulated device; rerank-gpu is among test-rust
	cargo test --workspace --locked --features embed/gpu --test gpu

test-lambda: ## the same binary behind cargo-lambda's emulator and on a port: identical bodies
	$(TEST_BINARIES)
	target/debug/defrost pack data/golden/qwen2-mxbai --name tiny/qwen2-mxbai --out target/lambda-check.snap --force
	$(PYTHON) scripts/check/check_lambda --function target/debug/rerank-cpu-int8 --model target/lambda-check.snap
	target/debug/defrost pack data/tiny-chat/model.gguf --name defrost/tiny-chat --out target/lambda-chat.snap --force
	$(PYTHON) scripts/check/check_lambda --function target/debug/chat --model target/lambda-chat.snap

test-clients: ## real client libraries, fetched through pip and npm, on loopback against the binaries
	$(TEST_BINARIES)
	$(PYTHON) scripts/check/test_clients --bin target/debug --embed target/debug/embed --chat target/debug/chat

check-hostile: quick $(MODEL) ## what once ended or blocked a function, replayed under 1 GiB of address space
	$(PYTHON) scripts/check/check_hostile --bin target/quick --model $(MODEL)

check-checkpoints: ## what each released line of sentence-transformers writes, packed and compared; fetches 6 GB through pip
	cargo build --bin defrost
	$(PYTHON) scripts/check/check_checkpoints --tool target/debug/defrost

test-modal: ## the Modal apps offline: what would be deployed, and a container's life with the real binaries
	$(TEST_BINARIES)
	$(PYTHON) scripts/check/test_modal --bin target/debug

test-schema: ## requests made from the OpenAPI document, answers held to it (schemathesis through pip)
	$(TEST_BINARIES)
	set -e; for pair in rerank-cpu-int8:bert-classifier rerank-cpu-int8:qwen2-mxbai embed:xlmr-m3 embed:qwen3-embedding; do \
		function=$${pair%:*}; model=$${pair#*:}; \
		target/debug/defrost pack data/golden/$$model --name tiny/$$model --out target/schema-$$model.snap --force; \
		$(PYTHON) scripts/check/test_schemathesis --function target/debug/$$function --model target/schema-$$model.snap \
			--examples 300 --cases 5000; \
	done

test-browser: ## the pages in headless chromium, with the network cut (chromium on the PATH, playwright through pip)
	$(TEST_BINARIES)
	target/debug/defrost pack data/golden/bert-classifier --name tiny/bert-classifier --out target/browser-check.snap --force
	target/debug/defrost pack data/golden/xlmr-m3 --name tiny/xlmr-m3 --out target/browser-embed.snap --force
	target/debug/defrost pack data/tiny-chat/model.gguf --name defrost/tiny-chat --out target/browser-chat.snap --force
	$(PYTHON) scripts/check/test_browser --function target/debug/rerank-cpu-int8 --model target/browser-check.snap \
		--embed target/debug/embed --embed-model target/browser-embed.snap \
		--chat target/debug/chat --chat-model target/browser-chat.snap

check-infra: ## templates, rights, images, scripts and requests in infra/, with planted errors (validators through pip)
	$(TEST_BINARIES)
	$(PYTHON) scripts/check/check_infra --bin target/debug

test-scripts: ## the benchmark scripts themselves: figures by hand, servers that do everything wrong
	$(TEST_BINARIES)
	$(PYTHON) scripts/check/test_scripts --bin target/debug

package-lambda: release ## the zip of FUNCTION=embed or chat for AWS Lambda, in target/lambda; `make -C infra/azure help` has Azure
	$(PYTHON) scripts/ops/package_lambda target/release/$(FUNCTION)

images: ## container images of the functions on CPUs, without weights (BUILD_FLAGS, CONTAINER_ENGINE)
	scripts/images/build_images

image-run: ## start FUNCTION's image on IMAGE_PORT with the snapshot MODEL
	scripts/images/run_image start --function $(FUNCTION) --model $(MODEL) --port $(IMAGE_PORT)

image-stop: ## stop it
	scripts/images/run_image stop --function $(FUNCTION) --port $(IMAGE_PORT)

image-logs: ## what it wrote
	scripts/images/run_image logs --function $(FUNCTION) --port $(IMAGE_PORT)

test-images: $(MODEL) $(CHAT_MODEL) images ## the images run for real: IMAGE_MODEL=SNAPSHOT for the reranker, STARTS=N, KILLS=N
	scripts/images/test_images --model $(IMAGE_MODEL) --embed-model $(MODEL) --chat-model $(CHAT_MODEL) --starts $(STARTS) --kills $(KILLS)

gpu-check: ## what this machine lacks to run rerank-gpu, else a score of MODEL from its image (GPU_CHECK="--function PATH": a binary)
	scripts/check/check_gpu --model $(MODEL) $(GPU_CHECK)

models/all-MiniLM-L6-v2-int8.snap:
	$(MAKE) quick
	scripts/ops/fetch_default_model
	target/quick/defrost pack models/all-MiniLM-L6-v2 --precision int8 --name sentence-transformers/all-MiniLM-L6-v2 --out $@ --force

models/tiny-chat.snap: data/tiny-chat/model.gguf
	$(MAKE) quick
	mkdir -p models
	target/quick/defrost pack $< --name defrost/tiny-chat --out $@ --force

check-budgets: $(MODEL) $(CHAT_MODEL) release ## binaries and starts of a release against data/budgets.toml
	for function in rerank-cpu-int8 embed; do \
		scripts/check/check_budgets --function target/release/$$function --model $(MODEL) --budget minilm --binary || exit 1; \
	done
	scripts/check/check_budgets --function target/release/chat --model $(CHAT_MODEL) --budget tiny-chat --binary
	! [ -f target/release/rerank-gpu ] || scripts/check/check_budgets --function target/release/rerank-gpu --binary

bench-scifact: quick ## nDCG@10 on BEIR=DIR (default data/scifact-mini) in f32 and int8
	scripts/bench/bench_scifact $(BEIR) target/quick

bench-cold: quick ## exec to first answer beside Python peers, COLD_STARTS=N each in turns: bench-cold.{md,json,png} in target
	scripts/bench/cold_start --prepare --minilm --bin target/quick
	scripts/bench/cold_start --minilm --bin target/quick --runs $(COLD_STARTS) --markdown target/bench-cold.md \
		--json target/bench-cold.json --plot target/bench-cold.png

bench-load: ## load on a running function at BENCH_URL with CASES, CONCURRENCY clients, BATCH_SIZE documents a request
	mkdir -p target
	scripts/bench/bench_load --url $(BENCH_URL) --cases-file $(CASES) --concurrency $(CONCURRENCY) --batch-size $(BATCH_SIZE) --json $(LOAD)

bench-build: ## cases with relevance out of BEIR=DIR, for CASES of bench-load, in target/cases.json
	mkdir -p target
	scripts/bench/build_beir_subset --dataset-dir $(BEIR) --out target/cases.json

benchmark: ## a minute of load on BENCH_URL; benchmark-full, -shapes, -stress, -extreme: more sizes, passages, large requests
	scripts/bench/bench_load --url $(BENCH_URL) --cases-file $(CASES) --quick

benchmark-full benchmark-shapes benchmark-stress benchmark-extreme:
	scripts/bench/bench_load --url $(BENCH_URL) --cases-file $(CASES) --$(@:benchmark-%=%)

bench-cost: ## a million pairs in money: LOAD=JSON of bench_load, target/bench-cold.json, data/prices.toml
	scripts/bench/cost_table --load $(LOAD) --cold target/bench-cold.json

bench-scale: ## simulated simultaneous starts of MODEL, from target/bench-cold.json and data/scale_out.toml, in target/bench-scale.{md,png}
	scripts/bench/scale_out --snapshot $(MODEL) --cold target/bench-cold.json --contestant int8 --markdown target/bench-scale.md \
		--plot target/bench-scale.png

bench-gpu: release release-gpu ## everything that only a machine with a GPU can say, in ten minutes, in target/bench-gpu.json
	scripts/bench/gpu_check --function target/release/rerank-gpu --tool target/release/defrost --out target/bench-gpu.json

bench-boot: release ## exec to first score of MODEL=SNAPSHOT, RUNS=N starts
	target/release/defrost bench boot --model $(MODEL) --runs $(RUNS)

bench-loader: ## local restores of MIB=1024 against other loaders, RUNS=N each, in /tmp/bench-loader.{md,json,png}
	scripts/bench/bench_loader --prepare
	scripts/bench/bench_loader local --mib $(MIB) --runs $(RUNS) --json /tmp/bench-loader.json --plot /tmp/bench-loader.png \
		| tee /tmp/bench-loader.md

golden: ## make data/golden again (PYTHON with torch and transformers)
	$(PYTHON) scripts/golden/golden.py --out data/golden
	$(PYTHON) scripts/golden/golden_embeddings.py --out data/golden

clean: ## remove what was built and fetched
	cargo clean
	rm -rf models
