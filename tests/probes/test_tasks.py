import numpy as np
import pytest
import worlds
from worlds import CODES, HISTORIES, SIZES, TEMPLATES, TITLES, TOPICS, World, items, memorised

from plum.decoding.constraint import DeviceTrie
from plum.decoding.trie import Trie
from plum.probes.fewshot import FewShot
from plum.probes.prompts import SID, pieces
from plum.probes.tasks import DocumentLoss, NextItem, SidToText, TitleToSid
from plum.retrievers.generative import Generative
from plum.retrievers.popularity import Popularity
from plum.sid.table import SidTable

ALL = np.arange(len(CODES))
POPULAR = np.ones(len(CODES), dtype=np.int64)


def prompts(world, name, texts, until):
    return world.encode([pieces(TEMPLATES[name], row, texts[row], until) for row in ALL])


def title_to_sid(world):
    trie = Trie.build(CODES, SIZES, np.zeros(len(CODES), dtype=np.int64))
    index = DeviceTrie.put(trie, world.codec, world.model.device)
    whole = items(ALL, TITLES)
    return TitleToSid(prompts(world, "title_to_sid", TITLES, SID), whole, whole, world.codec, index, 4, 3)


def test_a_model_that_knows_the_documents_by_heart_finds_every_item_by_its_title():
    world = memorised()
    assert title_to_sid(world).measure(world.model) == {"given": [1.0, 1.0], "beam": [1.0, 1.0]}


def test_a_new_model_finds_about_as_many_as_guessing():
    world = World()
    found = title_to_sid(world).measure(world.model)
    assert found["beam"][1] < 0.6
    assert world.model.training  # as it was


def test_titles_and_their_copies_are_referred_to_the_other_items():
    world, whole = World(), items([2, 3, 4, 5, 6, 7], TITLES)
    index = DeviceTrie.put(
        Trie.build(CODES, SIZES, np.zeros(len(CODES), dtype=np.int64)), world.codec, world.model.device
    )
    asked = items([0, 1], TITLES)
    task = TitleToSid(prompts(world, "title_to_sid", TITLES, SID)[:2], asked, whole, world.codec, index, 2, 2)
    # "Heat" shares no word, so it gets the majority, code 3; "Red Ran" neither. The true first code, 0, is none of
    # theirs, so that the second code is the majority of all: 0.
    assert task.references == {"majority": {"given": [0, 0], "beam": [0, 0]}, "copy": {"given": [0, 0], "beam": [0, 0]}}


@pytest.mark.parametrize(("name", "texts"), [("title", TITLES), ("topics", TOPICS)])
def test_a_model_that_knows_the_documents_by_heart_writes_every_text(name, texts):
    world = memorised()
    whole = items(ALL, texts)
    asked = prompts(world, name, texts, name)
    task = SidToText(world.tokenizer, asked, whole, whole, [world.end], 20, 3, 0)
    assert task.measure(world.model) == {"f1": 1.0}
    assert task.references["copy"] == {"f1": 1.0}  # all items are known, so each is its own neighbour
    assert 0 <= task.references["majority"]["f1"] < 0.6


def test_the_loss_of_what_is_known_by_heart_is_low_and_that_of_a_new_model_high():
    world = memorised()
    for documents in (world.histories(), world.encode(world.pieces()[:16])):
        task = DocumentLoss(world.model, documents, documents[:0], world.codec, 4, world.end)
        found = task.measure(world.model)
        n_tokens = sum(len(ids) - 1 for ids in documents)
        assert found["tokens"] == task.references["n-gram"]["tokens"] == n_tokens
        assert found["item"] < np.log(len(CODES)) + 0.1  # which item comes is known from nothing before it
        assert found["levels"][1] < found["levels"][0]
        assert found["loss"] < task.measure(World().model)["loss"] - 3


def test_the_next_item_without_fine_tuning_stands_beside_popularity():
    world = memorised()
    table = SidTable(CODES, SIZES)
    prefix = world.encode([["wh ="]])[0]
    retriever = Generative(world.model, table, world.codec, prefix, 10, POPULAR, 10)
    histories, targets = [row[:2] for row in HISTORIES], [row[2:] for row in HISTORIES]
    popularity = Popularity(np.array([1, 0, 0, 0, 0, 0, 0, 0]))
    task = NextItem(lambda model: retriever, [popularity], histories, targets, True)
    assert task.measure(world.model) == {"recall@10": 1.0, "ndcg@10": pytest.approx(1.0)}
    assert task.references == {"popularity": {"recall@10": pytest.approx(1 / 3), "ndcg@10": pytest.approx(1 / 3)}}


def test_few_shot_prompts_hold_known_items_and_end_open():
    world = memorised()
    asked, known = items([0, 1], TITLES), items([3, 4, 5, 6], TITLES)
    shots = FewShot(TEMPLATES["title"], "title", asked, known, world.encode, world.names, 2, 0)
    found = shots.complete(world.model, world.tokenizer, 8, [world.end])
    for shot, row in zip(found, (0, 1), strict=True):
        assert shot.truth == TITLES[row]
        assert shot.lines[-1] == f"Item {world.names[row]} has title:"
        assert len(shot.lines) == 3
        for line in shot.lines[:-1]:
            row_of = next(number for number in (3, 4, 5, 6) if line.startswith(f"Item {world.names[number]} "))
            assert line == f"Item {world.names[row_of]} has title: {TITLES[row_of]}"
        assert shot.copied in known.texts
        assert "\n" not in shot.completion
    assert [shot.lines for shot in found] == [
        shot.lines for shot in shots.complete(world.model, world.tokenizer, 1, [])
    ]


def test_a_world_has_no_two_items_of_one_semantic_id():
    assert len(np.unique(worlds.CODES, axis=0)) == len(CODES)
