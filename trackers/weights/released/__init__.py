"""Weights that come with the package, written by `python -m train.release`; a card (.md) lies beside each file."""

from pathlib import Path

FOLDER = Path(__file__).parent
HEADS = {  # model -> file
    "dimp18": "dimp18_heads",
    "atom": "dimp18_heads",  # the same IoU-Net
    "siamrpnpp_mobilenetv2_1.0": "siamrpnpp_mobilenetv2_heads",
}


def path(model: str) -> Path | None:
    """The complete weights of `model`; None if none are released."""
    return _existing(model)


def heads(model: str) -> Path | None:
    """The heads of `model`, to be joined with a backbone by `eval.convert`; None if none are released."""
    return _existing(HEADS[model]) if model in HEADS else None


def _existing(name: str) -> Path | None:
    file = FOLDER / f"{name}.safetensors"
    return file if file.is_file() else None
