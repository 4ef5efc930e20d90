"""Routes of what is chosen: attributes, templates, the policy and its file.

Not here: frames and layers (clip_routes), runs (job_routes).
"""

from __future__ import annotations

import tempfile
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from starlette.exceptions import HTTPException

from anonymotion import overlays
from anonymotion.errors import SettingsError
from anonymotion.policy import Policy
from anonymotion.studio import bodies, layers
from anonymotion.studio.seeing import Candidate
from anonymotion.studio.views import library_info, policy_of, policy_state, template_infos
from anonymotion.studio.workbench import Workbench
from anonymotion.template_crop import Mark, cut, is_uniform

CROP = 128
PNG: dict[int | str, dict[str, Any]] = {200: {"content": {"image/png": {}}, "description": "a PNG"}}
TOML: dict[int | str, dict[str, Any]] = {200: {"content": {"application/toml": {}}, "description": "a policy file"}}


def choice_routes(bench: Workbench) -> APIRouter:
    """The routes, on this studio."""
    router = APIRouter(tags=["choices"])
    _add_policy(router, bench)
    _add_templates(router, bench)
    _add_candidates(router, bench)
    return router


def _add_policy(router: APIRouter, bench: Workbench) -> None:
    @router.get("/policy", summary="What is to be hidden, as it stands")
    def policy() -> bodies.PolicyState:
        found, revision = bench.session.policy
        return policy_state(found, revision, bench.library)

    @router.put("/policy", summary="Choose something else")
    def change(body: bodies.PolicyChange) -> bodies.PolicyState:
        return _changed(bench, policy_of(body.policy), body.seen)

    @router.get(
        "/policy/file", response_class=Response, responses=TOML, summary="The policy as `hide --policy` takes it"
    )
    def save() -> Response:
        found, _ = bench.session.policy
        headers = {"content-disposition": 'attachment; filename="policy.toml"'}
        return Response(found.as_toml(), media_type="application/toml", headers=headers)

    @router.put("/policy/file", summary="Take a policy file")
    def load(body: bodies.PolicyFile) -> bodies.PolicyState:
        with tempfile.TemporaryDirectory(dir=bench.session.folder) as folder:
            path = FilePath(folder) / "policy.toml"
            path.write_text(body.text, encoding="utf-8")
            try:
                loaded = Policy.load(path)
            except SettingsError as error:
                # the path is ours, and means nothing to whoever chose the file
                raise SettingsError(str(error).replace(str(path), "policy.toml")) from error
        return _changed(bench, Policy(**_parts(loaded)), body.seen)


def _parts(policy: Policy) -> dict[str, Any]:
    """All parts of a policy but where it came from."""
    names = ("attributes", "preset", "settings", "keep", "include", "exclude", "spans", "masks")
    return {name: getattr(policy, name) for name in names}


def _changed(bench: Workbench, policy: Policy, seen: int) -> bodies.PolicyState:
    """Take a policy if all of it can be understood."""
    state = policy_state(policy, seen, bench.library)
    state.revision = bench.session.change_policy(policy, seen)
    return state


def _add_templates(router: APIRouter, bench: Workbench) -> None:
    @router.get("/attributes", summary="What can be hidden")
    def attributes() -> bodies.LibraryInfo:
        return library_info(bench.library)

    @router.get("/templates", summary="What attributes are made of")
    def templates(
        attribute: Annotated[str | None, Query(max_length=60)] = None, own: bool = False
    ) -> list[bodies.TemplateInfo]:
        library = bench.library
        chosen = [
            template
            for template in (library.own_templates if own else library.templates)
            if attribute in (None, template.attribute)
        ]
        return template_infos(bench.session.templates, chosen)

    @router.post("/templates", status_code=201, summary="Make a place that was clicked on a template")
    def add(body: bodies.TemplateBody) -> bodies.TemplateInfo:
        candidate = bench.candidate(body.candidate)
        clip = None if candidate is None else bench.session.clips.get(candidate.clip)
        if candidate is None or clip is None:
            raise HTTPException(404, "this place is not known any more: click on it again")
        crop = cut(clip.frame(candidate.frame).image, candidate.mark)
        own = bench.session.templates
        _, template = own.add(crop, body.attribute, negative=body.negative, keep=body.keep)
        return template_infos(own, [template])[0]

    @router.delete("/templates/{template_id}", status_code=204, summary="Delete a template of one's own")
    def remove(template_id: str) -> None:
        change = bench.session.templates.remove([template_id])
        for name in {template.attribute for template in change.templates.values()} - {*bench.library.attributes}:
            bench.forget(name)

    @router.get("/templates/{template_id}/picture", response_class=Response, responses=PNG, summary="Around its mark")
    def picture(template_id: str) -> Response:
        template = bench.template(template_id)
        if template is None:
            raise HTTPException(404, "there is no such template (any more)")
        image = bench.library.pictures[template.picture].read()
        x, y = template.centre
        marked = overlays.crosses(image, [(x, y)]) if template.box is None else overlays.boxes(image, [template.box])
        half = max(40, min(image.shape[:2]) // 5)
        if template.box is not None:
            half = max(half, round(max(template.box[2] - template.box[0], template.box[3] - template.box[1]) * 0.6))
        left, top = max(0, round(x) - half), max(0, round(y) - half)
        crop = marked[top : round(y) + half, left : round(x) + half]
        return Response(layers.as_png(overlays.fit(crop, CROP, CROP)), media_type="image/png")


def _add_candidates(router: APIRouter, bench: Workbench) -> None:
    @router.post("/videos/{clip_id}/frames/{number}/candidates", status_code=201, summary="Look at a place")
    def look(clip_id: str, number: int, body: bodies.CandidateBody) -> bodies.CandidateInfo:
        clip = bench.session.clips.get(clip_id)
        if clip is None:
            raise HTTPException(404, "there is no such video here (any more)")
        point = None if body.point is None else (body.point[0], body.point[1])
        box = None if body.box is None else (body.box[0], body.box[1], body.box[2], body.box[3])
        candidate = bench.look(clip, number, Mark(point, box), body.attribute.strip().lower())
        crop = cut(clip.frame(number).image, candidate.mark)
        return _candidate_info(candidate, is_uniform(crop))


def _candidate_info(candidate: Candidate, uniform: bool) -> bodies.CandidateInfo:
    mark = candidate.mark
    return bodies.CandidateInfo(
        id=candidate.id,
        clip=candidate.clip,
        frame=candidate.frame,
        point=None if mark.point is None else list(mark.point),
        box=None if mark.box is None else list(mark.box),
        uniform=uniform,
    )
