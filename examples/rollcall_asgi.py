"""Who is calling, and in which organizations, for an ASGI app (Starlette, FastAPI) whose users sign in with Clerk.

Copy this file; it needs httpx, and Python 3.11 or newer. Add the middleware as the app's own, so that it also answers what
`require_org` raises:

    middleware = [Middleware(RollcallMiddleware, url=os.environ["ROLLCALL_URL"], public=lambda path: path == "/health")]
    app = Starlette(routes=routes, middleware=middleware)

    async def invoices(request: Request) -> Response:
        membership = await require_org(request, request.path_params["slug"], "org:admin")

Every request with a session token, as `Authorization: Bearer` or, with `cookie=True`, in Clerk's cookie, has the answer of
`GET /v1/context` in `request.state.rollcall`. Without a token that is taken it is answered 401 and reaches nobody, but for public
paths, where nobody is asked and `request.state.rollcall` is None. CORSMiddleware, if there is one, comes before it: a preflight
has no token. An app of its own that is mounted in this one answers what is raised within it by itself, with 500: let it handle
Refusal.

An answer is a decision if it carries Rollcall-Decision, and only then. A proxy's 404, a time-out or a service that is away is
neither a yes nor a no: it is answered 503, never 404, and nobody is let in.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NotRequired, Protocol, TypedDict, cast

import httpx

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOG = logging.getLogger("rollcall")

DEADLINE = 5.0
"""Seconds that a question may take. A read of Clerk alone may take 4.5: a second try is made only where its pause fits."""


class Membership(TypedDict):
    """A user's membership of one organization. Times are Clerk's, in milliseconds."""

    organizationId: str
    organizationSlug: str | None
    organizationName: str
    role: str
    imageUrl: str | None
    membershipId: str
    createdAt: int
    updatedAt: int
    organizationUpdatedAt: int


class Claims(TypedDict):
    """What is passed on of a session token."""

    azp: str | None
    iat: int
    exp: int
    fva: list[int] | None
    sts: str | None


class UserContext(TypedDict):
    """Who calls, by a session token that was verified."""

    userId: str
    sessionId: str
    # Who acts as the user, if it is not the user.
    actor: dict[str, Any] | None
    # The organization that was asked for, or else the one that is active in the session.
    organization: Membership | None
    # There is an active organization, and the user is not in it any more.
    organizationReason: NotRequired[Literal["not-a-member"]]
    # All of the user's, where the middleware is told to include them.
    memberships: NotRequired[list[Membership]]
    claims: Claims
    tokenExpiresAt: int


class Refusal(Exception):
    """Why nobody is let in, and how the middleware answers it."""

    status: ClassVar[int]
    title: ClassVar[str]
    headers: ClassVar[list[tuple[bytes, bytes]]] = []
    # Of a WebSocket.
    close_code: ClassVar[int] = 1008

    def __init__(self, code: str) -> None:
        super().__init__(f"{self.title}: {code}")
        self.code = code


class NotSignedIn(Refusal):
    """There is no session token, or it was refused."""

    status = 401
    title = "Nobody is signed in"
    headers = [(b"www-authenticate", b"Bearer")]


class NoAccess(Refusal):
    """A decision: not a member, or not in this role. Answered as if there were no such organization."""

    status = 404
    title = "Not found"


class RollcallUnavailable(Refusal):
    """It could not be found out. Neither a yes nor a no."""

    status = 503
    title = "It could not be found out"
    headers = [(b"retry-after", b"1")]
    close_code = 1013


class HasState(Protocol):
    """A request of Starlette's or FastAPI's, or a WebSocket."""

    @property
    def state(self) -> Any: ...


class RollcallMiddleware:
    """Asks who calls, once for each request, and refuses those who are not signed in.

    `public` tells of a path whether anybody may come. `org` tells of a request, before it is routed, which organization (slug
    or id) it is about: who is not a member is answered 404. `memberships` adds the list of all of them to the context.

    `cookie` also takes the token of Clerk's cookie. A browser brings that by itself, for whichever page asks: rollcall needs
    CLERK_AUTHORIZED_PARTIES then, or an app beside this one, under the same domain, could act as its visitors.
    """

    def __init__(
        self,
        app: App,
        url: str,
        *,
        public: Callable[[str], bool] = lambda path: False,
        org: Callable[[Scope], str | None] = lambda scope: None,
        memberships: bool = False,
        cookie: bool = False,
    ) -> None:
        self.app = app
        self.url = url
        self.public = public
        self.org = org
        self.memberships = memberships
        self.cookie = cookie
        self.client: httpx.AsyncClient | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            async with httpx.AsyncClient(base_url=self.url, timeout=DEADLINE) as self.client:
                await self.app(scope, receive, send)
            return
        if self.client is None:
            raise RuntimeError("RollcallMiddleware hears of no lifespan: let the server run it, and add it to the app itself")
        is_answered = False

        async def watch(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        caller = Caller(self.client, tuple(credentials(scope, self.cookie)))
        # A copy, so that under no server another request sees it.
        state = scope["state"] = {**scope.get("state", {}), "rollcall": None, "rollcall_caller": caller}
        try:
            if not self.public(scope["path"]):
                state["rollcall"] = await caller.context(self.org(scope), memberships=self.memberships)
            await self.app(scope, receive, watch)
        except Refusal as refusal:
            if is_answered:
                raise
            await answer(scope, send, refusal)


async def require_org(request: HasState, org: str, role: str | Iterable[str] | None = None) -> Membership:
    """The current user's membership of the organization, by slug or id, in this role or in one of these if any are named.

    Raises NoAccess for everybody else, and for no other reason.
    """
    caller = cast(Caller, request.state.rollcall_caller)
    organization = (await caller.context(org, role))["organization"]
    if organization is None:
        raise RollcallUnavailable("a member without a membership")
    return organization


# The decisions that are one.
NO = {"not-a-member", "role-missing", "user-unknown"}
# What rollcall's codes say of a session token.
OF_A_TOKEN = {
    "caller-unknown",
    "token-invalid",
    "token-expired",
    "token-not-yet-valid",
    "token-kind-refused",
    "session-ended",
    "session-pending",
    "party-unauthorized",
}
PROBLEM = "urn:rollcall:problem:"


@dataclass(frozen=True)
class Caller:
    """Who sent a request: its token, which asks, and its id, so that the logs of both services tell of it under one."""

    client: httpx.AsyncClient
    headers: tuple[tuple[bytes, bytes], ...]

    async def context(
        self, org: str | None = None, role: str | Iterable[str] | None = None, *, memberships: bool = False
    ) -> UserContext:
        """Raises a refusal if there is none."""
        if not any(name == b"authorization" for name, _ in self.headers):
            raise NotSignedIn("caller-unknown")
        query = httpx.QueryParams([("role", role) for role in roles(role)])
        query = query if org is None else query.add("org", org)
        query = query.add("include", "memberships") if memberships else query
        try:
            response = await self.ask(query)
            decision = response.headers.get("rollcall-decision")
            if decision == ("context" if org is None else "member"):
                return cast(UserContext, response.json())
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            raise RollcallUnavailable("no answer, or half of one") from error
        if decision in NO:
            # Where no organization is asked for, it is the token's user who is gone.
            raise NotSignedIn(decision) if org is None else NoAccess(decision)
        code = problem(response) if decision is None else None
        if code in OF_A_TOKEN:
            raise NotSignedIn(code)
        raise RollcallUnavailable(code or f"status {response.status_code}, decision {decision}")

    async def ask(self, query: httpx.QueryParams) -> httpx.Response:
        """Asks, and once more if rollcall could not find out, says when it may, and that is before the deadline."""
        async with asyncio.timeout(DEADLINE) as deadline:
            response = await self.client.get("/v1/context", params=query, headers=self.headers)
            pause = response.headers.get("retry-after", "")
            left = (deadline.when() or 0.0) - asyncio.get_running_loop().time()
            if response.status_code != 503 or not pause.isdecimal() or float(pause) >= left:
                return response
            await asyncio.sleep(float(pause))
            return await self.client.get("/v1/context", params=query, headers=self.headers)


def problem(response: httpx.Response) -> str | None:
    """The code of a problem, if it is rollcall's."""
    try:
        kind = str(response.json()["type"])
    except (ValueError, LookupError, TypeError):
        return None
    return kind.removeprefix(PROBLEM) if kind.startswith(PROBLEM) else None


