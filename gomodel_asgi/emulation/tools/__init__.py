"""Hosted tools that the host's own functions run: the model is shown functions, the client gets OpenAI's items.

    toolbox.py       what the host has configured, looked up by family and label
    declarations.py  the tools that a request declares, read once
    plan.py          which of them run here for one Target, and what the model is shown in their place
    families.py      the kinds of tools: function, item and events, result in words (with values.py)
    bounds.py        results no larger than model and client may get
    ledger.py        what the calls of one response have come to: limits, repetitions, how much was told
    rewriter.py      the events of all rounds as those of one response
    rounds.py        what one round has come to
    citations.py     links and marks in the model's text as annotations

    host.py          the way in
    loop.py          a round through `upstream.chain`, the host's functions, the next round
    work.py          what the parts of one response share
    calls.py         the calls of one round
    servers.py       the lists of MCP servers
    resume.py        what the client has approved, and what it has yet to

    memory.py        what the model was told, kept for the next turn
    replay.py        the request of a round
    approvals.py     the ids of requests, and which requests an input answers
    outlet.py        the stream of a response that takes several rounds
    source.py        what the loop asks of an MCP server: the seam for functions, in-process and remote servers
    functions.py     a list of plain functions as such a server
    sessions.py      the open servers of one response
    remote.py        which servers need the mcp SDK, where they are, and what a client may say of its own
    mcp_client.py    sessions by the SDK, imported when the first is opened
    owner.py         such a session in a task of its own
    listing.py       what a server says of its tools, made fit to be shown
    results.py       what a call gave, as text and images

The first group is values in, values out; only the second waits.
"""
