// Chats with a server by OpenAI's own client for Node, and prints what it was told, by the name of the chat, as JSON.
// node client.mjs FOLDER_WITH_NODE_MODULES BASE_URL MODEL
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, baseURL, model] = process.argv.slice(2);
const { OpenAI } = createRequire(join(folder, "here.js"))("openai");
const { completions } = new OpenAI({ baseURL, apiKey: "anything", maxRetries: 0 }).chat;

const messages = [{ role: "user", content: "Hello, I am ann@example.com" }];
const tools = [{ type: "function", function: { name: "weather", parameters: { type: "object", properties: {} } } }];
const url = "data:image/png;base64," + Buffer.alloc(30_000, 7).toString("base64");
const look = [{ role: "user", content: [{ type: "text", text: "What is it?" }, { type: "image_url", image_url: { url } }] }];
const response_format = { type: "json_schema", json_schema: { name: "report", schema: { type: "object" } } };

const whole = (more) => completions.create({ model, messages, ...more });

async function pieces(more) {
  const told = [];
  for await (const chunk of await completions.create({ model, messages, stream: true, ...more })) told.push(chunk);
  return told;
}

async function helped(more) {
  const events = [];
  const stream = completions.stream({ model, messages, ...more });
  stream.on("content.delta", ({ delta }) => events.push(delta));
  stream.on("tool_calls.function.arguments.done", ({ arguments: said }) => events.push(JSON.parse(said)));
  return [await stream.finalChatCompletion(), events];
}

async function withResponse() {
  const { data, response } = await completions.create({ model, messages }).withResponse();
  return { data, turn: response.headers.get("x-trimtab-turn"), kind: response.headers.get("content-type") };
}

async function refused(more) {
  try {
    return await completions.create({ model: "no such model", messages, ...more });
  } catch (error) {
    return { name: error.constructor.name, status: error.status, code: error.code };
  }
}

const chats = {
  plain: () => whole(),
  tools: () => whole({ tools }),
  "a schema": () => whole({ response_format }),
  "three choices": () => whole({ n: 3 }),
  "a picture": () => whole({ messages: look }),
  logprobs: () => whole({ logprobs: true, top_logprobs: 2 }),
  "a stream": () => pieces(),
  "a stream that says what it cost": () => pieces({ stream_options: { include_usage: true } }),
  "a stream of tools": () => pieces({ tools }),
  "a stream of three choices": () => pieces({ n: 3 }),
  "the streaming helper": () => helped(),
  "the streaming helper with tools": () => helped({ tools }),
  "with its response": withResponse,
  "a model that is not there": () => refused(),
};

const told = {};
for (const [name, chat] of Object.entries(chats)) told[name] = await chat();
console.log(JSON.stringify(told));
