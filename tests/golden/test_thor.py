"""THOR's memories, modulation and choice against the reference's own modules, on formula-defined templates and maps.

The reference's rules are asked for by name where they differ from the paper's. float64, as the reference ran; the
decisions of the memories in float32, too.
"""

from dataclasses import replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ops import template_memory
from ops.boxes import Box
from ops.score_maps import tukey_window
from tests.golden import formula
from tests.helpers import oracle
from trackers import siamfc, siamrpn, thor
from trackers.parts import templates
from trackers.parts.templates import Proposals

RUNS = sorted(key.split("/")[0] for key in oracle.arrays("thor") if key.endswith("/lb_type"))


def stored(name):
    return oracle.arrays("thor")[name]


def raw_templates():
    count, channels, side = (int(size) for size in stored("in_shape_n_C_k"))
    return formula.thor_templates(oracle.salt(), count, channels, side)


def test_golden_templates_and_windows(x64):
    found = raw_templates()
    first = stored("templates_first3")
    np.testing.assert_allclose(found[: len(first)], first, atol=1e-12)
    similarity = np.einsum("ncyx,cyx->n", found, found[0])
    np.testing.assert_allclose(similarity, stored("template_sim_to_first"), atol=1e-12)
    for key in (key for key in oracle.arrays("thor") if key.startswith("tukey_")):
        _, size, alpha = key.split("_")
        np.testing.assert_allclose(tukey_window(int(size), jnp.float64(alpha)), stored(key), atol=1e-12)


@lru_cache
def insertion(bound):
    return jax.jit(partial(insert, bound=bound))


def insert(short, long, vector, refill, lower_bound, *, bound):
    """(memories, decision, gamma as the reference's code has it, the paper's) after one template."""
    gamma = exact = jnp.ones((), vector.dtype)
    if short:
        rolled, _, gamma = template_memory.insert_short_term(short["rolled"], vector, diversity="rolled")
        gram, _, exact = template_memory.insert_short_term(short["gram"], vector)
        anew = template_memory.refill_short_term
        short = {
            "rolled": thor.select(refill, anew(rolled, vector, diversity="rolled"), rolled),
            "gram": thor.select(refill, anew(gram, vector), gram),
        }
    gamma = gamma if bound == "dynamic" else jnp.ones((), vector.dtype)
    long, decision = template_memory.insert_long_term(long, vector, gamma, bound=bound, lower_bound=lower_bound)
    return short, long, decision, gamma, exact


def run(name, dtype):
    """What a sequence of templates does: (decisions, gammas, paper's gammas, determinants, the memories)."""
    alpha, short_slots, long_slots, lower_bound = stored(f"{name}/alpha_Kst_Klt_lb")
    raw = raw_templates()
    window = np.asarray(tukey_window(raw.shape[-1], jnp.asarray(alpha, dtype)))
    vectors = jnp.asarray((raw * np.outer(window, window)).reshape(len(raw), -1), dtype)
    memory = template_memory.short_term(vectors[0], int(short_slots)) if short_slots else None
    short = {"rolled": memory, "gram": memory} if short_slots else None
    long, rows = template_memory.long_term(vectors[0], int(long_slots)), []
    for i in range(1, len(raw)):
        refill = jnp.asarray(i in stored(f"{name}/st_refill_after_frames"))
        step = insertion(str(stored(f"{name}/lb_type")))
        short, long, *row = step(short, long, vectors[i], refill, jnp.asarray(lower_bound, dtype))
        rows.append([*row, jnp.exp(template_memory.log_determinant(long))])
    return *np.array(jax.device_get(rows)).T, short, long


