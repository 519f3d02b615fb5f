"""LlamaIndex's OpenAILike: chat, complete, streams, tools, structured output."""

import chatting
import openai
from chatting import GREEDY, MESSAGES, QUESTION, ROOM, TOKENS, Weather, joined, said
from harness import WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, main, raises, same
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

TALK = [
    ChatMessage(role=MessageRole.SYSTEM, content=MESSAGES[0]["content"]),
    ChatMessage(role=MessageRole.USER, content=QUESTION),
]


def model(function: Function, key: str = "any", **options: object) -> OpenAILike:
    """As its users make it, but for the retries, which would hide errors."""
    options = {"is_chat_model": True, "is_function_calling_model": True, "max_retries": 0, **GREEDY} | options
    return OpenAILike(model="m", api_base=f"{function.url}/v1", api_key=key, context_window=2048, **options)


def tell(city: chatting.City, sunny: bool) -> str:
    """Tells the weather."""
    return f"12 degrees in {city}"


WEATHER = FunctionTool.from_defaults(tell, name="weather")


@check("llamaindex OpenAILike", "llama-index-llms-openai-like", "chat")
async def chat_and_streams(function: Function) -> None:
    """Whole, streamed, async."""
    llm = model(function)
    answer = llm.chat(TALK)
    same(answer.message.content, said(function))
    same(answer.raw.usage.completion_tokens, TOKENS)
    pieces = list(llm.stream_chat(TALK))
    same(joined(piece.delta for piece in pieces), said(function))
    same(pieces[-1].message.content, said(function))
    same((await llm.achat(TALK)).message.content, said(function))
    stream = await llm.astream_chat(TALK)
    same(joined([piece.delta async for piece in stream]), said(function))


@check("llamaindex OpenAILike", "llama-index-llms-openai-like", "chat")
async def complete_and_streams(function: Function) -> None:
    """As a chat with one message, and as a completion."""
    llm = model(function)
    same(llm.complete(QUESTION).text, said(function, messages=MESSAGES[1:]))
    plain = chatting.plain(function, "/v1/completions", prompt=QUESTION, **GREEDY)["choices"][0]["text"]
    continues = model(function, is_chat_model=False)
    same(continues.complete(QUESTION).text, plain)
    same(joined(piece.delta for piece in continues.stream_complete(QUESTION)), plain)
    same((await continues.acomplete(QUESTION)).text, plain)


@check("llamaindex OpenAILike", "llama-index-llms-openai-like", "chat-tools")
def tools_and_their_results(function: Function) -> None:
    """A call that must come, streamed too; its result goes back."""
    llm = model(function, max_tokens=ROOM)
    asked = {"user_msg": QUESTION, "tool_required": True, "allow_parallel_tool_calls": False}
    answer = llm.chat_with_tools([WEATHER], **asked)
    calls = llm.get_tool_calls_from_response(answer)
    same([call.tool_name for call in calls], ["weather"])
    assert calls[0].tool_kwargs["city"] in chatting.CITIES, calls
    last = list(llm.stream_chat_with_tools([WEATHER], **asked))[-1]
    same([call.tool_kwargs for call in llm.get_tool_calls_from_response(last)], [calls[0].tool_kwargs])
    output = WEATHER.call(**calls[0].tool_kwargs)
    result = ChatMessage(
        role=MessageRole.TOOL, content=output.content, additional_kwargs={"tool_call_id": calls[0].tool_id}
    )
    after = model(function).chat_with_tools([WEATHER], chat_history=[TALK[1], answer.message, result])
    assert after.message.content, after


@check("llamaindex OpenAILike", "llama-index-llms-openai-like", "chat-tools")
async def structured_output(function: Function) -> None:
    """By a tool, and by a schema."""
    for by_schema in (False, True):
        llm = model(function, max_tokens=ROOM, should_use_structured_outputs=by_schema).as_structured_llm(Weather)
        assert isinstance(llm.chat(TALK).raw, Weather)
        assert isinstance((await llm.acomplete(QUESTION)).raw, Weather)


@check("llamaindex OpenAILike", "llama-index-llms-openai-like", "chat-keys")
def unknown_key(function: Function) -> None:
    """The client's exception with the server's words."""
    with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
        model(function, WRONG_KEY).chat(TALK)
    same(model(function, function.key).chat(TALK).message.content, said(function))


if __name__ == "__main__":
    main()
