// Renders pages that ask with examples/rollcall.ts, as it is, for tests/it/examples: React's own server renderer and cache,
// and Next's own notFound() and redirect().
//
// stdin: {url, questions}; stdout: {outcomes, addresses}, an outcome for each question and whom it connected to. A question is a
// page, {token?, headers?, key?, parts}, whose parts are rendered side by side, each of them
//   ["currentUserContext"], ["getCachedUserOrgMemberships"], ["requireOrgAccess", org, role?] or
//   ["verifyOrgMembership", user, org, role?].
// Its outcome is {parts, requests}: of each part {ok: what it was given} or {error: what it threw}, and how many requests were sent.
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { addresses } from "./addresses.mjs";

// What Next's bundler does: the packages are the app's, and of those there are the server's halves.
const REPLACED = {
  "next/navigation": "next/dist/client/components/navigation.react-server.js",
  "next/headers": "./request.mjs",
  "@clerk/nextjs/server": "./request.mjs",
};
registerHooks({
  resolve(name, context, next) {
    const conditions = [...context.conditions, "react-server"];
    const isOfExample = context.parentURL?.endsWith("/examples/rollcall.ts");
    const parentURL = isOfExample || name in REPLACED ? import.meta.url : context.parentURL;
    return next(REPLACED[name] ?? name, { ...context, parentURL, conditions });
  },
});

const { createElement } = await import("react");
const { renderToPipeableStream } = (await import("react-server-dom-parcel/server.node")).default;
const { request } = await import("./request.mjs");
const rollcall = await import("../../examples/rollcall.ts");

let requests = 0;
const { fetch } = globalThis;
globalThis.fetch = (...words) => {
  requests += 1;
  return fetch(...words);
};

function thrown(error) {
  const { name, code, status, digest, message } = error;
  if (digest) return { digest };
  if (error instanceof rollcall.NotSignedIn) return { name, code };
  if (error instanceof rollcall.RollcallUnavailable) return { name, code, status, isNamed: error.requestId !== undefined };
  return { name, message };
}

async function render({ token, headers, parts }) {
  const outcomes = parts.map(() => null);
  async function Part({ number }) {
    const [verb, ...words] = parts[number];
    outcomes[number] = await rollcall[verb](...words).then((ok) => ({ ok }), (error) => ({ error: thrown(error) }));
    return null;
  }
  const page = parts.map((_, number) => createElement(Part, { key: number, number }));
  requests = 0;
  await request.run({ token, headers }, () => text(renderToPipeableStream(page).pipe(new PassThrough())));
  return { parts: outcomes, requests };
}

const { url, questions } = JSON.parse(readFileSync(0, "utf8"));
process.env.ROLLCALL_URL = url;
const outcomes = [];
for (const question of questions) {
  process.env.ROLLCALL_KEY = question.key;
  outcomes.push(await render(question));
}
process.stdout.write(JSON.stringify({ outcomes, addresses: [...addresses] }));
