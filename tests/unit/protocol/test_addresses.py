"""Addresses as text: what is read is written the same, and everything else is refused."""

from __future__ import annotations

import pytest

from pubsubd_protocol.addresses import format_address, parse_address


@pytest.mark.parametrize("text", ["a:1", "127.0.0.1:0", "[::1]:7420", "[fe80::1%eth0]:65535"])
def test_an_address_is_written_as_it_was_read(text: str) -> None:
    assert format_address(parse_address(text)) == text


@pytest.mark.parametrize("text", ["a", ":1", "a:", "[a]:1", "::1:1", "a:65536", "a:1 b:1"])
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|range"):
        parse_address(text)
