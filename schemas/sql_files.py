"""The generated files below `sql/functions/avro`: written, and compared with their contracts."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from schemas.catalog import Contract
from schemas.sql_encoder import encoder_name, encoder_sql

PRIMITIVES: Final = "avro_primitives.sql"  # written by hand; everything else is generated


def generated(contracts: Iterable[Contract]) -> dict[str, str]:
    """Return the text of each file by its name."""
    return {
        f"{encoder_name(contract.event_type, contract.version)}.sql": encoder_sql(
            contract.record, contract.version
        )
        for contract in contracts
    }


def stale(folder: Path, contracts: Iterable[Contract]) -> Iterator[tuple[Path, str]]:
    """Yield each file that is not what its contract gives, and how; reads only."""
    wanted = generated(contracts)
    for name, text in wanted.items():
        path = folder / name
        if not path.exists():
            yield path, "it is missing"
        elif path.read_text("utf-8") != text:
            yield path, "it is not what its contract gives"
    for path in sorted(folder.glob("*.sql")):
        if path.name not in wanted and path.name != PRIMITIVES:
            yield path, "no contract gives it"


def write(folder: Path, contracts: Iterable[Contract]) -> list[Path]:
    """Write every file that is missing or stale; return those written. Deletes nothing."""
    wanted = generated(contracts)
    written = []
    for path, _ in list(stale(folder, contracts)):
        if path.name in wanted:
            path.write_text(wanted[path.name], "utf-8")
            written.append(path)
    return written
