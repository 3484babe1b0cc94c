"""The official client's stream helper over responses of several rounds: it asserts the grammar of every event."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from gomodel_asgi import Provider
from gomodel_asgi.testing import Answer, Status

from ..stage import Stage
from .hosting import CODE, CRM, FILES, IMAGE, WEB, call, calls
from .test_loop import ALL, DECLARED, KINDS, SCRIPT


@pytest.fixture
def client(stage: Stage) -> Any:
    provider = Provider("fake", stage.provider.base_url, hosted_tools=(), stateful=False)
    stage.gateway(providers=[provider], tools=ALL)
    with openai.OpenAI(base_url=f"{stage.origin}/v1", api_key="k", max_retries=0, timeout=20) as made:
        yield made


def test_the_stream_helper_reads_every_event_and_the_whole_response(client: Any, stage: Stage) -> None:
    stage.provider.script(SCRIPT)
    with client.responses.stream(model="m", input="Weather?", tools=DECLARED) as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [item.type for item in final.output if item.type != "reasoning"] == KINDS
    assert events[-1].type == "response.completed" and final.status == "completed"
    assert final.output_text.startswith("Let me look.Sunny")
    raised = [event for event in events if event.type == "response.output_text.annotation.added"]
    assert len(raised) == 2


@pytest.mark.parametrize("declared", [WEB, FILES, CODE, IMAGE, CRM], ids=lambda tool: str(tool["type"]))
def test_each_tool_reads_the_same_streamed_and_not(client: Any, stage: Stage, declared: Any) -> None:
    arguments = {
        "web_search": call("web_search", query="a"),
        "file_search": call("file_search", queries=["a"]),
        "code_interpreter": call("code_interpreter", code="1"),
        "image_generation": call("image_generation", prompt="a"),
        "mcp": call("lookup", order="7"),
    }
    for _ in range(2):
        stage.provider.script(calls(arguments[declared["type"]]), Answer(text="Done."))
    whole = client.responses.create(model="m", input="Hi", tools=[declared])
    with client.responses.stream(model="m", input="Hi", tools=[declared]) as stream:
        streamed = stream.get_final_response()
    assert [item.type for item in streamed.output] == [item.type for item in whole.output]
    assert whole.output_text == streamed.output_text == "Done."


def test_a_failure_in_mid_stream_is_read_as_one(client: Any, stage: Stage) -> None:
    stage.provider.script(calls(call("web_search", query="a")))
    stage.provider.fail_next(Status(400))
    with pytest.raises(openai.APIError):
        with client.responses.stream(model="m", input="Hi", tools=[WEB]) as stream:
            list(stream)


def test_a_server_that_cannot_be_listed_is_a_424(client: Any, stage: Stage) -> None:
    class Broken:
        def open(self, visit: Any) -> Any:
            raise RuntimeError("down")

    host = stage.gateways[0].state.tools
    assert host is not None
    host.toolbox.sources["crm"] = Broken()
    with pytest.raises(openai.APIStatusError) as failed:
        client.responses.create(model="m", input="Hi", tools=[CRM])
    assert failed.value.status_code == 424 and "'crm'" in failed.value.message
