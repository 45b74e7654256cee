"""Teacher outputs, live or kept on disk by view key."""

from dlkd.store.lesson import Lesson, Lessons, LiveLessons
from dlkd.store.store import StoredLessons

__all__ = ["Lesson", "Lessons", "LiveLessons", "StoredLessons"]
