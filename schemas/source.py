"""Say on which line of a JSON text a value stands, so that a finding can name its place."""

import json
import re
from typing import Final, TypeAlias

JsonPath: TypeAlias = tuple[str | int, ...]

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_SCALAR: Final = re.compile(r"[^,\]}\s]+")


def lines(text: str) -> dict[JsonPath, int]:
    """Return the line, from 1, on which each value of the valid JSON `text` begins.

    The path of a member is its keys and indices from the outside; the whole is ().
    Raises `ValueError` if `text` is not JSON.
    """
    json.loads(text)  # from here on the text is known to be JSON, and the walk needs no checks
    places: dict[JsonPath, int] = {}
    _walk(text, _past(_BLANK, text, 0), (), places)
    return places


def shown(path: JsonPath) -> str:
    """Return `path` for people: `fields[3].type.items`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text


def _walk(text: str, at: int, path: JsonPath, places: dict[JsonPath, int]) -> int:
    """Note the value that begins at `at` and all inside it; return where it ends."""
    places[path] = text.count("\n", 0, at) + 1
    opening = text[at]
    if opening not in "{[":
        return _past(_STRING if opening == '"' else _SCALAR, text, at)
    at = _past(_BLANK, text, at + 1)
    index = 0
    while text[at] not in "}]":
        key: str | int = index
        if opening == "{":
            end = _past(_STRING, text, at)
            key = json.loads(text[at:end])
            at = _past(_BLANK, text, _past(_BLANK, text, end) + 1)
        at = _past(_BLANK, text, _walk(text, at, (*path, key), places))
        if text[at] == ",":
            at = _past(_BLANK, text, at + 1)
        index += 1
    return at + 1


def _past(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at
