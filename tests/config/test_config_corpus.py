import pytest
from pydantic import ValidationError

from plum.config.corpus import FACTS, CorpusConfig
from plum.config.language_model import CptConfig
from plum.config.templates import parse_template


def weights(settings):
    return {name: section.weight for name, section in settings.corpus.documents.items()}


def test_half_and_half_is_the_default():
    assert weights(CptConfig()) == {"behaviour": 0.5, "metadata": 0.5}


def test_the_short_form_sets_both_weights():
    assert weights(CptConfig(behaviour_share=0.7)) == pytest.approx({"behaviour": 0.7, "metadata": 0.3})
    assert weights(CptConfig(behaviour_share="0.25")) == {"behaviour": 0.25, "metadata": 0.75}
    both = CptConfig(behaviour_share=0.7, corpus={"behaviour": {"bins": 4}, "unit": "epochs"})
    assert (both.corpus.behaviour.bins, both.corpus.behaviour.weight, both.corpus.unit) == (4, 0.7, "epochs")
    assert CptConfig.model_validate(both.model_dump(mode="json")) == both


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"behaviour_share": 1.5}, "a share from 0.001 to 0.999"),
        ({"behaviour_share": True}, "a share from 0.001 to 0.999"),
        ({"behaviour_share": 0.5, "corpus": {"metadata": {"weight": 1}}}, "give one"),
        ({"corpus": {"behaviour": {"weight": 0}, "metadata": {"weight": 0}}}, "nothing to read"),
        ({"corpus": {"behaviour": {"template": "{title}"}}}, "names {sid} 0 times"),
        ({"corpus": {"metadata": {"templates": {"title": ["just {sid}"]}}}}, "says nothing about the item"),
        ({"corpus": {"metadata": {"templates": {}}}}, "at least 1"),
        ({"corpus": {"replay": {"files": []}}}, "at least 1"),
        ({"corpus": {"more": {"replay": {"kind": "replay", "files": ["a.txt"]}}}}, "section of its own"),
        ({"corpus": {"more": {"x": {"kind": "poems", "files": ["a.txt"]}}}}, "'behaviour', 'metadata', 'replay'"),
        (
            {"corpus": {"more": {"x": {"kind": "behaviour", "bins": 3}}}},
            "behaviour documents with different bins",
        ),
    ],
)
def test_mistakes_are_named(given, told):
    with pytest.raises(ValidationError) as error:
        CptConfig.model_validate(given)
    assert told in str(error.value)


def test_documents_may_be_named():
    corpus = CorpusConfig.model_validate(
        {"behaviour": {"weight": 0}, "more": {"poems": {"kind": "replay", "files": ["~/x.txt"], "weight": 2}}}
    )
    assert list(corpus.documents) == ["metadata", "poems"]
    assert not str(corpus.more["poems"].files[0]).startswith("~")


def test_the_default_templates_tell_every_text_in_both_directions():
    for field in ("title", "topics", "creator", "description"):
        for template in map(parse_template, FACTS[field]):
            assert template.fields == ("sid", field)
        for template in map(parse_template, FACTS[f"{field}_to_sid"]):
            assert template.fields == (field, "sid")
