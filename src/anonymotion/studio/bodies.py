"""What requests and answers hold: the description at `openapi.json` is made of these, and checked against them.

Not here: what is done with it (routes).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Point = Annotated[list[float], Field(min_length=2, max_length=2, description="x, y in pixels of the upright frame")]
Box = Annotated[list[float], Field(min_length=4, max_length=4, description="x0, y0, x1, y1 in pixels")]


class Body(BaseModel):
    """A request: what is not understood is refused."""

    model_config = ConfigDict(extra="forbid")


class Refusal(BaseModel):
    """Why something was not done, in one sentence for people."""

    error: str
    kind: str = Field(default="", description="the class of the error, e.g. InputError")


class ClipInfo(BaseModel):
    """A video or picture; sizes are those of the upright picture."""

    id: str
    name: str
    uploaded: bool
    picture: bool = Field(description="a single picture, not a video")


class ClipDetails(ClipInfo):
    """What is known after its first frame was decoded."""

    width: int
    height: int
    pixel_aspect: float = Field(description="width of a pixel over its height")
    frames: int
    duration_seconds: float
    frames_per_second: float | None
    audio: bool


class Shape(BaseModel):
    """A region as the page draws it; `text` is its form in a policy."""

    text: str
    points: list[list[float]]
    unit: Literal["pixels", "percent"]
    span: str | None


class PolicyBody(Body):
    """A policy, with the keys of a policy file; shapes as text: `x0,y0,x1,y1` or `x,y x,y x,y`, pixels or 20%."""

    attributes: list[str] = []
    keep: list[str] = []
    preset: str | None = None
    settings: dict[str, bool | int | float | str] = {}
    include: list[str] = []
    exclude: list[str] = []
    spans: list[str] = []


class PolicyChange(Body):
    """A new policy; `seen` is the revision that it was made from."""

    policy: PolicyBody
    seen: int


class PolicyState(BaseModel):
    """The policy of the session, and what it amounts to."""

    revision: int
    policy: PolicyBody
    asked: list[str] = Field(description="attributes that are hidden, groups expanded")
    regions: bool = Field(description="whether regions are hidden whatever matches")
    thresholds: dict[str, float]
    dilation: float
    look_ahead: int
    include: list[Shape]
    exclude: list[Shape]
    explained: list[str] = Field(description="what it does, in sentences")
    release: str | None = Field(description="why a result must not be published; null: no known reason")


class PolicyFile(Body):
    """The text of a policy file."""

    text: str
    seen: int


class CandidateBody(Body):
    """A place in a frame that is to be looked at as a template: a point or a box."""

    point: Point | None = None
    box: Box | None = None
    attribute: str = Field(default="hair", description="whose way of comparing is used")


class CandidateInfo(BaseModel):
    """A place that was looked at; its map in any frame is at `similar/{id}`."""

    id: str
    clip: str
    frame: int
    point: list[float] | None
    box: list[float] | None
    uniform: bool = Field(description="there is hardly anything to see there: it would match walls and sky")


class TemplateBody(Body):
    """A candidate that becomes a template of an attribute; negative: what the attribute is not.

    keep: also in the user's own library, with a crop of the picture; else it goes with the studio.
    """

    candidate: str
    attribute: str
    negative: bool = False
    keep: bool = False


class TemplateInfo(BaseModel):
    """One exemplar of an attribute."""

    id: str
    attribute: str
    negative: bool
    own: bool
    kept: bool
    picture: str
    subject: str
    licence: str


class AttributeInfo(BaseModel):
    """An attribute that can be hidden."""

    name: str
    exemplars: int
    own: int
    negative: int


class LibraryInfo(BaseModel):
    """All attributes, and the groups of them."""

    attributes: list[AttributeInfo]
    groups: dict[str, list[str]]


class FindingInfo(BaseModel):
    """An attribute at one pixel; `pointing.Finding`."""

    attribute: str
    saliency: float
    threshold: float
    similarity: float
    evidence: float | None
    contrast: float
    template: str
    picture: str
    own: bool


class PixelInfo(BaseModel):
    """Why a pixel is hidden, or is not."""

    x: int
    y: int
    state: Literal["hidden", "partly", "visible"]
    why: str
    exact: bool = Field(description="with the frames around, as a run has it; else this frame by itself")
    findings: list[FindingInfo]


class JobBody(Body):
    """A run of some videos with the policy as it is now."""

    clips: list[str] = Field(min_length=1, max_length=200)
    audio: Literal["copy", "drop"] = "copy"


class JobInfo(BaseModel):
    """One run."""

    id: str
    clip: str
    clip_name: str
    name: str = Field(description="of the file that it makes")
    state: Literal["waiting", "running", "done", "failed", "stopped"]
    done: int
    total: int | None
    frames_per_second: float | None
    remaining_seconds: float | None
    error: Refusal | None
    computed: int = Field(description="frames whose features were computed")
    reused: int = Field(description="frames whose features were there already")
    result: dict[str, Any] | None = Field(description="as of `anonymotion hide --json`")
    policy: PolicyBody


class State(BaseModel):
    """Everything that a page needs when it opens, or opens again."""

    version: str
    ready: bool = Field(description="whether the network is loaded")
    folder: bool = Field(description="whether a folder or file was named on the command line")
    output: str | None = Field(description="the folder that results stay in; null: they go with the studio")
    upload_limit: int = Field(description="bytes")
    suffixes: list[str]
    clips: list[ClipInfo]
    library: LibraryInfo
    policy: PolicyState
    jobs: list[JobInfo]
