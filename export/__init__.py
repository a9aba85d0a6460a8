"""Torch to bundle: a run folder goes in, one verified `.lad` file comes out. Installed as `lad_edge.export`."""
