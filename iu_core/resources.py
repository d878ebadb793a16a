"""Where the files that are not Python code lie: beside the code in a checkout, else in the package."""

from pathlib import Path
from typing import Final

from iu_core.errors import Misconfigured

_PACKAGE: Final = Path(__file__).resolve().parent


def sql_dir() -> Path:
    """Return the folder `sql` with migrations, rollback, runtime, sandbox and functions.

    A checkout wins over packaged data, so that an edited file is the one that runs.
    Raises `Misconfigured` if neither is there: the installation is broken.
    """
    places = (_PACKAGE.parent / "sql", _PACKAGE / "packaged" / "sql")
    for place in places:
        if (place / "roles.sql").is_file():
            return place
    raise Misconfigured(
        "the SQL files of IU Core are missing",
        why="looked in " + " and ".join(str(place) for place in places),
        remedy="install iu-core again, or run from a complete checkout",
    )
