"""Settings of a run from the command line of a benchmark, as FIELD=VALUE."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from anonymotion.presets import Settings


def settings_from(pairs: Iterable[str]) -> dict[str, Any]:
    """What `settings_for` takes, numbers as numbers; what it does not know is for it to say."""
    numbers = {item.name: {"int": int, "float": float}.get(str(item.type), str) for item in fields(Settings)}
    named = dict(pair.split("=", 1) for pair in pairs)
    return {name: numbers.get(name, str)(value) for name, value in named.items()}
