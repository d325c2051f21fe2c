"""Registered trackers at sizes that a test can afford, with random weights that every machine draws alike.

The name of a tracker followed by NARROW means the same tracker on the networks of `tests.helpers.narrow`; ask for it
among `narrow_models`.
"""

from dataclasses import replace
from functools import lru_cache

import jax
import numpy as np

import trackers
from tests.golden import formula
from tests.helpers import narrow, oracle
from trackers import base
from trackers.nets import models
from trackers.rules import validate
from trackers.weights.convert import from_peer

SCHEMAS = {
    "atom": "atom18",
    "atom_multiscale": "atom18",
    "dimp18": "dimp18",
    "dimp50": "dimp50",
    "siamfc": "siamfc",
    "siamrpn": "SiamRPNvot",
    "siamrpnpp_alexnet": "siamrpn_alex_dwxcorr",
    "siamrpnpp_mobilenetv2": "siamrpn_mobilev2_l234_dwxcorr",
    "siamrpnpp_resnet50": "siamrpn_r50_l234_dwxcorr",
}


NARROW = "-narrow"


def registered(name: str) -> trackers.Entry:
    return trackers.get(name.removesuffix(NARROW))


def learns_online(name: str) -> bool:
    """It learns a filter, as ATOM and DiMP do."""
    return hasattr(registered(name).config, "augmentation")


def small(name: str):
    """The configuration at a size a test can afford; every frame is learned from, so that random weights move on."""
    config = registered(name).config
    if ":" in name:  # a tracker of the user's own
        return config
    if not learns_online(name):
        config = small_siamese(config)
        validate(config)
        return config
    few = {"expanded_size": 128, "shifts": ((0.6, 0.6),), "flip": False, "blurs": ((2.0, 0.2),), "rotations": (10.0,)}
    changes = {
        "region": replace(config.region, image_size=64),
        "online": replace(config.online, memory_size=8, train_skipping=2),
        "augmentation": replace(config.augmentation, **few, dropout_copies=1),
        "localization": replace(config.localization, not_found_threshold=-10.0, distractor_threshold=100.0),
        "refinement": replace(config.refinement, steps=2),
    }
    if name.startswith("dimp"):
        changes |= {"init_steps": 3}
    else:
        changes |= {"init_gn_steps": 2, "init_cg_steps": 3, "cg_steps": 2, "compressed_dim": 8}
    if name.startswith("atom_multiscale"):  # both ways to a scale in one row
        changes["scale_factors"] = trackers.get("atom_multiscale_search").config.scale_factors[1:4]
    if getattr(config, "scale_filter", None):
        few = {"memory_size": 3, "initial_samples": 2, "train_skipping": 1, "init_cg_steps": 3, "cg_steps": 2}
        changes["scale_filter"] = replace(config.scale_filter, bins=2, min_score=-10.0, **few)
    config = replace(config, **changes)
    validate(config)
    return config


def small_siamese(config):
    """Search regions of 9 x 9 places; every score is good enough, and a lost target looks farther by one size."""
    if hasattr(config, "rpn"):
        return replace(config, rpn=small_siamese(config.rpn))
    if hasattr(config, "host"):
        config = replace(config, host=small_siamese(config.host))
        every_frame = {"short_slots": 2, "long_slots": 3, "dilation": 1}  # makes a template
        return replace(config, **every_frame) if hasattr(config, "short_slots") else config
    config = replace(config, instance_size=127 + 8 * 8)
    if getattr(config, "lost", None):
        config = replace(config, lost=replace(config.lost, enter=0.0, sizes=(127 + 8 * 10,)))
    return config


@lru_cache
def tracker(name: str) -> base.Tracker:
    return registered(name).make(small(name))


@lru_cache
def params(name: str):
    """Random weights, the same on every machine, that keep activations of order 1; or released ones."""
    model = registered(name).model
    if ":" in name:
        return jax.device_put(trackers.init_params(name, jax.random.key(0)))
    if name.endswith(NARROW):
        return jax.device_put(narrow.lively(model))
    elif model == "memtrack":  # of which no schema is at hand
        found = drawn_params(model)
    elif model not in SCHEMAS:
        found = trackers.load_params(name, None)
    else:
        state = formula.weights(oracle.schema(SCHEMAS[model]), "properties", SCHEMAS[model])
        found = from_peer(state, model, "formula")[0]
    shrink = {"siamfc": 20, "memtrack": 600}.get(model)  # their score is a probability, which large responses make 1
    if shrink:
        last = found["backbone"]["params"]["conv5"]
        last |= {name: leaf / shrink for name, leaf in last.items()}
    return jax.device_put(found)


def drawn_params(model: str):
    """Kernels that keep the size of what goes through, all else as before training."""

    def draw(path, leaf):
        name = "/".join(key.key for key in path)
        if path[-1].key != "kernel":
            return np.full(leaf.shape, path[-1].key in ("scale", "var"), np.float32)
        return formula.normal("properties", name, leaf.shape, np.sqrt(2 / np.prod(leaf.shape[:-1])))

    return jax.tree_util.tree_map_with_path(draw, models.expected_variables(model))
