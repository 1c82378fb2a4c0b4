// Asks Clerk's API with @clerk/backend of npm as it comes, for tests/it/clerk_libraries.rs.
//
// stdin: {url, questions}; stdout: {outcomes, addresses}, an outcome for each question and whom it connected to. Every question
// has the secret key to ask with.
//   {do: "page", user, limit?, offset?} -> {total, rows}
//   {do: "every", user, limit}          -> ids of memberships, page after page until all are there
//   {do: "user", id}                    -> {id, firstName, lastName, email, isBanned, createdAt}
//   {do: "organization", id}            -> {id, slug, name, members, createdAt}
//   {do: "keys"}                        -> ids of keys
//   {do: "verify", token, parties?, at?} -> {user, session, organization}, at that time in ms where one is given
//   {do: "mint", session, seconds}      -> {user, session, seconds}, of a token that was verified
//   {do: "signIn", token, publishable}  -> {user, session, organization, slug, role, permissions}, of a request with that token
// What the library throws is {error: {status, code, parameter, retryAfter}}, or {error: {reason}} of a token.
// There may be thousands of questions.
import { readFileSync } from "node:fs";
import { addresses } from "./addresses.mjs";

const { createClerkClient, verifyToken } = await import("@clerk/backend");
const { url, questions } = JSON.parse(readFileSync(0, "utf8"));

const row = (membership) => ({
  id: membership.id,
  role: membership.role,
  permissions: membership.permissions.length,
  organization: organization(membership.organization),
  user: membership.publicUserData.userId,
  createdAt: membership.createdAt,
  updatedAt: membership.updatedAt,
});

const organization = ({ id, slug, name, membersCount, createdAt }) => ({ id, slug, name, members: membersCount, createdAt });

async function every(clerk, userId, limit) {
  const ids = [];
  for (;;) {
    const { data, totalCount } = await clerk.users.getOrganizationMembershipList({ userId, limit, offset: ids.length });
    ids.push(...data.map(({ id }) => id));
    if (data.length === 0 || ids.length >= totalCount) return ids;
  }
}

function verify({ key, parties }, token) {
  return verifyToken(token, { secretKey: key, apiUrl: url, authorizedParties: parties });
}

const clock = Date.now;

async function asOf(at, ask) {
  Date.now = at === undefined ? clock : () => at;
  try {
    return await ask();
  } finally {
    Date.now = clock;
  }
}

async function answer(question) {
  const clerk = createClerkClient({ secretKey: question.key, apiUrl: url });
  switch (question.do) {
    case "page": {
      const { user: userId, limit, offset } = question;
      const page = await clerk.users.getOrganizationMembershipList({ userId, limit, offset });
      return { total: page.totalCount, rows: page.data.map(row) };
    }
    case "every":
      return every(clerk, question.user, question.limit);
    case "user": {
      const { id, firstName, lastName, primaryEmailAddress, banned, createdAt } = await clerk.users.getUser(question.id);
      return { id, firstName, lastName, email: primaryEmailAddress.emailAddress, isBanned: banned, createdAt };
    }
    case "organization":
      return organization(await clerk.organizations.getOrganization({ organizationId: question.id }));
    case "keys":
      return (await clerk.jwks.getJwks()).keys.map(({ kid }) => kid);
    case "verify": {
      const claims = await asOf(question.at, () => verify(question, question.token));
      // As the library goes by the version.
      const organization = claims.v === 2 ? claims.o?.id : claims.org_id;
      return { user: claims.sub, session: claims.sid, organization: organization ?? null };
    }
    case "mint": {
      const { jwt } = await clerk.sessions.getToken(question.session, undefined, question.seconds);
      const claims = await verify(question, jwt);
      return { user: claims.sub, session: claims.sid, seconds: claims.exp - claims.iat };
    }
    case "signIn": {
      const request = new Request("https://app.example.test/", { headers: { authorization: `Bearer ${question.token}` } });
      const state = await clerk.authenticateRequest(request, { publishableKey: question.publishable });
      const { userId: user, sessionId: session, ...active } = state.toAuth();
      const { orgId: organization, orgSlug: slug, orgRole: role, orgPermissions: permissions } = active;
      return { user, session, organization, slug, role, permissions };
    }
  }
  throw new Error(`nobody can do ${question.do}`);
}

// Anything else that is thrown is a fault of this script, and ends it.
function refusal(error) {
  if (error.name === "ClerkAPIResponseError") {
    const [{ code, meta }] = error.errors;
    return { status: error.status, code, parameter: meta?.paramName ?? null, retryAfter: error.retryAfter ?? null };
  }
  if (error.constructor.name.endsWith("TokenVerificationError")) return { reason: error.reason };
  // It trips over a header or claims that are no object.
  if (error instanceof TypeError && error.message.startsWith("Cannot destructure")) return { reason: error.name };
  throw error;
}

const outcomes = [];
for (const question of questions) {
  outcomes.push(await answer(question).then((ok) => ({ ok }), (error) => ({ error: refusal(error) })));
}
process.stdout.write(JSON.stringify({ outcomes, addresses: [...addresses] }));
