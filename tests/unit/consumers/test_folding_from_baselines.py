"""Folding begins where no event is lacking, and every baseline on the way is held to what was folded."""

from typing import Any

import pytest

from consumers.verify.fold import Unfoldable, digest_of
from consumers.verify.trees import _folded


def unit(name: str, parent: str | None, ordinal: int) -> dict[str, Any]:
    return {
        "id": name, "parent_id": parent, "ordinal": ordinal, "iu_code": name, "lifecycle": "enacted",
        "content_digest": "00",
    }  # fmt: skip


def added(version: int) -> tuple[str, int, str, dict[str, Any]]:
    """The event of version n adds unit n, the first one as root."""
    told = unit(str(version), None if version == 1 else "1", max(0, version - 2)) | {"unit_id": str(version)}
    return ("tree", version, "structure_child_added", told)


def baseline(version: int, *, wrong: bool = False) -> tuple[str, int, list[dict[str, Any]]]:
    units = [unit("1", None, 0)] if version else []
    units += [unit(str(number), "1", number - 2 + 50 * wrong) for number in range(2, version + 1)]
    return ("tree", version, units)


EVENTS = [added(version) for version in range(1, 6)]


@pytest.mark.parametrize(
    ("baselines", "events"),
    [
        ([], EVENTS),
        ([baseline(5)], EVENTS),
        ([baseline(3)], EVENTS[2:]),
        ([baseline(2), baseline(4)], EVENTS[2:]),
        ([baseline(5)], EVENTS[4:]),
        ([baseline(2), baseline(5)], []),
    ],
    ids=["events alone", "nothing pruned", "past the cut", "at the cut", "at the end", "all pruned"],
)
def test_what_is_kept_gives_the_tree(baselines: list[Any], events: list[Any]) -> None:
    folded, version = _folded(baselines, events)
    assert version == 5
    assert digest_of(folded) == digest_of(_folded([], EVENTS)[0])


@pytest.mark.parametrize(
    ("baselines", "events", "said"),
    [
        ([], EVENTS[1:], "version 2 follows version 0"),
        ([baseline(1)], EVENTS[2:], "version 3 follows version 0"),
        ([baseline(2)], EVENTS[2:3] + EVENTS[4:], "version 5 follows version 3"),
        ([baseline(4, wrong=True)], EVENTS, "its baseline of version 4: ordinal of unit 2"),
        ([baseline(2), baseline(4, wrong=True)], EVENTS[2:], "its baseline of version 4"),
        ([baseline(6)], EVENTS, "a baseline of version 6, the events end at 5"),
    ],
    ids=["pruned without one", "one below the cut", "hole", "wrong", "wrong on the way", "ahead"],
)
def test_what_does_not_fit_is_said(baselines: list[Any], events: list[Any], said: str) -> None:
    with pytest.raises(Unfoldable, match=said):
        _folded(baselines, events)
