"""Content blocks become one text, and images for who sees."""

from __future__ import annotations

import base64
from typing import Any

import mcp_types as types
import pytest

from gomodel_asgi.emulation.tools.listing import NOTHING_SAID, outcome_of
from gomodel_asgi.emulation.tools.seams import Outcome, failed

from .servers import PIXEL, text_of

DATA = base64.b64encode(PIXEL).decode()


def result(*content: Any, **members: Any) -> types.CallToolResult:
    return types.CallToolResult(content=list(content), **members)


def image(kind: str = "image/png", data: str = DATA) -> types.ImageContent:
    return types.ImageContent(type="image", data=data, mime_type=kind)


def resource(**members: Any) -> types.EmbeddedResource:
    kind = types.TextResourceContents if "text" in members else types.BlobResourceContents
    return types.EmbeddedResource(type="resource", resource=kind(uri="file:///a", **members))


LINK = types.ResourceLink(type="resource_link", name="a", uri="file:///a")
AUDIO = types.AudioContent(type="audio", data=DATA, mime_type="audio/wav")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (result(), ""),
        (result(text_of("one"), text_of("two")), "one\ntwo"),
        (result(text_of("one"), structured_content={"n": 1}), "one"),
        (result(structured_content={"n": [1, None]}), '{"n":[1,null]}'),
        (result(structured_content=[]), "[]"),
        (result(image(), structured_content={"n": 1}), '{"n":1}\n[An image: image/png]'),
        (result(AUDIO), "[Audio: audio/wav]"),
        (result(LINK), "[A resource: a file:///a]"),
        (result(resource(text="inside")), "inside"),
        (result(resource(blob=DATA, mime_type="application/pdf")), "[A file: application/pdf]"),
        (result(resource(blob=DATA)), "[A file: file:///a]"),
    ],
)
def test_what_a_tool_gives_is_one_text(given: types.CallToolResult, text: str) -> None:
    assert outcome_of(given).text == text
    assert outcome_of(given).error is None


@pytest.mark.parametrize(("kind", "format"), [("image/png", "png"), ("image/JPG", "jpeg"), ("image/webp", "webp")])
def test_an_image_is_kept_for_a_model_that_sees(kind: str, format: str) -> None:
    (found,) = outcome_of(result(image(kind))).images

    assert (found.data, found.format) == (PIXEL, format)


@pytest.mark.parametrize("given", [image("image/svg+xml"), image("image/tiff"), image(data="no base64!"), AUDIO])
def test_what_no_model_can_see_is_a_note_alone(given: Any) -> None:
    outcome = outcome_of(result(given))

    assert outcome.images == ()
    assert outcome.text.startswith("[")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (result(text_of("No such order."), is_error=True), "No such order."),
        (result(text_of("No."), structured_content={"n": 1}, is_error=True), "No."),
        (result(structured_content={"n": 1}, is_error=True), '{"n":1}'),
        (result(is_error=True), NOTHING_SAID),
    ],
)
def test_an_error_is_the_servers_own_text(given: types.CallToolResult, text: str) -> None:
    assert outcome_of(given) == Outcome(text, error=failed(text))
