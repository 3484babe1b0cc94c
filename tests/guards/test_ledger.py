"""The ledger keeps of what was said only what the guards have let pass."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest

from gomodel_asgi import Gateway
from gomodel_asgi.guards import Guard
from gomodel_asgi.ledger import Content, JsonLines, Ledger
from gomodel_asgi.testing import Answer, FakeProvider

from ..support.driving import ask
from ..support.guarding import SECRET, mask, refuse
from ..support.seen import native


def everything(folder: Path) -> str:
    """All that lies in the files, with what is in base64 in clear too."""
    raw = "".join(path.read_text() for path in folder.iterdir())
    return raw + "".join(base64.b64decode(one).decode() for one in re.findall(r'"(eyJ[\w+/=]+)"', raw))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", ["responses", "chat"])
@pytest.mark.parametrize("output", [mask, refuse])
async def test_what_a_guard_takes_out_lies_in_no_file_of_the_ledger(
    tmp_path: Path, stream: bool, dialect: str, output: object
) -> None:
    kind: object = dialect
    ledger = Ledger(JsonLines(tmp_path / "ledger.jsonl"), content=Content(lambda request: True, key=None))
    with FakeProvider(dialect=kind).run_in_thread() as provider:  # type: ignore[arg-type]
        provider.script(Answer(text=f"It is {SECRET}, he said."))
        guard = Guard("keys", input=mask, output=output)  # type: ignore[arg-type]
        one = native(provider, dialect=dialect)
        async with Gateway(providers=[one], guards=[guard], ledger=ledger) as gateway:
            await ask(gateway, {"model": "m", "input": f"Is it {SECRET}?", "stream": stream})
    written = everything(tmp_path)
    assert SECRET not in written and "Is it [key]?" in written
    assert ("It is [key], he said." in written) is (output is mask)
