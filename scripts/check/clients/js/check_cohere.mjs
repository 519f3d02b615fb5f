// The cohere-ai SDK: rerank and embed of both its APIs, errors.

import { Cohere, CohereClient, CohereClientV2 } from "cohere-ai";
import {
  DOCUMENTS, QUERY, TOP, WRONG_KEY, WRONG_KEY_MESSAGE, check, main, numbered, raises, same, sameRanking, sameVectors, together,
} from "./harness.mjs";

const options = (server, token = "any") => ({ baseUrl: server.url, environment: server.url, token, maxRetries: 0 });
const v1 = (...of) => new CohereClient(options(...of));
const v2 = (...of) => new CohereClientV2(options(...of));
const ranking = (answer) => answer.results.map((result) => [result.index, result.relevanceScore]);
const request = { model: "rerank-v3.5", query: QUERY, documents: DOCUMENTS };

check("cohere-ai", "rerank", "v1 rerank with documents", async (server) => {
  const answer = await v1(server).rerank({ ...request, topN: TOP, returnDocuments: true });
  sameRanking(ranking(answer), (await server.ranking()).slice(0, TOP));
  same(answer.results.map((result) => result.document.text), answer.results.map((result) => DOCUMENTS[result.index]));
  same(answer.meta.billedUnits.searchUnits, 1);
});

check("cohere-ai", "rerank", "v2 rerank", async (server) => {
  sameRanking(ranking(await v2(server).rerank(request)), await server.ranking());
  sameRanking(ranking(await v2(server).rerank({ ...request, topN: TOP })), (await server.ranking()).slice(0, TOP));
});

check("cohere-ai", "rerank", "sixteen reranks at once", async (server) => {
  const sdk = v2(server);
  const answers = await together((number) => sdk.rerank({ ...request, documents: numbered(number) }));
  for (const [number, answer] of answers.entries()) sameRanking(ranking(answer), await server.ranking(numbered(number)));
});

check("cohere-ai", "rerank", "bad request", async (server) => {
  const rerank = () => v2(server).rerank({ ...request, documents: [] });
  await raises(Cohere.BadRequestError, rerank, "documents: expected at least one text");
});

check("cohere-ai", "rerank-keys", "unknown key", async (server) => {
  await raises(Cohere.UnauthorizedError, () => v2(server, WRONG_KEY).rerank(request), WRONG_KEY_MESSAGE);
  sameRanking(ranking(await v2(server, server.key).rerank(request)), await server.ranking());
});

check("cohere-ai", "embed", "v1 embed", async (server) => {
  const answer = await v1(server).embed({ texts: DOCUMENTS, model: "m", inputType: "search_document" });
  sameVectors(answer.embeddings, await server.vectors());
});

check("cohere-ai", "embed", "v2 embed of queries by type", async (server) => {
  const embeddingTypes = ["float", "int8"];
  const answer = await v2(server).embed({ texts: DOCUMENTS, model: "m", inputType: "search_query", embeddingTypes });
  sameVectors(answer.embeddings.float, await server.vectors(DOCUMENTS, { input_type: "query" }));
  sameVectors(answer.embeddings.int8, await server.vectors(DOCUMENTS, { input_type: "query", output_dtype: "int8" }));
});

await main();
