"""The FastAPI example, fuzzed by what its OpenAPI page says: no request makes it fail, each answer is as described."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gomodel_asgi.testing import FakeProvider

from ..test_examples import app

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="schemathesis is not installed")

HELD = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
LIMIT = 4  # examples of each operation: about ten seconds a run


@pytest.fixture
def origin(provider: FakeProvider) -> Iterator[str]:
    with app("fastapi_auth", provider) as served:
        yield served


def fuzz(origin: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{origin}/openapi.json", "--url", origin]
    command += ["--checks", ",".join(HELD), "--phases", "fuzzing", "--max-examples", str(LIMIT), "--seed", "1"]
    command += ["--request-timeout", "20", "--no-color", "--report", "ndjson", "--report-dir", str(folder), *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=110)


def test_no_request_of_a_known_caller_breaks_the_app_or_gets_what_is_not_described(origin: str, tmp_path: Path) -> None:
    done = fuzz(origin, tmp_path, "-H", "authorization: Bearer token-of-ada")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert statuses(tmp_path) & {200, 400, 404} == {200, 400, 404}


def test_no_request_of_a_stranger_gets_further_than_a_refusal(
    origin: str, provider: FakeProvider, tmp_path: Path
) -> None:
    done = fuzz(origin, tmp_path, "--include-path-regex", "/v1/")
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert not provider.requests
    assert 200 not in statuses(tmp_path) and 401 in statuses(tmp_path)


def test_every_schema_on_the_page_is_json_schema(origin: str) -> None:
    """OpenAPI 3.1 takes its schemas from JSON Schema 2020-12, whose meta-schema they are held to."""
    page = httpx.get(f"{origin}/openapi.json").json()
    operations = [operation for path in page["paths"].values() for operation in path.values()]
    bodies = [operation["requestBody"]["content"] for operation in operations if "requestBody" in operation]
    schemas = [*page["components"]["schemas"].values(), *(body["application/json"]["schema"] for body in bodies)]
    assert len(bodies) >= 3
    for schema in schemas:
        jsonschema_rs.meta.validate({"$schema": "https://json-schema.org/draft/2020-12/schema", **schema})


def statuses(folder: Path) -> set[int]:
    """The status codes of all answers in the report."""
    found: set[int] = set()
    for report in folder.rglob("*.ndjson"):
        for line in report.read_text().splitlines():
            collect(json.loads(line), found)
    return found


def collect(value: object, found: set[int]) -> None:
    if isinstance(value, dict):
        if isinstance(value.get("status_code"), int):
            found.add(value["status_code"])
        for each in value.values():
            collect(each, found)
    elif isinstance(value, list):
        for each in value:
            collect(each, found)
