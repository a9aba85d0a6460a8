"""Files that ship with lad-edge (assets)."""
