"""Rules of the design that no single module can keep: who imports whom, who prints, what is public."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import anonymotion
from anonymotion import errors

PACKAGE = Path(anonymotion.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))

# Section 2 of the design: a module imports from its own row or from one above it.  A module that is in no row
# belongs to the last: nothing of the core may import it.
ROWS = (
    {"errors", "device", "registry", "weights", "target", "leftovers"},
    {
        "video",
        "backbone",
        "backbone_openvino",
        "backbone_torch",
        "blocks",
        "networks",
        "stem",
        "patch_grid",
        "flow",
        "noise",
        "noise_transport",
        "templates",
        "template_crop",
        "user_library",
        "template_bank",
        "descriptor_cache",
        "saliency",
        "probe",
        "drawn",
        "presence",
        "squares",
        "shapes",
        "own_masks",
        "continuity",
        "masks",
        "recycling",
        "compositor",
        "methods",
        "overlays",
    },
    {
        "presets",
        "policy",
        "editing",
        "results",
        "closeup",
        "reuse",
        "matcher",
        "keyframes",
        "chunks",
        "memory",
        "state",
        "pipeline",
        "inversion",
        "scheduler",
        "report",
        "report_page",
    },
    {"exports", "run", "sample", "template_exchange", "template_preview"},
    {"batch", "attacks", "live", "doctor"},
)
OUTERMOST = {"cli", "__main__", "studio", "baselines", "research"}

HEAVY = {"torch", "torchvision", "timm", "av", "cv2", "typer", "numpy", "PIL"}
NEVER_IN_CORE = {"typer", "fastapi", "ray", "matplotlib", "pytorchvideo", "rich", "uvicorn"}


def unit(path: Path) -> str:
    """The module or the subpackage directly below `anonymotion` that a file belongs to."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else path.stem


def row(name: str) -> int:
    return next((number for number, names in enumerate(ROWS) if name in names), len(ROWS))


def imports(path: Path) -> Iterator[str]:
    """Full names of everything imported anywhere in a file, inside functions too."""
    package = ("anonymotion", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(part for part in (above, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def own_imports(path: Path) -> set[str]:
    names = (name.split(".") for name in imports(path))
    return {parts[1] for parts in names if parts[0] == "anonymotion" and len(parts) > 1} - {unit(path)}


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


@pytest.mark.parametrize("path", [p for p in SOURCES if p != PACKAGE / "__init__.py"], ids=name_of)
def test_a_module_imports_only_from_its_own_row_or_above(path: Path) -> None:
    below = {name for name in own_imports(path) if row(name) > row(unit(path))}
    assert not below, f"{unit(path)} must not import {below}"


def test_no_module_imports_the_command_line() -> None:
    for path in SOURCES:
        if unit(path) not in ("cli", "__main__"):
            assert "cli" not in own_imports(path), name_of(path)


def test_there_is_no_circle_of_imports() -> None:
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        if path != PACKAGE / "__init__.py":
            graph.setdefault(unit(path), set()).update(own_imports(path))
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"circle: {' -> '.join((*trail, name))}"
        if name not in done:
            for following in graph.get(name, ()):
                visit(following, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@pytest.mark.parametrize("path", [p for p in SOURCES if unit(p) not in OUTERMOST], ids=name_of)
def test_the_core_imports_no_interface_and_only_video_imports_av(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & NEVER_IN_CORE
    assert unit(path) == "video" or "av" not in roots


def loaded_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint('\\n'.join(sorted({{m.split('.')[0] for m in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code", ["import anonymotion", "import anonymotion.errors", "import anonymotion.presets, anonymotion.registry"]
)
def test_importing_the_package_loads_nothing_heavy(code: str) -> None:
    assert not loaded_by(code) & HEAVY


# The public names


def declared() -> dict[str, str]:
    """Public name -> module, from what type checkers see."""
    found = {}
    for node in parsed(PACKAGE / "__init__.py").body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for statement in node.body:
                assert isinstance(statement, ast.ImportFrom)
                found.update({alias.asname or alias.name: statement.module or "" for alias in statement.names})
    return found


def test_all_is_what_is_public() -> None:
    assert anonymotion.__all__ == sorted(anonymotion.__all__)
    assert set(anonymotion.__all__) == set(declared())
    assert dir(anonymotion) == sorted(anonymotion.__all__)


@pytest.mark.parametrize("name", anonymotion.__all__)
def test_every_public_name_resolves_to_the_object_of_its_module(name: str) -> None:
    value = getattr(anonymotion, name)
    module = sys.modules[declared()[name]]
    assert value is getattr(module, name)
    assert value.__module__ == declared()[name]
    assert value.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        anonymotion.no_such_name  # noqa: B018


def test_no_public_name_is_hidden_by_a_module_of_the_same_name() -> None:
    """`import anonymotion.x` sets the attribute x of the package: it must not be a public function's name."""
    modules = {path.stem for path in PACKAGE.glob("*.py")} | {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    assert not modules & set(anonymotion.__all__)
    assert callable(anonymotion.hide_video)


# Errors and files


def test_every_exception_is_in_the_tree_of_the_docstring_and_below_its_parent() -> None:
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    tree = [line for line in (errors.__doc__ or "").splitlines() if "──" in line or line.strip() == "AnonymotionError"]
    drawn: dict[str, str | None] = {}
    trail: list[tuple[int, str]] = []
    for line in tree:
        name = line.split("──")[-1].split()[0]
        depth = line.index(name)
        trail = [(at, parent) for at, parent in trail if at < depth]
        drawn[name] = trail[-1][1] if trail else None
        trail.append((depth, name))
    assert set(drawn) == set(classes)
    for name, parent in drawn.items():
        assert issubclass(classes[name], errors.AnonymotionError)
        if parent is not None:
            assert classes[name].__bases__ == (classes[parent],)


def test_exit_statuses_are_the_documented_ones() -> None:
    assert errors.AnonymotionError.exit_status == 1
    assert errors.NothingMatchedError.exit_status == 3


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_says_what_it_does_not_do_and_is_short(path: Path) -> None:
    text = ast.get_docstring(parsed(path)) or ""
    assert "Not here" in text or "does not" in text
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", [p for p in SOURCES if unit(p) != "cli"], ids=name_of)
def test_only_the_command_line_prints(path: Path) -> None:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call):
            assert ast.unparse(node.func) not in ("print", "sys.stdout.write", "sys.stderr.write"), node.lineno


# Weights that are not in the package, and those only when a network that needs them was asked for.
DOWNLOADS = {"weights/hub.py", "weights/download.py"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_but_weights_is_read_from_the_network(path: Path) -> None:
    roots = {name.split(".")[0] for name in imports(path)}
    if unit(path) not in OUTERMOST and path.relative_to(PACKAGE).as_posix() not in DOWNLOADS:
        assert not roots & {"requests", "httpx", "urllib", "huggingface_hub", "socket"}
        assert "load_state_dict_from_url" not in path.read_text(encoding="utf-8")
