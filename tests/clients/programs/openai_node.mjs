// The OpenAI SDK for Node.
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";
import { pieces, release, serve, want } from "./talk.mjs";

const model = "gpt-5";
const client = new OpenAI({ maxRetries: 0 });
const weather = {
  type: "function",
  name: "get_weather",
  description: "The weather in a city.",
  parameters: {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
    additionalProperties: false,
  },
  strict: true,
};

/** Calls until the model answers; how many calls each turn made. */
async function loop(question) {
  const input = [{ role: "user", content: question }];
  const counts = [];
  for (let turn = 0; turn < 3; turn++) {
    const response = await client.responses.create({ model, input, tools: [weather] });
    input.push(...response.output);
    const calls = response.output.filter((item) => item.type === "function_call");
    if (calls.length === 0) return [response.output_text, counts];
    counts.push(calls.length);
    for (const call of calls) {
      const output = `${JSON.parse(call.arguments).city}: rain at 7 degrees`;
      input.push({ type: "function_call_output", call_id: call.call_id, output });
    }
  }
  throw new Error("it never stopped calling");
}

const server = { type: "mcp", server_label: "crm", server_url: "https://crm.example.com/mcp" };

/** The response to a stream that declares `tool`, and the types of its events, each once in a row. */
async function hosted(tool, more = {}) {
  const stream = client.responses.stream({ model, input: "Look it up.", tools: [tool], ...more });
  const types = [];
  for await (const event of stream) if (types.at(-1) !== event.type) types.push(event.type);
  return [await stream.finalResponse(), types.filter((type) => !/output_text|content_part|reasoning/.test(type))];
}

/** What a response says in the end, with what it cites, and the types of its items. */
function told(response) {
  const part = response.output.findLast((item) => item.type === "message").content[0];
  const cited = part.annotations.map((one) => one.url ?? one.file_id);
  const types = response.output.map((item) => item.type).filter((type) => type !== "reasoning");
  return [part.text, cited, types];
}

/** Fail unless the tool of `type` is used as OpenAI's own would be. */
async function use(tool, type, text, cited, phases, before = []) {
  const [response, types] = await hosted(tool);
  want(told(response), [text, cited, [...before, "message", type, "message"]]);
  want(types.filter((one) => one.startsWith(`response.${type}`)), phases.map((phase) => `response.${type}${phase}`));
  const unary = await client.responses.create({ model, input: "Look it up.", tools: [tool] });
  want(told(unary), told(response));
}

