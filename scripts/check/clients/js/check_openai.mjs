// The openai SDK: models, reranking by its untyped `post`, embeddings, errors.

import OpenAI from "openai";
import {
  DOCUMENTS, QUERY, TOP, WRONG_KEY, WRONG_KEY_MESSAGE, check, main, numbered, raises, same, sameRanking, sameVectors, together,
} from "./harness.mjs";

const client = (server, apiKey = "any") => new OpenAI({ baseURL: `${server.url}/v1`, apiKey, maxRetries: 0 });
const rerank = async (sdk, body) => {
  const answer = await sdk.post("/rerank", { body: { query: QUERY, documents: DOCUMENTS, ...body } });
  return answer.results.map((result) => [result.index, result.relevance_score]);
};

check("openai", "rerank", "rerank by post", async (server) => {
  sameRanking(await rerank(client(server), { top_n: TOP }), (await server.ranking()).slice(0, TOP));
});

check("openai", "rerank", "sixteen reranks at once", async (server) => {
  const sdk = client(server);
  const answers = await together((number) => rerank(sdk, { documents: numbered(number) }));
  for (const [number, answer] of answers.entries()) sameRanking(answer, await server.ranking(numbered(number)));
});

check("openai", "rerank", "models are listed", async (server) => {
  const { data } = await client(server).models.list();
  same(data.map((model) => [model.id, model.object]), [["tiny/qwen2-mxbai", "model"]]);
});

check("openai", "rerank", "bad request has code and param", async (server) => {
  const error = await raises(
    OpenAI.BadRequestError, () => rerank(client(server), { documents: [] }), "documents: expected at least one text",
  );
  same([error.param, error.type], ["documents", "invalid_request_error"]);
});

check("openai", "rerank-keys", "unknown key is an authentication error", async (server) => {
  await raises(OpenAI.AuthenticationError, () => client(server, WRONG_KEY).models.list(), WRONG_KEY_MESSAGE);
  sameRanking(await rerank(client(server, server.key)), await server.ranking());
});

check("openai", "embed", "embeddings as base64 and as floats", async (server) => {
  for (const options of [{}, { encoding_format: "float" }]) {
    const answer = await client(server).embeddings.create({ model: "m", input: DOCUMENTS, ...options });
    sameVectors(answer.data.map((one) => one.embedding), await server.vectors());
    if (!(answer.usage.prompt_tokens > DOCUMENTS.length)) throw new Error("tokens, not texts");
  }
});

check("openai", "embed", "dimensions", async (server) => {
  const answer = await client(server).embeddings.create({ model: "m", input: DOCUMENTS, dimensions: 8 });
  sameVectors(answer.data.map((one) => one.embedding), await server.vectors(DOCUMENTS, { dimensions: 8 }));
});

check("openai", "embed", "sixteen embeddings at once", async (server) => {
  const sdk = client(server);
  const answers = await together((number) => sdk.embeddings.create({ model: "m", input: numbered(number) }));
  for (const [number, answer] of answers.entries()) {
    sameVectors(answer.data.map((one) => one.embedding), await server.vectors(numbered(number)));
  }
});

check("openai", "embed", "nothing to embed is a bad request", async (server) => {
  const create = () => client(server).embeddings.create({ model: "m", input: [] });
  same((await raises(OpenAI.BadRequestError, create, "input")).code, "empty_input");
});

await main();
