// What the checks in JavaScript share; ../harness.py is the same for Python and says how it works.

import { appendFileSync, readFileSync } from "node:fs";
import net from "node:net";
import { parseArgs } from "node:util";

const HOST = "127.0.0.1";
const CHECK_MS = 60_000;
const SHOWN_CHARS = 3000;
// f32 scores have seven digits.
const TOLERANCE = 1e-6;
export const CONCURRENCY = 16;
export const WRONG_KEY = "wrong-key";
export const WRONG_KEY_MESSAGE = "the api key is not known here";

export const QUERY = "Who wrote 'To Kill a Mockingbird'?";
export const DOCUMENTS = [
  "The stock market closed higher on Friday.",
  "'To Kill a Mockingbird' is a novel by Harper Lee published in 1960.",
  "The novel 'Moby-Dick' was written by Herman Melville.",
  "Harper Lee was born in 1926 in Monroeville, Alabama.",
  "Übermäßig große Straßen; 3.520.031 Einwohner, schöne Häuser.",
];
export const TOP = 2;

/** Documents that differ between concurrent requests, so that a mixed-up answer is seen. */
export const numbered = (number) => DOCUMENTS.map((document) => `${number}. ${document}`);

/** `action(0)` … `action(15)` at once. */
export const together = (action) => Promise.all(Array.from({ length: CONCURRENCY }, (_, number) => action(number)));

/** Passes connections on to a function's port, byte for byte, and keeps what went through. */
class Relay {
  #conversations = [];

  async listen(upstream) {
    const server = net.createServer({ noDelay: true }, (client) => {
      const target = net.connect({ host: HOST, port: upstream, noDelay: true });
      const conversation = { sent: [], answered: [] };
      this.#conversations.push(conversation);
      client.on("data", (data) => conversation.sent.push(data));
      target.on("data", (data) => conversation.answered.push(data));
      client.pipe(target).pipe(client);
      // A reset on one side is a reset for the other: that is all a relay can say.
      client.on("error", () => target.destroy());
      target.on("error", () => client.destroy());
    });
    server.unref();
    await new Promise((resolve) => server.listen(0, HOST, resolve));
    this.port = server.address().port;
  }

  forget() {
    for (const conversation of this.#conversations) {
      conversation.sent.length = 0;
      conversation.answered.length = 0;
    }
  }

  shown() {
    return this.#conversations
      .flatMap(({ sent, answered }) => [["sent", sent], ["answered", answered]])
      .filter(([, data]) => data.length > 0)
      .map(([way, data]) => `${way}:\n${Buffer.concat(data).toString().slice(0, SHOWN_CHARS).trim()}`)
      .join("\n");
  }
}

/** A running function, as clients reach it. */
class RunningFunction {
  constructor(port, key, relay) {
    Object.assign(this, { port, key, relay });
  }

  /** For clients: through the relay. */
  get url() {
    return `http://${HOST}:${this.relay.port}`;
  }

