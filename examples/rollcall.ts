// Who is calling, and in which organizations, for the server side of a Next.js app whose users sign in with Clerk.
//
// Copy this file to lib/rollcall.ts, and set ROLLCALL_URL and ROLLCALL_KEY (a key of scope `read`; only verifyOrgMembership
// needs it). In a Server Component, a Server Action or a Route Handler:
//
//   const { organization } = await requireOrgAccess(slug, "org:admin");
//
// An answer is a decision if it carries Rollcall-Decision, and only then. A proxy's 404, a time-out or a service that is away
// is neither a yes nor a no: it throws RollcallUnavailable. Leave that to error.tsx, and never catch it to let somebody in
// or to tell somebody that he is no member.
//
// Within one render the same question is asked once, and whoever asks it again gets the same answer.

import "server-only";

import { auth } from "@clerk/nextjs/server";
import { headers } from "next/headers";
import { notFound } from "next/navigation";
import { cache } from "react";

/** A user's membership of one organization. Times are Clerk's, in milliseconds. */
export type Membership = {
  organizationId: string;
  organizationSlug: string | null;
  organizationName: string;
  /** The role key, `org:admin`. */
  role: string;
  imageUrl: string | null;
  membershipId: string;
  createdAt: number;
  updatedAt: number;
  organizationUpdatedAt: number;
};

/** Who calls, by a session token that was verified. */
export type UserContext = {
  userId: string;
  sessionId: string;
  /** Who acts as the user, if it is not the user. */
  actor: { sub: string; [claim: string]: unknown } | null;
  /** The organization that was asked for, or else the one that is active in the session. */
  organization: Membership | null;
  /** There is an active organization, and the user is not in it any more. */
  organizationReason?: "not-a-member";
  claims: { azp: string | null; iat: number; exp: number; fva: [number, number] | null; sts: string | null };
  tokenExpiresAt: number;
};

/** Nobody is signed in: there is no session token, or it was refused. `code` says why. */
export class NotSignedIn extends Error {
  override readonly name = "NotSignedIn";
  readonly code: string;

  constructor(code: string) {
    super(`nobody is signed in: ${code}`);
    this.code = code;
  }
}

/** It could not be found out. Neither a yes nor a no: answer 503, do not deny. */
export class RollcallUnavailable extends Error {
  override readonly name = "RollcallUnavailable";
  /** Of the answer, if there was one. */
  readonly status: number | undefined;
  /** Rollcall's code, such as `origin-unavailable`; none if the answer was not rollcall's. */
  readonly code: string | undefined;
  /** Under which rollcall's log tells of it. */
  readonly requestId: string | undefined;

  constructor(what: string, answer?: Answer, cause?: unknown) {
    super(`could not be found out: ${what}`, { cause });
    this.status = answer?.status;
    this.code = answer?.code;
    this.requestId = answer?.requestId;
  }
}

/** Who calls, and in which organization if one is active. Throws NotSignedIn. */
export async function currentUserContext(): Promise<UserContext> {
  return context(await askAsUser("/v1/context"));
}

/** All organizations of the current user, in Clerk's order. Throws NotSignedIn. */
export async function getCachedUserOrgMemberships(): Promise<Membership[]> {
  const answer = await askAsUser("/v1/context?include=memberships");
  return context<UserContext & { memberships: Membership[] }>(answer).memberships;
}

/**
 * The context of a current user who is a member of the organization, by slug or id, in this role or in one of these if any are
 * named. Nobody else comes past it: who is not a member gets the page of notFound(), as for an organization that does not
 * exist, and who is not signed in is sent to sign in.
 */
export async function requireOrgAccess(
  org: string,
  role?: string | string[],
): Promise<UserContext & { organization: Membership }> {
  const answer = await askAsUser(`/v1/context?${query([["org", org], ...roles(role)])}`);
  if (isMember(answer)) return answer.body as UserContext & { organization: Membership };
  if (isNo(answer)) notFound();
  const why = refusal(answer);
  if (why instanceof NotSignedIn && CURED_BY_SIGNING_IN.includes(why.code)) return (await auth()).redirectToSignIn();
  throw why;
}

/** Whether this user is a member of the organization, by slug or id, in this role or in one of these if any are named. */
export async function verifyOrgMembership(userId: string, org: string, role?: string | string[]): Promise<boolean> {
  const answer = await askAsService(
    `/v1/users/${encodeURIComponent(userId)}/orgs/${encodeURIComponent(org)}?${query(roles(role))}`,
  );
  if (isMember(answer)) return true;
  if (isNo(answer)) return false;
  throw unavailable(answer);
}

/** The session token of the request at hand. Without Clerk's proxy: `(await cookies()).get("__session")?.value ?? null`. */
async function sessionToken(): Promise<string | null> {
  return (await auth()).getToken();
}

