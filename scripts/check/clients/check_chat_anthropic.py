"""Anthropic's own client: messages, whole and streamed, tools, thoughts, counts."""

import anthropic
import chatting
from chatting import MESSAGES, QUESTION, ROOM, TIME_SCHEMA, TOKENS, WEATHER_SCHEMA, Weather, is_call, joined, said
from harness import CONCURRENCY, WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, gathered, main, raises, same

SYSTEM = MESSAGES[0]["content"]
ASKED = {"model": "m", "max_tokens": TOKENS, "system": SYSTEM, "messages": MESSAGES[1:]}
TOOLS = [
    {"name": "weather", "description": "Tells the weather.", "input_schema": WEATHER_SCHEMA},
    {"name": "time", "description": "Tells the time.", "input_schema": TIME_SCHEMA},
]
# This version of the client has no argument for it; the route reads it as ever.
GREEDY = {"extra_body": {"temperature": 0}}


def client(function: Function, key: str = "any", **options: object) -> anthropic.Anthropic:
    """As its users make it, but for the retries, which would hide errors."""
    return anthropic.Anthropic(base_url=function.url, api_key=key, **{"max_retries": 0} | options)


@check("anthropic", "anthropic", "chat")
def a_message_is_what_a_plain_chat_is_answered(function: Function) -> None:
    """Text, reason, usage."""
    answer = client(function).messages.create(**ASKED, **GREEDY)
    same([block.type for block in answer.content], ["text"])
    same(answer.content[0].text, said(function))
    same((answer.type, answer.role, answer.id[:4]), ("message", "assistant", "msg_"))
    same((answer.stop_reason, answer.stop_sequence), ("max_tokens", None))
    same(answer.usage.output_tokens, TOKENS)
    counted = client(function).messages.count_tokens(model="m", system=SYSTEM, messages=MESSAGES[1:]).input_tokens
    usage = client(function).messages.create(**ASKED, **GREEDY).usage
    same(usage.input_tokens + (usage.cache_read_input_tokens or 0), counted)


@check("anthropic", "anthropic", "chat")
def contents_of_every_form(function: Function) -> None:
    """Blocks with marks for a cache, a system of blocks, metadata, the words of an answer begun."""
    create = client(function).messages.create
    mark = {"cache_control": {"type": "ephemeral"}}
    answer = create(
        model="m",
        max_tokens=TOKENS,
        system=[{"type": "text", "text": SYSTEM, **mark}],
        messages=[{"role": "user", "content": [{"type": "text", "text": QUESTION, **mark}]}],
        metadata={"user_id": "ann"},
        service_tier="auto",
        extra_body={"top_k": 1},
        extra_headers={"anthropic-beta": "prompt-caching-2024-07-31"},
    )
    same(answer.content[0].text, said(function))
    begun = said(function).split(" ")[0]
    after = create(**ASKED | {"messages": [*MESSAGES[1:], {"role": "assistant", "content": begun}]}, **GREEDY)
    assert (begun + after.content[0].text).startswith(said(function)), after


@check("anthropic", "anthropic", "chat")
def events_come_in_order_and_add_up(function: Function) -> None:
    """The raw events, and what the client's helper makes of them."""
    whole = client(function).messages.create(**ASKED, **GREEDY)
    kinds, pieces, usage = [], [], None
    for event in client(function).messages.create(**ASKED, **GREEDY, stream=True):
        kinds.append(event.type)
        if event.type == "content_block_delta":
            pieces.append(event.delta.text)
        if event.type == "message_delta":
            usage = event.usage
            same(event.delta.stop_reason, "max_tokens")
    same(joined(pieces), whole.content[0].text)
    same(kinds[:2], ["message_start", "content_block_start"])
    same(kinds[-3:], ["content_block_stop", "message_delta", "message_stop"])
    same(usage.output_tokens, TOKENS)
    with client(function).messages.stream(**ASKED, **GREEDY) as stream:
        texts = joined(stream.text_stream)
        added = stream.get_final_message()
    same((texts, added.content[0].text), (whole.content[0].text, whole.content[0].text))
    same((added.stop_reason, added.usage.output_tokens), ("max_tokens", TOKENS))


@check("anthropic", "anthropic", "chat")
async def sixteen_async_messages_and_streams_at_once(function: Function) -> None:
    """Each gets its own answer."""
    sdk = anthropic.AsyncAnthropic(base_url=function.url, api_key="any", max_retries=0)
    questions = [[{"role": "user", "content": f"{number}. {QUESTION}"}] for number in range(CONCURRENCY)]
    expected = [said(function, messages=messages) for messages in questions]

    async def ask(number: int) -> str:
        asked = {"model": "m", "max_tokens": TOKENS, "messages": questions[number], **GREEDY}
        if number % 2:
            return (await sdk.messages.create(**asked)).content[0].text
        async with sdk.messages.stream(**asked) as stream:
            return await stream.get_final_text()

    same(await gathered(ask), expected)


@check("anthropic", "anthropic", "chat")
def a_stop_sequence_is_told(function: Function) -> None:
    """Whole and streamed."""
    text = said(function)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    asked = ASKED | GREEDY | {"stop_sequences": [stop]}
    whole = client(function).messages.create(**asked)
    same((whole.stop_reason, whole.stop_sequence), ("stop_sequence", stop))
    same(whole.content[0].text, text[: text.index(stop)])
    with client(function).messages.stream(**asked) as stream:
        added = stream.get_final_message()
    same(
        (added.stop_reason, added.stop_sequence, added.content[0].text), ("stop_sequence", stop, whole.content[0].text)
    )


