"""`run_tool` runs one configured tool as the gateway does: what the model reads, what the client gets, what failed."""

from __future__ import annotations

import base64
import functools
from typing import Any

import pytest
from mcp.server import Server
from mcp_types import ListToolsResult
from starlette.authentication import SimpleUser

from gomodel_asgi import Gateway, Limits, Provider, Timeouts, tools
from gomodel_asgi.errors import InvalidRequest, ToolsUnlisted
from gomodel_asgi.testing import ToolResult, run_tool

UPSTREAM = Provider("main", "http://127.0.0.1:9/v1")


async def search(call: tools.Call) -> list[tools.Page]:
    return [tools.Page("https://example.com/a", "A page", f"About {call.arguments['query']}.")]


def find(call: tools.Call) -> list[tools.Passage]:
    stores = ",".join(call.tool["vector_store_ids"])
    return [tools.Passage("file_1", "a.txt", f"{query} in {stores}", 0.5) for query in call.arguments["queries"]]


def execute(call: tools.Call) -> tools.Execution:
    return tools.Execution("4\n", images=[tools.Image(b"png")], files=[tools.File(b"x", "plot.csv")])


async def draw(call: tools.Call) -> tools.Image:
    await call.partial(b"draft")
    return tools.Image(b"png", revised_prompt="A red cat")


def lookup(order: str, call: tools.Call) -> str:
    """Look an order up."""
    return f"Order {order} of {call.request.tenant}, asked by {call.request.user.display_name}."


def refund(order: str) -> str:
    """Pay an order back."""
    if order == "0":
        raise tools.ToolError("There is no order 0.")
    return str(1 / (int(order) - 1))


CRM = tools.mcp({"crm": [lookup, tools.function(refund, approval="always")], "shop": [tools.function(refund)]})


def gateway_with(*given: tools.Tool, **options: Any) -> Gateway:
    return Gateway(providers=[UPSTREAM], tools=given, **options)


def test_a_web_search_gives_a_framed_text_its_sources_and_a_citation() -> None:
    result = run_tool(tools.web_search(search), "web_search", {"query": "cats"})
    assert result.text.endswith("[A page](https://example.com/a)\nAbout cats.")
    assert "no instructions to you" in result.text
    assert (result.item["type"], result.item["status"]) == ("web_search_call", "completed")
    assert result.item["action"]["sources"] == [{"type": "url", "url": "https://example.com/a"}]
    assert [(one["type"], one["url"]) for one in result.citations] == [("url_citation", "https://example.com/a")]
    assert (result.outcome, result.error, result.detail, result.approval) == ("completed", None, None, None)


def test_a_file_search_is_declared_as_the_test_says_and_gives_its_results() -> None:
    stores = {"vector_store_ids": ["vs_1", "vs_2"]}
    result = run_tool(tools.file_search(find), "file_search", {"queries": ["x", "y"]}, declaration=stores)
    assert [one["text"] for one in result.item["results"]] == ["x in vs_1,vs_2", "y in vs_1,vs_2"]
    assert [one["file_id"] for one in result.citations] == ["file_1", "file_1"]


def test_code_gives_logs_images_and_files_that_can_be_cited() -> None:
    result = run_tool(tools.code_interpreter(execute), "code_interpreter", {"code": "print(2 + 2)"})
    assert result.item["code"] == "print(2 + 2)"
    assert [one["type"] for one in result.item["outputs"]] == ["logs", "image"]
    assert result.images == ("data:image/png;base64,cG5n",)
    assert [one["filename"] for one in result.citations] == ["plot.csv"]


def test_an_image_comes_whole_with_those_that_were_not_finished_among_the_events() -> None:
    result = run_tool(
        tools.image_generation(draw), "image_generation", {"prompt": "a cat"}, declaration={"partial_images": 1}
    )
    assert base64.b64decode(result.item["result"]) == b"png"
    assert result.item["revised_prompt"] == "A red cat"
    partial = [event["partial_image_b64"] for event in result.events if event["type"].endswith("partial_image")]
    assert [base64.b64decode(one) for one in partial] == [b"draft"]


