"""Whom this process connects to, and every name it looks up, in order. To be imported before anything that connects."""

import sys
from typing import Any

addresses: list[str] = []


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect":
        found = "%s:%s" % arguments[1][:2]
    elif event == "socket.getaddrinfo":
        found = "%s:%s" % arguments[:2]
    else:
        return
    if found not in addresses:
        addresses.append(found)


sys.addaudithook(note)