serve({
  async "web search"(facts) {
    const cited = ["https://example.com/oslo"];
    const phases = [".in_progress", ".searching", ".completed"];
    await use({ type: "web_search" }, "web_search_call", facts["web search"], cited, phases);
  },
  async "file search"(facts) {
    const tool = { type: "file_search", vector_store_ids: ["vs_1"] };
    const phases = [".in_progress", ".searching", ".completed"];
    await use(tool, "file_search_call", facts["file search"], ["file_1"], phases);
  },
  async "code interpreter"(facts) {
    const tool = { type: "code_interpreter", container: { type: "auto" } };
    const phases = [".in_progress", "_code.delta", "_code.done", ".interpreting", ".completed"];
    await use(tool, "code_interpreter_call", facts["code interpreter"], ["cfile_1"], phases);
  },
  async "image generation"(facts) {
    const tool = { type: "image_generation", partial_images: 1 };
    const phases = [".in_progress", ".generating", ".partial_image", ".completed"];
    await use(tool, "image_generation_call", facts["image generation"], [], phases);
  },
  async mcp(facts) {
    const tool = { ...server, require_approval: "never" };
    const phases = [".in_progress", "_arguments.delta", "_arguments.done", ".completed"];
    await use(tool, "mcp_call", facts.mcp, [], phases, ["mcp_list_tools"]);
  },
  async "mcp approval"(facts) {
    const [first] = await hosted(server);
    const request = first.output.at(-1);
    want([first.status, request.type, request.name], ["completed", "mcp_approval_request", "lookup"]);
    const input = [{ type: "mcp_approval_response", approval_request_id: request.id, approve: true }];
    const [second] = await hosted(server, { input, previous_response_id: first.id });
    want(told(second), [facts["mcp approval"], [], ["mcp_call", "message"]]);
    want(second.output[0].approval_request_id, request.id);
  },
  async text(facts) {
    want((await client.responses.create({ model, input: "Is it lit?" })).output_text, facts.text);
  },
  async stream(facts) {
    const texts = [];
    const stream = client.responses.stream({ model, input: "Is it lit?" });
    for await (const event of stream) if (event.type === "response.output_text.delta") texts.push(event.delta);
    pieces(texts, facts.text);
    want((await stream.finalResponse()).output_text, facts.text);
  },
  async tools(facts) {
    want(await loop("What is the weather in Oslo?"), [facts.weather, [1]]);
  },
  async "parallel tools"(facts) {
    want(await loop("What is the weather in Oslo and in Bergen?"), [facts.weathers, [2]]);
  },
  async "structured output"(facts) {
    const format = zodTextFormat(z.object({ name: z.string(), inhabitants: z.number().int() }), "city");
    const response = await client.responses.parse({ model, input: "Describe Oslo.", text: { format } });
    want(response.output_parsed, facts.city);
  },
  async reasoning(facts) {
    const reasoning = { effort: "low", summary: "auto" };
    const response = await client.responses.create({ model, input: "Is it lit?", reasoning });
    const thoughts = response.output.filter((item) => item.type === "reasoning").flatMap((item) => item.summary);
    want([thoughts.map((part) => part.text).join(""), response.output_text], [facts.thought, facts.text]);
  },
  async images(facts) {
    const content = [{ type: "input_text", text: "Look." }, { type: "input_image", image_url: facts.pixel }];
    const response = await client.responses.create({ model, input: [{ role: "user", content }] });
    want(response.output_text, facts.text);
  },
  async turns(facts) {
    const input = [{ role: "user", content: facts.told }];
    input.push(...(await client.responses.create({ model, input })).output);
    input.push({ role: "user", content: facts.asked });
    want((await client.responses.create({ model, input })).output_text, facts.recalled);
  },
  async "by id"(facts) {
    const first = await client.responses.create({ model, input: facts.told });
    const second = await client.responses.create({ model, input: facts.asked, previous_response_id: first.id });
    want(second.output_text, facts.recalled);
  },
  async conversation(facts) {
    const conversation = await client.conversations.create();
    await client.responses.create({ model, input: facts.told, conversation: conversation.id });
    const response = await client.responses.create({ model, input: facts.asked, conversation: conversation.id });
    want(response.output_text, facts.recalled);
    const roles = [];
    for await (const item of client.conversations.items.list(conversation.id, { order: "asc" })) {
      if (item.type === "message") roles.push(item.role);
    }
    want(roles, ["user", "assistant", "user", "assistant"]);
  },
  async compaction(facts) {
    const first = await client.responses.create({ model, input: facts.told });
    const compacted = await client.responses.compact({ model, previous_response_id: first.id });
    const input = [...compacted.output, { role: "user", content: facts.asked }];
    const response = await client.responses.create({ model, input });
    want(response.output_text, facts.recalled);
    const again = await client.responses.create({ model, input: facts.asked, previous_response_id: response.id });
    want(again.output_text, facts.recalled);
  },
  async cancel() {
    const created = await client.responses.create({ model, input: "Is it lit?", background: true });
    want(["queued", "in_progress"].includes(created.status), true);
    want((await client.responses.cancel(created.id)).status, "cancelled");
    want((await client.responses.retrieve(created.id)).status, "cancelled");
  },
  async cached(facts) {
    const asking = { model, input: "Is it lit?", store: false };
    const found = [];
    for (let turn = 0; turn < 2; turn++) found.push(await client.responses.create(asking).withResponse());
    want(found.map((one) => one.response.headers.get("x-gomodel-cache")), ["miss", "hit"]);
    want(found.map((one) => one.data.output_text), [facts.text, facts.text]);
    const stream = client.responses.stream(asking);
    const texts = [];
    for await (const event of stream) if (event.type === "response.output_text.delta") texts.push(event.delta);
    const third = await stream.finalResponse();
    want([texts.join(""), third.output_text], [facts.text, facts.text]);
    want(new Set([found[0].data.id, found[1].data.id, third.id]).size, 3);
  },
  async guarded(facts) {
    const texts = [];
    const stream = client.responses.stream({ model, input: "Speak." });
    for await (const event of stream) {
      if (event.type !== "response.output_text.delta") continue;
      if (texts.length === 0) await release();
      texts.push(event.delta);
    }
    pieces(texts, facts.masked);
    want((await stream.finalResponse()).output_text, facts.masked);
  },
  async abort() {
    const events = await client.responses.create({ model, input: "Is it lit?", stream: true });
    for await (const event of events) if (event.type === "response.output_text.delta") break;
    events.controller.abort();
  },
});
