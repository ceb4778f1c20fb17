"""The log: constant messages with keys and values, as JSON lines for the journal, for eyes on a terminal.

No line carries what is not one line, whoever wrote it; nobody hands secrets in, so none come out.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from containarium.report.events import one_line

if TYPE_CHECKING:
    from structlog.typing import Processor

_ITEMS = 50
_DEPTH = 4
_LONGEST_KEY = 100
_FIRST = ("timestamp", "level", "pass_id", "event")
# Journal priorities (sd-daemon(3)): the journal takes the prefix off again.
_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
Line = MutableMapping[str, Any]


class Logger(Protocol):
    """As much of structlog's logger as is used: a constant message, and keys with values."""

    def debug(self, event: str, **values: Any) -> Any: ...

    def info(self, event: str, **values: Any) -> Any: ...

    def warning(self, event: str, **values: Any) -> Any: ...

    def error(self, event: str, **values: Any) -> Any: ...


def configure(stream: TextIO | None = None, *, pretty: bool | None = None, level: str = "info") -> Logger:
    """Set the log up for this process and return the logger. ``stream`` is standard error by default.

    ``pretty`` by default where the stream is a terminal. Warnings of libraries go the same way.
    """
    stream = stream if stream is not None else sys.stderr
    pretty = stream.isatty() if pretty is None else pretty
    if not pretty:
        _spare_rich()
    import structlog

    number = getattr(logging, level.upper())
    processors: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _traceback,
        _bounded,
    ]
    if pretty:
        processors.append(structlog.dev.ConsoleRenderer(colors=stream.isatty() and not os.environ.get("NO_COLOR")))
    else:
        processors.append(structlog.processors.JSONRenderer())
    if not pretty and _is_journal(stream):
        processors = [*processors[:-1], _Prefixed(processors[-1])]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    logger: Logger = structlog.get_logger()
    _route_libraries(logger)
    return logger


@contextmanager
def bound(**values: str) -> Iterator[None]:
    """Put these on every line of this thread while the block runs: ``with bound(pass_id=...)``."""
    import structlog

    with structlog.contextvars.bound_contextvars(**values):
        yield


def _spare_rich() -> None:
    """structlog imports rich for its renderer for terminals, if it can: 5 MiB that a daemon does not need."""
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        import structlog.dev  # noqa: F401
    finally:
        del sys.modules["rich"]


def _is_journal(stream: TextIO) -> bool:
    """Whether the stream leads to the journal, as systemd tells it."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(there.st_dev), str(there.st_ino))


class _Prefixed:
    """Renders as another processor does, behind the priority."""

    def __init__(self, render: Processor) -> None:
        self._render = render

    def __call__(self, logger: Any, method: str, line: Line) -> str:
        priority = _PRIORITIES.get(str(line.get("level")), 6)
        return f"<{priority}>{self._render(logger, method, line)!s}"


def _traceback(_logger: Any, _method: str, line: Line) -> Line:
    """An exception as what it is and where it was raised last: enough to find it, and one line."""
    error = line.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, BaseException):
        last = error.__traceback__
        while last is not None and last.tb_next is not None:
            last = last.tb_next
        place = f" at {last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last is not None else ""
        line["exception"] = f"{type(error).__name__}: {error}{place}"
    return line


def _bounded(_logger: Any, _method: str, line: Line) -> Line:
    ordered = {key: line[key] for key in _FIRST if key in line} | dict(line)
    return {one_line(str(key), _LONGEST_KEY): _plain(value, _DEPTH) for key, value in ordered.items()}


def _plain(value: Any, depth: int) -> Any:
    """The value as plain data without anything that a terminal or a reader of lines obeys, and not too much of it."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth > 0 and isinstance(value, dict):
        items = list(value.items())[:_ITEMS]
        return {one_line(str(key), _LONGEST_KEY): _plain(item, depth - 1) for key, item in items}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        items_ = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        return [_plain(item, depth - 1) for item in items_[:_ITEMS]]
    return one_line(_text(value))


def _text(value: Any) -> str:
    """What a value says of itself. A log line is no place to fail, and what is nested too deeply is not spelled out."""
    if isinstance(value, dict | list | tuple | set | frozenset):
        return "…"
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - whatever somebody's __str__ does
        return f"{type(value).__name__} ({type(error).__name__})"


class _Routed(logging.Handler):
    """Hands warnings of libraries over."""

    def __init__(self, logger: Logger) -> None:
        super().__init__(logging.WARNING)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """One line of ours for a record of theirs; what cannot even be formatted is told as it is."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):
            text = str(record.msg)
        tell = self._logger.error if record.levelno >= logging.ERROR else self._logger.warning
        values = {"exc_info": record.exc_info[1]} if record.exc_info and record.exc_info[1] else {}
        tell("library", logger=record.name, text=text, **values)


def _route_libraries(logger: Logger) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Routed)]:
        root.removeHandler(handler)
    root.addHandler(_Routed(logger))
    root.setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
