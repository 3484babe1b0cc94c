"""The official client's stream helper over responses of several rounds: it asserts the grammar of every event."""

from __future__ import annotations

from typing import Any

import agents
import openai
import pytest

from gomodel_asgi import Provider
from gomodel_asgi.testing import Answer, Status
from tests.support.stage import Stage

from .hosting import CODE, CRM, FILES, IMAGE, WEB, Broken, call, calls
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
    host = stage.gateways[0].state.tools
    assert host is not None
    host.toolbox.sources["crm"] = Broken(RuntimeError("down"))
    with pytest.raises(openai.APIStatusError) as failed:
        client.responses.create(model="m", input="Hi", tools=[CRM])
    assert failed.value.status_code == 424 and "'crm'" in failed.value.message


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def hosted() -> list[Any]:
    """The Agents SDK's own hosted tools, with its defaults."""
    crm: Any = {"type": "mcp", "server_label": "crm", "require_approval": "never"}
    code: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
    return [
        agents.WebSearchTool(),
        agents.FileSearchTool(vector_store_ids=["vs_1"], include_search_results=True),
        agents.CodeInterpreterTool(tool_config=code),
        agents.ImageGenerationTool(tool_config={"type": "image_generation"}),
        agents.HostedMCPTool(tool_config=crm),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_agent_uses_its_hosted_tools_and_goes_on(client: Any, stage: Stage, streamed: bool) -> None:
    agents.set_tracing_disabled(True)
    stage.provider.script(SCRIPT, Answer(text="In Rome."))
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{stage.origin}/v1", max_retries=0) as spoken:
        model = agents.OpenAIResponsesModel("m", spoken)
        agent = agents.Agent(name="Ada", tools=hosted(), model=model)
        if streamed:
            first: Any = agents.Runner.run_streamed(agent, "Weather?")
            async for _ in first.stream_events():
                pass
        else:
            first = await agents.Runner.run(agent, "Weather?")
        second = await agents.Runner.run(agent, [*first.to_input_list(), {"role": "user", "content": "Where?"}])
    assert first.final_output.startswith("Sunny") and second.final_output == "In Rome."
    kinds = [item.type for response in first.raw_responses for item in response.output]
    assert [kind for kind in kinds if kind != "reasoning"] == KINDS
    assert "Found for rome" in stage.provider.requests[-1].body.decode()


@pytest.mark.anyio
async def test_an_agent_approves_a_call(client: Any, stage: Stage) -> None:
    agents.set_tracing_disabled(True)
    asked: list[str] = []

    def approve(request: agents.MCPToolApprovalRequest) -> agents.MCPToolApprovalFunctionResult:
        asked.append(request.data.name)
        return {"approve": True}

    config: Any = {"type": "mcp", "server_label": "crm", "require_approval": "always"}
    tool = agents.HostedMCPTool(tool_config=config, on_approval_request=approve)
    stage.provider.script(calls(call("lookup", order="7")), Answer(text="On its way."))
    async with openai.AsyncOpenAI(api_key="k", base_url=f"{stage.origin}/v1", max_retries=0) as spoken:
        agent = agents.Agent(name="Ada", tools=[tool], model=agents.OpenAIResponsesModel("m", spoken))
        result = await agents.Runner.run(agent, "Order 7?")
    assert result.final_output == "On its way." and asked == ["lookup"]
    assert len(stage.provider.requests) == 2
