"""Readers of the how-to guides see what is promised."""

from pathlib import Path

import pytest

from tests.docs.readers import GUIDES, try_page


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    try_page(page, tmp_path)
