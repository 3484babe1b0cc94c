"""The Responses API: its operations by method and path, below any prefix, and the responses that it remembers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from ..wire.calls import CustomCall, FunctionCall
from ..wire.event_writer import Emitter
from ..wire.response import Reason
from ..wire.usage import usage
from .api import (
    Api,
    Refused,
    Settings,
    check_model,
    invalid,
    no_such_path,
    object_of,
    openai_models,
    path_pattern,
    refuse,
    require_method,
)
from .conversations import Conversation, Conversations, items_of, page, query_of, remember, whole_number
from .model import EPOCH, Model, Prompt, as_function, count, objects, pieces, speech_of
from .plan import STREAM, Answer, Plan, ToolCall, chunked, either, json_reply
from .received import ReceivedRequest
from .responses_rules import at_openai, check_request, check_types, opaque_content, prompt_of
from .wire import Json, ResponsesWire

# What the model says, through the package's own grammar of events.


def speak(emitter: Emitter, prompt: Prompt, answer: Answer, *, at: int) -> None:
    """Writes *answer*, word by word, and ends the response with its usage at Unix time *at* (seconds)."""
    speech = speech_of(prompt, answer)
    if compacts(prompt, speech.input):
        said_before = "\n".join(message.text for message in prompt.messages)
        emitter.item({"type": "compaction", "encrypted_content": opaque_content(said_before)})
    if speech.thought:
        reasoning = emitter.reasoning()
        for word in speech.thought:
            reasoning.text(word)
        reasoning.set_encrypted_content("fake-encrypted-reasoning")
        reasoning.close()
    if answer.text is not None or answer.refusal is not None:
        message = emitter.message()
        for word in speech.text:
            message.text(word)
        for word in speech.refusal:
            message.refusal(word)
        if speech.calls:
            message.close()
    for number, call in enumerate(speech.calls):
        say_call(emitter, prompt, call, f"call_{emitter.suffix}{number:02x}")
    emitter.usage(usage(input=speech.input, output=speech.output, cached=speech.cached, reasoning=speech.reasoning))
    emitter.complete(at) if speech.incomplete is None else emitter.incomplete(cast(Reason, speech.incomplete))


def compacts(prompt: Prompt, length: int) -> bool:
    """Returns whether the request asks for a conversation of this length (tokens) to be compacted."""
    limits = [
        entry.get("compact_threshold")
        for entry in objects(prompt.body, "context_management")
        if entry.get("type") == "compaction"
    ]
    return any(isinstance(limit, int) and limit <= length for limit in limits)


def say_call(emitter: Emitter, prompt: Prompt, call: ToolCall, call_id: str) -> None:
    """Writes one tool call, its arguments in pieces."""
    call_id, tool = call.call_id or call_id, prompt.tool(call.name)
    members = {"namespace": tool.namespace} if tool is not None and tool.namespace else {}
    item: CustomCall | FunctionCall
    if call.custom and (tool is None or tool.custom):
        item = emitter.custom_call(call_id, call.name, **members)
        text = json.dumps({"input": call.text()})
    else:
        item, text = emitter.function_call(call_id, call.name, **members), as_function(prompt, call)
    for piece in pieces(text):
        item.arguments(piece)
    item.close()


@dataclass
class Stored:
    """One response, with what it was given. *upcoming* are the states that a background response has yet to reach:
    each retrieval brings it one further."""

    response: Json
    input: list[Json]
    events: tuple[bytes, ...]
    upcoming: list[Json] = field(default_factory=list)

    @property
    def output(self) -> list[Json]:
        """Its output items, once it has ended."""
        output: list[Json] = (self.upcoming or [self.response])[-1]["output"]
        return output

    def advance(self) -> Json:
        """Returns the response now; of one in the background, its next state from then on."""
        now = self.response
        if self.upcoming:
            self.response = self.upcoming.pop(0)
        return now


# The operations.


RESPONSES = path_pattern("/responses(?:/(?P<id>[^/]+)(?:/(?P<action>[^/]+))?)?")
CONVERSATIONS = path_pattern("/conversations(?:/(?P<id>[^/]+)(?P<items>/items(?:/(?P<item>[^/]+))?)?)?")
MODELS = path_pattern("/models(?:/(?P<id>.+))?")


class ResponsesApi(Api):
    """The whole Responses API: responses and conversations, in memory."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.conversations = Conversations(settings.name)
        self.stored: dict[str, Stored] = {}

    def wire(self, request: ReceivedRequest, request_id: str) -> ResponsesWire:
        """See `Api.wire`."""
        return ResponsesWire(request_id)

    def answer(self, request: ReceivedRequest, model: Model) -> Plan:
        """See `Api.answer`.

        :raises Refused: the request breaks a rule, or the path is not this API's.
        """
        plan: Plan | None = None
        if match := RESPONSES.fullmatch(request.path):
            plan = self._responses(request, match["id"], match["action"], model)
        elif match := CONVERSATIONS.fullmatch(request.path):
            plan = self._conversations(request, match["id"], match["items"], match["item"])
        elif match := MODELS.fullmatch(request.path):
            plan = json_reply(openai_models(self.settings, request, match["id"]))
        if plan is None:
            raise no_such_path(request)
        return plan

    def _responses(self, request: ReceivedRequest, id: str | None, action: str | None, model: Model) -> Plan | None:
        if id is None:
            require_method("POST", request)
            return self.create(object_of(request), model)
        match request.method, id, action:
            case "POST", "compact", None:
                return self.compact(object_of(request))
            case "POST", "input_tokens", None:
                return self.input_tokens(object_of(request))
            case "GET", _, None:
                return self.retrieve(id, request.query)
            case "DELETE", _, None:
                return self.delete(id)
            case "POST", _, "cancel":
                return self.cancel(id)
            case "GET", _, "input_items":
                return self.input_items(id, request.query)
        return None

    def _conversations(
        self, request: ReceivedRequest, id: str | None, items: str | None, item: str | None
    ) -> Plan | None:
        if id is None:
            require_method("POST", request)
            return self.conversations.create(object_of(request, optional=True))
        if item is not None:
            return self.conversations.item(request.method, id, item)
        body = object_of(request) if request.method == "POST" else {}
        if items is not None:
            return self.conversations.items(request.method, id, request.query, body)
        return self.conversations.answer(request.method, id, body)

    # POST {base}/responses and its kin...

    def create(self, body: Mapping[str, Any], model: Model) -> Plan:
        """Returns a new response, in the form that *body* asks for."""
        check_request(body)
        check_model(self.settings, body["model"])
        self.made += 1
        id = f"resp_{self.settings.name}{self.made:08x}"
        conversation = self.conversations.named_in(body)
        if conversation is not None:
            body = {**body, "conversation": {"id": conversation.id}}
        own = items_of(body.get("input"), f"msg_{self.settings.name}{self.made:08x}i")
        items = self._history(body, conversation) + own
        if self.settings.strict:
            refuse(at_openai(body, items))
        stored = self._respond(id, body, items, model)
        if body.get("store") is not False:
            remember(self.stored, id, stored)
        if conversation is not None:
            conversation.add([*own, *stored.output])
        value = stored.advance()
        events = chunked(200, STREAM, stored.events, value)
        return either(json_reply(value), events, stream=body.get("stream") is True)

    def compact(self, body: Mapping[str, Any]) -> Plan:
        """Returns a conversation in compact form: the user's messages, and the rest as one opaque item."""
        check_types(body)
        self.made += 1
        prefix = f"{self.settings.name}{self.made:08x}"
        items = self._history(body) + items_of(body.get("input"), f"msg_{prefix}i")
        kept = [item for item in items if item.get("role") == "user"]
        speech = "\n".join(message.text for message in prompt_of(body, items).messages)
        compaction = {"id": f"cmp_{prefix}", "type": "compaction", "encrypted_content": opaque_content(speech)}
        value = {"id": f"resp_{prefix}", "object": "response.compaction", "created_at": EPOCH + self.made}
        used = usage(input=count(prompt_of(body, items)), output=1)
        return json_reply({**value, "output": [*kept, compaction], "usage": used})

    def input_tokens(self, body: Mapping[str, Any]) -> Plan:
        """Returns the number of tokens of an input."""
        check_types(body)
        items = self._history(body, self.conversations.named_in(body)) + items_of(body.get("input"), "msg_")
        return json_reply({"object": "response.input_tokens", "input_tokens": count(prompt_of(body, items))})

    # {base}/responses/{id}...

    def retrieve(self, id: str, query: bytes) -> Plan:
        """Returns a stored response, or its events again, those after `starting_after`.

        :raises Refused: there is no such response, or `starting_after` is no number.
        """
        stored, parameters = self._find(id), query_of(query)
        if parameters.get("stream") != "true":
            return json_reply(stored.advance())
        after = -1
        if "starting_after" in parameters:
            after = whole_number(parameters["starting_after"])
            if after < 0:
                raise invalid("'starting_after' must be a sequence number.", "starting_after")
        return chunked(200, STREAM, stored.events[after + 1 :], stored.response)

    def delete(self, id: str) -> Plan:
        """Forgets a response, and returns the confirmation."""
        self._find(id)
        del self.stored[id]
        return json_reply({"id": id, "object": "response", "deleted": True})

    def cancel(self, id: str) -> Plan:
        """Stops a response that runs in the background, and returns it.

        :raises Refused: there is no such response, or it does not run in the background.
        """
        stored = self._find(id)
        if not stored.response.get("background"):
            raise invalid("Only responses created with 'background: true' can be cancelled.")
        if stored.upcoming:
            stored.upcoming.clear()
            stored.response = {**stored.response, "status": "cancelled"}
        return json_reply(stored.response)

    def input_items(self, id: str, query: bytes) -> Plan:
        """Returns one page of what a response was given, the latest first unless `order=asc`."""
        return page(self._find(id).input, query)

    # Inside...

    def _find(self, id: str) -> Stored:
        """Returns the stored response *id*.

        :raises Refused: there is none.
        """
        if id not in self.stored:
            raise Refused(404, f"Response with id '{id}' not found.")
        return self.stored[id]

    def _history(self, body: Mapping[str, Any], conversation: Conversation | None = None) -> list[Json]:
        """Returns the items that come before the input: of the earlier response, or of the conversation.

        :raises Refused: there is no such response.
        """
        if conversation is not None:
            return list(conversation.items)
        previous = body.get("previous_response_id")
        if previous is None:
            return []
        if previous not in self.stored:
            message = f"Previous response with id '{previous}' not found."
            raise invalid(message, "previous_response_id", "previous_response_not_found")
        stored = self.stored[previous]
        return [*stored.input, *stored.output]

    def _respond(self, id: str, body: Mapping[str, Any], items: list[Json], model: Model) -> Stored:
        at = EPOCH + self.made
        emitter = Emitter(response_id=id, created_at=at, model=str(body["model"]), echo=body)
        emitter.begin()
        prompt = prompt_of(body, items)
        speak(emitter, prompt, model(prompt), at=at + 1)
        stored = Stored(emitter.response, items, tuple(emitter.out))
        if body.get("background") is True and body.get("stream") is not True:
            unfinished = {**stored.response, "output": [], "usage": None, "completed_at": None}
            queued, running = {**unfinished, "status": "queued"}, {**unfinished, "status": "in_progress"}
            stored.response, stored.upcoming = queued, [queued, running, stored.response]
        return stored
