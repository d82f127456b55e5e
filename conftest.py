"""Settings of all pytest runs, notebooks included. (What only the tests need is in tests/conftest.py.)"""

import pytest

OUTPUT_TIMEOUT = 300  # seconds


def pytest_itemcollected(item: pytest.Item) -> None:
    """Gives the cells of a notebook more time to deliver their output.

    After a cell has run, nbval waits for each of its messages for 5 s, a number that no option changes; on a busy
    machine a kernel takes longer ("Timeout of 5 seconds exceeded waiting for output").
    """
    if hasattr(item, "output_timeout"):
        item.output_timeout = OUTPUT_TIMEOUT
