// The AI SDK: rerank through its Cohere provider, embed and embedMany through the OpenAI-compatible one.

import { createCohere } from "@ai-sdk/cohere";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, embed, embedMany, rerank } from "ai";
import {
  DOCUMENTS, QUERY, TOP, WRONG_KEY, WRONG_KEY_MESSAGE, check, main, raises, same, sameRanking, sameVectors,
} from "./harness.mjs";

const reranker = (server, apiKey = "any") => createCohere({ baseURL: `${server.url}/v2`, apiKey }).reranking("rerank-v3.5");
const embedder = (server, apiKey = "any") =>
  createOpenAICompatible({ name: "defrost", baseURL: `${server.url}/v1`, apiKey }).embeddingModel("m");
const request = { query: QUERY, documents: DOCUMENTS, maxRetries: 0 };
const ranking = (answer) => answer.ranking.map((one) => [one.originalIndex, one.score]);

check("ai", "rerank", "rerank", async (server) => {
  const answer = await rerank({ ...request, model: reranker(server) });
  sameRanking(ranking(answer), await server.ranking());
  same(answer.rerankedDocuments, (await server.ranking()).map(([index]) => DOCUMENTS[index]));
});

check("ai", "rerank", "rerank the best two", async (server) => {
  const answer = await rerank({ ...request, model: reranker(server), topN: TOP });
  sameRanking(ranking(answer), (await server.ranking()).slice(0, TOP));
});

check("ai", "rerank-keys", "unknown key", async (server) => {
  await raises(APICallError, () => rerank({ ...request, model: reranker(server, WRONG_KEY) }), WRONG_KEY_MESSAGE);
  sameRanking(ranking(await rerank({ ...request, model: reranker(server, server.key) })), await server.ranking());
});

check("@ai-sdk/openai-compatible", "embed", "embed and embedMany", async (server) => {
  const many = await embedMany({ model: embedder(server), values: DOCUMENTS, maxRetries: 0 });
  sameVectors(many.embeddings, await server.vectors());
  if (!(many.usage.tokens > DOCUMENTS.length)) throw new Error("tokens, not texts");
  const one = await embed({ model: embedder(server), value: QUERY, maxRetries: 0 });
  sameVectors([one.embedding], await server.vectors([QUERY]));
});

check("@ai-sdk/openai-compatible", "embed-keys", "unknown key of an embedder", async (server) => {
  const ask = () => embed({ model: embedder(server, WRONG_KEY), value: QUERY, maxRetries: 0 });
  await raises(APICallError, ask, WRONG_KEY_MESSAGE);
});

await main();
