// Reads Redis over REST with @upstash/redis of npm as it comes, for tests/it/upstash.rs.
//
// stdin: {url, questions}; stdout: {outcomes, addresses}, an outcome for each question and whom it connected to. A question has
// the token to ask with, and whether it may be put into a batch with others, as the library does unless told otherwise.
//   {do: "get", key} -> the value as the library gives it
//   {do: "text", key} -> its text, parsed by nobody
//   {do: "mget", keys}, {do: "seconds", key}, {do: "exists", key}
// What the library throws is {error: message}.
import { readFileSync } from "node:fs";
import { addresses } from "./addresses.mjs";

const { Redis } = await import("@upstash/redis");
const { url, questions } = JSON.parse(readFileSync(0, "utf8"));

function answer({ do: what, token, batched, key, keys }) {
  const redis = new Redis({ url, token, enableAutoPipelining: batched, automaticDeserialization: what !== "text" });
  switch (what) {
    case "get":
    case "text":
      return redis.get(key);
    case "mget":
      return redis.mget(...keys);
    case "seconds":
      return redis.ttl(key);
    case "exists":
      return redis.exists(key);
  }
  throw new Error(`nobody can do ${what}`);
}

const outcomes = [];
for (const question of questions) {
  outcomes.push(await answer(question).then((ok) => ({ ok }), (error) => ({ error: error.message })));
}
process.stdout.write(JSON.stringify({ outcomes, addresses: [...addresses] }));