def roles(role: str | Iterable[str] | None) -> list[str]:
    """Any of them. None at all is a mistake: it would let every member in."""
    if role is None:
        return []
    named = [role] if isinstance(role, str) else list(role)
    if not all(named) or not named:
        raise ValueError("no role is named: leave it out, or name one")
    return named


def credentials(scope: Scope, takes_cookie: bool) -> Iterable[tuple[bytes, bytes]]:
    """The headers to ask with. The cookie is Clerk's, and counts only where there is no `Authorization`."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    authorization = next((value for name, value in headers if name == b"authorization"), None)
    token = b""
    if authorization is not None:
        scheme, _, given = authorization.partition(b" ")
        token = given.strip() if scheme.lower() == b"bearer" else b""
    elif takes_cookie:
        pairs = b";".join(value for name, value in headers if name == b"cookie").split(b";")
        cookie = next((pair.strip() for pair in pairs if pair.strip().startswith(b"__session=")), b"")
        token = cookie.removeprefix(b"__session=")
    if token:
        yield b"authorization", b"Bearer " + token
    yield from ((name, value) for name, value in headers if name == b"x-request-id")


async def answer(scope: Scope, send: Send, refusal: Refusal) -> None:
    """Answers a refusal. Of an organization nobody learns more than that it is not found, of an outage only the log."""
    if isinstance(refusal, RollcallUnavailable):
        LOG.warning("%s", refusal, exc_info=refusal.__cause__)
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": refusal.close_code})
        return
    problem = {"title": refusal.title, "status": refusal.status}
    if isinstance(refusal, NotSignedIn):
        problem["code"] = refusal.code
    body = json.dumps(problem).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store"), *refusal.headers]
    headers += [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
