"""What a target cannot carry, and what happens then: one table of classes, and the three settings that act on them.

Each row of `TABLE` is in one of four classes. What is *without effect* is left out under every setting. A *preference*
is left out and named to the client. An *emulation* is brought about by other means. A *promise* is refused, since an
answer without it would be a wrong one. `unsupported="reject"` refuses all but the first class, `"drop"` leaves all of
them out. docs/providers.md shows the same table, and a test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ..errors import InvalidRequest

Json = dict[str, Any]
Policy = Literal["auto", "reject", "drop"]
Kind = Literal["without effect", "preference", "emulation", "promise"]

REFUSED = "unsupported_parameter"
"""The code of a refusal of what a target cannot carry."""
LEAVE_OUT = "Leave it out, or choose a provider that does."


@dataclass(frozen=True, slots=True)
class Feature:
    """One row of the table: *name* is the member, value, tool or include, *reason* says why it is in its class.

    *members* are the top-level members of a request that the row is about. *way_out* ends a refusal.
    """

    name: str
    kind: Kind
    reason: str
    members: tuple[str, ...] = ()
    way_out: str = LEAVE_OUT


LABELS = Feature(
    "`metadata`, `client_metadata`, `user`, `safety_identifier`",
    "without effect",
    "labels of the client's own, and whom abuse is traced to",
    ("metadata", "client_metadata", "user", "safety_identifier"),
)
CACHES = Feature(
    "`prompt_cache_key`, `prompt_cache_options`, `prompt_cache_retention`, `prompt_cache_breakpoint`",
    "without effect",
    "caches change the price, not the answer",
    ("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
)
TRUNCATION = Feature(
    "`truncation`",
    "without effect",
    "`auto` only permits it; input that is too long is refused by the upstream in its own words",
    ("truncation",),
)
OBFUSCATION = Feature(
    "`stream_options.include_obfuscation`",
    "without effect",
    "padding against eavesdroppers who count bytes: a stream may come without it",
)
NOTHING_ASKED = Feature(
    "`parallel_tool_calls: true`, `top_logprobs: 0`, `n: 1`, penalties of 0, `service_tier` `auto` or `default`,"
    " `text.verbosity` and `search_context_size` `medium`",
    "without effect",
    "asks for what every upstream does anyway",
)
CALL_LIMIT = Feature(
    "`max_tool_calls` without hosted tools", "without effect", "counts calls of hosted tools only", ("max_tool_calls",)
)
NEAREST_EFFORT = Feature(
    "`reasoning.effort` that the model has under another name or not at all",
    "without effect",
    "the nearest effort is asked for; where a forced tool or the open tool turn forbids thinking, none",
)
NO_THOUGHTS = Feature(
    "`reasoning.summary` of a model that does not think", "without effect", "there is nothing to sum up"
)
REASONING_CONTEXT = Feature(
    "`reasoning.context`", "without effect", "an upstream decides by itself what it reads again of its own reasoning"
)
FOREIGN_REASONING = Feature(
    "`reasoning` items of another provider", "without effect", "only who made them can read them"
)
ITEMS_AS_TEXT = Feature(
    "calls of hosted tools in `input`, and tools that were listed or searched for",
    "without effect",
    "history is never refused: what was asked and what came back is sent as text, where the upstream has no such item",
)
FOREIGN_COMPACTION = Feature(
    "`compaction` items of another provider",
    "without effect",
    "history is never refused: a note says to the model that there was more, which cannot be read",
)

VERBOSITY = Feature("`text.verbosity`", "preference", "how long an answer is, not what it says")
SERVICE_TIER = Feature(
    "`service_tier` other than the default", "preference", "how fast and at what price, not what", ("service_tier",)
)
REASONING_MODE = Feature("`reasoning.mode`", "preference", "how hard to try")
REASONING = Feature(
    "`reasoning.effort` of a model that does not think, or cannot stop to",
    "preference",
    "how hard to try: clients send it by default",
)
SAMPLING = Feature(
    "`temperature`, `top_p`, `top_k`, `frequency_penalty`, `presence_penalty`, `seed`",
    "preference",
    "colours the choice of words and guarantees nothing: clients send it by default",
    ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed"),
)
INCLUDE = Feature(
    "`include` values that ask for more than the upstream gives", "preference", "the answer is whole without"
)
CACHED_SEARCH = Feature(
    "`web_search` with `external_web_access: false`",
    "preference",
    "a live search would go where the client forbids it, and no upstream has a cache to search: the tool is left out",
)
SEARCH_SETTINGS = Feature(
    "`user_location`, `search_context_size`, `search_content_types` of a web search",
    "preference",
    "colours a search, and limits nothing",
)
CONTAINER_SETTINGS = Feature(
    "`memory_limit`, `network_policy` of a code interpreter's container",
    "preference",
    "the upstream's own container is small, and has no network",
)
STRICT = Feature(
    "`strict` of a function", "preference", "arguments mostly follow their schema without: clients send it by default"
)
PROGRAMS = Feature(
    "`programmatic_tool_calling`", "preference", "saves round trips: the model calls the same functions one by one"
)
UNBOUND_CALLS = Feature(
    "`max_tool_calls` beside hosted tools that the upstream cannot hold to it",
    "preference",
    "bounds the price, not the answer",
)
OPENAI_ONLY = Feature(
    "`access_programs`, `image`, `personality`",
    "preference",
    "settings of OpenAI's own service",
    ("access_programs", "image", "personality"),
)
CONTEXT_EDITS = Feature(
    "`context_management` other than compaction", "preference", "how a long context is kept short, not what is answered"
)

JSON_OBJECT = Feature(
    "`text.format` `json_object`",
    "emulation",
    "an instruction asks for one JSON object and nothing else, and a code fence around it is taken off",
)
SERIAL_CALLS = Feature(
    "`parallel_tool_calls: false`",
    "emulation",
    "the first call of a turn is kept: the model will ask again for the others",
    ("parallel_tool_calls",),
)
FORCED_TOOL = Feature(
    "`tool_choice` that forces a tool of a model or kind that cannot be forced",
    "emulation",
    "an instruction asks for the call",
)
TOOL_SEARCH = Feature(
    "`tool_search`, and what is deferred to it",
    "emulation",
    "deferred tools are offered at once; a search that the client runs is a function",
)
BOUNDS = Feature(
    "`minimum`, `maxLength`, `format` and other bounds in a JSON schema, at Anthropic",
    "emulation",
    "the description names them to the model: types and structure are kept to",
)
MEDIA_OF_TOOLS = Feature(
    "images and files in a tool's output or in what the assistant said, of a kind that the model cannot take",
    "emulation",
    "a note says to the model that they are there: their sender cannot take them back",
)
UNKNOWN_ITEM = Feature(
    "items in `input` of a type that is not known here",
    "emulation",
    "told as text: a conversation may hold what is newer than the gateway",
)

HOSTED_TOOL = Feature(
    "a hosted tool that nobody can run",
    "promise",
    "the client counts on its results",
    way_out="Leave the tool out, or choose a provider that runs it.",
)
MCP_SERVER = Feature(
    "an MCP server that is not mapped here",
    "promise",
    "the client counts on its tools",
    way_out="Name a `server_label` that the host has mapped, or leave the tool out; the host maps it with tools.mcp,"
    " or admits servers that clients name with its `remote`.",
)
HOSTED_LIMITS = Feature(
    "`require_approval`, `connector_id`, `headers`, `allowed_tools.read_only` of an MCP server, `filters` of a search,"
    " `container` of a code interpreter",
    "promise",
    "limits or opens what a tool may reach",
)
COMBINATION = Feature(
    "functions beside hosted tools or a JSON schema, with a model that takes only one of the two",
    "promise",
    "the model could use or keep but one of them",
    way_out="Leave one of the two out, or choose a model that takes both.",
)
SCHEMA = Feature(
    "`text.format` `json_schema` that cannot be kept",
    "promise",
    "the client parses the answer by it",
    way_out="Ask for `json_object`, give the schema to a function, or choose a provider that keeps schemas.",
)
STOP = Feature(
    "`stop`, `logit_bias`, `n` above 1",
    "promise",
    "the client counts on what is not said, or on several answers",
    ("stop", "logit_bias", "n"),
)
LOGPROBS = Feature("`top_logprobs` above 0", "promise", "the client reads them", ("top_logprobs",))
MODERATION = Feature(
    "`moderation`",
    "promise",
    "nobody would have looked",
    ("moderation",),
    "Leave it out and moderate the texts yourself, or choose a provider that does.",
)
PROMPT = Feature(
    "`prompt`",
    "promise",
    "it is stored at OpenAI",
    ("prompt",),
    "Send its text as `instructions` and `input`, or choose the provider that stores it.",
)
MEDIA = Feature(
    "images, files and audio in a message, of a kind that the model cannot take",
    "promise",
    "an answer would be about something that the model has not seen",
)
STORED_MEDIA = Feature(
    "images and files in a message that are named by an id or a URL which the upstream cannot read",
    "promise",
    "an answer would be about something that the model has not seen",
    way_out="Send its bytes, or have the gateway read it: `Gateway(files=...)`.",
)
UNKNOWN_MEMBER = Feature("every other member", "promise", "a client must not believe in a setting that nobody saw")

TABLE: tuple[Feature, ...] = tuple(value for value in tuple(globals().values()) if isinstance(value, Feature))
"""All rows, class by class."""

OF_MEMBER: Mapping[str, Feature] = {name: feature for feature in TABLE for name in feature.members}


class Unsupported:
    """Collects what a target cannot carry of one request. *policy* is `Call.unsupported`; without *refuses* nothing
    is refused, for reading again what has been translated.

    *left_out* are the paths of all that is left out, for observers; *named* those that the client sees too.
    """

    def __init__(self, policy: Policy, *, refuses: bool = True) -> None:
        self.policy = policy
        self.refuses = refuses
        self.left_out: dict[str, None] = {}  # ordered sets: a conversation may hold very many of a kind
        self.named: dict[str, None] = {}

    def leave_out(self, feature: Feature, path: str, what: str = "") -> None:
        """Leaves out the value at *path*, which the target cannot carry; *what* describes it in a few words.

        :raises InvalidRequest: it is refused under this policy; *param* is *path*.
        """
        if feature.kind == "without effect":
            self.left_out[path] = None
            return
        refused = ("promise",) if self.policy == "auto" else ("promise", "emulation", "preference")
        if self.refuses and self.policy != "drop" and feature.kind in refused:
            raise InvalidRequest(
                f"This provider does not support {what or f'the member `{path[:64]}`'}. {feature.way_out}",
                code=REFUSED,
                param=path,
            )
        self.left_out[path] = self.named[path] = None

    def emulates(self, feature: Feature, path: str, what: str = "") -> bool:
        """Returns whether to bring about by other means what the target cannot carry. If not, it is left out.

        :raises InvalidRequest: the policy is `"reject"`.
        """
        if self.policy == "auto":
            return True
        self.leave_out(feature, path, what)
        return False
