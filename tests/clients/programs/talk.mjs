// How a program talks to the runner: a line of JSON for each feature to try, a line of JSON for how it went.
import { isDeepStrictEqual } from "node:util";
import { createInterface } from "node:readline";

/** Fail unless `actual` is `wanted`. */
export function want(actual, wanted) {
  if (!isDeepStrictEqual(actual, wanted)) {
    throw new Error(`got ${JSON.stringify(actual)}, wanted ${JSON.stringify(wanted)}`);
  }
}

/** Fail unless a stream came in several pieces that are `wanted` together. */
export function pieces(texts, wanted) {
  want(texts.join(""), wanted);
  if (texts.length < 2) throw new Error(`the stream came in one piece: ${JSON.stringify(texts)}`);
}

/** Let the upstream go on, which waits for this client to have read so far. */
export async function release() {
  await fetch(process.env.OPENAI_BASE_URL.replace(/\/v1$/, "/release"), { method: "POST" });
}

/** Try what the runner asks for until it asks for no more. */
export async function serve(features) {
  console.log(JSON.stringify(Object.keys(features).sort()));
  for await (const line of createInterface({ input: process.stdin })) {
    const asked = JSON.parse(line);
    let problem = null;
    try {
      await features[asked.feature](asked.facts);
    } catch (error) {
      problem = `${error.name}: ${error.message}`;
    }
    console.log(JSON.stringify({ problem }));
  }
}
