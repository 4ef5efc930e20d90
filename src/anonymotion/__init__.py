"""anonymotion: hide who is in a video and keep what they do.

    import anonymotion as am

    result = am.hide_video("clip.mp4", "hidden.mp4", attributes=["face", "hair"])
    for hidden in am.Hider(["face"]).hide(frames):  # numpy or torch frames, streamed
        ...

Names are resolved when they are first used, so that importing the package loads neither torch nor a codec.
Not here: any code of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anonymotion.chunks import HiddenChunk
    from anonymotion.errors import AnonymotionError
    from anonymotion.pipeline import Hider
    from anonymotion.policy import Policy
    from anonymotion.presets import Settings, settings_for
    from anonymotion.results import HideResult, Progress
    from anonymotion.run import FileOptions, hide_video
    from anonymotion.templates import Template, TemplateLibrary
    from anonymotion.user_library import load_library

_HOMES = {
    "AnonymotionError": "errors",
    "FileOptions": "run",
    "HiddenChunk": "chunks",
    "HideResult": "results",
    "Hider": "pipeline",
    "Policy": "policy",
    "Progress": "results",
    "Settings": "presets",
    "Template": "templates",
    "TemplateLibrary": "templates",
    "hide_video": "run",
    "load_library": "user_library",
    "settings_for": "presets",
}

__all__ = [
    "AnonymotionError",
    "FileOptions",
    "HiddenChunk",
    "HideResult",
    "Hider",
    "Policy",
    "Progress",
    "Settings",
    "Template",
    "TemplateLibrary",
    "hide_video",
    "load_library",
    "settings_for",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'anonymotion' has no attribute {name!r}")
    value = getattr(import_module(f"anonymotion.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
