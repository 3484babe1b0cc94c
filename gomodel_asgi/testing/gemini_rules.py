"""What the Gemini API refuses: members that it does not know, the order of turns, calls without as many responses,
tools that exclude each other, and calls of the current turn without their thought signature.

The messages are the API's own, as public bug reports quote them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .api import Problems, invalid, refuse
from .gemini_prompt import is_signature, signs, version_of
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


def check(model: str, body: Json, *, public: bool) -> None:
    """*public* is the Gemini API, else Vertex AI.

    :raises Refused: the request breaks a rule.
    """
    refuse(problems(model, body, public))


def problems(model: str, body: Json, public: bool) -> Problems:
    """Yields the rules that a request breaks."""
    yield from unknown(body, REQUEST, "")
    contents = body.get("contents")
    if not isinstance(contents, list) or not contents:
        yield invalid("* GenerateContentRequest.contents: contents is not specified\n")
    else:
        instructions = body.get("systemInstruction")
        if instructions is not None:
            yield from of_parts(instructions, "system_instruction")
        for at, content in enumerate(contents):
            if content.get("role") not in (None, "user", "model", "function"):
                yield invalid("Please use a valid role: user, model.")
            yield from of_parts(content, f"contents[{at}]")
        yield from of_turns(contents)
        if signs(model):
            yield from of_signatures(contents)
        config = body.get("generationConfig") or {}
        yield from of_tools(model, body, config, public)
        yield from of_config(model, config)


def unknown(value: Json, names: frozenset[str], path: str) -> Problems:
    """Yields the members of *value* that have none of these *names*."""
    for name in value:
        if name not in names:
            where = f" at '{path}'" if path else ""
            yield invalid(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.', path)


# Contents...


def of_parts(content: Json, path: str) -> Problems:
    """Yields what is wrong with the parts of a content, each by itself."""
    yield from unknown(content, frozenset({"role", "parts"}), path)
    parts = objects(content, "parts")
    if not parts:
        yield invalid(f"* GenerateContentRequest.{path}.parts: contents.parts must not be empty.\n")
    for at, part in enumerate(parts):
        where = f"{path}.parts[{at}]"
        yield from unknown(part, PART | BESIDE, where)
        kinds = [name for name in part if name in PART]
        if len(kinds) > 1:
            yield invalid(f"Invalid value at '{where}' (oneof), oneof field 'data' is already set.")
        if not kinds:
            message = "required oneof field 'data' must have one initialized field"
            yield invalid(f"* GenerateContentRequest.{where}.data: {message}\n")
        yield from of_held(kinds[0], part[kinds[0]], where)


def of_held(kind: str, value: Any, where: str) -> Problems:
    """Yields what is wrong with what a part holds: data, a function call or its response."""
    if kind == "inlineData":
        yield from of_inline(value, where)
    elif kind == "functionCall":
        if not isinstance(value.get("args") or {}, dict):
            yield invalid(f"Invalid value at '{where}.function_call.args' (type.googleapis.com/google.protobuf.Struct)")
        yield from nameless(value, f"{where}.function_call")
    elif kind == "functionResponse":
        if not isinstance(value.get("response"), dict):
            yield invalid(f"Invalid value at '{where}.function_response.response'")
        yield from nameless(value, f"{where}.function_response")
        for nested in objects(value, "parts"):
            yield from of_inline(nested.get("inlineData") or {}, where)


def nameless(value: Json, where: str) -> Problems:
    """Yields a call or a response without the name of its function."""
    if not value.get("name"):
        yield invalid(f"* GenerateContentRequest.{where}.name: Name cannot be empty.\n")


def of_inline(data: Json, where: str) -> Problems:
    """Yields data that is not base64, or an image of another media type than the API takes."""
    kind = str(data.get("mimeType"))
    plain = data.get("data")
    if isinstance(plain, str):
        plain = plain.translate(str.maketrans("-_", "+/"))
    if not is_base64(plain):
        yield invalid(f"Invalid value at '{where}.inline_data.data' (TYPE_BYTES), Base64 decoding failed.")
    if kind.startswith("image/") and kind not in IMAGES:
        yield invalid(f"Unsupported MIME type: {kind}")


def held(content: Json, kind: str) -> list[Json]:
    """Returns what the parts of *content* hold under *kind*."""
    return [part[kind] for part in objects(content, "parts") if kind in part]


def of_turns(contents: Sequence[Json]) -> Problems:
    """Yields turns that call but do not follow the user or responses, or that are not followed by as many responses."""
    for at, content in enumerate(contents):
        calls, responses = held(content, "functionCall"), held(content, "functionResponse")
        before = contents[at - 1] if at else {}
        if calls and before.get("role") not in ("user", "function"):
            yield invalid(
                "Please ensure that function call turn comes immediately after a user turn or after a function response"
                " turn."
            )
        called = held(before, "functionCall")
        if responses and not called:
            yield invalid("Please ensure that function response turn comes immediately after a function call turn.")
        if len(responses) != len(called):
            yield invalid(
                "Please ensure that the number of function response parts is equal to the number of function call parts"
                " of the function call turn."
            )
        yield from unmatched(called, responses)
    if held(contents[-1], "functionCall"):
        yield invalid("Please ensure that multiturn requests end with a user role or a function response.")


def unmatched(calls: Sequence[Json], responses: Iterable[Json]) -> Problems:
    """Yields responses that answer no call: by its id, or where one of both has none, by the function's name."""
    waiting = list(calls)
    for response in responses:
        answered = next((call for call in waiting if answers(response, call)), None)
        if answered is None:
            yield invalid(f"The function response '{response['name']}' answers no function call of the turn before it.")
        else:
            waiting.remove(answered)


