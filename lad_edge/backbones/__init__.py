"""Frozen feature extractors: an image batch goes in, feature maps come out."""