@pytest.mark.parametrize("name", ["lookup", "crm.lookup"])
def test_a_function_is_called_for_the_tenant_and_the_user_of_the_test(name: str) -> None:
    result = run_tool(CRM, name, {"order": "7"}, tenant="acme", user=SimpleUser("ada"))
    assert result.text == result.item["output"] == "Order 7 of acme, asked by ada."


def test_the_label_names_the_only_function_of_a_server() -> None:
    assert run_tool(CRM, "shop", {"order": "3"}).text == "0.5"


def test_what_has_to_be_approved_is_approved_and_the_request_is_in_the_result() -> None:
    result = run_tool(CRM, "crm.refund", {"order": "2"})
    assert result.text == "1.0"
    assert result.approval is not None
    assert result.item["approval_request_id"] == result.approval["id"]
    assert run_tool(CRM, "shop.refund", {"order": "2"}).approval is None
    asking = run_tool(CRM, "shop.refund", {"order": "2"}, declaration={"require_approval": "always"})
    assert asking.approval is not None


def test_a_known_failure_is_told_and_any_other_is_in_the_detail_alone() -> None:
    known = run_tool(CRM, "shop", {"order": "0"})
    assert (known.outcome, known.error, known.detail) == ("failed", "There is no order 0.", None)
    other = run_tool(CRM, "shop", {"order": "1"})
    assert (other.item["status"], other.error) == ("failed", "The tool has failed.")
    assert other.detail == "ZeroDivisionError: division by zero"


def test_arguments_are_checked_as_those_of_a_model() -> None:
    wrong = run_tool(CRM, "shop", {"order": 7})
    assert (wrong.outcome, wrong.error) == (
        "failed",
        "The arguments do not fit:\norder: Input should be a valid string",
    )
    assert run_tool(CRM, "shop", '{"order"').outcome == "refused"
    assert run_tool(tools.web_search(search), "web_search", {}).outcome == "refused"


def test_the_limits_and_time_outs_of_a_gateway_hold() -> None:
    async def never(call: tools.Call) -> str:
        import anyio

        await anyio.sleep_forever()
        return ""

    gateway = gateway_with(
        tools.web_search(never),
        tools.code_interpreter(lambda call: "x" * 10_000),
        limits=Limits(tool_result=100),
        timeouts=Timeouts(tool=0.01),
    )
    late = run_tool(gateway, "web_search", {"query": "x"})
    assert (late.outcome, late.error) == ("timeout", "The tool took too long.")
    assert len(run_tool(gateway, "code_interpreter", {"code": ""}).text) < 200


def test_the_tenant_is_the_one_that_the_gateway_knows_the_user_by() -> None:
    gateway = gateway_with(CRM, tenant=lambda scope: f"tenant of {scope['user'].display_name}")
    assert "of tenant of ada," in run_tool(gateway, "lookup", {"order": "7"}, user=SimpleUser("ada")).text


def test_a_function_sees_state_headers_and_scope_as_the_hosts_middlewares_leave_them() -> None:
    def seen(call: tools.Call) -> str:
        """What the request holds."""
        request = call.request
        return f"{request.state.plan} {request.headers['x-plan']} {request.app}"

    told = run_tool(
        tools.mcp({"crm": [seen]}), "seen", state={"plan": "gold"}, headers={"X-Plan": "pro"}, scope={"app": "the app"}
    )
    assert told.text == "gold pro the app"


def test_the_gateway_itself_is_left_as_it_was() -> None:
    seen: list[Any] = []
    gateway = gateway_with(CRM, observers=[seen.append])
    run_tool(gateway, "shop", {"order": "3"})
    assert not seen and list(gateway.setup.registry.by_name) == ["main"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refund", "Several tools are called 'refund': crm.refund, shop.refund"),
        ("crm", "'crm' means 2 tools, and must mean one: lookup, refund"),
        ("crm.pay", "'crm.pay' means 0 tools, and must mean one: none"),
        ("web_search", "No tool 'web_search' is configured; there are: crm, shop"),
    ],
)
def test_a_name_that_means_no_tool_or_several_is_refused_with_what_there_is(name: str, message: str) -> None:
    with pytest.raises(LookupError, match=message):
        run_tool(CRM, name, {"order": "7"})


