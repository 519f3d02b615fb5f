"""LiteLLM: chat over four of its routes, streams, tools, structured output, errors."""

import json

import chatting
import litellm
from chatting import GREEDY, MESSAGES, ROOM, TOKENS, TOOLS, Weather, adds_up, is_call, joined, said
from harness import CONCURRENCY, WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, gathered, main, raises, same

litellm.telemetry = False
litellm.suppress_debug_info = True
# Provider, and the path that its base has.
ROUTES = {"openai": "/v1", "hosted_vllm": "/v1", "anthropic": "", "llamafile": "/v1"}


def asked(function: Function, provider: str = "openai", key: str = "any", **options: object) -> dict[str, object]:
    """As its users ask, but for the retries, which would hide errors."""
    base = f"{function.url}{ROUTES[provider]}"
    model = "claude-3-7-sonnet-latest" if provider == "anthropic" else "m"
    fixed = {"model": f"{provider}/{model}", "api_base": base, "api_key": key, "max_retries": 0}
    return fixed | {"messages": MESSAGES, **GREEDY} | options


@check("litellm, four routes", "litellm", "chat")
def completion(function: Function) -> None:
    """Whole and streamed, usage adds up."""
    for provider in ROUTES:
        answer = litellm.completion(**asked(function, provider))
        same(answer.choices[0].message.content, said(function))
        same(answer.choices[0].finish_reason, "length")
        adds_up(answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens)
        same(answer.usage.completion_tokens, TOKENS)
        chunks = list(
            litellm.completion(**asked(function, provider), stream=True, stream_options={"include_usage": True})
        )
        same(joined(chunk.choices[0].delta.content for chunk in chunks if chunk.choices), said(function))
        same(
            [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason],
            ["length"],
        )
        same(litellm.stream_chunk_builder(chunks, messages=MESSAGES).usage.completion_tokens, TOKENS)


@check("litellm openai/", "litellm", "chat")
async def sixteen_async_completions_at_once(function: Function) -> None:
    """Each gets its own answer."""
    questions = [[{"role": "user", "content": f"{number}. What is defrost?"}] for number in range(CONCURRENCY)]
    expected = [said(function, messages=messages) for messages in questions]
    answers = await gathered(lambda number: litellm.acompletion(**asked(function, messages=questions[number])))
    same([answer.choices[0].message.content for answer in answers], expected)


@check("litellm openai/", "litellm", "chat")
def text_completion_and_responses(function: Function) -> None:
    """Its other two entrances."""
    plain = chatting.plain(function, "/v1/completions", prompt="defrost serves", **GREEDY)["choices"][0]["text"]
    base = {"api_base": f"{function.url}/v1", "api_key": "any"}
    text = litellm.text_completion(model="text-completion-openai/m", prompt="defrost serves", **base, **GREEDY)
    same(text.choices[0].text, plain)
    response = litellm.responses(model="openai/m", input=MESSAGES, temperature=0, max_output_tokens=TOKENS, **base)
    same(response.output[0].content[0].text, said(function))


@check("litellm, four routes", "litellm", "chat-tools")
def tools(function: Function) -> None:
    """A call that must come, whole and streamed; its result goes back."""
    for provider in ROUTES:
        parallel = {} if provider == "anthropic" else {"parallel_tool_calls": False}
        forced = asked(function, provider, tools=TOOLS, tool_choice="required", max_tokens=ROOM, **parallel)
        if provider == "anthropic":
            forced["tool_choice"] = {"type": "function", "function": {"name": "weather"}}
        answer = litellm.completion(**forced)
        same(answer.choices[0].finish_reason, "tool_calls")
        message = answer.choices[0].message
        is_call(message.tool_calls[0].function.name, message.tool_calls[0].function.arguments)
        added = litellm.stream_chunk_builder(list(litellm.completion(**forced, stream=True)))
        found = added.choices[0].message.tool_calls[0].function
        same(
            (found.name, json.loads(found.arguments)),
            (message.tool_calls[0].function.name, json.loads(message.tool_calls[0].function.arguments)),
        )
        result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12 degrees"}
        turns = [*MESSAGES, message.model_dump(), result]
        after = litellm.completion(**asked(function, provider, messages=turns, tools=TOOLS))
        assert after.choices[0].finish_reason in ("stop", "length"), after
        assert after.usage.prompt_tokens > answer.usage.prompt_tokens, after


@check("litellm openai/", "litellm", "chat-tools")
def structured_output(function: Function) -> None:
    """A class of pydantic as the form of the answer."""
    for provider in ("openai", "hosted_vllm"):
        answer = litellm.completion(**asked(function, provider, response_format=Weather, max_tokens=ROOM))
        Weather.model_validate_json(answer.choices[0].message.content)


@check("litellm openai/", "litellm", "chat-keys")
def errors_have_their_classes(function: Function) -> None:
    """Keys, a context that is too small, a number out of its range."""
    for provider in ROUTES:
        with raises(litellm.AuthenticationError, WRONG_KEY_MESSAGE):
            litellm.completion(**asked(function, provider, WRONG_KEY))
    long = [{"role": "user", "content": "frost " * 3000}]
    with raises(litellm.ContextWindowExceededError, "maximum context length is"):
        litellm.completion(**asked(function, key=function.key, messages=long))
    with raises(litellm.BadRequestError, "temperature"):
        litellm.completion(**asked(function, key=function.key, temperature=3))
    right = litellm.completion(**asked(function, key=function.key))
    same(right.choices[0].message.content, said(function))


if __name__ == "__main__":
    main()
