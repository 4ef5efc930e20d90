"""One open studio: the session, the eye, the queue, and the places that were clicked on.

Not here: addresses and answers (routes), how it is served (server).
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import replace

from anonymotion.errors import AnonymotionError
from anonymotion.studio.clips import Clip
from anonymotion.studio.features import FeatureStore
from anonymotion.studio.jobs import Queue
from anonymotion.studio.seeing import Candidate, Seeing, Wanted
from anonymotion.studio.session import Options, Session
from anonymotion.template_crop import Mark
from anonymotion.templates import Template, TemplateLibrary

CANDIDATES = 64
VIEWS = 64


class Workbench:
    """Everything behind the routes; a context manager that stops all runs and leaves nothing of the session."""

    def __init__(self, options: Options) -> None:
        self.session = Session(options)
        folder = self.session.folder
        features = folder / "features"
        try:
            self.seeing = Seeing(FeatureStore(features, options.cache_limit), options.device)
            self.queue = Queue(
                options.output or folder / "results",
                folder / "runs",
                self.session.templates.folder,
                features,
                kept=options.output is not None,
                cache_limit=options.cache_limit,
                device=options.device,
            )
        except BaseException:
            self.session.close()
            raise
        self.load_error: str | None = None
        self._candidates: OrderedDict[str, Candidate] = OrderedDict()
        self._turns: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()
        self._loader = threading.Thread(target=self._load, name="studio-load", daemon=True)
        self._loader.start()

    def _load(self) -> None:
        """Load the network while the page opens; whoever needs it meets the same error again."""
        try:
            self.seeing.load()
        except AnonymotionError as error:
            self.load_error = str(error)

    @property
    def library(self) -> TemplateLibrary:
        """The built-in templates and those of the session."""
        return self.session.templates.library

    def wanted(self, view: str, turn: int) -> Wanted:
        """Whether `turn` is still the latest of `view`, one of which a page has for each thing that it shows."""
        with self._lock:
            self._turns[view] = max(turn, self._turns.get(view, turn))
            self._turns.move_to_end(view)
            while len(self._turns) > VIEWS:
                self._turns.popitem(last=False)
        return lambda: self._turns.get(view, turn) <= turn

    def look(self, clip: Clip, number: int, mark: Mark, attribute: str) -> Candidate:
        """Look at a place as a template, and remember it.  Raises TemplateError."""
        policy, _ = self.session.policy
        name = secrets.token_hex(6)
        found = self.seeing.candidate(clip, number, mark, attribute, policy, self.library, name)
        with self._lock:
            self._candidates[name] = found
            while len(self._candidates) > CANDIDATES:
                self._candidates.popitem(last=False)
        return found

    def candidate(self, name: str) -> Candidate | None:
        """A place that was looked at; None if it is not known, or was too long ago."""
        return self._candidates.get(name)

    def template(self, name: str) -> Template | None:
        """A template by its short id."""
        library = self.library
        return next((t for t in library.templates if library.template_id(t)[:8] == name), None)

    def forget(self, attribute: str) -> None:
        """Take an attribute that has no template any more out of the policy, or nothing could be done with it."""
        policy, seen = self.session.policy
        names = tuple(n for n in policy.attributes or () if n != attribute)
        kept = tuple(n for n in policy.keep if n != attribute)
        if (names, kept) != (policy.attributes or (), policy.keep):
            self.session.change_policy(replace(policy, attributes=names or None, keep=kept), seen)

    def close(self) -> None:
        """Stop all runs and remove the session's folder."""
        self.queue.close()
        self.session.close()
        self._loader.join()  # a process that ends while a network is being loaded would crash

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
