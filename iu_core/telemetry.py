"""Structured logs: JSON lines, or coloured text where a person watches a terminal. Always to stderr,
because stdout carries results."""

import logging
import sys
import time
from typing import Final

import structlog

OUR_PACKAGES: Final = ("iu_core", "producers", "consumers", "schemas", "infra")
LIBRARY_LINE_EVERY_S: Final = 10.0


def configure_logs(*, level: str = "INFO", as_json: bool | None = None) -> None:
    """Set the process's logging up; `as_json` None decides by whether stderr is a terminal.

    Lines of libraries (kafka-python's above all) pass through the same renderer, from WARNING on,
    each kind of line at most once in `LIBRARY_LINE_EVERY_S`.
    """
    renderer: structlog.typing.Processor
    if not sys.stderr.isatty() if as_json is None else as_json:
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer()
    chain: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*chain, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=chain,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_Damper())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in OUR_PACKAGES:
        logging.getLogger(name).setLevel(level)


class _Damper(logging.Filter):
    """Lets a library say the same thing once in a while only.

    With the broker away kafka-python writes some sixty lines a second, for ever; what it means
    is in our own line about the outage.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_at: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".")[0] in OUR_PACKAGES:
            return True
        # Only the fixed beginning of the line: addresses and counters make each one unique.
        kind, now = (record.name, str(record.msg)[:20]), time.monotonic()
        if now - self._said_at.get(kind, -LIBRARY_LINE_EVERY_S) < LIBRARY_LINE_EVERY_S:
            return False
        self._said_at[kind] = now
        return True


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of module `name`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
