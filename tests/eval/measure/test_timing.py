"""Calls that take turns."""

from eval.measure import timing


def test_calls_take_turns_after_warming_up(monkeypatch):
    clock = iter(float(t) for t in [0, 1, 1, 4] * 2 + [0, 2, 2, 8, 8, 10, 10, 40])
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    seconds = timing.interleaved({"a": lambda: None, "b": lambda: None}, 2, warm_up=2)
    assert seconds["a"].tolist() == [2, 2] and seconds["b"].tolist() == [6, 30]


def test_a_call_may_have_measured_itself():
    assert timing.interleaved({"elsewhere": lambda: 0.25}, 2)["elsewhere"].tolist() == [0.25, 0.25]
