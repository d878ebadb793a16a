"""Structured logs: JSON lines, or coloured text where a person watches a terminal. Always to stderr,
because stdout carries results."""

import logging
import sys

import structlog


def configure_logs(*, level: str = "INFO", as_json: bool | None = None) -> None:
    """Set the process's logging up; `as_json` None decides by whether stderr is a terminal.

    Lines of libraries (kafka-python's above all) pass through the same renderer, from WARNING on.
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
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    for name in ("iu_core", "producers", "consumers", "schemas", "infra"):
        logging.getLogger(name).setLevel(level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of module `name`."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
