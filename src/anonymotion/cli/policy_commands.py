"""The `policy` commands: say what a policy file does before it is used.

Not here: what a policy is (policy), the command that uses one (commands).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anonymotion.cli.console import print_json, reported, show
from anonymotion.cli.options import AsJson, Library

policy_app = typer.Typer(
    help="Check a policy file: what is hidden, what stays visible, where and when.", no_args_is_help=True
)


@policy_app.callback()
def _group() -> None:
    """Check a policy file: what is hidden, what stays visible, where and when."""


@policy_app.command("check")
def policy_check(
    file: Annotated[Path, typer.Argument(help="policy to check, e.g. clinic.toml")],
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """Check a policy file and say in sentences what it does."""
    with reported(as_json):
        from anonymotion.policy import Policy
        from anonymotion.user_library import load_library

        policy = Policy.load(file)
        sentences = policy.explain(load_library(library))
        if as_json:
            print_json(
                {
                    "schema_version": 1,
                    "attributes": None if policy.attributes is None else list(policy.attributes),
                    "settings": policy.effective_settings().as_json(),
                    **policy.as_json(),
                    "sentences": sentences,
                }
            )
        else:
            for sentence in sentences:
                show(sentence)
