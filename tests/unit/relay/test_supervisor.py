"""Several shards in one process: what is run, and how one shard's end is the end of all."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from iu_core.errors import Fenced, Misconfigured, Usage
from iu_core.settings import KafkaSettings, RelaySettings, Settings
from producers.relay.framing import Wire
from producers.relay.service import Progress
from producers.relay.supervisor import Supervisor, chosen_shards

WAIT_S = 10


def settings(shards: int, partitions: int = 4) -> Settings:
    return Settings(relay=RelaySettings(shards=shards), kafka=KafkaSettings(partitions=partitions))


class NoContracts:
    def wire(self, event_type: str, schema_version: int) -> Wire | None:
        return None


class Scripted:
    """A service that does what the script of its shard says."""

    def __init__(self, script: Callable[[threading.Event], None]) -> None:
        self._script = script
        self.progress = Progress(sessions=1, published=10, transactions=2)

    def run(self, stop: threading.Event) -> Progress:
        self._script(stop)
        return self.progress


def supervisor(*scripts: Callable[[threading.Event], None]) -> Supervisor:
    def service(*_: object, shard: int, **__: object) -> Any:
        return Scripted(scripts[shard])

    made = settings(len(scripts))
    return Supervisor(made, "", NoContracts(), shards=range(len(scripts)), service=service)


def ends(_: threading.Event) -> None:
    pass


def test_all_shards_run_unless_some_are_named() -> None:
    assert chosen_shards(settings(3), ()) == [0, 1, 2]
    assert chosen_shards(settings(3), (2, 0, 2)) == [0, 2]


def test_a_shard_that_there_is_not_is_a_wrong_word() -> None:
    with pytest.raises(Usage, match="no shard 3"):
        chosen_shards(settings(3), (0, 3))


def test_more_shards_than_partitions_are_refused() -> None:
    with pytest.raises(Misconfigured, match="5 shards cannot share 4 partitions"):
        chosen_shards(settings(5), ())


def test_the_progress_is_that_of_all_shards() -> None:
    assert supervisor(ends, ends, ends).run(threading.Event()) == Progress(3, 30, 6)


def test_the_shards_run_at_once() -> None:
    met = threading.Barrier(3, timeout=WAIT_S)

    def meets(_: threading.Event) -> None:
        met.wait()

    supervisor(meets, meets, meets).run(threading.Event())


def test_the_error_of_one_shard_ends_the_process_after_the_others_have_finished() -> None:
    finished = threading.Event()

    def fenced(_: threading.Event) -> None:
        raise Fenced("another relay has shard 0")

    def goes_on(stop: threading.Event) -> None:
        assert stop.wait(WAIT_S)
        finished.set()

    with pytest.raises(Fenced, match="shard 0"):
        supervisor(fenced, goes_on).run(threading.Event())
    assert finished.is_set()


def test_a_shard_that_is_done_leaves_the_others_running() -> None:
    """With --until-idle one shard may be drained long before another."""
    stop = threading.Event()

    def takes_longer(stop: threading.Event) -> None:
        assert not stop.wait(0.2)

    supervisor(ends, takes_longer).run(stop)
    assert not stop.is_set()
