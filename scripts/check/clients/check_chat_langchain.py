"""LangChain's ChatOpenAI: invoke, stream, tools, structured output."""

import asyncio

import chatting
import openai
from chatting import GREEDY, MESSAGES, QUESTION, ROOM, TOKENS, TOOLS, Weather, adds_up, is_call, joined, said
from harness import CONCURRENCY, WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, main, raises, same
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

TALK = [SystemMessage(MESSAGES[0]["content"]), HumanMessage(QUESTION)]


def model(function: Function, key: str = "any", **options: object) -> ChatOpenAI:
    """As its users make it, but for the retries, which would hide errors."""
    options = {"max_retries": 0, **GREEDY} | options
    return ChatOpenAI(model="m", base_url=f"{function.url}/v1", api_key=key, **options)


@tool
def weather(city: chatting.City, sunny: bool) -> str:
    """Tells the weather."""
    return f"12 degrees in {city}"


@check("langchain ChatOpenAI", "langchain-openai", "chat")
def invoke(function: Function) -> None:
    """Text, reason, usage."""
    answer = model(function).invoke(TALK)
    same(answer.content, said(function))
    same(answer.response_metadata["finish_reason"], "length")
    usage = answer.usage_metadata
    adds_up(usage["input_tokens"], usage["output_tokens"], usage["total_tokens"])
    same(usage["output_tokens"], TOKENS)
    same(model(function).invoke(QUESTION).content, said(function, messages=MESSAGES[1:]))
    parts = HumanMessage([{"type": "text", "text": QUESTION}])
    same(model(function).invoke([TALK[0], parts]).content, said(function))


@check("langchain ChatOpenAI", "langchain-openai", "chat")
def stream(function: Function) -> None:
    """Pieces that add up to the whole answer, with usage at the end."""
    pieces = list(model(function, stream_usage=True).stream(TALK))
    same(joined(piece.content for piece in pieces), said(function))
    added = pieces[0]
    for piece in pieces[1:]:
        added += piece
    assert isinstance(added, AIMessageChunk), added
    same(added.usage_metadata["output_tokens"], TOKENS)
    same(added.response_metadata["finish_reason"], "length")


@check("langchain ChatOpenAI", "langchain-openai", "chat")
async def astream_and_batches(function: Function) -> None:
    """All that is asynchronous in one event loop: the client keeps its connections; sixteen at once."""
    same(joined([piece.content async for piece in model(function).astream(TALK)]), said(function))
    questions = [f"{number}. {QUESTION}" for number in range(CONCURRENCY)]
    expected = [said(function, messages=[{"role": "user", "content": text}]) for text in questions]
    answers = await model(function).abatch(questions)
    same([answer.content for answer in answers], expected)
    same([answer.content for answer in await asyncio.to_thread(model(function).batch, questions)], expected)


@check("langchain ChatOpenAI", "langchain-openai", "chat")
def responses(function: Function) -> None:
    """The same through /v1/responses, streamed too."""
    talks = model(function, use_responses_api=True)
    answer = talks.invoke(TALK)
    same(answer.text if isinstance(answer.text, str) else answer.text(), said(function))
    same(answer.usage_metadata["output_tokens"], TOKENS)
    pieces = [piece.text if isinstance(piece.text, str) else piece.text() for piece in talks.stream(TALK)]
    same("".join(pieces), said(function))


@check("langchain ChatOpenAI", "langchain-openai", "chat")
def log_probabilities_stop_and_seed(function: Function) -> None:
    """Through its own names for them."""
    text = said(function)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    same(model(function).invoke(TALK, stop=[stop]).content, text[: text.index(stop)])
    logprobs = model(function, logprobs=True, top_logprobs=2).invoke(TALK).response_metadata["logprobs"]["content"]
    same(joined(one["token"] for one in logprobs), text)
    seeded = model(function, temperature=1.5, seed=9)
    same(seeded.invoke(TALK).content, seeded.invoke(TALK).content)


@check("langchain ChatOpenAI", "langchain-openai", "chat-tools")
def bind_tools(function: Function) -> None:
    """A call that must come, whole and in pieces; its result goes back."""
    room = model(function, max_tokens=ROOM)
    forced = room.bind_tools(TOOLS, tool_choice="any", parallel_tool_calls=False)
    answer = forced.invoke(TALK)
    same((len(answer.tool_calls), answer.invalid_tool_calls), (1, []))
    is_call(answer.tool_calls[0]["name"], answer.tool_calls[0]["args"])
    same(answer.response_metadata["finish_reason"], "tool_calls")
    pieces = list(forced.stream(TALK))
    added = pieces[0]
    for piece in pieces[1:]:
        added += piece
    same(
        [(call["name"], call["args"]) for call in added.tool_calls],
        [(call["name"], call["args"]) for call in answer.tool_calls],
    )
    named = room.bind_tools([weather], tool_choice="weather").invoke(TALK)
    call = named.tool_calls[0]
    same(call["name"], "weather")
    result = weather.invoke(call)
    assert isinstance(result, ToolMessage) and "degrees in" in result.content, result
    after = model(function).bind_tools([weather]).invoke([*TALK, named, result])
    assert isinstance(after, AIMessage) and after.content, after


@check("langchain ChatOpenAI", "langchain-openai", "chat-tools")
async def with_structured_output_in_all_three_methods(function: Function) -> None:
    """A tool, a schema, JSON mode; with the raw message beside it, and streamed."""
    room = model(function, max_tokens=ROOM)
    for method in ("function_calling", "json_schema"):
        found = room.with_structured_output(Weather, method=method).invoke(TALK)
        assert isinstance(found, Weather), found
        raw = await room.with_structured_output(Weather, method=method, include_raw=True, strict=True).ainvoke(TALK)
        same((raw["parsed"], raw["parsing_error"]), (found, None))
        same(list(room.with_structured_output(Weather, method=method).stream(TALK))[-1], found)
    by_dict = room.with_structured_output(chatting.WEATHER_SCHEMA | {"title": "weather"}, method="json_schema").invoke(
        TALK
    )
    chatting.is_weather(by_dict)
    bias = {str(chatting.token(function, "}")): 100}
    same(model(function, logit_bias=bias).with_structured_output(None, method="json_mode").invoke(TALK), {})


@check("langchain ChatOpenAI", "langchain-openai", "chat-keys")
def unknown_key_and_bad_request(function: Function) -> None:
    """The client's exceptions with the server's words."""
    with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
        model(function, WRONG_KEY).invoke(TALK)
    with raises(openai.BadRequestError, "maximum context length is"):
        model(function, function.key).invoke("frost " * 3000)
    same(model(function, function.key).invoke(TALK).content, said(function))


if __name__ == "__main__":
    main()