/** What an answer holds. Without a decision it says why there is none, if rollcall sent it. */
type Answer = {
  status: number;
  decision: string | null;
  code?: string | undefined;
  requestId?: string | undefined;
  body: unknown;
};

const askAsUser = cache(async (path: string): Promise<Answer> => {
  const token = await sessionToken();
  if (!token) return { status: 401, decision: null, code: "caller-unknown", body: null };
  // Of one request, the logs of both services tell under one id.
  const requestId = (await headers()).get("x-request-id");
  return ask(path, { authorization: `Bearer ${token}`, ...(requestId && { "x-request-id": requestId }) });
});

/** By the service key: also where nobody's request is at hand, as in instrumentation.ts. */
const askAsService = cache(async (path: string): Promise<Answer> => {
  return ask(path, { authorization: `Bearer ${setting("ROLLCALL_KEY")}` });
});

/** All that a question may take. A read of Clerk alone may take 4.5 s: a second try is made only where its pause still fits. */
const DEADLINE_MS = 5_000;

/** Asks, and once more if rollcall could not find out, says when it may, and that is before the deadline. */
async function ask(path: string, headers: Record<string, string>): Promise<Answer> {
  const url = setting("ROLLCALL_URL").replace(/\/+$/, "") + path;
  const deadline = Date.now() + DEADLINE_MS;
  const signal = AbortSignal.timeout(DEADLINE_MS);
  // Credentials follow no redirect, and Next keeps no answer, nor a page made of one. This is not said by `cache: "no-store"`:
  // for that fetch sends `Cache-Control: no-cache`, by which rollcall would ask Clerk every time.
  const send = () => fetch(url, { headers, signal, redirect: "manual", next: { revalidate: 0 } });
  try {
    const response = await send();
    const pauseMs = Number(response.headers.get("retry-after")) * 1_000;
    if (response.status !== 503 || !(pauseMs > 0) || Date.now() + pauseMs >= deadline) return await read(response);
    await response.text();
    await new Promise((resume) => setTimeout(resume, pauseMs));
    return await read(await send());
  } catch (error) {
    throw new RollcallUnavailable("no answer, or half of one", undefined, error);
  }
}

const PROBLEM = "urn:rollcall:problem:";

async function read(response: Response): Promise<Answer> {
  const { status, headers } = response;
  const decision = headers.get("rollcall-decision");
  const requestId = headers.get("x-request-id") ?? undefined;
  // A decision that cannot be read is none; of all else only a problem of rollcall's own is looked at.
  if (decision !== null) return { status, decision, requestId, body: await response.json() };
  const problem = await response.json().catch(() => null);
  const type = String(problem?.type);
  return { status, decision, requestId, code: type.startsWith(PROBLEM) ? type.slice(PROBLEM.length) : undefined, body: null };
}

function isMember({ decision }: Answer): boolean {
  return decision === "member";
}

function isNo({ decision }: Answer): boolean {
  return decision === "not-a-member" || decision === "role-missing" || decision === "user-unknown";
}

function context<Context extends UserContext>(answer: Answer): Context {
  if (answer.decision === "context") return answer.body as Context;
  throw refusal(answer);
}

// Nothing else is cured by signing in. With a token of another instance, say, or by a clock that is wrong, he is signed in as far
// as Clerk knows: it would send him straight back here, and round again.
const CURED_BY_SIGNING_IN = ["caller-unknown", "session-ended", "session-pending"];
const SAID_OF_A_TOKEN = [
  ...CURED_BY_SIGNING_IN,
  "token-invalid",
  "token-expired",
  "token-not-yet-valid",
  "token-kind-refused",
  "party-unauthorized",
];

function refusal(answer: Answer): NotSignedIn | RollcallUnavailable {
  // The token is good, and its user is gone.
  if (answer.decision === "user-unknown") return new NotSignedIn("user-unknown");
  if (answer.code !== undefined && SAID_OF_A_TOKEN.includes(answer.code)) return new NotSignedIn(answer.code);
  return unavailable(answer);
}

function unavailable(answer: Answer): RollcallUnavailable {
  return new RollcallUnavailable(answer.code ?? `status ${answer.status}, decision ${answer.decision}`, answer);
}

/** Any of them. None at all is a mistake: it would let every member in. */
function roles(role: string | string[] | undefined): [string, string][] {
  if (role?.length === 0) throw new TypeError("no role is named: leave it out, or name one");
  return role === undefined ? [] : [role].flat().map((role) => ["role", role]);
}

function query(pairs: [string, string][]): string {
  return new URLSearchParams(pairs).toString();
}

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set`);
  return value;
}