def test_a_gateway_without_tools_says_so() -> None:
    with pytest.raises(LookupError, match="has no tools"):
        run_tool(gateway_with(), "web_search")


def test_a_malformed_declaration_is_refused_as_a_clients_is() -> None:
    with pytest.raises(InvalidRequest, match="require_approval"):
        run_tool(CRM, "lookup", {"order": "7"}, declaration={"require_approval": "maybe"})


def test_a_server_that_cannot_be_listed_raises_what_a_client_would_get() -> None:
    async def fail(context: Any, params: Any) -> ListToolsResult:
        raise RuntimeError("what nobody is told")

    gateway = gateway_with(tools.mcp({"crm": Server("crm", on_list_tools=fail)}))
    with pytest.raises(ToolsUnlisted, match="Error retrieving tool list from MCP server: 'crm'") as caught:
        run_tool(gateway, "crm.lookup", {"order": "7"})
    assert "nobody is told" not in repr(caught.value)


@pytest.mark.anyio
async def test_inside_an_event_loop_the_result_is_awaited(anyio_backend: str) -> None:
    result = await run_tool(tools.web_search(search), "web_search", {"query": "cats"})
    assert isinstance(result, ToolResult) and result.outcome == "completed"


def test_the_fixture_is_the_same_function(run_tool: Any) -> None:
    assert run_tool(CRM, "shop", {"order": "3"}).text == "0.5"


def test_a_function_that_returns_nothing_says_so_in_words() -> None:
    def forget(order: str) -> None:
        """Forget an order."""

    result = run_tool(tools.mcp({"crm": [forget]}), "forget", {"order": "7"})
    assert result.text == "Done; there is nothing to return."


def test_what_cannot_be_written_as_json_is_a_failure_and_no_text() -> None:
    async def stream(order: str) -> Any:
        """Stream an order."""
        return object()

    result = run_tool(tools.mcp({"crm": [stream]}), "stream", {"order": "7"})
    assert result.outcome == "failed" and "object at" not in result.text
    assert "cannot be written as JSON" in str(result.detail)


def test_a_call_may_be_annotated_as_optional_and_a_function_may_be_partial() -> None:
    def greet(name: str, greeting: str = "Hi", call: tools.Call | None = None) -> str:
        """Greet somebody."""
        assert call is not None
        return f"{greeting}, {name} of {call.request.tenant}."

    polite = tools.function(functools.partial(greet, greeting="Good day"), name="greet")
    assert run_tool(tools.mcp({"a": [polite]}), "greet", {"name": "B"}, tenant="acme").text == "Good day, B of acme."


def test_a_page_with_brackets_in_its_title_and_a_file_with_a_space_in_its_name_are_cited() -> None:
    def bracketed(call: tools.Call) -> list[tools.Page]:
        return [tools.Page("https://example.com/a", "A [draft] page", "Text.")]

    def spaced(call: tools.Call) -> tools.Execution:
        return tools.Execution(files=[tools.File(b"x", "my plot.csv")])

    found = run_tool(tools.web_search(bracketed), "web_search", {"query": "x"})
    assert [one["title"] for one in found.citations] == ["A [draft] page"]
    made = run_tool(tools.code_interpreter(spaced), "code_interpreter", {"code": "x"})
    assert [one["filename"] for one in made.citations] == ["my plot.csv"]


def test_an_image_tool_may_answer_in_words() -> None:
    result = run_tool(tools.image_generation(lambda call: "Not of persons."), "image_generation", {"prompt": "x"})
    assert (result.text, result.outcome, result.item["result"]) == ("Not of persons.", "completed", None)


def test_one_tool_in_place_of_a_list_is_refused_in_words() -> None:
    with pytest.raises(TypeError, match="give a list of tools"):
        Gateway(providers=[UPSTREAM], tools=tools.web_search(search))  # type: ignore[arg-type]