def answers(response: Json, call: Json) -> bool:
    """Returns whether *response* belongs to *call*: by id where both have one, else by name."""
    member = "id" if "id" in response and "id" in call else "name"
    same: bool = response[member] == call[member]
    return same


def of_signatures(contents: Sequence[Json]) -> Problems:
    """Yields steps of the current turn without the signature on their first call, and signatures that are not ours."""
    begin = 0
    for at, content in enumerate(contents):
        if content.get("role") != "model" and not held(content, "functionResponse"):
            begin = at
    for at, content in enumerate(contents):
        for part in objects(content, "parts"):
            if "thoughtSignature" in part and not is_signature(part["thoughtSignature"]):
                yield invalid("Thought signature is not valid.")
        first = next((part for part in objects(content, "parts") if "functionCall" in part), None)
        if at > begin and first is not None and "thoughtSignature" not in first:
            yield invalid(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to work"
                " correctly, and missing thought_signature may lead to degraded model performance. Additional data,"
                f" function call `default_api:{first['functionCall']['name']}` , position {at + 1}. Please refer to"
                " https://ai.google.dev/gemini-api/docs/thought-signatures for more details."
            )


# Tools...


def of_tools(model: str, body: Json, config: Json, public: bool) -> Problems:
    """Yields what is wrong with tools and their configuration, and what the *model* cannot combine."""
    functions: list[Json] = []
    hosted: list[str] = []
    for at, tool in enumerate(objects(body, "tools")):
        yield from unknown(tool, TOOL, f"tools[{at}]")
        hosted += [name for name in tool if name != "functionDeclarations"]
        for number, function in enumerate(objects(tool, "functionDeclarations")):
            yield from of_function(function, f"tools[{at}].function_declarations[{number}]")
            functions.append(function)
    names = [function["name"] for function in functions]
    for name in names:
        if names.count(name) > 1:
            yield invalid(f"Duplicate function declaration found: {name}")
    tools = body.get("toolConfig") or {}
    yield from of_calling(tools.get("functionCallingConfig") or {}, names)
    if version_of(model) < (3, 0):
        if functions and hosted:
            yield invalid("Tool use with function calling is unsupported by the model.")
        if config.get("responseMimeType") == "application/json" and (functions or hosted):
            what = "Function calling" if functions else "Tool use"
            yield invalid(f"{what} with a response mime type: 'application/json' is unsupported")
    if functions and hosted and public and not tools.get("includeServerSideToolInvocations"):
        yield invalid(
            "Please enable tool_config.include_server_side_tool_invocations to use Built-in tools with Function"
            " calling."
        )
    if not public and "includeServerSideToolInvocations" in tools:
        yield from unknown(tools, frozenset({"functionCallingConfig", "retrievalConfig"}), "tool_config")


