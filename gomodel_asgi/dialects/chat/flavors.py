"""What servers of Chat Completions do differently, by provider type.

The members of a Flavor say what a server accepts; everything that all accept is in `request` and `messages`. A type
that is not in the table is treated as an open-source server with an OpenAI-compatible API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Not `metadata`: Chat Completions takes it only for a completion that is stored, and storing is ours.
OPENAI_MEMBERS = frozenset(
    {
        "moderation", "prediction", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
        "safety_identifier", "service_tier", "user"
    },
)  # fmt: skip
ROUTER_MEMBERS = frozenset(
    {"models", "plugins", "provider", "route", "service_tier", "transforms", "usage", "user", "web_search_options"}
)
SAMPLING = frozenset({"min_p", "top_k", "repetition_penalty", "chat_template_kwargs", "thinking", "enable_thinking"})
MEDIA = frozenset({"image", "file", "audio"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Flavor:
    """One kind of server.

    *members* are top-level members that go through under their own name, *always* those that every request has unless
    the client gives another value; *effort* says where `reasoning.effort` goes, *breakpoint* what a cache breakpoint is
    called, *media* which parts a user may send, *files* how a file is sent, *file_urls* and *file_ids* that files are
    fetched, or stored, there. *developer*: the role is known. *systems*: system messages may stand anywhere; else there
    is one, at the start, and somebody who spoke as the user.
    *text_parts*: lists of text parts are taken from everyone, not only from users. *allowed_tools*, *json_schema*,
    *verbosity*, *refusals*, *stream_options*: members of that meaning are known. *short_ids*: ids of calls are nine
    letters or digits. *longest_id*: how many characters they may have. *any_arguments*: those of a call in the history
    need not be an object's JSON. *media_in_outputs*: tool messages may hold images. *user_after_tool*: a user message
    may follow a tool message. *goes_on*: an assistant message may be the last one, and is gone on with.
    *takes_reasoning*: what the server called its reasoning may stand in an assistant message under the same name.
    *reasoning_in_tool_turns*: an assistant message with calls must have `reasoning_content`, others must not.
    """

    max_tokens: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    members: frozenset[str] = frozenset()
    always: Mapping[str, Any] = field(default_factory=dict)
    effort: Literal["reasoning_effort", "reasoning", "deepseek", "zai"] = "reasoning_effort"
    breakpoint: Literal["prompt_cache_breakpoint", "cache_control"] | None = None
    media: frozenset[str] = MEDIA
    files: Literal["file", "document_url"] = "file"
    file_urls: bool = False
    file_ids: bool = False
    stream_options: bool = True
    developer: bool = False
    systems: bool = False
    text_parts: bool = False
    allowed_tools: bool = False
    json_schema: bool = True
    verbosity: bool = False
    refusals: bool = False
    short_ids: bool = False
    longest_id: int | None = None
    any_arguments: bool = False
    media_in_outputs: bool = False
    user_after_tool: bool = True
    goes_on: bool = True
    takes_reasoning: bool = True
    reasoning_in_tool_turns: bool = False
    lowest_temperature: float = 0.0


OPENAI = Flavor(
    max_tokens="max_completion_tokens",  # `max_tokens` is refused by reasoning models
    members=OPENAI_MEMBERS,
    breakpoint="prompt_cache_breakpoint",
    developer=True,
    systems=True,
    text_parts=True,
    longest_id=40,  # "string too long. Expected a string with maximum length 40"
    any_arguments=True,
    file_ids=True,
    allowed_tools=True,
    verbosity=True,
    refusals=True,
)

FLAVORS: dict[str, Flavor] = {
    "openai": OPENAI,
    "azure": OPENAI,
    "openrouter": Flavor(
        members=ROUTER_MEMBERS | SAMPLING | {"top_a"},
        effort="reasoning",
        breakpoint="cache_control",
        file_urls=True,
        text_parts=True,
        verbosity=True,
    ),
    "mistral": Flavor(
        # Refuses every member it does not know, `stream_options` and `max_completion_tokens` among them (422
        # extra_forbidden); usage comes in the last chunk anyway. Ids of calls are nine letters or digits, and a user
        # may not speak right after a tool.
        members=frozenset({"prompt_cache_key", "random_seed", "safe_prompt", "prompt_mode"}),
        stream_options=False,
        files="document_url",
        file_urls=True,
        text_parts=True,
        short_ids=True,
        media_in_outputs=True,
        user_after_tool=False,
        goes_on=False,  # "Expected last role User or Tool (or Assistant with prefix True)"
    ),
    "deepseek": Flavor(
        members=frozenset({"thinking"}),
        effort="deepseek",
        media=frozenset(),
        json_schema=False,
        goes_on=False,  # "The last message must be a user message, or an assistant message with prefix mode on"
        reasoning_in_tool_turns=True,
    ),
    "zai": Flavor(
        members=frozenset({"thinking", "do_sample", "request_id", "user_id"}),
        effort="zai",
        media=frozenset({"image"}),
        json_schema=False,
    ),
    "minimax": Flavor(
        members=frozenset({"reasoning_split", "mask_sensitive_info", "thinking"}),
        always={"reasoning_split": True},  # else what it thinks stands in the text, in tags
        media=frozenset({"image"}),
        lowest_temperature=0.01,  # (0, 1]
    ),
    "groq": Flavor(
        max_tokens="max_completion_tokens",
        members=frozenset({"service_tier", "user", "reasoning_format", "include_reasoning", "search_settings"}),
        media=frozenset({"image"}),
        takes_reasoning=False,  # "property 'reasoning' is unsupported" with most models
    ),
    "cerebras": Flavor(
        max_tokens="max_completion_tokens",
        members=frozenset({"service_tier", "user", "clear_thinking", "disable_reasoning"}),
        media=frozenset({"image"}),
    ),
    "xai": Flavor(
        max_tokens="max_completion_tokens",
        members=frozenset({"user", "search_parameters", "service_tier", "deferred"}),
        media=frozenset({"image"}),
        systems=True,  # "no limitation on role order"
        text_parts=True,
    ),
    "gemini": Flavor(members=frozenset({"extra_body", "user", "service_tier"}), text_parts=True),
}

OPEN_SERVER = Flavor(members=SAMPLING | {"user", "service_tier"}, text_parts=False)
"""The flavor of every other type."""
