"""Checkpoints of other programs: read into a run, written from one."""
