"""Writes data/golden/chat-templates: what `transformers` makes of conversations with chat templates of public models.

  NAME.jinja   the template, as the model's publisher has it
  NAME.json    for each case of cases.json: {"prompt": …}, {"refused": words of raise_exception} or {"fails": true};
               "arguments": "text" where the template takes arguments of calls as text only

cases.json is written by this script as well. The templates come from a folder as llama.cpp's `models/templates`,
which is in the source package of llama-cpp-python (`vendor/llama.cpp/models/templates`). NOTICE.md names their
licences.

  scripts/golden/golden_templates.py --templates .../models/templates --out data/golden/chat-templates

Needs transformers 5 and jinja2; no torch.
"""

import argparse
import copy
import datetime
import json
import shutil
from pathlib import Path

import jinja2
import transformers
from transformers.utils import chat_template_utils

# A fixed moment, in UTC: 2024-08-03 00:05:09.
NOW = 1_722_643_509

TEMPLATES = [
    "Apertus-8B-Instruct",
    "Apriel-1.6-15b-Thinker-fixed",
    "Bielik-11B-v3.0-Instruct",
    "ByteDance-Seed-OSS",
    "GLM-4.6",
    "HuggingFaceTB-SmolLM3-3B",
    "MiMo-VL",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "NVIDIA-Nemotron-Nano-v2",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "Qwen-QwQ-32B",
    "Qwen-Qwen2.5-7B-Instruct",
    "Qwen-Qwen3-0.6B",
    "Qwen3-Coder",
    "Qwen3.5-4B",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "deepseek-ai-DeepSeek-V3.1",
    "google-gemma-2-2b-it",
    "google-gemma-4-31B-it",
    "ibm-granite-granite-3.3-2B-Instruct",
    "ibm-granite-granite-4.0",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "microsoft-Phi-3.5-mini-instruct",
    "mistralai-Ministral-3-14B-Reasoning-2512",
    "mistralai-Mistral-Nemo-Instruct-2407",
    "openbmb-MiniCPM5-1B",
]

# Keys out of their order, letters that HTML or ASCII would escape, nesting, numbers of every kind.
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather <now> & later, in \"°C\" – Wetter für Städte",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "A town's name"},
                    "days": {"type": "integer", "minimum": 0, "maximum": 14.5, "default": 1},
                    "options": {
                        "type": "object",
                        "properties": {"units": {"enum": ["metric", "imperial", None, True]}, "step": {"type": "number"}},
                    },
                },
                "required": ["place"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]


def said(role, content, **more):
    return {"role": role, "content": content, **more}


def call(name, arguments, call_id):
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


WEATHER = call("get_weather", {"place": "Zürich", "days": 2, "options": {"units": None, "step": 0.5}}, "abcdef123")
CLOCK = call("now", {}, "ghijkl456")
TURNS = [
    said("system", "Be brief.\nSpeak \"plainly\" & <truly>."),
    said("user", "  What is 2 + 2?\n"),
    said("assistant", "Four. 🙂"),
    said("user", "And 3 + 3?"),
]
RESULT = said("tool", '{"degrees": -3.5}', name="get_weather", tool_call_id="abcdef123")

CASES = {
    "user": {"messages": [said("user", "Hello, Grüße!")]},
    "turns": {"messages": TURNS},
    "no-generation-prompt": {"messages": [*TURNS, said("assistant", "Six.")], "add_generation_prompt": False},
    "tools": {"messages": TURNS[:2], "tools": TOOLS},
    "result": {
        "messages": [said("user", "Weather?"), {"role": "assistant", "content": "", "tool_calls": [WEATHER]}, RESULT],
        "tools": TOOLS,
    },
    "two-results": {
        "messages": [
            *TURNS[:2],
            {"role": "assistant", "content": "I look.", "tool_calls": [WEATHER, CLOCK]},
            RESULT,
            said("tool", "12:00", name="now", tool_call_id="ghijkl456"),
            said("assistant", "Cold, noon."),
            said("user", "Thanks."),
        ],
        "tools": TOOLS,
    },
    "thoughts": {
        "messages": [
            said("user", "7 * 6?"),
            {"role": "assistant", "reasoning_content": "Six sevens.", "content": "42"},
            said("user", "Sure?"),
        ]
    },
    "no-thoughts": {"messages": [said("user", "7 * 6?")], "kwargs": {"enable_thinking": False}},
    "thoughts-in-text": {
        "messages": [
            said("user", "7 * 6?"),
            said("assistant", "<think>\nSix sevens.\n</think>\n\n42"),
            said("user", "Sure?"),
        ]
    },
    "continued": {
        "messages": [said("user", "Count to five."), said("assistant", "One, two,")],
        "add_generation_prompt": False,
        "continue_final_message": True,
    },
    "two-users": {"messages": [said("user", "One."), said("user", "Two.")]},
    "assistant-first": {"messages": [said("assistant", "Hello."), said("user", "Hi.")]},
    "nobody": {"messages": []},
    "unknown-role": {"messages": [said("user", "Hi."), said("judge", "Stop.")]},
}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(NOW, datetime.timezone.utc)


def with_text_arguments(messages):
    messages = copy.deepcopy(messages)
    for message in messages:
        for made in message.get("tool_calls", []):
            arguments = made["function"]["arguments"]
            made["function"]["arguments"] = json.dumps(arguments, ensure_ascii=False)
    return messages


def render(template, case, messages):
    messages = chat_template_utils._normalize_chat_messages(messages)
    prompts, _ = chat_template_utils.render_jinja_template(
        conversations=[messages],
        tools=case.get("tools"),
        chat_template=template,
        continue_final_message=case.get("continue_final_message", False),
        add_generation_prompt=case.get("add_generation_prompt", True),
        bos_token="<bos>",
        eos_token="<eos>",
        **case.get("kwargs", {}),
    )
    return {"prompt": prompts[0]}


def outcome(template, case, messages):
    try:
        return render(template, case, messages)
    except jinja2.exceptions.TemplateError as error:
        return {"refused": str(error)} if type(error) is jinja2.exceptions.TemplateError else {"fails": True}
    except Exception:
        return {"fails": True}


def golden(template, case):
    found = outcome(template, case, case["messages"])
    has_calls = any(message.get("tool_calls") for message in case["messages"])
    if has_calls and "prompt" not in found:
        as_text = outcome(template, case, with_text_arguments(case["messages"]))
        if "prompt" in as_text:
            return {**as_text, "arguments": "text"}
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--templates", type=Path, required=True, help="folder of llama.cpp's templates")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    chat_template_utils.datetime = Clock
    options.out.mkdir(parents=True, exist_ok=True)
    cases = {"transformers": transformers.__version__, "jinja2": jinja2.__version__, "now": NOW, "cases": CASES}
    (options.out / "cases.json").write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
    for name in TEMPLATES:
        source = options.templates / f"{name}.jinja"
        template = source.read_text()
        shutil.copyfile(source, options.out / f"{name}.jinja")
        found = {label: golden(template, case) for label, case in CASES.items()}
        (options.out / f"{name}.json").write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n")
        print(name, {label: next(iter(value)) for label, value in found.items() if "prompt" not in value})


if __name__ == "__main__":
    main()
