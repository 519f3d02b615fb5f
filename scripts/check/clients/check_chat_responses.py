"""OpenAI's own client: responses, whole and streamed."""

import chatting
import openai
from chatting import (
    MESSAGES,
    QUESTION,
    ROOM,
    TIME_SCHEMA,
    TOKENS,
    WEATHER_SCHEMA,
    Weather,
    adds_up,
    is_call,
    joined,
    said,
)
from harness import CONCURRENCY, WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, gathered, main, raises, same

GREEDY = {"model": "m", "temperature": 0, "max_output_tokens": TOKENS}
TOLD = {"instructions": MESSAGES[0]["content"], "input": QUESTION}
TOOLS = [
    {
        "type": "function",
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": WEATHER_SCHEMA,
        "strict": True,
    },
    {"type": "function", "name": "time", "description": "Tells the time.", "parameters": TIME_SCHEMA, "strict": True},
]


def client(function: Function, key: str = "any") -> openai.OpenAI:
    """As its users make it, but for the retries, which would hide errors."""
    return openai.OpenAI(base_url=f"{function.url}/v1", api_key=key, max_retries=0)


@check("openai responses", "openai", "chat")
def a_response_is_what_a_plain_chat_is_answered(function: Function) -> None:
    """Text, status, usage, and what a response repeats of its request."""
    answer = client(function).responses.create(**GREEDY, **TOLD, metadata={"trace": "1"}, store=False)
    same(answer.output_text, said(function))
    same((answer.object, answer.id[:5], answer.status), ("response", "resp_", "incomplete"))
    same(answer.incomplete_details.reason, "max_output_tokens")
    same((answer.metadata, answer.temperature, answer.instructions), ({"trace": "1"}, 0, TOLD["instructions"]))
    adds_up(answer.usage.input_tokens, answer.usage.output_tokens, answer.usage.total_tokens)
    same(answer.usage.output_tokens, TOKENS)
    same([item.type for item in answer.output], ["message"])


@check("openai responses", "openai", "chat")
def inputs_of_every_form(function: Function) -> None:
    """A text, messages, items with parts, an answer put back."""
    create = client(function).responses.create
    part = {"type": "input_text", "text": QUESTION}
    for given in (
        MESSAGES,
        [MESSAGES[0] | {"role": "developer"}, MESSAGES[1]],
        [MESSAGES[0], {"type": "message", "role": "user", "content": [part]}],
    ):
        same(create(**GREEDY, input=given).output_text, said(function))
    first = create(**GREEDY, input=MESSAGES)
    turns = [*MESSAGES, *first.output, {"role": "user", "content": "Go on."}]
    said_so_far = [
        *MESSAGES,
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "Go on."},
    ]
    same(create(**GREEDY, input=turns).output_text, said(function, messages=said_so_far))


@check("openai responses", "openai", "chat")
def events_come_in_order_and_add_up(function: Function) -> None:
    """Created, in progress, the item with its part and pieces, their ends, the whole."""
    whole = client(function).responses.create(**GREEDY, **TOLD)
    events = list(client(function).responses.create(**GREEDY, **TOLD, stream=True))
    same([event.sequence_number for event in events], list(range(len(events))))
    kinds = [event.type.removeprefix("response.") for event in events]
    same(kinds[:4], ["created", "in_progress", "output_item.added", "content_part.added"])
    same(kinds[-4:], ["output_text.done", "content_part.done", "output_item.done", "incomplete"])
    same(set(kinds[4:-4]), {"output_text.delta"})
    same(joined(event.delta for event in events[4:-4]), whole.output_text)
    same(events[-4].text, whole.output_text)
    last = events[-1].response
    same((last.output_text, last.usage.output_tokens), (whole.output_text, TOKENS))
    with client(function).responses.stream(**GREEDY, **TOLD) as stream:
        pieces = joined(event.delta for event in stream if event.type == "response.output_text.delta")
    same(pieces, whole.output_text)


@check("openai responses", "openai", "chat")
async def sixteen_async_responses_at_once(function: Function) -> None:
    """Each gets its own answer."""
    sdk = openai.AsyncOpenAI(base_url=f"{function.url}/v1", api_key="any", max_retries=0)
    inputs = [f"{number}. {QUESTION}" for number in range(CONCURRENCY)]
    expected = [said(function, messages=[{"role": "user", "content": text}]) for text in inputs]

    async def ask(number: int) -> str:
        return (await sdk.responses.create(**GREEDY, input=inputs[number])).output_text

    same(await gathered(ask), expected)


