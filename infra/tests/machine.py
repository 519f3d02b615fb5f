"""A small interpreter of the Amazon States Language: as much of it as infra/lambda/bulk.yaml uses, in JSONata.

It runs the definition of the template itself, so that a state left out, a wrong variable or a wrong order shows. What it does
not know is an error. Time does not pass: waits and pauses between retries are counted, not slept. A Distributed Map runs its
lines one after the other; what happens between two states of another line is played by the tests, through the tasks.
"""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonata
from samtranslator.yaml_helper import yaml_parse

Task = Callable[[dict[str, Any]], Any]
WHOLE = re.compile(r"^\{%(.*)%\}$", re.DOTALL)


class TaskFailed(Exception):
    """What a task answers when it fails."""


class Failed(Exception):
    """The Fail state: error and cause."""


def definition(root: Path, values: dict[str, str]) -> dict[str, Any]:
    """The state machine of the template, with these substitutions."""
    template = yaml_parse((root / "infra" / "lambda" / "bulk.yaml").read_text(encoding="utf-8"))
    properties = template["Resources"]["Bulk"]["Properties"]
    text = json.dumps(properties["Definition"])
    named = set(re.findall(r"\$\{(\w+)\}", text))
    declared = set(properties["DefinitionSubstitutions"])
    if named != declared or declared != set(values):
        raise LookupError(f"substitutions: named {sorted(named)}, declared {sorted(declared)}, given {sorted(values)}")
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return json.loads(text)


def as_text(value: Any) -> str:
    """JSONata's $string: JSON without spaces, letters as they are; the library used here escapes them."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def digest(text: str, kind: str) -> str:
    """$hash, which is the service's own, as is $parse."""
    return hashlib.new(kind.replace("-", ""), text.encode()).hexdigest()


class Machine:
    """One execution: `tasks` by resource, what was done in `journal`."""

    def __init__(self, machine: dict[str, Any], tasks: dict[str, Task]) -> None:
        self.machine, self.tasks = machine, tasks
        self.waited = 0
        self.journal: list[str] = []
        if machine["QueryLanguage"] != "JSONata":
            raise NotImplementedError(machine["QueryLanguage"])

    def run(self, given: Any, lines: list[Any]) -> list[Any]:
        """The outputs of all lines of the Map, which is the only state there is outside of it."""
        state = self.machine["States"][self.machine["StartAt"]]
        if state["Type"] != "Map" or state["ItemProcessor"]["ProcessorConfig"]["Mode"] != "DISTRIBUTED":
            raise NotImplementedError("expected one Distributed Map")
        self.value(state["ItemReader"]["Arguments"], {"states": {"input": given}})
        return [self._line(state["ItemProcessor"], line) for line in lines]

    def _line(self, processor: dict[str, Any], line: Any) -> Any:
        context = {"Execution": {"Name": "execution"}}
        name, variables, data = processor["StartAt"], {}, line
        while True:
            state = processor["States"][name]
            self.journal.append(name)
            scope = variables | {"states": {"input": data, "context": context}}
            match state["Type"]:
                case "Pass":
                    result = data
                case "Wait":
                    self.waited += self.value(state["Seconds"], scope)
                    result = data
                case "Choice":
                    taken = [one["Next"] for one in state["Choices"] if self.value(one["Condition"], scope) is True]
                    name = taken[0] if taken else state["Default"]
                    continue
                case "Fail":
                    raise Failed(state["Error"], self.value(state["Cause"], scope))
                case "Succeed":
                    return self.value(state["Output"], scope)
                case "Task":
                    try:
                        result = self._task(state, scope)
                    except TaskFailed as error:
                        catcher = self._catcher(state)
                        if not catcher:
                            raise
                        scope["states"]["errorOutput"] = {"Cause": str(error)}
                        variables |= self.value(catcher.get("Assign", {}), scope)
                        name = catcher["Next"]
                        continue
                case other:
                    raise NotImplementedError(other)
            scope["states"]["result"] = result
            variables |= self.value(state.get("Assign", {}), scope)
            name = state["Next"]

    def _task(self, state: dict[str, Any], scope: dict[str, Any]) -> Any:
        arguments = self.value(state["Arguments"], scope)
        left = sum(one["MaxAttempts"] for one in state.get("Retry", []) if "States.TaskFailed" in one["ErrorEquals"])
        while True:
            try:
                return self.tasks[state["Resource"]](arguments)
            except TaskFailed:
                if not left:
                    raise
                left -= 1
                self.journal.append("retry")

    @staticmethod
    def _catcher(state: dict[str, Any]) -> dict[str, Any] | None:
        return next((one for one in state.get("Catch", []) if "States.TaskFailed" in one["ErrorEquals"]), None)

    def value(self, form: Any, scope: dict[str, Any]) -> Any:
        """The form with every expression in it computed."""
        if isinstance(form, dict):
            return {key: self.value(one, scope) for key, one in form.items()}
        if isinstance(form, list):
            return [self.value(one, scope) for one in form]
        if not (isinstance(form, str) and (match := WHOLE.match(form))):
            return form
        expression = jsonata.Jsonata(match[1])
        for name, value in scope.items():
            expression.assign(name, value)
        for name, function in {"string": as_text, "hash": digest, "parse": json.loads}.items():
            expression.register_lambda(name, function)
        result = expression.evaluate(None)
        if result is None:
            raise LookupError(f"{match[1].strip()} is nothing; the service refuses that")
        return result
