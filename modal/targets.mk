# Targets that deploy to Modal; included by the Makefile of the repository. `DEPLOY_...` variables of the shell or of
# the command line are settings: modal/README.md. Variants: -uvx takes Modal's client through uv instead of an
# environment under target/; -onnx deploys binaries that also run ONNX models, as an app of its own beside the other.
.PHONY: release-ort release-gpu modal-pack modal-serve modal-deploy modal-curl modal-bulk modal-pack-uvx modal-serve-uvx modal-deploy-uvx \
	modal-curl-uvx modal-bulk-uvx modal-serve-onnx modal-deploy-onnx

APP ?= rerank_cpu_int8
SOURCE ?= hf://BAAI/bge-reranker-v2-m3
MODAL ?= scripts/ops/modal_cli
%-uvx: MODAL = uvx --from "$$(cat modal/requirements.txt)" modal

# What APP needs built.
BUILT = $(if $(filter rerank_gpu,$(APP)),release-gpu,release)

# `modal serve` makes no memory snapshots, and mounted binaries start sooner after a change than baked ones.
SERVED = DEPLOY_MEMORY_SNAPSHOT=false DEPLOY_BAKE=false
ONNX = DEPLOY_NAME=$(subst _,-,$(APP))-onnx DEPLOY_BIN_DIR=target/ort/release DEPLOY_ORT_LIBRARY="$$(scripts/ops/fetch_onnxruntime)"
ROUTE = $(if $(filter embed,$(APP)),/v1/embeddings,$(if $(filter chat,$(APP)),/v1/chat/completions,/v1/rerank))
RERANK_BODY = {"query": "who wrote it?", "documents": ["Harper Lee did.", "It rained."]}
CHAT_BODY = {"messages": [{"role": "user", "content": "who wrote it?"}], "max_tokens": 64, "stream": true}
BODY ?= $(if $(filter embed,$(APP)),{"input": ["who wrote it?"]},$(if $(filter chat,$(APP)),$(CHAT_BODY),$(RERANK_BODY)))

release-ort: ## build the functions with ONNX Runtime too (target/ort/release)
	cargo build --release --target-dir target/ort -p rerank-cpu-int8 -p embed --features rerank-cpu-int8/ort,embed/ort

release-gpu: ## build rerank-gpu with its kernels (nvcc of CUDA_HOME or on the PATH)
	cargo build --release -p rerank-gpu --features cuda,cubins

modal-pack: release ## pack SOURCE=hf://org/name into the volume on Modal (FILE=NAME.snap, OPTIONS="--precision f32")
	$(MODAL) run modal/pack.py --source $(SOURCE) $(if $(FILE),--file $(FILE)) $(if $(OPTIONS),--options "$(OPTIONS)")

modal-serve: $(BUILT) ## run APP=rerank_cpu_int8|embed|chat|rerank_gpu on Modal until ^C, anew with each change
	$(SERVED) $(MODAL) serve modal/$(APP).py

modal-deploy: $(BUILT) ## deploy APP=rerank_cpu_int8|embed|chat|rerank_gpu to Modal
	$(MODAL) deploy modal/$(APP).py

modal-serve-onnx: release-ort ## modal-serve with ONNX Runtime: DEPLOY_MODEL=NAME.snap
	$(ONNX) $(SERVED) $(MODAL) serve modal/$(APP).py

modal-deploy-onnx: release-ort ## modal-deploy with ONNX Runtime, as an app of its own: DEPLOY_MODEL=NAME.snap
	$(ONNX) $(MODAL) deploy modal/$(APP).py

modal-curl: ## ask a deployed APP: URL=https://... as modal-deploy printed it, BODY='{...}'
	$(if $(URL),,$(error modal-curl needs URL=https://..., which modal-deploy printed))
	$(MODAL) curl $(URL)$(ROUTE) --no-buffer --fail-with-body -H 'content-type: application/json' -d '$(BODY)'

modal-bulk: release ## embed CORPUS=FILE into OUT=vectors.parquet on SHARDS=16 containers, with DEPLOY_MODEL
	$(if $(and $(CORPUS),$(OUT),$(DEPLOY_MODEL)),,$(error modal-bulk needs CORPUS=FILE OUT=FILE DEPLOY_MODEL=NAME.snap))
	$(MODAL) run modal/bulk.py --corpus $(CORPUS) --out $(OUT) --model $(DEPLOY_MODEL) $(if $(SHARDS),--shards $(SHARDS)) $(if $(OPTIONS),--options "$(OPTIONS)")

modal-pack-uvx: modal-pack ## modal-pack with Modal's client through uv
modal-serve-uvx: modal-serve ## modal-serve with Modal's client through uv
modal-deploy-uvx: modal-deploy ## modal-deploy with Modal's client through uv
modal-curl-uvx: modal-curl ## modal-curl with Modal's client through uv
modal-bulk-uvx: modal-bulk ## modal-bulk with Modal's client through uv
