// The AI SDK with its OpenAI provider, which speaks the Responses API unless told otherwise.
import { openai } from "@ai-sdk/openai";
import { generateText, Output, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { pieces, serve, want } from "./talk.mjs";

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

serve({
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
