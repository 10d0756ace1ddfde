"""Which column of a log is the user, the item, the time and the rating, by name and by content."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from plum.data.sample import Sample
from plum.data.times import AUTO, POSITION
from plum.errors import PlumError
from plum.recipes import names
from plum.recipes.values import Look, id_text, look

LOG_ROLES = ("user_id", "item_id", "timestamp", "rating", "reward")
NEEDED = LOG_ROLES[:2]
"""Roles without which there is no log; times are not needed where the order of the rows is the order in time."""
MOST_RATINGS = 201
"""Different values, at most, of a rating."""


@dataclass(frozen=True)
class TimeWay:
    """How times are read, as the user decided: a unit, or the layout of text."""

    unit: str = AUTO
    layout: str | None = None


@dataclass(frozen=True)
class Chosen:
    """The column of a role, and the evidence for it."""

    look: Look
    why: str


@dataclass(frozen=True)
class Undecided:
    """A role that no column, or more than one, seems to have.

    Attributes:
        role: our name of the column.
        candidates: the columns that may have it.
        found: what is wrong, in words.
        note: what to do where naming a column does not settle it.
    """

    role: str
    candidates: Sequence[Look]
    found: str
    note: str = ""


@dataclass
class Roles:
    """What the columns of a table are.

    Attributes:
        looks: at each column.
        chosen: our name -> column.
        undecided: roles that are needed and open.
        notices: what a user should know.
    """

    looks: dict[str, Look]
    chosen: dict[str, Chosen] = field(default_factory=dict)
    undecided: list[Undecided] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def taken(self) -> set[str]:
        """The columns that have a role."""
        return {entry.look.name for entry in self.chosen.values()}

    def left_out(self) -> list[str]:
        """Columns called rating or reward that hold no numbers: plum would read them by their name."""
        return [name for name in ("rating", "reward") if name in self.looks and name not in {*self.chosen, *self.taken}]

    def mapping(self) -> dict[str, str]:
        """Our name -> the file's name."""
        return {role: entry.look.name for role, entry in self.chosen.items()}


def looks_of(sample: Sample) -> dict[str, Look]:
    """A look at each column of a sample."""
    return {name: look(name, values) for name, values in sample.columns.items()}


