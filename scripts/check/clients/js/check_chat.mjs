// Chat: the AI SDK through its OpenAI-compatible provider, and OpenAI's client. ../chatting.py says which models
// answer.

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from "ai";
import OpenAI from "openai";
import { WRONG_KEY, WRONG_KEY_MESSAGE, check, main, raises, same, together } from "./harness.mjs";

const QUESTION = "What is defrost?";
const SYSTEM = "You answer in short sentences.";
const MESSAGES = [{ role: "system", content: SYSTEM }, { role: "user", content: QUESTION }];
const TOKENS = 24;
const ROOM = 600;
const CITIES = ["Bern", "Oslo"];
const WEATHER = {
  type: "object",
  properties: { city: { type: "string", enum: CITIES }, sunny: { type: "boolean" } },
  required: ["city", "sunny"],
  additionalProperties: false,
};

const model = (server, apiKey = "any", options = {}) =>
  createOpenAICompatible({
    name: "defrost", baseURL: `${server.url}/v1`, apiKey, includeUsage: true, supportsStructuredOutputs: true, ...options,
  }).chatModel("m");
const openai = (server, apiKey = "any") => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
const greedy = { temperature: 0, maxOutputTokens: TOKENS, maxRetries: 0 };
const roomy = { ...greedy, maxOutputTokens: ROOM };
const said = async (server, messages = MESSAGES) => {
  const answer = await server.plain("/v1/chat/completions", { messages, temperature: 0, max_tokens: TOKENS });
  return answer.choices[0].message.content;
};
const addsUp = (usage) => {
  same(usage.outputTokens, TOKENS);
  same(usage.totalTokens, usage.inputTokens + usage.outputTokens);
};
const isWeather = (found) => {
  if (!CITIES.includes(found.city) || typeof found.sunny !== "boolean") throw new Error(JSON.stringify(found));
};
const weather = (called) =>
  tool({
    description: "Tells the weather.",
    inputSchema: jsonSchema(WEATHER),
    execute: async (input) => {
      called.push(input);
      return "12 degrees";
    },
  });

check("ai", "chat", "generateText", async (server) => {
  const answer = await generateText({ ...greedy, model: model(server), system: SYSTEM, prompt: QUESTION });
  same([answer.text, answer.finishReason], [await said(server), "length"]);
  addsUp(answer.usage);
});

check("ai", "chat", "streamText", async (server) => {
  const answer = streamText({ ...greedy, model: model(server), system: SYSTEM, prompt: QUESTION });
  const pieces = [];
  for await (const piece of answer.textStream) pieces.push(piece);
  same(pieces.join(""), await said(server));
  if (pieces.length < 5) throw new Error("as it is made, not at once");
  same(await answer.finishReason, "length");
  addsUp(await answer.usage);
});

check("ai", "chat", "sixteen at once", async (server) => {
  const prompt = (number) => `${number}. ${QUESTION}`;
  const answers = await together((number) => generateText({ ...greedy, model: model(server), prompt: prompt(number) }));
  const expected = await together((number) => said(server, [{ role: "user", content: prompt(number) }]));
  same(answers.map((answer) => answer.text), expected);
});

check("ai", "chat-tools", "generateObject and streamObject", async (server) => {
  const asked = { ...roomy, model: model(server), schema: jsonSchema(WEATHER), prompt: QUESTION };
  const whole = await generateObject(asked);
  isWeather(whole.object);
  same(whole.finishReason, "stop");
  const streamed = streamObject(asked);
  let last;
  for await (const partial of streamed.partialObjectStream) last = partial;
  same([last, await streamed.object], [whole.object, whole.object]);
  const chosen = await generateObject({ ...roomy, model: model(server), output: "enum", enum: CITIES, prompt: QUESTION });
  if (!CITIES.includes(chosen.object)) throw new Error(chosen.object);
});

check("ai", "chat-tools", "output of generateText", async (server) => {
  const output = Output.object({ schema: jsonSchema(WEATHER) });
  isWeather((await generateText({ ...roomy, model: model(server), output, prompt: QUESTION })).output);
});

