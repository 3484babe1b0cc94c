"""Hosted tools that the host's own functions run: the model is shown functions, the client gets OpenAI's items.

    declarations.py  the tools that the host has configured, and those that a request declares
    plan.py          which of them run here for one Target, and what the model is shown in their place
    families.py      the kinds of tools: function, item and events, result in words
    call_limits.py   what the calls of one response have come to: limits, repetitions, how much the model has read
    round.py         one round: its calls and items, as the client sees them
    rewriter.py      the events of all rounds as those of one response, in order
    citations.py     links and marks in the model's text as annotations
    listing.py       what an MCP server says, made fit for a model: its list, the outcome of a call

    host.py          the way in
    request.py       what a request asks of the host's tools
    loop.py          a round through `upstream.chain`, the host's functions, the next round; counts the rounds
    round_chain.py   the chain of Targets as each round asks it
    run.py           what all parts of the work on one response share, and its stream
    calls.py         the calls of one round
    results.py       what a tool gave, as guards let it pass and limits allow
    servers.py       the lists of MCP servers
    approvals.py     what the client has approved, and what it has yet to
    remembered.py    what the model has had, kept for the next turn
    replay.py        the request of a round or a later turn, with what the model has had

    seams.py         what the loop asks of an MCP server and of a kind of tool
    functions.py     a list of plain functions as such a server
    sessions.py      the open servers of one response, each in a task of its own
    remote.py        which servers need the mcp SDK, where they are, and what a client may say of its own
    mcp_client.py    sessions by the SDK, imported when the first is opened

The first group is values in, values out; only the second waits.
"""
