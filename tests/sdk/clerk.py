"""Asks Clerk's API with clerk-backend-api of PyPI as it comes, for tests/it/clerk_libraries.rs.

The same as clerk.mjs but for "signIn": the library asks nobody but Clerk itself for the keys of a request.
"""

import json
import sys

from addresses import addresses  # before all that connects

from clerk_backend_api import Clerk
from clerk_backend_api.models import ClerkBaseError
from clerk_backend_api.security.types import TokenVerificationError, VerifyTokenOptions
from clerk_backend_api.security.verifytoken import verify_token


def organization(found):
    return {
        "id": found.id,
        "slug": found.slug,
        "name": found.name,
        "members": found.members_count,
        "createdAt": found.created_at,
    }


def row(membership):
    return {
        "id": membership.id,
        "role": membership.role,
        "permissions": len(membership.permissions),
        "organization": organization(membership.organization),
        "user": membership.public_user_data.user_id,
        "createdAt": membership.created_at,
        "updatedAt": membership.updated_at,
    }


def every(clerk, user, limit):
    ids = []
    while True:
        page = clerk.users.get_organization_memberships(user_id=user, limit=limit, offset=len(ids))
        ids += [membership.id for membership in page.data]
        if not page.data or len(ids) >= page.total_count:
            return ids


def verify(url, question, token):
    options = VerifyTokenOptions(
        secret_key=question["key"], api_url=url, authorized_parties=question.get("parties")
    )
    return verify_token(token, options)


def answer(url, question):
    clerk = Clerk(bearer_auth=question["key"], server_url=url + "/v1")
    match question["do"]:
        case "page":
            paging = {name: question[name] for name in ("limit", "offset") if name in question}
            page = clerk.users.get_organization_memberships(user_id=question["user"], **paging)
            return {"total": page.total_count, "rows": [row(membership) for membership in page.data]}
        case "every":
            return every(clerk, question["user"], question["limit"])
        case "user":
            user = clerk.users.get(user_id=question["id"])
            [email] = [email for email in user.email_addresses if email.id == user.primary_email_address_id]
            return {
                "id": user.id,
                "firstName": user.first_name,
                "lastName": user.last_name,
                "email": email.email_address,
                "isBanned": user.banned,
                "createdAt": user.created_at,
            }
        case "organization":
            return organization(clerk.organizations.get(organization_id=question["id"]))
        case "keys":
            return [key.kid for key in clerk.jwks.get_jwks().keys]
        case "verify":
            claims = verify(url, question, question["token"])
            active = claims.get("o", {}).get("id") or claims.get("org_id")
            return {"user": claims["sub"], "session": claims["sid"], "organization": active}
        case "mint":
            token = clerk.sessions.create_token(session_id=question["session"], expires_in_seconds=question["seconds"])
            claims = verify(url, question, token.jwt)
            return {"user": claims["sub"], "session": claims["sid"], "seconds": claims["exp"] - claims["iat"]}
    raise ValueError(f"nobody can do {question['do']}")


def outcome(url, question):
    try:
        return {"ok": answer(url, question)}
    except TokenVerificationError as refused:
        return {"error": {"reason": refused.reason.value[0]}}
    except ClerkBaseError as refused:
        # Routes differ in which statuses the library reads as Clerk's errors; the body is there in any case.
        [error] = json.loads(refused.body)["errors"]
        wait = refused.headers.get("retry-after")
        return {
            "error": {
                "status": refused.status_code,
                "code": error["code"],
                "parameter": error.get("meta", {}).get("param_name"),
                "retryAfter": wait and int(wait),
            }
        }


asked = json.load(sys.stdin)
outcomes = [outcome(asked["url"], question) for question in asked["questions"]]
json.dump({"outcomes": outcomes, "addresses": addresses}, sys.stdout)
