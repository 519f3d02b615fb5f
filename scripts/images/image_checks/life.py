"""A container's life: locked down, healthy, stopped, killed, started again."""

import http.client
import json
import os
import signal
import statistics
import time
from pathlib import Path

from image_checks.contents import expect
from lib.containers import POLL_SECONDS, STREAM, Container, Failed

# docker and podman send SIGKILL after 10 s; the function needs none of them when nothing runs.
STOP_SECONDS = 10
RESTART_SECONDS = 60
KILLED = 128 + signal.SIGKILL
DONE = b"data: [DONE]\n\n"


def check_locked_down(container):
    """No root, no capability, no new privileges, nothing to write but /tmp: as the kernel sees it."""
    container.start()
    container.score()
    process = Path("/proc") / str(container.state()["Pid"])
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
    expect("user ids", set(status["Uid"].split()), {"65532"})
    expect("group ids", set(status["Gid"].split()), {"65532"})
    expect("capabilities", {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}, {0})
    expect("no new privileges", status["NoNewPrivs"].strip(), "1")
    mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    access = {fields[4]: fields[5].split(",")[0] for fields in mounts}
    expect("access to / and the snapshot", {access["/"], access["/models/model.snap"]}, {"ro"})


def check_health(container):
    """The health check says so, before and after the model is there; the function is process 1."""
    done = container.engine.tried("exec", container.name, f"/{container.function}", "healthcheck")
    if done.returncode:
        raise AssertionError(f"healthcheck ended with {done.returncode}: {done.stderr.strip()}")
    status = Path(f"/proc/{container.state()['Pid']}/status").read_text().splitlines()
    expect("process id inside", next(line.split()[-1] for line in status if line.startswith("NSpid:")), "1")
    if container.engine.is_podman:
        container.engine.call("healthcheck", "run", container.name)
    deadline = time.monotonic() + RESTART_SECONDS
    while (health := container.state().get("Health") or container.state().get("Healthcheck"))["Status"] != "healthy":
        if time.monotonic() > deadline:
            raise AssertionError(f"expected healthy, found {health}")
        time.sleep(POLL_SECONDS)
    return "healthy"


def check_stop(container):
    """SIGTERM to process 1 ends it in time with 0."""
    begun = time.monotonic()
    container.engine.call("stop", "-t", STOP_SECONDS, container.name)
    took = time.monotonic() - begun
    state = container.state()
    expect("exit code", state["ExitCode"], 0)
    return f"exit code 0 after {took:.2f} s"


def check_stream(container):
    """SIGTERM amid a reply that streams: all of it arrives, and the process ends with 0."""
    container.start()
    container.score()
    whole = streamed(container)
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=RESTART_SECONDS)
    try:
        answer = opened(connection)
        first = answer.readline()
        os.kill(container.state()["Pid"], signal.SIGTERM)
        rest = answer.read()
    finally:
        connection.close()
    expect("exit code", int(container.engine.call("wait", container.name)), 0)
    expect("text of the stream", texts(first + rest), texts(whole))
    expect("end of the stream", rest[-len(DONE) :], DONE)
    return f"{len(texts(whole))} characters in {whole.count(b'data: ') - 1} events, and exit code 0"


def opened(connection):
    """The answer to a request that streams, of which the head has come."""
    path, body = STREAM
    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
    answer = connection.getresponse()
    expect("status and type", (answer.status, answer.getheader("content-type")), (200, "text/event-stream"))
    return answer


def streamed(container):
    """All bytes of such an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", container.port, timeout=RESTART_SECONDS)
    try:
        return opened(connection).read()
    finally:
        connection.close()


def texts(events):
    """What the completions of all events say, joined."""
    data = [line.removeprefix(b"data: ") for line in events.splitlines() if line.startswith(b"data: {")]
    return "".join(choice["text"] for one in data for choice in json.loads(one)["choices"])


def check_no_model(engine, function, image):
    """Without a snapshot the function says which one it wanted, and ends."""
    with Container(engine, function, image) as container:
        container.start()
        code = int(engine.call("wait", container.name))
        if code == 0 or "/models/model.snap" not in container.logs():
            raise AssertionError(
                f"expected an error that names /models/model.snap, found code {code}: {container.logs()}"
            )
        return f"exit code {code}: {container.logs().strip().splitlines()[-1][:120]}"


def starts(container, count):
    """Milliseconds from the engine's `start` to the score with a warm page cache, and what takes which part of them."""
    rows = []
    for _ in range(count):
        begun = time.monotonic()
        container.start()
        container.score()
        whole = (time.monotonic() - begun) * 1e3
        boot = boot_of(container)
        inside = boot["first_score_seconds"] * 1e3
        phases = {f"  {name}": seconds * 1e3 for name, seconds in boot["phases"].items()}
        # The runtime sets up the container in the process that becomes the function: it counts as the phase exec.
        main = inside - phases["  exec"]
        rows.append({"start to first score": whole, "of which main to first score": main} | phases)
        kill(container)
    return rows


def boot_of(container):
    """What the function says of its boot, by its own clock."""
    status, body = container.first_answer("GET", "/health")
    if status != 200:
        raise Failed(f"/health answered {status}: {body!r}")
    return json.loads(body)["boot"]


def kill(container):
    """SIGKILL, and nothing of it left."""
    container.engine.call("kill", "-s", "KILL", container.name)
    container.engine.call("wait", container.name)


def summary(rows, name):
    """Median, 90th percentile and largest of one figure."""
    values = sorted(row[name] for row in rows)
    ninetieth = values[min(len(values) - 1, round(0.9 * len(values)))]
    return {"median": statistics.median(values), "p90": ninetieth, "max": values[-1]}


def check_kills(container, count):
    """Killed by SIGKILL and started again, so many times: always the same answer."""
    container.start()
    first = container.score()
    for number in range(count):
        kill(container)
        state = container.state()
        expect(f"exit code of kill {number + 1}", state["ExitCode"], KILLED)
        container.start()
        expect(f"score after kill {number + 1}", container.score(), first)
    return f"{count} times killed, {count} times back with the same score"


def check_restart_policy(engine, function, image, model):
    """What `restart: on-failure` promises: killed from outside, the engine brings it back and it answers."""
    with Container(engine, function, image, model, ["--restart=on-failure:3"]) as container:
        container.start()
        first, process = container.score(), container.state()["Pid"]
        os.kill(process, signal.SIGKILL)
        deadline = time.monotonic() + RESTART_SECONDS
        while (state := container.state())["Pid"] in (0, process):
            if time.monotonic() > deadline:
                raise AssertionError(f"expected the engine to start it again, found {state}")
            time.sleep(POLL_SECONDS)
        expect("score after the restart", container.score(), first)
    return "started again by the engine, same score"
