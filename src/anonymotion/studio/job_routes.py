"""Routes of runs: the queue, progress, results, reports.

Not here: what a run does (worker, run), the report's content (report).
"""

from __future__ import annotations

import json
from pathlib import Path as FilePath
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

from anonymotion.errors import SettingsError
from anonymotion.report_page import page
from anonymotion.studio import bodies, layers
from anonymotion.studio.jobs import ENDED, Job
from anonymotion.studio.views import job_info
from anonymotion.studio.workbench import Workbench

HTML: dict[int | str, dict[str, Any]] = {200: {"content": {"text/html": {}}, "description": "a page of its own"}}
FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {}}, "description": "the video, as it may be published"}
}
IMAGE: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "a PNG"}}
# the report is a page of its own: no scripts, its style inside
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
DRAFT = 960


class Get(Protocol):
    """Finds a run by its id, and refuses if there is none, or none with a result."""

    def __call__(self, job_id: str, *, done: bool = False) -> Job:
        """The run."""
        ...


def job_routes(bench: Workbench) -> APIRouter:
    """The routes, on this studio."""
    router = APIRouter(tags=["runs"])

    def get(job_id: str, *, done: bool = False) -> Job:
        job = bench.queue.jobs.get(job_id)
        if job is None:
            raise HTTPException(404, "there is no such run (any more)")
        if done and job.state != "done":
            raise HTTPException(409, f"this run is {job.state}: it has no result")
        return job

    _add_queue(router, bench, get)
    _add_results(router, get)
    return router


def _add_queue(router: APIRouter, bench: Workbench, get: Get) -> None:
    """The routes of runs that are asked for, under way, or stopped."""

    @router.get("/jobs", summary="All runs, in the order in which they were asked for")
    def list_jobs() -> list[bodies.JobInfo]:
        return [job_info(job) for job in bench.queue.jobs.values()]

    @router.post("/jobs", status_code=201, summary="Hide in these videos what the policy says")
    def run(body: bodies.JobBody) -> list[bodies.JobInfo]:
        policy, _ = bench.session.policy
        if policy.asked(bench.library) is None and not policy.marks_regions:
            raise SettingsError("nothing was chosen to be hidden: choose attributes or draw a region first")
        clips = [bench.session.clips.get(clip_id) for clip_id in dict.fromkeys(body.clips)]
        if None in clips:
            raise HTTPException(404, "one of these videos is not here (any more)")
        jobs = [bench.queue.add(clip, policy, body.audio) for clip in clips if clip is not None]
        return [job_info(job) for job in jobs]

    @router.get("/jobs/{job_id}", summary="One run")
    def one(job_id: str) -> bodies.JobInfo:
        return job_info(get(job_id))

    @router.delete("/jobs/{job_id}", status_code=204, summary="Stop a run; nothing of it is left")
    def stop(job_id: str) -> None:
        job = get(job_id)
        if job.state in ENDED:
            raise HTTPException(409, f"this run is {job.state} already")
        bench.queue.stop(job)


def _add_results(router: APIRouter, get: Get) -> None:
    """The routes of what a run has made."""

    @router.get("/jobs/{job_id}/video", response_class=FileResponse, responses=FILE, summary="The result")
    def result(job_id: str) -> FileResponse:
        job = get(job_id, done=True)
        if not job.output.is_file():
            raise HTTPException(404, f"{job.name} was moved or deleted")
        return FileResponse(job.output, filename=job.name, media_type="application/octet-stream")

    @router.get("/jobs/{job_id}/report", summary="The audit report")
    def report(job_id: str) -> dict[str, Any]:
        return _report(get(job_id, done=True))

    @router.get("/jobs/{job_id}/report.json", response_class=JSONResponse, summary="The report as a file")
    def report_file(job_id: str) -> Response:
        job = get(job_id, done=True)
        text = json.dumps(_report(job), indent=2)
        return Response(
            text, media_type="application/json", headers=_attached(f"{FilePath(job.name).stem}_report.json")
        )

    @router.get(
        "/jobs/{job_id}/report.html", response_class=Response, responses=HTML, summary="The report as a page in a file"
    )
    def report_page(job_id: str) -> Response:
        job = get(job_id, done=True)
        headers = _attached(f"{FilePath(job.name).stem}_report.html")
        headers["content-security-policy"] = REPORT_POLICY
        return Response(page(_report(job)), media_type="text/html", headers=headers)

    @router.get("/jobs/{job_id}/frames/{number}", response_class=Response, responses=IMAGE, summary="Of the result")
    def frame(
        job_id: str,
        number: Annotated[int, Path(ge=0)],
        draft: Annotated[bool, Query(description="a smaller JPEG, for quick scrubbing")] = False,
    ) -> Response:
        image = get(job_id, done=True).frame(number).image
        if draft:
            return Response(layers.as_jpeg(layers.smaller(image, DRAFT)), media_type="image/jpeg")
        return Response(layers.as_png(image), media_type="image/png")


def _report(job: Job) -> dict[str, Any]:
    """The report as it was written; `self_test` is in it where the run has one."""
    document: dict[str, Any] = json.loads(job.report.read_text(encoding="utf-8"))
    return document


def _attached(name: str) -> dict[str, str]:
    return {"content-disposition": f"attachment; filename*=utf-8''{quote(name)}"}
