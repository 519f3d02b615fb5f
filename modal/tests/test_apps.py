"""Each app's file, imported with spies on Modal's decorators: what would be deployed, and what may differ."""

import importlib.util
import inspect
import shutil
import sys

import modal
import pytest
from conftest import APPS, ROOT, elf
from defrost_modal import images, process, settings as settings_module

ON_CPUS = {"rerank_cpu_int8": ("rerank-cpu-int8", "bge-reranker-v2-m3-int8.snap"), "embed": ("embed", "bge-m3-int8.snap")}
CHAT = {"chat": ("chat", "Qwen2.5-1.5B-Instruct-q8_0.snap")}
SERVERS = ON_CPUS | CHAT | {"rerank_gpu": ("rerank-gpu", "bge-reranker-v2-m3-bf16.snap")}


def only(calls):
    """The arguments of the one call."""
    ((_, kwargs),) = calls
    return kwargs


@pytest.mark.parametrize("app", ON_CPUS)
def test_a_function_costs_nothing_while_idle_and_asks_for_a_token(app, load, seen):
    load(app)
    given = only(seen.server)
    assert given["min_containers"] == 0
    assert given["unauthenticated"] is False
    assert (given["cpu"], given["memory"], given["gpu"]) == (4.0, 4096, None)
    assert (given["max_containers"], given["buffer_containers"], given["scaledown_window"]) == (20, 1, 300)
    assert (given["target_concurrency"], given["max_concurrency"]) == (6, None)
    assert (given["startup_timeout"], given["exit_grace_period"], given["port"]) == (600, 20, 8000)
    assert given["enable_memory_snapshot"] is True
    assert "experimental_options" not in given
    assert given["secrets"] == [] == seen.secrets
    assert not seen.function and not seen.cls


def test_chat_has_memory_for_keys_and_values_and_time_for_replies(load, seen):
    load("chat")
    given = only(seen.server)
    assert (given["min_containers"], given["unauthenticated"], given["gpu"]) == (0, False, None)
    assert (given["cpu"], given["memory"], given["target_concurrency"], given["max_concurrency"]) == (4.0, 6144, 8, None)
    assert given["enable_memory_snapshot"] is True
    load("chat", form="web_server")
    assert only(seen.cls)["timeout"] == 900
    assert only(seen.concurrent) == {"max_inputs": 8, "target_inputs": 8}


def test_chat_runs_at_once_what_modal_sends_it(load):
    """More than its MAX_RUNNING would wait for whole replies."""
    with pytest.raises(settings_module.SettingsError, match="DEPLOY_TARGET_CONCURRENCY: expected at most MAX_RUNNING, which is 32"):
        load("chat", target_concurrency=33)
    with pytest.raises(settings_module.SettingsError, match="DEPLOY_MAX_CONCURRENCY: expected at most MAX_RUNNING, which is 4"):
        load("chat", target_concurrency=4, max_concurrency=5, settings="MAX_RUNNING=4")
    load("chat", target_concurrency=40, max_concurrency=0, settings="MAX_RUNNING=64")
    load("embed", target_concurrency=40)


@pytest.mark.parametrize("chosen", [{"memory": 1024}, {"memory": 1535}])
def test_chat_without_memory_for_keys_and_values_is_refused(chosen, load):
    with pytest.raises(settings_module.SettingsError, match="DEPLOY_MEMORY: expected 1536 or more"):
        load("chat", **chosen)
    load("embed", **chosen)


@pytest.mark.parametrize("app", SERVERS)
def test_snapshots_are_mounted_read_only(app, load, seen):
    load(app, volume="my-models")
    assert list(only(seen.server)["volumes"]) == ["/models"]
    (opened, opened_how), (_, mounted) = seen.volumes
    assert (opened, opened_how) == (("my-models",), {"create_if_missing": True, "version": 2})
    assert mounted == {"read_only": True}


@pytest.mark.parametrize(("app", "binary", "model"), [(app, *names) for app, names in (ON_CPUS | CHAT).items()])
def test_command_and_environment_are_the_binarys(app, binary, model, load, binaries, seen):
    service = load(app, settings="MAX_LENGTH=512 LOG_FORMAT=json", shutdown_grace=7, cpu=2.5).service
    assert process.command(service) == [f"/usr/local/bin/{binary}"]
    container = {"PATH": "/bin", "API_KEYS": "k", "AWS_REGION": "r", "AWS_LAMBDA_RUNTIME_API": "x", "MODAL_TASK_ID": "t"}
    made = process.environment(service, container)
    assert made == {
        "PATH": "/bin",
        "MODEL": f"/models/{model}",
        "HOST": "0.0.0.0",
        "PORT": "8000",
        "FAST_BOOT": "true",
        "SNAPSHOT_HOOKS": "true",
        "SHUTDOWN_GRACE": "7",
        "CACHE_DIR": "/tmp/defrost",
        "VERIFY": "on-the-fly",
        "NUM_THREADS": "3",
        "MAX_LENGTH": "512",
        "LOG_FORMAT": "json",
        "API_KEYS": "k",
        "AWS_REGION": "r",
    }
    assert not made.keys() - settings_module.known_to_binaries() - {"PATH", "AWS_REGION"}
    files = [args[1:] for args, how in seen.images if how.get("copy") is not None]
    assert files == [(binaries / binary, f"/usr/local/bin/{binary}")]


