"""Signs and verifies with standardwebhooks of PyPI, for tests/it/signatures.rs.

A JSON list of cases on stdin, a JSON list of outcomes on stdout, one for each:
  {do: "sign", secret, id, timestamp, body}   -> {signature}
  {do: "verify", secret, headers, body}       -> {verdict: "ok" | "refused" | "error", why}
timestamp is in seconds, body is base64. "error" is any exception that is not the library's own refusal.
"""

import base64
import json
import sys
from datetime import datetime, timezone

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def outcome(item):
    body = base64.b64decode(item["body"])
    if item["do"] == "sign":
        # A naive time would be taken as UTC, whatever zone it was made in.
        timestamp = datetime.fromtimestamp(item["timestamp"], tz=timezone.utc)
        return {"signature": Webhook(item["secret"]).sign(item["id"], timestamp, body.decode())}
    # It reads the names of Standard Webhooks only.
    headers = {name.replace("svix-", "webhook-"): value for name, value in item["headers"].items()}
    try:
        Webhook(item["secret"]).verify(body, headers, json_parse=False)
        return {"verdict": "ok"}
    except WebhookVerificationError as error:
        return {"verdict": "refused", "why": str(error)}
    except Exception as error:
        return {"verdict": "error", "why": f"{type(error).__name__}: {error}"}


json.dump([outcome(item) for item in json.load(sys.stdin)], sys.stdout)
