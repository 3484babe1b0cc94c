"""What all of one response's parts share: the request as it came, the plans, the writer, what was told so far."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from ...dialects.reader import TranslatedReader
from ...exchange.job import Job, provider_of
from ...observers.answer import clean
from ...routing.request import Target
from ...upstream.upstream_request import longest
from ...wire.event_writer import Emitter
from ...wire.redaction import redacted as without_secrets
from ...wire.response import DEFAULTS, OPTIONAL_ECHO
from .declarations import Declared
from .ledger import Ledger
from .memory import Remembered
from .outlet import Outlet
from .plan import Plan
from .request import Candidate, Containers, last_container
from .rewriter import Rewriter
from .sessions import Sessions
from .source import Json, Listed
from .toolbox import Toolbox


class Work:
    """One response. *chain* is that of *target*, *labels* are the servers to be listed, *known* is what is remembered
    of items, *own* are the items of the request's own input and *before* those of the turns that it continues."""

    def __init__(
        self,
        toolbox: Toolbox,
        job: Job,
        target: Target,
        chain: Sequence[Candidate],
        labels: Mapping[str, Declared],
        known: dict[str, Remembered],
        own: Sequence[Any],
        before: Sequence[Json],
    ) -> None:
        self.toolbox = toolbox
        self.job = job
        self.target = target
        self.chain = chain
        self.labels = {**labels}
        self.known = known
        self.own = own
        self.before = before
        self.body = chain[0].body
        self.id = job.response_id or "resp_" + secrets.token_hex(24)
        self.until = job.started + longest(target, job)
        """When the response must have ended, on the clock."""
        self.secrets = tuple(secret for one in chain for tool in one.declared for secret in tool.secrets)
        self.included = frozenset(value for value in self.body.get("include") or () if isinstance(value, str))
        self.plans: list[Plan] = []
        """One for each Target of the chain."""
        self.lists: dict[str, Sequence[Listed]] = {}
        self.sessions = Sessions()
        self.told: dict[str, Remembered] = {}
        """What the model was told, by the ids of the items."""
        self.ran = False
        """Whether a tool has been called: from then on a failure is told in the response."""
        self.emitter = self._emitter()
        self.ledger = Ledger(job.setup.limits, whole_number(self.body.get("max_tool_calls")))
        self.rewriter = Rewriter(self.emitter, self.ledger, Containers(last_container([*before, *own])))
        self.reader = TranslatedReader(self.rewriter, self.emitter, job.setup.limits, self.secrets)
        self.outlet = Outlet(self.reader, job.setup.limits.buffer, job.trace, self.cancel) if job.stream else None
        self.begun = anyio.Event()
        """Set once there is something to be read of the stream."""

    async def flush(self, *, last: bool = False) -> None:
        """Let the client have what was written."""
        await self.give(self.reader.take(), last=last)

    async def give(self, events: bytes, *, last: bool = False) -> None:
        """Let the client have *events*; the *last* end the response."""
        if self.outlet is not None:
            if events:
                self.begun.set()
            await self.outlet.give(events, last=last)

    def cancel(self) -> bool:
        """The client has left: the response ends with what was finished, if a tool has run; whether it has."""
        if not self.ran or self.emitter.terminal is not None:
            return False
        self.rewriter.cut_off()
        usage = self.rewriter.usage
        self.emitter.usage(usage, usage)
        self.emitter.cancel()
        self.reader.take()  # nothing was written, but the reader is to know
        return True

    def redacted(self, text: str) -> str:
        """*text* as observers may have it: without the credentials of the declarations."""
        data = without_secrets(self.secrets, text.encode("utf-8", "replace")).decode("utf-8", "replace")
        return clean(data, 2048) or ""

    def _emitter(self) -> Emitter:
        job, target = self.job, self.target
        echo = {**job.request.envelope.values((*DEFAULTS, *OPTIONAL_ECHO, "input")), **(target.params or {})}
        if isinstance(echo.get("conversation"), str):
            echo["conversation"] = {"id": echo["conversation"]}
        return Emitter(
            response_id=self.id,
            created_at=int(time.time()),
            model=target.model or job.request.model or "",
            echo=echo,
            stamp=provider_of(target, job).name if job.setup.stamp else None,
            stream=job.stream,
            leading=job.leading,
            spent=job.spent,
            public=self.toolbox.public,
        )


def whole_number(value: Any) -> int | None:
    """*value*, if it is an integer."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None
