"""Planted errors: each is put into a copy of the real file and must be named.

A case is a check, a file, what is replaced there by what (a regular expression, found at least once), and words of the finding.
"""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from checks import clouds, compose, images, kube, requests, sam, terraform, texts

Case = tuple[Callable[[Path], list[str]], str, str, str, str]
RUN, KNATIVE, KSERVE = "infra/cloudrun/rerank.yaml", "infra/knative/rerank.yaml", "infra/knative/kserve.yaml"
RUN_CHAT, KNATIVE_CHAT = "infra/cloudrun/chat.yaml", "infra/knative/chat.yaml"
RUN_TF, AZURE, LAMBDA_TF = "infra/cloudrun/terraform/main.tf", "infra/azure/app.tf", "infra/lambda/terraform/main.tf"
RUN_GPU, KNATIVE_GPU, KSERVE_GPU = "infra/cloudrun/rerank-gpu.yaml", "infra/knative/rerank-gpu.yaml", "infra/knative/kserve-gpu.yaml"
IMAGE, ZIP, BULK = "infra/lambda/template.yaml", "infra/lambda/zip.yaml", "infra/lambda/bulk.yaml"
GPU_IMAGE, COMPOSE = "infra/images/rerank-gpu/Dockerfile", "infra/images/compose.yaml"
REQUEST = "data/requests/3-homeoffice.bru"