def test_a_model_in_a_bucket_needs_no_volume(load, seen):
    service = load("embed", model="s3://models/m3/ROOT.snap", secrets="aws, keys").service
    assert only(seen.server)["volumes"] == {}
    assert [args for args, _ in seen.secrets] == [("aws",), ("keys",)]
    assert len(only(seen.server)["secrets"]) == 2
    assert process.environment(service, {})["MODEL"] == "s3://models/m3/ROOT.snap"


def test_onnx_runtime_is_shipped_and_named(load, seen, tmp_path):
    library = tmp_path / "libonnxruntime.so.1"
    library.touch()
    service = load("rerank_cpu_int8", ort_library=library).service
    assert ((library, images.ORT_LIBRARY)) in [args[1:] for args, _ in seen.images if len(args) == 3]
    assert process.environment(service, {})["ORT_DYLIB_PATH"] == images.ORT_LIBRARY
    assert "ORT_DYLIB_PATH" in settings_module.known_to_binaries()


@pytest.mark.parametrize(("bake", "copy"), [("true", True), ("false", False)])
def test_binaries_are_baked_or_mounted_after_everything_else(bake, copy, load, seen):
    load("embed", bake=bake)
    (base, _), (env, _), (_, how), (source, _) = seen.images
    assert base == ("python:3.12-slim-trixie",)
    assert env[1] == {"DEPLOY_BAKE": bake, "DEPLOY_BIN_DIR": env[1]["DEPLOY_BIN_DIR"]}
    assert how == {"copy": copy}
    assert source[1:] == ("defrost_modal",)


@pytest.mark.parametrize("app", ON_CPUS)
def test_the_older_form_has_the_same_containers(app, load, seen):
    load(app, form="web_server")
    given = only(seen.cls)
    assert not seen.server
    assert (given["min_containers"], given["max_containers"], given["buffer_containers"]) == (0, 20, 1)
    assert (given["cpu"], given["memory"], given["scaledown_window"], given["timeout"]) == (4.0, 4096, 300, 600)
    assert given["enable_memory_snapshot"] is True
    assert list(given["volumes"]) == ["/models"]
    assert only(seen.concurrent) == {"max_inputs": 8, "target_inputs": 6}
    ((port,), web) = seen.web_server[0]
    assert (port, web) == (8000, {"startup_timeout": 600.0, "requires_proxy_auth": True})


def test_whoever_wants_it_open_says_so(load, seen):
    load("embed", unauthenticated="true", secrets="keys")
    load("embed", unauthenticated="true", form="web_server")
    assert only(seen.server)["unauthenticated"] is True
    assert only(seen.web_server)["requires_proxy_auth"] is False


def test_numbers_of_a_deployment_are_passed_on(load, seen):
    wanted = {
        "cpu": 2.0, "memory": 2048, "max_containers": 3, "buffer_containers": 0, "scaledown_window": 60,
        "target_concurrency": 10, "max_concurrency": 32, "startup_timeout": 90, "port": 9000, "routing_region": "eu-west",
        "compute_region": "eu", "min_containers": 1,
    }  # fmt: skip
    load("embed", **wanted)
    given = only(seen.server)
    assert {name: given[name] for name in wanted} == wanted


def test_memory_snapshots_of_gpus_are_asked_for_where_there_is_one(load, seen):
    load("embed", gpu="L4", gpu_snapshot="true", scaledown_window=900)
    given = only(seen.server)
    assert (given["gpu"], given["scaledown_window"]) == ("L4", 900)
    assert given["experimental_options"] == {"enable_gpu_snapshot": True}


def test_a24_a_function_on_a_gpu_costs_nothing_while_idle_and_asks_for_a_token(load, seen):
    service = load("rerank_gpu").service
    given = only(seen.server)
    assert (given["gpu"], given["min_containers"], given["unauthenticated"]) == ("L4", 0, False)
    assert (given["target_concurrency"], given["max_concurrency"], given["max_containers"]) == (16, None, 5)
    assert given["enable_memory_snapshot"] is False and "experimental_options" not in given
    assert list(given["volumes"]) == ["/models"]
    assert seen.images[0] == (("python:3.12-slim-trixie",), {"add_python": None}), "nothing of CUDA: the driver is the host's"
    assert process.command(service) == ["/usr/local/bin/rerank-gpu"]


@pytest.mark.parametrize("gpu", ["A10G", "H100", "A100-80GB"])
def test_a24_another_card_is_a_setting(gpu, load, seen):
    load("rerank_gpu", gpu=gpu)
    assert only(seen.server)["gpu"] == gpu


