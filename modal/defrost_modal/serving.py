"""An app's server class: what its containers do, in the two forms that Modal has for a process that listens on a port.

`server` is `@app.server`, made for this: Modal's proxy speaks to the port, in one region, with proxy tokens.
`web_server` is `@app.cls` with `@modal.concurrent` and a method under `@modal.web_server`: the older form, where requests
pass through Modal's own Python and queue at Modal. Settings and the container's life are the same in both.

The life is one of two classes. `Started`: boot the binary, serve, end it. `Snapshotted`, with memory snapshots: boot it and
put it to sleep; here Modal copies the container, and every later one begins with waking it. Where Modal makes no copy
(`modal serve`, the deployment's first containers), it is woken right after it fell asleep.

    service = Settings.deployed(binary="rerank-cpu-int8", model="model.snap")
    app = modal.App(service.name)

    @serve(app, service)
    class Server(base(service)):
        settings = service

Modal finds the class by its name in the app's file, so the file must contain it.
"""

import os
import sys

import modal

from . import images, process


class Started:
    """Without memory snapshots."""

    @modal.enter()
    def start(self):
        """Boots the binary."""
        _boot(self)

    @modal.exit()
    def stop(self):
        """Ends it."""
        _stop(self)


class Snapshotted:
    """With memory snapshots."""

    @modal.enter(snap=True)
    def start(self):
        """Up to where the memory is copied."""
        _boot(self)
        self.process.sleep(self.settings.startup_timeout)

    @modal.enter()
    def wake(self):
        """In the first container and in each that begins from its copy."""
        self.process.wake(self.settings.startup_timeout)

    @modal.exit()
    def stop(self):
        """Ends it."""
        _stop(self)


def base(settings):
    """The class that the app's server class inherits."""
    life = Snapshotted if settings.memory_snapshot else Started
    if settings.form == "server":
        return life

    class WebServer(life):
        """The port is open when Modal asks for it: `start` has waited for the binary."""

        @modal.web_server(
            settings.port,
            startup_timeout=float(settings.startup_timeout),
            requires_proxy_auth=not settings.unauthenticated,
        )
        def web(self):
            """Nothing is left to start."""

    return WebServer


def serve(app, settings):
    """The decorator that registers the server class with the app."""
    common = {
        "image": images.image(settings, settings.binary),
        "volumes": {} if settings.remote_model else images.snapshots(settings, read_only=True),
        "secrets": images.secrets(*settings.secrets),
        "cpu": settings.cpu,
        "memory": settings.memory,
        "gpu": settings.gpu or None,
        "min_containers": settings.min_containers,
        "max_containers": settings.max_containers,
        "buffer_containers": settings.buffer_containers,
        "scaledown_window": settings.scaledown_window,
        "startup_timeout": settings.startup_timeout,
        "enable_memory_snapshot": settings.memory_snapshot,
    }
    if settings.gpu_snapshot:
        common["experimental_options"] = {"enable_gpu_snapshot": True}
    region = settings.compute_region or None
    if settings.form == "server":
        return app.server(
            **common,
            port=settings.port,
            target_concurrency=settings.target_concurrency,
            max_concurrency=settings.concurrency,
            unauthenticated=settings.unauthenticated,
            exit_grace_period=settings.shutdown_grace,
            routing_region=settings.routing_region,
            compute_region=region,
        )
    register = app.cls(**common, timeout=settings.timeout, region=region)
    share = modal.concurrent(max_inputs=settings.concurrency, target_inputs=settings.target_concurrency)
    return lambda server: register(share(server))


def _boot(server):
    settings = server.settings
    environment = process.environment(settings)
    process.check_exposure(settings, environment)
    server.process = process.Process.start(
        process.command(settings), environment, settings.startup_timeout, lambda code: _died(settings, code)
    )


def _stop(server):
    code = server.process.stop(server.settings.shutdown_grace)
    if code:
        print(f"{server.settings.binary} ended with {code}: requests were cut off after {server.settings.shutdown_grace} s")


def _died(settings, code):
    """A container without its binary must not stay among those that get requests."""
    print(f"{settings.binary} ended by itself with {code}; so does this container", file=sys.stderr, flush=True)
    os._exit(1)
