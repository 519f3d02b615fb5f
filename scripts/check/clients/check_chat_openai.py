"""OpenAI's own client: chat completions and completions, whole and streamed, sync and async."""

import json
import math

import chatting
import openai
from chatting import GREEDY, MESSAGES, QUESTION, ROOM, TOKENS, TOOLS, Weather, adds_up, is_call, joined, said
from harness import CONCURRENCY, WRONG_KEY, WRONG_KEY_MESSAGE, Function, check, gathered, main, raises, same


def client(function: Function, key: str = "any", **options: object) -> openai.OpenAI:
    """As its users make it, but for the retries, which would hide errors."""
    return openai.OpenAI(base_url=f"{function.url}/v1", api_key=key, **{"max_retries": 0} | options)


def async_client(function: Function) -> openai.AsyncOpenAI:
    """The other one."""
    return openai.AsyncOpenAI(base_url=f"{function.url}/v1", api_key="any", max_retries=0)


def usage_adds_up(usage: object) -> None:
    """Prompt and completion are the total."""
    adds_up(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)


@check("openai chat", "openai", "chat")
def a_chat_is_what_a_plain_request_is_answered(function: Function) -> None:
    """Text, reason, usage, names."""
    answer = client(function).chat.completions.create(model="any-model", messages=MESSAGES, **GREEDY)
    choice = answer.choices[0]
    same(choice.message.content, said(function))
    same((choice.index, choice.message.role, choice.finish_reason), (0, "assistant", "length"))
    same((choice.message.refusal, choice.message.tool_calls, choice.logprobs), (None, None, None))
    same((answer.object, answer.id[:9], answer.model), ("chat.completion", "chatcmpl-", "tiny/chat"))
    usage_adds_up(answer.usage)
    same(answer.usage.completion_tokens, TOKENS)
    assert answer.system_fingerprint, answer


@check("openai chat", "openai", "chat")
def a_stream_is_the_whole_answer_in_pieces(function: Function) -> None:
    """Role first, reason last, no usage unless it is asked for."""
    chunks = list(client(function).chat.completions.create(model="m", messages=MESSAGES, stream=True, **GREEDY))
    same(joined(chunk.choices[0].delta.content for chunk in chunks), said(function))
    same([chunk.choices[0].delta.role for chunk in chunks if chunk.choices[0].delta.role], ["assistant"])
    same(chunks[0].choices[0].delta.role, "assistant")
    same([chunk.choices[0].finish_reason for chunk in chunks], [None] * (len(chunks) - 1) + ["length"])
    assert all(chunk.usage is None for chunk in chunks), chunks
    same(len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}), 1)
    assert len(chunks) > 5, "as it is made, not at once"


@check("openai chat", "openai", "chat")
def a_stream_with_usage(function: Function) -> None:
    """A last chunk without choices has it."""
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(client(function).chat.completions.create(model="m", messages=MESSAGES, **asked, **GREEDY))
    same([len(chunk.choices) for chunk in chunks], [1] * (len(chunks) - 1) + [0])
    same([chunk.usage is not None for chunk in chunks], [False] * (len(chunks) - 1) + [True])
    usage_adds_up(chunks[-1].usage)
    same(chunks[-1].usage.completion_tokens, TOKENS)


@check("openai chat", "openai", "chat")
async def sixteen_async_chats_and_streams_at_once(function: Function) -> None:
    """Each gets its own answer."""
    sdk = async_client(function)
    questions = [[{"role": "user", "content": f"{number}. {QUESTION}"}] for number in range(CONCURRENCY)]
    expected = [said(function, messages=messages) for messages in questions]

    async def ask(number: int) -> str:
        asked = {"model": "m", "messages": questions[number], **GREEDY}
        if number % 2:
            return (await sdk.chat.completions.create(**asked)).choices[0].message.content
        stream = await sdk.chat.completions.create(**asked, stream=True)
        return joined([chunk.choices[0].delta.content async for chunk in stream])

    same(await gathered(ask), expected)


