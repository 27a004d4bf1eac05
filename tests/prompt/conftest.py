"""Nothing is shared between these tests but hypothesis' settings."""

from hypothesis import settings

settings.register_profile("danqing", database=None)
settings.load_profile("danqing")