@pytest.mark.parametrize("name", RUNS)
def test_golden_runs_of_the_memories(name, x64):
    decisions, gammas, exact, determinants, short, long = run(name, jnp.float64)
    np.testing.assert_array_equal(decisions, stored(f"{name}/decision_idx"))
    np.testing.assert_allclose(gammas, stored(f"{name}/gamma_code"), rtol=1e-9)
    if short:
        np.testing.assert_allclose(exact, stored(f"{name}/gamma_exact_gram"), rtol=1e-9)
    np.testing.assert_allclose(determinants, stored(f"{name}/det_normalised_lt_gram"), rtol=1e-5, atol=1e-10)
    np.testing.assert_allclose(long.gram, stored(f"{name}/lt_gram_final"), rtol=1e-9, atol=1e-12)
    if f"{name}/st_gram_final_code" in oracle.arrays("thor"):
        np.testing.assert_allclose(short["rolled"].gram, stored(f"{name}/st_gram_final_code"), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", RUNS)
def test_float32_takes_the_same_decisions(name):
    assert stored(f"{name}/f32_same_decisions")
    decisions, gammas, _, determinants, _, long = run(name, jnp.float32)
    np.testing.assert_array_equal(decisions, stored(f"{name}/decision_idx"))
    np.testing.assert_allclose(gammas, stored(f"{name}/gamma_code"), rtol=1e-5)
    np.testing.assert_allclose(long.gram, stored(f"{name}/lt_gram_final"), rtol=1e-5, atol=1e-6)
    full = stored(f"{name}/det_normalised_lt_gram") > 1e-3  # of smaller ones float32 knows fewer digits
    np.testing.assert_allclose(determinants[full], stored(f"{name}/det_normalised_lt_gram")[full], rtol=1e-3)


def test_golden_modulation(x64):
    for slots, anchors, side in oracle.settings()["thor"]["modulate_K_A_h"]:
        name = f"modulate_K{slots}_A{anchors}"
        assert (stored(f"{name}_hw") == side).all()
        shape = (slots, anchors, side, side)
        flat = (slots, anchors * side * side)
        ranks = formula.uniform(oracle.salt(), f"thor/mod_{slots}_{anchors}", flat, 0, 1, np.float64) ** 3
        ranks = ranks.reshape(shape)
        found = thor.modulated(jnp.asarray(ranks))
        oracle.assert_golden(found, "thor", f"{name}_out", relative=1e-6)
        oracle.assert_golden((found / ranks)[None, 0, 0], "thor", f"{name}_map", relative=1e-6)
        np.testing.assert_array_equal(jnp.argmax(found.reshape(slots, -1), 1), stored(f"{name}_argmax"))


def memory_of(short_slots, slots, **changes):
    """THOR's numbers; nothing is asked of the host."""
    return replace(thor.SIAMRPN_VOT_DYNAMIC, short_slots=short_slots, long_slots=slots - short_slots, **changes)


@lru_cache
def decider(config):
    return jax.jit(partial(thor.decide, config=config))


def test_golden_choice_of_the_template(x64):
    sizes = oracle.settings()["thor"]
    count, slots = sizes["select_cases"], sizes["select_templates"]
    draws = jnp.asarray(formula.uniform(oracle.salt(), "thor/select", (count, slots, 5), 0, 1, np.float64))
    nowhere = Box(jnp.zeros(2), jnp.ones(2))
    for case, short_slots, best, score, of_long, _ in stored("select_case_Kst_best_ltscore_islt_iou"):
        row = draws[int(case)]
        score_map, one = row[:, 4].reshape(-1, 1, 1, 1), (slots, 1, 1, 1, 2)
        boxes = Box((50 + 20 * row[:, :2]).reshape(one), (30 + 10 * row[:, 2:4]).reshape(one))
        crop = jnp.zeros(score_map.shape, jnp.int32)
        proposals = Proposals(score_map, score_map, boxes, jnp.ones_like(score_map), crop)
        config = memory_of(int(short_slots), slots, iou_threshold=0.6, modulate=False)
        choice, chosen, _ = decider(config)(proposals, nowhere, jnp.zeros(()))
        assert int(chosen) == best and (int(chosen) >= short_slots) == of_long
        np.testing.assert_allclose(choice.score, score, rtol=1e-12)


def test_golden_siamrpn_host(x64):
    """The reference's confidence is the rank of the long-term memory's choice; ours is its score."""
    sizes = oracle.settings()["thor"]
    slots, side = int(stored("rpn_eval_K")), sizes["rpn_map"]
    host = replace(thor.SIAMRPN_VOT_DYNAMIC.host, scale="whole", instance_size=127 + 8 * (side - 1))
    decode = jax.jit(jax.vmap(siamrpn.make_matcher(host).decode, (0, None)))
    for case, row in enumerate(stored("rpn_eval_Kst_mod_pos_sz_scale_outpos_outsz_score_islt")):
        short_slots, modulate, x, y, w, h, scale = row[:7]

        def by_anchor(kind, numbers, deviation, case=case):
            maps = formula.normal(oracle.salt(), f"thor/rpn_{kind}{case}", (slots, numbers * 5, side, side), deviation)
            return jnp.asarray(maps.reshape(slots, numbers, 5, side, side).transpose(0, 3, 4, 1, 2), jnp.float64)

        box = Box(jnp.array([y, x]), jnp.array([h, w]))
        np.testing.assert_allclose(127 / np.round(templates.context_side(box.size)), scale, rtol=1e-12)
        response = by_anchor("score", 2, 2.0), by_anchor("delta", 4, 0.3)
        proposals = decode(response, box)
        config = memory_of(int(short_slots), slots, modulate=bool(modulate))
        choice, chosen, _ = decider(config)(proposals, box, jnp.zeros(()))
        found = templates.damped(box, choice)
        np.testing.assert_allclose([*found.center[::-1], *found.size[::-1]], row[7:11], rtol=1e-5)
        ranked = thor.modulated(proposals.ranked) if modulate else proposals.ranked
        np.testing.assert_allclose(jnp.max(ranked[int(short_slots) :]), row[11], rtol=1e-5)
        assert (int(chosen) >= short_slots) == row[12]


def test_golden_siamfc_host(x64):
    sizes = oracle.settings()["thor"]
    slots, side, scales = int(stored("rpn_eval_K")), sizes["fc_map"], sizes["fc_scales"]
    host = replace(thor.SIAMFC_OTB_DYNAMIC.host, grid="thor", instance_size=127 + 8 * (side - 1), scales=scales)
    box = Box(jnp.array([90.0, 130.0]), jnp.array([40.0, 60.0]))
    decode = jax.jit(jax.vmap(siamfc.make_matcher(host).decode, (0, None)))
    rows = stored("fc_eval_mod_posyx_szhw_score_scale_islt")
    calls = 2  # without modulation, then with it
    for first_row in range(0, len(rows), calls):
        first_score = jnp.zeros(())
        for call in range(calls):
            modulate, cy, cx, h, w, score, growth, of_long = rows[first_row + call]
            response = formula.normal(oracle.salt(), f"thor/fc{call}", (slots, scales, side, side))
            # The crop's side is given (240 pixels), not taken from the box.
            proposals = decode(siamfc.Response(jnp.asarray(response, jnp.float64), jnp.zeros(slots)), box)
            side_ratio = 240 / float(templates.context_side(box.size) * host.instance_size / 127)
            center = np.asarray(box.center)
            moved = jnp.asarray(center + (np.asarray(proposals.box.center) - center) * side_ratio)
            proposals = proposals._replace(box=proposals.box._replace(center=moved))
            config = memory_of(2, slots, iou_threshold=0.9, modulate=bool(modulate), scores="first_frame")
            choice, chosen, first_score = decider(config)(proposals, box, first_score)
            found = templates.damped(box, choice)
            np.testing.assert_allclose([*found.center, *found.size], [cy, cx, h, w], rtol=1e-5)
            np.testing.assert_allclose(choice.score, score, rtol=1e-5)
            np.testing.assert_allclose(found.size / box.size, growth, rtol=1e-5)
            assert (int(chosen) >= 2) == of_long
