"""Every line that the package logs beside the one of each request: where, how loud, in which words, under which key.

A line says what happened, to whom, and what to do next or where to look. Its key stands in the log record's `extra` as
`event` and never changes, nor do the names of the figures beside it; the words may. What others have chosen is shown in
one line. Never a key, a prompt, an answer, or the text of an exception: that may quote any of them.
"""

from __future__ import annotations

import logging
from typing import NamedTuple


class Line(NamedTuple):
    """One line: the *logger* below `gomodel_asgi`, the *level*, and the *words* with the names of its figures."""

    logger: str
    level: int
    words: str


DEBUG, INFO, WARNING, ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

LINES: dict[str, Line] = {
    # The lines of `LoggingObserver`...
    "breaker_opened": Line(
        "requests",
        WARNING,
        "%(provider)s is failing (model %(target_model)s): at least half of its requests in the last minute, so its"
        " circuit breaker has opened. Requests go to fallbacks or get 503 overloaded, and one is let through every 10 s"
        " to see whether it answers again. See the errors of its requests above, and its status page.",
    ),
    "breaker_still_open": Line(
        "requests",
        WARNING,
        "%(provider)s is still failing (model %(target_model)s): its circuit breaker opened %(seconds)d s ago, and"
        " %(probes)d requests that were let through to try it have failed. See the errors of its requests above, and"
        " its status page.",
    ),
    "breaker_closed": Line(
        "requests",
        INFO,
        "%(provider)s answers again (model %(target_model)s): its circuit breaker has closed after %(seconds)d s."
        " Nothing is to be done.",
    ),
    "store_unavailable": Line(
        "requests",
        WARNING,
        "The state store does not answer: requests that look up, continue or keep a response get 503"
        " store_unavailable, others go on. See whether it is up and can be reached from here.",
    ),
    "store_available": Line(
        "requests", INFO, "The state store answers again, after %(seconds)d s. Nothing is to be done."
    ),
    "fallback": Line(
        "requests",
        WARNING,
        "%(source)s failed (%(reason)s), so %(provider)s is asked instead (%(often)s). Clients may get another model at"
        " another price. See why %(source)s fails.",
    ),
    "credential_refused": Line(
        "requests",
        ERROR,
        "%(provider)s refuses the gateway's API key with the fingerprint %(fingerprint)s (%(often)s, first in the"
        " request %(request_id)s). Renew the key, or see whether its account is paid. Said again in an hour if it goes"
        " on.",
    ),
    "keepalive_lost": Line(
        "requests",
        WARNING,
        "%(origin)s sent bytes after a complete reply: it, or a proxy before it, is broken. Nobody was given them; each"
        " request gets a connection of its own for %(seconds)d s. Look for an update of that server or proxy.",
    ),
    "quota_unavailable": Line(
        "requests",
        WARNING,
        "The counters of the quota %(quota)s (%(unit)s) do not answer: requests are let in or get 503"
        " quota_unavailable, as Quotas(on_unavailable=...) says. See whether their Redis or PostgreSQL is up.",
    ),
    "quota_available": Line(
        "requests",
        INFO,
        "The counters of the quota %(quota)s (%(unit)s) answer again, after %(seconds)d s. Nothing is to be done.",
    ),
    "guard_failed": Line(
        "requests",
        WARNING,
        "The guard %(guard)s failed (%(error)s) at the %(stage)s of the request %(request_id)s (%(often)s). What it"
        " should see gets 503 guard_unavailable, unless it has on_error='pass'. See its own log, or whatever it asks.",
    ),
    # Observers...
    "observer_failed": Line(
        "observers",
        ERROR,
        "The observer %(observer)s raised %(error)s, and may have missed a record. Requests go on. Correct it; its"
        " later failures are not logged.",
    ),
    "sink_failed": Line(
        "observers",
        ERROR,
        "The sink of an AsyncObserver raised %(error)s, and a record is lost. Requests go on. See what it writes to;"
        " later failures are counted in `failed`, and not logged.",
    ),
    "end_unreported": Line(
        "observers",
        ERROR,
        "The end of an exchange could not be reported to the quotas or the ledger (%(error)s): what it has used may not"
        " be booked. This is a bug; please report it.",
    ),
    # Stores...
    "circuit_opened": Line(
        "stores",
        WARNING,
        "The %(engine)s did not answer in time, and is not asked for %(seconds)g s. See whether it is up, can be"
        " reached from here, and is not overloaded.",
    ),
    "record_sealed": Line(
        "stores",
        WARNING,
        "A record of %(collection)r does not open with the key given and reads as absent. See whether all"
        " workers have the same key, and whether it was changed. Said once for each collection.",
    ),
    "record_unreadable": Line(
        "stores",
        WARNING,
        "A stored %(kind)s %(why)s and reads as absent. See whether an older version of the package runs beside a newer"
        " one. Said once for each version.",
    ),
    "tenants_unbounded": Line(
        "stores",
        WARNING,
        "Nothing bounds what is stored of one tenant (Limits.tenant_bytes). %(limitation)s Use a store that can, or"
        " bound it there.",
    ),
    "work_failed": Line(
        "stores",
        ERROR,
        "Work behind a reply failed: %(error)s. The client has its answer; what should have been kept or booked of it"
        " may be lost.",
    ),
    # Quotas...
    "counters_unavailable": Line(
        "quotas",
        WARNING,
        "The quota counters do not answer: %(detail)s. What requests have used waits and is booked when they do. See"
        " whether their Redis or PostgreSQL is up and can be reached from here.",
    ),
    "counters_available": Line(
        "quotas", INFO, "The quota counters answer again; %(waiting)d bookings that waited follow now."
    ),
    "price_failed": Line(
        "quotas",
        ERROR,
        "The price of a request could not be found: %(error)s; what it had reserved is booked. See the function of"
        " Quotas(price=...).",
    ),
    "price_unknown": Line(
        "quotas",
        WARNING,
        "No price is known any more for what a request has used; what it had reserved is booked. Update the price list,"
        " or give Quotas(price=...).",
    ),
    "unpriced_installation": Line(
        "quotas",
        WARNING,
        "No price list knows what the self-hosted %(providers)s cost: a quota of money refuses their requests; give"
        " Quotas(price=...).",
    ),
    "unpriced_type": Line(
        "quotas",
        WARNING,
        "The type of %(providers)s is none of ours, and the price list may not know it: a quota of money refuses what"
        " has no price; say Provider(type='openai'), or whose models these are, or give Quotas(price=...).",
    ),
    # The ledger...
    "ledger_unpriced": Line(
        "ledger", WARNING, "The ledger knows no prices, so it writes no costs: %(how)s, or give Ledger(price=...)."
    ),
    "ledger_unavailable": Line(
        "ledger",
        ERROR,
        "The ledger's %(sink)s does not take rows: %(error)s. %(where)s See whether its database is up, or its disk is"
        " full.",
    ),
    "ledger_still_unavailable": Line(
        "ledger", DEBUG, "The ledger's %(sink)s does still not take rows: %(error)s, %(failures)d times in a row."
    ),
    "ledger_available": Line(
        "ledger",
        INFO,
        "The ledger's %(sink)s takes rows again, after %(failures)d failures. Those that waited or were spilled follow"
        " now.",
    ),
    "ledger_spill_failed": Line(
        "ledger",
        ERROR,
        "The ledger cannot spill rows to %(path)s: %(error)s. %(waiting)d wait in memory and are lost if this process"
        " ends. See whether the disk is full, or read-only. Said again in five minutes if it goes on.",
    ),
    "ledger_spill_unreadable": Line(
        "ledger",
        ERROR,
        "The ledger's spill at %(path)s cannot be read: %(error)s. Its rows stay there and are tried again each minute."
        " See who owns the file.",
    ),
    "ledger_spill_damaged": Line(
        "ledger",
        ERROR,
        "%(rows)d spilled rows were cut off by a crash, at %(path)s, and cannot be read. What they would have said is"
        " lost; requests of the second before the crash may be missing.",
    ),
    "ledger_row_refused": Line(
        "ledger", ERROR, "The ledger's %(sink)s refuses the row %(row)s (%(reason)s). %(where)s Others are written."
    ),
    "ledger_dropping": Line(
        "ledger",
        ERROR,
        "The ledger drops rows: neither its sink nor a spill takes them, and %(waiting)d wait already. What these"
        " requests cost is not known. See the lines above; `gateway.ledger.dropped` counts them.",
    ),
    "ledger_rows_left": Line(
        "ledger",
        ERROR,
        "%(rows)d rows of the ledger wait as it closes, and neither its sink nor a spill takes them. They are lost if"
        " the process ends.",
    ),
    "ledger_unwritten": Line(
        "ledger",
        ERROR,
        "A request goes on, though the ledger could not write it down before (%(request_id)s). That is what"
        " on_full='drop' means with audit=True. See the lines above.",
    ),
    "ledger_content_failed": Line(
        "ledger",
        ERROR,
        "What is said in the request %(request_id)s is not kept: the function of Ledger(content=...) raised %(error)s."
        " Correct it.",
    ),
    "ledger_price_failed": Line(
        "ledger",
        ERROR,
        "A cost is unknown: the function of prices raised %(error)s. Rows are written without cost. Correct it; its"
        " later failures are not logged.",
    ),
    # The gateway, and what runs beside it...
    "no_authentication": Line(
        "gateway",
        WARNING,
        "A request without a user in its scope got 401: no authentication has seen it before the gateway. See the order"
        " of your middlewares: authentication belongs outside the gateway. Where it sets a user only for those whom it"
        " knows, nothing is to be done. This is logged once.",
    ),
    "gateway_exposed": Line("gateway", WARNING, "%(gateway)s: %(why)s"),
    "session_ended": Line("tools", DEBUG, "An MCP session ended with %(error)s."),
    "session_stuck": Line(
        "tools",
        WARNING,
        "An MCP session does not end although it was cancelled: a task of the server's or the SDK's stays. Look for a"
        " tool that ignores cancellation.",
    ),
}


def log(event: str, /, *, to: logging.Logger | None = None, **figures: object) -> None:
    """Logs the line of this *event* with its *figures*, which stand in `extra` as they are; *to* another logger than
    its own, if one is given."""
    line = LINES[event]
    logger = logging.getLogger(f"gomodel_asgi.{line.logger}") if to is None else to
    if logger.isEnabledFor(line.level):
        shown = {name: on_one_line(value) if isinstance(value, str) else value for name, value in figures.items()}
        arguments = (shown,) if shown else ()  # logging takes an empty dict for no figures at all
        logger.log(line.level, line.words, *arguments, extra={"event": event, **figures}, stacklevel=2)


def on_one_line(text: str) -> str:
    """Returns *text*, quoted where it holds what is not printable and could look like another line."""
    return text if text.isprintable() else repr(text)
