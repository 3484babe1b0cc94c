"""Hosted tools that the host's own functions run: the model is shown functions, the client gets OpenAI's items.

    toolbox.py    what the host has configured, looked up by family and label
    plan.py       which declared tools run here for one Target, and what the model is shown instead: a request, rewritten
    families/     one module for each kind of tool: its function, its item and events, its result in words
    ledger.py     what the calls of one response have come to: limits, repetitions, the order of answers
    rewriter.py   the events of all rounds as those of one response
    runner.py     the loop: a round through `upstream.chain`, the host's functions, the next round
    memory.py     what the model was told, kept for the next turn
    approvals.py  calls that wait for the client's word
    source.py     what the loop asks of an MCP server: the seam for functions, in-process and remote servers
    functions.py  a list of plain functions as such a server
    remote.py     which servers need the mcp SDK, where they are, and what a client may say of its own
    mcp_client.py sessions by the SDK, imported when the first is opened
    owner.py      a session in a task of its own
    listing.py    what a server says of its tools, made fit to be shown
    results.py    what a call gave, as text and images

Planner, ledger and rewriter are values in, values out; only the runner waits. `runner.ToolLoop` is the one way in.
"""