@pytest.mark.parametrize("fast_boot", ["true", "false"])
def test_a24_the_binary_on_a_gpu_finds_the_driver_and_boots_as_asked(fast_boot, load, seen):
    container = {"PATH": "/bin", "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64", "CUDA_VISIBLE_DEVICES": "0", "HOME": "/root"}
    service = load("rerank_gpu", fast_boot=fast_boot, settings="MAX_LENGTH=512").service
    made = process.environment(service, container)
    assert (made["FAST_BOOT"], made["SNAPSHOT_HOOKS"], made["MAX_LENGTH"]) == (fast_boot, "false", "512")
    assert (made["LD_LIBRARY_PATH"], made["CUDA_VISIBLE_DEVICES"]) == ("/usr/local/nvidia/lib64", "0")
    assert made["MODEL"] == "/models/bge-reranker-v2-m3-bf16.snap" and "HOME" not in made
    on_cpus = process.environment(load("embed").service, container)
    assert not {"LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"} & on_cpus.keys()


def test_a24_memory_snapshots_of_a_gpu_hold_the_gpus_memory_or_are_not_made(load, seen):
    service = load("rerank_gpu", gpu_snapshot="true").service
    given = only(seen.server)
    assert given["enable_memory_snapshot"] is True
    assert given["experimental_options"] == {"enable_gpu_snapshot": True}
    assert process.environment(service, {})["SNAPSHOT_HOOKS"] == "true"
    with pytest.raises(settings_module.SettingsError, match="DEPLOY_MEMORY_SNAPSHOT: expected false, or DEPLOY_GPU_SNAPSHOT=true"):
        load("rerank_gpu", gpu_snapshot="false", memory_snapshot="true")


def test_a24_the_older_form_on_a_gpu(load, seen):
    load("rerank_gpu", form="web_server")
    assert only(seen.cls)["gpu"] == "L4"
    assert only(seen.concurrent) == {"max_inputs": 32, "target_inputs": 16}


def test_another_image_brings_its_own_libraries(load, seen, binaries):
    (binaries / "embed").write_bytes(elf(interpreter=True, text=b"GLIBC_2.99"))
    load("embed", base_image="nvidia/cuda:13.0.1-runtime-ubuntu24.04", add_python="3.12", gpu="L4")
    assert seen.images[0] == (("nvidia/cuda:13.0.1-runtime-ubuntu24.04",), {"add_python": "3.12"})
    assert seen.images[1][0][1:] == ([],), "its entrypoint is cleared"


def test_packing_writes_the_volume_and_has_only_the_secret_it_needs(load, seen):
    load("pack", hf_secret="huggingface", secrets="aws")
    given = only(seen.function)
    assert seen.volumes == [(("defrost-snapshots",), {"create_if_missing": True, "version": 2})]
    assert [args for args, _ in seen.secrets] == [("huggingface",)]
    assert (given["min_containers"], given["max_containers"], given["memory"], given["timeout"]) == (0, 1, 8192, 3600)


def test_bulk_work_cannot_write_the_models_and_is_tried_again(load, seen):
    load("bulk")
    (_, embed), (_, join) = seen.function
    for given in (embed, join):
        assert list(given["volumes"]) == ["/models", "/bulk"]
        assert (given["min_containers"], given["cpu"], given["retries"].max_retries) == (0, 4.0, 3)
    assert (embed["max_containers"], join["max_containers"]) == (20, 1)
    assert [how for _, how in seen.volumes if "read_only" in how] == [{"read_only": True}]
    assert [args for args, how in seen.volumes if "version" in how] == [("defrost-snapshots-bulk",), ("defrost-snapshots",)]


@pytest.mark.parametrize("app", [*SERVERS, "pack", "bulk"])
@pytest.mark.parametrize("chosen", [{}, {"model": "s3://b/k", "secrets": "a,b", "hf_secret": "c", "form": "web_server"}])
def test_a_container_sees_the_volumes_and_secrets_of_the_deployment(app, chosen, load, seen, monkeypatch, tmp_path):
    """There the file lies alone beside the package, with no binary, no README and only the image's environment."""
    load(app, **chosen)
    deployed = [(len(how["volumes"]), len(how["secrets"])) for _, how in seen.server + seen.cls + seen.function]
    carried = next(args[1] for args, _ in seen.images if len(args) == 2 and isinstance(args[1], dict))
    for calls in vars(seen).values():
        calls.clear()
    for name in list(carried):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name, carried[name])
    shutil.rmtree(carried["DEPLOY_BIN_DIR"])
    shutil.copy(APPS / f"{app}.py", tmp_path)
    monkeypatch.setattr(modal, "is_local", lambda: False)
    monkeypatch.setattr(settings_module, "ROOT", tmp_path / "nowhere")
    spec = importlib.util.spec_from_file_location(app, tmp_path / f"{app}.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, app, module)
    spec.loader.exec_module(module)
    assert [(len(how["volumes"]), len(how["secrets"])) for _, how in seen.server + seen.cls + seen.function] == deployed


def test_every_app_is_here():
    apps = {file.stem for file in APPS.glob("*.py")}
    assert apps == {*SERVERS, "pack", "bulk"}
    for app, (binary, _) in SERVERS.items():
        assert (ROOT / "infra" / "images" / binary / "Dockerfile").is_file()
        assert len(inspect.cleandoc((APPS / f"{app}.py").read_text()).splitlines()) < 20
