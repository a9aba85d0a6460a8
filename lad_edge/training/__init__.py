"""Turns images of good parts into trained weights: configuration and data go in, a run folder comes out."""
