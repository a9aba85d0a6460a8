"""Reference features of FOD: tokens of good pictures go in, what the inter branch attends to comes out (FOD paper, Table 15).

The card defines the mean (§5.2), the paper's default; of the other kinds neither it nor the paper's code says more than the name, so
their readings are ours. Each keeps one feature for each place, because the target correlations compare places (F-1):

* mean: the mean over all training pictures;
* coreset: the entry nearest to the mean, of `reference_entries` training features that are chosen farthest first, as PatchCore does;
* codebook: the entry nearest to the mean, of `reference_entries` centres that k-means finds among the training features;
* nearest: the features of that picture which is nearest to the one in hand, of `reference_pictures` training pictures chosen farthest
  first: for parts that come in variants, whose mean is none of them. The only kind that depends on the picture.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

REFERENCES = ("mean", "nearest", "coreset", "codebook")
SAMPLE = 1 << 16  # training features that entries are chosen from
K_MEANS_ROUNDS = 20
SAME_PICTURE = 1e-5  # squared distance over squared length: half precision rounds to 1e-7, photographs differ by 1e-3


def reference_features(kind: str, pictures: Iterable[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """(R, L, C) from the tokens (L, C) of each training picture: R = `count` pictures for "nearest", else 1 of `count` entries."""
    if kind == "mean":  # the only kind that need not hold all of them
        total, pieces = torch.zeros((), dtype=torch.float64), 0
        for tokens in pictures:
            total, pieces = total + tokens.double(), pieces + 1
        return (total / pieces).float()[None]
    features = torch.stack(list(pictures))
    if kind == "nearest":
        return features[farthest_first(features.flatten(1), count)]
    tokens, mean = features.flatten(0, 1), features.mean(0)
    sample = tokens[torch.randperm(len(tokens), generator=generator)[:SAMPLE].to(tokens.device)]
    entries = sample[farthest_first(sample, count)] if kind == "coreset" else k_means(sample, count)
    return entries[torch.cdist(mean, entries).argmin(1)][None]


def nearest_reference(tokens: Tensor, bank: Tensor, *, but_itself: bool) -> Tensor:
    """Of the pictures (R, L, C), the nearest to each of (N, L, C), by mean square; in training a picture in the bank skips itself."""
    distance = torch.stack([(tokens - picture).square().mean((1, 2)) for picture in bank], 1)
    if but_itself:
        distance = distance.masked_fill(distance < SAME_PICTURE * bank.square().mean(), torch.inf)
    return bank[distance.argmin(1)]


def farthest_first(features: Tensor, count: int) -> Tensor:
    """Indices of `count` of the features (N, D): the one nearest to their mean, then always the one farthest from all chosen."""
    chosen = [int(_distance(features, features.mean(0)).argmin())]
    reach = _distance(features, features[chosen[0]])
    while len(chosen) < count:
        chosen.append(int(reach.argmax()))
        reach = torch.minimum(reach, _distance(features, features[chosen[-1]]))
    return torch.tensor(chosen, device=features.device)


def _distance(features: Tensor, point: Tensor) -> Tensor:
    return (features - point).square().sum(1)


def k_means(features: Tensor, count: int) -> Tensor:
    """`count` centres of the features (N, D), which come in random order: Lloyd's rounds, begun with the first features."""
    centres = features[:count].clone()
    for _ in range(K_MEANS_ROUNDS):
        own = torch.cdist(features, centres).argmin(1)
        members = own.bincount(minlength=count)[:, None]
        sums = torch.zeros_like(centres).index_add_(0, own, features)
        centres = torch.where(members > 0, sums / members.clamp_min(1), centres)
    return centres
