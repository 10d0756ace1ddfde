"""A tiny catalogue with titles and topics, its tokenizer, and a model that can learn all of it by heart."""

from functools import cache

import numpy as np
import torch

from plum.lm import vocab
from plum.probes.prompts import pieces, shown
from plum.probes.tasks import ItemTexts

SIZES = (4, 4)
CODES = np.array([[0, 1], [0, 2], [1, 0], [1, 3], [2, 2], [3, 0], [3, 1], [3, 3]])
TITLES = ["Heat", "Red Ran", "Blue Sun", "The Big Sleep", "Alien Night", "Jaws", "Big Fish", "Night and Day"]
TOPICS = ["Crime", "War, Drama", "War", "Crime", "Horror, Space", "Horror", "Drama", "Comedy, Drama"]
TEMPLATES = {
    "title": "Item {sid} has title: {title}",
    "topics": "The topics in item {sid} are: {topics}",
    "title_to_sid": "{title} is item {sid}",
}
HISTORIES = [np.array([0, 1, 2]), np.array([3, 4, 5]), np.array([6, 7, 0])]


class World:
    """Its parts; ``encode`` makes token ids of pieces."""

    def __init__(self):
        texts = [shown(parts, [""] * 8) for parts in self.pieces()]
        self.tokenizer = vocab.train_tokenizer([*texts, "wh ="] * 3, 340)
        vocab.add_sid_tokens(self.tokenizer, SIZES)
        self.codec = vocab.codec_of(self.tokenizer, SIZES)
        self.names = [self.codec.text(row) for row in CODES]
        self.end = self.tokenizer.eos_token_id
        torch.manual_seed(0)
        self.model = vocab.scratch_model(vocab.ScratchShape(32, 2, 2, 64), self.tokenizer, 64)

    @staticmethod
    def pieces():
        """Every document about an item, in pieces."""
        texts = {"title": TITLES, "topics": TOPICS, "title_to_sid": TITLES}
        return [pieces(TEMPLATES[name], row, texts[name][row]) for name in TEMPLATES for row in range(len(CODES))]

    def encode(self, documents):
        """Token ids, without an end."""
        texts = [shown(parts, self.names) for parts in documents]
        return [np.asarray(ids) for ids in self.tokenizer(texts, add_special_tokens=False)["input_ids"]]

    def histories(self):
        """Histories as documents, without an end."""
        prefix = self.encode([["wh ="]])[0]
        return [np.concatenate([prefix, self.codec.encode(CODES[items]).reshape(-1)]) for items in HISTORIES]


def items(rows, texts):
    rows = np.asarray(rows)
    return ItemTexts(rows, CODES[rows], [texts[row] for row in rows])


@cache
def memorised():
    """A world whose model knows every document by heart."""
    from plum.lm.examples import pad_rows
    from plum.lm.train import next_token_loss

    world = World()
    documents = [np.append(ids, world.end) for ids in [*world.encode(world.pieces()), *world.histories()]]
    batch = pad_rows([(ids, ids) for ids in documents], world.end)
    optimizer = torch.optim.AdamW(world.model.parameters(), lr=1e-2)
    for _ in range(120):
        optimizer.zero_grad()
        next_token_loss(world.model, batch).backward()
        optimizer.step()
    world.model.eval()
    return world
