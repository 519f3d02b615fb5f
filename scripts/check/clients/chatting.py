"""What the checks of chat clients share: questions, tools, schemas, and what a plain request is answered.

Two kinds of models answer. `chat` and `chat-keys` serve the tiny model of `data/tiny-chat`, which has read this
repository's pages and speaks ChatML. `chat-tools` and `chat-thinks` serve random weights behind the real templates of
Qwen2.5 and Qwen3: what they say has no meaning, so whatever is right about their answers is the server's doing, above
all that calls and JSON are what their schemas ask for. Schemas here hold no text of any length, in which random
weights would stay for ever.
"""

import json
import time
from collections.abc import Iterable
from typing import Any, Literal

from harness import Function, same
from pydantic import BaseModel

QUESTION = "What is defrost?"
MESSAGES: list[Any] = [
    {"role": "system", "content": "You answer in short sentences."},
    {"role": "user", "content": QUESTION},
]
TOKENS = 24
# The same answer each time.
GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": TOKENS}
# Enough for a call or an object of the schemas below, however the white space between its parts falls.
ROOM = 600
FREE_SECONDS = 20
# Of the template's call, which the tokenizers of chat-tools and chat-thinks have as one token.
CALL_BEGINS = "<tool_call>"

CITIES = ["Bern", "Oslo"]
UNITS = ["celsius", "kelvin"]


City = Literal["Bern", "Oslo"]


class Weather(BaseModel):
    """The weather in a city."""

    city: City
    unit: Literal["celsius", "kelvin"]
    sunny: bool


WEATHER_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": CITIES}, "unit": {"enum": UNITS}, "sunny": {"type": "boolean"}},
    "required": ["city", "unit", "sunny"],
    "additionalProperties": False,
}
TIME_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"zone": {"enum": ["UTC", "CET"]}},
    "required": ["zone"],
    "additionalProperties": False,
}


def tool(name: str, schema: dict[str, Any], **fields: Any) -> Any:
    """A function as chat completions have it."""
    described = {"name": name, "description": f"Tells the {name}.", "parameters": schema}
    return {"type": "function", "function": described | fields}


TOOLS = [tool("weather", WEATHER_SCHEMA), tool("time", TIME_SCHEMA)]


def is_weather(arguments: str | dict[str, Any]) -> None:
    """Arguments of `weather`, or JSON of its schema."""
    Weather.model_validate_json(arguments) if isinstance(arguments, str) else Weather.model_validate(arguments)


def is_call(name: str, arguments: str | dict[str, Any]) -> None:
    """A call of one of the tools, with arguments that its schema allows."""
    if name == "weather":
        return is_weather(arguments)
    same(name, "time")
    assert (json.loads(arguments) if isinstance(arguments, str) else arguments)["zone"] in ("UTC", "CET"), arguments
    return None


def plain(function: Function, path: str = "/v1/chat/completions", **body: Any) -> Any:
    """What a plain request is answered."""
    if path == "/v1/chat/completions":
        body = {"messages": MESSAGES} | body
    status, _, answer = function.plain("POST", path, body)
    assert status == 200, f"{path} answered {status}: {answer}"
    return answer


def said(function: Function, **body: Any) -> str:
    """The text of a plain request for a greedy answer."""
    text = plain(function, **(GREEDY | body))["choices"][0]["message"]["content"]
    assert text, "the model says something"
    return text


def token(function: Function, text: str) -> int:
    """The id of a text that is one token."""
    tokens = plain(function, "/tokenize", content=text, add_special=False)["tokens"]
    same(len(tokens), 1)
    return tokens[0]["id"] if isinstance(tokens[0], dict) else tokens[0]


def must_call(function: Function) -> dict[str, int]:
    """A bias that begins a call where one is allowed."""
    return {str(token(function, CALL_BEGINS)): 100}


def must_think(function: Function) -> dict[str, int]:
    """A bias that begins thoughts, and never ends them."""
    return {str(token(function, "<think>")): 100}


def adds_up(prompt: int, completion: int, total: int) -> None:
    """Numbers of tokens."""
    assert prompt > 0 and completion > 0, (prompt, completion)
    same(total, prompt + completion)


def joined(texts: Iterable[str | None]) -> str:
    """Pieces of a stream."""
    return "".join(text or "" for text in texts)


def is_free(function: Function) -> None:
    """Returns once nothing is generated any more."""
    end = time.monotonic() + FREE_SECONDS
    while time.monotonic() < end:
        _, _, slots = function.plain("GET", "/slots")
        if not any(slot["is_processing"] for slot in slots):
            return
    raise AssertionError(f"{function.name} still generates {FREE_SECONDS} s after its client went")
