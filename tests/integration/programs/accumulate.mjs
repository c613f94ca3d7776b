// What the TypeScript SDK makes of streams: node accumulate.mjs PACKAGE FILE, the file a JSON list of their texts.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const [, , folder, file] = process.argv;
const { default: Anthropic } = createRequire(import.meta.url)(folder);

const results = [];
for (const text of JSON.parse(readFileSync(file, "utf8"))) {
  const fetch = async () => new Response(text, { headers: { "content-type": "text/event-stream" } });
  const client = new Anthropic({ baseURL: "http://127.0.0.1", apiKey: "key", maxRetries: 0, fetch });
  const messages = [{ role: "user", content: "hi" }];
  try {
    results.push(await client.messages.stream({ model: "claude-opus-5-5", max_tokens: 1, messages }).finalMessage());
  } catch (error) {
    results.push({ error: `${error.constructor.name}: ${error.message}` });
  }
}
console.log(JSON.stringify(results));
