"""The picture of a part goes in; whether light, focus and place let it be judged comes out. No network."""

from lad_edge.views.limits import Fitted, GoodViews, PictureGate
from lad_edge.views.mask import Painter
from lad_edge.views.placement import Placement, Roi, Shift, as_grey, region, small_grey
from lad_edge.views.places import PlaceOfMap
from lad_edge.views.quality import SATURATED_LEVEL, Quality, measure
from lad_edge.views.registration import Follower, Window, room_around
from lad_edge.views.sight import Sight

__all__ = [
    "SATURATED_LEVEL",
    "Fitted",
    "Follower",
    "GoodViews",
    "Painter",
    "PictureGate",
    "PlaceOfMap",
    "Placement",
    "Quality",
    "Roi",
    "Shift",
    "Sight",
    "Window",
    "as_grey",
    "measure",
    "region",
    "room_around",
    "small_grey",
]
