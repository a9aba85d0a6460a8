"""Tokens to codes, and histograms of codes: LADMIM's kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.cases.case import Case, Contestant, Floats, close_to, on_each_isa
from lad_edge.kernels import Codebook, Quantizer, masked_histogram_score, pack_masks, reference


def flat_codebook() -> Case:
    """Codebook search alone."""
    book = random_codebook(np.random.default_rng(0), 64, None)
    return quantizer_case("quantizer: 4 x (576 tokens x 64 against 512 entries)", book, [], (1, 4 * 576, 64))


def star_of_codebooks() -> Case:
    """LADMIM's top codebook and four levels, with their projections."""
    rng = np.random.default_rng(0)
    top, *levels = (random_codebook(rng, 256, rows) for rows in (1, 512, 512, 512, 512))
    title = "quantizer: star of 1 + 4 codebooks, 576 tokens x 256 to 64 against 512"
    return quantizer_case(title, top, levels, (5, 576, 256))


def quantizer_case(title: str, top: Codebook, levels: Sequence[Codebook], shape: tuple[int, int, int]) -> Case:
    """Tokens of this shape."""
    tokens = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    codes, scores = np.empty(shape[:2], np.uint16), np.empty((shape[1], 512), np.float32)
    half_squares = [0.5 * np.square(book.entries).sum(1) for book in (top, *levels)]
    quantizer, wanted = Quantizer(top, levels), reference.quantize(top, levels, tokens)

    def ours() -> NDArray[np.uint16]:
        quantizer(tokens, codes)
        return codes

    def by_numpy() -> list[NDArray[np.intp]]:
        first = numpy_codes(top, half_squares[0], tokens[0], 0, scores)
        others = zip(levels, half_squares[1:], tokens[1:], strict=True)
        return [first, *(numpy_codes(book, halves, e, first, scores) for book, halves, e in others)]

    def agree(got: Sequence[NDArray[np.intp]] | NDArray[np.uint16]) -> None:
        share = (np.asarray(got) == wanted).mean()
        assert share >= 0.999, f"{100 * share:.2f} % of the codes agree with float64, expected 99.9 %"

    contestants = on_each_isa(ours, agree) | {"numpy, matmul and argmax": Contestant(by_numpy, agree)}
    return Case(title, contestants, bytes_moved=tokens.nbytes + codes.nbytes)


def random_codebook(rng: np.random.Generator, token_width: int, shift_rows: int | None) -> Codebook:
    """512 entries of 64 values, as LADMIM has them; without shift_rows nothing is projected."""
    entries = rng.normal(size=(512, 64)).astype(np.float32)
    if shift_rows is None:
        return Codebook(None, np.zeros((1, 64), np.float32), entries)
    projection = rng.normal(0, token_width**-0.5, (64, token_width)).astype(np.float32)
    return Codebook(projection, rng.normal(0, 0.1, (shift_rows, 64)).astype(np.float32), entries)


def numpy_codes(
    book: Codebook, half_squares: Floats, tokens: Floats, top: NDArray[np.intp] | int, scores: Floats
) -> NDArray[np.intp]:
    """The best numpy form: two products of matrices, in float32, and argmax."""
    x = tokens if book.projection is None else tokens @ book.projection.T
    np.matmul(x + book.shift[top], book.entries.T, out=scores)
    return np.asarray(np.subtract(scores, half_squares, out=scores).argmax(1))


def histograms() -> Case:
    """LADMIM's 16 masks over 4 levels of 576 codes."""
    rng = np.random.default_rng(0)
    masks = np.argsort(rng.random((16, 576)), axis=1) < 130
    packed, codes = pack_masks(masks), rng.integers(0, 512, (4, 576)).astype(np.uint16)
    logits, out = rng.normal(size=(16, 4, 512)).astype(np.float32), np.empty(16, np.float32)
    tokens = np.stack([np.flatnonzero(mask) for mask in masks])  # the masks are fixed: their lists cost nothing here
    first_bin = (512 * np.arange(16 * 4)).reshape(16, 4, 1)

    def ours() -> Floats:
        masked_histogram_score(codes, packed, logits, out)
        return out

    def by_numpy() -> Floats:
        bins = codes[:, tokens].transpose(1, 0, 2) + first_bin
        counted = np.bincount(bins.ravel(), minlength=logits.size).reshape(logits.shape) * np.float32(1 / 130)
        powers = np.exp(logits - logits.max(axis=2, keepdims=True))
        difference = np.abs(powers / powers.sum(axis=2, keepdims=True) - counted)
        return np.asarray(difference.sum(axis=(1, 2), dtype=np.float32))

    expect = close_to(reference.masked_histogram_score(codes, packed, logits), 1e-5)
    contestants = on_each_isa(ours, expect) | {"numpy, bincount": Contestant(by_numpy, expect)}
    title = "masked_histogram_score: 16 masks, 4 levels, 576 tokens, 512 entries"
    return Case(title, contestants, bytes_moved=logits.nbytes + codes.nbytes + packed.nbytes)
