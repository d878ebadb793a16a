"""`iu relay unblock` wants one decision and one reason before it looks at any server."""

import pytest

from iu_core.cli.main import main

TREE = "0195f3a0-0000-7000-8000-00000000000a"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((TREE, "--reason", "x"), "exactly one of --retry and --skip"),
        ((TREE, "--retry", "--skip", "--reason", "x"), "exactly one of --retry and --skip"),
        ((TREE, "--retry"), "needs a reason"),
        ((TREE, "--skip", "--reason", " ", "--apply"), "needs a reason"),
        (("pilot", "--skip", "--reason", "x"), "TREE"),
        (("--skip", "--reason", "x"), "TREE"),
    ],
)
def test_wrong_words_are_2(capfd: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["relay", "unblock", *words])
    assert ended.value.code == 2
    assert said in capfd.readouterr().err
