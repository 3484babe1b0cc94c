"""What the upstream says of a response as a whole: kept as it comes, and told in the words of the event writer."""

from __future__ import annotations

from dataclasses import replace

from ...wire.event_writer import Emitter
from ..reader import TERMINAL
from .values import Identity, Json, name_of, repaired_response, timestamp

STATUS_ENDS = {"incomplete": "incomplete", "failed": "failed", "cancelled": "failed"}


class Account:
    """The response of one reply. *identity* counts as far as the upstream does not say who it is."""

    def __init__(self, emitter: Emitter, identity: Identity) -> None:
        self.emitter = emitter
        self.identity = identity
        self.given: Json = {}
        """What the upstream has said of it so far."""

    def learn(self, event: Json) -> None:
        """Remember what *event* says of it; a bare response object may stand in the place of an event."""
        response = event if event.get("object") == "response" else event.get("response")
        given = response if isinstance(response, dict) else {}
        if "usage" in event and not given.get("usage"):
            given = {**given, "usage": event["usage"]}
        self.given |= {name: value for name, value in given.items() if value is not None or name not in self.given}
        self.emitter.raw_usage = self.given.get("usage")

    def begin(self, event: Json, members: Json) -> bool:
        """Announce it; False if it has been. *event* may say who it is: the first id that is named stays. The upstream
        adds *members* to the event that announces it."""
        if self.emitter.begun:
            return False
        id = name_of(self.given, "id") or name_of(event, "response_id")
        id = id if id and not self.identity.settled else self.identity.id
        created = timestamp(self.given.get("created_at")) or timestamp(self.given.get("created"))
        self.identity = replace(self.identity, id=id, created_at=created or self.identity.created_at)
        self.describe("queued" if self.given.get("status") == "queued" else "in_progress")
        self.emitter.announce("created", **members)
        return True

    def reach(self, state: str, members: Json) -> None:
        """It is at a point before its end; what is told twice is told once."""
        if state not in self.emitter.told:
            self.describe(state)
            self.emitter.announce(state, **members)

    def describe(self, status: str, usage: bool = False) -> None:
        """Let the writer say of it what the upstream has said; how much was used only at the end."""
        response = repaired_response(self.given, self.identity, status)
        self.emitter.describe(response if usage else response | {"usage": None})

    def ending(self, type: str) -> str:
        """The status with which it ends in an event of *type*: a `completed` that says otherwise of itself is none."""
        if self.emitter.failure is not None:
            return "failed"
        named = TERMINAL.get(type)
        if named in (None, "completed"):
            return STATUS_ENDS.get(name_of(self.given, "status"), named or "completed")
        return str(named)

    def end(self, status: str, members: Json) -> None:
        """It has ended as *status*: completed or incomplete."""
        self.describe(status, usage=True)
        response = self.emitter.response
        if status == "completed":
            self.emitter.complete(response["completed_at"], **members)
        else:
            details = response["incomplete_details"]
            self.emitter.incomplete(details and details["reason"], **members)
