"""Fits the masked ridge to a few good parts on the box: numpy and the engine of the box, no torch, seconds."""

from lad_edge.teaching.backbone import SIDE
from lad_edge.teaching.lesson import Lesson, Taught
from lad_edge.teaching.options import DETECTOR, FEWEST_PARTS, Options, default_policy, parts_for

__all__ = ["DETECTOR", "FEWEST_PARTS", "SIDE", "Lesson", "Options", "Taught", "default_policy", "parts_for"]
