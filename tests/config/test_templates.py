import pytest

from plum.config.templates import parse_template


def test_a_template_in_parts():
    found = parse_template("Item {sid} is by {creator}.")
    assert found.parts == (("Item ", "sid"), (" is by ", "creator"))
    assert found.tail == "."
    assert found.fields == ("sid", "creator")


def test_doubled_braces_are_text():
    found = parse_template("{{x}} {sid}{{")
    assert found.parts == (("{x} ", "sid"),)
    assert found.tail == "{"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Item {sid", "expected '}'"),
        ("Item {sid} }", "Single '}'"),
        ("{title}", "names {sid} 0 times"),
        ("{sid} {sid}", "names {sid} 2 times"),
        ("{sid} {a} {a}", "names a field twice"),
        ("{sid} {}", "is no field"),
        ("{sid} {a.b}", "is no field"),
        ("{sid} {a:>3}", "is no field"),
        ("{sid} {a!r}", "is no field"),
    ],
)
def test_mistakes_are_named(text, told):
    with pytest.raises(ValueError, match="template") as error:
        parse_template(text)
    assert told in str(error.value)
