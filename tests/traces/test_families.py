import pytest

from tunix_rt.traces.trace import family_of, part_name


@pytest.mark.parametrize(
    ("meta", "family"),
    [
        ({"family": "chain_sum", "category": "sums"}, "chain_sum"),
        ({"family": 3.0}, "3"),
        ({"section": "units", "category": "length"}, "units/length"),
        ({"category": "length"}, "/length"),
        ({"section": "units", "difficulty": "hard"}, ""),
        ({"family": ["a"], "category": None}, ""),
    ],
)
def test_family_is_named_by_itself_or_by_section_and_category(meta, family):
    assert family_of(meta) == family


def test_part_is_text_whatever_its_type():
    assert [part_name({"k": value}, "k") for value in (" a ", 2, 2.0, 2.5, None, {})] == [
        "a", "2", "2", "2.5", "", "",
    ]  # fmt: skip