CASES: dict[str, Case] = {
    # Knative and its like: schemas.
    "unknown property": (kube.check_schemas, KNATIVE, "containerConcurrency:", "containerConcurency:", "containerConcurency"),
    "unknown annotation": (kube.check_schemas, KNATIVE, "knative.dev/min-scale", "knative.dev/minscale", "minscale"),
    "number for a string": (kube.check_schemas, RUN, 'minScale: "0"', "minScale: 0", "minScale"),
    "unknown key of a probe": (kube.check_schemas, RUN, "periodSeconds: 1", "periodSecond: 1", "periodSecond"),
    "unknown key of a predictor": (kube.check_schemas, KSERVE, "minReplicas", "minReplica", "minReplica"),
    "wrong API version": (kube.check_schemas, KSERVE, "v1beta1", "v1", "serving.kserve.io/v1"),
    "unknown placeholder": (kube.check_schemas, RUN, r"\$\{BUCKET\}", "${BUCKETS}", "BUCKETS"),
    "unknown key of a claim": (kube.check_schemas, "infra/knative/models.yaml", "accessModes", "accessMode", "accessMode"),
    "unknown key of a job": (kube.check_schemas, "infra/cloudrun/embed-job.yaml", "maxRetries", "maxRetry", "maxRetry"),
    # Knative and its like: the contract.
    "wrong port": (kube.check_services, RUN, "containerPort: 8000", "containerPort: 8080", "port 8080"),
    "probe on a wrong port": (kube.check_services, KNATIVE, "port: 8000\n          livenessProbe", "port: 80\n          livenessProbe", "asks port 80"),
    "wrong health path": (kube.check_services, RUN, "path: /health", "path: /healthz", "/healthz"),
    "missing startup probe": (kube.check_services, RUN, r" {10}startupProbe:(\n {12}.*)+?\n(?= {10}l)", "", "no startup or readiness probe"),
    "missing liveness probe": (kube.check_services, KNATIVE, r" {10}livenessProbe:(\n {12}.*)+?\n(?= {10}s)", "", "no liveness probe"),
    "liveness waits for the model": (kube.check_services, KNATIVE, "path: /live", "path: /health", "does not wait"),
    "slow startup probe": (kube.check_services, RUN, "periodSeconds: 1\n", "periodSeconds: 10\n", "every 10 s"),
    "impatient startup probe": (kube.check_services, RUN, "failureThreshold: 120", "failureThreshold: 30", "gives up"),
    "unknown variable": (kube.check_services, RUN, "name: LOG_FORMAT", "name: LOGGING_FORMAT", "LOGGING_FORMAT"),
    "wrong value": (kube.check_services, KNATIVE, "value: json", "value: logfmt", "LOG_FORMAT=logfmt"),
    "loopback only": (kube.check_services, RUN, "value: 0.0.0.0", "value: 127.0.0.1", "HOST=127.0.0.1"),
    "PORT among the variables": (kube.check_services, RUN, "- name: HOST\n", "- name: PORT\n              value: '8000'\n            - name: HOST\n", "PORT is among"),
    "never zero": (kube.check_services, KNATIVE, 'min-scale: "0"', 'min-scale: "1"', "at least 1 replicas"),
    "requests die while it boots": (kube.check_services, RUN, "timeoutSeconds: 300", "timeoutSeconds: 60", "end after 60 s"),
    "too little memory": (kube.check_services, KNATIVE, "memory: 2Gi", "memory: 256Mi", "memory 256 MiB"),
    "more at a time than the queue": (kube.check_services, RUN, "containerConcurrency: 16", "containerConcurrency: 999", "999 requests"),
    "model outside of the volumes": (kube.check_services, RUN, "value: /models/", "value: /snapshots/", "none of the mounted volumes"),
    "container as root": (kube.check_services, KNATIVE, "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    "no keys": (kube.check_services, KNATIVE, r" +- name: API_KEYS_FILE\n.*\n", "", "whoever reaches it"),
    "secret in the file": (kube.check_services, "infra/knative/embed.yaml", r"name: AWS_SECRET_ACCESS_KEY\n(.*\n){4}", "name: AWS_SECRET_ACCESS_KEY\n              value: abc\n", "comes from a secret"),
    "undeclared volume": (kube.check_services, KNATIVE, "- name: tmp\n              mountPath", "- name: temp\n              mountPath", "volume temp"),
    "small machine for a GPU": (kube.check_services, RUN_GPU, "memory: 16Gi", "memory: 8Gi", "an nvidia-l4 needs"),
    "few processors for a GPU": (kube.check_services, RUN_GPU, 'cpu: "4"', 'cpu: "2"', "an nvidia-l4 needs at least 4 processors"),
    "a larger card on the same machine": (kube.check_services, RUN_GPU, "nvidia-l4", "nvidia-rtx-pro-6000", "at least 20 processors and 80Gi"),
    "a card that there is not": (kube.check_schemas, RUN_GPU, "nvidia-l4", "nvidia-t4", "nvidia-t4"),
    "no card": (kube.check_services, RUN_GPU, r" +nodeSelector:\n.*accelerator.*\n", "", "expected one of nvidia-l4"),
    "billed by the request": (kube.check_services, RUN_GPU, 'cpu-throttling: "false"', 'cpu-throttling: "true"', "cpu-throttling: true: expected false"),
    "a second GPU in another zone": (kube.check_services, RUN_GPU, r" +run\.googleapis\.com/gpu-zonal.*\n", "", "gpu-zonal-redundancy-disabled"),
    "a function for GPUs without one": (kube.check_services, KNATIVE_GPU, r" +nvidia.com/gpu: .*\n", "", "no node with one is looked for"),
    "a function for CPUs on a GPU": (kube.check_services, KSERVE_GPU, "defrost/rerank-gpu:", "defrost/rerank-cpu-int8:", "one for CPUs"),
    "two GPUs for one pod": (kube.check_services, KSERVE_GPU, 'gpu: "1"', 'gpu: "2"', "a process uses one GPU"),
    "a GPU of another maker": (kube.check_schemas, KNATIVE_GPU, "nvidia.com/gpu", "amd.com/gpu", "amd.com/gpu"),
    "a device that is none": (kube.check_services, KNATIVE_GPU, "- name: HOST\n", "- name: DEVICE\n              value: gpu0\n            - name: HOST\n", "DEVICE=gpu0: expected"),
    "more than the card's memory": (kube.check_services, RUN_GPU, "- name: HOST\n", "- name: GPU_MEMORY_FRACTION\n              value: '1.5'\n            - name: HOST\n", "GPU_MEMORY_FRACTION=1.5"),
    "a precision that there is not": (kube.check_services, RUN_GPU, "- name: HOST\n", "- name: DTYPE\n              value: fp8\n            - name: HOST\n", "DTYPE=fp8"),
    "root in a pod with a GPU": (kube.check_services, KSERVE_GPU, "runAsNonRoot: true", "runAsNonRoot: false", "runAsNonRoot"),
    # A function that streams.
    "a reply cut short": (kube.check_services, RUN_CHAT, "timeoutSeconds: 900", "timeoutSeconds: 300", "a reply is streamed for minutes"),
    "a reply without a bound": (kube.check_services, KNATIVE_CHAT, r" +- name: REQUEST_TIMEOUT\n.*\n", "", "REQUEST_TIMEOUT=0: expected more than 0"),
    "a reply that the platform ends first": (kube.check_services, RUN_CHAT, '"870"', '"900"', "less than the 900 s"),
    "replies that wait for whole replies": (kube.check_services, RUN_CHAT, "containerConcurrency: 16", "containerConcurrency: 64", "expected MAX_RUNNING (32) at most"),
    "fewer replies than are let in": (kube.check_services, KNATIVE_CHAT, "- name: HOST\n", "- name: MAX_RUNNING\n              value: '8'\n            - name: HOST\n", "expected MAX_RUNNING (8) at most"),
    "no memory for keys and values": (kube.check_services, KNATIVE_CHAT, "memory: 4Gi", "memory: 1Gi", "with keys and values beside the model"),
    "silence in a stream": (kube.check_services, RUN_CHAT, "- name: HOST\n", "- name: KEEP_ALIVE\n              value: '0'\n            - name: HOST\n", "KEEP_ALIVE=0"),
    "a grace that nobody gives": (kube.check_services, RUN_CHAT, "- name: HOST\n", "- name: SHUTDOWN_GRACE\n              value: '60'\n            - name: HOST\n", "less than the 10 s between SIGTERM and SIGKILL"),
    # Terraform: syntax and names.
    "broken HCL": (terraform.check, AZURE, 'resource "azurerm_container_app" "function" {', 'resource "azurerm_container_app" "function"', "does not parse"),
    "unknown argument": (terraform.check, AZURE, "target_port", "targetport", "unknown argument ingress.targetport"),
    "missing argument": (terraform.check, AZURE, r" +revision_mode .*\n", "", "revision_mode is required"),
    "unknown argument of a block in a dynamic one": (terraform.check, RUN_TF, 'version = "latest"', 'versions = "latest"', "versions"),
    "undeclared variable": (terraform.check, LAMBDA_TF, "var.memory_mb", "var.memory", "var.memory is named"),
    "unused variable": (terraform.check, LAMBDA_TF, "var.memory_mb", "1024", "memory_mb is declared and not used"),
    "undeclared resource": (terraform.check, LAMBDA_TF, r"aws_iam_role\.function\.arn", "aws_iam_role.service.arn", "aws_iam_role.service"),
    "undeclared data": (terraform.check, LAMBDA_TF, r"data\.aws_partition\.current", "data.aws_partition.this", "data.aws_partition.this"),
    "unknown kind": (terraform.check, "infra/azure/main.tf", '"azurerm_storage_share"', '"azurerm_storage_shares"', "no schema of this kind"),
    # Terraform: the contract and rights.
    "wrong port on Azure": (clouds.check, AZURE, r"target_port( +)= 8000", r"target_port\1= 80", "port 80"),
    "wrong health path on Cloud Run": (clouds.check, RUN_TF, '"/health"', '"/status"', "/status"),
    "unknown variable on Azure": (clouds.check, AZURE, '"LOG_LEVEL"', '"LOGLEVEL"', "LOGLEVEL"),
    "unknown variable on Lambda": (clouds.check, LAMBDA_TF, "CORS_ORIGINS", "CORS_ORIGIN ", "CORS_ORIGIN"),
    "keys in the file": (clouds.check, AZURE, r'secret_name = "api-keys"', 'value = "abc"', "keys come from a secret"),
    "no probe for the model on Azure": (clouds.check, AZURE, '"/health"', '"/live"', "requests would come before"),
    "more failures than Azure allows": (clouds.check, AZURE, r"failure_count_threshold = 30", "failure_count_threshold = 99", "Azure allows"),
    "share for writing": (clouds.check, "infra/azure/main.tf", '"ReadOnly"', '"ReadWrite"', "for writing"),
    "owner of the registry": (clouds.check, "infra/azure/main.tf", '"AcrPull"', '"Owner"', "role Owner"),
    "bucket for writing": (clouds.check, RUN_TF, "read_only = true", "read_only = false", "for writing"),
    "wide role on Google": (clouds.check, RUN_TF, "roles/storage.objectViewer", "roles/storage.admin", "roles/storage.admin"),
    "open to everybody on Google": (clouds.check, RUN_TF, "each.value", '"allUsers"', "allUsers"),
    "wildcard action": (clouds.check, LAMBDA_TF, '"s3:GetObject"', '"s3:*"', "action s3:*"),
    "wildcard resource": (clouds.check, LAMBDA_TF, r"\[var\.model_kms_key_arn\]", '["*"]', "resource *"),
    "URL for everybody": (clouds.check, LAMBDA_TF, '"AWS_IAM"', '"NONE"', "authorization_type NONE"),
    "buffering URL in Terraform": (clouds.check, LAMBDA_TF, '"RESPONSE_STREAM"', '"BUFFERED"', "INVOKE_MODE is response_stream"),
    "SnapStart for zips in Terraform": (clouds.check, LAMBDA_TF, r"for_each = local\.is_image \?", "for_each = true ?", "provided.al2023 refuses"),
    # Terraform: a function that streams.
    "a reply cut short in Terraform": (clouds.check, RUN_TF, '"900s" : "300s"', '"310s" : "300s"', "a reply is streamed for minutes"),
    "a reply without a bound in Terraform": (clouds.check, RUN_TF, '"REQUEST_TIMEOUT"', '"MAX_TOKENS"', "REQUEST_TIMEOUT=0: expected more than 0"),
    "little memory that nobody refuses": (clouds.check, RUN_TF, r"local\.streams \? can.*$", "true", "no precondition on local.streams"),
    "replies that wait for whole replies in Terraform": (clouds.check, "infra/cloudrun/terraform/variables.tf", r"default( +)= 16$", r"default\1= 40", "expected MAX_RUNNING (32) at most"),
    "a reply that Azure ends first": (clouds.check, AZURE, 'REQUEST_TIMEOUT = "230"', 'REQUEST_TIMEOUT = "240"', "less than the 240 s"),
    "a grace that Azure does not give": (clouds.check, AZURE, r"local\.streams \? 240 : 10", "10", "less than the 10 s between SIGTERM and SIGKILL"),
    "little memory that nobody refuses on Azure": (clouds.check, AZURE, r"local\.streams \? var\.container_cpu.*$", "true", "no precondition on local.streams"),
    "a reply cut short in Lambda's Terraform": (clouds.check, LAMBDA_TF, r"local\.streams \? 900 : ", "", "Timeout of chat None"),
    "a reply that Lambda ends first in Terraform": (clouds.check, LAMBDA_TF, '"870"', '"900"', "REQUEST_TIMEOUT of chat 900"),
    # Terraform: GPUs.
    "throttled GPU in Terraform": (clouds.check, RUN_TF, r"cpu_idle( +)= var\.gpu == null", r"cpu_idle\1= true", "instance-based billing"),
    "zonal redundancy in Terraform": (clouds.check, RUN_TF, r" +gpu_zonal_redundancy_disabled .*\n", "", "gpu_zonal_redundancy_disabled"),
    "no card in Terraform": (clouds.check, RUN_TF, "accelerator = node_selector.value", 'accelerator = "nvidia-t4"', "no node_selector"),
    "a GPU for every function": (clouds.check, RUN_TF, r"var\.gpu == null \? \{\} : ", "", "nvidia.com/gpu = 1 where var.gpu is set"),
    "small machine for a GPU in Terraform": (clouds.check, RUN_TF, r"cpu = 4, memory = 16", "cpu = 2, memory = 16", "local.least"),
    "small machine that nobody refuses": (clouds.check, RUN_TF, r" >= local\.least\[var\.gpu\]\.memory", " > 0", "no precondition on local.least[var.gpu].memory"),
    "a GPU's function without one": (clouds.check, RUN_TF, r'var\.function != "rerank-gpu" \|\| ', "", "no precondition on var.function"),
    "unknown argument of a node selector": (terraform.check, RUN_TF, "accelerator = node", "accelerators = node", "accelerators"),
    "T4 on Azure": (clouds.check, "infra/azure/main.tf", "Consumption-GPU-NC24-A100", "Consumption-GPU-NC8as-T4", "compute capability 7.5"),
    "T4 let through on Azure": (clouds.check, "infra/azure/variables.tf", '== "Consumption-GPU-NC24-A100"', '== "Consumption-GPU-NC8as-T4"', "compute capability 7.5"),
    "a profile that there is not": (clouds.check, "infra/azure/main.tf", "GPU-NC24-A100", "GPU-NC24-H100", "expected one of Consumption-GPU-NC24-A100"),
    "an app without its profile": (clouds.check, AZURE, r" +workload_profile_name .*\n", "", "expected gpu where local.gpu"),
    "an environment without a GPU": (clouds.check, "infra/azure/main.tf", r'name( +)= "gpu"', r'name\1= "large"', "with the name gpu"),
    "unknown argument of a profile": (terraform.check, "infra/azure/main.tf", "workload_profile_type =", "profile_type =", "profile_type"),
    # SAM.
    "unknown property of a function": (sam.check_lint, IMAGE, "MemorySize: !Ref", "MemorySizes: !Ref", "MemorySizes"),
    "InvokeMode misspelt": (sam.check_lint, IMAGE, "InvokeMode: RESPONSE_STREAM", "InvokeMode: STREAM", "'STREAM' is not one of"),
    "buffering URL": (sam.check_rules, IMAGE, "InvokeMode: RESPONSE_STREAM", "InvokeMode: BUFFERED", "INVOKE_MODE is response_stream"),
    "streaming URL of a function that posts whole": (sam.check_rules, ZIP, " +INVOKE_MODE: response_stream\n", "", "INVOKE_MODE is buffered"),
    "SnapStart on a zip": (sam.check_rules, ZIP, "AutoPublishAlias: live", "AutoPublishAlias: live\n      SnapStart: {ApplyOn: PublishedVersions}", "SnapStart"),
    "no SnapStart on the image": (sam.check_rules, IMAGE, "SnapStart: {ApplyOn: PublishedVersions}\n", "SnapStart: {ApplyOn: None}\n", "SnapStart: expected"),
    "too much /tmp for SnapStart": (sam.check_rules, IMAGE, "Size: 512", "Size: 2048", "SnapStart allows 512"),
    "AuthType NONE": (sam.check_rules, ZIP, "Default: AWS_IAM", "Default: NONE", "AuthType: expected AWS_IAM"),
    "AuthType NONE outright": (sam.check_rules, ZIP, "AuthType: !Ref AuthType", "AuthType: NONE", "open to everybody"),
    "AuthType NONE without keys": (sam.check_rules, ZIP, r"Rules:\n(  .*\n)+", "", "must need ApiKeysSecret"),
    "wildcard action in SAM": (sam.check_rules, IMAGE, "Action: s3:GetObject", "Action: s3:Get*", "action s3:Get*"),
    "every bucket": (sam.check_rules, IMAGE, r"\$\{ModelBucket\}/\$\{ModelKey\}\n", "*\n", "name what it is for"),
    "whole bucket": (sam.check_rules, ZIP, r"/\$\{ModelKey\}\n +- !If", "/*\n              - !If", "name what it is for"),
    "whole bucket in Terraform": (clouds.check, LAMBDA_TF, r"/\$\{var\.model_key\}\"\]", '/*"]', "name what it is for"),
    "managed policy": (sam.check_rules, ZIP, "      Policies:\n", "      ManagedPolicyArns: ['arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess']\n      Policies:\n", "managed policies"),
    "unknown variable in SAM": (sam.check_rules, ZIP, "LOG_FORMAT: json", "LOGFORMAT: json", "LOGFORMAT"),
    "wrong value in SAM": (sam.check_rules, IMAGE, "LOG_FORMAT: json", "LOG_FORMAT: xml", "LOG_FORMAT=xml"),
    "no limit of copies": (sam.check_rules, IMAGE, r" +ReservedConcurrentExecutions:.*\n", "", "ReservedConcurrentExecutions"),
    "shorter than a boot": (sam.check_rules, ZIP, "MinValue: 130", "MinValue: 30", "more than BOOT_TIMEOUT"),
    "a reply cut short on Lambda": (sam.check_rules, IMAGE, r"!If \[Streams, 900, !Ref Timeout\]", "!Ref Timeout", "Timeout of chat None"),
    "a reply without a bound on Lambda": (sam.check_rules, ZIP, r" +REQUEST_TIMEOUT: .*\n", "", "REQUEST_TIMEOUT of chat None"),
    "a reply that Lambda ends first": (sam.check_rules, IMAGE, '"870"', '"901"', "REQUEST_TIMEOUT of chat 901"),
    "a bound for a function that does not stream": (sam.check_rules, ZIP, r"\[Streams, \"870\"", '[HasKeys, "870"', "REQUEST_TIMEOUT of chat None"),
    "logs for ever": (sam.check_rules, IMAGE, r" +RetentionInDays:.*\n", "", "for ever"),
    "SnapStart on a zip, told by cfn-lint": (sam.check_lint, ZIP, "AutoPublishAlias: live", "AutoPublishAlias: live\n      SnapStart: {ApplyOn: PublishedVersions}", "E2530"),
    "no such state": (sam.check_rules, BULK, "Next: Stored\n", "Next: Storage\n", "state Storage is named and not there"),
    "state out of reach": (sam.check_rules, BULK, "Default: NotStored\n", "Default: Done\n", "NotStored is never reached"),
    "state without an end": (sam.check_rules, BULK, r"                  Next: Known\n", "", "Look neither ends nor goes on"),
    "invoke anything": (sam.check_rules, BULK, "Resource: !Ref FunctionAliasArn", 'Resource: "*"', "resource *"),
    # Texts.
    "unquoted variable": (texts.check_shell, "scripts/ops/deploy_azure", r'"\$snapshot" --no-progress', "$snapshot --no-progress", "SC2086"),
    "duplicate key": (texts.check_yaml, KNATIVE, "      containerConcurrency: 16", "      containerConcurrency: 16\n      containerConcurrency: 8", "duplication of key"),
    "a key of AWS": (texts.check_secrets, RUN, "value: json", "value: AKIA" + "ABCDEFGHIJKLMNOP", "looks like a secret"),
    "dead link": (texts.check_links, "infra/README.md", r"\]\(lambda/README\.md\)", "](lambda/LIESMICH.md)", "LIESMICH"),
    # Images for GPUs.
    "CUDA under the function": (images.check, GPU_IMAGE, r"^FROM scratch\nCOPY --from=build", "FROM ${CUDA}\nCOPY --from=build", "expected scratch"),
    "CUDA's libraries beside the function": (images.check, GPU_IMAGE, r"^(COPY --from=build .*)$", r"\1\nCOPY --from=cuda /usr/local/cuda/lib64 /usr/lib64", "nothing of CUDA belongs"),
    "a driver that nobody asks for": (images.check, GPU_IMAGE, "NVIDIA_VISIBLE_DEVICES=all ", "", "mounts no driver"),
    "a driver that cannot compute": (images.check, GPU_IMAGE, "=compute,utility", "=utility", "expected compute,utility"),
    "a driver that is not found": (images.check, GPU_IMAGE, "/usr/local/nvidia/lib64:", "", "LD_LIBRARY_PATH lacks /usr/local/nvidia/lib64"),
    "a static binary for a GPU": (images.check, GPU_IMAGE, r'RUSTFLAGS="', 'RUSTFLAGS="-C target-feature=+crt-static ', "cannot open libcuda"),
    "no kernels": (images.check, GPU_IMAGE, ",cubins$", "", "FEATURES lacks cubins"),
    "a compiler that is wrong": (images.check, GPU_IMAGE, "cuda:12.6.3-", "cuda:13.0.1-", "nested divergence"),
    "no compiler": (images.check, GPU_IMAGE, "-devel-", "-runtime-", "whose nvcc compiles"),
    "a lost device stays": (images.check, GPU_IMAGE, r"^HEALTHCHECK.*\n", "", "no HEALTHCHECK"),
    "another health check": (images.check, GPU_IMAGE, r'"healthcheck"\]', '"--version"]', "own healthcheck"),
    "root on a GPU": (images.check, GPU_IMAGE, r"^USER.*\n", "", "runs as root"),
    "SnapStart with a GPU": (images.check, GPU_IMAGE, r"^LABEL ", 'LABEL com.amazonaws.lambda.feature.snapstart="Allow" ', "no SnapStart with a GPU"),
    "an image without a budget": (images.check, "data/budgets.toml", r"^\[image.rerank-gpu\]", "[image.rerank-gpus]", "has no [image.rerank-gpu]"),
    # The compose file.
    "writable root": (compose.check, COMPOSE, "read_only: true", "read_only: false", "read_only: expected True"),
    "all rights": (compose.check, COMPOSE, r"  cap_drop: .*\n", "", "cap_drop"),
    "open to the network": (compose.check, COMPOSE, r'"127.0.0.1:\$\{GPU_PORT:-8002\}', '"${GPU_PORT:-8002}', "expected this machine's loopback"),
    "no limit of memory": (compose.check, COMPOSE, r" +mem_limit: .*\n", "", "no mem_limit"),
    "another check of health": (compose.check, COMPOSE, "CMD, /function, healthcheck", "CMD, /rerank-gpu, healthcheck", "the image's own is"),
    "a service without its GPU": (compose.check, COMPOSE, r" +deploy:\n( {6}.*\n)+?(?=    healthcheck)", "", "no GPU is reserved"),
    "two GPUs for one process": (compose.check, COMPOSE, "count: 1", "count: 2", "count: expected 1"),
    "a GPU for a service on CPUs": (compose.check, COMPOSE, "  embed:\n", "  embed:\n    deploy: {resources: {reservations: {devices: [{driver: nvidia, count: 1, capabilities: [gpu]}]}}}\n", "one for CPUs"),
    "a GPU for everybody": (compose.check, COMPOSE, r" +profiles: .*\n", "", "profiles: expected gpu"),
    "another image": (compose.check, COMPOSE, "image: localhost/rerank-gpu:latest", "image: localhost/rerank-cpu-int8:latest", "expected localhost/rerank-gpu:latest"),
    "unknown variable of a service": (compose.check, COMPOSE, "MODEL: /models/\\$\\{GPU_MODEL", "MODEL_PATHS: /models/${GPU_MODEL", "MODEL_PATHS"),
    "setting of a GPU on a CPU": (compose.check, COMPOSE, r"      MODEL: /models/\$\{EMBED_MODEL", "      DEVICE: cuda:0\n      MODEL: /models/${EMBED_MODEL", "DEVICE is a setting of functions on a GPU"),
    "no such device": (compose.check, COMPOSE, r"      MODEL: /models/\$\{GPU_MODEL", "      DEVICE: gpu\n      MODEL: /models/${GPU_MODEL", "DEVICE=gpu: expected"),
    # Requests.
    "broken body": (requests.load, REQUEST, '"top_n": 3,', '"top_n": 3', "body:"),
    "unknown address": (requests.load, REQUEST, r"\{\{rerank\}\}", "{{reranker}}", "variable reranker"),
}


@pytest.mark.parametrize("name", CASES)
def test_planted_error_is_named(tree: Path, name: str) -> None:
    check, file, old, new, words = CASES[name]
    path = tree / file
    text, count = re.subn(old, new, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count, f"{file} does not have {old!r} any more"
    path.write_text(text, encoding="utf-8")
    found = check(tree)
    problems = found[1] if isinstance(found, tuple) else found
    assert [problem for problem in problems if words in problem], problems


GOOD_IMAGE = """FROM scratch AS build
FROM scratch
COPY --from=build /rootfs/ /
ENV MODEL=/models/model.snap HOST=0.0.0.0 PORT=8000 CACHE_DIR=/tmp/defrost
USER 65532:65532
EXPOSE 8000
ENTRYPOINT ["/embed"]
LABEL com.amazonaws.lambda.feature.snapstart="Allow"
"""
IMAGE_CASES = {
    "root by omission": (r"USER.*\n", "", "runs as root"),
    "root by name": ("USER 65532:65532", "USER root", "runs as root"),
    "root by number": ("USER 65532:65532", "USER 0:0", "runs as root"),
    "another port": ("PORT=8000", "PORT=8080", "ENV PORT=8080"),
    "another port exposed": ("EXPOSE 8000", "EXPOSE 8080", "EXPOSE"),
    "loopback only": ("HOST=0.0.0.0", "HOST=127.0.0.1", "ENV HOST=127.0.0.1"),
    "unknown variable": ("CACHE_DIR", "CACHE_FOLDER", "CACHE_FOLDER"),
    "another entrypoint": (r'\["/embed"\]', r'["/rerank-cpu-int8"]', "ENTRYPOINT"),
    "no label for SnapStart": (r"LABEL.*\n", "", "snapstart"),
    "hadolint": (r"FROM scratch\n", "FROM debian:latest\n", "DL3007"),
}


def test_a_good_image_passes(tree: Path) -> None:
    assert _planted_image(tree, GOOD_IMAGE) == []


@pytest.mark.parametrize("name", IMAGE_CASES)
def test_planted_error_of_an_image_is_named(tree: Path, name: str) -> None:
    old, new, words = IMAGE_CASES[name]
    text, count = re.subn(old, new, GOOD_IMAGE)
    assert count
    assert [problem for problem in _planted_image(tree, text) if words in problem], _planted_image(tree, text)


def _planted_image(tree: Path, text: str) -> list[str]:
    file = tree / "infra" / "images" / "embed" / "Dockerfile"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return [problem for problem in images.check(tree) if problem.startswith("infra/images/embed/Dockerfile:")]
