from __future__ import annotations

import pytest

from benchmarks.isolation import run

from .conftest import HTTP11, Kind, label


@pytest.fixture(params=HTTP11, ids=label)
def kind(request: pytest.FixtureRequest) -> Kind:
    assert isinstance(request.param, Kind)
    return request.param


async def test_two_hundred_tenants_get_their_own_answers_whatever_fails_or_is_cancelled() -> None:
    """A short run of `benchmarks/isolation.py`."""
    found = await run(2048, 200)

    assert found["FOREIGN"] == 0
    assert found["open"] == found["idle"]
    assert found["waiting"] == 0
    assert found["own"] > 1000
    assert found["failed"] > 50
    assert found["cancelled"] > 50
