"""State machines: every state that is named exists, every state there is can be reached, and every path ends."""

from pathlib import Path
from typing import Any

from samtranslator.yaml_helper import yaml_parse

ENDS = {"Fail", "Succeed"}


def check(root: Path, name: str) -> list[str]:
    """All machines of the template."""
    template = yaml_parse((root / "infra" / "lambda" / name).read_text(encoding="utf-8"))
    return [
        problem
        for resource in template["Resources"].values()
        if resource["Type"] == "AWS::Serverless::StateMachine"
        for problem in _machine(resource["Properties"]["Definition"])
    ]


def _machine(machine: dict[str, Any]) -> list[str]:
    states, problems = machine["States"], []
    reached, waiting = set(), [machine["StartAt"]]
    while waiting:
        name = waiting.pop()
        if name in reached:
            continue
        reached.add(name)
        if name not in states:
            problems.append(f"state {name} is named and not there")
            continue
        following = _following(states[name])
        if not following and states[name]["Type"] not in ENDS and states[name].get("End") is not True:
            problems.append(f"state {name} neither ends nor goes on")
        waiting += following
    problems += [f"state {name} is never reached" for name in states if name not in reached]
    inner = [state["ItemProcessor"] for state in states.values() if "ItemProcessor" in state]
    return problems + [problem for processor in inner for problem in _machine(processor)]


def _following(state: dict[str, Any]) -> list[str]:
    named = [state.get("Next"), state.get("Default")]
    named += [one["Next"] for key in ("Choices", "Catch") for one in state.get(key, [])]
    return [name for name in named if name]
