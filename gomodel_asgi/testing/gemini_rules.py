"""What the Gemini API refuses: members that it does not know, the order of turns, calls without as many responses,
tools that exclude each other, and calls of the current turn without their thought signature.

The messages are the API's own, as public bug reports quote them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .api import Refused
from .gemini_wire import always_thinks, combines, is_signature, signs, version_of
from .model import is_base64, listed, objects

Json = Mapping[str, Any]

REQUEST = frozenset(
    "contents systemInstruction tools toolConfig safetySettings generationConfig cachedContent serviceTier store"
    " labels".split()
)
CONFIG = frozenset(
    "responseJsonSchema audioTimestamp candidateCount enableAffectiveDialog frequencyPenalty logprobs maxOutputTokens"
    " mediaResolution presencePenalty responseLogprobs responseMimeType responseModalities responseSchema"
    " routingConfig seed speechConfig stopSequences temperature thinkingConfig topK topP enableEnhancedCivicAnswers"
    " imageConfig modelSelectionConfig".split()
)
PART = frozenset(
    "text inlineData fileData functionCall functionResponse executableCode codeExecutionResult toolCall"
    " toolResponse".split()
)
"""What a part may hold: one of these."""
BESIDE = frozenset("thought thoughtSignature videoMetadata mediaResolution partMetadata".split())
"""What may stand beside it."""
TOOL = frozenset(
    "functionDeclarations googleSearch googleSearchRetrieval codeExecution urlContext googleMaps fileSearch computerUse"
    " retrieval enterpriseWebSearch".split()
)
DECLARATION = frozenset("name description parameters parametersJsonSchema response responseJsonSchema behavior".split())
SCHEMA = frozenset(
    "additionalProperties anyOf default defs description enum example format items maxItems maxLength maxProperties"
    " maximum minItems minLength minProperties minimum nullable pattern properties propertyOrdering ref required title"
    " type".split()
)
"""The reduced dialect of JSON Schema in `parameters` and `responseSchema`."""
FUNCTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}")
IMAGES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")


def invalid(message: str, field: str | None = None) -> Refused:
    """Returns the refusal of an invalid argument."""
    return Refused(400, message, param=field)


def check(model: str, body: Json, *, public: bool) -> None:
    """*public* is the Gemini API, else Vertex AI.

    :raises Refused: the request breaks a rule.
    """
    known(body, REQUEST, "")
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        raise invalid("* GenerateContentRequest.contents: contents is not specified\n")
    instructions = body.get("systemInstruction")
    if instructions is not None:
        check_parts(instructions, "system_instruction")
    for at, content in enumerate(contents):
        if content.get("role") not in (None, "user", "model", "function"):
            raise invalid("Please use a valid role: user, model.")
        check_parts(content, f"contents[{at}]")
    check_turns(contents)
    if signs(model):
        check_signatures(contents)
    config = body.get("generationConfig") or {}
    check_tools(model, body, config, public=public)
    check_config(model, config)


def known(value: Json, names: frozenset[str], path: str) -> None:
    """Checks that *value* has only members with these *names*.

    :raises Refused: it has another.
    """
    for name in value:
        if name not in names:
            where = f" at '{path}'" if path else ""
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.', path)


# Contents...


def check_parts(content: Json, path: str) -> None:
    """Checks the parts of a content, each by itself.

    :raises Refused: one is not valid.
    """
    known(content, frozenset({"role", "parts"}), path)
    parts = objects(content, "parts")
    if not parts:
        raise invalid(f"* GenerateContentRequest.{path}.parts: contents.parts must not be empty.\n")
    for at, part in enumerate(parts):
        where = f"{path}.parts[{at}]"
        known(part, PART | BESIDE, where)
        held = [name for name in part if name in PART]
        if len(held) > 1:
            raise invalid(f"Invalid value at '{where}' (oneof), oneof field 'data' is already set.")
        if not held:
            message = "required oneof field 'data' must have one initialized field"
            raise invalid(f"* GenerateContentRequest.{where}.data: {message}\n")
        check_held(held[0], part[held[0]], where)


def check_held(kind: str, value: Any, where: str) -> None:
    """Checks what a part holds: data, a function call or its response.

    :raises Refused: it is not valid.
    """
    if kind == "inlineData":
        check_inline(value, where)
    elif kind == "functionCall":
        if not isinstance(value.get("args") or {}, dict):
            raise invalid(f"Invalid value at '{where}.function_call.args' (type.googleapis.com/google.protobuf.Struct)")
        check_name(value, f"{where}.function_call")
    elif kind == "functionResponse":
        if not isinstance(value.get("response"), dict):
            raise invalid(f"Invalid value at '{where}.function_response.response'")
        check_name(value, f"{where}.function_response")
        for nested in objects(value, "parts"):
            check_inline(nested.get("inlineData") or {}, where)


def check_name(value: Json, where: str) -> None:
    """Checks the name of a function that is called or answered.

    :raises Refused: it is missing.
    """
    if not value.get("name"):
        raise invalid(f"* GenerateContentRequest.{where}.name: Name cannot be empty.\n")


def check_inline(data: Json, where: str) -> None:
    """Checks data in a part.

    :raises Refused: it is not base64, or an image of another media type than the API takes.
    """
    kind = str(data.get("mimeType"))
    plain = data.get("data")
    if isinstance(plain, str):
        plain = plain.translate(str.maketrans("-_", "+/"))
    if not is_base64(plain):
        raise invalid(f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed.")
    if kind.startswith("image/") and kind not in IMAGES:
        raise invalid(f"Unsupported MIME type: {kind}")


def held(content: Json, kind: str) -> list[Json]:
    """Returns what the parts of *content* hold under *kind*."""
    return [part[kind] for part in objects(content, "parts") if kind in part]


def check_turns(contents: Sequence[Json]) -> None:
    """A turn that calls follows the user or responses, and as many responses follow it.

    :raises Refused: one does not.
    """
    for at, content in enumerate(contents):
        calls, responses = held(content, "functionCall"), held(content, "functionResponse")
        before = contents[at - 1] if at else {}
        if calls and before.get("role") not in ("user", "function"):
            raise invalid(
                "Please ensure that function call turn comes immediately after a user turn or after a function response"
                " turn."
            )
        called = held(before, "functionCall")
        if responses and not called:
            raise invalid("Please ensure that function response turn comes immediately after a function call turn.")
        if len(responses) != len(called):
            raise invalid(
                "Please ensure that the number of function response parts is equal to the number of function call parts"
                " of the function call turn."
            )
        check_matched(called, responses)
    if held(contents[-1], "functionCall"):
        raise invalid("Please ensure that multiturn requests end with a user role or a function response.")


def check_matched(calls: Sequence[Json], responses: Iterable[Json]) -> None:
    """Each response names a call by its id, or where one of them has none, by the name of the function.

    :raises Refused: they do not.
    """
    waiting = list(calls)
    for response in responses:
        answered = next((call for call in waiting if answers(response, call)), None)
        if answered is None:
            raise invalid(f"The function response '{response['name']}' answers no function call of the turn before it.")
        waiting.remove(answered)


def answers(response: Json, call: Json) -> bool:
    """Returns whether *response* belongs to *call*: by id where both have one, else by name."""
    member = "id" if "id" in response and "id" in call else "name"
    same: bool = response[member] == call[member]
    return same


def check_signatures(contents: Sequence[Json]) -> None:
    """Each step of the current turn has the signature on its first call.

    :raises Refused: one is missing, or is none of ours.
    """
    begin = 0
    for at, content in enumerate(contents):
        if content.get("role") != "model" and not held(content, "functionResponse"):
            begin = at
    for at, content in enumerate(contents):
        for part in objects(content, "parts"):
            if "thoughtSignature" in part and not is_signature(part["thoughtSignature"]):
                raise invalid("Thought signature is not valid.")
        first = next((part for part in objects(content, "parts") if "functionCall" in part), None)
        if at > begin and first is not None and "thoughtSignature" not in first:
            raise invalid(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work"
                " correctly, and missing thought_signature may lead to degraded model performance. Additional data,"
                f" function call `default_api:{first['functionCall']['name']}` , position {at + 1}. Please refer to"
                " https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )


# Tools...


def check_tools(model: str, body: Json, config: Json, *, public: bool) -> None:
    """Checks tools, their configuration, and what the *model* can combine.

    :raises Refused: a declaration is not valid, twice there, or cannot be combined.
    """
    functions: list[Json] = []
    hosted: list[str] = []
    for at, tool in enumerate(objects(body, "tools")):
        known(tool, TOOL, f"tools[{at}]")
        hosted += [name for name in tool if name != "functionDeclarations"]
        for number, function in enumerate(objects(tool, "functionDeclarations")):
            check_function(function, f"tools[{at}].function_declarations[{number}]")
            functions.append(function)
    names = [function["name"] for function in functions]
    for name in names:
        if names.count(name) > 1:
            raise invalid(f"Duplicate function declaration found: {name}")
    tools = body.get("toolConfig") or {}
    check_calling(tools.get("functionCallingConfig") or {}, names)
    check_combination(model, bool(functions), bool(hosted), config)
    if functions and hosted and public and not tools.get("includeServerSideToolInvocations"):
        raise invalid(
            "Please enable tool_config.include_server_side_tool_invocations to use Built-in tools with Function"
            " calling."
        )
    if not public and "includeServerSideToolInvocations" in tools:
        known(tools, frozenset({"functionCallingConfig", "retrievalConfig"}), "tool_config")


def check_combination(model: str, functions: bool, hosted: bool, config: Json) -> None:
    """Checks that the *model* takes functions, hosted tools and JSON together.

    :raises Refused: it does not.
    """
    if combines(model):
        return
    if functions and hosted:
        raise invalid("Tool use with function calling is unsupported by the model.")
    if config.get("responseMimeType") == "application/json" and (functions or hosted):
        what = "Function calling" if functions else "Tool use"
        raise invalid(f"{what} with a response mime type: 'application/json' is unsupported")


def check_function(function: Json, path: str) -> None:
    """Checks one function declaration.

    :raises Refused: a member is unknown, or its name or schema is not valid.
    """
    known(function, DECLARATION, path)
    if not FUNCTION_NAME.fullmatch(str(function.get("name", ""))):
        raise invalid(
            f"* GenerateContentRequest.{path}.name: Invalid function name. Must start with a letter or an underscore."
            " Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum"
            " length of 64.\n"
        )
    if "parameters" in function and "parametersJsonSchema" in function:
        raise invalid(f"{path}: parameters and parameters_json_schema are mutually exclusive.")
    check_schema(function.get("parameters"), f"{path}.parameters")


def check_schema(schema: Any, path: str) -> None:
    """Checks a schema in OpenAPI's form, and those inside it.

    :raises Refused: a member is unknown, or an object has no properties.
    """
    if not isinstance(schema, Mapping):
        return
    known(schema, SCHEMA, path)
    members = schema.get("properties")
    if str(schema.get("type")).upper() == "OBJECT" and members == {}:
        raise invalid(f"* GenerateContentRequest.{path}.properties: should be non-empty for OBJECT type\n")
    for name, member in (members or {}).items():
        check_schema(member, f"{path}.properties[{name}]")
    check_schema(schema.get("items"), f"{path}.items")
    for at, branch in enumerate(listed(schema, "anyOf")):
        check_schema(branch, f"{path}.any_of[{at}]")


def check_calling(config: Json, names: Sequence[str]) -> None:
    """Checks the configuration of function calling against the declared *names*.

    :raises Refused: it contradicts them.
    """
    allowed = listed(config, "allowedFunctionNames")
    if allowed and config.get("mode") not in ("ANY", "VALIDATED"):
        raise invalid("Allowed function names should be set only when function calling mode is ANY.")
    for name in allowed:
        if name not in names:
            raise invalid(f"Allowed function name '{name}' is not declared.")
    if config.get("mode") == "ANY" and not names:
        raise invalid("Function calling config is set without function_declarations.")


# Settings...


def check_config(model: str, config: Json) -> None:
    """Checks `generationConfig`.

    :raises Refused: a member is unknown or out of its range.
    """
    known(config, CONFIG, "generation_config")
    check_schema(config.get("responseSchema"), "generation_config.response_schema")
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    if schema and config.get("responseMimeType") != "application/json":
        raise invalid("response_schema can only be set when response_mime_type is application/json")
    limit = config.get("maxOutputTokens")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        raise invalid("max_output_tokens must be positive.")
    temperature = config.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        raise invalid("* GenerateContentRequest.generation_config.temperature: must be in the range [0.0, 2.0].\n")
    check_thinking(model, config.get("thinkingConfig") or {})


def check_thinking(model: str, thinking: Json) -> None:
    """Checks `thinkingConfig` against what the *model* can do.

    :raises Refused: it cannot.
    """
    budget, level = thinking.get("thinkingBudget"), thinking.get("thinkingLevel")
    if thinking and version_of(model) < (2, 5):
        raise invalid(f"Thinking is not enabled for models/{model}")
    if budget is not None and level is not None:
        raise invalid("You can only set only one of thinking budget and thinking level.")
    if level is not None and version_of(model) < (3, 0):
        raise invalid("Thinking level is not supported for this model.")
    if budget == 0 and always_thinks(model):
        raise invalid("Budget 0 is invalid. This model only works in thinking mode.")
