"""Which headers may cross the gateway."""

from __future__ import annotations

import pytest

from gomodel_asgi.errors import InvalidRequest
from gomodel_asgi.wire.headers import (
    NEVER_FORWARDED,
    SINGLE,
    for_client,
    idempotency_key,
    is_safe,
    read,
    request_id,
    unsupported,
)


@pytest.mark.parametrize("given", [b"req_1", b"a.b:c=d-e", b"x" * 128])
def test_a_well_formed_request_id_of_the_caller_is_kept(given: bytes) -> None:
    assert request_id(given) == given.decode()


@pytest.mark.parametrize("given", [None, b"", b"a b", b"a\r\nb", b"a\0", b"x" * 129, b"x" * 100_000, "é".encode()])
def test_any_other_is_replaced(given: bytes | None) -> None:
    assert request_id(given).startswith("req_")
    assert request_id(given) != request_id(given)


@pytest.mark.parametrize("name", sorted(SINGLE))
def test_a_header_that_must_be_single_is_refused_when_repeated(name: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read([(name, b"a"), (name, b"a")])


def test_of_other_repeated_headers_the_first_counts() -> None:
    assert read([(b"accept", b"a"), (b"accept", b"b")]) == {b"accept": b"a"}


def test_equal_idempotency_keys_of_two_tenants_or_credentials_never_meet() -> None:
    tenants = (None, "", "None", "-", "a", "b", "\ud800")
    keys = {idempotency_key(tenant, key, b"same") for tenant in tenants for key in ("x", "y")}

    assert len(keys) == 2 * len(tenants)
    assert idempotency_key("a", "x", b"same") == idempotency_key("a", "x", b"same")


def test_a_tenant_and_a_value_cannot_be_shifted_into_each_other() -> None:
    assert idempotency_key("a", "x", b"bc") != idempotency_key("ab", "x", b"c")


def test_only_headers_on_the_list_and_safe_ones_reach_the_client() -> None:
    given = [
        (b"retry-after", b"3"), (b"set-cookie", b"x"), (b"server", b"x"), (b"x-ratelimit-limit-requests", b"1"),
        (b"x-should-retry", b"a\r\nb"), (b"openai-organization", b"o"), (b"x-request-id", b"req_1"),
        (b"x-ratelimit-\xff", b"1"), (b"x-ratelimit-a: b\r\nc", b"1"),
    ]  # fmt: skip

    assert for_client(given, bytes) == [
        (b"retry-after", b"3"), (b"x-ratelimit-limit-requests", b"1"), (b"x-upstream-request-id", b"req_1"),
    ]  # fmt: skip


@pytest.mark.parametrize("value", [b"a\r\nb", b"a\0", b"\x7f", "é".encode(), b"x" * 1025])
def test_what_cannot_stand_in_a_header_is_not_safe(value: bytes) -> None:
    assert not is_safe(value)


def test_what_identifies_somebody_can_never_be_forwarded() -> None:
    assert {
        "authorization",
        "cookie",
        "x-api-key",
        "api-key",
        "openai-organization",
        "openai-project",
    } <= NEVER_FORWARDED


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["text.verbosity"], b"text.verbosity"),
        (["tools[1].external_web_access", "tools[20].external_web_access"], b"tools.external_web_access"),
        (["include[0]", "include[1]", "a"], b"include, a"),
        (["a,b", "c\r\nx-evil: 1", "é\0", "\x7f"], b"a?b, c??x-evil:?1, ??, ?"),
        ([f"m{number}" for number in range(30)], b", ".join(b"m%d" % number for number in range(20))),
        (["x" * 10_000, "y" * 10_000], b"x" * 128 + b", " + b"y" * 128),
        (
            [f"{number:04}" + "x" * 124 for number in range(9)],
            b", ".join(b"%04d" % number + b"x" * 124 for number in range(3)),
        ),
    ],
)
def test_what_was_left_out_is_named_without_indexes_in_printable_ascii_and_within_bounds(
    paths: list[str], expected: bytes
) -> None:
    value = unsupported(paths)

    assert value == expected
    assert len(value) <= 512 and value.count(b", ") < 20 and is_safe(value)


def test_a_header_may_have_as_many_bytes_as_its_limit_and_no_more() -> None:
    assert is_safe(b"a" * 256, 256) and not is_safe(b"a" * 257, 256)