@check("openai chat", "openai", "chat")
def roles_and_contents_of_every_form(function: Function) -> None:
    """`developer` is `system`, a list of parts is its text, names and nulls change nothing."""
    create = client(function).chat.completions.create
    user = MESSAGES[1]["content"]
    parts = [{"type": "text", "text": user}]
    for messages in (
        [MESSAGES[0] | {"role": "developer"}, MESSAGES[1]],
        [MESSAGES[0], {"role": "user", "content": parts}],
        [MESSAGES[0], {"role": "user", "content": user, "name": "ann"}],
    ):
        answer = create(model="m", messages=messages, **GREEDY)
        same(answer.choices[0].message.content, said(function))
    turns = [*MESSAGES, {"role": "assistant", "content": "A tool."}, {"role": "user", "content": "Go on."}]
    answer = create(model="m", messages=turns, **GREEDY)
    same(answer.choices[0].message.content, said(function, messages=turns))


@check("openai chat", "openai", "chat")
def fields_that_change_nothing_are_taken(function: Function) -> None:
    """What clients and frameworks send along."""
    answer = client(function).chat.completions.create(
        model="m",
        messages=MESSAGES,
        temperature=0,
        max_completion_tokens=TOKENS,
        store=True,
        metadata={"trace": "1"},
        user="ann",
        safety_identifier="a",
        prompt_cache_key="b",
        service_tier="auto",
        parallel_tool_calls=True,
        frequency_penalty=0,
        presence_penalty=0,
        top_p=1,
        n=1,
        seed=7,
        logit_bias={},
        response_format={"type": "text"},
        reasoning_effort="low",
        modalities=["text"],
        tools=[],
        extra_headers={"OpenAI-Organization": "org"},
    )
    same(answer.choices[0].message.content, said(function))


