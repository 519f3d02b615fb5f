"""pydantic-ai: agents over chat completions, responses and messages, with tools and structured output."""

from typing import Any

import chatting
from anthropic import AsyncAnthropic
from chatting import GREEDY, QUESTION, ROOM, TOKENS, Weather, said
from harness import WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, main, raises, same
from pydantic import BaseModel
from pydantic_ai import Agent, NativeOutput, PromptedOutput, RunContext, ToolOutput
from pydantic_ai.exceptions import ModelHTTPError
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

USER = [{"role": "user", "content": QUESTION}]


class Nothing(BaseModel):
    """An object without anything in it."""


def chat_model(function: Function, key: str = "any") -> OpenAIChatModel:
    """Of chat completions."""
    return OpenAIChatModel("m", provider=OpenAIProvider(base_url=f"{function.url}/v1", api_key=key))


def models(function: Function) -> list[Any]:
    """Of the three APIs."""
    provider = OpenAIProvider(base_url=f"{function.url}/v1", api_key="any")
    anthropic = AsyncAnthropic(base_url=function.url, api_key="any", max_retries=0)
    return [
        chat_model(function),
        OpenAIResponsesModel("m", provider=provider),
        AnthropicModel("claude-sonnet-4-5", provider=AnthropicProvider(anthropic_client=anthropic)),
    ]


@check("pydantic-ai", "pydantic-ai-slim", "chat")
async def an_agent_answers_over_three_apis(function: Function) -> None:
    """What a plain request is answered, with usage; streamed too."""
    expected = said(function, messages=USER)
    for model in models(function):
        agent = Agent(model, model_settings=GREEDY)
        result = await agent.run(QUESTION)
        same(result.output, expected)
        usage = result.usage
        same((usage.requests, usage.output_tokens), (1, TOKENS))
        assert usage.input_tokens > 0, usage
        async with agent.run_stream(QUESTION) as stream:
            pieces = [piece async for piece in stream.stream_text(delta=True, debounce_by=None)]
        same("".join(pieces), expected)
        assert len(pieces) > 3, "as it is made, not at once"


@check("pydantic-ai", "pydantic-ai-slim", "chat")
async def a_conversation_goes_on(function: Function) -> None:
    """The messages of the first run come before the second's."""
    agent = Agent(chat_model(function), model_settings=GREEDY)
    first = await agent.run(QUESTION)
    second = await agent.run("Go on.", message_history=first.all_messages())
    turns = [*USER, {"role": "assistant", "content": first.output}, {"role": "user", "content": "Go on."}]
    same(second.output, said(function, messages=turns))


@check("pydantic-ai", "pydantic-ai-slim", "chat-tools")
async def structured_output_in_three_ways(function: Function) -> None:
    """By a tool, by a schema, by words."""
    settings = {"temperature": 0, "max_tokens": ROOM}
    for model in models(function):
        for output in (ToolOutput(Weather), NativeOutput(Weather)):
            result = await Agent(model, output_type=output, model_settings=settings).run(QUESTION)
            assert isinstance(result.output, Weather), result
    # JSON mode knows no schema; here the shortest object is one.
    short = settings | {"logit_bias": {str(chatting.token(function, "}")): 100}}
    agent = Agent(chat_model(function), output_type=PromptedOutput(Nothing), model_settings=short)
    same((await agent.run(QUESTION)).output, Nothing())


@check("pydantic-ai", "pydantic-ai-slim", "chat-tools")
async def an_agent_calls_its_tool_and_hands_the_result_back(function: Function) -> None:
    """The model must call once; then it answers."""
    called: list[dict[str, Any]] = []
    bias = chatting.must_call(function)

    def settings(context: RunContext[None]) -> dict[str, Any]:
        begins = {"logit_bias": bias, "max_tokens": ROOM} if context.run_step <= 1 else {}
        return GREEDY | {"parallel_tool_calls": False} | begins

    agent = Agent(chat_model(function), model_settings=settings)

    @agent.tool_plain
    def weather(city: chatting.City, sunny: bool) -> str:
        """Tells the weather."""
        called.append({"city": city, "sunny": sunny})
        return "12 degrees"

    result = await agent.run(QUESTION)
    same(len(called), 1)
    assert called[0]["city"] in chatting.CITIES, called
    parts = [part.part_kind for message in result.all_messages() for part in message.parts]
    same(parts, ["user-prompt", "tool-call", "tool-return", "text"])
    assert result.output, result


@check("pydantic-ai", "pydantic-ai-slim", "chat-keys")
async def unknown_key(function: Function) -> None:
    """Its own exception, with the status and the server's words."""
    with raises(ModelHTTPError, "401", WRONG_KEY_MESSAGE):
        await Agent(chat_model(function, WRONG_KEY)).run(QUESTION)
    right = await Agent(chat_model(function, function.key), model_settings=GREEDY).run(QUESTION)
    same(right.output, said(function, messages=USER))


if __name__ == "__main__":
    main()
