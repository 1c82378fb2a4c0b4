// What a Next.js request is to examples/rollcall.ts: stands in for `next/headers` and `@clerk/nextjs/server` in next.mjs.
import { AsyncLocalStorage } from "node:async_hooks";
import { redirect } from "next/navigation";

/** The request at hand: its session token, or none, and its headers. */
export const request = new AsyncLocalStorage();

export async function headers() {
  return new Headers(request.getStore().headers);
}

export async function auth() {
  const { token } = request.getStore();
  return { getToken: async () => token ?? null, redirectToSignIn: () => redirect("/sign-in") };
}
