"""An image that a tool has given is seen again in later turns, where the upstream can be shown one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from gomodel_asgi import tools
from gomodel_asgi.emulation.tools import call_limits
from gomodel_asgi.testing import Answer

from .hosting import CODE, IMAGE, Hosting, House, Json, call, calls

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DATA = base64.b64encode(PNG).decode()


def plot(call: tools.Call) -> tools.Execution:
    return tools.Execution(logs="Plotted.", images=[tools.Image(PNG)])


def draw(call: tools.Call) -> tools.Image:
    return tools.Image(PNG)


def vector(call: tools.Call) -> tools.Image:
    return tools.Image(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "svg")


async def first_turn(house: House, tool: Json, **more: Any) -> Json:
    name = str(tool["type"])
    given = {"code": "plot()"} if name == "code_interpreter" else {"prompt": "A dot."}
    house.fake.script(calls(call(name, **given)), Answer(text="There."))
    return await house.ask({"input": "Show me.", "tools": [tool], **more})


def next_turn(first: Json, way: str) -> Json:
    if way == "previous":
        return {"input": "And?", "previous_response_id": first["id"]}
    said = [{"role": "user", "content": "Show me."}, *first["output"]]
    return {"input": [*said, {"role": "user", "content": "And?"}]}


@pytest.mark.parametrize("way", ["previous", "echoed"])
@pytest.mark.parametrize("tool", [CODE, IMAGE], ids=["code", "image"])
async def test_an_image_is_given_again_as_it_was(hosting: Hosting, dialect: str, tool: Json, way: str) -> None:
    house = hosting(tools.code_interpreter(plot), tools.image_generation(draw), dialect=dialect)
    first = await first_turn(house, tool)
    for more in ({}, {"tools": [tool]}):
        await house.ask({**next_turn(first, way), **more})
        rounds, later = json.dumps(house.sent[1]), json.dumps(house.sent[-1])

        assert later.count(DATA) == rounds.count(DATA) == (0 if dialect == "chat" else 1)
        assert ("Plotted." in later) or ("has been drawn" in later)


async def test_an_image_that_is_too_large_to_be_kept_is_told_in_words(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_limits, "KEPT_IMAGES", len(DATA))
    house = hosting(tools.code_interpreter(plot), dialect="anthropic")
    first = await first_turn(house, CODE)
    await house.ask(next_turn(first, "previous"))

    assert DATA in json.dumps(house.sent[1]) and DATA not in json.dumps(house.sent[-1])
    assert "An image" in house.outputs()[0]


async def test_only_so_many_images_of_one_response_are_kept(hosting: Hosting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_limits, "KEPT_IMAGES", 2 * len(DATA) + 100)
    house = hosting(tools.code_interpreter(plot), dialect="anthropic")
    house.fake.script(calls(*(call("code_interpreter", code=f"plot({at})") for at in range(3))), Answer(text="There."))
    first = await house.ask({"input": "Show me.", "tools": [CODE]})
    await house.ask(next_turn(first, "previous"))

    assert (json.dumps(house.sent[1]).count(DATA), json.dumps(house.sent[-1]).count(DATA)) == (3, 2)


@pytest.mark.parametrize("way", ["previous", "echoed"])
async def test_a_vector_image_is_never_shown_to_a_model(hosting: Hosting, dialect: str, way: str) -> None:
    house = hosting(tools.image_generation(vector), dialect=dialect)
    first = await first_turn(house, IMAGE)
    await house.ask(next_turn(first, way))

    assert "svg" not in json.dumps(house.sent[1:])


async def test_nobody_is_shown_what_only_one_of_a_chain_could_see(hosting: Hosting) -> None:
    from gomodel_asgi import Target

    for order in (("anthropic", "chat"), ("chat", "anthropic")):
        houses = [hosting(tools.code_interpreter(plot), dialect=one) for one in order]
        target = Target(houses[0].provider, fallbacks=[Target(houses[1].provider, model="m")])
        first_house = hosting(tools.code_interpreter(plot), dialect=order[0], policy=lambda request, t=target: t)
        first = await first_turn(first_house, CODE)
        await first_house.ask(next_turn(first, "previous"))

        assert DATA not in json.dumps(first_house.sent[-1])
        first_house.fake.clear()
