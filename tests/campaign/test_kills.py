"""A few of the kills of `tests.campaign.kills`."""

import subprocess
import sys

import pytest

from tests.campaign.kills import SIGNALS, TARGETS
from tests.helpers import places


@pytest.mark.full
def test_killed_commands_lose_nothing_and_resume():
    """In a process of its own: its children are forks, which must not inherit JAX's threads."""
    count = str(len(SIGNALS) * len(TARGETS))
    command = [sys.executable, "-m", "tests.campaign.kills", "--count", count, "--seed", "1"]
    done = subprocess.run(command, cwd=places.REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{count} kills, 0 problems" in done.stdout, done.stdout + done.stderr
