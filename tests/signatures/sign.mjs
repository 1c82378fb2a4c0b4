// Signs and verifies with a library of npm, for tests/it/signatures.rs.
//
// node sign.mjs svix|standardwebhooks: a JSON list of cases on stdin, a JSON list of outcomes on stdout, one for each.
//   {do: "sign", secret, id, timestamp, body}   -> {signature}
//   {do: "verify", secret, headers, body}       -> {verdict: "ok" | "refused" | "error", why}
// timestamp is in seconds, body is base64. "error" is any exception that is not the library's own refusal.
import { readFileSync } from "node:fs";

const library = process.argv[2];
const family = library === "svix" ? "svix" : "webhook";
const { Webhook } = await import(library);

function outcome(item) {
  const body = Buffer.from(item.body, "base64");
  if (item.do === "sign") {
    return { signature: new Webhook(item.secret).sign(item.id, new Date(item.timestamp * 1000), body) };
  }
  // svix reads both families of names, standardwebhooks only its own.
  const headers = Object.entries(item.headers).map(([name, value]) => [name.replace("svix-", `${family}-`), value]);
  try {
    new Webhook(item.secret).verify(body, Object.fromEntries(headers), { jsonParse: false });
    return { verdict: "ok" };
  } catch (error) {
    const isRefusal = error.name === "WebhookVerificationError";
    return { verdict: isRefusal ? "refused" : "error", why: `${error.name}: ${error.message}` };
  }
}

process.stdout.write(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(outcome)));
