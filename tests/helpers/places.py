"""Where the repository lies, and the material beside it that only developers have."""

from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
SHARED = REPOSITORY.parent / "shared"
GOLDEN = REPOSITORY / "tests" / "golden"
