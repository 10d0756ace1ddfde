"""Configuration of the data stage."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import Field

from plum.config.base import Count, Section, Seed, Share, UserPath


class MovieLensSource(Section):
    """A MovieLens release in its original layout (GroupLens)."""

    kind: Literal["movielens"]
    release: Literal["ml-100k", "ml-latest-small", "ml-latest", "ml-1m", "ml-10m", "ml-20m", "ml-25m", "ml-32m"]


class AmazonSequencesSource(Section):
    """Amazon 2014 5-core sequences, ``NAME.txt`` and ``NAME_item2attributes.json``, in ``<data home>/amazon-2014``."""

    kind: Literal["amazon-sequences"]
    name: str


class AmazonReviewsSource(Section):
    """Raw Amazon review and metadata JSONL(.gz) of 2014, 2018 or 2023."""

    kind: Literal["amazon-reviews"]
    reviews: UserPath
    metadata: UserPath | None = None


class LogsSource(Section):
    """Your own logs: CSV, TSV, Parquet or JSONL with a mapping from our column names to yours."""

    kind: Literal["logs"]
    interactions: UserPath
    items: UserPath | None = None
    users: UserPath | None = None
    columns: dict[str, str] = Field(default_factory=dict)
    item_columns: dict[str, str] = Field(default_factory=dict)
    topic_separator: str = "|"
    timestamp_unit: Literal["auto", "s", "ms", "iso"] = "auto"
    encoding: str = "utf-8"


class SyntheticSource(Section):
    """Made-up data with a planted truth, so that the best reachable recall is known."""

    kind: Literal["synthetic"]
    n_users: Count = 2000
    n_items: Count = 300
    seed: Seed = 0


Source = Annotated[
    MovieLensSource | AmazonSequencesSource | AmazonReviewsSource | LogsSource | SyntheticSource,
    Field(discriminator="kind"),
]
SOURCES: dict[str, type[Section]] = {
    get_args(section.model_fields["kind"].annotation)[0]: section for section in get_args(get_args(Source)[0])
}


class SplitConfig(Section):
    """Which interactions train, validate and test."""

    protocol: Literal["leave-one-out", "temporal"] = "leave-one-out"
    valid_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """temporal only: share of interactions, by time, in the validation part."""
    test_share: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.1
    """temporal only: share of interactions, by time, in the test part."""
    ties: Literal["shuffle", "keep"] = "shuffle"
    """Order of a user's interactions that share a timestamp: seeded shuffle, or as they stand in the input."""
    seed: Seed = 0
    """Of that shuffle; not the run's seed, so that runs with other seeds are asked for the same items."""
    k_core_users: Annotated[int, Field(ge=0)] = 0
    k_core_items: Annotated[int, Field(ge=0)] = 0


class DataConfig(Section):
    """Stage ``data prepare``: source, checks and split."""

    source: Source
    split: SplitConfig = SplitConfig()
    max_bad_share: Share = 0.01
    """Refuse the source if a larger share of its rows can't be used."""
    tags_as_text: bool = True
    """Append users' free-text tags to an item's description, those on held-out interactions left out."""
