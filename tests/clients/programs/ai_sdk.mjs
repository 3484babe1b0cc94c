// The AI SDK with its OpenAI provider, which speaks the Responses API unless told otherwise.
import { openai } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { pieces, release, serve, want } from "./talk.mjs";

const model = openai("gpt-5");
const maxRetries = 0;
const tools = {
  get_weather: tool({
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: async ({ city }) => `${city}: rain at 7 degrees`,
  }),
};

/** The answer after all calls, and how many calls the first step made. */
async function loop(prompt) {
  const result = await generateText({ model, prompt, tools, stopWhen: stepCountIs(3), maxRetries });
  return [result.text, result.steps[0].toolCalls.length];
}

/** What a stream and a whole reply with a hosted tool come to: text, sources, calls and results; both must be one. */
async function use(tools, prompt = "Look it up.") {
  let problem;
  const stream = streamText({ model, prompt, tools, maxRetries, onError: ({ error }) => (problem = error) });
  await stream.consumeStream();
  if (problem) throw problem;
  const whole = await generateText({ model, prompt, tools, maxRetries });
  const found = [];
  for (const result of [stream, whole]) {
    const parts = await result.content;
    const said = parts.filter((part) => part.type === "text").map((part) => part.text);
    const sources = (await result.sources).map((source) => source.url ?? source.filename);
    const calls = parts.filter((part) => part.type === "tool-call").map((part) => part.toolName);
    const results = parts.filter((part) => part.type === "tool-result").slice(-1); // images before it are drafts
    found.push([said.at(-1), sources, calls, results.map((part) => part.output)]);
  }
  want(found[0], found[1]);
  return found[0];
}