@check("anthropic", "anthropic", "chat-tools")
def tools_and_their_results(function: Function) -> None:
    """Any, the named one, in a stream; then the result goes back."""
    create = client(function).messages.create
    asked = {"model": "m", "max_tokens": ROOM, "system": SYSTEM, "messages": MESSAGES[1:], "tools": TOOLS, **GREEDY}
    forced = asked | {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}}
    whole = create(**forced)
    same((whole.stop_reason, [block.type for block in whole.content]), ("tool_use", ["tool_use"]))
    call = whole.content[0]
    is_call(call.name, call.input)
    with client(function).messages.stream(**forced) as stream:
        partial = [event.partial_json for event in stream if event.type == "input_json"]
        added = stream.get_final_message()
    same((added.content[0].name, added.content[0].input), (call.name, call.input))
    assert len(partial) > 1, partial
    named = create(**asked, tool_choice={"type": "tool", "name": "time", "disable_parallel_tool_use": True})
    same([block.name for block in named.content], ["time"])
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "12 degrees"}]}
    turns = [*MESSAGES[1:], {"role": "assistant", "content": whole.content}, {"role": "user", "content": [result]}]
    after = create(**asked | {"messages": turns, "max_tokens": TOKENS}, tool_choice={"type": "none"})
    same([block.type for block in after.content], ["text"])
    with_result = create(**asked | {"messages": turns, "max_tokens": TOKENS})
    assert with_result.content, with_result
    counted = client(function).messages.count_tokens(model="m", system=SYSTEM, messages=turns, tools=TOOLS).input_tokens
    usage = with_result.usage
    same(usage.input_tokens + (usage.cache_read_input_tokens or 0), counted)


@check("anthropic", "anthropic", "chat-tools")
def parse_gives_objects_of_pydantic(function: Function) -> None:
    """A form of the answer by schema."""
    answer = client(function).messages.parse(
        model="m", max_tokens=ROOM, messages=MESSAGES[1:], output_format=Weather, **GREEDY
    )
    assert isinstance(answer.parsed_output, Weather), answer
    same(answer.stop_reason, "end_turn")


@check("anthropic", "anthropic", "chat-thinks")
def thoughts_are_blocks(function: Function) -> None:
    """Thinking on: a block of its own, whole and streamed; off: none."""
    asked = {"model": "m", "max_tokens": 64, "messages": MESSAGES[1:], "tools": TOOLS, "tool_choice": {"type": "any"}}
    asked |= GREEDY
    thinks = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    whole = client(function).messages.create(**asked, **thinks)
    same(whole.content[0].type, "thinking")
    kinds = []
    with client(function).messages.stream(**asked, **thinks) as stream:
        kinds = [event.type for event in stream]
        added = stream.get_final_message()
    same(added.content[0].thinking, whole.content[0].thinking)
    assert "thinking" in kinds, kinds
    turns = [*MESSAGES[1:], {"role": "assistant", "content": whole.content}, {"role": "user", "content": "Go on."}]
    assert client(function).messages.create(**asked | {"messages": turns}, **thinks).content
    quiet = asked | {"max_tokens": ROOM, "thinking": {"type": "disabled"}}
    quiet["tool_choice"] = {"type": "any", "disable_parallel_tool_use": True}
    silent = client(function).messages.create(**quiet)
    same([block.type for block in silent.content], ["tool_use"])


@check("anthropic", "anthropic", "chat")
def models_are_listed(function: Function) -> None:
    """By the pages that its client reads."""
    models = list(client(function).models.list())
    same([model.id for model in models], ["tiny/chat"])


@check("anthropic", "anthropic", "chat-keys")
def errors_have_their_classes(function: Function) -> None:
    """Keys in its own header, ranges, a context that is too small, what is not read."""
    with raises(anthropic.AuthenticationError, WRONG_KEY_MESSAGE, "authentication_error"):
        client(function, WRONG_KEY).messages.create(**ASKED)
    sdk = client(function, function.key)
    same(sdk.messages.create(**ASKED, **GREEDY).content[0].text, said(function))
    bearer = anthropic.Anthropic(base_url=function.url, auth_token=function.key, max_retries=0)
    same(bearer.messages.create(**ASKED, **GREEDY).content[0].text, said(function))
    for fields, words in (
        ({"extra_body": {"temperature": 7}}, "temperature"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "web_search"),
        ({"messages": [{"role": "user", "content": "frost " * 3000}]}, "2048"),
        ({"messages": []}, "messages"),
    ):
        for stream in (False, True):
            with raises(anthropic.BadRequestError, words, "invalid_request_error"):
                sdk.messages.create(**ASKED | fields, stream=stream)


@check("anthropic", "anthropic", "chat")
def a_client_that_goes_away_frees_its_place(function: Function) -> None:
    """A stream that is closed, one whose client waits no longer."""
    endless = ASKED | {"max_tokens": 1900, "extra_body": {"temperature": 0, "logit_bias": {}}}
    stream = client(function).messages.create(**endless, stream=True)
    next(iter(stream))
    stream.close()
    with raises(anthropic.APITimeoutError):
        client(function, timeout=1e-6).messages.create(**endless)
    chatting.is_free(function)
    same(client(function).messages.create(**ASKED, **GREEDY).content[0].text, said(function))


if __name__ == "__main__":
    main()
