"""The application: the page's own files, the state of the session, and how errors are answered.

Not here: who may ask (security), the routes of clips, choices and runs (clip_routes, choice_routes, job_routes).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from anonymotion.errors import AnonymotionError, InputError, UnsupportedInputError
from anonymotion.studio import bodies
from anonymotion.studio.choice_routes import choice_routes
from anonymotion.studio.clip_routes import clip_routes
from anonymotion.studio.clips import PICTURES, SUFFIXES, TooLargeError
from anonymotion.studio.job_routes import job_routes
from anonymotion.studio.seeing import SupersededError
from anonymotion.studio.session import StaleError
from anonymotion.studio.views import clip_info, job_info, library_info, policy_state
from anonymotion.studio.workbench import Workbench

PAGE = Path(__file__).parent / "page"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

DESCRIPTION = """What the page of `anonymotion studio` asks, for scripts.

Every address begins with the token of the studio, as its URL does.  The policy is one for all who ask; frames are
numbered from 0 in the order in which they are shown; points are (x, y) in pixels of the upright frame.  Layers and
frames show the input: they are private.
"""

STATUS: dict[type[AnonymotionError], int] = {
    StaleError: 409,
    SupersededError: 409,
    TooLargeError: 413,
    UnsupportedInputError: 415,
    InputError: 422,
}


def build_app(bench: Workbench) -> FastAPI:
    """The application of one open studio, without its door."""
    from importlib.metadata import version

    installed = version("anonymotion")
    app = FastAPI(
        title="anonymotion studio",
        version=installed,
        description=DESCRIPTION,
        docs_url=None,  # these pages come from elsewhere
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        responses={code: {"model": bodies.Refusal} for code in (400, 403, 404, 409, 422)},
    )
    files = {path.name: path.read_bytes() for path in sorted(PAGE.iterdir()) if path.suffix in KINDS}

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return Response(files["index.html"], media_type=KINDS[".html"])

    @app.get("/page/{name}", include_in_schema=False)
    def page_file(name: str) -> Response:
        if name not in files:
            raise HTTPException(404, "there is no such file")
        return Response(files[name], media_type=KINDS[Path(name).suffix])

    @app.get("/api/state", tags=["session"], summary="Everything that a page needs when it opens")
    def state() -> bodies.State:
        policy, revision = bench.session.policy
        options = bench.session.options
        return bodies.State(
            version=installed,
            ready=bench.seeing.ready,
            folder=options.root is not None,
            output=None if options.output is None else str(options.output),
            upload_limit=options.upload_limit,
            suffixes=[*SUFFIXES, *PICTURES],
            clips=[clip_info(clip) for clip in bench.session.clips.all()],
            library=library_info(bench.library),
            policy=policy_state(policy, revision, bench.library),
            jobs=[job_info(job) for job in bench.queue.jobs.values()],
        )

    for routes in (clip_routes, choice_routes, job_routes):
        app.include_router(routes(bench), prefix="/api")
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Every refusal is one JSON object with one sentence."""

    @app.exception_handler(AnonymotionError)
    def known(_: Request, error: AnonymotionError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 400)
        return _refusal(status, " ".join(str(error).split()), type(error).__name__)

    @app.exception_handler(HTTPException)
    def refused(_: Request, error: HTTPException) -> JSONResponse:
        return _refusal(error.status_code, str(error.detail), "")

    @app.exception_handler(RequestValidationError)
    def misunderstood(_: Request, error: RequestValidationError) -> JSONResponse:
        first: Any = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return _refusal(422, f"{where}: {first['msg']}", "Request")

    @app.exception_handler(Exception)
    def unexpected(_: Request, error: Exception) -> JSONResponse:
        text = " ".join(f"unexpected {type(error).__name__}: {error} (a defect of ours)".split())
        return _refusal(500, text, "Unexpected")


def _refusal(status: int, sentence: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": sentence, "kind": kind}, status_code=status)
