"""The kernel every room stands on: settings, events, errors, database, bus, telemetry; and the faces."""

from typing import Final

__version__: Final = "0.1.0"