def of_function(function: Json, path: str) -> Problems:
    """Yields what is wrong with one function declaration: members, name, schema."""
    yield from unknown(function, DECLARATION, path)
    if not FUNCTION_NAME.fullmatch(str(function.get("name", ""))):
        yield invalid(
            f"* GenerateContentRequest.{path}.name: Invalid function name. Must start with a letter or an underscore."
            " Must be alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum"
            " length of 64.\n"
        )
    if "parameters" in function and "parametersJsonSchema" in function:
        yield invalid(f"{path}: parameters and parameters_json_schema are mutually exclusive.")
    yield from of_schema(function.get("parameters"), f"{path}.parameters")


def of_schema(schema: Any, path: str) -> Problems:
    """Yields unknown members of a schema in OpenAPI's form, and objects without properties."""
    if not isinstance(schema, Mapping):
        return
    yield from unknown(schema, SCHEMA, path)
    members = schema.get("properties")
    if str(schema.get("type")).upper() == "OBJECT" and members == {}:
        yield invalid(f"* GenerateContentRequest.{path}.properties: should be non-empty for OBJECT type\n")
    for name, member in (members or {}).items():
        yield from of_schema(member, f"{path}.properties[{name}]")
    yield from of_schema(schema.get("items"), f"{path}.items")
    for at, branch in enumerate(listed(schema, "anyOf")):
        yield from of_schema(branch, f"{path}.any_of[{at}]")


def of_calling(config: Json, names: Sequence[str]) -> Problems:
    """Yields what in the configuration of function calling contradicts the declared *names*."""
    allowed = listed(config, "allowedFunctionNames")
    if allowed and config.get("mode") not in ("ANY", "VALIDATED"):
        yield invalid("Allowed function names should be set only when function calling mode is ANY.")
    for name in allowed:
        if name not in names:
            yield invalid(f"Allowed function name '{name}' is not declared.")
    if config.get("mode") == "ANY" and not names:
        yield invalid("Function calling config is set without function_declarations.")


# Settings...


def of_config(model: str, config: Json) -> Problems:
    """Yields members of `generationConfig` that are unknown, out of their range, or nothing for this *model*."""
    yield from unknown(config, CONFIG, "generation_config")
    yield from of_schema(config.get("responseSchema"), "generation_config.response_schema")
    schema = config.get("responseSchema") or config.get("responseJsonSchema")
    if schema and config.get("responseMimeType") != "application/json":
        yield invalid("response_schema can only be set when response_mime_type is application/json")
    limit = config.get("maxOutputTokens")
    if limit is not None and (not isinstance(limit, int) or limit < 1):
        yield invalid("max_output_tokens must be positive.")
    temperature = config.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        yield invalid("* GenerateContentRequest.generation_config.temperature: must be in the range [0.0, 2.0].\n")
    thinking = config.get("thinkingConfig") or {}
    budget, level = thinking.get("thinkingBudget"), thinking.get("thinkingLevel")
    if thinking and version_of(model) < (2, 5):
        yield invalid(f"Thinking is not enabled for models/{model}")
    if budget is not None and level is not None:
        yield invalid("You can only set only one of thinking budget and thinking level.")
    if level is not None and version_of(model) < (3, 0):
        yield invalid("Thinking level is not supported for this model.")
    if budget == 0 and version_of(model) >= (2, 5) and "-pro" in model:
        yield invalid("Budget 0 is invalid. This model only works in thinking mode.")
