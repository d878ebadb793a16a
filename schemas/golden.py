"""Golden data: payloads kept beside the datum they must give, for ever and on every platform.

`golden/<event>/v<N>/<case>.json` is a payload written by a person, `<case>.bin` its datum as
it was when the contract was released. The encoders of Python and of PostgreSQL must still
make those bytes, and every later version must still read them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from iu_core.errors import IUError, Usage
from schemas.catalog import Contract
from schemas.codec import decode_datum, encode_with

CASES_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class Case:
    """One payload; `datum` is None until it was made once."""

    name: str
    json_file: Path
    payload: Any
    datum: bytes | None

    @property
    def bin_file(self) -> Path:
        """Where the datum stands."""
        return self.json_file.with_suffix(".bin")


def folder(schemas_dir: Path, contract: Contract) -> Path:
    """Return where the golden data of this version stands."""
    return schemas_dir / "golden" / contract.event_type / f"v{contract.version}"


def cases(where: Path) -> Iterator[Case]:
    """Yield the cases in `where`, by name. Raises `Usage` for a file that is no JSON."""
    for path in sorted(where.glob("*.json")):
        datum = path.with_suffix(".bin")
        try:
            payload = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            raise Usage(f"{path.name} is no JSON", why=str(error), remedy="correct or remove it") from None
        yield Case(path.stem, path, payload, datum.read_bytes() if datum.exists() else None)


def faults(contract: Contract, case: Case) -> Iterator[str]:
    """Yield what is wrong with `case`, in words; nothing if both directions hold."""
    try:
        made = encode_with(contract, case.payload)
    except IUError as error:
        yield f"the payload no longer encodes: {error}"
    else:
        if case.datum is None:
            yield "it has no datum yet"
        elif made != case.datum:
            at = next(
                (i for i, (a, b) in enumerate(zip(made, case.datum, strict=False)) if a != b), "the end"
            )
            yield f"the payload gives other bytes than the datum kept, from byte {at}"
    if case.datum is None:
        return
    try:
        read = decode_datum(contract, case.datum)
    except IUError as error:
        yield f"the datum no longer decodes: {error}"
    else:
        if read != case.payload:
            kept = case.payload if isinstance(case.payload, dict) else {}
            keys = [key for key in read.keys() | kept.keys() if read.get(key, ...) != kept.get(key, ...)]
            yield f"the datum gives another payload: {', '.join(sorted(keys))} differ"
