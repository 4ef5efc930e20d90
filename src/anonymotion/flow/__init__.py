"""Optical flow from each frame to the one before it: v(p, t) of eq. 4.

Convention, everywhere: (2, H, W) float32 in pixels of the frame, (dx, dy); frame t at p shows what frame t-1 showed
at p + v.  `load_flow` builds an estimator, `flow_to_previous` runs it over a chunk, `flow_and_occlusion` says in
addition where the flow cannot be trusted, `source_positions` turns a flow into positions.

Not here: what is moved along the flow (noise, masks), colours of flow pictures (overlays).
"""

from anonymotion.flow.estimators import BUILDERS, load_flow
from anonymotion.flow.fields import (
    FlowEstimator,
    check_flow,
    flow_and_occlusion,
    flow_to_previous,
    occlusion,
    resize_flow,
    sample_at,
    source_positions,
)

__all__ = [
    "BUILDERS",
    "FlowEstimator",
    "check_flow",
    "flow_and_occlusion",
    "flow_to_previous",
    "load_flow",
    "occlusion",
    "resize_flow",
    "sample_at",
    "source_positions",
]
