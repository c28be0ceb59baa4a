"""Wrong names are answered with the right ones."""

from orchestrator.problems import nearest


def test_the_nearest_of_known_names_is_meant_and_otherwise_all_are_told() -> None:
    assert nearest("topik", ["topic", "roles"], "tasks.") == "did you mean tasks.topic?"
    assert nearest("x", ["topic", "roles"]) == "known: topic, roles"
    assert nearest("x", []) == "none is known"


def test_names_that_yaml_reads_as_numbers_are_known_names() -> None:
    assert nearest("202", [2020, True, None]) == "did you mean 2020?"
    assert nearest("x", [1, 2020]) == "known: 1, 2020"
