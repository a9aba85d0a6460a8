"""Files that ship with lad-edge (weights)."""