  /** What a plain request past the relay is answered. */
  async plain(path, body) {
    const headers = { authorization: `Bearer ${this.key}`, "content-type": "application/json" };
    const response = await fetch(`http://${HOST}:${this.port}${path}`, { method: "POST", headers, body: JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${JSON.stringify(answer)}`);
    return answer;
  }

  /** Returns once nothing is generated any more; what keeps on is ended by the check's own time. */
  async isFree() {
    const headers = { authorization: `Bearer ${this.key}` };
    for (;;) {
      const slots = await (await fetch(`http://${HOST}:${this.port}/slots`, { headers })).json();
      if (!slots.some((slot) => slot.is_processing)) return;
    }
  }

  /** The canonical ranking of the documents, best first, as [index, score]. */
  async ranking(documents = DOCUMENTS, options = {}) {
    const answer = await this.plain("/v1/rerank", { query: QUERY, documents, ...options });
    return answer.results.map((result) => [result.index, result.relevance_score]);
  }

  /** The canonical embeddings of the texts, in their order. */
  async vectors(input = DOCUMENTS, options = {}) {
    return (await this.plain("/v1/embeddings", { input, ...options })).data.map((one) => one.embedding);
  }
}

/** Equal as JSON, or both shown. */
export function same(found, expected) {
  const [a, b] = [found, expected].map((value) => JSON.stringify(value));
  if (a !== b) throw new Error(`${a}, expected ${b}`);
}

/** Same indices in the same order, same scores. */
export function sameRanking(found, expected) {
  same(found.map(([index]) => index), expected.map(([index]) => index));
  found.forEach(([index, score], place) => {
    if (!(Math.abs(score - expected[place][1]) <= TOLERANCE)) {
      throw new Error(`[${index}]: ${score}, expected ${expected[place][1]}`);
    }
  });
}

/** Same number of vectors, same dimensions, same values. */
export function sameVectors(found, expected) {
  same(found.map((vector) => vector.length), expected.map((vector) => vector.length));
  found.forEach((vector, number) => {
    const worst = Math.max(...vector.map((value, at) => Math.abs(value - expected[number][at])));
    if (!(worst <= TOLERANCE)) throw new Error(`vector ${number} differs by ${worst}`);
  });
}

/** The action must throw a `kind` whose text or body holds every fragment. Returns the error. */
export async function raises(kind, action, ...fragments) {
  let error;
  try {
    await action();
  } catch (caught) {
    error = caught;
  }
  if (error === undefined) throw new Error(`expected ${kind.name}, nothing was thrown`);
  // The AI SDK comes with several copies of its error classes, which know each other by a mark.
  if (!(kind.isInstance?.(error) ?? error instanceof kind)) throw error;
  const text = `${error} ${JSON.stringify(error.body ?? error.responseBody ?? "")}`;
  for (const fragment of fragments) {
    if (!text.includes(fragment)) throw new Error(`${JSON.stringify(fragment)} is not in ${text}`);
  }
  return error;
}

const checks = [];

/** Registers a check of the npm package `client` against the named function. */
export function check(client, functionName, name, action) {
  checks.push({ client, functionName, name, action });
}

/** Runs what was registered; a line of JSON for each check goes to --out. */
export async function main() {
  const { values } = parseArgs({ options: { functions: { type: "string" }, out: { type: "string" } } });
  const functions = new Map();
  for (const [name, { port, key }] of Object.entries(JSON.parse(readFileSync(values.functions, "utf8")))) {
    const relay = new Relay();
    await relay.listen(port);
    functions.set(name, new RunningFunction(port, key, relay));
  }
  for (const one of checks) {
    appendFileSync(values.out, `${JSON.stringify(await run(one, functions))}\n`);
  }
  // Idle connections of clients would keep the process.
  process.exit(0);
}

async function run({ client, functionName, name, action }, functions) {
  const { version } = JSON.parse(readFileSync(new URL(`node_modules/${client}/package.json`, import.meta.url), "utf8"));
  const line = { client: `js ${client} ${version}`, check: name };
  const target = functions.get(functionName);
  if (target === undefined) {
    return { ...line, result: "skipped", detail: `no function '${functionName}' was started` };
  }
  for (const other of functions.values()) other.relay.forget();
  const begun = performance.now();
  const seconds = () => (performance.now() - begun) / 1000;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${CHECK_MS} ms`)), CHECK_MS);
  });
  try {
    await Promise.race([action(target), late]);
    return { ...line, result: "ok", seconds: seconds() };
  } catch (error) {
    const shown = [...functions.values()].map((each) => each.relay.shown()).filter(Boolean).join("\n");
    const detail = `${error?.stack ?? error}\n${shown || "nothing was sent"}`;
    return { ...line, result: "failed", detail, seconds: seconds() };
  } finally {
    clearTimeout(timer);
  }
}
