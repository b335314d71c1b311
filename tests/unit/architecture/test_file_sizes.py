"""No file of the package is longer than a reader takes in as one subject, and files lie in the package of theirs."""

from pathlib import Path

import penstock

SOURCE = Path(penstock.__file__).parent
MOST_LINES = 400


def test_no_file_has_more_than_400_lines() -> None:
    written = [file for file in SOURCE.rglob("*.py") if not file.stem.endswith(("_pb2", "_pb2_grpc"))]
    assert len(written) > 300  # the search finds something
    lines = {str(file.relative_to(SOURCE)): file.read_text().count("\n") for file in written}
    assert not {file: count for file, count in lines.items() if count > MOST_LINES}, "split them by subject"


def test_beside_its_packages_the_control_plane_has_three_files() -> None:
    files = {file.name for file in (SOURCE / "control").glob("*.py")}
    assert files == {"__init__.py", "leadership.py", "periodic.py", "retention.py"}
