"""From a profile and a host to concrete settings with their old values; nothing is written here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from iolab.errors import InputError, IolabError
from iolab.tuning.families import FAMILIES
from iolab.tuning.families.channels import queues_of
from iolab.tuning.host import Host
from iolab.tuning.knob import Impossible, KnobError, Setting, Target
from iolab.tuning.profile import Loaded
from iolab.tuning.scene import Scene

AFTER_CHANNELS = tuple(FAMILIES)[list(FAMILIES).index("channels") + 1 :]
"""Families whose settings have to be computed anew once the queues have changed."""
_MADE_ANEW = ("rss", "irq", "rps", "rfs", "xps")
"""Those whose values a driver sets anew with its queues: what was so may be so no more."""


@dataclass(frozen=True)
class Item:
    """One setting, and what stands in its way."""

    setting: Setting
    place: str
    """File and key that ask for it."""
    original: str | None
    """The value now; None when it cannot be read."""
    problem: str | None
    """Why it cannot be set here; None when it can, or when the value is there already."""
    optional: bool
    unchanged: bool


@dataclass(frozen=True)
class Plan:
    """What applying a profile would do. `collateral` may change by itself, and is restored too."""

    profile: str
    items: tuple[Item, ...]
    collateral: tuple[tuple[Target, str], ...]
    left_out: tuple[str, ...] = ()
    """Keys of the profile that belong to the whole host, where only a namespace is tuned."""

    @property
    def changes_channels(self) -> bool:
        """True when the queues will change, and with them what later families can do."""
        return any(
            item.setting.target.family == "channels" and not item.unchanged and not item.problem
            for item in self.items
        )

    def blockers(self) -> list[Item]:
        """What keeps the profile from being applied whole."""
        return [
            item
            for item in self.items
            if item.problem
            and not item.optional
            and not (self.changes_channels and item.setting.target.family in AFTER_CHANNELS)
        ]


def make_plan(loaded: Loaded, scene: Scene, families: Sequence[str] = tuple(FAMILIES)) -> Plan:
    """The plan for this host. InputError when the profile cannot be meant for it."""
    if loaded.profile.cpu.smt is False and not scene.only_netns:
        scene = replace(scene, one_thread=True)
    with scene.host.asking_once():
        return _make_plan(loaded, scene, families)


def plan_ahead(loaded: Loaded, scene: Scene) -> Plan:
    """The plan of what cannot be planned anew in between, such as a script.

    What depends on queues is planned for those that a change of channels will leave. Queues that it
    will make cannot be looked at, and are left out.
    """
    plan = make_plan(loaded, scene)
    if not plan.changes_channels:
        return plan
    channels = next(one for one in plan.items if one.setting.target.family == "channels")
    later = make_plan(
        loaded, replace(scene, queues_left=queues_of(channels.setting.value)), AFTER_CHANNELS
    )
    before = [one for one in plan.items if one.setting.target.family not in AFTER_CHANNELS]
    after = [_written_again(one, scene.host) for one in later.items]
    return replace(plan, items=(*before, *after))


def _written_again(item: Item, host: Host) -> Item:
    """The item as one to be written, where the driver is about to set it otherwise."""
    target = item.setting.target
    if not item.unchanged or target.family not in _MADE_ANEW:
        return item
    return replace(item, unchanged=FAMILIES[target.family].available(host, target) is not None)


def _make_plan(loaded: Loaded, scene: Scene, families: Sequence[str]) -> Plan:
    items: list[Item] = []
    collateral: dict[Target, str] = {}
    for name in families:
        items += [_item(loaded, scene, one) for one in _settings(loaded, scene, name)]
        for target in FAMILIES[name].collateral(loaded.profile, scene):
            original = _try_read(scene, target)
            if original is not None:
                collateral[target] = original
    return Plan(
        loaded.name, tuple(items), tuple(collateral.items()), _left_out(loaded, scene, items)
    )


def _settings(loaded: Loaded, scene: Scene, family: str) -> Iterator[Setting]:
    """What a family makes of the profile; its complaint gets the file that the key stands in."""
    try:
        yield from FAMILIES[family].settings(loaded.profile, scene)
    except Impossible as error:
        raise InputError(f"{loaded.place(error.key)}: {error.reason}", error.remedy) from error


def require(plan: Plan) -> None:
    """IolabError that names file, key and reason of everything in the way; nothing else happens."""
    blockers = plan.blockers()
    if blockers:
        lines = [f"{one.place}: {one.setting.target.key}: {one.problem}" for one in blockers]
        raise IolabError(
            "\n".join(["nothing was written:", *lines]),
            "--partial applies the rest; `optional` in the profile names what a host may lack",
        )


def _left_out(loaded: Loaded, scene: Scene, items: Sequence[Item]) -> tuple[str, ...]:
    if not scene.only_netns:
        return ()
    targets = {item.setting.target for item in items}
    whole = replace(scene, only_netns=False)
    everything = [one for family in FAMILIES for one in _settings(loaded, whole, family)]
    return tuple(dict.fromkeys(one.key for one in everything if one.target not in targets))


def _item(loaded: Loaded, scene: Scene, setting: Setting) -> Item:
    family = FAMILIES[setting.target.family]
    original = _try_read(scene, setting.target)
    unchanged = original is not None and family.same(setting.target, setting.value, original)
    problem = None if unchanged else family.available(scene.host, setting.target)
    return Item(
        setting=setting,
        place=loaded.place(setting.key),
        original=original,
        problem=problem,
        optional=loaded.is_optional(setting.key),
        unchanged=unchanged,
    )


def _try_read(scene: Scene, target: Target) -> str | None:
    try:
        return FAMILIES[target.family].read(scene.host, target)
    except KnobError:
        return None
