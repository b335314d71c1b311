"""Readers of the tutorials see what is promised."""

from pathlib import Path

import pytest

from tests.docs.readers import TUTORIALS, try_page

pytestmark = pytest.mark.timeout(1800)  # readers send thousands of rows, one after another


@pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    try_page(page, tmp_path)
