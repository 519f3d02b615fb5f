"""The image for GPUs: nothing of CUDA in it, a plain word where there is no driver, an answer where there is one."""

from image_checks.contents import check_common, check_service, expect
from lib import CannotCheck
from lib.containers import GPU, GPU_BINARY, LOCKED_DOWN, Container

# The C library as the Dockerfile lists it; the dynamic linker's name and place are the processor's.
LIBRARIES = {"libc.so.6", "libdl.so.2", "libgcc_s.so.1", "libm.so.6", "libpthread.so.0", "librt.so.1", "ld-linux-x86-64.so.2"}
OF_CUDA = ("libcu", "libnv", "libnpp", "libnccl")
VARIABLES = {
    "NVIDIA_VISIBLE_DEVICES": "all",
    "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
    "LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/usr/lib64",
}
# Where hosts mount the driver: Google's, NVIDIA's runtime in an image that is not Debian's, and in one that is.
DRIVER_FOLDERS = ("/usr/local/nvidia/lib64", "/usr/lib64", "/usr/lib/x86_64-linux-gnu")
DRIVER = "libcuda.so.1"
# What a machine without a driver is told: what is missing, and which function needs none.
SAID = ("libcuda", "rerank-cpu-int8")


def check_contents(engine, image, archive):
    """The binary, its C library, certificates and nothing of CUDA; the rest as in every image."""
    names = {path: path.rsplit("/", 1)[-1] for path, (_, data) in archive.files.items() if data is not None}
    expect("files of CUDA", [path for path, name in names.items() if name.startswith(OF_CUDA)], [])
    libraries = {path for path, name in names.items() if name in LIBRARIES}
    expect("libraries", {names[path] for path in libraries}, LIBRARIES)
    inspected = check_common(engine, GPU_BINARY.strip("/"), image, archive, libraries, title=GPU)
    check_service(inspected, GPU_BINARY, VARIABLES)


def check_driver_is_found(engine, image, archive, scratch):
    """The linker finds a library of the driver's name wherever hosts mount it, and nowhere if they do not.

    A library of the image itself stands for it: it is preloaded by its name, which is looked for as a binary that opens
    it would.
    """
    folder = scratch / "driver"
    folder.mkdir()
    (folder / DRIVER).write_bytes(next(data for path, (_, data) in archive.files.items() if path.endswith("/libm.so.6")))
    for path in (scratch, folder):
        path.chmod(0o755)

    def found(*flags):
        command = ["run", "--rm", *engine.run_flags, *LOCKED_DOWN, *flags, "-e", f"LD_PRELOAD={DRIVER}", image, "--version"]
        done = engine.tried(*engine.globals, *command)
        expect("exit code", done.returncode, 0)
        return "cannot be preloaded" not in done.stderr

    expect("found where none is mounted", found(), False)
    lost = [place for place in DRIVER_FOLDERS if not found("-v", f"{folder}:{place}:ro")]
    expect("places where it is not found", lost, [])
    return ", ".join(DRIVER_FOLDERS)


def check_no_driver(engine, image, model):
    """Without a GPU it ends at once, with one line that says what is missing and what to do."""
    with Container(engine, GPU, image, model) as container:
        container.start()
        code = int(engine.call("wait", container.name))
        log = container.logs()
    missing = [word for word in SAID if word not in log]
    if code == 0 or missing:
        raise AssertionError(f"expected an end with an error that names {', '.join(SAID)}, found {code}: {log}")
    return log.strip().splitlines()[-1][:160]


def check_answers(engine, image, model):
    """With the machine's GPU, without rights and read-only, it scores."""
    tried = engine.tried(*engine.globals, "run", "--rm", *engine.gpu_flags(), image, "--version")
    if tried.returncode:
        raise CannotCheck(f"{engine.program} has no GPU to give: {tried.stderr.strip()[-200:]}; `make gpu-check` says more")
    with Container(engine, GPU, image, model, engine.gpu_flags()) as container:
        container.start()
        ((_, score),) = container.score()
        done = engine.tried("exec", container.name, GPU_BINARY, "healthcheck")
        expect("exit code of healthcheck", done.returncode, 0)
    return f"score {score}"
