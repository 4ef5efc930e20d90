"""Routes of videos: list, upload, frames, and the layers over a frame.

Not here: where files may lie (clips), what a layer shows (seeing).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from anonymotion import overlays
from anonymotion.errors import SettingsError
from anonymotion.studio import bodies, layers, pointing
from anonymotion.studio.clips import Clip
from anonymotion.studio.seeing import Explained
from anonymotion.studio.views import clip_details, clip_info
from anonymotion.studio.workbench import Workbench

PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "a PNG"}}
JPEG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/jpeg": {}}, "description": "a JPEG"}}
THUMBNAIL = 320
DRAFT = 960
FLOW_PERCENT = 2.0
"""Of the short side: a motion of so many pixels per frame has the full colour."""

Number = Annotated[int, Path(ge=0, description="of the frame, from 0")]
View = Annotated[str, Query(max_length=40, description="what the page shows this in; of one view the latest counts")]
Turn = Annotated[int, Query(ge=0, description="rises with every request of a view; an older one is given up (409)")]


Get = Callable[[str], Clip]


class Layer(StrEnum):
    """What can lie over a frame; `outline` and `noise` are transparent where nothing is hidden."""

    outline = "outline"
    noise = "noise"
    flow = "flow"
    result = "result"


def clip_routes(bench: Workbench) -> APIRouter:
    """The routes, on this studio."""
    router = APIRouter(tags=["videos"])

    def get(clip_id: str) -> Clip:
        clip = bench.session.clips.get(clip_id)
        if clip is None:
            raise HTTPException(404, "there is no such video here (any more)")
        return clip

    for add in (_add_clips, _add_frames, _add_maps, _add_layers):
        add(router, bench, get)
    return router


def _add_clips(router: APIRouter, bench: Workbench, get: Get) -> None:
    """The routes of videos as files."""

    @router.get("/videos", summary="Uploads, then what is in the folder")
    def list_clips() -> list[bodies.ClipInfo]:
        return [clip_info(clip) for clip in bench.session.clips.all()]

    @router.post(
        "/videos",
        status_code=201,
        summary="Upload a video or picture as the body of the request",
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
        responses={413: {"model": bodies.Refusal}, 415: {"model": bodies.Refusal}},
    )
    async def upload(
        request: Request, name: Annotated[str, Query(min_length=1, max_length=300, description="with its suffix")]
    ) -> bodies.ClipDetails:
        announced = request.headers.get("content-length")
        length = int(announced) if announced and announced.isdigit() else None
        clip = await bench.session.clips.upload(name, length, request.stream())
        return await run_in_threadpool(clip_details, clip)

    @router.get("/videos/{clip_id}", summary="Size, length, frame rate")
    def details(clip_id: str) -> bodies.ClipDetails:
        return clip_details(get(clip_id))

    @router.delete("/videos/{clip_id}", status_code=204, summary="Delete an upload")
    def remove(clip_id: str) -> None:
        clip = get(clip_id)
        if not clip.uploaded:
            raise HTTPException(403, "only uploads are deleted here, not files of the folder")
        if any(job.clip is clip and job.state in ("waiting", "running") for job in bench.queue.jobs.values()):
            raise HTTPException(409, "a run still needs it: stop the run first")
        bench.session.clips.remove(clip)


def _add_frames(router: APIRouter, bench: Workbench, get: Get) -> None:
    """The routes of frames as they are."""

    @router.get("/videos/{clip_id}/thumbnail", response_class=Response, responses=JPEG, summary="A small first frame")
    def thumbnail(clip_id: str) -> Response:
        image = layers.smaller(get(clip_id).frame(0).image, THUMBNAIL)
        return Response(layers.as_jpeg(image), media_type="image/jpeg")

    @router.get("/videos/{clip_id}/frames/{number}", response_class=Response, responses=PNG, summary="A frame")
    def frame(
        clip_id: str,
        number: Number,
        draft: Annotated[bool, Query(description="a smaller JPEG, for quick scrubbing")] = False,
    ) -> Response:
        image = get(clip_id).frame(number).image
        if draft:
            return Response(layers.as_jpeg(layers.smaller(image, DRAFT)), media_type="image/jpeg")
        return Response(layers.as_png(image), media_type="image/png")

    @router.post("/videos/{clip_id}/frames/{number}/features", status_code=204, summary="Compute a frame's features")
    def prepare(clip_id: str, number: Number, view: View = "", turn: Turn = 0) -> None:
        policy, _ = bench.session.policy
        bench.seeing.prepare(get(clip_id), number, policy, bench.library, bench.wanted(view, turn))


def _add_maps(router: APIRouter, bench: Workbench, get: Get) -> None:
    """The routes of where something is found."""

    @router.get(
        "/videos/{clip_id}/frames/{number}/heat/{attribute}",
        response_class=Response,
        responses=PNG,
        summary="Where an attribute is found: 0 is transparent blue, 1 is red",
    )
    def heat(clip_id: str, number: Number, attribute: str, view: View = "", turn: Turn = 0) -> Response:
        policy, _ = bench.session.policy
        if attribute not in bench.library.attributes:
            raise HTTPException(404, bench.library.unknown(attribute[:60]))
        plane = bench.seeing.heat(get(clip_id), number, attribute, policy, bench.library, bench.wanted(view, turn))
        return _heat_answer(plane, policy.effective_settings().threshold[attribute])

    @router.get(
        "/videos/{clip_id}/frames/{number}/similar/{candidate_id}",
        response_class=Response,
        responses=PNG,
        summary="What a place that was clicked on is like, in any frame of any video",
    )
    def similar(clip_id: str, number: Number, candidate_id: str, view: View = "", turn: Turn = 0) -> Response:
        candidate = bench.candidate(candidate_id)
        if candidate is None:
            raise HTTPException(404, "this place is not known any more: click on it again")
        plane = bench.seeing.similarity(candidate, get(clip_id), number, bench.library, bench.wanted(view, turn))
        return _heat_answer(plane, 0.5)


def _add_layers(router: APIRouter, bench: Workbench, get: Get) -> None:
    """The routes of what a run would do with a frame, and why."""

    @router.get(
        "/videos/{clip_id}/frames/{number}/layers/{layer}",
        response_class=Response,
        responses=PNG,
        summary="What a run would do with a frame",
    )
    def layer_of(
        clip_id: str,
        number: Number,
        layer: Layer,
        exact: Annotated[bool, Query(description="with the frames around it, as a run; takes longer")] = False,
        view: View = "",
        turn: Turn = 0,
    ) -> Response:
        policy, _ = bench.session.policy
        if layer is Layer.flow:
            flow = bench.seeing.flow(get(clip_id), number, policy, bench.wanted(view, turn))
            most = max(1.0, FLOW_PERCENT / 100 * min(flow.shape[1:]))
            return Response(layers.as_png(overlays.flow_colours(flow, most)), media_type="image/png")
        explained = bench.seeing.explained(
            get(clip_id), number, policy, bench.library, exact=exact, wanted=bench.wanted(view, turn)
        )
        hidden = float((explained.alpha > 0).mean())
        headers = {"x-hidden-share": f"{hidden:.4f}"}
        return Response(layers.as_png(_drawn(layer, explained)), media_type="image/png", headers=headers)

    @router.get("/videos/{clip_id}/frames/{number}/pixel", summary="Why a pixel is hidden, or is not")
    def pixel(
        clip_id: str, number: Number, x: Annotated[float, Query(ge=0)], y: Annotated[float, Query(ge=0)]
    ) -> bodies.PixelInfo:
        policy, _ = bench.session.policy
        clip, library = get(clip_id), bench.library
        height, width = clip.frame(number).image.shape[:2]
        if x >= width or y >= height:
            raise SettingsError(f"point ({x:g}, {y:g}) is outside the frame of {width}x{height} pixels")
        return _pixel(bench, clip, number, x, y, policy, library)


def _pixel(
    bench: Workbench, clip: Clip, number: int, x: float, y: float, policy: Any, library: Any
) -> bodies.PixelInfo:
    """What is said of one pixel; where nothing was chosen yet, only that."""
    at = {"x": int(x), "y": int(y)}
    if not policy.attributes and not policy.marks_regions:
        return bodies.PixelInfo(**at, state="visible", why="Nothing was chosen yet.", exact=False, findings=[])
    seeing = bench.seeing
    explained = seeing.cached(clip, number, policy, library) or seeing.explained(clip, number, policy, library)
    found = pointing.findings(seeing, clip, number, x, y, policy, library) if policy.attributes else []
    by_threshold = policy.effective_settings().composite == "replace"
    state, why = pointing.verdict(policy, found, explained, x, y, by_threshold=by_threshold)
    return bodies.PixelInfo(
        **at,
        state=state,  # type: ignore[arg-type]  # one of these
        why=why,
        exact=explained.exact,
        findings=[bodies.FindingInfo(**pointing.as_json(finding, library)) for finding in found],
    )


def _heat_answer(plane: np.ndarray, threshold: float) -> Response:
    picture = layers.heat(plane)
    headers = {
        "x-strongest": f"{float(plane.max()):.4f}",
        "x-share": f"{float((plane >= threshold).mean()):.4f}",
        "x-threshold": f"{threshold:g}",
    }
    return Response(layers.as_png(picture), media_type="image/png", headers=headers)


def _drawn(layer: Layer, explained: Explained) -> layers.Picture:
    if layer is Layer.outline:
        return layers.outline(explained.alpha == 1 if bool((explained.alpha == 1).any()) else explained.alpha > 0)
    if layer is Layer.noise:
        return layers.noise(explained.noise, explained.alpha)
    return explained.output
