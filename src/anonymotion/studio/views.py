"""From what a session holds to what an answer says, and back.

Not here: addresses (routes), what the fields mean (bodies).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anonymotion.policy import Policy
from anonymotion.registry import GROUPS
from anonymotion.shapes import Shape
from anonymotion.studio import bodies
from anonymotion.studio.clips import Clip
from anonymotion.studio.jobs import Job
from anonymotion.studio.session import OwnTemplates
from anonymotion.templates import Template, TemplateLibrary


def clip_info(clip: Clip) -> bodies.ClipInfo:
    """A clip before it is opened."""
    return bodies.ClipInfo(id=clip.id, name=clip.name, uploaded=clip.uploaded, picture=clip.is_picture)


def clip_details(clip: Clip) -> bodies.ClipDetails:
    """A clip with what its file promises; opens it.  Raises InputError."""
    with clip.lock:
        access = clip.access()
        info, frames = access.info, access.count
        last = float(access.seconds(frames - 1)) if frames else 0.0
    step = float(1 / info.frame_rate) if info.frame_rate else 0.0
    return bodies.ClipDetails(
        **clip_info(clip).model_dump(),
        width=info.width,
        height=info.height,
        pixel_aspect=float(info.sample_aspect_ratio),
        frames=frames,
        duration_seconds=0.0 if clip.is_picture else last + step,
        frames_per_second=None if clip.is_picture or info.frame_rate is None else float(info.frame_rate),
        audio=bool(info.audio),
    )


def policy_of(body: bodies.PolicyBody) -> Policy:
    """The policy that a page has sent.  Raises SettingsError."""
    return Policy(
        attributes=tuple(body.attributes) or None,
        preset=body.preset,
        settings=dict(body.settings),
        keep=tuple(body.keep),
        include=tuple(body.include),  # type: ignore[arg-type]  # texts are parsed
        exclude=tuple(body.exclude),  # type: ignore[arg-type]
        spans=tuple(body.spans),  # type: ignore[arg-type]
    )


def policy_body(policy: Policy) -> bodies.PolicyBody:
    """A policy as a page sends it."""
    plain = (bool, int, float, str)
    return bodies.PolicyBody(
        attributes=list(policy.attributes or ()),
        keep=list(policy.keep),
        preset=policy.preset,
        settings={name: v if isinstance(v, plain) else str(v) for name, v in policy.settings.items()},
        include=[str(shape) for shape in policy.include],
        exclude=[str(shape) for shape in policy.exclude],
        spans=[str(span) for span in policy.spans],
    )


def policy_state(policy: Policy, revision: int, library: TemplateLibrary) -> bodies.PolicyState:
    """A policy and what it amounts to.  Raises UnknownAttributeError, SettingsError."""
    settings = policy.effective_settings()
    release = None
    if settings.composite == "blend":
        release = f"preset {settings.preset} blends: a faded copy of what it covers stays in the picture"
    return bodies.PolicyState(
        revision=revision,
        policy=policy_body(policy),
        asked=list(policy.asked(library) or ()),
        regions=policy.marks_regions,
        thresholds={name: settings.threshold[name] for name in library.attributes},
        dilation=settings.dilation,
        look_ahead=settings.look_ahead,
        include=[_shape(shape) for shape in policy.include],
        exclude=[_shape(shape) for shape in policy.exclude],
        explained=policy.explain(library),
        release=release,
    )


def _shape(shape: Shape) -> bodies.Shape:
    points = [list(point) for point in shape.points]
    span = None if shape.span is None else str(shape.span)
    return bodies.Shape(text=str(shape), points=points, unit=shape.unit, span=span)


def library_info(library: TemplateLibrary) -> bodies.LibraryInfo:
    """What can be hidden."""
    own = library.own_templates
    return bodies.LibraryInfo(
        attributes=[
            bodies.AttributeInfo(
                name=name,
                exemplars=len(library.exemplars(name)),
                own=sum(t.attribute == name and not t.negative for t in own),
                negative=sum(t.attribute == name and t.negative for t in own),
            )
            for name in library.attributes
        ],
        groups={name: list(members) for name, members in GROUPS.items()},
    )


def template_infos(templates: OwnTemplates, chosen: Sequence[Template]) -> list[bodies.TemplateInfo]:
    """Templates of the session's library."""
    library, kept, own = templates.library, templates.kept_ids, set(templates.library.own_templates)
    found = []
    for template in chosen:
        picture, name = library.pictures[template.picture], library.template_id(template)[:8]
        found.append(
            bodies.TemplateInfo(
                id=name,
                attribute=template.attribute,
                negative=template.negative,
                own=template in own,
                kept=name in kept,
                picture=template.picture,
                subject=picture.subject,
                licence=picture.licence,
            )
        )
    return found


def job_info(job: Job) -> bodies.JobInfo:
    """A run as it stands."""
    error: dict[str, Any] | None = job.error
    return bodies.JobInfo(
        id=job.id,
        clip=job.clip.id,
        clip_name=job.clip.name,
        name=job.name,
        state=job.state,  # type: ignore[arg-type]  # one of these
        done=job.done,
        total=job.total,
        frames_per_second=job.frames_per_second,
        remaining_seconds=job.remaining_seconds,
        error=None if error is None else bodies.Refusal(error=error["message"], kind=error["type"]),
        computed=job.computed,
        reused=job.reused,
        result=job.result,
        policy=policy_body(job.policy),
    )