@check("openai responses", "openai", "chat-tools")
def parse_gives_objects_of_pydantic(function: Function) -> None:
    """Whole and streamed."""
    asked = {"model": "m", "input": QUESTION, "text_format": Weather, "max_output_tokens": ROOM, "temperature": 0}
    whole = client(function).responses.parse(**asked)
    assert isinstance(whole.output_parsed, Weather), whole
    same(whole.status, "completed")
    with client(function).responses.stream(**asked) as stream:
        last = stream.get_final_response()
    same(last.output_parsed, whole.output_parsed)


@check("openai responses", "openai", "chat-tools")
def calls_and_their_results(function: Function) -> None:
    """A call whole and in events; then its result, put back with the output as it came."""
    create = client(function).responses.create
    asked = {"model": "m", "tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": False}
    asked |= {"input": MESSAGES, "max_output_tokens": ROOM, "temperature": 0}
    whole = create(**asked)
    same([item.type for item in whole.output], ["function_call"])
    call = whole.output[0]
    is_call(call.name, call.arguments)
    same((call.status, whole.status, whole.tool_choice), ("completed", "completed", "required"))
    events = list(create(**asked, stream=True))
    kinds = [event.type.removeprefix("response.") for event in events]
    same(kinds[2], "output_item.added")
    same(events[2].item.name, call.name)
    pieces = [event for event in events if event.type == "response.function_call_arguments.delta"]
    same(joined(event.delta for event in pieces), call.arguments)
    same(kinds[-3:], ["function_call_arguments.done", "output_item.done", "completed"])
    same(events[-3].arguments, call.arguments)
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "12 degrees"}
    after = create(**GREEDY, input=[*MESSAGES, *whole.output, result], tools=TOOLS)
    turns = [
        *MESSAGES,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            ],
        },
        {"role": "tool", "tool_call_id": call.call_id, "content": "12 degrees"},
    ]
    same(
        after.output_text,
        said(
            function,
            messages=turns,
            tools=[
                chatting.tool("weather", WEATHER_SCHEMA, strict=True),
                chatting.tool("time", TIME_SCHEMA, strict=True),
            ],
        ),
    )
    named = create(**asked | {"tool_choice": {"type": "function", "name": "time"}})
    same([item.name for item in named.output], ["time"])


@check("openai responses", "openai", "chat-thinks")
def thoughts_are_items(function: Function) -> None:
    """Before the message, whole and streamed, and may be put back."""
    asked = {"model": "m", "input": QUESTION, "max_output_tokens": 64, "temperature": 0}
    tools = [{**one} for one in TOOLS]
    whole = client(function).responses.create(**asked, tools=tools, tool_choice="required")
    same(whole.output[0].type, "reasoning")
    text = whole.output[0].content[0].text
    events = list(client(function).responses.create(**asked, tools=tools, tool_choice="required", stream=True))
    same(joined(event.delta for event in events if event.type == "response.reasoning_text.delta"), text)
    assert whole.usage.output_tokens_details.reasoning_tokens > 0, whole.usage
    again = client(function).responses.create(
        **asked,
        **{} | {"tools": tools},
        extra_body={
            "input": [
                {"role": "user", "content": QUESTION},
                whole.output[0].model_dump(),
                {"role": "user", "content": "Go on."},
            ]
        },
    )
    assert again.usage.input_tokens > whole.usage.input_tokens, again


@check("openai responses", "openai", "chat-keys")
def errors_have_their_classes(function: Function) -> None:
    """Keys, ranges, and what is not stored here."""
    with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
        client(function, WRONG_KEY).responses.create(**GREEDY, **TOLD)
    for fields, words in (
        ({"top_p": 7}, "top_p"),
        ({"previous_response_id": "resp_1"}, "no response is stored"),
        ({"tools": [{"type": "web_search"}]}, "web_search"),
    ):
        with raises(openai.BadRequestError, words):
            client(function, function.key).responses.create(**GREEDY, **TOLD, **fields)


if __name__ == "__main__":
    main()