serve({
  async "web search"(facts) {
    const [text, sources, calls, results] = await use({ web_search: openai.tools.webSearch({}) });
    want([text, sources, calls], [facts["web search"], ["https://example.com/oslo"], ["web_search"]]);
    want(results[0].action, { type: "search", query: "Oslo", queries: ["Oslo"] });
    want(results[0].sources, [{ type: "url", url: "https://example.com/oslo" }]);
  },
  async "file search"(facts) {
    const [text, sources, calls, results] = await use({
      file_search: openai.tools.fileSearch({ vectorStoreIds: ["vs_1"] }),
    });
    want([text, sources, calls], [facts["file search"], ["lamp.txt"], ["file_search"]]);
    want(results[0].queries, ["lamp"]);
  },
  async "code interpreter"(facts) {
    const [text, sources, calls, results] = await use({ code_interpreter: openai.tools.codeInterpreter({}) });
    want([text, sources, calls], [facts["code interpreter"], ["plot.csv"], ["code_interpreter"]]);
    want(results[0].outputs, [{ type: "logs", logs: "4\n" }]);
  },
  async "image generation"(facts) {
    const [text, , calls, results] = await use({ image_generation: openai.tools.imageGeneration({ partialImages: 1 }) });
    want([text, calls, results], [facts["image generation"], ["image_generation"], [{ result: "cG5n" }]]);
  },
  async mcp(facts) {
    const crm = openai.tools.mcp({ serverLabel: "crm", serverUrl: "https://crm.example.com/mcp" });
    const [text, , calls, results] = await use({ mcp: crm });
    want([text, calls], [facts.mcp, ["mcp.lookup"]]);
    want([results[0].serverLabel, results[0].output], ["crm", "Order 7 is on its way."]);
  },
  async "mcp approval"(facts) {
    const crm = openai.tools.mcp({
      serverLabel: "crm",
      serverUrl: "https://crm.example.com/mcp",
      requireApproval: "always",
    });
    const messages = [{ role: "user", content: "Look it up." }];
    const first = await generateText({ model, messages, tools: { mcp: crm }, maxRetries });
    const asked = first.content.find((part) => part.type === "tool-approval-request");
    messages.push(...first.response.messages);
    const approval = { approvalId: asked.approvalId, approved: true, providerExecuted: true };
    messages.push({ role: "tool", content: [{ type: "tool-approval-response", ...approval }] });
    want((await generateText({ model, messages, tools: { mcp: crm }, maxRetries })).text, facts["mcp approval"]);
  },
  async text(facts) {
    want((await generateText({ model, prompt: "Is it lit?", maxRetries })).text, facts.text);
  },
  async stream(facts) {
    const texts = [];
    let problem;
    const result = streamText({ model, prompt: "Is it lit?", maxRetries, onError: ({ error }) => (problem = error) });
    for await (const text of result.textStream) texts.push(text);
    if (problem) throw problem;
    pieces(texts, facts.text);
  },
  async tools(facts) {
    want(await loop("What is the weather in Oslo?"), [facts.weather, 1]);
  },
  async "parallel tools"(facts) {
    want(await loop("What is the weather in Oslo and in Bergen?"), [facts.weathers, 2]);
  },
  async "structured output"(facts) {
    const schema = z.object({ name: z.string(), inhabitants: z.number().int() });
    const output = Output.object({ schema });
    const result = await generateText({ model, prompt: "Describe Oslo.", output, maxRetries });
    want(result.output, facts.city);
  },
  async reasoning(facts) {
    const providerOptions = { openai: { reasoningEffort: "low", reasoningSummary: "auto" } };
    const result = await generateText({ model, prompt: "Is it lit?", providerOptions, maxRetries });
    want([result.reasoningText, result.text], [facts.thought, facts.text]);
  },
  async images(facts) {
    const content = [{ type: "text", text: "Look." }, { type: "image", image: facts.pixel }];
    const result = await generateText({ model, messages: [{ role: "user", content }], maxRetries });
    want(result.text, facts.text);
  },
  async turns(facts) {
    const messages = [{ role: "user", content: facts.told }];
    messages.push(...(await generateText({ model, messages, maxRetries })).response.messages);
    messages.push({ role: "user", content: facts.asked });
    want((await generateText({ model, messages, maxRetries })).text, facts.recalled);
  },
  async "by id"(facts) {
    const first = await generateText({ model, prompt: facts.told, maxRetries });
    const providerOptions = { openai: { previousResponseId: first.providerMetadata.openai.responseId } };
    const second = await generateText({ model, prompt: facts.asked, providerOptions, maxRetries });
    want(second.text, facts.recalled);
  },
  async conversation(facts) {
    const made = await fetch(`${process.env.OPENAI_BASE_URL}/conversations`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    const { id } = await made.json();
    const providerOptions = { openai: { conversation: id } };
    await generateText({ model, prompt: facts.told, providerOptions, maxRetries });
    const second = await generateText({ model, prompt: facts.asked, providerOptions, maxRetries });
    want(second.text, facts.recalled);
  },
  async cached(facts) {
    const asking = { model, prompt: "Is it lit?", providerOptions: { openai: { store: false } }, maxRetries };
    const found = [await generateText(asking), await generateText(asking)];
    want(found.map((one) => one.text), [facts.text, facts.text]);
    want(found.map((one) => one.response.headers["x-gomodel-cache"]), ["miss", "hit"]);
    let problem;
    const stream = streamText({ ...asking, onError: ({ error }) => (problem = error) });
    want(await stream.text, facts.text);
    if (problem) throw problem;
  },
  async guarded(facts) {
    const texts = [];
    let problem;
    const result = streamText({ model, prompt: "Speak.", maxRetries, onError: ({ error }) => (problem = error) });
    for await (const text of result.textStream) {
      if (text && texts.length === 0) await release();
      if (text) texts.push(text);
    }
    if (problem) throw problem;
    pieces(texts, facts.masked);
  },
  async abort() {
    const leaving = new AbortController();
    const result = streamText({
      model,
      prompt: "Is it lit?",
      abortSignal: leaving.signal,
      maxRetries,
      onError: () => {},
    });
    for await (const text of result.textStream) if (text) break;
    leaving.abort();
  },
});
