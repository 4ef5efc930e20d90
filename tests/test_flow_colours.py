"""Middlebury's colours of flow."""

from __future__ import annotations

import numpy as np
import pytest

from anonymotion.overlays import flow_colours

DIRECTIONS = {"right": (1, 0), "down": (0, 1), "left": (-1, 0), "up": (0, -1)}


def colour(dx: float, dy: float, max_px: float) -> list[int]:
    flow = np.zeros((2, 3, 5), np.float32)
    flow[:, 1, 2] = dx, dy
    picture = flow_colours(flow, max_px)
    assert picture.shape == (3, 5, 3)
    assert picture.dtype == np.uint8
    others = np.ones((3, 5), bool)
    others[1, 2] = False
    assert (picture[others] == 255).all()  # still: white, whatever moves elsewhere
    return [int(value) for value in picture[1, 2]]


def test_hue_is_direction() -> None:
    found = {name: colour(4 * dx, 4 * dy, 4) for name, (dx, dy) in DIRECTIONS.items()}
    red, yellow, cyan, violet = (found[name] for name in DIRECTIONS)
    assert red[0] == 255
    assert max(red[1:]) < 30
    assert min(yellow[:2]) > 200
    assert yellow[2] < 30
    assert cyan[0] < 30
    assert min(cyan[1:]) > 200
    assert violet[1] < 30
    assert violet[2] > 200


@pytest.mark.parametrize("direction", DIRECTIONS.values())
def test_saturation_is_length_up_to_the_longest_drawn(direction: tuple[int, int]) -> None:
    lengths = [0.0, 1.0, 2.0, 4.0]
    drawn = [min(colour(n * direction[0], n * direction[1], 4)) for n in lengths]
    assert drawn[0] == 255
    assert drawn == sorted(drawn, reverse=True)
    assert drawn[2] == pytest.approx((drawn[0] + drawn[3]) / 2, abs=2)
    assert colour(40 * direction[0], 40 * direction[1], 4) == colour(4 * direction[0], 4 * direction[1], 4)


def test_pictures_of_one_scale_can_be_compared() -> None:
    assert colour(2, 0, 4) == colour(5, 0, 10)
    assert colour(2, 0, 4) != colour(2, 0, 8)
