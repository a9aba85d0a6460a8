"""The picture of a part goes in; whether light, focus and place let it be judged comes out. No network."""

from lad_edge.views.limits import Fitted, GoodViews, PictureGate
from lad_edge.views.placement import Placement, Shift, as_grey, region, small_grey
from lad_edge.views.quality import SATURATED_LEVEL, Quality, measure
from lad_edge.views.registration import Follower, Window, room_around

__all__ = [
    "SATURATED_LEVEL",
    "Fitted",
    "Follower",
    "GoodViews",
    "PictureGate",
    "Placement",
    "Quality",
    "Shift",
    "Window",
    "as_grey",
    "measure",
    "region",
    "room_around",
    "small_grey",
]
