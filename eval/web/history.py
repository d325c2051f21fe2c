"""What can be undone."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from eval.web.document import Document

DEPTH = 200  # steps that can be undone


@dataclass(frozen=True)
class _Step:
    number: int
    label: str
    document: Document  # after it


class History:
    """The states of a document, of which one is the present one. Not safe for several threads at once."""

    def __init__(self, document: Document = Document()):
        self._steps = [_Step(0, "", document)]
        self._at = 0
        self._count = 0

    @property
    def document(self) -> Document:
        """As it is now."""
        return self._steps[self._at].document

    @property
    def undo_label(self) -> str | None:
        """What `undo` takes back; None: nothing."""
        return self._steps[self._at].label if self._at else None

    @property
    def redo_label(self) -> str | None:
        """What `redo` does again; None: nothing."""
        return self._steps[self._at + 1].label if self._at + 1 < len(self._steps) else None

    def apply(self, label: str, document: Document) -> int:
        """Makes a step, which ends what could be done again; its number, for `amend`."""
        self._count += 1
        kept = self._steps[max(self._at + 1 - DEPTH, 0) : self._at + 1]
        self._steps = [*kept, _Step(self._count, label, document)]
        self._at = len(kept)
        return self._count

    def amend(self, step: int, change: Callable[[Document], Document]) -> None:
        """Makes more of a step, as a run does by and by: `change` is made to the state after it and to all later ones.

        So an action between is undone without what the run found meanwhile. Nothing, where a newer action took the
        place of the undone step.
        """
        numbers = [one.number for one in self._steps]
        if step in numbers or step < numbers[0]:
            self._steps = [
                replace(one, document=change(one.document)) if one.number >= step else one for one in self._steps
            ]

    def undo(self) -> Document:
        """The state before the last step; ValueError where there is none."""
        return self._go(-1, "undo")

    def redo(self) -> Document:
        """The state after the step that was undone last; ValueError where there is none."""
        return self._go(1, "redo")

    def _go(self, by: int, name: str) -> Document:
        if not 0 <= self._at + by < len(self._steps):
            raise ValueError(f"there is nothing to {name}")
        self._at += by
        return self.document
