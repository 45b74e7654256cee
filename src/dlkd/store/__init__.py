"""Teacher outputs, live or kept on disk by view key."""

from dlkd.store.build import Difference, Plan, build, compare, damages, minutes, plan
from dlkd.store.lesson import Lesson, Lessons, LiveLessons
from dlkd.store.manifest import DAMAGED, MANIFEST, DamagedManifest, Manifest, Shard
from dlkd.store.shards import Damage, Shards
from dlkd.store.storage import Storage
from dlkd.store.store import StoredLessons

__all__ = [
    "DAMAGED",
    "MANIFEST",
    "Damage",
    "DamagedManifest",
    "Difference",
    "Lesson",
    "Lessons",
    "LiveLessons",
    "Manifest",
    "Plan",
    "Shard",
    "Shards",
    "Storage",
    "StoredLessons",
    "build",
    "compare",
    "damages",
    "minutes",
    "plan",
]
