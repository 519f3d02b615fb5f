"""Bulk work: every answer is stored exactly once, whatever happens in between."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machine import Failed, Machine, TaskFailed, definition

PARTITION = "arn:aws:states:::"
ROOT_HASH = "ab" * 32
VALUES = {
    "Partition": "aws",
    "Function": "arn:aws:lambda:eu-central-1:123456789012:function:embed:live",
    "Bucket": "data",
    "OutputPrefix": "bulk/out/",
    "ReportPrefix": "bulk/reports/",
    "ModelRoot": ROOT_HASH,
    "Route": "/v1/embeddings",
    "Concurrency": "10",
}
LINE = {"input": ["Straße", "two"], "encoding_format": "base64"}


class Cloud:
    """A bucket that knows If-None-Match, and a function; both may be told to fail."""

    def __init__(self, root: Path) -> None:
        self.objects: dict[str, Any] = {}
        self.asked: list[dict[str, Any]] = []
        self.answers: Callable[[dict[str, Any]], tuple[int, str]] = lambda event: (200, json.dumps({"of": event["body"]}))
        self.failing_puts = self.failing_calls = 0
        self.machine = definition(root, VALUES)

    def run(self, *lines: Any) -> Machine:
        """One execution; returned with its journal, outputs in `outputs`."""
        tasks = {
            f"{PARTITION}aws-sdk:s3:listObjectsV2": self.list,
            f"{PARTITION}aws-sdk:s3:putObject": self.put,
            f"{PARTITION}lambda:invoke": self.invoke,
        }
        machine = Machine(self.machine, tasks)
        self.outputs = machine.run({"key": "bulk/in/x.jsonl"}, list(lines))
        return machine

    def list(self, arguments: dict[str, Any]) -> dict[str, Any]:
        assert arguments.keys() == {"Bucket", "Prefix", "MaxKeys"}
        return {"KeyCount": sum(key.startswith(arguments["Prefix"]) for key in self.objects)}

    def put(self, arguments: dict[str, Any]) -> dict[str, Any]:
        assert arguments["IfNoneMatch"] == "*"
        if self.failing_puts:
            self.failing_puts -= 1
            raise TaskFailed("the connection broke")
        if arguments["Key"] in self.objects:
            raise TaskFailed("At least one of the pre-conditions you specified did not hold (412)")
        self.objects[arguments["Key"]] = arguments["Body"]
        return {"ETag": "x"}

    def invoke(self, arguments: dict[str, Any]) -> dict[str, Any]:
        assert arguments["FunctionName"] == VALUES["Function"]
        if self.failing_calls:
            self.failing_calls -= 1
            raise TaskFailed("too many requests")
        self.asked.append(arguments["Payload"])
        status, body = self.answers(arguments["Payload"])
        return {"Payload": {"statusCode": status, "headers": {}, "body": body, "isBase64Encoded": False}}


@pytest.fixture
def cloud(root: Path) -> Cloud:
    return Cloud(root)


def key_of(line: Any) -> str:
    """As the head of the template says it."""
    text = json.dumps(line, separators=(",", ":"), ensure_ascii=False)
    return f"bulk/out/{hashlib.sha256(f'{ROOT_HASH} /v1/embeddings {text}'.encode()).hexdigest()}.json"


def test_a_line_is_asked_and_stored_under_its_content(cloud: Cloud) -> None:
    machine = cloud.run(LINE)
    assert machine.journal == ["Name", "Look", "Known", "Ask", "Answered", "Store", "Done"]
    event = cloud.asked[0]
    assert (event["requestContext"]["http"]["method"], event["rawPath"]) == ("POST", "/v1/embeddings")
    assert json.loads(event["body"]) == LINE
    assert cloud.outputs == [{"key": key_of(LINE)}]
    assert cloud.objects == {key_of(LINE): {"of": event["body"]}}


def test_the_same_again_asks_nothing(cloud: Cloud) -> None:
    cloud.run(LINE, {"input": "b"})
    before = dict(cloud.objects)
    machine = cloud.run(LINE, {"input": "b"})
    assert (len(cloud.asked), cloud.objects) == (2, before)
    assert machine.journal == ["Name", "Look", "Known", "Done"] * 2


def test_equal_lines_of_one_file_are_stored_once(cloud: Cloud) -> None:
    cloud.run(LINE, LINE, LINE)
    assert (len(cloud.asked), len(cloud.objects)) == (1, 1)


def test_another_model_or_route_has_other_names(root: Path, cloud: Cloud) -> None:
    names = set()
    for change in ({}, {"ModelRoot": "cd" * 32}, {"Route": "/v1/rerank"}):
        cloud.machine = definition(root, VALUES | change)
        cloud.run(LINE)
        names.add(cloud.outputs[0]["key"])
    assert len(names) == 3


def test_who_comes_second_changes_nothing_and_succeeds(cloud: Cloud) -> None:
    """Between Look and Store of this line another workflow with an equal one stores its answer."""

    def overtaken(event: dict[str, Any]) -> tuple[int, str]:
        cloud.objects[key_of(LINE)] = "the other's"
        return 200, '{"of": "this one"}'

    cloud.answers = overtaken
    machine = cloud.run(LINE)
    assert machine.journal[-4:] == ["retry", "LookAgain", "Stored", "Done"]
    assert cloud.objects == {key_of(LINE): "the other's"}


def test_a_write_that_arrived_though_it_failed_is_success(cloud: Cloud) -> None:
    real = cloud.put

    def lost_answer(arguments: dict[str, Any]) -> dict[str, Any]:
        real(arguments)
        raise TaskFailed("no answer")

    cloud.put = lost_answer  # type: ignore[method-assign]
    cloud.run(LINE)
    assert len(cloud.objects) == 1


def test_writes_are_retried_and_their_failure_is_told(cloud: Cloud) -> None:
    cloud.failing_puts = 2
    cloud.run(LINE)
    assert len(cloud.objects) == 1
    cloud.failing_puts = 99
    with pytest.raises(Failed) as failed:
        cloud.run({"input": "other"})
    assert failed.value.args == ("NotStored", "the connection broke")


def test_calls_are_retried(cloud: Cloud) -> None:
    cloud.failing_calls = 4
    assert cloud.run(LINE).journal.count("retry") == 4
    cloud.failing_calls = 5
    with pytest.raises(TaskFailed):
        cloud.run({"input": "other"})


def test_a_busy_function_is_asked_again(cloud: Cloud) -> None:
    statuses = iter([503, 429, 200])
    cloud.answers = lambda _: (next(statuses), "{}")
    machine = cloud.run(LINE)
    assert (len(cloud.asked), machine.waited) == (3, 5 + 10)


def test_a_function_that_stays_busy_ends_it(cloud: Cloud) -> None:
    cloud.answers = lambda _: (503, '{"error": "loading"}')
    with pytest.raises(Failed) as failed:
        cloud.run(LINE)
    assert failed.value.args == ("Refused", '503 {"error": "loading"}')
    assert (len(cloud.asked), cloud.objects) == (4, {})


def test_what_the_function_refuses_is_told_and_not_stored(cloud: Cloud) -> None:
    cloud.answers = lambda _: (400, '{"error": {"message": "no input"}}')
    with pytest.raises(Failed) as failed:
        cloud.run({"nothing": 1})
    assert failed.value.args == ("Refused", '400 {"error": {"message": "no input"}}')
    assert cloud.objects == {}


def test_the_whole_of_a_run_stays_below_the_limit_of_express(cloud: Cloud) -> None:
    """Express workflows end after 300 s: every pause of the definition together, at its longest."""
    states = cloud.machine["States"]["Lines"]["ItemProcessor"]["States"]
    pauses = sum(
        one["IntervalSeconds"] * sum(one["BackoffRate"] ** attempt for attempt in range(one["MaxAttempts"]))
        for state in states.values()
        for one in state.get("Retry", [])
    )
    assert pauses + 5 + 10 + 15 < 300 - 150
