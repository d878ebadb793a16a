"""Jars, those of Kafka first: resolved once by Maven into the user's cache, found there ever after."""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from infra.local.launch import Launch
from infra.local.supervision import Supervision
from infra.local.workplace import Workplace
from iu_core.errors import Retryable, Terminal

RESOURCES = Path(__file__).parent / "kafka"
OLDEST_JAVA = 17
MAVEN_TIMEOUT_S = 300.0
LOCK_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Java:
    """A Java runtime new enough for the broker."""

    program: str
    version: str


def kafka_version() -> str:
    """Return the version that `kafka/pom.xml` names."""
    match = re.search(r"<kafka.version>([^<]+)</kafka.version>", (RESOURCES / "pom.xml").read_text())
    if match is None:
        raise Terminal("pom.xml names no Kafka version", why=str(RESOURCES / "pom.xml"))
    return match[1]


def find_java() -> Java | str:
    """Return the Java on PATH or in JAVA_HOME, or why there is none that will do."""
    home = os.environ.get("JAVA_HOME")
    program = shutil.which("java") or (shutil.which("java", path=f"{home}/bin") if home else None)
    if program is None:
        return "no java on PATH"
    try:
        told = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        return f"java does not run: {error}"
    match = re.search(r'version "((\d+)[^"]*)"', told.stderr)
    if match is None or int(match[2]) < OLDEST_JAVA:
        return f"java is {match[1] if match else 'of unknown version'}, Kafka needs {OLDEST_JAVA} or newer"
    return Java(program, match[1])


def resolve(supervision: Supervision, place: Workplace, progress: Callable[[str], None]) -> Path | str:
    """Return the directory of the jars of Kafka, or why they cannot be had."""
    return resolve_pom(RESOURCES / "pom.xml", f"Kafka {kafka_version()}", supervision, place, progress)


def resolve_pom(
    pom: Path, what: str, supervision: Supervision, place: Workplace, progress: Callable[[str], None]
) -> Path | str:
    """Return the directory of the jars that `pom` names, or why they cannot be had.

    `what` is a name and a version ("Kafka 4.2.0") and becomes the name of the directory. That
    appears only when it is whole, so that its being there is enough; Maven is asked by one process
    at a time, and only the first time.
    """
    home = place.cache_dir / what.lower().replace(" ", "-")
    if home.is_dir():
        return home
    name = what.rpartition(" ")[0]
    maven = shutil.which("mvn")
    if maven is None:
        return f"the jars of {name} are not in the cache, and there is no mvn on PATH to fetch them"
    try:
        place.cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"the directory for the jars of {name} cannot be made: {error}"
    with _alone(place.cache_dir / "kafka.lock"):
        if home.is_dir():
            return home
        progress(f"fetching {what} by Maven, this once")
        unfinished = home.with_name(f".{home.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        try:
            supervision.run(_maven(maven, pom, unfinished, place), timeout_s=MAVEN_TIMEOUT_S)
        except Terminal as error:
            return f"Maven cannot fetch the jars of {name}: {_reason(error)} ({error.remedy})"
        unfinished.rename(home)
    return home


def _maven(maven: str, pom: Path, target: Path, place: Workplace) -> Launch:
    return Launch(
        name="maven",
        argv=(
            *(maven, "--batch-mode", "--file", str(pom)),
            *("dependency:copy-dependencies", f"-DoutputDirectory={target}", "-DincludeScope=runtime"),
        ),
        cwd=str(place.cache_dir),
        log=str(place.log("maven")),
        environment=dict(os.environ),
    )


def _reason(error: Terminal) -> str:
    """Return the line of Maven's output that says what is wrong, without its advice."""
    lines = [
        line for line in (error.why or "").splitlines() if line.startswith("[ERROR] ") and len(line) > 20
    ]
    return lines[0].removeprefix("[ERROR] ") if lines else (error.why or "").splitlines()[0]


@contextlib.contextmanager
def _alone(lock: Path) -> Iterator[None]:
    deadline = time.monotonic() + MAVEN_TIMEOUT_S
    with lock.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Retryable(
                        "another process has been fetching jars for too long",
                        why=f"it holds {lock}",
                        remedy="end it, then run the command again",
                    ) from None
                time.sleep(LOCK_POLL_S)
        yield
