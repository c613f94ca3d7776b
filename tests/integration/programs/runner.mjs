// The same as runner.py for the TypeScript SDK: node runner.mjs PACKAGE BASE_URL KEY STREAM PARAMETERS

import { createRequire } from "node:module";

const [, , folder, baseURL, apiKey, stream, parameters] = process.argv;
const require = createRequire(import.meta.url);
const { default: Anthropic } = require(folder);
const { betaTool } = require(`${folder}/helpers/beta/json-schema`);
const client = new Anthropic({ baseURL, apiKey, maxRetries: 0, timeout: 60_000 });

const tool = (name, description, run) =>
  betaTool({
    name,
    description,
    inputSchema: { type: "object", properties: { path: { type: "string" } }, required: ["path"] },
    run,
  });
const tools = [
  tool("Read", "Reads a file.", ({ path }) => `contents of ${path}`),
  tool("Grep", "Searches a file.", ({ path }) => `found in ${path}`),
];
const runner = client.beta.messages.toolRunner({ ...JSON.parse(parameters), tools, stream: stream === "true" });
let message;
for await (const each of runner) message = stream === "true" ? await each.finalMessage() : each;
console.log(message.content.filter((block) => block.type === "text").map((block) => block.text).join(""));