check("ai", "chat-tools", "tools, whole and streamed", async (server) => {
  const called = [];
  const asked = { ...roomy, model: model(server), tools: { weather: weather(called) }, toolChoice: "required", prompt: QUESTION };
  asked.providerOptions = { defrost: { parallel_tool_calls: false } };
  const whole = await generateText(asked);
  same([whole.finishReason, whole.toolCalls.length, whole.toolResults[0].output], ["tool-calls", 1, "12 degrees"]);
  isWeather(whole.toolCalls[0].input);
  const streamed = streamText(asked);
  const kinds = [];
  for await (const part of streamed.fullStream) kinds.push(part.type);
  same((await streamed.toolCalls).map((call) => call.input), whole.toolCalls.map((call) => call.input));
  same(await streamed.finishReason, "tool-calls");
  for (const kind of ["tool-input-start", "tool-input-delta", "tool-call", "tool-result"]) {
    if (!kinds.includes(kind)) throw new Error(`${kind} is not among ${kinds}`);
  }
  same(called.length, 2);
});

check("ai", "chat-tools", "a tool's result goes back to the model", async (server) => {
  const called = [];
  const answer = await generateText({
    ...roomy,
    model: model(server),
    tools: { weather: weather(called) },
    prompt: QUESTION,
    stopWhen: stepCountIs(2),
    providerOptions: { defrost: { parallel_tool_calls: false } },
    prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
  });
  same([answer.steps.length, called.length, answer.steps[0].finishReason], [2, 1, "tool-calls"]);
  if (!["stop", "length"].includes(answer.finishReason)) throw new Error(answer.finishReason);
});

check("ai", "chat-thinks", "thoughts come apart", async (server) => {
  const { tokens } = await server.plain("/tokenize", { content: "<think>" });
  const thinks = { defrost: { logit_bias: { [tokens[0]]: 100 } } };
  const asked = { ...greedy, model: model(server), prompt: QUESTION, providerOptions: thinks };
  const whole = await generateText(asked);
  same([Boolean(whole.reasoningText), whole.text], [true, ""]);
  const streamed = streamText(asked);
  await streamed.consumeStream();
  same(await streamed.reasoningText, whole.reasoningText);
});

check("ai", "chat-keys", "unknown key, and what cannot be", async (server) => {
  const ask = (apiKey, fields = {}) => generateText({ ...greedy, model: model(server, apiKey), system: SYSTEM, prompt: QUESTION, ...fields });
  await raises(APICallError, () => ask(WRONG_KEY), WRONG_KEY_MESSAGE);
  await raises(APICallError, () => ask(server.key, { temperature: 3 }), "temperature");
  await raises(APICallError, () => ask(server.key, { prompt: "frost ".repeat(3000) }), "maximum context length is");
  same((await ask(server.key)).text, await said(server));
});

check("ai", "chat", "a stream that is aborted frees its place", async (server) => {
  const stop = new AbortController();
  const endless = { temperature: 0, maxRetries: 0, model: model(server), prompt: QUESTION, abortSignal: stop.signal };
  const answer = streamText({ ...endless, providerOptions: { defrost: { ignore_eos: true } } });
  for await (const _ of answer.textStream) stop.abort();
  await server.isFree();
  same((await generateText({ ...greedy, model: model(server), system: SYSTEM, prompt: QUESTION })).text, await said(server));
});

check("openai", "chat", "chat, stream, response", async (server) => {
  const asked = { model: "m", messages: MESSAGES, temperature: 0, max_tokens: TOKENS };
  const sdk = openai(server);
  const whole = await sdk.chat.completions.create(asked);
  same(whole.choices[0].message.content, await said(server));
  const runner = sdk.chat.completions.stream({ ...asked, stream_options: { include_usage: true } });
  const pieces = [];
  for await (const chunk of runner) pieces.push(chunk.choices[0]?.delta?.content ?? "");
  same(pieces.join(""), whole.choices[0].message.content);
  same((await runner.finalChatCompletion()).choices[0].finish_reason, "length");
  same((await runner.totalUsage()).completion_tokens, TOKENS);
  const response = await sdk.responses.create({ model: "m", input: MESSAGES, temperature: 0, max_output_tokens: TOKENS });
  same(response.output_text, whole.choices[0].message.content);
});

check("openai", "chat-tools", "tools are run until the model answers", async (server) => {
  const called = [];
  const runner = openai(server).chat.completions.runTools({
    model: "m",
    messages: MESSAGES,
    temperature: 0,
    max_tokens: ROOM,
    parallel_tool_calls: false,
    tool_choice: { type: "function", function: { name: "weather" } },
    tools: [{ type: "function", function: {
      name: "weather", parse: JSON.parse, parameters: WEATHER, function: (input) => (called.push(input), "12 degrees"),
    } }],
  });
  await runner.done();
  same(called.length, 1);
  isWeather(called[0]);
});

await main();
