"""Frames over time: a source and an inspector go in, exactly one record per captured frame comes out of the sinks."""