def take_given(roles: Roles, given: Mapping[str, str], known: Collection[str], where: str, option: str) -> None:
    """Put down the columns that the user named.

    Raises:
        PlumError: for a role that there is not, or a column that the file lacks.
    """
    for role, column in given.items():
        if role not in known:
            near = difflib.get_close_matches(role, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
            raise PlumError(f"{option} {role}={column}: there is no column {role!r}", None, hint)
        if column not in roles.looks:
            near = difflib.get_close_matches(column, roles.looks, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "name one of these"
            raise PlumError(f"{where}: no column {column!r}", f"its columns: {', '.join(map(repr, roles.looks))}", hint)
        roles.chosen[role] = Chosen(roles.looks[column], f"given by {option}")


def log_roles(
    sample: Sample, given: Mapping[str, str], item_ids: Collection[set[str]] = (), way: TimeWay | None = None
) -> Roles:
    """Find the columns of a log.

    Args:
        sample: its first rows.
        given: our name -> column, as the user decided.
        item_ids: the values of each column of the item table that may hold its ids.
        way: how times are to be read, if the user decided.

    Raises:
        PlumError: for given columns that don't fit.
    """
    looks = looks_of(sample)
    roles = Roles(looks)
    take_given(roles, given, LOG_ROLES, sample.path.name, "--column")
    overlaps = {
        name: max((_share_in(sample.columns[name], ids) for ids in item_ids), default=0.0)
        for name, seen in looks.items()
        if seen.is_id or seen.kind == "time"
    }
    _by_name(roles, "user_id", names.USER_NOUNS, {})
    _by_name(roles, "item_id", names.ITEM_NOUNS, overlaps)
    _time(roles, way)
    _numbers(roles)
    _by_content(roles, overlaps)
    roles.chosen = {role: roles.chosen[role] for role in LOG_ROLES if role in roles.chosen}  # in the usual order
    return roles


def _by_name(
    roles: Roles,
    role: str,
    nouns: tuple[tuple[str, ...], ...],
    overlaps: Mapping[str, float],
) -> None:
    """Choose the user or the item by the columns' names, and among equally good names by the item table."""
    if role in roles.chosen:
        return
    ranks: dict[str, int] = {}
    for name, seen in roles.looks.items():
        rank = names.id_rank(name, nouns, role)
        if rank is not None and name not in roles.taken and (seen.is_id or seen.kind == "time") and seen.repeats:
            ranks[name] = rank
    if not ranks:
        return
    best = [name for name, rank in ranks.items() if rank == min(ranks.values())]
    if len(best) > 1 and (named := _far_ahead(overlaps, best, 0.5)):
        share = f"{overlaps[named]:.0%} of its values are ids of the item table"
        roles.chosen[role] = Chosen(roles.looks[named], f"its name, and {share}")
    elif len(best) > 1:
        what = "user" if role == "user_id" else "item"
        listed = [roles.looks[name] for name in best]
        roles.undecided.append(Undecided(role, listed, f"{len(best)} columns look like the {what}"))
    else:
        roles.chosen[role] = Chosen(roles.looks[best[0]], "its name")


def _far_ahead(overlaps: Mapping[str, float], among: Collection[str], least: float) -> str | None:
    """The one column whose values the item table holds, if no other comes near."""
    ordered = sorted(among, key=lambda name: -overlaps.get(name, 0.0))
    if not ordered or overlaps.get(ordered[0], 0.0) < least:
        return None
    second = overlaps.get(ordered[1], 0.0) if len(ordered) > 1 else 0.0
    return ordered[0] if second < overlaps[ordered[0]] / 2 else None


def _share_in(values: Sequence[object], ids: set[str]) -> float:
    there = {id_text(value) for value in values if value is not None}
    return len(there & ids) / len(there) if there else 0.0


def _time(roles: Roles, way: TimeWay | None) -> None:
    """Choose the time: what reads as one, or what may if the way to read it is given; by name if there are several."""
    if "timestamp" in roles.chosen or (way is not None and way.unit == POSITION):
        return
    free = {name: seen for name, seen in roles.looks.items() if name not in roles.taken}
    ranks = {name: names.rank_in(name, names.TIMES) for name in free}
    times = {
        name: ranks[name]
        for name, seen in free.items()
        if seen.kind == "time" or (way is not None and (ranks[name] is not None or seen.kind == "other date"))
    }
    named = {name: rank for name, rank in times.items() if rank is not None}
    best = [name for name, rank in named.items() if rank == min(named.values())] or list(times)
    if len(best) == 1:
        roles.chosen["timestamp"] = Chosen(
            free[best[0]], "its name and values" if named else "the only column of times"
        )
        return
    if len(best) > 1:
        looks_like = [free[name] for name in best]
        roles.undecided.append(Undecided("timestamp", looks_like, f"{len(best)} columns look like the time"))
        return
    order = [seen for seen in free.values() if names.rank_in(seen.name, names.TIMES) is not None]
    if len(order) == 1 and order[0].kind in ("integer", "number") and order[0].refusal is None:
        roles.chosen["timestamp"] = Chosen(order[0], "its name; not dates, so it gives the order only")
        return
    roles.undecided.append(_no_time(list(free.values())))


def with_options(fix: str) -> str:
    """Advice on the settings of a source, in the options of ``plum init``."""
    fix = fix.replace("--set data.source.timestamp_format=", "--timestamp-format ")
    return fix.replace("--set data.source.timestamp_unit=", "--timestamp-unit ")


def _no_time(free: Sequence[Look]) -> Undecided:
    unread = [seen for seen in free if seen.kind == "other date"]
    unread += [seen for seen in free if seen.refusal and names.rank_in(seen.name, names.TIMES) is not None]
    told = next((seen for seen in unread if seen.refusal), None)
    if told is not None and told.refusal is not None:
        found, fix = told.refusal
        return Undecided("timestamp", [], f"{told.name!r}: {found}", with_options(fix))
    if unread:
        example = f"{unread[0].name!r} holds dates such as {unread[0].example}"
        note = "name their layout, such as --timestamp-format '%d|%m|%Y %H:%M', or write times as 2020-09-13 12:26:40"
        return Undecided("timestamp", [], f"no column of times that plum reads; {example}", note)
    named = [seen for seen in free if names.rank_in(seen.name, names.TIMES) is not None]
    if named:
        found = f"{named[0].name!r} is named as a time, but its values are not all dates or all numbers"
        note = "write times as 2020-09-13 12:26:40, or name their layout: --timestamp-format '%d/%m/%Y %H:%M'"
        return Undecided("timestamp", [], found, note)
    note = (
        "plum needs the order of interactions: add a column of times, or --timestamp-unit position if rows are in order"
    )
    numbers = [seen for seen in free if seen.kind in ("integer", "number") and not seen.repeats]
    return Undecided("timestamp", numbers, "no column looks like a time", note)


def _numbers(roles: Roles) -> None:
    """Choose rating and reward, by name; both are optional."""
    for role, known in (("rating", names.RATINGS), ("reward", names.REWARDS)):
        fitting = [
            seen
            for wanted in known
            for seen in roles.looks.values()
            if names.plain(seen.name) == wanted
            and seen.name not in roles.taken
            and seen.kind in ("integer", "number")
            and (role == "reward" or seen.n_distinct <= MOST_RATINGS)
        ]
        if role not in roles.chosen and fitting:
            roles.chosen[role] = Chosen(fitting[0], "its name")


def _by_content(roles: Roles, overlaps: Mapping[str, float]) -> None:
    """Choose user and item where names say nothing: by the item table, or if one column is left."""
    open_roles = [
        role
        for role in ("user_id", "item_id")
        if role not in roles.chosen and role not in [entry.role for entry in roles.undecided]
    ]
    undecided = {seen.name for entry in roles.undecided for seen in entry.candidates}
    events = set(names.EVENTS) | set(names.RATINGS)
    left = [
        seen
        for seen in roles.looks.values()
        if seen.is_id and seen.repeats and seen.name not in roles.taken | undecided
        if names.plain(seen.name) not in events and seen.n_distinct > 1
    ]
    if "item_id" in open_roles and (named := _far_ahead(overlaps, [seen.name for seen in left], 0.9)):
        why = f"{overlaps[named]:.0%} of its values are ids of the item table"
        roles.chosen["item_id"] = Chosen(roles.looks[named], why)
        open_roles.remove("item_id")
        left = [seen for seen in left if seen.name != named]
    for role in open_roles:
        what = "user" if role == "user_id" else "item"
        if len(left) == 1 and len(open_roles) == 1:
            roles.chosen[role] = Chosen(left[0], "the only other column whose values repeat as ids do")
        elif len(left) >= len(open_roles):
            found = f"no column name identifies the {what}; {len(left)} columns hold ids that repeat"
            roles.undecided.append(Undecided(role, left, found))
        else:
            roles.undecided.append(_unusable(role, what, roles))


def _unusable(role: str, what: str, roles: Roles) -> Undecided:
    """Why no column is the user or the item: the one that is named so does not hold ids, if there is one."""
    nouns = names.USER_NOUNS if role == "user_id" else names.ITEM_NOUNS
    for seen in roles.looks.values():
        if seen.name in roles.taken or names.id_rank(seen.name, nouns, role) is None:
            continue
        if seen.kind in ("list", "object"):
            found = f"{seen.name!r} holds {seen.kind}s, such as {seen.example}"
            return Undecided(role, [], found, f"write the {what}'s id as one value of its own")
        if seen.kind == "number":
            found = f"{seen.name!r} holds fractions, such as {seen.example}"
            return Undecided(role, [seen], found, f"write the {what}'s id as text or a whole number")
        if not seen.repeats:
            found = f"{seen.name!r} has another value in nearly every row, as no {what} of a log has"
            return Undecided(role, [seen], found)
    return Undecided(role, [], f"no column looks like the {what}")