@check("openai chat", "openai", "chat")
def a_stop_text_ends_the_answer_and_is_no_part_of_it(function: Function) -> None:
    """Whole and streamed."""
    text = said(function)
    stop = text[len(text) // 2 : len(text) // 2 + 3]
    before = text[: text.index(stop)]
    asked = {"model": "m", "messages": MESSAGES, "stop": [stop, "never said"], **GREEDY}
    whole = client(function).chat.completions.create(**asked)
    same((whole.choices[0].message.content, whole.choices[0].finish_reason), (before, "stop"))
    chunks = list(client(function).chat.completions.create(**asked, stream=True))
    same(joined(chunk.choices[0].delta.content for chunk in chunks), before)
    same(chunks[-1].choices[0].finish_reason, "stop")


@check("openai chat", "openai", "chat")
def log_probabilities(function: Function) -> None:
    """One for each token, whose texts are the answer; the likeliest is the one that was taken."""
    asked = {"model": "m", "messages": MESSAGES, "logprobs": True, "top_logprobs": 3, **GREEDY}
    answer = client(function).chat.completions.create(**asked)
    tokens = answer.choices[0].logprobs.content
    same(len(tokens), TOKENS)
    same(b"".join(bytes(one.bytes) for one in tokens).decode(), answer.choices[0].message.content)
    for one in tokens:
        same(len(one.top_logprobs), 3)
        same((one.top_logprobs[0].token, one.top_logprobs[0].logprob), (one.token, one.logprob))
        assert sum(math.exp(top.logprob) for top in one.top_logprobs) < 1 + 1e-4, one
    streamed = client(function).chat.completions.create(**asked, stream=True)
    parts = [chunk.choices[0].logprobs for chunk in streamed]
    added = [one for part in parts if part for one in part.content or []]
    same(added, tokens)


@check("openai chat", "openai", "chat")
def several_choices(function: Function) -> None:
    """The same seed, the same answers; usage counts all of them; streams tell them apart."""
    asked = {"model": "m", "messages": MESSAGES, "n": 3, "seed": 5, "temperature": 1.5, "max_tokens": TOKENS}
    whole = client(function).chat.completions.create(**asked)
    same([choice.index for choice in whole.choices], [0, 1, 2])
    texts = [choice.message.content for choice in whole.choices]
    assert len(set(texts)) > 1, texts
    usage_adds_up(whole.usage)
    if all(choice.finish_reason == "length" for choice in whole.choices):
        same(whole.usage.completion_tokens, 3 * TOKENS)
    pieces = ["", "", ""]
    for chunk in client(function).chat.completions.create(**asked, stream=True):
        for choice in chunk.choices:
            pieces[choice.index] += choice.delta.content or ""
    same(pieces, texts)


@check("openai chat", "openai", "chat-tools")
def json_objects(function: Function) -> None:
    """An object whatever the weights; here the shortest."""
    bias = {str(chatting.token(function, "}")): 100}
    answer = client(function).chat.completions.create(
        model="m", messages=MESSAGES, response_format={"type": "json_object"}, logit_bias=bias, **GREEDY
    )
    same((json.loads(answer.choices[0].message.content), answer.choices[0].finish_reason), ({}, "stop"))


@check("openai chat", "openai", "chat-tools")
def parse_gives_objects_of_pydantic(function: Function) -> None:
    """Strict schemas, whole and streamed, at every temperature."""
    for seed in range(4):
        asked = {"model": "m", "messages": MESSAGES, "response_format": Weather, "seed": seed, "max_tokens": ROOM}
        whole = client(function).chat.completions.parse(**asked, temperature=1)
        assert isinstance(whole.choices[0].message.parsed, Weather), whole
        same(whole.choices[0].finish_reason, "stop")
        usage_adds_up(whole.usage)
        with client(function).chat.completions.stream(**asked, temperature=1) as stream:
            kinds = {event.type for event in stream}
            added = stream.get_final_completion()
        same(added.choices[0].message.parsed, whole.choices[0].message.parsed)
        assert {"chunk", "content.delta", "content.done"} <= kinds, kinds


def calls_are_whole(choice: object, most: int = 99) -> list[str]:
    """Each call is of a tool, with arguments as its schema wants them; their names."""
    same(choice.finish_reason, "tool_calls")
    calls = choice.message.tool_calls
    assert 1 <= len(calls) <= most, calls
    same(len({call.id for call in calls}), len(calls))
    for call in calls:
        same(call.type, "function")
        is_call(call.function.name, call.function.arguments)
    return [call.function.name for call in calls]


@check("openai chat", "openai", "chat-tools")
def tools_that_must_be_called(function: Function) -> None:
    """Any of them; the named one; one at a time."""
    create = client(function).chat.completions.create
    asked = {"model": "m", "messages": MESSAGES, "tools": TOOLS, "max_tokens": ROOM, "temperature": 1}
    for seed in range(3):
        one = create(**asked, seed=seed, tool_choice="required", parallel_tool_calls=False)
        calls_are_whole(one.choices[0], most=1)
        same(one.choices[0].message.content, None)
        usage_adds_up(one.usage)
        for name in ("weather", "time"):
            named = {"type": "function", "function": {"name": name}}
            same(set(calls_are_whole(create(**asked, seed=seed, tool_choice=named).choices[0], most=1)), {name})


@check("openai chat", "openai", "chat-tools")
def tools_that_may_be_called(function: Function) -> None:
    """A call that the model begins by itself is a call; `none` leaves text."""
    create = client(function).chat.completions.create
    asked = {"model": "m", "messages": MESSAGES, "tools": TOOLS, "logit_bias": chatting.must_call(function)}
    called = create(**asked, max_tokens=ROOM, temperature=0, parallel_tool_calls=False)
    calls_are_whole(called.choices[0], most=1)
    text = create(model="m", messages=MESSAGES, tools=TOOLS, tool_choice="none", **GREEDY)
    same(text.choices[0].message.tool_calls, None)
    same(text.choices[0].message.content, said(function))
    auto = create(model="m", messages=MESSAGES, tools=TOOLS, tool_choice="auto", **GREEDY)
    assert auto.choices[0].message.content, auto


@check("openai chat", "openai", "chat-tools")
def several_calls_at_once(function: Function) -> None:
    """The model goes on calling until its room is used up; what is whole is right."""
    bias = chatting.must_call(function)
    answer = client(function).chat.completions.create(
        model="m", messages=MESSAGES, tools=TOOLS, logit_bias=bias, max_tokens=ROOM, temperature=0
    )
    calls = answer.choices[0].message.tool_calls
    assert len(calls) > 1, calls
    for call in calls[:-1]:
        is_call(call.function.name, call.function.arguments)


@check("openai chat", "openai", "chat-tools")
def calls_in_streams_add_up(function: Function) -> None:
    """Name and id come with the first piece, arguments in pieces; the client's helper makes the whole of them."""
    asked = {"model": "m", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required", "max_tokens": ROOM}
    asked |= {"temperature": 1, "seed": 3, "parallel_tool_calls": False}
    whole = client(function).chat.completions.create(**asked).choices[0].message.tool_calls[0].function
    chunks = list(client(function).chat.completions.create(**asked, stream=True))
    deltas = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    same((deltas[0].index, deltas[0].type, deltas[0].function.name), (0, "function", whole.name))
    assert deltas[0].id and all(delta.id is None and delta.function.name is None for delta in deltas[1:]), deltas
    same(joined(delta.function.arguments for delta in deltas), whole.arguments)
    same(chunks[-1].choices[0].finish_reason, "tool_calls")
    with client(function).chat.completions.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        added = stream.get_final_completion().choices[0]
    same(added.message.tool_calls[0].function.arguments, whole.arguments)
    calls_are_whole(added, most=1)
    assert "tool_calls.function.arguments.done" in kinds, kinds


@check("openai chat", "openai", "chat-tools")
def strict_tools_through_parse(function: Function) -> None:
    """pydantic's classes as tools: arguments come parsed."""
    answer = client(function).chat.completions.parse(
        model="m",
        messages=MESSAGES,
        tools=[openai.pydantic_function_tool(Weather, name="weather")],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=ROOM,
        seed=1,
    )
    parsed = answer.choices[0].message.tool_calls[0].function.parsed_arguments
    assert isinstance(parsed, Weather), answer


@check("openai chat", "openai", "chat-tools")
def results_go_back_to_the_model(function: Function) -> None:
    """The message with the calls as the client has it, then their results; the template shows both."""
    create = client(function).chat.completions.create
    asked = {"model": "m", "messages": MESSAGES, "tools": TOOLS, "tool_choice": "required", "max_tokens": ROOM}
    message = create(**asked, seed=2, parallel_tool_calls=False).choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "12 degrees"}
    turns = [*MESSAGES, message, result]
    answer = create(model="m", messages=turns, tools=TOOLS, **GREEDY)
    assert answer.choices[0].message.content, answer
    plain_turns = [*MESSAGES, message.model_dump(), result]
    prompt = chatting.plain(function, "/apply-template", messages=plain_turns, tools=TOOLS)["prompt"]
    assert "<tool_response>\n12 degrees\n</tool_response>" in prompt, prompt
    assert message.tool_calls[0].function.name in prompt, prompt
    parts = [*MESSAGES, message, result | {"content": [{"type": "text", "text": "12 degrees"}]}]
    same(
        create(model="m", messages=parts, tools=TOOLS, **GREEDY).choices[0].message.content,
        answer.choices[0].message.content,
    )


@check("openai chat", "openai", "chat-thinks")
def thoughts_come_apart(function: Function) -> None:
    """In `reasoning_content`, whole and streamed; without them if the template is told so."""
    create = client(function).chat.completions.create
    asked = {"model": "m", "messages": MESSAGES, "logit_bias": chatting.must_think(function), **GREEDY}
    answer = create(**asked)
    message = answer.choices[0].message
    assert message.reasoning_content and not message.content, message
    assert answer.usage.completion_tokens_details.reasoning_tokens > 0, answer.usage
    deltas = [chunk.choices[0].delta for chunk in create(**asked, stream=True)]
    same(joined(getattr(delta, "reasoning_content", None) for delta in deltas), message.reasoning_content)
    assert not joined(delta.content for delta in deltas), deltas
    inline = create(**asked, extra_body={"reasoning_format": "none"}).choices[0].message
    assert inline.content.startswith("<think>"), inline
    parsed = client(function).chat.completions.parse(
        model="m",
        messages=MESSAGES,
        response_format=Weather,
        max_tokens=ROOM,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    assert isinstance(parsed.choices[0].message.parsed, Weather), parsed


@check("openai completions", "openai", "chat")
def completions_with_echo_and_log_probabilities(function: Function) -> None:
    """The prompt and what continues it, whose log probabilities are those of its tokens."""
    create = client(function).completions.create
    prompt = "defrost serves"
    plain = create(model="m", prompt=prompt, temperature=0, max_tokens=8)
    same((plain.object, plain.choices[0].finish_reason), ("text_completion", "length"))
    usage_adds_up(plain.usage)
    same(plain.usage.completion_tokens, 8)
    echoed = create(model="m", prompt=prompt, temperature=0, max_tokens=8, echo=True, logprobs=2)
    same(echoed.choices[0].text, prompt + plain.choices[0].text)
    logprobs = echoed.choices[0].logprobs
    same(joined(logprobs.tokens), echoed.choices[0].text)
    same(len(logprobs.token_logprobs), len(logprobs.tokens))
    same(logprobs.token_logprobs[0], None)
    same(logprobs.text_offset[:1], [0])
    scored = create(model="m", prompt=prompt, max_tokens=0, echo=True, logprobs=1)
    same(scored.choices[0].text, prompt)
    same(scored.usage.completion_tokens, 0)


@check("openai completions", "openai", "chat")
def completions_of_several_prompts_token_ids_and_streams(function: Function) -> None:
    """A list of texts, ids, a stream."""
    create = client(function).completions.create
    prompts = ["defrost serves", "A snapshot"]
    each = [create(model="m", prompt=prompt, **GREEDY).choices[0].text for prompt in prompts]
    both = create(model="m", prompt=prompts, **GREEDY)
    same([(choice.index, choice.text) for choice in both.choices], list(enumerate(each)))
    same(both.usage.completion_tokens, 2 * TOKENS)
    ids = chatting.plain(function, "/tokenize", content=prompts[0])["tokens"]
    same(create(model="m", prompt=ids, **GREEDY).choices[0].text, each[0])
    pieces = ["", ""]
    for chunk in create(model="m", prompt=prompts, stream=True, stream_options={"include_usage": True}, **GREEDY):
        for choice in chunk.choices:
            pieces[choice.index] += choice.text
        usage = chunk.usage
    same(pieces, each)
    usage_adds_up(usage)


@check("openai chat", "openai", "chat")
def models_are_listed(function: Function) -> None:
    """The one model, by list and by name."""
    models = client(function).models.list().data
    same([(model.id, model.object) for model in models], [("tiny/chat", "model")])
    assert models[0].created > 0, models
    same(client(function).models.retrieve("tiny/chat").id, "tiny/chat")


@check("openai chat", "openai", "chat")
def errors_have_their_classes_codes_and_fields(function: Function) -> None:
    """Before the first byte, of streams too."""
    create = client(function).chat.completions.create
    for fields, param, words in (
        ({"temperature": 3}, "temperature", "temperature"),
        ({"stream": True, "top_p": 2}, "top_p", "top_p"),
        ({"n": 11}, "n", "n"),
        ({"tool_choice": "required"}, "tool_choice", "send tools"),
        ({"response_format": {"type": "xml"}}, "response_format", "response_format"),
        ({"extra_body": {"mirostat": 2}}, "mirostat", "mirostat is not honoured here"),
    ):
        with raises(openai.BadRequestError, words) as caught:
            create(model="m", messages=MESSAGES, **fields)
        assert (caught[0].param or "").startswith(param), (param, caught[0].param)
        same(caught[0].type, "invalid_request_error")
    with raises(openai.BadRequestError, "maximum context length is 2048 tokens") as caught:
        create(model="m", messages=[{"role": "user", "content": "frost " * 3000}])
    same(caught[0].code, "context_length_exceeded")
    with raises(openai.BadRequestError, "messages"):
        create(model="m", messages=[])
    with raises(openai.NotFoundError, "/v1/nothing"):
        client(function).post("/nothing", cast_to=object, body={})
    image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]
    with raises(openai.BadRequestError, "image_url"):
        create(model="m", messages=[{"role": "user", "content": image}])


@check("openai chat", "openai", "chat-keys")
def unknown_key_and_right_key(function: Function) -> None:
    """Of whole answers and of streams."""
    for stream in (False, True):
        with raises(openai.AuthenticationError, WRONG_KEY_MESSAGE):
            client(function, WRONG_KEY).chat.completions.create(model="m", messages=MESSAGES, stream=stream)
    right = client(function, function.key).chat.completions.create(model="m", messages=MESSAGES, **GREEDY)
    same(right.choices[0].message.content, said(function))


@check("openai chat", "openai", "chat")
def a_client_that_goes_away_frees_its_place(function: Function) -> None:
    """A stream that is closed, one whose client waits no longer, and the next answer is right."""
    endless = {"model": "m", "messages": MESSAGES, "extra_body": {"ignore_eos": True}}
    stream = client(function).chat.completions.create(**endless, stream=True)
    next(iter(stream))
    stream.close()
    with raises(openai.APITimeoutError):
        client(function, timeout=1e-6).chat.completions.create(**endless)
    chatting.is_free(function)
    answer = client(function).chat.completions.create(model="m", messages=MESSAGES, **GREEDY)
    same(answer.choices[0].message.content, said(function))


if __name__ == "__main__":
    main()
