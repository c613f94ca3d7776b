// The same as sdk.py for the TypeScript SDK: node sdk.mjs PACKAGE BASE_URL KEY CALLS [RETRIES]

import { createRequire } from "node:module";

const [, , folder, baseURL, apiKey, calls, retries] = process.argv;
const { default: Anthropic } = createRequire(import.meta.url)(folder);
const client = new Anthropic({ baseURL, apiKey, maxRetries: Number(retries ?? 0), timeout: 60_000 });

const textOf = (message) =>
  message.content.filter((block) => block.type === "text").map((block) => block.text).join("");

const typesOf = async (events) => {
  const types = [];
  for await (const event of events) types.push(event.type);
  return types;
};

const make = {
  async create(parameters) {
    const message = await client.messages.create(parameters);
    return { text: textOf(message), stop_reason: message.stop_reason, request_id: message._request_id };
  },
  async stream(parameters) {
    const stream = client.messages.stream(parameters);
    const types = await typesOf(stream);
    const message = await stream.finalMessage();
    return { text: textOf(message), stop_reason: message.stop_reason, types };
  },
  async events(parameters) {
    return { types: await typesOf(await client.messages.create({ ...parameters, stream: true })) };
  },
  async count_tokens(parameters) {
    return { input_tokens: (await client.messages.countTokens(parameters)).input_tokens };
  },
  async models() {
    const ids = [];
    for await (const model of client.models.list()) ids.push(model.id);
    return { ids };
  },
  async loop({ messages, results, ...parameters }) {
    const turns = [];
    for (;;) {
      const { content, stop_reason } = await client.messages.stream({ messages, ...parameters }).finalMessage();
      turns.push({ content, stop: stop_reason });
      const calls = content.filter((block) => block.type === "tool_use");
      if (calls.length === 0) return { turns };
      const told = calls.map(({ id, name }) => ({ type: "tool_result", tool_use_id: id, content: results[name] }));
      messages = [...messages, { role: "assistant", content }, { role: "user", content: told }];
    }
  },
};

const results = [];
for (const [what, parameters] of JSON.parse(calls)) {
  try {
    results.push(await make[what](parameters));
  } catch (error) {
    const told = { status: error.status ?? null, type: error.error?.error?.type ?? null, message: error.message };
    results.push({ error: error.constructor.name, ...told });
  }
}
console.log(JSON.stringify(results));
