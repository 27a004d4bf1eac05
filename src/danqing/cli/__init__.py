"""The danqing command."""
