"""The machine a bench ran on, in words that tell nobody whose it is."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

import psutil


def in_words() -> str:
    """Return processor, cores, memory, system and the versions of what Python programs use."""
    model = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory_gib = psutil.virtual_memory().total / 2**30
    libraries = ", ".join(
        f"{name} {version(name)}" for name in ("kafka-python", "confluent-kafka", "psycopg", "fastavro")
    )
    return (
        f"{os.cpu_count()} cores ({model[1].strip() if model else platform.processor()}), "
        f"{memory_gib:.0f} GiB, {platform.system()} {platform.release()}, "
        f"Python {platform.python_version()}, {libraries}"
    )
