"""Which frames a run is to find: forward, backward and between key frames."""

import pytest

from eval.web import document
from eval.web.document import Document
from eval.web.runs import Pass, Span, plan

BOX = (10, 10, 20, 20)


def drawn(*keys, content=None, tracker="dimp_tiny"):
    """A document with one more target, and its id."""
    content, target = document.draw(content or Document(), None, keys[0], BOX, tracker=tracker)
    for key in keys[1:]:
        content, _ = document.draw(content, target, key, BOX)
    return content, target


def spans(content, ids, frame, direction, count=100):
    return {(one.step, *span[1:]) for one in plan(content, ids, frame, direction, count) for span in one.spans}


@pytest.mark.parametrize(
    ("keys", "frame", "direction", "expected"),
    [
        ([10], 10, 1, {(1, 10, 99)}),
        ([10], 10, -1, {(-1, 10, 0)}),
        ([10, 20], 10, 1, {(1, 10, 19)}),
        ([10, 20], 20, -1, {(-1, 20, 11)}),
        ([10, 20], 15, 0, {(1, 10, 19), (-1, 20, 11)}),
        ([10, 20, 40], 20, 0, {(1, 10, 19), (-1, 20, 11), (1, 20, 39), (-1, 40, 21)}),
        ([10], 10, 0, {(1, 10, 99), (-1, 10, 0)}),
        ([10], 50, 0, {(1, 10, 99)}),
        ([10], 5, 0, {(-1, 10, 0)}),
        ([0], 0, 0, {(1, 0, 99)}),
    ],
)
def test_a_run_ends_before_the_next_key_frame(keys, frame, direction, expected):
    content, target = drawn(*keys)
    assert spans(content, [target], frame, direction) == expected


def test_targets_of_one_tracker_start_together():
    content, first = drawn(10)
    content, second = drawn(10, 30, content=content)
    content, other = drawn(10, content=content, tracker="siamfc")
    assert plan(content, [first, second, other, first], 10, 1, 100) == [
        Pass("dimp_tiny", 1, (Span(first, 10, 99), Span(second, 10, 29))),
        Pass("siamfc", 1, (Span(other, 10, 99),)),
    ]


@pytest.mark.parametrize(
    ("keys", "frame", "direction", "why"),
    [
        ([10], 11, 1, "has no box in frame 11"),
        ([10], 200, 1, "the video has frames 0 to 99"),
        ([0], 0, -1, "no frame to track"),
        ([10, 11], 10, 1, "no frame to track"),
        ([99], 99, 1, "no frame to track"),
    ],
)
def test_what_cannot_be_tracked_says_why(keys, frame, direction, why):
    content, target = drawn(*keys)
    with pytest.raises(ValueError, match=why):
        plan(content, [target], frame, direction, 100)
    with pytest.raises(ValueError, match="there is none"):
        plan(content, [target + 1], frame % 100, direction, 100)


def test_a_frame_where_the_target_is_absent_has_no_box():
    content, target = drawn(10)
    content = document.mark_absent(content, target, 10, 12)
    with pytest.raises(ValueError, match="has no box in frame 10"):
        plan(content, [target], 10, 1, 100)
    with pytest.raises(ValueError, match="no key frame"):
        plan(content, [target], 10, 0, 100)
